//! Who protects the file of the calling program.

use crate::error::Result;
use crate::launch::seal::{self, Protected};

/// How the calling program's file is kept from processes of the container, which could write it through /proc/PID/exe of a
/// process on its way into the container (CVE-2019-5736).
#[derive(Debug, Default)]
#[non_exhaustive]
pub enum Protection {
    /// The new process protects it: it maps the program anew, from a mount of its own or a copy in memory. Nothing of the
    /// calling process changes.
    #[default]
    InChild,
    /// The caller says that the file can be written by nobody: it is a sealed memfd, or on a file system that is read-only.
    Caller,
    /// It is the calling program's own matter: `protect_program` has changed this process.
    OwnProgram(Protected),
}

impl Protection {
    pub(super) fn made(self) -> Result<Protected> {
        match self {
            Protection::InChild => Protected::in_child(),
            Protection::Caller => Ok(Protected::by_caller()),
            Protection::OwnProgram(protected) => Ok(protected),
        }
    }
}

/// Protects the calling program once for all its containers. It must have one thread: its memory is mapped anew, or where
/// that is not allowed the program is run again, from its beginning. Its processes are closed to others from then on
/// (PR_SET_DUMPABLE(2const)).
///
/// # Errors
/// Neither way works.
pub fn protect_program() -> Result<Protection> {
    seal::protect().map(Protection::OwnProgram)
}
