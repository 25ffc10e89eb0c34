//! The finished plan: every action, decided. `launch` carries it out.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Hook;

use super::resctrl::ResctrlGroup;
use super::resources::{DeviceAccess, Placement, Write};
use super::ruleset::Ruleset;
use super::seccomp::Filter;
use super::step::{Namespaces, Rlimit, Slot, Step, What};
use crate::config::{At, Warning};
use crate::host::IdMap;
use crate::sys::mount::Reach;
use crate::sys::sched::SchedAttr;

/// Every action, decided.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// How the first child is made.
    pub clone_args: FirstClone,
    /// The descriptors that the runtime process opens before the fork, by slot.
    pub openings: Vec<(Opening, At)>,
    /// The slot of the container's root.
    pub root: Option<Slot>,
    /// The root's path, if the container has no mount namespace and its mounts are mounts of the host.
    pub root_on_host: Option<PathBuf>,
    /// The steps of the bridge. Most containers have none.
    pub bridge: Vec<Step>,
    /// The steps of init.
    pub init: Vec<Step>,
    /// uid_map and gid_map. The runtime writes them when init sends the request.
    pub id_maps: Option<IdMaps>,
    /// The maps that config.json gives for a joined user namespace. The runtime compares them with the real ones.
    pub joined_maps: Option<IdMaps>,
    /// timens_offsets. The runtime writes them when init sends the request.
    pub time_offsets: Vec<TimeOffset>,
    /// Network devices. The runtime moves them when init sends the request.
    pub net_devices: Vec<NetDevice>,
    /// Hooks in the runtime's namespaces: prestart, then createRuntime.
    pub runtime_hooks: Vec<RuntimeHooks>,
    /// The number of hooks that run later: poststart, poststop.
    pub later_hooks: Vec<(At, usize)>,
    /// Files to which the runtime appends the output of its hooks.
    pub hook_files: Vec<(At, PathBuf)>,
    /// The socket that receives a pidfd of the container's first process.
    pub pidfd_receiver: Option<(At, PathBuf)>,
    /// /proc/PID/oom_score_adj.
    pub oom_score_adj: Option<OomScore>,
    /// Resource limits. The runtime sets them when init sends the request.
    pub limits: Vec<Rlimit>,
    /// The scheduler. The runtime sets it when init sends the request.
    pub scheduler: Option<(SchedAttr, At)>,
    /// The CPUs of the runtime process at the clone, before the child is in its cgroup.
    pub initial_affinity: Option<(At, Vec<u64>)>,
    /// The seccomp filter.
    pub filter: Option<Filter>,
    /// The directories of the container's cgroups, and the values that the runtime writes there.
    pub cgroup: Option<PlannedCgroup>,
    /// The container's group in resctrl.
    pub resctrl: Option<ResctrlGroup>,
    /// Warnings for the user.
    pub warnings: Vec<Warning>,
}

/// The container's cgroups.
#[derive(Clone, Debug)]
pub struct PlannedCgroup {
    /// The directories of the cgroups, and their owner.
    pub placement: Placement,
    /// The files to write, and their values.
    pub writes: Vec<Write>,
    /// The devices that processes of the container may use.
    pub devices: DeviceAccess,
}

/// One list of hooks that the runtime process runs while init waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeHooks {
    /// The property.
    pub at: At,
    /// The `status` in the state that these hooks read.
    pub status: &'static str,
    /// The hooks.
    pub list: Vec<Hook>,
}

/// How the first child is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FirstClone {
    /// The CLONE_NEW* flags of the clone itself.
    pub new: Namespaces,
    /// Whether other processes may trace the child at first.
    pub dumpable: Dumpable,
}

/// Says whether other processes may trace the first child from its clone on (PR_SET_DUMPABLE(2const)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dumpable {
    /// They may not.
    #[default]
    No,
    /// They may until the maps are written. An ordinary user can write the maps of the child's new user namespace only
    /// while the child is dumpable. No other processes are in the child's namespaces.
    UntilMapped,
}

/// Both maps, and who writes them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdMaps {
    /// uid_map.
    pub uids: Vec<IdMap>,
    /// gid_map.
    pub gids: Vec<IdMap>,
    /// Who writes uid_map.
    pub uids_by: Writer,
    /// Who writes gid_map.
    pub gids_by: Writer,
}

/// Who writes a map (user_namespaces(7)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Writer {
    /// The runtime, as root.
    #[default]
    Root,
    /// The runtime, as an ordinary user who maps only the user's own id. The kernel then denies setgroups(2).
    User,
    /// The program newuidmap(1) or newgidmap(1).
    Program,
}

/// The score that the kernel uses to choose a process to kill (proc_pid_oom_score_adj(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OomScore {
    /// The runtime writes init's score. Init has no right to do so.
    OfInit(i32),
    /// The runtime sets its own score while it clones, and init inherits it. An ordinary user can do this.
    Inherited(i32),
    /// The same. It is not an error if the runtime may not lower its score.
    InheritedIfAllowed(i32),
}

