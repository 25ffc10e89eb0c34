//! Init's side of the protocol: send a request and wait, report a failure and end, wait for `start`.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::{Errno, read, write};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};

use super::prepared::{Outcome, Prepared, Trouble};
use crate::plan::step::Slot;
use crate::sys;
use crate::sys::retry::retry;
use crate::wire::{Failure, Request, Up};

/// Sends a request and waits until it is done. Init ends if the runtime has ended.
pub(super) fn request(prepared: &Prepared<'_>, request: Request) -> Outcome {
    send(prepared, &Up::Request(request))?;
    await_go(prepared)
}

/// Requests a tree, and puts it into the slot of its source.
pub(super) fn take_tree(prepared: &Prepared<'_>, slot: u32) -> Outcome {
    send(prepared, &Up::Request(Request::Tree(slot)))?;
    let mut go = [0u8; 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got =
        retry(|| recvmsg(prepared.socket, &mut [IoSliceMut::new(&mut go)], &mut control, RecvFlags::CMSG_CLOEXEC));
    if !got.is_ok_and(|got| got.bytes == 1) {
        sys::clone::exit(1)
    }
    let tree = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    prepared.replace(Slot(slot as usize), &tree.ok_or(Errno::BADF)?)
}

/// Sends a detached mount to the runtime, which maps its ids.
pub(super) fn map_ids(prepared: &Prepared<'_>, mount: BorrowedFd<'_>, namespace: Slot) -> Outcome {
    let slot = u32::try_from(namespace.0).map_err(|_| Errno::BADF)?;
    send_with_fd(prepared.socket, &Up::Request(Request::MapIds(slot)).encode(), mount)?;
    await_go(prepared)
}

/// Sends one message with a descriptor.
pub(super) fn send_with_fd(socket: BorrowedFd<'_>, text: &[u8], fd: BorrowedFd<'_>) -> Outcome {
    let fds = [fd];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(Errno::NOBUFS.into());
    }
    retry(|| sendmsg(socket, &[IoSlice::new(text)], &mut control, SendFlags::NOSIGNAL))?;
    Ok(())
}

/// The set-up is complete. The runtime writes its record, and only then lets init continue.
pub(super) fn send_ready(prepared: &Prepared<'_>) -> Outcome {
    send(prepared, &Up::Ready)?;
    await_go(prepared)
}

/// A packet that cannot be sent is a failure: the runtime would wait for it for ever.
fn send(prepared: &Prepared<'_>, up: &Up) -> Outcome {
    let packet = up.encode();
    match retry(|| write(prepared.socket, &packet)) {
        Ok(length) if length == packet.len() => Ok(()),
        Ok(_) => Err(Trouble::saying(NOT_DONE, "write")),
        Err(errno) => Err(Trouble::saying(errno, "write")),
    }
}

pub(super) fn await_go(prepared: &Prepared<'_>) -> Outcome {
    let mut go = [0u8; 1];
    match retry(|| read(prepared.socket, &mut go)) {
        Ok(1) => Ok(()),
        // the runtime has ended, or has closed its end to stop us: no process reads a reason
        Ok(_) | Err(Errno::CONNRESET) => sys::clone::exit(1),
        Err(errno) => Err(Trouble::saying(errno, "read")),
    }
}

/// Loads the filter. A filter with a listener may trap the calls that would send the listener. So a thread that is not under the
/// filter sends it, with the request. (The runtime could use pidfd_getfd(2) instead, but for an undumpable process only root can.)
pub(super) fn load_filter(prepared: &Prepared<'_>, flags: u32) -> Outcome {
    let program = prepared.filter.ok_or(Trouble::from(Errno::INVAL))?;
    if !sys::seccomp::has_listener(flags) {
        sys::seccomp::load(program, flags)?;
        return Ok(());
    }
    // ORDER: before the filter, which then restricts this thread only
    let socket = rustix::io::fcntl_dupfd_cloexec(prepared.socket, 0)?;
    let fd_sender = sys::fd_sender::begin(prepared.alone, socket, &Up::Request(Request::SeccompListener).encode())?;
    if let Some(listener) = sys::seccomp::load(program, flags)? {
        fd_sender.send(listener);
    }
    Ok(())
}

/// Waits for one byte on the exec fifo. Init has both fifos open for reading and writing, so that open(2) never blocks on the other
/// side. They are close-on-exec, so that the other side sees the end of the stream at the exec.
pub(super) fn await_start(prepared: &Prepared<'_>, fifo_slot: Slot, answer: Slot) -> Outcome {
    let mut go = [0u8; 1];
    let fifo = prepared.fd(fifo_slot)?;
    match retry(|| read(fifo, &mut go)) {
        Ok(1) => {}
        Ok(_) => return Err(Trouble::saying(NOT_DONE, "read")),
        Err(errno) => return Err(Trouble::saying(errno, "read")),
    }
    prepared.results.answer.set(Some(answer));
    prepared.results.fifo.set(Some(fifo_slot));
    Ok(())
}

/// Tells `start` that only the exec is left. From now on, the end of the stream means that the program has begun.
pub(super) fn about_to_exec(prepared: &Prepared<'_>, answer: Slot) -> Outcome {
    // if `start` has ended, no process reads it
    let _ = write(prepared.fd(answer)?, &Up::Ready.encode());
    Ok(())
}

/// Reports that step `n` has failed, and ends. It writes the shared page first, because a filter cannot forbid that.
pub(super) fn fail(prepared: &Prepared<'_>, n: u32, trouble: Trouble, after: After) -> ! {
    let packet = Up::Failed(Failure { step: n, errno: trouble.errno, said: trouble.said }).encode();
    prepared.page.has_failed(&packet);
    let reported = match prepared.results.answer.get() {
        None => retry(|| write(prepared.socket, &packet)),
        Some(answer) => retry(|| write(prepared.fd(answer).map_err(|trouble| trouble.errno)?, &packet)),
    };
    if after == After::Look {
        // a filter may deny poll(2)
        let _ = until_looked_at(prepared);
    }
    // the exit status is 126 or 127, as in a shell
    let status = match trouble.errno {
        Errno::NOENT => 127,
        Errno::ACCESS => 126,
        _ => 1,
    };
    sys::clone::exit(if reported.is_ok() { status } else { 255 })
}

/// The time at which an init that has failed ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// As soon as it has reported the failure.
    Report,
    /// After the runtime has looked in init's root for the reason why the program cannot be executed.
    Look,
}

/// Waits until the runtime closes its end or kills us, or `start` writes one more byte; one second at most. It does not wait if the
/// filter denies poll(2).
fn until_looked_at(prepared: &Prepared<'_>) -> Outcome {
    let until = match prepared.results.fifo.get() {
        Some(fifo) => prepared.fd(fifo)?,
        None => prepared.socket,
    };
    let second = Timespec { tv_sec: 1, tv_nsec: 0 };
    rustix::event::poll(&mut [PollFd::from_borrowed_fd(until, PollFlags::IN)], Some(&second))?;
    Ok(())
}

/// The error for a call that the filter reports as successful without doing it (`errnoRet` 0).
pub(super) const NOT_DONE: Errno = Errno::CANCELED;
