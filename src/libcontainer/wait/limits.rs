//! The time limits of the runtime's waits.

use std::time::Duration;

/// Another process must answer, write what we read, or read what we write.
pub const ANSWER: Duration = Duration::from_secs(10);
/// Another process must release a lock.
pub const LOCK: Duration = Duration::from_secs(10);
/// `delete --force` must get the lock from its holder: this is the limit of all its attempts together.
pub const LOCK_BY_FORCE: Duration = Duration::from_secs(25);
/// The pause of `delete --force` between two checks of the lock's holder.
pub const LOOK_AT_LOCK: Duration = Duration::from_millis(20);
/// A creator that got SIGTERM must undo its changes. It then gets SIGKILL.
pub const UNDO: Duration = Duration::from_secs(5);
/// The kernel must end a process that got SIGKILL.
pub const KILLED: Duration = Duration::from_secs(10);
/// The same, for our own child while an error is on its way to the caller.
pub const KILLED_CHILD: Duration = Duration::from_secs(2);
/// The pause between two checks whether a process has executed its program.
pub const MOMENT: Duration = Duration::from_millis(100);
/// A process that traces our child must read its end.
pub const KEPT_END: Duration = Duration::from_millis(200);
/// Init must end by a signal while it waits for `start`. Its profile may deny exit_group(2).
pub const HANDLED: Duration = Duration::from_millis(100);
/// The kernel must end a process that has closed its descriptors. A process that takes longer goes on.
pub const CLOSED: Duration = Duration::from_millis(100);
/// A cgroup must become empty, frozen or removable.
pub const CGROUP: Duration = Duration::from_secs(10);
/// A process that has entered the cgroup of a container that has ended must leave it: an `exec` that comes too late.
pub const LEAVING: Duration = Duration::from_millis(500);
/// The OOM killer kills all processes of a group (memory.oom.group) within this time. Later kills are a new event.
pub const OOM_GROUP: Duration = Duration::from_secs(2);
/// The OOM killer kills the next process of a group within this time, or the group is complete.
pub const OOM_NEXT: Duration = Duration::from_millis(500);
/// systemd must complete one conversation.
pub const SYSTEMD: Duration = Duration::from_secs(30);
/// CRIU must report its version and features. It tests the kernel first.
pub const CRIU: Duration = Duration::from_secs(60);
/// CRIU must make progress during a dump or a restore. A dump of much memory takes long, but CRIU works all the time.
/// CRIU's own waits are shorter: it stops a freeze after 10 s.
pub const CRIU_QUIET: Duration = Duration::from_secs(60);
/// CRIU must end after we close its socket: it thaws the processes, or kills those that it has made.
pub const CRIU_END: Duration = Duration::from_secs(10);
/// The service manager must answer BARRIER=1. Callers of sd_notify_barrier(3) usually wait as long.
pub const BARRIER: Duration = Duration::from_secs(30);
/// A reader must take the last output of a process that was asked to end.
pub const LAST_OUTPUT: Duration = Duration::from_secs(1);
/// The pause of `start` between two checks whether runc's init still exists.
pub const LOOK_AT_INIT: Duration = Duration::from_millis(50);
