//! A plan in the making: steps, descriptors to open, mistakes and warnings, all collected to the end.

use std::ffi::CString;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Hook;

use super::Asked;
use super::resctrl::Group;
use super::resources::{DeviceAccess, Placement, Write};
use super::seccomp::Filter;
use super::step::{Kept, Limit, Namespaces, Origin, Slot, Step, What};
use crate::config::{At, Faults, Warning};
use crate::host::Mounts;
use crate::sys::mount::{Attributes, Reach};
use crate::sys::sched::SchedAttr;

/// All that will be done, decided.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How the first child is born.
    pub birth: Birth,
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
    pub cgroup: Option<(Placement, Vec<Write>, DeviceAccess)>,
    /// Its group in resctrl.
    pub resctrl: Option<Group>,
    /// What the user should know.
    pub warnings: Vec<Warning>,
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

/// How the first child is born.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Birth {
    /// CLONE_NEW* of the clone itself.
    pub new: Namespaces,
    /// Whether others may look into it at first.
    pub dumpable: Dumpable,
}

/// Whether others may look into the first child from its birth on (PR_SET_DUMPABLE(2const)).
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
    /// The runtime, as the user whose own id is all that is mapped. Groups can be given up by nobody then.
    User,
    /// newuidmap(1), newgidmap(1).
    Program,
}

/// The score by which the kernel chooses whom to kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OomScore {
    /// Written by the runtime while init has no rights there.
    OfInit(i32),
    /// The runtime's own while it clones: what an ordinary user may write.
    Inherited(i32),
    /// The same, and that it may not be lowered is no matter.
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
    /// A user namespace with these maps, in which nobody lives.
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
    /// Those of the user namespace that init was born in.
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

/// A running container, for those who join it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Its init.
    pub pid: i32,
    /// The namespaces it does not share with the runtime.
    pub kinds: Namespaces,
}

/// A plan while it is made.
#[derive(Debug)]
pub(super) struct Draft {
    plan: Plan,
    faults: Faults,
    /// Mounts that are closed to writing only when nothing has to be made in them any more: path, property, flags.
    pub(super) closing: Vec<(CString, At, Attributes)>,
    mounts: Mounts,
    /// Where in init's steps what the runtime has opened is found again.
    finding: Option<usize>,
}

impl Draft {
    pub(super) fn new(ask: &Asked<'_>) -> Draft {
        let plan = Plan {
            birth: Birth::default(),
            openings: Vec::new(),
            root: None,
            root_on_host: None,
            bridge: Vec::new(),
            init: Vec::with_capacity(64),
            id_maps: None,
            joined_maps: None,
            time_offsets: Vec::new(),
            net_devices: Vec::new(),
            runtime_hooks: Vec::new(),
            later_hooks: Vec::new(),
            oom_score_adj: None,
            limits: Vec::new(),
            scheduler: None,
            initial_affinity: None,
            filter: None,
            cgroup: None,
            resctrl: None,
            warnings: ask.config.warnings.clone(),
        };
        Draft { plan, faults: Faults::none(), closing: Vec::new(), mounts: ask.host.me.mounts, finding: None }
    }

    /// One more step, asked for by the property at `at`.
    pub(super) fn at(&mut self, at: &At, what: What) {
        self.plan.init.push(Step::at(at, what));
    }

    /// One more step, which every such container gets.
    pub(super) fn always(&mut self, why: &'static str, what: What) {
        self.plan.init.push(Step::always(why, what));
    }

    /// One more step, for the same reason as another.
    pub(super) fn because(&mut self, from: &Origin, what: What) {
        self.plan.init.push(Step { what, from: from.clone() });
    }

    /// The place of a new descriptor.
    pub(super) fn open(&mut self, at: &At, opening: Opening) -> Slot {
        let opening = self.as_we_may(opening);
        self.plan.openings.push((opening, at.clone()));
        Slot(self.plan.openings.len() - 1)
    }

    fn as_we_may(&self, opening: Opening) -> Opening {
        match self.mounts {
            Mounts::Inside if opening.reach().is_some() => Opening::Found(Box::new(opening)),
            Mounts::Inside | Mounts::Here => opening,
        }
    }

    /// From here on init is in its own mount namespace, and finds there what the runtime has opened.
    pub(super) fn find_here(&mut self) {
        self.finding = Some(self.plan.init.len());
    }

