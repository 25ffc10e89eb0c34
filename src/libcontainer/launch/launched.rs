//! The first process of a container, from its clone until all is set up.

use std::os::fd::OwnedFd;

use super::child::Child;
use super::open::Opened;
use crate::plan::Plan;

/// A process that has been made and asks us at every turn. Dropped, it is killed.
#[derive(Debug)]
pub struct Launched<'a> {
    pub(super) plan: &'a Plan,
    pub(super) opened: Opened,
    pub(super) talk: OwnedFd,
    pub(super) child: Child,
    pub(super) to_enter: ToEnter,
    /// The mount that our program was mapped from anew, until it is closed.
    pub(super) mount: Option<OwnedFd>,
}

impl Launched<'_> {
    /// The hierarchies whose cgroups the child has not entered; it has told us something, so it is past that.
    pub(super) fn still_outside(&self) -> impl Iterator<Item = &str> {
        let ToEnter { by_itself, by_us } = &self.to_enter;
        by_us.iter().chain(by_itself.iter().skip(self.opened.page.entered())).map(String::as_str)
    }
}

/// The hierarchies whose cgroup the child was not made in.
#[derive(Debug, Default)]
pub(super) struct ToEnter {
    /// It goes there by itself, one after the other, before all else.
    pub(super) by_itself: Vec<String>,
    /// It is moved there.
    pub(super) by_us: Vec<String>,
}
