//! A new container.

use std::path::PathBuf;

use super::bundle::{Bundle, absolute};
use super::exec::{NOT_STARTED, Process};
use super::protection::Protection;
use crate::cgroup;
use crate::container::{Container, Root, check_id};
use crate::error::{Context, Result};
use crate::launch::create::{Made, New};
use crate::launch::delete::{Leftovers, remove_own};
use crate::launch::start::began;
use crate::launch::{Child, Times};
use crate::plan::{CgroupUse, Flags, Keyring, RootChange, Start, Terminal};

/// Settings of a new container. `create` makes one that waits for `start`; `run` one whose program begins at once.
///
/// Nothing of the calling process is changed, and it may have many threads. All of the making is done by the calling thread.
/// Our standard streams are those of the container's process.
///
/// ```no_run
/// use libcontainer::{Bundle, Root};
///
/// # fn main() -> libcontainer::Result<()> {
/// let root = Root::open("/run/coracle")?;
/// let bundle = Bundle::read("/bundles/box")?;
/// let mut container = root.create("box", &bundle).pid_file("/run/box.pid").create()?;
/// container.start()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use]
pub struct Create<'a> {
    root: &'a Root,
    bundle: &'a Bundle,
    flags: Flags,
    pid_file: Option<PathBuf>,
    protection: Protection,
}

impl Root {
    /// A new container of that id, made from `bundle`.
    pub fn create<'a>(&'a self, id: &str, bundle: &'a Bundle) -> Create<'a> {
        let flags = Flags { terminal: Terminal::None, ..bundle.flags(id) };
        Create { root: self, bundle, flags, pid_file: None, protection: Protection::default() }
    }
}

impl Create<'_> {
    /// Writes the pid of its process there.
    pub fn pid_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.pid_file = Some(path.into());
        self
    }

    /// Whether it gets cgroups of its own, and who makes them.
    pub fn cgroup(mut self, cgroup: CgroupUse) -> Self {
        self.flags.cgroup = cgroup;
        self
    }

    /// How the root becomes the root.
    pub fn root_change(mut self, change: RootChange) -> Self {
        self.flags.root_change = change;
        self
    }

    /// Its session keyring; without this, one that nobody else can name.
    pub fn keyring(mut self, keyring: Keyring) -> Self {
        self.flags.keyring = keyring;
        self
    }

    /// How the calling program's file is protected.
    pub fn protection(mut self, protection: Protection) -> Self {
        self.protection = protection;
        self
    }

    /// Makes it. Its process waits for `Container::start`.
    ///
    /// # Errors
    /// All mistakes of the config, or what failed, by its place; nothing stays behind.
    pub fn create(self) -> Result<Container> {
        self.make(Start::OnFifo).map(|(container, _)| container)
    }

    /// Makes it and begins its program.
    ///
    /// # Errors
    /// Those of `create` and of `Container::start`; nothing stays behind.
    pub fn run(self) -> Result<(Container, Process)> {
        let (container, child) = self.make(Start::AtOnce)?;
        match began(&container) {
            Ok(()) => Ok((container, Process(child))),
            Err(error) => Err(cgroup::undone(error, remove_own(container, Leftovers::Killed).map(drop))),
        }
    }

    fn make(self, start: Start) -> Result<(Container, Child)> {
        let flags = Flags { start, ..self.flags };
        check_id(&flags.id)?;
        let protected = self.protection.made()?;
        let plan = self.bundle.plan(&flags)?;
        let new = New {
            root: self.root,
            text: &self.bundle.text,
            config: &self.bundle.config,
            flags: &flags,
            plan: &plan,
            terminal: None,
            times: Times::NotKept,
            pid_file: self.pid_file.as_deref().map(absolute).transpose()?,
            protected,
        };
        new.make().context(NOT_STARTED).and_then(Made::go)
    }
}
