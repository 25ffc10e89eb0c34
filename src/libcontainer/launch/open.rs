//! Opens everything by descriptor before anything is made. A missing file is reported here, with its place. Init gets
//! the files that were found here, even if their paths change later.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, MemfdFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::OpenTreeFlags;
use rustix::process::{Pid, PidfdFlags};

use super::net_devices::MovedDevices;
use super::nofile::MoreDescriptors;
use super::sources::{self, BindSource};
use super::streams::{Streams, raise};
use super::{filter_cache, host_namespaces, net_devices, user_namespace};
use crate::config::{At, Warning};
use crate::container::{EXEC_ANSWER, EXEC_FIFO, MountedFile};
use crate::error::{Context, Error, Result, bail, error};
use crate::host::{Environment, Namespace};
use crate::init::Late;
use crate::plan::resctrl::ResctrlGroup;
use crate::plan::ruleset::Ruleset;
use crate::plan::step::Slot;
use crate::plan::{Opening, Plan};
use crate::sys::errno::{said_with, words};
use crate::sys::host_proc::HostProc;
use crate::sys::host_proc::is_proc_root;
use crate::sys::mount::Reach;
use crate::sys::page::{FirstChildPage, Page};
use crate::sys::seccomp::Program;

const NULL: &str = "/dev/null";

/// Everything that init needs, open. To undo it, the descriptors are closed.
#[derive(Debug)]
pub struct Opened {
    /// The host's /proc. Every write that has an effect goes through it.
    pub(super) proc: HostProc,
    /// The descriptors by slot. The tree of a cgroup is opened after the cgroup was made.
    pub(super) fds: Vec<Option<OwnedFd>>,
    /// Our RLIMIT_NOFILE is raised, if the plan needs more descriptors.
    pub(super) _more: Option<MoreDescriptors>,
    /// The first descriptors of the process.
    pub(super) streams: Streams,
    /// Sources of bind mounts that init opens at its step.
    pub(super) late: Vec<Late>,
    /// The compiled seccomp filter.
    pub(super) filter: Option<Program>,
    pub(super) page: Page,
    pub(super) first_child: FirstChildPage,
    /// The file in which init records its mounts on the host, for a container without a mount namespace.
    pub(super) mounted: Option<MountedFile>,
    /// Groups in resctrl that init enters as soon as it exists.
    pub(super) resctrl_groups: Vec<PathBuf>,
    /// Network devices in the container's namespace.
    pub(super) moved: Option<MovedDevices>,
    /// Optional requests that are impossible.
    pub(super) warnings: Vec<Warning>,
}

/// Whether the time of each step is measured.
///
/// ```no_run
/// # fn main() -> libcontainer::Result<()> {
/// use libcontainer::{Bundle, Progress, Root, Times};
///
/// let (root, bundle) = (Root::open("/run/coracle")?, Bundle::read("/bundles/box")?);
/// let print = |progress: Progress<'_>| {
///     if let Progress::Ready(ready) = progress {
///         ready.times().iter().for_each(|(line, time)| println!("{time} {}", line.act));
///     }
///     Ok(())
/// };
/// root.create("box", &bundle).keep_times(Times::Kept).on_progress(print).create()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Times {
    /// It is measured. `Ready::times` returns the times.
    Kept,
    /// It is not measured. `Ready::times` is empty.
    #[default]
    NotKept,
}

