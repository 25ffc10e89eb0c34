//! `checkpoint`: CRIU writes the processes of a container to images.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::pipe::PipeFlags;

use super::container_root::{ContainerRoot, Missed, Symlinks};
use super::delete::{Leftovers, destroy};
use super::foreign_mounts;
use super::host_streams;
use super::images::{
    Allow, DESCRIPTORS, Directories, FILE, Images, NULL, config_file, must_be_outside, must_not_be_restricted, options,
};
use super::kept_label;
use crate::container::Container;
use crate::criu::{
    Criu, CriuFeature, CriuMessage, CriuReq, CriuReqType, CriuStreams, ExternalMount, Options, PageServer, Setup, Thaw,
};
use crate::error::{Context, Error, Kind, Result, bail, error};
use crate::host::Namespace;
use crate::plan::Plan;
use crate::plan::images::{HostBind, Named};
use crate::plan::step::Last;
use crate::status::Status;
use crate::sys::errno::in_words;
use crate::sys::handed::Handed;
use crate::sys::process_stat::ProcessStat;

/// CRIU's log of a dump.
const LOG: &str = "dump.log";

/// PIPE_MAX_SIZE of CRIU's page-pipe.h: the pages whose `struct pipe_buffer`s fit into 8 pages.
const LAZY_PIPE: usize = 8 * 4096 / 40 * 4096;

/// What happens to a container after its checkpoint.
///
/// ```no_run
/// use libcontainer::{Afterwards, Images, Root};
///
/// // First most of the memory, while the container runs; then the rest.
/// let root = Root::open("/run/coracle")?;
/// root.load("box")?.checkpoint(Images::new("/images/1")).afterwards(Afterwards::PreDumped).make()?;
/// root.load("box")?.checkpoint(Images::new("/images/2")).parent("../1").make()?;
/// # Ok::<(), libcontainer::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Afterwards {
    /// Its processes end, and it is deleted.
    #[default]
    Deleted,
    /// Its processes run again.
    Running,
    /// Its processes continue. CRIU writes only its memory (a pre-dump). A later checkpoint names these images as its parent.
    PreDumped,
}

/// A checkpoint.
#[derive(Debug)]
pub struct Checkpoint {
    /// The directory of the images, and CRIU's options.
    pub images: Images,
    /// The directory of an earlier pre-dump, relative to the directory of the images.
    pub parent: Option<PathBuf>,
    /// What happens to the container after the dump.
    pub afterwards: Afterwards,
    /// Address and port of the page server that receives the memory.
    pub page_server: Option<(String, u16)>,
    /// A descriptor to which CRIU writes one byte of 0 when the memory can be fetched.
    pub status: Option<OwnedFd>,
}

impl Checkpoint {
    /// Writes the images of `container`. `plan` is the container's plan. Returns the warnings of its deletion.
    ///
    /// # Errors
    /// CRIU's failure. The container then runs again.
    pub fn make(mut self, mut container: Container, plan: &Plan) -> Result<Vec<Error>> {
        let lock = container.lock()?;
        match container.status()? {
            status @ (Status::Created | Status::Stopped) => {
                bail!(Kind::State(status) => "container cannot be checkpointed in {status} state");
            }
            Status::Running | Status::Paused => {}
        }
        must_be_outside(&self.images, container.record())?;
        must_not_be_restricted(&container.record().annotations())?;
        if let Some(fault) = plan.not_restorable() {
            bail!("{fault}: the container cannot be checkpointed");
        }
        must_have_own_mounts(&container)?;
        let directories = Directories::make(&self.images, LOG)?;
        self.must_have_a_parent()?;
        let paused = container.status()? == Status::Paused;
        let mut criu = Criu::begin(Setup {
            program: self.images.criu_program(),
            streams: CriuStreams::None,
            handed: Handed::default(),
            environment: container.environment(),
            thaw: (!paused).then(|| thaw_later(&container)).transpose()?.flatten(),
        })?;
        let request = self.request(&container, plan, &directories, &mut criu)?;
        let pid = container.record().init_process_pid;
        let done = criu.send_request(&request).and_then(|()| self.until_done(pid, &mut criu, &directories));
        let guardian = criu.finish();
        if let Err(error) = done {
            // CRIU lets the processes run again, unless it was killed.
            if !paused && container.cgroup().is_frozen().unwrap_or(false) {
                container.cgroup().thaw().with_context(|| error.to_string())?;
            }
            return Err(error);
        }
        drop(guardian);
        if self.afterwards == Afterwards::Deleted {
            return destroy(container, &lock, Leftovers::All);
        }
        Ok(Vec::new())
    }

