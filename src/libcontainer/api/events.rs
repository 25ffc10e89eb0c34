//! The events of a container.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use crate::cgroup::oom::Watch;
use crate::container::Container;
use crate::error::Result;

pub use crate::cgroup::oom::Happened;

impl Container {
    /// Its events: it runs out of memory, or it ends.
    ///
    /// # Errors
    /// `State` if it has stopped; or its cgroup cannot be watched.
    pub fn events(&self) -> Result<Events> {
        Ok(Events { process: self.process()?, watch: self.cgroup().watch()? })
    }
}

/// The events of a container, from the time of the call of `Container::events`.
///
/// ```no_run
/// use libcontainer::{Happened, Root};
///
/// # fn main() -> libcontainer::Result<()> {
/// let mut events = Root::open("/run/coracle")?.load("box")?.events()?;
/// while events.next(std::time::Duration::from_secs(3600))? != Happened::Ended {}
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Events {
    process: OwnedFd,
    watch: Watch,
}

impl Events {
    /// Waits for the next event, at most for this time.
    ///
    /// # Errors
    /// Those of poll(2), and of the cgroup's files.
    pub fn next(&mut self, time: Duration) -> Result<Happened> {
        self.watch.next(self.process.as_fd(), time)
    }

    /// The pidfd of its first process, for a caller that polls: readable when the process has ended. `next` returns the
    /// event.
    pub fn process(&self) -> BorrowedFd<'_> {
        self.process.as_fd()
    }

    /// Readable after an event of its memory. None if it has no memory controller.
    pub fn memory(&self) -> Option<BorrowedFd<'_>> {
        self.watch.descriptor()
    }
}
