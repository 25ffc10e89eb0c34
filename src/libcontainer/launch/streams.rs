//! The standard streams of a new process, and its descriptors above them.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use rustix::io::Errno;

use crate::sys::clone::Alone;
use crate::sys::fds::pass_as;

/// Descriptors 0, 1 and 2 of a new process, and 3 and higher. A standard stream that is not set is ours.
#[derive(Debug, Default)]
pub struct Streams {
    /// Standard input, output and error.
    pub standard: [Option<OwnedFd>; 3],
    /// Descriptors 3 and so on.
    pub more: Vec<OwnedFd>,
}

impl Streams {
    /// The first number that the process does not use. None if nothing is set.
    pub(super) fn first_unused(&self) -> Option<RawFd> {
        let some = !self.more.is_empty() || self.standard.iter().any(Option::is_some);
        some.then(|| RawFd::try_from(self.more.len()).unwrap_or(RawFd::MAX).saturating_add(3))
    }

    /// Moves each of them to a number that is not used, so that none is overwritten before its turn.
    pub(super) fn raise(&mut self, first: RawFd) -> Result<(), Errno> {
        self.standard.iter_mut().flatten().chain(&mut self.more).try_for_each(|fd| raise(fd, first))
    }

    /// In the child: moves each of them to its number.
    pub(super) fn take_their_places(&self, alone: &Alone) -> Result<(), Errno> {
        let standard = self.standard.iter().zip(0..).filter_map(|(fd, number)| Some((fd.as_ref()?, number)));
        let mut all = standard.chain(self.more.iter().zip(3..));
        all.try_for_each(|(fd, number)| pass_as(alone, fd.as_fd(), number))
    }
}

/// A copy with a number that is not below `first`.
pub(super) fn raise(fd: &mut OwnedFd, first: RawFd) -> Result<(), Errno> {
    if fd.as_raw_fd() < first {
        *fd = rustix::io::fcntl_dupfd_cloexec(&*fd, first)?;
    }
    Ok(())
}
