//! epoll(7): one for the whole shim.

use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// The name of a descriptor in an event.
pub type Token = u64;

/// The condition to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Bytes, an end, or an error.
    Read,
    /// Room, or an error.
    Write,
    /// Both.
    Both,
    /// New bytes. A hangup that continues is reported once (epoll(7), EPOLLET).
    NewBytes,
}

impl Interest {
    fn flags(self) -> EpollFlags {
        match self {
            Interest::Read => EpollFlags::EPOLLIN,
            Interest::Write => EpollFlags::EPOLLOUT,
            Interest::Both => EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT,
            Interest::NewBytes => EpollFlags::EPOLLIN | EpollFlags::EPOLLET,
        }
    }
}

/// The watched descriptors. Each is removed before it is closed: a child may hold a copy for a moment, and epoll would
/// continue to report it.
#[derive(Debug)]
pub struct Poll {
    epoll: Epoll,
    last: Token,
}

impl Poll {
    /// An empty set. Tokens from `first` on are new.
    ///
    /// # Errors
    /// Those of epoll_create1(2).
    pub fn new(first: Token) -> Result<Poll, Errno> {
        Ok(Poll { epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?, last: first })
    }

    /// A new token.
    pub fn token(&mut self) -> Token {
        self.last += 1;
        self.last
    }

    /// Starts to watch a descriptor.
    ///
    /// # Errors
    /// Those of epoll_ctl(2).
    pub fn add(&self, fd: impl AsFd, token: Token, interest: Interest) -> Result<(), Errno> {
        self.epoll.add(fd, EpollEvent::new(interest.flags(), token))
    }

    /// Changes the condition. This cannot fail after `add`.
    pub fn change(&self, fd: impl AsFd, token: Token, interest: Interest) {
        let _ = self.epoll.modify(fd, &mut EpollEvent::new(interest.flags(), token));
    }

    /// Stops watching a descriptor.
    pub fn remove(&self, fd: impl AsFd) {
        let _ = self.epoll.delete(fd);
    }

    /// The tokens of descriptors that are ready. Waits until the deadline at most.
    pub fn wait(&self, time: Option<Duration>) -> Vec<Token> {
        let mut events = [EpollEvent::empty(); 32];
        // rounded up, so that a deadline has passed when we wake
        let time = time.map(|time| time.as_millis() + u128::from(time.subsec_nanos() % 1_000_000 != 0));
        let time = time.map_or(EpollTimeout::NONE, |millis| {
            EpollTimeout::try_from(i32::try_from(millis).unwrap_or(i32::MAX)).unwrap_or(EpollTimeout::NONE)
        });
        let count = match self.epoll.wait(&mut events, time) {
            Ok(count) => count,
            // signals come by their descriptor
            Err(Errno::EINTR) => 0,
            // no other error is possible (epoll_wait(2)): without events, the loop would spin
            Err(errno) => panic!("epoll_wait: {errno}"),
        };
        events[..count].iter().map(EpollEvent::data).collect()
    }
}
