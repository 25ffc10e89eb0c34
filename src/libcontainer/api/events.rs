//! What happens to a container.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use crate::cgroup::oom::Watch;
use crate::container::Container;
use crate::error::Result;

pub use crate::cgroup::oom::Happened;

impl Container {
    /// Its events: that it runs out of memory, and its end.
    ///
    /// # Errors
    /// `State`, where it has stopped; its cgroup cannot be watched.
    pub fn events(&self) -> Result<Events> {
        Ok(Events { process: self.process()?, watch: self.cgroup().watch()? })
    }
}

/// What happens to a container, from the moment when it was asked for.
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
    /// Waits for the next event, at most that long.
    ///
    /// # Errors
    /// Those of poll(2) and of the cgroup's files.
    pub fn next(&mut self, time: Duration) -> Result<Happened> {
        self.watch.next(self.process.as_fd(), time)
    }

    /// The pidfd of its first process, for a caller that polls: readable when it has ended. `next` says what happened.
    pub fn process(&self) -> BorrowedFd<'_> {
        self.process.as_fd()
    }

    /// What is readable when something happens to its memory. None where no memory controller is there.
    pub fn memory(&self) -> Option<BorrowedFd<'_>> {
        self.watch.descriptor()
    }
}
