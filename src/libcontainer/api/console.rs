//! The terminal of a new process.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use crate::error::Result;
use crate::launch::scm_rights;

/// A stream socket that gets the master of a terminal.
///
/// ```no_run
/// use libcontainer::{Bundle, Console, Root};
///
/// # fn main() -> libcontainer::Result<()> {
/// let (console, master) = Console::pair()?;
/// let bundle = Bundle::read("/bundles/box")?;
/// let (container, process) = Root::open("/run/coracle")?.create("box", &bundle).console(console).create()?;
/// let terminal = master.receive()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Console(OwnedFd);

impl Console {
    /// A socket at `path`, as for `--console-socket`: its owner receives the master with SCM_RIGHTS (unix(7)).
    ///
    /// # Errors
    /// No process listens there.
    pub fn connect(path: impl AsRef<Path>) -> Result<Console> {
        scm_rights::connect(path.as_ref()).map(Console)
    }

    pub(super) fn socket(self) -> OwnedFd {
        self.0
    }

    /// One end of a new pair of sockets. The caller keeps the other end.
    ///
    /// # Errors
    /// Those of socketpair(2).
    pub fn pair() -> Result<(Console, Master)> {
        let (ours, theirs) = scm_rights::pair()?;
        Ok((Console(theirs), Master(ours)))
    }
}

/// A connected stream socket.
impl From<OwnedFd> for Console {
    fn from(socket: OwnedFd) -> Console {
        Console(socket)
    }
}

/// The caller's end of a `Console`.
///
/// ```no_run
/// # fn main() -> libcontainer::Result<()> {
/// let container = libcontainer::Root::open("/run/coracle")?.load("box")?;
/// let (console, master) = libcontainer::Console::pair()?;
/// let process = container.exec(&["/bin/sh"]).console(console).spawn()?;
/// let terminal = std::fs::File::from(master.receive()?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Master(OwnedFd);

impl Master {
    /// The master of the terminal. It can be received when the process is ready (`Progress::Ready`).
    ///
    /// # Errors
    /// The process was not made.
    pub fn receive(self) -> Result<OwnedFd> {
        scm_rights::receive(self.0.as_fd())
    }
}