    fn until_done(&mut self, pid: i32, criu: &mut Criu, directories: &Directories) -> Result<()> {
        let step = if self.afterwards == Afterwards::PreDumped { "pre-dump" } else { "dump" };
        loop {
            match criu.next().map_err(|error| with_log(directories, step, error))? {
                CriuMessage::Done => return Ok(()),
                CriuMessage::Failed(said) => return Err(directories.failed(step, &said)),
                CriuMessage::Notice(notice) => {
                    // ORDER: CRIU ends the processes after this point.
                    if notice.script == "post-dump"
                        && let Err(error) = kept_label::must_be_in(&self.images.directory, pid)
                    {
                        // The processes run again. The answer has no new information.
                        let _ = criu.refuse();
                        let _ = criu.next();
                        return Err(error);
                    }
                    if notice.script == "status-ready" {
                        criu.waits_for_client();
                        if let Some(status) = self.status.take() {
                            // A process that waits for the container's end gets it, too.
                            rustix::io::write(&status, &[0]).context("Dump::status")?;
                        }
                    }
                    criu.confirm()?;
                }
            }
        }
    }

    fn must_have_a_parent(&self) -> Result<()> {
        let Some(parent) = &self.parent else { return Ok(()) };
        if parent.components().next() == Some(Component::RootDir) {
            bail!("Dump::parent must be a path relative to Images::new");
        }
        let whole = self.images.directory.join(parent);
        let there = fs::metadata(&whole).with_context(|| format!("invalid Dump::parent: {}", whole.display()))?;
        if !there.is_dir() {
            bail!("invalid Dump::parent: {}: not a directory", whole.display());
        }
        Ok(())
    }

