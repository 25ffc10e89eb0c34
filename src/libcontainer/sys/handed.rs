//! The objects that we pass to another program at its start: descriptors, and a session keyring.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::io::{Errno, FdFlags};

use super::{fds, keyring, signals};

/// The objects that the program gets besides its standard streams.
#[derive(Debug, Default)]
pub struct Handed {
    /// They have the same numbers there as here. All other descriptors of ours are closed.
    pub descriptors: Vec<OwnedFd>,
    /// The session keyring that it joins. It is made if it does not exist.
    pub keyring: Option<CString>,
    /// Whether it and all its children have no_new_privs.
    pub no_new_privs: bool,
}

/// Passes all this to the program that `command` starts, and unblocks every signal in it. The descriptors stay open
/// here until `command` is dropped. They keep their numbers: a number that the program wanted could be that of the pipe
/// on which `Command` reads that execve(2) failed.
///
/// # Errors
/// `BADF`: a descriptor has the number of a standard stream.
pub fn hand(command: &mut Command, handed: Handed) -> Result<(), Errno> {
    let Handed { descriptors, keyring, no_new_privs } = handed;
    if descriptors.iter().any(|fd| fd.as_raw_fd() < 3) {
        return Err(Errno::BADF);
    }
    let start = move || {
        super::heap::forbid();
        signals::unblock_all()?;
        if let Some(name) = &keyring {
            keyring::join_session(name)?;
        }
        if no_new_privs {
            rustix::thread::set_no_new_privs(true)?;
        }
        fds::close_on_exec_from(3)?;
        descriptors.iter().try_for_each(|fd| rustix::io::fcntl_setfd(fd, FdFlags::empty()))?;
        Ok(())
    };
    // SAFETY: after the fork the closure makes system calls only, and does not use the heap.
    unsafe { command.pre_exec(start) };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_cannot_be_executed_is_an_error_whatever_it_gets() {
        let file = || OwnedFd::from(tempfile::tempfile().unwrap());
        for count in [0, 1, 40] {
            let descriptors: Vec<_> = (0..count).map(|_| file()).collect();
            let kept = descriptors.first().map(|fd| rustix::io::dup(fd).unwrap());
            let mut command = Command::new("/nowhere");
            hand(&mut command, Handed { descriptors, ..Handed::default() }).unwrap();
            assert!(command.spawn().is_err(), "{count}");
            // nor is the error written into what the program gets
            assert!(kept.is_none_or(|file| rustix::fs::fstat(file).unwrap().st_size == 0), "{count}");
        }
    }
}
