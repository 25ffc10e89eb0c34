//! A new container.

use super::bundle::{Bundle, absolute};
use super::exec::NOT_STARTED;
use super::process::Process;
use super::progress::Explanation;
use super::settings::{Settings, settings_of_a_program, settings_of_all};
use crate::cgroup;
use crate::container::{Container, Root, check_id};
use crate::error::{Context, Result};
use crate::launch::create::{Creator, Made, New};
use crate::launch::delete::{Leftovers, remove_own};
use crate::launch::start::began;
use crate::launch::{Child, notify, pidfile};
use crate::plan::{CgroupUse, Flags, Keyring, RootChange, Rootless, Start, Terminal};

/// Settings of a new container. `create` makes one that waits for `start`; `run` one whose program begins at once.
///
/// Nothing of the calling process is changed, and it may have many threads. All of the making is done by the calling thread.
///
/// ```no_run
/// use libcontainer::{Bundle, Root};
///
/// # fn main() -> libcontainer::Result<()> {
/// let root = Root::open("/run/coracle")?;
/// let bundle = Bundle::read("/bundles/box")?;
/// let (mut container, process) = root.create("box", &bundle).pid_file("/run/box.pid").create()?;
/// container.start()?;
/// println!("{}", process.wait()?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use]
pub struct Create<'a> {
    root: &'a Root,
    bundle: &'a Bundle,
    flags: Flags,
    settings: Settings<'a>,
    creator: Creator,
}

impl Root {
    /// A new container of that id, made from `bundle`.
    pub fn create<'a>(&'a self, id: &str, bundle: &'a Bundle) -> Create<'a> {
        Create {
            root: self,
            bundle,
            flags: Flags { terminal: Terminal::None, ..bundle.flags(id) },
            settings: Settings::default(),
            creator: Creator::default(),
        }
    }
}

impl<'a> Create<'a> {
    settings_of_all!();
    settings_of_a_program!();

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

    /// Whether a cgroup that we may not make is an error.
    pub fn rootless(mut self, rootless: Rootless) -> Self {
        self.flags.rootless = rootless;
        self
    }

    /// Its program finds a socket at NOTIFY_SOCKET to say that it is ready (sd_notify(3)). The caller listens there: the
    /// socket is made by the caller in the directory `notify` of the container's own.
    #[doc(hidden)]
    pub fn notify(mut self) -> Self {
        self.flags.notify = Some(notify::directory(&self.root.path().join(&self.flags.id)));
        self
    }

    /// What becomes of the caller when somebody deletes the container by force while it is made.
    #[doc(hidden)]
    pub fn creator(mut self, creator: Creator) -> Self {
        self.creator = creator;
        self
    }

    /// Makes it. Its first process waits for `Container::start`.
    ///
    /// # Errors
    /// `Exists`, `Config` with all mistakes, `Step`, `Hook`, `OutOfMemory`, `Systemd`, `Interrupted`, or another kind with
    /// its place in the text. Nothing stays behind.
    pub fn create(self) -> Result<(Container, Process)> {
        self.make(Start::OnFifo).map(|(container, child)| (container, Process(child)))
    }

    /// Makes it and begins its program.
    ///
    /// # Errors
    /// Those of `create` and of `Container::start`. Nothing stays behind.
    pub fn run(self) -> Result<(Container, Process)> {
        let pid_file = self.settings.pid_file.clone();
        let (container, child) = self.make(Start::AtOnce)?;
        match began(&container) {
            Ok(()) => Ok((container, Process(child))),
            Err(error) => {
                if let Some(path) = pid_file {
                    pidfile::forget(&path, child.pid);
                }
                Err(cgroup::undone(error, remove_own(container, Leftovers::Killed).map(drop)))
            }
        }
    }

    fn make(self, start: Start) -> Result<(Container, Child)> {
        let Create { root, bundle, mut flags, mut settings, creator } = self;
        check_id(&flags.id)?;
        flags.start = start;
        let terminal = settings.decide(bundle.terminal(), &mut flags)?;
        let plan = Explanation(bundle.plan(&flags)?);
        settings.observer.planned(&plan)?;
        let new = New {
            root,
            text: &bundle.text,
            config: &bundle.config,
            flags: &flags,
            plan: &plan.0,
            terminal,
            streams: settings.streams,
            times: settings.times,
            pid_file: settings.pid_file.as_deref().map(absolute).transpose()?,
            protected: settings.protection.made()?,
            creator,
        };
        let made = new.make().context(NOT_STARTED)?;
        let heard = settings.observer.ready(&plan, &made.ready);
        let (made, ()) = made.unless_failed(heard)?;
        Made::go(made)
    }
}
