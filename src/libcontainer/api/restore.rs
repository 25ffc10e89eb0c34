//! A container from images.

use super::bundle::Bundle;
use super::process::Process;
use super::progress::Explanation;
use super::settings::{Settings, settings_of_a_container, settings_of_all};
use crate::cgroup;
use crate::container::{Container, Root, check_id};
use crate::error::{Context, Result};
use crate::launch::create::{Creator, NewContainer};
use crate::launch::delete::{Leftovers, remove_own};
use crate::launch::images::Images;
use crate::launch::pidfile;
use crate::launch::restore::Restore;
use crate::plan::{Flags, Start, Terminal};

/// Settings of a container that CRIU (criu(8)) restores. Its new standard streams replace the pipes and host files that
/// the container had. CRIU restores the other descriptors.
///
/// ```no_run
/// use libcontainer::{Bundle, Images, Root};
///
/// # fn main() -> libcontainer::Result<()> {
/// let root = Root::open("/run/coracle")?;
/// let bundle = Bundle::read("/bundles/box")?;
/// let (container, process) = root.restore("box", &bundle, Images::new("/images/box")).restore()?;
/// println!("{} goes on as {}", container.state()?.id, process.pid());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use]
pub struct RestoreFrom<'a> {
    root: &'a Root,
    bundle: &'a Bundle,
    flags: Flags,
    images: Images,
    settings: Settings<'a>,
    lsm_profile: Option<String>,
    lsm_mount_context: Option<String>,
    creator: Creator,
}

impl Root {
    /// A container with this id, made from `bundle` and the images of a checkpoint.
    pub fn restore<'a>(&'a self, id: &str, bundle: &'a Bundle, images: Images) -> RestoreFrom<'a> {
        let flags = Flags { terminal: Terminal::None, start: Start::AtOnce, ..bundle.flags(id) };
        RestoreFrom {
            root: self,
            bundle,
            flags,
            images,
            settings: Settings::default(),
            lsm_profile: None,
            lsm_mount_context: None,
            creator: Creator::default(),
        }
    }
}

impl<'a> RestoreFrom<'a> {
    settings_of_all!();
    settings_of_a_container!();

    /// The label of its processes, instead of the old one: `apparmor:NAME` or `selinux:LABEL`.
    pub fn lsm_profile(mut self, profile: Option<String>) -> Self {
        self.lsm_profile = profile;
        self
    }

    /// The SELinux label of its mounts, instead of the old one.
    pub fn lsm_mount_context(mut self, label: Option<String>) -> Self {
        self.lsm_mount_context = label;
        self
    }

    /// Restores it. Its program runs again.
    ///
    /// # Errors
    /// All mistakes of the config, or the failed step. Nothing remains.
    pub fn restore(self) -> Result<(Container, Process)> {
        let RestoreFrom { mut flags, mut settings, .. } = self;
        check_id(&flags.id)?;
        let terminal = settings.set_flags(self.bundle.config.spec.process().as_ref(), &mut flags)?;
        let plan = Explanation(self.bundle.plan(&flags)?);
        settings.observer.planned(&plan)?;
        let pid_file = settings.pid_file()?;
        let new = NewContainer {
            root: self.root,
            text: &self.bundle.text,
            config: &self.bundle.config,
            flags: &flags,
            plan: &plan.0,
            pid_file: pid_file.as_deref(),
            creator: self.creator,
        };
        let restored = Restore {
            new,
            images: self.images.absolute()?,
            terminal,
            streams: settings.streams.standard,
            lsm_profile: self.lsm_profile,
            lsm_mount_context: self.lsm_mount_context,
        };
        let restored = restored.make().context("restore")?;
        let accepted = settings.observer.warn(&restored.warnings);
        let (container, child) = restored.into_parts();
        match accepted {
            Ok(()) => Ok((container, Process(child))),
            Err(error) => {
                if let Some(path) = &settings.pid_file {
                    pidfile::remove_own(path, child.pid);
                }
                Err(cgroup::undone(error, remove_own(container, Leftovers::All).map(drop)))
            }
        }
    }
}
