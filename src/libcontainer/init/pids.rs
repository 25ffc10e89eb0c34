//! A proc file system of a pid namespace that the bridge is not in. Linux 6.18 makes one for a given pid namespace. Before, it
//! shows the pid namespace of the process that calls fsopen(2), so a process in there must call that: the member.
//!
//! Other processes there see the member, and may trace it from its first moment on. So it has an empty mount namespace, the user
//! nobody, capabilities in its own user namespace only, and no descriptor. Its filter allows it only to open the context of a proc.
//! It cannot make a process (`clone::fork_once`). The name of the file system is in memory that no tracer can write
//! (`sys/sealed.rs`). The bridge takes the context out of the member, and makes the mount, because this needs the capability in the
//! user namespace that owns the pid namespace.

use std::ffi::CStr;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{FsOpenFlags, MoveMountFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal, WaitId, WaitIdOptions, WaitOptions};

use super::prepared::{Outcome, Prepared, Trouble};
use super::{credentials, root};
use crate::plan::step::CapabilitySets;
use crate::sys;
use crate::sys::clone::Alone;
use crate::sys::errno::from_number;
use crate::sys::host_proc::HostProc;
use crate::sys::retry::retry;
use crate::sys::sealed::Sealed;
use crate::sys::seccomp::Allowed;
use crate::sys::shared_memory::OwnWord;
use crate::wire::{Failure, UP_SIZE, Up};

/// CAP_SYS_ADMIN as a mask (linux/capability.h).
const SYS_ADMIN: u64 = 1 << 21;
/// The id that stands for all unmapped ids (user_namespaces(7), "Unmapped user and group IDs").
const NOBODY: u32 = 65534;

/// Whether the kernel can make user namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UserNamespaces {
    Made,
    TurnedOff,
}

impl UserNamespaces {
    fn probe(proc: &HostProc) -> UserNamespaces {
        let mut text = [0; 2];
        match proc.read_sys(c"user/max_user_namespaces", &mut text) {
            // the kernel has been built without them
            Err(Errno::NOENT) => UserNamespaces::TurnedOff,
            Ok(2) if text == *b"0\n" => UserNamespaces::TurnedOff,
            Ok(_) | Err(_) => UserNamespaces::Made,
        }
    }
}

/// The time limit of the bridge's wait for the member, in milliseconds. A process of the container can stop the member.
const PATIENCE_MS: u32 = 10_000;
/// After this number of seconds the member ends, even if the bridge does not end it.
const LIFE_OF_MEMBER: i64 = 30;

/// Returns a context of fsopen(2) for a proc that shows the pid namespace `pids`.
pub(super) fn open_proc(prepared: &Prepared<'_>, pids: BorrowedFd<'_>, fstype: &CStr) -> Outcome<OwnedFd> {
    let context = rustix::mount::fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC)?;
    // KERNEL(6.18): the option pidns of proc
    match rustix::mount::fsconfig_set_fd(&context, c"pidns", pids) {
        Ok(()) => Ok(context),
        Err(_) => open_inside(prepared, pids, fstype),
    }
}

/// The member opens the context. The member is the child of a child of ours, which nobody in the pid namespace sees.
fn open_inside(prepared: &Prepared<'_>, pids: BorrowedFd<'_>, fstype: &CStr) -> Outcome<OwnedFd> {
    let users = UserNamespaces::probe(prepared.proc);
    let text = Sealed::new(fstype)?;
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let bridge = rustix::process::getpid();
    let parent = sys::clone::fork(|alone| {
        let word = match enter(alone, prepared, pids, theirs.as_fd(), users) {
            Ok(word) => word,
            Err(trouble) => sys::clone::exit(report(theirs.as_fd(), trouble)),
        };
        // it has no descriptor any more: the bridge reads the status
        sys::clone::exit(match make_member(alone, bridge, &text, &word) {
            Ok(status) => status,
            Err(errno) => errno.raw_os_error(),
        })
    })?;
    let parent = rustix::process::pidfd_open(Pid::from_raw(parent).ok_or(Errno::SRCH)?, PidfdFlags::empty())?;
    // ORDER: before reading: otherwise we would not see the end of the stream when the child has closed it
    drop(theirs);
    let taken = reported(&ours).and_then(|()| take_context(parent.as_fd()));
    // ORDER: the member has ended before its context is used
    rustix::process::pidfd_send_signal(&parent, Signal::KILL)?;
    let status = retry(|| rustix::process::waitid(WaitId::PidFd(parent.as_fd()), WaitIdOptions::EXITED))?;
    match taken? {
        MemberEnd::Context(context) => Ok(context),
        MemberEnd::Ended => {
            let errno = status.and_then(|status| status.exit_status()).filter(|errno| *errno > 0);
            Err(Trouble::saying(errno.map_or(Errno::CHILD, from_number), MEMBER))
        }
    }
}

