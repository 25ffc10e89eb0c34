//! What a program of somebody else's finds when it begins: descriptors by number, a session keyring.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::io::Errno;

use super::{checked, fds, keyring, signals};

/// All that is prepared for the program beside its standard streams.
#[derive(Debug, Default)]
pub struct Handed {
    /// From number 3 up, in this order. All other descriptors of ours are closed.
    pub descriptors: Vec<OwnedFd>,
    /// The session keyring that it joins, and that is made where it is not there.
    pub keyring: Option<CString>,
}

/// The program that `command` starts finds all this, and no signal blocked.
///
/// # Errors
/// No number is free for a descriptor.
pub fn hand(command: &mut Command, handed: Handed) -> Result<(), Errno> {
    let Handed { descriptors, keyring } = handed;
    let count = i32::try_from(descriptors.len()).map_err(|_| Errno::MFILE)?;
    // out of the way of the numbers that they get
    let away = |fd: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(fd, 3 + count);
    let away = descriptors.iter().map(away).collect::<Result<Vec<_>, _>>()?;
    let start = move || {
        signals::unblock_all()?;
        if let Some(name) = &keyring {
            keyring::join_session(name)?;
        }
        for (fd, number) in away.iter().zip(3..) {
            // SAFETY: replaces a number that nobody uses after the exec; all owners are copies that are never dropped here.
            checked(unsafe { libc::syscall(libc::SYS_dup3, fd.as_raw_fd(), number, 0) })?;
        }
        Ok(fds::close_on_exec_from(u32::try_from(3 + count).unwrap_or(3))?)
    };
    // SAFETY: after the fork the closure makes system calls, and allocates nothing.
    unsafe { command.pre_exec(start) };
    Ok(())
}
