//! The finished plan: all that will be done, decided. `launch` carries it out.

use std::ffi::CString;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Hook;

use super::resctrl::Group;
use super::resources::{DeviceAccess, Placement, Write};
use super::seccomp::Filter;
use super::step::{Limit, Namespaces, Slot, Step};
use crate::config::{At, Warning};
use crate::sys::mount::Reach;
use crate::sys::sched::SchedAttr;

/// All that will be done, decided.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// How the first child is made.
    pub clone_args: CloneArgs,
    /// What the runtime process opens beforehand, by slot.
    pub openings: Vec<(Opening, At)>,
    /// The container's root among them.
    pub root: Option<Slot>,
    /// Its path, when there is no mount namespace and all that is mounted is mounted on the host.
    pub root_on_host: Option<PathBuf>,
    /// The steps of the bridge; none in most cases.
    pub bridge: Vec<Step>,
    /// The steps of init.
    pub init: Vec<Step>,
    /// uid_map and gid_map, written when init asks.
    pub id_maps: Option<IdMaps>,
    /// The maps that config.json gives for a user namespace that is joined. They are compared with the real ones.
    pub joined_maps: Option<IdMaps>,
    /// timens_offsets, written when init asks.
    pub time_offsets: Vec<TimeOffset>,
    /// Network devices, moved when init asks.
    pub net_devices: Vec<NetDevice>,
    /// Hooks in the runtime's namespaces: prestart, then createRuntime.
    pub runtime_hooks: Vec<RuntimeHooks>,
    /// How many hooks there are for the time after: poststart, poststop.
    pub later_hooks: Vec<(At, usize)>,
    /// /proc/PID/oom_score_adj.
    pub oom_score_adj: Option<OomScore>,
    /// Resource limits, set by the runtime when init asks.
    pub limits: Vec<Limit>,
    /// The scheduler, set by the runtime when init asks.
    pub scheduler: Option<(SchedAttr, At)>,
    /// The CPUs the runtime process is on when it clones, before the child is in its cgroup.
    pub initial_affinity: Option<(At, Vec<u64>)>,
    /// The seccomp filter.
    pub filter: Option<Filter>,
    /// Where the container's cgroups are and what is written there.
    pub cgroup: Option<PlannedCgroup>,
    /// Its group in resctrl.
    pub resctrl: Option<Group>,
    /// What the user should know.
    pub warnings: Vec<Warning>,
}

/// The container's cgroups.
#[derive(Clone, Debug)]
pub struct PlannedCgroup {
    /// Where they are, and whose.
    pub placement: Placement,
    /// What is written there.
    pub writes: Vec<Write>,
    /// Which devices may be used.
    pub devices: DeviceAccess,
}

/// One list of hooks that the runtime process runs while init waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeHooks {
    /// The property.
    pub at: At,
    /// The `status` that they are told.
    pub status: &'static str,
    /// The hooks.
    pub list: Vec<Hook>,
}

/// How the first child is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CloneArgs {
    /// CLONE_NEW* of the clone itself.
    pub new: Namespaces,
    /// Whether others may look into it at first.
    pub dumpable: Dumpable,
}

/// Whether others may look into the first child from its clone on (PR_SET_DUMPABLE(2const)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dumpable {
    /// They may not.
    #[default]
    No,
    /// An ordinary user writes the maps of its child's new user namespace only as long as the user may look into it. The
    /// child is in no namespace that others are in.
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
    /// The runtime, as an ordinary user who maps the own id alone. setgroups(2) is denied then.
    User,
    /// newuidmap(1), newgidmap(1).
    Program,
}

/// The score by which the kernel chooses the process to kill (proc_pid_oom_score_adj(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OomScore {
    /// Written by the runtime while init has no rights there.
    OfInit(i32),
    /// The runtime's own while it clones: what an ordinary user may write.
    Inherited(i32),
    /// The same. A score that the runtime may not lower is not an error.
    InheritedIfAllowed(i32),
}

/// One line of a uid_map or gid_map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdMap {
    /// First id inside.
    pub container: u32,
    /// First id outside.
    pub host: u32,
    /// How many.
    pub size: u32,
}

/// As the kernel reads it.
impl std::fmt::Display for IdMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{} {} {}", self.container, self.host, self.size)
    }
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

/// A network device of the host's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetDevice {
    /// Its name on the host.
    pub name: String,
    /// Its name in the container; `%d` in it is the first number that is free.
    pub inside: String,
    /// The property.
    pub at: At,
}

/// A descriptor that the runtime process opens before the fork.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// A detached copy of the tree at a path (open_tree(2), OPEN_TREE_CLONE).
    Tree(PathBuf, Reach),
    /// The same of a link itself, where there is one, with nothing below it.
    LinkTree(PathBuf, Reach),
    /// The same with all below, checked to be a proc file system.
    ProcTree(PathBuf),
    /// A detached copy of the node at a path, checked to be of that type (S_IFMT) and device.
    Device(PathBuf, u32, u64),
    /// The host's /sys with all below, for those who may not mount a sysfs anew.
    Sysfs,
    /// The same of a directory that is there only when the container's cgroup is; where we may make none, our own.
    CgroupTree(PathBuf, Option<PathBuf>),
    /// The file that such a copy is of, because only init may copy: it finds it again in its own mount namespace.
    Found(Box<Opening>),
    /// The file or directory itself, of which a detached copy is made when it is to be mounted, with these ids.
    Source(PathBuf, Reach, Option<Mapped>),
    /// A user namespace with these maps, without any process.
    IdMaps(IdMaps),
    /// The directory itself.
    Directory(PathBuf),
    /// A namespace file, checked to be of that kind (CLONE_NEW*).
    Namespace(PathBuf, u64),
    /// A process, by the pid of the container's init.
    Process(i32),
    /// The root directory of that process.
    RootOf(i32),
    /// A detached copy of the host's null device.
    Null,
    /// A detached empty directory: a read-only tmpfs that holds nothing, with that SELinux label.
    Empty(Option<CString>),
    /// A file in memory for a hook's state, with that `status`; written when the pid is known.
    HookState(&'static str),
    /// A file in memory that takes what hooks print.
    HookOutput,
    /// The socket that takes the terminal's master.
    Terminal,
    /// The fifo on which `start` gives the word.
    StartFifo,
    /// The fifo on which `start` hears how it went.
    AnswerFifo,
}

/// Through which maps the ids of a mount go, and how far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// Whose maps.
    pub by: Mapper,
    /// The mount alone (`idmap`), or all below it as well (`ridmap`).
    pub reach: Reach,
}

/// Whose maps the ids of a mount go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapper {
    /// Those of the user namespace that init was made in.
    Own,
    /// Those of the user namespace in the slot.
    Other(Slot),
}

impl Opening {
    /// The path of what is mounted, where it has one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Opening::Tree(path, _) | Opening::Source(path, ..) | Opening::LinkTree(path, _) => Some(path),
            Opening::ProcTree(path) | Opening::Device(path, ..) | Opening::CgroupTree(path, _) => Some(path),
            Opening::Found(inner) => inner.path(),
            _ => None,
        }
    }

    /// How much of what is there is copied to be mounted; None when it is nothing to be mounted.
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
            | Opening::IdMaps(..)
            | Opening::Terminal
            | Opening::StartFifo
            | Opening::AnswerFifo => None,
        }
    }
}