/// The subject of a failure.
const MEMBER: &str = "open it in the joined pid namespace";

/// The state of the member.
enum MemberEnd {
    Context(OwnedFd),
    /// The member or its parent has ended.
    Ended,
}

/// The milliseconds that are left of a wait.
struct Patience(u32);

impl Patience {
    /// Waits for a millisecond at most. Returns true if the process has ended.
    fn has_ended(&mut self, process: BorrowedFd<'_>) -> Outcome<bool> {
        self.0 = self.0.checked_sub(1).ok_or(Trouble::saying(Errno::TIMEDOUT, MEMBER))?;
        let millisecond = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
        Ok(retry(|| poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&millisecond)))? > 0)
    }
}

/// Waits for the member, takes the context out of it, and ends it.
fn take_context(parent: BorrowedFd<'_>) -> Outcome<MemberEnd> {
    let mut patience = Patience(PATIENCE_MS);
    let Some(member) = take_first(parent, &mut patience)? else { return Ok(MemberEnd::Ended) };
    let taken = take_first(member.as_fd(), &mut patience);
    match rustix::process::pidfd_send_signal(&member, Signal::KILL) {
        // its parent has seen its end
        Ok(()) | Err(Errno::SRCH) => {}
        Err(errno) => return Err(errno.into()),
    }
    let mut patience = Patience(PATIENCE_MS);
    while !patience.has_ended(member.as_fd())? {}
    // the parent reaps the member, and ends with the same status
    while !patience.has_ended(parent)? {}
    Ok(taken?.map_or(MemberEnd::Ended, MemberEnd::Context))
}

/// Waits until `process` has descriptor 0, and takes it. None if the process has ended.
fn take_first(process: BorrowedFd<'_>, patience: &mut Patience) -> Outcome<Option<OwnedFd>> {
    loop {
        match rustix::process::pidfd_getfd(process, 0, PidfdGetfdFlags::empty()) {
            // not yet
            Err(Errno::BADF) if !patience.has_ended(process)? => {}
            Err(Errno::BADF | Errno::SRCH) => return Ok(None),
            taken => return taken.map(Some).map_err(|errno| Trouble::saying(errno, "pidfd_getfd")),
        }
    }
}

/// Leaves everything of the host, gives up privileges, and only then enters.
fn enter(
    alone: &Alone,
    prepared: &Prepared<'_>,
    pids: BorrowedFd<'_>,
    socket: BorrowedFd<'_>,
    users: UserNamespaces,
) -> Outcome<ManuallyDrop<OwnWord>> {
    leave_all_mounts()?;
    sys::fds::close_but(alone, 0, [pids, socket].into_iter())?;
    give_up_all_but_admin()?;
    sys::namespace::setns(pids, libc::CLONE_NEWPID as u64)?;
    // ORDER: after setns(2), which takes CAP_SYS_ADMIN outside. Where user namespaces are turned off, that one capability stays:
    // fsopen(2) takes it in the user namespace of the mount namespace. Any other failure may be the container's work, which has
    // used up the namespaces of this uid: then no process is made with the capability
    if users == UserNamespaces::Made {
        sys::namespace::unshare(libc::CLONE_NEWUSER as u64 | libc::CLONE_NEWNS as u64)
            .map_err(|errno| Trouble::saying(errno, "unshare user, to open it in the joined pid namespace"))?;
    }
    // ORDER: after the changes of ids and capabilities, which set the dumpable attribute to fs.suid_dumpable
    credentials::undumpable()?;
    // The runtime trusts this memory, so a process that others may trace must not have it.
    prepared.first_child.hide_from_children()?;
    prepared.page.hide_from_children()?;
    sys::fds::close_but(alone, 0, [socket].into_iter())?;
    // the filter does not allow munmap(2)
    Ok(ManuallyDrop::new(OwnWord::new()?))
}

