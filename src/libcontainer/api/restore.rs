//! A container out of images.

use std::path::PathBuf;

use super::bundle::{Bundle, absolute};
use super::exec::Process;
use crate::container::{Container, Root, check_id};
use crate::error::Result;
use crate::launch::images::{Allow, CgroupMode, Imaging, NetworkLock};
use crate::launch::restore::Restore;
use crate::plan::{CgroupUse, Flags, Keyring, Start, Terminal};

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
}

impl Root {
    /// A container of that id, made from `bundle` and the images in `directory`.
    pub fn restore<'a>(&'a self, id: &str, bundle: &'a Bundle, directory: impl Into<PathBuf>) -> RestoreFrom<'a> {
        let flags = Flags { terminal: Terminal::None, start: Start::AtOnce, ..bundle.flags(id) };
        RestoreFrom { root: self, bundle, flags, imaging: Imaging::new(directory), pid_file: None }
    }
}

impl RestoreFrom<'_> {
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
        check_id(&self.flags.id)?;
        let plan = self.bundle.plan(&self.flags)?;
        let mut imaging = self.imaging;
        imaging.directory = absolute(&imaging.directory)?;
        imaging.work = imaging.work.take().map(|work| absolute(&work)).transpose()?;
        let restored = Restore {
            root: self.root,
            text: &self.bundle.text,
            config: &self.bundle.config,
            flags: &self.flags,
            plan: &plan,
            imaging,
            terminal: None,
            pid_file: self.pid_file.as_deref().map(absolute).transpose()?,
            lsm_profile: None,
            lsm_mount_context: None,
        };
        let (container, child) = restored.make()?.parts();
        Ok((container, Process(child)))
    }
}
