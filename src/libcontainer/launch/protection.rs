//! The container must never write our binary (CVE-2019-5736). A process in it can execute /proc/self/exe, by that path
//! or as an interpreter, and then open the file. This code makes sure that no process can open that file for writing,
//! neither now nor after we have ended.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use crate::error::{Error, Result};
use crate::sys::exec::{Strings, execveat};
use crate::sys::own_program::{self, OwnFile, OwnProgram};

/// Proof that our program is protected. Every launch needs it.
#[derive(Debug)]
pub struct Protected {
    /// The mount from which our program is mapped now. The program does not need it any more. When its last descriptor
    /// is closed, the kernel waits for all CPUs (synchronize_rcu_expedited), so it is closed while init works.
    mount: Option<OwnedFd>,
    by: ProtectedBy,
}

/// The process that protects our program.
#[derive(Debug)]
pub(super) enum ProtectedBy {
    /// This process, for itself and its children.
    Us,
    /// The child, before everything else: it maps our program again from this file, and closes it.
    Child(Box<OwnProgram>, Option<OwnFile>),
    /// The caller.
    Caller,
}

impl Protected {
    /// The caller says that its program is protected.
    pub fn by_caller() -> Protected {
        Protected { mount: None, by: ProtectedBy::Caller }
    }

    /// Prepares what the child needs to protect our program. This process does not change, and it may have many
    /// threads.
    ///
    /// # Errors
    /// Our program's file cannot be opened, mounted or copied.
    pub fn in_child() -> Result<Protected> {
        let failed = |errno| Error::from(errno).context("protect our own binary");
        let own = OwnProgram::of_now().map_err(failed)?;
        let (file, mount) = match OwnFile::by_read_only_mount() {
            Ok((file, mount)) => (file, Some(mount)),
            // Without CAP_SYS_ADMIN, or on an old kernel: a copy in memory.
            Err(_) => (OwnFile::sealed_copy().map_err(failed)?, None),
        };
        Ok(Protected { mount, by: ProtectedBy::Child(Box::new(own), Some(file)) })
    }

    /// The mount that must be closed before the container can see us. None if another process protects our program.
    pub(super) fn into_parts(self) -> (Option<OwnedFd>, ProtectedBy) {
        (self.mount, self.by)
    }
}

/// Protects our program. It maps our program again from a detached read-only mount of its file, in tens of microseconds. If that is
/// not allowed, or the program has several threads, it executes our program again from a sealed copy in memory, and returns in the
/// second run.
///
/// A seal on our file is enough, but a read-only mount is not: a process that has the mount in its mount namespace can make
/// it writable later. When its descriptor is closed, our detached mount is in no mount namespace, and no process can change
/// it (mount_setattr(2): EINVAL). Before that, a process with CAP_SYS_ADMIN in a user namespace and a descriptor of the file
/// can change it. So no container may see us before the descriptor is closed.
///
/// # Errors
/// Both ways fail.
pub fn protect() -> Result<Protected> {
    let mapped = OwnFile::by_read_only_mount().and_then(|(file, mount)| {
        own_program::map_again_from(&file)?;
        Ok(mount)
    });
    match mapped {
        Ok(mount) => Ok(Protected { mount: Some(mount), by: ProtectedBy::Us }),
        Err(_) if own_program::is_sealed() => Ok(Protected { mount: None, by: ProtectedBy::Us }),
        // Without CAP_SYS_ADMIN, with several threads, or on an old kernel.
        Err(_) => {
            let copy = OwnFile::sealed_copy();
            run_again(&copy.map_err(|errno| {
                Error::from(errno).context("copy the runtime's binary to a sealed file in memory (memfd_create)")
            })?)
        }
    }
}

fn run_again(own: &OwnFile) -> Result<Protected> {
    let args = strings(std::env::args_os().map(OsStringExt::into_vec))?;
    let env = strings(std::env::vars_os().map(|(name, value)| {
        let mut entry = name.into_vec();
        entry.push(b'=');
        entry.extend(value.into_vec());
        entry
    }))?;
    let errno = execveat(own.as_fd(), &args, &env);
    Err(Error::from(errno).context("execute the runtime's binary again, protected"))
}

fn strings(list: impl Iterator<Item = Vec<u8>>) -> Result<Strings> {
    Ok(Strings::from_owned(list.map(CString::new).collect::<Result<Vec<_>, _>>()?))
}
