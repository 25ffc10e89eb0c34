//! A proc file system of a pid namespace that the bridge is not in. Linux 6.18 makes one for a given pid namespace. Before, it
//! shows the pid namespace of the process that calls fsopen(2), so a process in there must call that: the member.
//!
//! Other processes there see the member, and may trace it from its first moment on. So it has nothing: an empty mount namespace,
//! the user nobody, capabilities in its own user namespace only, no descriptor, and a filter, under which it can open the context of
//! a proc and nothing else. The name of the file system is where no tracer can write it (`sys/sealed.rs`). The bridge takes the
//! context out of the member, and makes the mount, because that needs the capability in the user namespace that owns the pid
//! namespace.

use std::convert::Infallible;
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{FsOpenFlags, MoveMountFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags};

use super::prepared::{Outcome, Prepared, Trouble};
use super::protocol::retry;
use super::{credentials, root};
use crate::plan::step::CapabilitySets;
use crate::sys;
use crate::sys::clone::Alone;
use crate::sys::host_proc::HostProc;
use crate::sys::page::Birth;
use crate::sys::sealed::Sealed;
use crate::sys::seccomp::Allowed;
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
    fn find(proc: &HostProc) -> UserNamespaces {
        let mut text = [0; 2];
        match proc.read_sys(c"user/max_user_namespaces", &mut text) {
            // the kernel has been built without them
            Err(Errno::NOENT) => UserNamespaces::TurnedOff,
            Ok(2) if text == *b"0\n" => UserNamespaces::TurnedOff,
            Ok(_) | Err(_) => UserNamespaces::Made,
        }
    }
}

/// How long the bridge waits for the member, in milliseconds. A process of the container can stop the member.
const PATIENCE_MS: u32 = 10_000;

/// Returns a context of fsopen(2) for a proc that shows the pid namespace `pids`.
pub(super) fn open_proc(prepared: &Prepared<'_>, pids: BorrowedFd<'_>, fstype: &CStr) -> Outcome<OwnedFd> {
    let context = rustix::mount::fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC)?;
    // KERNEL(6.18): the option pidns of proc
    match rustix::mount::fsconfig_set_fd(&context, c"pidns", pids) {
        Ok(()) => Ok(context),
        Err(_) => open_inside(prepared, pids, fstype),
    }
}

/// Has the member open the context. The member is the child of a child of ours, which nobody in the pid namespace sees.
fn open_inside(prepared: &Prepared<'_>, pids: BorrowedFd<'_>, fstype: &CStr) -> Outcome<OwnedFd> {
    let users = UserNamespaces::find(prepared.proc);
    let (text, birth) = (Sealed::new(fstype)?, Birth::new()?);
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let parent = sys::clone::fork(|alone| {
        if let Err(trouble) = enter(alone, pids, theirs.as_fd(), users) {
            sys::clone::exit(tell(theirs.as_fd(), trouble))
        }
        match make_member(alone, prepared, &text, &birth) {
            Ok(never) => match never {},
            // the member's parent has no descriptor any more
            Err(errno) => sys::clone::exit(errno.raw_os_error()),
        }
    })?;
    let parent = rustix::process::pidfd_open(Pid::from_raw(parent).ok_or(Errno::SRCH)?, PidfdFlags::empty())?;
    // ORDER: before reading: otherwise we would not see the end of the stream when the child has closed it
    drop(theirs);
    let taken = told(&ours).and_then(|()| take_context(parent.as_fd(), &birth));
    // ORDER: the member has ended before its context is used
    rustix::process::pidfd_send_signal(&parent, rustix::process::Signal::KILL)?;
    while retry(|| rustix::process::wait(rustix::process::WaitOptions::empty())).is_ok() {}
    taken
}

/// What a failure is about.
const MEMBER: &str = "the process that opens it in the joined pid namespace";

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
fn take_context(parent: BorrowedFd<'_>, birth: &Birth) -> Outcome<OwnedFd> {
    let mut patience = Patience(PATIENCE_MS);
    let pid = loop {
        match birth.pid() {
            Some(pid) => break pid,
            None if patience.has_ended(parent)? => return Err(Trouble::saying(Errno::CHILD, MEMBER)),
            None => {}
        }
    };
    // its parent reaps nobody, so the pid stays its own
    let member = rustix::process::pidfd_open(Pid::from_raw(pid).ok_or(Errno::SRCH)?, PidfdFlags::empty())?;
    let taken = loop {
        match rustix::process::pidfd_getfd(&member, 0, PidfdGetfdFlags::empty()) {
            // not yet
            Err(Errno::BADF) => match patience.has_ended(member.as_fd()) {
                Ok(false) => {}
                Ok(true) => break Err(Trouble::saying(Errno::CHILD, MEMBER)),
                Err(trouble) => break Err(trouble),
            },
            Err(Errno::SRCH) => break Err(Trouble::saying(Errno::CHILD, MEMBER)),
            taken => break taken.map_err(|errno| Trouble::saying(errno, "pidfd_getfd")),
        }
    };
    rustix::process::pidfd_send_signal(&member, rustix::process::Signal::KILL)?;
    let mut patience = Patience(PATIENCE_MS);
    while !patience.has_ended(member.as_fd())? {}
    taken
}

