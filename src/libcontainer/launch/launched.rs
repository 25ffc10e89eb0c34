//! The first process of a container, from its clone until it is completely set up.

use std::os::fd::OwnedFd;

use super::child::Child;
use super::open::Opened;
use crate::plan::Plan;

/// A process that was cloned, and sends requests to us. If this is dropped, it is killed.
#[derive(Debug)]
pub struct Launched<'a> {
    pub(super) plan: &'a Plan,
    pub(super) opened: Opened,
    pub(super) socket: OwnedFd,
    pub(super) child: Child,
    pub(super) to_enter: ToEnter,
    /// The mount from which our program was mapped again. None after it was closed.
    pub(super) mount: Option<OwnedFd>,
}

impl Launched<'_> {
    /// The hierarchies with cgroups that the child has not entered. The child has sent a packet, so it will not enter
    /// them any more.
    pub(super) fn still_outside(&self) -> impl Iterator<Item = &str> {
        let ToEnter { by_itself, by_us } = &self.to_enter;
        by_us.iter().chain(by_itself.iter().skip(self.opened.first_child.entered())).map(String::as_str)
    }
}

/// The hierarchies with cgroups that the clone did not put the child into.
#[derive(Debug, Default)]
pub(super) struct ToEnter {
    /// The child enters them one after the other, before everything else.
    pub(super) by_itself: Vec<String>,
    /// The runtime moves the child into them.
    pub(super) by_us: Vec<String>,
}