/// Enters a mount namespace that has an empty directory and nothing else. A changed root directory alone is not enough: by
/// setns(2), a process with CAP_SYS_ADMIN gets to the root of the mount namespace.
fn leave_all_mounts() -> Outcome {
    let empty = sys::mount::empty_tmpfs(None)?;
    sys::namespace::unshare(libc::CLONE_NEWNS as u64)?;
    sys::mount::set_propagation(c"/", libc::MS_PRIVATE | libc::MS_REC)?;
    rustix::mount::move_mount(&empty, c"", CWD, c"/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    match root::pivot(empty.as_fd()) {
        // the root is the initramfs (pivot_root(2)), and stays below; in the user namespace its mounts are locked. (Where the root
        // is a plain directory, chroot(2), the kernel makes no user namespace: EPERM.)
        Err(Trouble { errno: Errno::INVAL, .. }) => root::chroot(empty.as_fd()),
        other => other,
    }
}

fn give_up_all_but_admin() -> Outcome {
    credentials::drop_bounding(!SYS_ADMIN)?;
    credentials::groups(&[])?;
    match credentials::become_user(NOBODY, NOBODY) {
        // the id is not mapped in our user namespace: stay its root
        Ok(()) | Err(Trouble { errno: Errno::INVAL, .. }) => {}
        other => return other,
    }
    credentials::capabilities(&CapabilitySets {
        effective: SYS_ADMIN,
        permitted: SYS_ADMIN,
        ..CapabilitySets::default()
    })
}

/// Makes the member, and returns its exit status: 0, or the errno of its failure. Only children of the process that called setns(2) are
/// in the pid namespace.
fn make_member(alone: &Alone, bridge: Pid, text: &Sealed, word: &OwnWord) -> Result<i32, Errno> {
    const DIES_WITH_PARENT: u64 = libc::PR_SET_PDEATHSIG as u64;
    let die_with_parent = || rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    die_with_parent()?;
    // the bridge may have been killed before
    if rustix::process::getppid() != Some(bridge) {
        return Err(Errno::CHILD);
    }
    sys::fds::close_but(alone, 0, std::iter::empty())?;
    rustix::thread::set_no_new_privs(true)?;
    let first = |number, first| Allowed { number, arguments: [Some(first), None, None] };
    sys::seccomp::allow_only(&[
        first(libc::SYS_fsopen, text.as_c_str().as_ptr() as u64),
        Allowed { number: libc::SYS_clone, arguments: [Some(sys::clone::FORK_ONCE), None, Some(word.address())] },
        first(libc::SYS_prctl, DIES_WITH_PARENT),
        first(libc::SYS_ppoll, 0),
        Allowed::always(libc::SYS_wait4),
        Allowed::always(libc::SYS_exit_group),
    ])?;
    sys::clone::fork_once(alone, word, |_| {
        let context = die_with_parent()
            .and_then(|()| rustix::mount::fsopen(text.as_c_str(), FsOpenFlags::FSOPEN_CLOEXEC))
            .map(ManuallyDrop::new);
        match context {
            // the bridge takes descriptor 0
            Ok(_) => sys::clone::exit_after(LIFE_OF_MEMBER),
            Err(errno) => sys::clone::exit(errno.raw_os_error()),
        }
    })?;
    let ended = retry(|| rustix::process::wait(WaitOptions::empty()))?;
    ended.and_then(|(_, status)| status.exit_status()).ok_or(Errno::CHILD)
}

/// Sends a failure as a packet, and returns the exit status.
fn report(socket: BorrowedFd<'_>, Trouble { errno, said }: Trouble) -> i32 {
    // if it fails, the reader has been killed
    let _ = retry(|| rustix::io::write(socket, &Up::Failed(Failure { step: 0, errno, said }).encode()));
    1
}

/// Waits for the end of the stream, which means that the member was made, or for a failure.
fn reported(socket: &OwnedFd) -> Outcome {
    let mut packet = [0u8; UP_SIZE];
    match retry(|| rustix::io::read(socket, &mut packet))? {
        0 => Ok(()),
        length => match Up::decode(&packet[..length]) {
            Some(Up::Failed(Failure { errno, said, .. })) => Err(Trouble { errno, said }),
            _ => Err(Errno::IO.into()),
        },
    }
}
