//! The common part of checkpoint and restore: the directories of the images and of CRIU's log, and CRIU's options.

use std::collections::HashMap;
use std::fs::{DirBuilder, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::config::At;
use crate::container::Record;
use crate::criu::{self, Options};
use crate::error::{Context, Error, Result, bail, error};
use crate::plan::LANDLOCK;

pub use crate::criu::{CgroupMode, NetworkLock};

/// CRIU reads more settings from these files. The second is runc's.
const CONFIG_FILES: [&str; 2] = ["/etc/criu/coracle.conf", "/etc/criu/runc.conf"];
/// The annotation that names another file. If it is empty, no file is read.
const CONFIG_ANNOTATION: &str = "org.criu.config";
/// The file in the directory of the images with the first three descriptors of the container.
pub(super) const DESCRIPTORS: &str = "descriptors.json";
/// The restore replaces a descriptor with this prefix, as it replaces a pipe (`pipe:`).
pub(super) const FILE: &str = "file[";
/// A descriptor with this prefix is the host's null device. The restore replaces it with the null device, and not with a
/// stream of the caller.
pub(super) const NULL: &str = "null:";
/// CRIU's `--verbosity=4`.
const LOG_LEVEL: i32 = 4;

/// Something that CRIU does only on request.
///
/// ```
/// use libcontainer::{Allow, Images};
///
/// let images = Images::new("/images/box").allow(Allow::TcpEstablished).allow(Allow::FileLocks);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Allow {
    /// Open TCP connections continue.
    TcpEstablished,
    /// A checkpoint leaves out TCP connections that are not accepted yet.
    TcpSkipInFlight,
    /// A restore closes open TCP connections.
    TcpClose,
    /// A checkpoint gives a name to deleted files that are still open.
    LinkRemap,
    /// Unix sockets may have their other end outside of the container.
    ExternalUnixSockets,
    /// The container may have the terminal, or the session, of its caller.
    ShellJob,
    /// File locks are kept.
    FileLocks,
    /// A checkpoint removes pages from an older image that the new image also contains. A restore removes all pages that it has
    /// restored: the images cannot be restored again.
    AutoDedup,
    /// Memory is fetched when it is used first (userfaultfd(2)).
    LazyPages,
}

/// Where the images of a container are, and how CRIU (criu(8)) works with them.
///
/// ```
/// use libcontainer::{Allow, CgroupMode, Images};
///
/// let images = Images::new("/images/box").work("/tmp/log").allow(Allow::TcpEstablished).cgroups(CgroupMode::Soft);
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Images {
    pub(crate) directory: PathBuf,
    pub(crate) work: Option<PathBuf>,
    pub(crate) criu: Option<PathBuf>,
    pub(crate) allowed: Vec<Allow>,
    pub(crate) cgroups: CgroupMode,
    pub(crate) network_lock: Option<NetworkLock>,
}

impl Images {
    /// Images in `directory`. A relative path begins at the current directory.
    pub fn new(directory: impl Into<PathBuf>) -> Images {
        Images {
            directory: directory.into(),
            work: None,
            criu: None,
            allowed: Vec::new(),
            cgroups: CgroupMode::Default,
            network_lock: None,
        }
    }

    /// The directory for CRIU's log and working files. Without this, it is that of the images.
    pub fn work(mut self, directory: impl Into<PathBuf>) -> Self {
        self.work = Some(directory.into());
        self
    }

    /// The program: a path, or a name that is searched in PATH. Without this, it is `criu`.
    pub fn criu(mut self, program: impl Into<PathBuf>) -> Self {
        self.criu = Some(program.into());
        self
    }

    /// Requests something that CRIU does not do by itself.
    pub fn allow(mut self, what: Allow) -> Self {
        self.allowed.push(what);
        self
    }

    /// How CRIU treats cgroups.
    pub fn cgroups(mut self, mode: CgroupMode) -> Self {
        self.cgroups = mode;
        self
    }

    /// How CRIU holds back the packets of open connections; without this, CRIU chooses.
    pub fn network_lock(mut self, lock: NetworkLock) -> Self {
        self.network_lock = Some(lock);
        self
    }

    /// The same, with directories that do not depend on the current one.
    pub(crate) fn absolute(mut self) -> Result<Images> {
        let absolute = |path: &Path| std::path::absolute(path).with_context(|| format!("{}", path.display()));
        self.directory = absolute(&self.directory)?;
        self.work = self.work.as_deref().map(absolute).transpose()?;
        Ok(self)
    }

    pub(super) fn allows(&self, what: Allow) -> bool {
        self.allowed.contains(&what)
    }

    pub(super) fn criu_program(&self) -> &Path {
        self.criu.as_deref().unwrap_or(Path::new("criu"))
    }
}

/// The directories, open while CRIU works: it gets them as descriptors.
#[derive(Debug)]
pub(super) struct Directories {
    pub(super) images: File,
    work: Option<File>,
    log: PathBuf,
}