/// Opens the files of `plan`. `state` is the container's directory. `root` is the directory above it, with the cache of
/// compiled filters. `terminal` is the socket that receives the master of a terminal.
///
/// # Errors
/// The file that could not be opened, with the property that names it.
pub fn open_all(
    plan: &Plan,
    root: &Path,
    state: &Path,
    mut terminal: Option<OwnedFd>,
    environment: &Environment,
) -> Result<Opened> {
    let proc = HostProc::open().map_err(|errno| match errno {
        Errno::NODEV => error!("/proc: is not a proc file system"),
        errno => Error::from(errno).context("open /proc"),
    })?;
    let _more = MoreDescriptors::raise_limit(plan);
    let (mut fds, mut late) = (Vec::with_capacity(plan.openings.len()), Vec::new());
    let container = sources::root_of(plan);
    for (opening, at) in &plan.openings {
        fds.push(match opening {
            Opening::CgroupTree(..) => None,
            Opening::Found(inner) if matches!(**inner, Opening::CgroupTree(..)) => None,
            Opening::Terminal => {
                Some(terminal.take().ok_or_else(|| error!("{at}: a terminal needs a console socket"))?)
            }
            Opening::IdMaps(maps) => Some(user_namespace::with_maps(&proc, maps, at, environment)?),
            other => match BindSource::from_opening(other) {
                Some(source) => {
                    let opened = source.open(Slot(fds.len()), container.as_deref(), &mut late);
                    Some(opened.map_err(|errno| failed_to_open(at, source.path, errno))?)
                }
                None => Some(open_apart(other, at, state, container.as_deref())?),
            },
        });
    }
    if let Some(Slot(root)) = plan.root {
        must_be_a_directory(&fds[root], &plan.openings[root])?;
    }
    net_devices::must_be_there(plan)?;
    pids_belong_to_users(plan, &fds)?;
    host_namespaces::must_not_be_written(plan, &fds)?;
    let filter = match &plan.filter {
        Some(filter) => {
            let program = Program::from_bytes(&filter_cache::compiled(filter, root)?);
            Some(program.context("linux.seccomp")?)
        }
        None => None,
    };
    let page = Page::new().context("mmap")?;
    let first_child = FirstChildPage::new().context("mmap")?;
    let mounted = plan.root_on_host.as_ref().map(|_| MountedFile::new(state)).transpose()?;
    let resctrl_groups = plan.resctrl.as_ref().map(ResctrlGroup::joined).unwrap_or_default();
    let streams = Streams::default();
    Ok(Opened {
        proc,
        fds,
        _more,
        streams,
        late,
        filter,
        page,
        first_child,
        mounted,
        resctrl_groups,
        moved: None,
        warnings: Vec::new(),
    })
}

impl Opened {
    /// Measures the time of each step, or does not.
    pub fn keep_times(&self, times: Times) {
        if times == Times::Kept {
            self.page.keep_times();
        }
    }

    /// Opens the files that exist only after the cgroup was made.
    ///
    /// # Errors
    /// The property, and the kernel's error.
    pub fn open_cgroups(&mut self, plan: &Plan) -> Result<()> {
        for (fd, (opening, at)) in self.fds.iter_mut().zip(&plan.openings) {
            let (opening, copied) = match opening {
                Opening::Found(inner) => (&**inner, false),
                other => (other, true),
            };
            let Opening::CgroupTree(path, instead) = opening else { continue };
            let open = |path: &Path| if copied { tree(path, Reach::One) } else { open_path(path) };
            let opened = match (open(path), instead) {
                (Err(Errno::NOENT), Some(instead)) => open(instead),
                (opened, _) => opened,
            };
            *fd = Some(opened.map_err(|errno| failed_to_open(at, path, errno))?);
        }
        Ok(())
    }

    /// Sets the first descriptors of the process.
    pub fn set_streams(&mut self, streams: Streams) {
        self.streams = streams;
    }

    /// Moves the descriptors of init above the numbers that the process gets.
    pub(super) fn raise_descriptors(&mut self, socket: &mut OwnedFd) -> Result<()> {
        let Some(first) = self.streams.first_unused() else { return Ok(()) };
        let mut fds = self.fds.iter_mut().flatten().chain([socket]);
        let moved = fds
            .try_for_each(|fd| raise(fd, first))
            .and_then(|()| self.proc.raise(first))
            .and_then(|()| self.mounted.as_mut().map_or(Ok(()), |mounted| mounted.raise(first)))
            .and_then(|()| self.streams.raise(first));
        moved.context("fcntl F_DUPFD_CLOEXEC")
    }

    /// Puts init into these groups in resctrl, which are those of an existing container.
    pub fn join_resctrl_groups(&mut self, groups: Vec<PathBuf>) {
        self.resctrl_groups = groups;
    }

    pub(super) fn fd(&self, slot: Slot) -> Result<&OwnedFd> {
        self.fds.get(slot.0).and_then(Option::as_ref).ok_or_else(|| error!("descriptor {slot} is not open"))
    }
}

