//! A new container.

use super::bundle::Bundle;
use super::exec::NOT_STARTED;
use super::process::Process;
use super::progress::Explanation;
use super::settings::{Settings, settings_of_a_container, settings_of_a_program, settings_of_all};
use crate::cgroup;
use crate::container::{Container, Root, check_id};
use crate::error::{Context, Result};
use crate::launch::create::{Creation, Creator, MadeContainer, NewContainer};
use crate::launch::delete::{Leftovers, remove_own};
use crate::launch::start::PoststartHooks;
use crate::launch::{Child, notify, pidfile};
use crate::plan::{Flags, RootChange, Start, Terminal};

/// Settings of a new container. `create` makes one that waits for `start`. `run` makes one and starts its program at
/// once.
///
/// The calling process does not change, and it may have many threads. Only the calling thread works.
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
    /// A new container with this id, made from `bundle`.
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
    settings_of_a_container!();
    settings_of_a_program!();

    /// How the root file system becomes the root directory.
    pub fn root_change(mut self, change: RootChange) -> Self {
        self.flags.root_change = change;
        self
    }

    /// Its program gets a socket in NOTIFY_SOCKET for its ready message (sd_notify(3)). The caller binds this socket
    /// (`Root::notify_socket`) and reads from it.
    pub fn notify(mut self) -> Self {
        self.flags.notify = Some(notify::directory(&self.root.path().join(&self.flags.id)));
        self
    }

    /// Makes the container. Its first process waits for `Container::start`.
    ///
    /// # Errors
    /// `Exists`, `Config` with all mistakes, `Step`, `Hook`, `OutOfMemory`, `Systemd`, `Interrupted`, or another kind
    /// with its place in the text. Nothing remains.
    pub fn create(self) -> Result<(Container, Process)> {
        self.make(Start::OnFifo).map(|(container, child, _)| (container, Process(child)))
    }

    /// Makes the container and starts its program.
    ///
    /// # Errors
    /// Those of `create` and of `Container::start`. Nothing remains.
    pub fn run(self) -> Result<(Container, Process)> {
        let pid_file = self.settings.pid_file.clone();
        let (container, child, poststart) = self.make(Start::AtOnce)?;
        match poststart.run(&container) {
            Ok(()) => Ok((container, Process(child))),
            Err(error) => {
                if let Some(path) = pid_file {
                    pidfile::remove_own(&path, child.pid);
                }
                Err(cgroup::undone(error, remove_own(container, Leftovers::All).map(drop)))
            }
        }
    }

    /// Makes the container, and runs the hooks as soon as its program has begun.
    fn make(self, start: Start) -> Result<(Container, Child, PoststartHooks)> {
        let Create { root, bundle, mut flags, mut settings, creator } = self;
        check_id(&flags.id)?;
        flags.start = start;
        let terminal = settings.set_flags(bundle.config.spec.process().as_ref(), &mut flags)?;
        let mut plan = bundle.plan(&flags)?;
        plan.warnings.extend(bundle.warnings_of_create());
        let plan = Explanation(plan);
        settings.observer.planned(&plan)?;
        let pid_file = settings.pid_file()?;
        let new = NewContainer {
            root,
            text: &bundle.text,
            config: &bundle.config,
            flags: &flags,
            plan: &plan.0,
            pid_file: pid_file.as_deref(),
            creator,
        };
        let creation = Creation {
            new,
            terminal,
            streams: settings.streams,
            times: settings.times,
            protected: settings.protection.carry_out()?,
        };
        let made = creation.make().context(NOT_STARTED)?;
        let accepted = settings.observer.ready(&plan, &made.ready);
        let (made, ()) = made.or_undo(accepted)?;
        let poststart = if start == Start::AtOnce {
            PoststartHooks::prepare(&made.container)
        } else {
            Ok(PoststartHooks::default())
        };
        // ORDER: before the program begins.
        let (made, poststart) = made.or_undo(poststart)?;
        MadeContainer::continue_init(made).map(|(container, child)| (container, child, poststart))
    }
}