    fn request(
        &self,
        container: &Container,
        plan: &Plan,
        directories: &Directories,
        criu: &mut Criu,
    ) -> Result<CriuReq> {
        let record = container.record();
        let version = criu.version();
        let pre_dump = self.afterwards == Afterwards::PreDumped;
        if (pre_dump || self.parent.is_some()) && !criu.tracks_memory()? {
            let why = "this kernel does not track which memory is written (CONFIG_MEM_SOFT_DIRTY)";
            bail!("Afterwards::PreDumped and Dump::parent: {why}");
        }
        if self.images.allows(Allow::LazyPages) {
            if !criu.fetches_lazily()? {
                bail!("Allow::LazyPages: criu and this kernel cannot fetch memory when it is used (userfaultfd(2))");
            }
            must_have_large_pipes()?;
        }
        if self.status.is_some() {
            version.must_have(CriuFeature::StatusFd)?;
        }
        if self.images.network_lock.is_some() {
            version.must_have(CriuFeature::NetworkLock)?;
        }
        let annotations = record.annotations();
        let mut requested = Options {
            pid: Some(record.init_process_pid),
            root: Some(record.config.rootfs.to_string_lossy().into_owned()),
            leave_running: Some(self.afterwards == Afterwards::Running),
            tcp_skip_in_flight: Some(self.images.allows(Allow::TcpSkipInFlight)),
            link_remap: Some(self.images.allows(Allow::LinkRemap)),
            parent_img: self.parent.as_ref().map(|path| path.to_string_lossy().into_owned()),
            track_mem: (pre_dump || self.parent.is_some()).then_some(true),
            ps: self
                .page_server
                .clone()
                .map(|(address, port)| PageServer { address: Some(address), port: Some(i32::from(port)) }),
            freeze_cgroup: freezer(container)
                .filter(|(key, _)| !key.is_empty() || version.must_have(CriuFeature::UnifiedFreezer).is_ok())
                .map(|(_, path)| path),
            config_file: config_file(&annotations),
            ..options(&self.images, directories)
        };
        for joined in plan.joined_namespaces() {
            let Some(key) = joined.key() else { continue };
            version.must_have(if joined.name == "net" {
                CriuFeature::NetworkNamespace
            } else {
                CriuFeature::PidNamespace
            })?;
            let namespace = Namespace::of(record.init_process_pid, joined.name);
            let inode = namespace.with_context(|| format!("look at the container's {} namespace", joined.name))?.inode;
            requested.external.push(format!("{}[{inode}]:{key}", joined.name));
        }
        if !pre_dump {
            let descriptors = host_streams::criu_names(container)?;
            keep_descriptors(&descriptors, &self.images.directory)?;
            let names = descriptors.iter().map(|name| name.strip_prefix(NULL).unwrap_or(name));
            requested.external.extend(names.filter(|name| name.starts_with(FILE)).map(str::to_owned));
            requested.ext_mnt = external_mounts(record.init_process_pid, &plan.host_binds())?;
            let more = foreign_mounts::record(record.init_process_pid, &requested.ext_mnt, &self.images.directory)?;
            requested.ext_mnt.extend(more);
        }
        let what = if pre_dump { CriuReqType::PreDump } else { CriuReqType::Dump };
        Ok(CriuReq { r#type: what.into(), opts: Some(requested), ..CriuReq::default() })
    }
}

/// Checks that a pipe can have this size: CRIU sends memory through it. CRIU itself notices an error only when the first page is
/// fetched.
fn must_have_large_pipes() -> Result<()> {
    let (pipe, _other_end) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).context("pipe")?;
    rustix::pipe::fcntl_setpipe_size(&pipe, LAZY_PIPE).map(drop).map_err(|errno| {
        let needed = "criu needs pipes of 4 MiB: raise fs.pipe-max-size, or run with CAP_SYS_RESOURCE";
        error!("Allow::LazyPages: F_SETPIPE_SZ: {errno}: {needed}", errno = in_words(&errno))
    })
}

/// The container must have a mount namespace of its own: CRIU assumes that the container's root is its first mount.
fn must_have_own_mounts(container: &Container) -> Result<()> {
    let pid = container.record().init_process_pid;
    let theirs = Namespace::of(pid, "mnt").context("look at the container's mount namespace")?;
    if theirs == Namespace::ours("mnt").context("look at our mount namespace")? {
        bail!("linux.namespaces: a container without a mount namespace of its own cannot be checkpointed");
    }
    container.must_own("mnt", theirs, pid)
}

/// A value that thaws the container later. None if the container has no freezer.
fn thaw_later(container: &Container) -> Result<Option<Thaw>> {
    let found = container.cgroup().thaw_file()?;
    Ok(found.map(|(file, word)| Thaw { file: file.into(), word }))
}

/// The error for a CRIU that has ended without an answer, with the reason from its log, if there is one.
fn with_log(directories: &Directories, step: &str, error: Error) -> Error {
    if matches!(error.kind(), Kind::Interrupted(_)) { error } else { directories.failed(step, &error.to_string()) }
}

/// The cgroup that CRIU uses to freeze the processes, and the key of this cgroup in the record. Without one, CRIU stops each process
/// by ptrace(2).
fn freezer(container: &Container) -> Option<(String, String)> {
    let paths = &container.record().cgroup_paths;
    let (key, path) = paths.get_key_value("freezer").or_else(|| paths.get_key_value(""))?;
    let file = if key.is_empty() { "cgroup.freeze" } else { "freezer.state" };
    // KERNEL: a process that was stopped (SIGSTOP, ^Z) and is frozen by version 1 does not answer ptrace(2): CRIU would wait without end.
    (path.join(file).exists() && (key.is_empty() || !has_stopped(container)))
        .then(|| (key.clone(), path.to_string_lossy().into_owned()))
}

/// Whether a signal has stopped a process of the container. In a frozen container this is not seen.
fn has_stopped(container: &Container) -> bool {
    let is_stopped = |pid: &i32| {
        let stat = ProcessStat::read(Path::new(&format!("/proc/{pid}/stat")));
        stat.is_ok_and(|stat| stat.field(3) == Some("T"))
    };
    container.cgroup().all_processes().is_ok_and(|pids| pids.iter().any(is_stopped))
}

/// The path in the container and the name of each of these mounts.
fn external_mounts(pid: i32, binds: &[HostBind]) -> Result<Vec<ExternalMount>> {
    let root = ContainerRoot::of(pid)?;
    let (mut all, mut seen) = (Vec::new(), HashSet::new());
    for mount in binds {
        let Some((path, is_directory)) = path_of(&root, mount)? else { continue };
        // A directory is masked by a file system of the container itself.
        if mount.named == Named::Null && is_directory || !seen.insert(path.clone()) {
            continue;
        }
        all.push(ExternalMount { val: mount.name(&path), key: path });
    }
    Ok(all)
}

/// The path of a mount in the container, after all links are followed, and whether it is a directory. None if it does
/// not exist.
pub(super) fn path_of(root: &ContainerRoot, mount: &HostBind) -> Result<Option<(String, bool)>> {
    let links = if mount.last == Last::Itself { Symlinks::LastItself } else { Symlinks::Followed };
    let found = match root.find(Path::new(OsStr::from_bytes(mount.path.to_bytes())), links) {
        Ok(found) => found,
        Err(missed @ Missed::Foreign(_)) => bail!("{}: {missed}", mount.written_path()),
        Err(Missed::Errno(_)) => return Ok(None),
    };
    let path = |fd: &OwnedFd| fs::read_link(Path::new("/proc/self/fd").join(fd.as_raw_fd().to_string()));
    let whole = path(&found.file).with_context(|| mount.written_path())?;
    let top = path(root.directory())?;
    let below = whole.strip_prefix(&top).unwrap_or(&whole);
    Ok(Some((format!("/{}", below.to_string_lossy().trim_start_matches('/')), found.kind.is_dir())))
}

/// Records the files of the first three descriptors, so that a restore replaces them with the caller's.
fn keep_descriptors(all: &[String], directory: &Path) -> Result<()> {
    let path = directory.join(DESCRIPTORS);
    fs::write(&path, serde_json::to_vec(all)?).with_context(|| format!("write {}", path.display()))?;
    Ok(fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?)
}
