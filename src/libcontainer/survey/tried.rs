//! Tries something in a child process.

use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, waitid};

use crate::sys::clone::{Alone, clone, exit};
use crate::sys::errno::{from_number, words};
use crate::sys::retry::retry;

/// Runs `attempt` in a child, which makes system calls only.
///
/// # Errors
/// The error of `attempt`, or of making the child.
pub(super) fn in_child(attempt: impl FnOnce(&Alone) -> Result<(), Errno>) -> Result<(), Errno> {
    let (_, pidfd) = clone(0, None, |alone| {
        let errno = attempt(alone).err().map_or(0, Errno::raw_os_error);
        exit(errno)
    })?;
    let ended = retry(|| waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED))?;
    match ended.and_then(|ended| ended.exit_status()) {
        Some(0) => Ok(()),
        Some(errno) => Err(from_number(errno)),
        None => Err(Errno::INTR),
    }
}

/// The kernel's word for an error, or the error's own text.
pub(super) fn said(error: &std::io::Error) -> String {
    Errno::from_io_error(error).map_or_else(|| error.to_string(), words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_errno_of_the_attempt_is_returned() {
        assert_eq!(in_child(|_| Ok(())), Ok(()));
        assert_eq!(in_child(|_| Err(Errno::NOSPC)), Err(Errno::NOSPC));
    }
}
