//! Descriptors by number: the standard streams, and everything above them.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::io::Errno;

use super::checked;

/// Makes `fd` the standard stream `number` (0, 1 or 2): dup3(2) without close-on-exec.
///
/// # Errors
/// Those of dup3(2).
pub fn become_stdio(fd: BorrowedFd<'_>, number: RawFd) -> Result<(), Errno> {
    if fd.as_raw_fd() == number {
        return Ok(());
    }
    // SAFETY: replaces a standard stream, which no OwnedFd of ours ever owns.
    checked(unsafe { libc::syscall(libc::SYS_dup3, fd.as_raw_fd(), number, 0) }).map(drop)
}

/// Lets the number of `fd` mean what `new` means: dup3(2) with close-on-exec.
///
/// # Errors
/// Those of dup3(2).
pub fn replace(fd: BorrowedFd<'_>, new: &OwnedFd) -> Result<(), Errno> {
    // SAFETY: the number stays open all along, and still belongs to whoever owns it; only the file behind it changes.
    checked(unsafe { libc::syscall(libc::SYS_dup3, new.as_raw_fd(), fd.as_raw_fd(), libc::O_CLOEXEC) }).map(drop)
}

/// Closes every descriptor from `first` up but those of `kept` (close_range(2)). Only a process that drops no owner of a
/// descriptor any more calls this.
///
/// # Errors
/// Those of close_range(2).
pub fn close_but(first: u32, kept: impl Iterator<Item = RawFd> + Clone) -> Result<(), Errno> {
    let mut first = first;
    loop {
        let next = kept.clone().filter_map(|fd| u32::try_from(fd).ok()).filter(|fd| *fd >= first).min();
        match next {
            None => return close_range(first, u32::MAX),
            Some(fd) if fd > first => close_range(first, fd - 1)?,
            Some(_) => {}
        }
        first = next.unwrap_or(first) + 1;
    }
}

/// KERNEL(5.9): close_range; older, or a profile that does not know it: one by one, as far as descriptors can be here.
fn close_range(first: u32, last: u32) -> Result<(), Errno> {
    // SAFETY: the caller (`close_but`) uses and drops none of these any more.
    match checked(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }) {
        Err(Errno::NOSYS | Errno::PERM) => {
            for number in first..=last.min(65535) {
                close(RawFd::try_from(number).unwrap_or(RawFd::MAX));
            }
            Ok(())
        }
        other => other.map(drop),
    }
}

/// Sets close-on-exec on every descriptor from `first` up (close_range(2)). KERNEL(5.11): see `init::go::close_on_exec`.
///
/// # Errors
/// Those of close_range(2).
pub fn close_on_exec_from(first: u32) -> Result<(), Errno> {
    // SAFETY: only sets a flag; no descriptor is closed under its owner.
    checked(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) }).map(drop)
}

/// The program that `command` starts gets its three streams and nothing else of ours: no descriptor, no blocked signal. It
/// ends with us, so that a hook does not go on for a container that somebody has deleted meanwhile.
pub fn keep_only_stdio(command: &mut Command) {
    let start = || {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        super::signals::unblock_all()?;
        Ok(close_on_exec_from(3)?)
    };
    // SAFETY: after the fork the closure makes three system calls and touches no memory but its own stack.
    unsafe { command.pre_exec(start) };
}

/// The descriptor `number`, which the caller was handed at its start (LISTEN_FDS, --preserve-fds) and leaves open.
pub fn inherited(number: RawFd) -> BorrowedFd<'static> {
    // SAFETY: inherited descriptors stay open for the life of the process; BorrowedFd only needs a non-negative one.
    unsafe { BorrowedFd::borrow_raw(number.max(0)) }
}

/// Closes the descriptor `number`, which was let out of its owner's hands (`into_raw_fd`), or whose owner is never dropped, as in
/// a child.
pub fn close(number: RawFd) {
    // SAFETY: the caller has the number from `into_raw_fd` and nobody else owns it; a wrong one is EBADF and no harm.
    let _ = unsafe { libc::syscall(libc::SYS_close, number) };
}

/// True when descriptor `number` is open and without close-on-exec: somebody has handed it to us.
pub fn is_handed_down(number: u32) -> bool {
    RawFd::try_from(number)
        .is_ok_and(|number| rustix::io::fcntl_getfd(inherited(number)).is_ok_and(|flags| flags.is_empty()))
}
