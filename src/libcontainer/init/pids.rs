//! A proc file system of a pid namespace that the bridge is not a member of. Only a member can make one, and a member is
//! seen by the others: so it has an empty root directory and two descriptors, and nothing of the host's.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType, recvmsg,
};

use super::talk::{retry, send_beside};
use super::{Outcome, Trouble, root, see};
use crate::plan::step::NewMount;
use crate::sys;
use crate::wire::{Failure, UP_SIZE, Up};

/// Makes the mount in the pid namespace, by a child's child, which is born a member.
pub(super) fn mount_inside(pids: BorrowedFd<'_>, mount: &NewMount) -> Outcome<OwnedFd> {
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    if sys::clone::fork()? == 0 {
        let made = enter(pids, theirs.as_fd()).and_then(|()| member(theirs.as_fd(), mount));
        sys::clone::exit(tell(theirs.as_fd(), made))
    }
    // ORDER: the end of the stream must be seen when the child is gone
    drop(theirs);
    let received = receive(&ours);
    while retry(|| rustix::process::wait(rustix::process::WaitOptions::empty())).is_ok() {}
    received
}

/// Leaves all that is the host's, and only then enters.
fn enter(pids: BorrowedFd<'_>, talk: BorrowedFd<'_>) -> Outcome {
    root::chroot(sys::mount::empty(None)?.as_fd())?;
    sys::fds::close_but(0, [pids.as_raw_fd(), talk.as_raw_fd()].into_iter())?;
    sys::clone::setns(pids, libc::CLONE_NEWPID as u64)?;
    Ok(sys::fds::close_but(0, [talk.as_raw_fd()].into_iter())?)
}

/// Only children are members; this one waits for its own, so that it is gone when the mount is there.
fn member(talk: BorrowedFd<'_>, mount: &NewMount) -> Outcome {
    if sys::clone::fork()? == 0 {
        let made = sys::fds::close_but(0, [talk.as_raw_fd()].into_iter()).map_err(Trouble::from);
        let sent =
            made.and_then(|()| see::detached(mount, None)).and_then(|made| send_beside(talk, &[0], made.as_fd()));
        sys::clone::exit(tell(talk, sent))
    }
    while retry(|| rustix::process::wait(rustix::process::WaitOptions::empty())).is_ok() {}
    Ok(())
}

/// The status to end with; what went wrong is told as every failure is.
fn tell(talk: BorrowedFd<'_>, made: Outcome) -> i32 {
    let Err(Trouble { errno, said }) = made else { return 0 };
    // who does not listen any more has been killed
    let _ = retry(|| rustix::io::write(talk, &Up::Failed(Failure { step: 0, errno, said }).encode()));
    1
}

fn receive(talk: &OwnedFd) -> Outcome<OwnedFd> {
    let mut packet = [0u8; UP_SIZE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = retry(|| recvmsg(talk, &mut [IoSliceMut::new(&mut packet)], &mut control, RecvFlags::CMSG_CLOEXEC))?;
    let mount = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    match (mount, Up::decode(&packet[..got.bytes])) {
        (Some(mount), _) => Ok(mount),
        (None, Some(Up::Failed(Failure { errno, said, .. }))) => Err(Trouble { errno, said }),
        (None, _) => Err(Trouble::saying(Errno::CHILD, "a process of the joined pid namespace was killed")),
    }
}
