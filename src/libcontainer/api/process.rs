//! A process in a container that we have made.

use std::os::fd::{AsFd, BorrowedFd};
use std::process::ExitStatus;

use crate::error::{Context, Result, error};
use crate::launch::Child;
use crate::sys::signals;

/// A process in a container. It is a child of the calling process. If this value is dropped, the process continues, and the
/// caller must still wait for it, as for any other child: by its pid, or by a duplicate of its pidfd.
///
/// ```no_run
/// # fn main() -> libcontainer::Result<()> {
/// let container = libcontainer::Root::open("/run/coracle")?.load("box")?;
/// let status = container.exec(&["sh", "-c", "exit 3"]).spawn()?.wait()?;
/// assert_eq!(status.code(), Some(3));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Process(pub(super) Child);

impl Process {
    /// The pid in the caller's pid namespace.
    pub fn pid(&self) -> i32 {
        self.0.pid
    }

    /// The pidfd. It is readable when the process has ended (pidfd_open(2)). `try_clone_to_owned` duplicates it.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.0.pidfd.as_fd()
    }

    /// Sends a signal to the process.
    ///
    /// # Errors
    /// The process has ended, or those of pidfd_send_signal(2).
    pub fn kill(&self, signal: i32) -> Result<()> {
        signals::send(self.pidfd(), signal).with_context(|| format!("signal {signal}"))
    }

    /// Waits for the end of the process. This works only once.
    ///
    /// # Errors
    /// The process was already reaped, the caller ignores SIGCHLD, or a process that traces it has not released its exit status.
    pub fn wait(self) -> Result<ExitStatus> {
        self.0.wait().ok_or_else(|| {
            error!("process {}: no exit status: it was reaped before, SIGCHLD is ignored, or a process that traces it keeps it", self.0.pid)
        })
    }

    /// The exit status. None while the process runs.
    ///
    /// # Errors
    /// Those of `wait`.
    pub fn try_wait(&self) -> Result<Option<ExitStatus>> {
        self.0.try_wait().with_context(|| format!("process {}: wait", self.0.pid))
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd()
    }
}