/// A pid namespace that is joined together with a user namespace must belong to that one, or to one below it. Init is
/// cloned in both with the host's root. A process with CAP_SYS_PTRACE in a user namespace above could trace it
/// (decisions/014).
fn pids_belong_to_users(plan: &Plan, fds: &[Option<OwnedFd>]) -> Result<()> {
    let joined = |wanted: u64| {
        let is = |opening: &Opening| matches!(opening, Opening::Namespace(_, kind) if *kind == wanted);
        let mut all = plan.openings.iter().zip(fds);
        all.find_map(|((opening, at), fd)| Some((fd.as_ref().filter(|_| is(opening))?, at)))
    };
    let (Some((pids, at)), Some((users, _))) = (joined(libc::CLONE_NEWPID as u64), joined(libc::CLONE_NEWUSER as u64))
    else {
        return Ok(());
    };
    let users = Namespace::of_file(users).with_context(|| format!("{at}: fstat"))?;
    // We may not read its owner. Then the kernel refuses to join the pid namespace, too.
    let Ok(mut owner) = crate::sys::namespace::owner_of_namespace(pids.as_fd()) else { return Ok(()) };
    while Namespace::of_file(&owner) != Ok(users) {
        match crate::sys::namespace::parent_of_namespace(owner.as_fd()) {
            Ok(above) => owner = above,
            Err(_) => bail!(
                "{at}: the pid namespace does not belong to the user namespace that is joined: join the one that owns it"
            ),
        }
    }
    Ok(())
}

/// The only possible error is its label.
fn empty_tmpfs(label: Option<&CStr>, at: &At) -> Result<OwnedFd> {
    crate::sys::mount::empty_tmpfs(label).map_err(|errno| match label {
        Some(label) => {
            let label = label.to_string_lossy();
            Error::from(errno).context(format!("linux.mountLabel: mount an empty tmpfs labelled {label}"))
        }
        None => Error::from(errno).context(format!("{at}: mount an empty tmpfs")),
    })
}

fn failed_to_open(at: &At, path: &Path, errno: Errno) -> Error {
    Error::from(errno).context(format!("{at}: open {}", path.display()))
}

fn failed_to_bind_device(at: &At, path: &Path, errno: Errno) -> Error {
    error!("{at}: bind the host's {}, where no node can be made: {}", path.display(), why_no_device(errno))
}

fn of_null(at: &At, errno: Errno) -> Error {
    error!("{at}: open the host's /dev/null: {}", why_no_device(errno))
}

fn why_no_device(errno: Errno) -> String {
    if errno == Errno::NODEV { said_with("it is another device", errno) } else { words(errno) }
}

/// Opens it. A source that is a link or a proc file system, and lies in the container's `root`, is
/// opened without following a link of the image.
fn open_apart(opening: &Opening, at: &At, state: &Path, root: Option<&Path>) -> Result<OwnedFd> {
    let Some(path) = sources::link(opening) else { return open(opening, at, state) };
    let directory = sources::directory_of_link(path, root).map_err(|errno| failed_to_open(at, path, errno))?;
    match (directory, path.file_name(), opening) {
        (None, _, _) => open(opening, at, state),
        (Some(directory), Some(name), Opening::LinkTree(_, reach)) => {
            link_tree(directory.as_fd(), name.as_ref(), *reach).map_err(|errno| failed_to_open(at, path, errno))
        }
        _ => bail!("{at}: {} lies in the container's root: not implemented for such a source", path.display()),
    }
}

