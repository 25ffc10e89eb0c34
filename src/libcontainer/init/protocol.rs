//! Init's half of the conversation: ask and wait, report and end, wait for `start`.

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
use crate::wire::{Failure, Request, Up};

/// Asks a favour and waits until it is done. A runtime that is gone means: stop.
pub(super) fn ask(prepared: &Prepared<'_>, ask: Request) -> Outcome {
    tell(prepared, &Up::Request(ask))?;
    await_go(prepared)
}

/// Asks for a tree and puts it where its source was, under the same number.
pub(super) fn take_tree(prepared: &Prepared<'_>, slot: u32) -> Outcome {
    tell(prepared, &Up::Request(Request::Tree(slot)))?;
    let mut go = [0u8; 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = retry(|| recvmsg(prepared.talk, &mut [IoSliceMut::new(&mut go)], &mut control, RecvFlags::CMSG_CLOEXEC));
    if !got.is_ok_and(|got| got.bytes == 1) {
        sys::clone::exit(1)
    }
    let tree = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    prepared.replace(Slot(slot as usize), &tree.ok_or(Errno::BADF)?)
}

/// Sends a detached mount, whose ids are then mapped.
pub(super) fn map_ids(prepared: &Prepared<'_>, mount: BorrowedFd<'_>, namespace: Slot) -> Outcome {
    let slot = u32::try_from(namespace.0).map_err(|_| Errno::BADF)?;
    send_beside(prepared.talk, &Up::Request(Request::MapIds(slot)).encode(), mount)?;
    await_go(prepared)
}

/// One message, and a descriptor beside it.
pub(super) fn send_beside(socket: BorrowedFd<'_>, text: &[u8], fd: BorrowedFd<'_>) -> Outcome {
    let fds = [fd];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(Errno::NOBUFS.into());
    }
    retry(|| sendmsg(socket, &[IoSlice::new(text)], &mut control, SendFlags::NOSIGNAL))?;
    Ok(())
}

/// All is set up; the runtime now writes its record, and only then says go.
pub(super) fn ready(prepared: &Prepared<'_>) -> Outcome {
    tell(prepared, &Up::Ready)?;
    await_go(prepared)
}

/// A word that does not get through ends init: who does not hear it would wait for ever.
fn tell(prepared: &Prepared<'_>, up: &Up) -> Outcome {
    let packet = up.encode();
    match retry(|| write(prepared.talk, &packet)) {
        Ok(length) if length == packet.len() => Ok(()),
        Ok(_) => Err(Trouble::saying(NOT_DONE, "write")),
        Err(errno) => Err(Trouble::saying(errno, "write")),
    }
}

pub(super) fn await_go(prepared: &Prepared<'_>) -> Outcome {
    let mut go = [0u8; 1];
    match retry(|| read(prepared.talk, &mut go)) {
        Ok(1) => Ok(()),
        // the runtime has ended or wants us gone: nobody is left to hear why
        Ok(_) | Err(Errno::CONNRESET) => sys::clone::exit(1),
        Err(errno) => Err(Trouble::saying(errno, "read")),
    }
}

/// Loads the filter. One with a listener may trap the very calls that would send it: somebody who is not under the filter
/// does that, and asks in our name. (The runtime might fetch it by pidfd_getfd(2), but from who is closed to being looked
/// into, only root fetches anything.)
pub(super) fn load_filter(prepared: &Prepared<'_>, flags: u32) -> Outcome {
    let program = prepared.program.ok_or(Trouble::from(Errno::INVAL))?;
    if !sys::seccomp::has_listener(flags) {
        sys::seccomp::load(program, flags)?;
        return Ok(());
    }
    // ORDER: before the filter, which is then only ours
    let talk = rustix::io::fcntl_dupfd_cloexec(prepared.talk, 0)?;
    let fd_sender = sys::fd_sender::begin(talk, &Up::Request(Request::SeccompListener).encode())?;
    if let Some(listener) = sys::seccomp::load(program, flags)? {
        fd_sender.send(listener);
    }
    Ok(())
}

/// Waits for one byte on the exec fifo. Both fifos are open for reading and writing here, so that no open of the other
/// side ever blocks, and close-on-exec, so that an exec is seen there as the end of the stream.
pub(super) fn await_start(prepared: &Prepared<'_>, fifo_slot: Slot, answer: Slot) -> Outcome {
    let mut go = [0u8; 1];
    let fifo = prepared.fd(fifo_slot)?;
    match retry(|| read(fifo, &mut go)) {
        Ok(1) => {}
        Ok(_) => return Err(Trouble::saying(NOT_DONE, "read")),
        Err(errno) => return Err(Trouble::saying(errno, "read")),
    }
    prepared.left.answer.set(Some(answer));
    prepared.left.fifo.set(Some(fifo_slot));
    Ok(())
}

/// Tells `start` that all is done but the exec: from now on the end of the stream is the program's beginning.
pub(super) fn about_to_exec(prepared: &Prepared<'_>, answer: Slot) -> Outcome {
    // who does not listen any more need not be told
    let _ = write(prepared.fd(answer)?, &Up::Ready.encode());
    Ok(())
}

/// Tells that step `n` did not work, and ends. The page is told first: that takes no call, which a filter might forbid.
pub(super) fn fail(prepared: &Prepared<'_>, n: u32, trouble: Trouble, after: After) -> ! {
    let packet = Up::Failed(Failure { step: n, errno: trouble.errno, said: trouble.said }).encode();
    prepared.page.has_failed(&packet);
    let told = match prepared.left.answer.get() {
        None => retry(|| write(prepared.talk, &packet)),
        Some(answer) => retry(|| write(prepared.fd(answer).map_err(|trouble| trouble.errno)?, &packet)),
    };
    if after == After::Look {
        let _ = until_looked_at(prepared);
    }
    // 126 and 127 as a shell would say it, for whoever looks only at the exit status
    let status = match trouble.errno {
        Errno::NOENT => 127,
        Errno::ACCESS => 126,
        _ => 1,
    };
    sys::clone::exit(if told.is_ok() { status } else { 255 })
}

/// When an init that has failed ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// As soon as it has told.
    Telling,
    /// When the runtime has looked, in init's root, why the program cannot be executed.
    Look,
}

/// The runtime closes its end, or kills us; `start` writes one more byte. What a filter denies is not waited for, and where
/// nobody looks, for a second only.
fn until_looked_at(prepared: &Prepared<'_>) -> Outcome {
    let until = match prepared.left.fifo.get() {
        Some(fifo) => prepared.fd(fifo)?,
        None => prepared.talk,
    };
    let second = Timespec { tv_sec: 1, tv_nsec: 0 };
    rustix::event::poll(&mut [PollFd::from_borrowed_fd(until, PollFlags::IN)], Some(&second))?;
    Ok(())
}

/// What a call has that a filter answers with success, without doing it (`errnoRet` 0).
pub(super) const NOT_DONE: Errno = Errno::CANCELED;

/// Calls again when a signal came between: not for ever, as EINTR may be what a filter answers.
pub(super) fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    for _ in 0..100 {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
    call()
}
