//! A container out of images.

use std::path::PathBuf;

use super::bundle::{Bundle, absolute};
use super::process::Process;
use super::progress::{Explanation, Observer, Progress};
use super::streams::Console;
use crate::container::{Container, Root, check_id};
use crate::error::{Context, Result};
use crate::launch::create::Creator;
use crate::launch::images::{Allow, CgroupMode, Imaging, NetworkLock};
use crate::launch::restore::Restore;
use crate::plan::{CgroupUse, Flags, Keyring, Rootless, Start, Terminal};

/// Settings of a container that is restored by CRIU (criu(8)). Our standard streams take the place of the pipes that the
/// container had.
///
/// ```no_run
/// use libcontainer::{Bundle, Root};
///
/// # fn main() -> libcontainer::Result<()> {
/// let root = Root::open("/run/coracle")?;
/// let bundle = Bundle::read("/bundles/box")?;
/// let (container, process) = root.restore("box", &bundle, "/images/box").restore()?;
/// println!("{} goes on as {}", container.record().id, process.pid());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use]
pub struct RestoreFrom<'a> {
    root: &'a Root,
    bundle: &'a Bundle,
    flags: Flags,
    imaging: Imaging,
    pid_file: Option<PathBuf>,
    console: Option<Console>,
    lsm_profile: Option<String>,
    lsm_mount_context: Option<String>,
    observer: Observer<'a>,
    creator: Creator,
}

impl Root {
    /// A container of that id, made from `bundle` and the images in `directory`.
    pub fn restore<'a>(&'a self, id: &str, bundle: &'a Bundle, directory: impl Into<PathBuf>) -> RestoreFrom<'a> {
        let flags = Flags { terminal: Terminal::None, start: Start::AtOnce, ..bundle.flags(id) };
        RestoreFrom {
            root: self,
            bundle,
            flags,
            imaging: Imaging::new(directory),
            pid_file: None,
            console: None,
            lsm_profile: None,
            lsm_mount_context: None,
            observer: Observer::default(),
            creator: Creator::default(),
        }
    }
}

impl<'a> RestoreFrom<'a> {
    /// Who gets the master of its terminal, where `process.terminal` is true.
    pub fn console(mut self, console: Console) -> Self {
        self.console = Some(console);
        self
    }

    /// Whether a cgroup that we may not make is an error.
    pub fn rootless(mut self, rootless: Rootless) -> Self {
        self.flags.rootless = rootless;
        self
    }

    /// The label of its processes in place of the old one: `apparmor:NAME` or `selinux:LABEL`.
    pub fn lsm_profile(mut self, profile: Option<String>) -> Self {
        self.lsm_profile = profile;
        self
    }

    /// The SELinux label of its mounts in place of the old one.
    pub fn lsm_mount_context(mut self, label: Option<String>) -> Self {
        self.lsm_mount_context = label;
        self
    }

    /// Calls `callback` with warnings and with the plan. An error that it returns is the error of the whole.
    pub fn on_progress(mut self, callback: impl FnMut(Progress<'_>) -> Result<()> + 'a) -> Self {
        self.observer = Observer::new(callback);
        self
    }

    /// What becomes of the caller when somebody deletes the container by force while it is made.
    #[doc(hidden)]
    pub fn creator(mut self, creator: Creator) -> Self {
        self.creator = creator;
        self
    }

    /// All that is said of the images.
    #[doc(hidden)]
    pub fn imaging(mut self, imaging: Imaging) -> Self {
        self.imaging = imaging;
        self
    }

    /// Where CRIU's log goes, and what it keeps beside it; without this, to the images.
    pub fn work(mut self, directory: impl Into<PathBuf>) -> Self {
        self.imaging.work = Some(directory.into());
        self
    }

    /// The program; without this, `criu` in PATH.
    pub fn criu(mut self, program: impl Into<PathBuf>) -> Self {
        self.imaging.criu = Some(program.into());
        self
    }

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

    /// Its session keyring; without this, one that nobody else can name.
    pub fn keyring(mut self, keyring: Keyring) -> Self {
        self.flags.keyring = keyring;
        self
    }

    /// What CRIU does beyond what it always does.
    pub fn allow(mut self, what: Allow) -> Self {
        self.imaging.allowed.push(what);
        self
    }

    /// What becomes of cgroups.
    pub fn cgroups(mut self, mode: CgroupMode) -> Self {
        self.imaging.cgroups = mode;
        self
    }

    /// How packets of open connections are held back.
    pub fn network_lock(mut self, lock: NetworkLock) -> Self {
        self.imaging.network_lock = Some(lock);
        self
    }

    /// Restores it. Its program goes on.
    ///
    /// # Errors
    /// All mistakes of the config, or what failed; nothing stays behind.
    pub fn restore(self) -> Result<(Container, Process)> {
        let RestoreFrom { mut flags, mut observer, .. } = self;
        check_id(&flags.id)?;
        if self.console.is_some() {
            flags.terminal = Terminal::Sent;
        }
        let plan = Explanation(self.bundle.plan(&flags)?);
        observer.planned(&plan)?;
        let mut imaging = self.imaging;
        imaging.directory = absolute(&imaging.directory)?;
        imaging.work = imaging.work.take().map(|work| absolute(&work)).transpose()?;
        let restored = Restore {
            root: self.root,
            text: &self.bundle.text,
            config: &self.bundle.config,
            flags: &flags,
            plan: &plan.0,
            imaging,
            terminal: self.console.map(Console::socket),
            pid_file: self.pid_file.as_deref().map(absolute).transpose()?,
            lsm_profile: self.lsm_profile,
            lsm_mount_context: self.lsm_mount_context,
            creator: self.creator,
        };
        let restored = restored.make().context("restore")?;
        observer.warn(&restored.warnings)?;
        let (container, child) = restored.parts();
        Ok((container, Process(child)))
    }
}