fn open(opening: &Opening, at: &At, state: &Path) -> Result<OwnedFd> {
    let flags = OFlags::CLOEXEC;
    let simple = |path: &Path, flags| {
        rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|errno| failed_to_open(at, path, errno))
    };
    match opening {
        Opening::Tree(path, reach) => tree(path, *reach).map_err(|errno| failed_to_open(at, path, errno)),
        Opening::LinkTree(path, reach) => link_tree(CWD, path, *reach).map_err(|errno| failed_to_open(at, path, errno)),
        Opening::ProcTree(path) => proc_tree(path, at),
        Opening::Sysfs => {
            tree(Path::new("/sys"), Reach::Tree).map_err(|errno| failed_to_open(at, Path::new("/sys"), errno))
        }
        Opening::Directory(path) => simple(path, flags | OFlags::PATH | OFlags::DIRECTORY),
        Opening::Namespace(path, kind) => {
            let file = simple(path, flags | OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
            match crate::sys::namespace::namespace_kind(file.as_fd()) {
                Ok(there) if there == *kind => {
                    host_namespaces::must_not_be_the_hosts_mounts(&file, *kind, path, at)?;
                    Ok(file)
                }
                Ok(there) => {
                    let (there, wanted) = (crate::plan::step::Namespaces(there), crate::plan::step::Namespaces(*kind));
                    bail!("{at}: {} is a {there} namespace and not a {wanted} namespace", path.display())
                }
                Err(_) => bail!("{at}: {} is not a namespace", path.display()),
            }
        }
        Opening::Process(pid) => {
            let pid = Pid::from_raw(*pid).ok_or_else(|| error!("container not running"))?;
            pidfd_of(pid).context("open the container's init")
        }
        Opening::RootOf(pid) => {
            simple(Path::new(&format!("/proc/{pid}/root")), flags | OFlags::PATH | OFlags::DIRECTORY)
        }
        Opening::Device(path, kind, number) => {
            device(path, *kind, *number).map_err(|errno| failed_to_bind_device(at, path, errno))
        }
        Opening::Null => tree(NULL.as_ref(), Reach::One).and_then(must_be_null).map_err(|errno| of_null(at, errno)),
        Opening::Empty(label) => empty_tmpfs(label.as_deref(), at),
        Opening::FilesOfRuleset => {
            rustix::fs::memfd_create(c"ruleset", MemfdFlags::CLOEXEC).with_context(|| format!("{at}: memfd_create"))
        }
        Opening::HookState(_) | Opening::HookOutput => {
            rustix::fs::memfd_create(c"hook", MemfdFlags::CLOEXEC).with_context(|| format!("{at}: memfd_create"))
        }
        Opening::Landlock(ruleset) => landlock(ruleset).with_context(|| format!("{at}: {opening}")),
        Opening::StartFifo => fifo(&state.join(EXEC_FIFO), at),
        Opening::AnswerFifo => fifo(&state.join(EXEC_ANSWER), at),
        Opening::Found(inner) => open_found(inner, at),
        Opening::Terminal | Opening::CgroupTree(..) | Opening::IdMaps(_) | Opening::Source(..) => {
            bail!("{at}: not opened here")
        }
    }
}

/// A pidfd of a process or, if its first thread has ended, of another of its threads. setns(2) takes the namespaces of a
/// living thread only.
/// KERNEL(6.9): before, such a process cannot be entered.
fn pidfd_of(thread: Pid) -> Result<OwnedFd, Errno> {
    /// PIDFD_THREAD (linux/pidfd.h).
    const THREAD: PidfdFlags = PidfdFlags::from_bits_retain(OFlags::EXCL.bits());
    match rustix::process::pidfd_open(thread, PidfdFlags::empty()) {
        // The number is not that of a first thread. The error depends on the version of the kernel.
        Err(Errno::INVAL | Errno::NOENT) => rustix::process::pidfd_open(thread, THREAD),
        opened => opened,
    }
}

/// A ruleset with the rules that do not depend on the container's root.
fn landlock(ruleset: &Ruleset) -> Result<OwnedFd, Errno> {
    let made = crate::sys::landlock::create(ruleset.fs, ruleset.net, ruleset.scoped)?;
    for (port, access) in &ruleset.ports {
        crate::sys::landlock::allow_port(made.as_fd(), *port, *access)?;
    }
    Ok(made)
}

/// Opens the file that init will copy later, with the same checks as for a copy at this moment.
fn open_found(inner: &Opening, at: &At) -> Result<OwnedFd> {
    let open = |path: &Path| open_path(path).map_err(|errno| failed_to_open(at, path, errno));
    match inner {
        Opening::Tree(path, _) => open(path),
        Opening::LinkTree(path, _) => {
            let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|errno| failed_to_open(at, path, errno))
        }
        Opening::ProcTree(path) => must_be_proc(open(path)?, path, at),
        Opening::Sysfs => open(Path::new("/sys")),
        Opening::Device(path, kind, number) => {
            let node = open_path(path).and_then(|node| must_be_device(node, *kind, *number));
            node.map_err(|errno| failed_to_bind_device(at, path, errno))
        }
        Opening::Null => open_path(NULL.as_ref()).and_then(must_be_null).map_err(|errno| of_null(at, errno)),
        // Init makes its own copy. This one keeps the slot.
        Opening::Empty(_) => open(Path::new("/")),
        other => bail!("{at}: init cannot open {other} again"),
    }
}