impl Directories {
    /// Makes the missing directories, and opens them. `log` is the name of CRIU's log.
    pub(super) fn make(images: &Images, log: &str) -> Result<Directories> {
        let make = |path: &Path| {
            let made = DirBuilder::new().mode(0o700).recursive(true).create(path);
            made.with_context(|| format!("mkdir {}", path.display()))
        };
        make(&images.directory).context("Images::new")?;
        Directories::open(images, log)
    }

    /// Opens the directory of the images, and the working directory, which it makes if it is missing.
    pub(super) fn open(images: &Images, log: &str) -> Result<Directories> {
        let open = |path: &Path| {
            let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
            if file.metadata()?.is_dir() { Ok(file) } else { Err(error!("{}: not a directory", path.display())) }
        };
        let opened = open(&images.directory).context("Images::new")?;
        let work = images.work.as_deref().map(|path| {
            DirBuilder::new().mode(0o700).recursive(true).create(path)?;
            open(path)
        });
        let work = work.transpose().context("Images::work")?;
        let log = images.work.as_deref().unwrap_or(&images.directory).join(log);
        // A log of an earlier run is not ours.
        let _ = std::fs::remove_file(&log);
        Ok(Directories { images: opened, work, log })
    }

    /// CRIU reads the images through `images`. Its working directory does not change.
    pub(super) fn read_by_others(&mut self, images: File) {
        let before = std::mem::replace(&mut self.images, images);
        self.work.get_or_insert(before);
    }

    /// The failure in CRIU's words: from its log, or else from its answer.
    pub(super) fn failed(&self, step: &str, answered: &str) -> Error {
        match criu::errors(&self.log) {
            Some(errors) => error!("criu {step}: {errors} ({})", self.log.display()),
            None if answered.is_empty() => error!("criu {step} failed, without an error in {}", self.log.display()),
            None => error!("criu {step}: {}", answered.trim()),
        }
    }
}

/// The options that every dump and restore has.
pub(super) fn options(images: &Images, directories: &Directories) -> Options {
    let allows = |what| Some(images.allows(what));
    let log = directories.log.file_name().map(|name| name.to_string_lossy().into_owned());
    Options {
        images_dir_fd: directories.images.as_raw_fd(),
        work_dir_fd: directories.work.as_ref().map(AsRawFd::as_raw_fd),
        log_file: log,
        log_level: Some(LOG_LEVEL),
        notify_scripts: Some(true),
        orphan_pts_master: Some(true),
        manage_cgroups: Some(true),
        manage_cgroups_mode: Some(images.cgroups.into()),
        network_lock: images.network_lock.map(Into::into),
        // As with runc: the creator of the network namespace restores the network devices.
        empty_ns: u32::try_from(libc::CLONE_NEWNET).ok(),
        ext_unix_sk: allows(Allow::ExternalUnixSockets),
        tcp_established: allows(Allow::TcpEstablished),
        tcp_close: images.allows(Allow::TcpClose).then_some(true),
        shell_job: allows(Allow::ShellJob),
        file_locks: allows(Allow::FileLocks),
        auto_dedup: allows(Allow::AutoDedup),
        lazy_pages: allows(Allow::LazyPages),
        ..Options::default()
    }
}

/// CRIU does not support Landlock. The restored processes could do more than those that were checkpointed.
pub(super) fn must_not_be_restricted(annotations: &HashMap<String, String>) -> Result<()> {
    if annotations.contains_key(LANDLOCK) {
        bail!(
            "{}: CRIU does not restore a Landlock ruleset: the processes would be unrestricted",
            At::annotation(LANDLOCK)
        );
    }
    Ok(())
}

/// The file with more settings for CRIU: from the annotation, or from one of the usual places.
pub(super) fn config_file(annotations: &HashMap<String, String>) -> Option<String> {
    match annotations.get(CONFIG_ANNOTATION) {
        Some(file) => Some(file.clone()).filter(|file| !file.is_empty()),
        None => CONFIG_FILES.iter().find(|file| Path::new(file).exists()).map(|file| (*file).to_owned()),
    }
}

/// Images in the container's own root would contain themselves.
pub(super) fn must_be_outside(images: &Images, record: &Record) -> Result<()> {
    let root = &record.config.rootfs;
    let Ok(root) = root.canonicalize() else { return Ok(()) };
    let work = images.work.as_deref().map(|path| (path, "Images::work"));
    for (path, flag) in [(images.directory.as_path(), "Images::new")].into_iter().chain(work) {
        let there = path.ancestors().find_map(|above| above.canonicalize().ok());
        if there.is_some_and(|there| there.starts_with(&root)) {
            bail!("{flag}: {} is inside the container's root {}", path.display(), root.display());
        }
    }
    Ok(())
}