/// One line of timens_offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeOffset {
    /// `monotonic` or `boottime`.
    pub clock: String,
    /// Seconds.
    pub secs: i64,
    /// Nanoseconds, below one second.
    pub nanosecs: u32,
    /// The property.
    pub at: At,
}

/// A network device of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetDevice {
    /// Its name on the host, or one of its alternative names.
    pub name: String,
    /// Its name in the container. If it is `name`, the device keeps its own name.
    pub inside: String,
    /// The property.
    pub at: At,
}

/// A descriptor that the runtime process opens before the fork.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// A detached copy of the tree at a path (open_tree(2), OPEN_TREE_CLONE).
    Tree(PathBuf, Reach),
    /// The same, but if the last component of the path is a symbolic link, the copy is of the link itself.
    LinkTree(PathBuf, Reach),
    /// The same with all mounts below. It must be a proc file system.
    ProcTree(PathBuf),
    /// A detached copy of the node at a path. It must have this type (S_IFMT) and device number.
    Device(PathBuf, u32, u64),
    /// The host's /sys with all mounts below, for callers who may not mount a new sysfs.
    Sysfs,
    /// The same, for a directory that exists only when the container's cgroup exists. The second path is the runtime's
    /// own cgroup: it is used if the runtime may not make a cgroup.
    CgroupTree(PathBuf, Option<PathBuf>),
    /// The file of such a copy, opened only. Init makes the copy itself: it finds the file again in its own mount
    /// namespace.
    Found(Box<Opening>),
    /// The file or directory itself. The runtime copies it when init mounts it, with these id maps.
    Source(PathBuf, Reach, Option<Mapped>),
    /// A user namespace with these maps and without a process.
    IdMaps(IdMaps),
    /// The directory itself.
    Directory(PathBuf),
    /// A namespace file. It must be of this kind (CLONE_NEW*).
    Namespace(PathBuf, u64),
    /// A process, by the pid of the container's init, or by the id of another living thread of it.
    Process(i32),
    /// The root directory of that process.
    RootOf(i32),
    /// A Landlock ruleset with the rules for ports. Init adds those for paths.
    Landlock(Ruleset),
    /// A file in memory: the device and inode number of the file at each path of a ruleset.
    FilesOfRuleset,
    /// A detached copy of the host's null device.
    Null,
    /// A detached empty directory: a read-only, empty tmpfs with this SELinux label.
    Empty(Option<CString>),
    /// A file in memory for a hook's state, with this `status`. The runtime writes it when the pid is known.
    HookState(&'static str),
    /// A file in memory for the output of hooks.
    HookOutput,
    /// The socket that receives the terminal's master.
    Terminal,
    /// The fifo on which `start` tells init to continue.
    StartFifo,
    /// The fifo on which init reports the result to `start`.
    AnswerFifo,
}

/// The user namespace whose maps apply to the ids of a mount, and the mounts below it that it applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// The user namespace that has the maps.
    pub by: Mapper,
    /// This mount alone (`idmap`), or also all mounts below it (`ridmap`).
    pub reach: Reach,
}

/// The user namespace whose maps apply to the ids of a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapper {
    /// Those of the user namespace in which init was made.
    Own,
    /// Those of the user namespace in the slot.
    Other(Slot),
}

impl Plan {
    /// The program's working directory.
    pub fn cwd(&self) -> &Path {
        let cwd = self.init.iter().find_map(|step| match &step.what {
            What::TryChdir(path) => Some(Path::new(OsStr::from_bytes(path.to_bytes()))),
            _ => None,
        });
        cwd.unwrap_or(Path::new("/"))
    }
}

impl Opening {
    /// The path of what is mounted, if it has one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Opening::Tree(path, _) | Opening::Source(path, ..) | Opening::LinkTree(path, _) => Some(path),
            Opening::ProcTree(path) | Opening::Device(path, ..) | Opening::CgroupTree(path, _) => Some(path),
            Opening::Found(inner) => inner.path(),
            _ => None,
        }
    }

    /// The part of the tree that is copied and mounted. None if this is not mounted.
    pub(super) fn reach(&self) -> Option<Reach> {
        match self {
            Opening::Tree(_, reach) | Opening::Source(_, reach, _) | Opening::LinkTree(_, reach) => Some(*reach),
            Opening::ProcTree(_) | Opening::Sysfs => Some(Reach::Tree),
            Opening::Device(..) | Opening::CgroupTree(..) => Some(Reach::One),
            Opening::Null | Opening::Empty(_) => Some(Reach::One),
            Opening::Found(inner) => inner.reach(),
            Opening::Directory(_)
            | Opening::Namespace(..)
            | Opening::Process(_)
            | Opening::RootOf(_)
            | Opening::HookState(_)
            | Opening::HookOutput
            | Opening::Landlock(_)
            | Opening::FilesOfRuleset
            | Opening::IdMaps(..)
            | Opening::Terminal
            | Opening::StartFifo
            | Opening::AnswerFifo => None,
        }
    }
}
