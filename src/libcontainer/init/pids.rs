//! A proc file system of a pid namespace that the bridge is not in. It shows the pid namespace of the process that calls
//! fsopen(2), so a process in there must call that. Other processes there see it, and may trace it. So this process has nothing: an
//! empty mount namespace, the user nobody, capabilities in its own user namespace only, and one descriptor. The bridge gets the
//! context and makes the mount, because that needs the capability in the user namespace that owns the pid namespace.

use std::ffi::CStr;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{FsOpenFlags, MoveMountFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType, recvmsg,
};

use super::prepared::{Outcome, Trouble};
use super::protocol::{retry, send_beside};
use super::{credentials, root};
use crate::plan::step::CapabilitySets;
use crate::sys;
use crate::sys::clone::Alone;
use crate::sys::host_proc::HostProc;
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

/// Returns a context of fsopen(2) that a process in the pid namespace has opened. That process is the child of a child of ours.
pub(super) fn open_inside(proc: &HostProc, pids: BorrowedFd<'_>, fstype: &CStr) -> Outcome<OwnedFd> {
    let users = UserNamespaces::find(proc);
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    sys::clone::fork(|alone| {
        let made = enter(alone, pids, theirs.as_fd(), users).and_then(|()| member(theirs.as_fd(), fstype));
        sys::clone::exit(tell(theirs.as_fd(), made))
    })?;
    // ORDER: before reading: otherwise we would not see the end of the stream when the child has ended
    drop(theirs);
    let received = receive(&ours);
    while retry(|| rustix::process::wait(rustix::process::WaitOptions::empty())).is_ok() {}
    received
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

/// Only children of the process that called setns(2) are in the pid namespace. We wait for ours, so that it has ended before the
/// mount is made.
fn member(talk: BorrowedFd<'_>, fstype: &CStr) -> Outcome {
    sys::clone::fork(|_| {
        let opened = rustix::mount::fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC).map_err(Trouble::from);
        let sent = opened.and_then(|context| send_beside(talk, &[0], context.as_fd()));
        sys::clone::exit(tell(talk, sent))
    })?;
    while retry(|| rustix::process::wait(rustix::process::WaitOptions::empty())).is_ok() {}
    Ok(())
}

/// Sends a failure as a packet, and returns the exit status.
fn tell(talk: BorrowedFd<'_>, made: Outcome) -> i32 {
    let Err(Trouble { errno, said }) = made else { return 0 };
    // if it fails, the reader has been killed
    let _ = retry(|| rustix::io::write(talk, &Up::Failed(Failure { step: 0, errno, said }).encode()));
    1
}

fn receive(talk: &OwnedFd) -> Outcome<OwnedFd> {
    let mut packet = [0u8; UP_SIZE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = retry(|| recvmsg(talk, &mut [IoSliceMut::new(&mut packet)], &mut control, RecvFlags::CMSG_CLOEXEC))?;
    let context = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    match (context, Up::decode(&packet[..got.bytes])) {
        (Some(context), _) => Ok(context),
        (None, Some(Up::Failed(Failure { errno, said, .. }))) => Err(Trouble { errno, said }),
        (None, _) => Err(Trouble::saying(Errno::CHILD, "a process of the joined pid namespace was killed")),
    }
}
