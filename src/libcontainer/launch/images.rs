//! What a checkpoint and a restore have in common: the directories of the images and of CRIU's log, and what CRIU is allowed.

use std::fs::{DirBuilder, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::container::Record;
use crate::criu::{self, Options};
use crate::error::{Context, Error, Result, bail, error};

pub use crate::criu::{CgroupMode, NetworkLock};

/// CRIU looks here for more settings; the second is runc's.
const CONFIG_FILES: [&str; 2] = ["/etc/criu/coracle.conf", "/etc/criu/runc.conf"];
/// The annotation that names another file, or with nothing in it, none.
const CONFIG_ANNOTATION: &str = "org.criu.config";
/// Where the container's first three descriptors led, in the directory of the images.
pub(super) const DESCRIPTORS: &str = "descriptors.json";
/// What the name of a file begins with that is given at the restore, as a pipe's with `pipe:`.
pub(super) const FILE: &str = "file[";
/// Stands before such a name if the file is the host's null device: the restore gives that again, and not a stream of ours.
pub(super) const NULL: &str = "null:";
/// What every directory of images has.
pub(super) const INVENTORY: &str = "inventory.img";
/// CRIU's `--verbosity=4`.
const LOG_LEVEL: i32 = 4;

/// What CRIU does only when it is asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allow {
    /// Open connections go on.
    TcpEstablished,
    /// Connections that are not accepted yet are left out.
    TcpSkipInFlight,
    /// Open connections are closed.
    TcpClose,
    /// Deleted files that are still open get a name.
    LinkRemap,
    /// Unix sockets whose other end is outside.
    ExternalUnixSockets,
    /// A terminal, and a session, of the caller's.
    ShellJob,
    /// File locks.
    FileLocks,
    /// Memory that an older image has as well is removed there.
    AutoDedup,
    /// Memory is fetched when it is used first.
    LazyPages,
}

/// Where the images are, and how CRIU is to work.
#[derive(Clone, Debug)]
pub struct Imaging {
    /// Where the images are.
    pub directory: PathBuf,
    /// Where CRIU's log is, and what it keeps beside; None: with the images.
    pub work: Option<PathBuf>,
    /// The program; None: `criu` in PATH.
    pub criu: Option<PathBuf>,
    /// What CRIU does beyond what it always does.
    pub allowed: Vec<Allow>,
    /// What becomes of cgroups.
    pub cgroups: CgroupMode,
    /// How packets of open connections are held back; None: as CRIU does.
    pub network_lock: Option<NetworkLock>,
}

impl Imaging {
    /// Images in `directory`, and nothing special.
    pub fn new(directory: impl Into<PathBuf>) -> Imaging {
        Imaging {
            directory: directory.into(),
            work: None,
            criu: None,
            allowed: Vec::new(),
            cgroups: CgroupMode::Default,
            network_lock: None,
        }
    }

    pub(super) fn allows(&self, what: Allow) -> bool {
        self.allowed.contains(&what)
    }

    pub(super) fn program(&self) -> &Path {
        self.criu.as_deref().unwrap_or(Path::new("criu"))
    }
}

/// The directories, open as long as CRIU works: it finds them as our descriptors.
#[derive(Debug)]
pub(super) struct Directories {
    pub(super) images: File,
    work: Option<File>,
    log: PathBuf,
}

impl Directories {
    /// Makes those that are missing, and opens them. `log` is the name of CRIU's log.
    pub(super) fn make(imaging: &Imaging, log: &str) -> Result<Directories> {
        let make = |path: &Path| {
            let made = DirBuilder::new().mode(0o700).recursive(true).create(path);
            made.with_context(|| format!("mkdir {}", path.display()))
        };
        make(&imaging.directory).context("--image-path")?;
        Directories::open(imaging, log)
    }

    /// Opens the images, and the other directory, which is made where it is missing.
    pub(super) fn open(imaging: &Imaging, log: &str) -> Result<Directories> {
        let open = |path: &Path| {
            let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
            if file.metadata()?.is_dir() { Ok(file) } else { Err(error!("{}: not a directory", path.display())) }
        };
        let images = open(&imaging.directory).context("--image-path")?;
        let work = imaging.work.as_deref().map(|path| {
            DirBuilder::new().mode(0o700).recursive(true).create(path)?;
            open(path)
        });
        let work = work.transpose().context("--work-path")?;
        let log = imaging.work.as_deref().unwrap_or(&imaging.directory).join(log);
        // the errors of an older run are not ours
        let _ = std::fs::remove_file(&log);
        Ok(Directories { images, work, log })
    }

    /// What went wrong, in CRIU's words: those of its log, or else what it has answered.
    pub(super) fn failed(&self, step: &str, answered: &str) -> Error {
        match criu::errors(&self.log) {
            Some(errors) => error!("criu {step}: {errors} ({})", self.log.display()),
            None if answered.is_empty() => error!("criu {step} failed, and says nothing in {}", self.log.display()),
            None => error!("criu {step}: {}", answered.trim()),
        }
    }
}

/// What is asked of every dump and restore.
pub(super) fn options(imaging: &Imaging, directories: &Directories) -> Options {
    let allows = |what| Some(imaging.allows(what));
    let log = directories.log.file_name().map(|name| name.to_string_lossy().into_owned());
    Options {
        images_dir_fd: directories.images.as_raw_fd(),
        work_dir_fd: directories.work.as_ref().map(AsRawFd::as_raw_fd),
        log_file: log,
        log_level: Some(LOG_LEVEL),
        notify_scripts: Some(true),
        orphan_pts_master: Some(true),
        manage_cgroups: Some(true),
        manage_cgroups_mode: Some(imaging.cgroups.into()),
        network_lock: imaging.network_lock.map(Into::into),
        // as with runc, network devices are those of whoever makes the network namespace
        empty_ns: u32::try_from(libc::CLONE_NEWNET).ok(),
        ext_unix_sk: allows(Allow::ExternalUnixSockets),
        tcp_established: allows(Allow::TcpEstablished),
        tcp_close: imaging.allows(Allow::TcpClose).then_some(true),
        shell_job: allows(Allow::ShellJob),
        file_locks: allows(Allow::FileLocks),
        auto_dedup: allows(Allow::AutoDedup),
        lazy_pages: allows(Allow::LazyPages),
        ..Options::default()
    }
}

/// The file that CRIU reads more settings from: what the annotation says, or one of the usual places.
pub(super) fn config_file(annotations: &std::collections::HashMap<String, String>) -> Option<String> {
    match annotations.get(CONFIG_ANNOTATION) {
        Some(file) => Some(file.clone()).filter(|file| !file.is_empty()),
        None => CONFIG_FILES.iter().find(|file| Path::new(file).exists()).map(|file| (*file).to_owned()),
    }
}

/// Images in the container's own root would be part of what they are of.
pub(super) fn must_be_outside(imaging: &Imaging, record: &Record) -> Result<()> {
    let root = &record.config.rootfs;
    let Ok(root) = root.canonicalize() else { return Ok(()) };
    let work = imaging.work.as_deref().map(|path| (path, "--work-path"));
    for (path, flag) in [(imaging.directory.as_path(), "--image-path")].into_iter().chain(work) {
        let there = path.ancestors().find_map(|above| above.canonicalize().ok());
        if there.is_some_and(|there| there.starts_with(&root)) {
            bail!("{flag}: {} is inside the container's root {}", path.display(), root.display());
        }
    }
    Ok(())
}