/// Leaves everything of the host, gives up privileges, and only then enters.
fn enter(alone: &Alone, pids: BorrowedFd<'_>, talk: BorrowedFd<'_>, users: UserNamespaces) -> Outcome {
    leave_all_mounts()?;
    sys::fds::close_but(alone, 0, [pids.as_raw_fd(), talk.as_raw_fd()].into_iter())?;
    give_up_all_but_admin()?;
    sys::clone::setns(pids, libc::CLONE_NEWPID as u64)?;
    // ORDER: after setns(2), which takes CAP_SYS_ADMIN outside. Where user namespaces are turned off, that one capability stays:
    // fsopen(2) takes it in the user namespace of the mount namespace. Any other failure may be the container's work, which has
    // used up the namespaces of this uid: then no process is made with the capability
    if users == UserNamespaces::Made {
        sys::clone::unshare(libc::CLONE_NEWUSER as u64 | libc::CLONE_NEWNS as u64).map_err(|errno| {
            Trouble::saying(errno, "unshare user, for the process that opens it in the joined pid namespace")
        })?;
    }
    // ORDER: after the changes of ids and capabilities, which set the dumpable attribute to fs.suid_dumpable
    credentials::undumpable()?;
    Ok(sys::fds::close_but(alone, 0, [talk.as_raw_fd()].into_iter())?)
}

/// Enters a mount namespace that has an empty directory and nothing else. A changed root directory alone is not enough: by
/// setns(2), a process with CAP_SYS_ADMIN gets to the root of the mount namespace.
fn leave_all_mounts() -> Outcome {
    let empty = sys::mount::empty(None)?;
    sys::clone::unshare(libc::CLONE_NEWNS as u64)?;
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

/// Makes the member, and waits to be killed. Only children of the process that called setns(2) are in the pid namespace.
fn make_member(alone: &Alone, prepared: &Prepared<'_>, text: &Sealed, birth: &Birth) -> Result<Infallible, Errno> {
    const DIES_WITH_PARENT: u64 = libc::PR_SET_PDEATHSIG as u64;
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    sys::fds::close_but(alone, 0, [].into_iter())?;
    // What the runtime believes is not for a process that others may trace.
    prepared.birth.keep()?;
    prepared.page.keep()?;
    rustix::thread::set_no_new_privs(true)?;
    let only = |number, first| Allowed { number, first };
    sys::seccomp::allow_only(&[
        only(libc::SYS_fsopen, Some(text.as_c_str().as_ptr() as u64)),
        only(libc::SYS_madvise, Some(birth.address())),
        only(libc::SYS_clone, Some(sys::clone::FORK_NOTED)),
        only(libc::SYS_prctl, Some(DIES_WITH_PARENT)),
        only(libc::SYS_ppoll, Some(0)),
        only(libc::SYS_exit_group, None),
    ])?;
    sys::clone::fork_noted(alone, birth, |_| {
        let dies = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
        match dies.and_then(|()| rustix::mount::fsopen(text.as_c_str(), FsOpenFlags::FSOPEN_CLOEXEC)) {
            Ok(context) => {
                // the bridge takes descriptor 0
                let _open = std::mem::ManuallyDrop::new(context);
                sys::clone::wait_to_be_killed()
            }
            Err(_) => sys::clone::exit(1),
        }
    })?;
    sys::clone::wait_to_be_killed()
}

/// Sends a failure as a packet, and returns the exit status.
fn tell(talk: BorrowedFd<'_>, Trouble { errno, said }: Trouble) -> i32 {
    // if it fails, the reader has been killed
    let _ = retry(|| rustix::io::write(talk, &Up::Failed(Failure { step: 0, errno, said }).encode()));
    1
}

/// Waits for the end of the stream: the member is made then. Or for a failure.
fn told(talk: &OwnedFd) -> Outcome {
    let mut packet = [0u8; UP_SIZE];
    match retry(|| rustix::io::read(talk, &mut packet))? {
        0 => Ok(()),
        length => match Up::decode(&packet[..length]) {
            Some(Up::Failed(Failure { errno, said, .. })) => Err(Trouble { errno, said }),
            _ => Err(Errno::IO.into()),
        },
    }
}
