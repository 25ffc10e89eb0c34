//! The protection of the calling program's file.

use crate::error::Result;
use crate::launch::protection::{self, Protected};

/// How the calling program's file is protected from processes of the container. They could write it through
/// /proc/PID/exe of a process that enters the container (CVE-2019-5736).
///
/// ```no_run
/// # fn main() -> libcontainer::Result<()> {
/// use libcontainer::{Bundle, Protection, Root};
///
/// let (root, bundle) = (Root::open("/run/coracle")?, Bundle::read("/bundles/box")?);
/// // This program is on a read-only file system.
/// root.create("box", &bundle).protection(Protection::Caller).create()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
#[non_exhaustive]
pub enum Protection {
    /// The new process protects it: it maps the program again, from a mount of its own or a copy in memory. The calling
    /// process does not change.
    #[default]
    InChild,
    /// The caller says that no process can write the file: it is a sealed memfd, or on a read-only file system.
    Caller,
    /// The calling program has called `protect_program`, which has changed this process.
    OwnProgram(Protected),
}

impl Protection {
    pub(super) fn carry_out(self) -> Result<Protected> {
        match self {
            Protection::InChild => Protected::in_child(),
            Protection::Caller => Ok(Protected::by_caller()),
            Protection::OwnProgram(protected) => Ok(protected),
        }
    }
}

/// Protects the calling program once for all its containers. The process must have one thread: its memory is mapped
/// again or, if that is not allowed, the program is executed again from its beginning. From then on the process is
/// undumpable (PR_SET_DUMPABLE(2const)).
///
/// ```no_run
/// use libcontainer::{Bundle, Root};
///
/// fn main() -> libcontainer::Result<()> {
///     // First of all: the program may begin again here.
///     let protection = libcontainer::protect_program()?;
///     let (root, bundle) = (Root::open("/run/coracle")?, Bundle::read("/bundles/box")?);
///     root.create("box", &bundle).protection(protection).create()?;
///     Ok(())
/// }
/// ```
///
/// # Errors
/// Both ways fail.
pub fn protect_program() -> Result<Protection> {
    protection::protect().map(Protection::OwnProgram)
}

/// Gives back the resident pages of the program's code and constants, for a program that waits for long. They stay in the page
/// cache, and each comes back by a minor page fault when it is used. Without effect if the kernel refuses.
///
/// ```
/// // All containers are made: now the program waits for their ends.
/// libcontainer::give_back_program_pages();
/// ```
pub fn give_back_program_pages() {
    // without it, the process only stays larger
    let _ = crate::sys::own_program::give_back_pages();
}