/// The file itself.
fn open_path(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
}

/// The mount at a path. A link as its last component is not followed.
fn link_tree(directory: BorrowedFd<'_>, path: &Path, reach: Reach) -> Result<OwnedFd, Errno> {
    rustix::mount::open_tree(directory, path, clone_flags(reach) | OpenTreeFlags::AT_SYMLINK_NOFOLLOW)
}

/// A detached copy of the mount at `path`, with all mounts below it or without.
pub(super) fn tree(path: &Path, reach: Reach) -> Result<OwnedFd, Errno> {
    rustix::mount::open_tree(CWD, path, clone_flags(reach))
}

/// A detached copy of `source`, with all mounts below it or without.
pub(super) fn tree_of(source: &OwnedFd, reach: Reach) -> Result<OwnedFd, Errno> {
    rustix::mount::open_tree(source, c"", clone_flags(reach) | OpenTreeFlags::AT_EMPTY_PATH)
}

/// The flags of open_tree(2) for a detached copy, with the mounts below or without.
fn clone_flags(reach: Reach) -> OpenTreeFlags {
    let below = if reach == Reach::Tree { OpenTreeFlags::AT_RECURSIVE } else { OpenTreeFlags::empty() };
    OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | below
}

/// Only the root of a proc file system may be mounted on the container's /proc (CVE-2019-16884).
fn proc_tree(path: &Path, at: &At) -> Result<OwnedFd> {
    must_be_proc(tree(path, Reach::Tree).map_err(|errno| failed_to_open(at, path, errno))?, path, at)
}

fn must_be_proc(tree: OwnedFd, path: &Path, at: &At) -> Result<OwnedFd> {
    if !is_proc_root(tree.as_fd()).map_err(|errno| failed_to_open(at, path, errno))? {
        bail!("{at}: only a proc file system may be mounted on /proc, and {} is not one", path.display());
    }
    Ok(tree)
}

/// Checks that it is the host's null device, and not another file at its path (CVE-2025-31133).
fn must_be_null(node: OwnedFd) -> Result<OwnedFd, Errno> {
    must_be_device(node, libc::S_IFCHR, rustix::fs::makedev(1, 3))
}

/// The host's node at `path`, if it is the requested device.
fn device(path: &Path, kind: u32, number: u64) -> Result<OwnedFd, Errno> {
    must_be_device(tree(path, Reach::One)?, kind, number)
}

fn must_be_device(node: OwnedFd, kind: u32, number: u64) -> Result<OwnedFd, Errno> {
    let stat = rustix::fs::statat(&node, c"", AtFlags::EMPTY_PATH)?;
    if stat.st_mode & libc::S_IFMT == kind && stat.st_rdev == number { Ok(node) } else { Err(Errno::NODEV) }
}

/// Open for reading and writing, so that no open(2) of either side waits for the other side (fifo(7)).
fn fifo(path: &Path, at: &At) -> Result<OwnedFd> {
    let mode = Mode::RUSR | Mode::WUSR;
    rustix::fs::mknodat(CWD, path, FileType::Fifo, mode, 0)
        .and_then(|()| rustix::fs::openat(CWD, path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()))
        .with_context(|| format!("{at}: mkfifo {}", path.display()))
}

fn must_be_a_directory(root: &Option<OwnedFd>, (opening, at): &(Opening, At)) -> Result<()> {
    let Some(root) = root else { return Ok(()) };
    let stat = rustix::fs::fstat(root).with_context(|| format!("{at}: stat"))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        let path = opening.path().unwrap_or(Path::new(""));
        bail!("{at}: {}: {}", path.display(), words(Errno::NOTDIR));
    }
    Ok(())
}
