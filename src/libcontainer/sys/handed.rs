//! What another program gets when we start it: descriptors by number, and a session keyring.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::io::Errno;

use super::{checked, fds, keyring, signals};

/// What the program gets besides its standard streams.
#[derive(Debug, Default)]
pub struct Handed {
    /// From number 3 up, in this order. All other descriptors of ours are closed.
    pub descriptors: Vec<OwnedFd>,
    /// The session keyring that it joins. It is made if it does not exist.
    pub keyring: Option<CString>,
}

/// The program that `command` starts gets all this, and has no signal blocked.
///
/// # Errors
/// No number is free for a descriptor.
pub fn hand(command: &mut Command, handed: Handed) -> Result<(), Errno> {
    let Handed { descriptors, keyring } = handed;
    let end = i32::try_from(3 + descriptors.len()).map_err(|_| Errno::MFILE)?;
    // copies above the numbers that the program gets
    let away = |fd: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(fd, end);
    let away = descriptors.iter().map(away).collect::<Result<Vec<_>, _>>()?;
    let start = move || {
        super::heap::forbid();
        signals::unblock_all()?;
        if let Some(name) = &keyring {
            keyring::join_session(name)?;
        }
        for (fd, number) in away.iter().zip(3..) {
            // SAFETY: this is a child, and execs next. It never drops the owner of a number that is replaced. The copies have
            // higher numbers.
            checked(unsafe { libc::syscall(libc::SYS_dup3, fd.as_raw_fd(), number, 0) })?;
        }
        Ok(fds::close_on_exec_from(end.cast_unsigned())?)
    };
    // SAFETY: after the fork the closure makes system calls only, and does not use the heap.
    unsafe { command.pre_exec(start) };
    Ok(())
}
