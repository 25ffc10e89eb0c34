//! The end of a process that the container may have frozen.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use crate::cgroup::{Cgroup, frozen_on_version_1};
use crate::error::Result;
use crate::wait::{self, limits};

/// Waits for the end of a process that was killed, and returns whether it has ended. If a freezer prevents its end, thaws `own`, and
/// kills all processes in it. `own` is the process's cgroup, without those of other containers.
pub(super) fn wait_for_end(process: &OwnedFd, pid: i32, own: impl FnOnce() -> Result<Cgroup>) -> bool {
    let within = |time| wait::readable(process.as_fd(), Some(Instant::now() + time)).unwrap_or(false);
    if within(limits::CLOSED) {
        return true;
    }
    if let Ok(cgroup) = own() {
        // Version 1: a frozen process ends only after it is thawed. If it cannot be thawed, `Cgroup::kill` tells why.
        let _ = cgroup.thaw_all();
        if within(limits::CLOSED) {
            return true;
        }
        if frozen_on_version_1(pid).is_some() {
            // A process of the container freezes it again: that process is killed, too.
            let _ = cgroup.kill_own();
        }
    }
    within(limits::CLOSED) || (frozen_on_version_1(pid).is_none() && within(limits::KILLED))
}