    /// What is in `slot` is mounted by the next step: where only init may copy it, it does so now.
    pub(super) fn copy(&mut self, at: &At, slot: Slot) {
        if let Some((Opening::Found(inner), _)) = self.plan.openings.get(slot.0)
            && let Some(reach) = inner.reach()
        {
            self.at(at, What::Copy(slot, reach));
        }
    }

    fn find_all(&mut self) {
        let Some(place) = self.finding else { return };
        let (mut steps, mut found) = (Vec::new(), Vec::new());
        for (n, (opening, at)) in self.plan.openings.iter().enumerate() {
            let (Opening::Found(inner), slot) = (opening, Slot(n)) else { continue };
            match &**inner {
                Opening::Empty(label) => found.push(What::EmptyDirectory(slot, label.clone())),
                // ORDER: what covers is used after the root has changed, when nothing of the host's is left to be copied
                Opening::Null => found.extend([What::Find(slot), What::Copy(slot, Reach::One)]),
                _ => found.push(What::Find(slot)),
            }
            steps.extend(found.drain(..).map(|what| Step::at(at, what)));
        }
        self.plan.init.splice(place..place, steps);
    }

    /// What is closed for good is what no later step uses. From `Spawn` on the root may be used by any step, up to the last
    /// `CloseFds`.
    fn keep_what_is_used(&mut self) {
        let Plan { bridge, init, root, .. } = &mut self.plan;
        let mut later = Kept::default();
        let mut closed = false;
        for step in bridge.iter_mut().chain(init).rev() {
            if let What::CloseFds(_, kept) = &mut step.what {
                *kept = later.clone();
                let root = root.filter(|root| closed && !kept.slots.contains(root));
                kept.slots.extend(root);
                kept.slots.sort_unstable();
                closed = true;
            }
            for (slot, _) in step.what.slots() {
                if !later.slots.contains(&slot) {
                    later.slots.push(slot);
                }
            }
            later.host_proc |= step.what.needs_host_proc();
        }
    }

    /// The place of a descriptor that may be there already.
    pub(super) fn open_once(&mut self, at: &At, opening: Opening) -> Slot {
        let wanted = self.as_we_may(opening.clone());
        match self.plan.openings.iter().position(|(there, _)| *there == wanted) {
            Some(n) => Slot(n),
            None => self.open(at, opening),
        }
    }

    /// A mistake; the rest is still looked at.
    pub(super) fn fault(&mut self, at: &At, problem: impl Into<String>) {
        self.faults.add(at.clone(), problem);
    }

    /// Something to tell.
    pub(super) fn warn(&mut self, at: &At, said: impl Into<String>) {
        self.plan.warnings.push(Warning { at: at.clone(), said: said.into() });
    }

    /// Things to tell.
    pub(super) fn warnings(&mut self, warnings: impl IntoIterator<Item = Warning>) {
        self.plan.warnings.extend(warnings);
    }

    /// The value, or its mistakes noted.
    pub(super) fn keep<T>(&mut self, result: Result<T, Faults>) -> Option<T> {
        self.faults.keep(result)
    }

    /// The rest of the plan, to be filled in.
    pub(super) fn plan(&mut self) -> &mut Plan {
        &mut self.plan
    }

    /// Forgets the mistakes that another draft does not have.
    pub(super) fn keep_faults_of(&mut self, other: &Draft) {
        self.faults.retain(|fault| other.faults.iter().any(|also| also == fault));
    }

    /// The plan, or everything that is wrong.
    pub(super) fn into_plan(mut self, ask: &Asked<'_>) -> Result<Plan, Faults> {
        self.find_all();
        self.keep_what_is_used();
        for list in [&mut self.plan.bridge, &mut self.plan.init] {
            end_with_the_runtime(list);
        }
        ask.config.beside(self.faults).into_result(self.plan)
    }
}

/// A process of ours ends with the runtime until it is ready: from its beginning, and again after a change of ids or
/// capabilities, which clears the signal (PR_SET_PDEATHSIG(2const)). A runtime that ended before is noticed at the socket.
fn end_with_the_runtime(list: &mut Vec<Step>) {
    let ends = || Step::always("it ends with the runtime until it is ready", What::DeathSignal(libc::SIGKILL));
    let clears = |what: &What| match what {
        What::BecomeRoot => true,
        What::Join(_, kinds) => kinds.has(libc::CLONE_NEWUSER as u64),
        _ => false,
    };
    if list.is_empty() {
        return;
    }
    let steps = std::mem::take(list);
    list.reserve(steps.len() + 3);
    list.push(ends());
    for step in steps {
        let clears = clears(&step.what);
        list.push(step);
        list.extend(clears.then(ends));
    }
}
