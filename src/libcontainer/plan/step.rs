//! A plan's vocabulary: what one step of init does, as plain data that a syscall takes, and which property asked for it.
//! No control flow lives here; a decision is made in `plan`, or, where the kernel alone knows, inside one named step.

use std::ffi::{CStr, CString};

use rustix::thread::Gid;

use crate::config::At;
use crate::sys::exec::Strings;
use crate::sys::mount::{Attributes, Reach};
use crate::sys::sched::SchedAttr;
use crate::wire::{HookPoint, Request};

/// One thing init does, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The act.
    pub what: What,
    /// The property or rule that asked for it.
    pub from: Origin,
}

/// Why a step is in the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A property of config.json (or a flag) asked for it.
    At(At),
    /// Every container gets it.
    Runtime(&'static str),
}

/// An index into the descriptors that `launch::arm` opened; see `Opening`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot(pub usize);

/// The five sets as bit masks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapabilitySets {
    /// Bounding.
    pub bounding: u64,
    /// Effective.
    pub effective: u64,
    /// Permitted.
    pub permitted: u64,
    /// Inheritable.
    pub inheritable: u64,
    /// Ambient.
    pub ambient: u64,
    /// Held in effective and permitted as well, until the exec, which computes both anew (capabilities(7)): what the filter
    /// takes to be loaded.
    pub until_exec: u64,
}

/// A set of namespaces, as CLONE_NEW* bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Namespaces(pub u64);

/// A place inside the container's root, resolved there by the kernel and never by its path on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Relative to the root, without a leading slash; `.` is the root itself.
    pub path: CString,
    /// What to do when nothing is there.
    pub missing: Missing,
    /// Whether the last component may be a symbolic link.
    pub last: Last,
}

/// What to make of a target that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// A directory, 0755, and those above it.
    Directory,
    /// A directory for a directory, an empty file for anything else: what the tree in the slot is.
    LikeSource(Slot),
    /// An empty file, 0644.
    File,
}

/// What the last component of a target may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    /// Anything; links are followed inside the root.
    Any,
    /// Anything; a link itself is covered.
    Itself,
    /// An ordinary directory: a link there is an attack (CVE-2019-19921, CVE-2023-27561).
    Ordinary,
}

/// A new file system to mount.
#[derive(Clone, Debug, PartialEq)]
pub struct NewMount {
    /// Its type, as in /proc/filesystems.
    pub fstype: CString,
    /// fsconfig(2): key and value, or a flag without one, in order.
    pub settings: Vec<(CString, Option<CString>)>,
    /// MOUNT_ATTR_* for fsmount(2).
    pub attributes: u64,
    /// What is changed on the mount before it is attached.
    pub changes: Vec<Change>,
    /// Where it goes.
    pub target: Target,
    /// What it holds at first.
    pub content: Content,
    /// The same settings for mount(2), where one of them is longer than fsconfig(2) takes: MS_* of the superblock, and
    /// the file system's own as one text.
    pub classic: Option<(u64, CString)>,
    /// The user namespace whose maps its ids go through.
    pub ids: Option<Slot>,
    /// The SELinux label of its root, where the file system takes none as an option.
    pub label: Option<CString>,
    /// The tree to bind instead when the kernel refuses (EPERM, EBUSY): a cgroup2 or sysfs we may not mount anew.
    pub fallback: Option<Slot>,
    /// The pid namespace that a proc file system is to show, where the process that mounts it is not a member of it.
    pub pid_namespace: Option<Slot>,
}

/// What a new tmpfs holds at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Nothing.
    Empty,
    /// Nothing, with the mode of the directory it covers.
    EmptyWithMode,
    /// A copy of the directory it covers (`tmpcopyup`), with its mode.
    Copy,
}

/// A change made on a detached mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which flags and which propagation.
    pub attributes: Attributes,
    /// The mount alone or its whole tree.
    pub reach: Reach,
}

/// A device node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Relative to the root.
    pub path: CString,
    /// Type and permissions, as st_mode.
    pub mode: u32,
    /// makedev(3).
    pub device: u64,
    /// Owner, as the container counts.
    pub uid: u32,
    /// Group, as the container counts.
    pub gid: u32,
    /// What to do when something else is at the path.
    pub other: Other,
}

/// What to do when something else is at the path of a device node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Other {
    /// Fail: config.json asks for the node.
    Refuse,
    /// Leave it, and tell the runtime the number of the default device.
    Keep(u32),
}

/// One hook that init runs itself, ready for execve(2).
#[derive(Clone, Debug, PartialEq)]
pub struct HookCommand {
    /// The program.
    pub path: CString,
    /// argv.
    pub args: Strings,
    /// envp.
    pub env: Strings,
    /// Whose environment that is.
    pub env_of: EnvOf,
    /// Seconds until it is killed, and its process group with it.
    pub timeout: Option<u32>,
    /// The steps that its process performs just before its exec.
    pub confine: Vec<What>,
}

/// Whose environment a hook has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnvOf {
    /// Its own, or none.
    Hook,
    /// The process's, with the HOME that init found.
    Process,
}

/// The program the container is for.
#[derive(Clone, Debug, PartialEq)]
pub struct Exec {
    /// Paths to try, in the order of PATH, or the one path that was given.
    pub candidates: Vec<CString>,
    /// argv.
    pub args: Strings,
    /// envp; one place is spare, for HOME.
    pub env: Strings,
}

/// What a step does. Each is a man page's word or two; `init` holds one arm for each.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    // where am I
    /// Wait for the runtime process to do what init cannot.
    Request(Request),
    /// setns(2) into the namespaces of a namespace file or pidfd.
    Join(Slot, Namespaces),
    /// unshare(2).
    Unshare(Namespaces),
    /// Become uid and gid 0 of the new user namespace, without supplementary groups.
    BecomeRoot,
    /// Enter the time namespace just unshared, which else only children would be in.
    EnterTime,
    /// Bring the loopback of a new network namespace up.
    Loopback,
    /// Bridge only: clone init as our parent's child, and exit.
    Spawn(Namespaces),
    /// Signal dispositions and mask to their defaults.
    Signals,
    /// prctl(PR_SET_DUMPABLE, 0): no process of the container may look into us (CVE-2016-9962).
    Undumpable,
    /// setsid(2).
    Session,
    /// ioctl(2) TIOCSCTTY: the standard input becomes the controlling terminal of the session.
    ControllingTerminal,
    /// Join the session keyring of the container.
    Keyring(CString),
    /// Write a file below the process's own directory in the host's /proc (`attr/exec`): AppArmor and SELinux take effect
    /// at exec.
    Label {
        /// Below the process's own directory.
        file: CString,
        /// What is written.
        value: CString,
    },
    // what do I see
    /// Change how mounts of what is at a path propagate.
    Propagate {
        /// The place.
        path: CString,
        /// MS_SHARED, MS_SLAVE, MS_PRIVATE or MS_UNBINDABLE, with MS_REC or without.
        flags: u64,
    },
    /// Make the mount that a path lies on private.
    PrivateAbove(CString),
    /// Attach the root's detached tree at its own path, or where that cannot be walked, on top of `/`.
    AttachRoot {
        /// The tree.
        tree: Slot,
        /// The root's path.
        path: CString,
        /// What is changed on the tree before.
        changes: Vec<Change>,
    },
    /// Mount a new file system.
    NewMount(NewMount),
    /// Let the slot be the same file in our own mount namespace, where it can be copied.
    Find(Slot),
    /// Let the slot be a detached copy of what it is (open_tree(2)).
    Copy(Slot, Reach),
    /// Let the slot be a detached empty directory: a read-only tmpfs that holds nothing, with that SELinux label.
    EmptyDirectory(Slot, Option<CString>),
    /// Attach a detached tree.
    Bind(Slot, Vec<Change>, Target),
    /// As `Bind`, but what is a link is made anew at the place.
    BindOrLink(Slot, Vec<Change>, Target),
    /// Change the mount that is at a place already (`remount`).
    Remount(Vec<Change>, Target),
    /// mknodat(2), exact mode and owner; the same node already there is fine. For another, see `Other`.
    Mknod(Node),
    /// symlinkat(2). One already there stays.
    Symlink {
        /// Where the link leads.
        to: CString,
        /// Where it is.
        path: CString,
    },
    /// As `Symlink`, but it replaces what is there.
    Replace {
        /// Where the link leads.
        to: CString,
        /// Where it is.
        path: CString,
    },
    /// pivot_root(2) into the attached root, and let go of the old one.
    Pivot,
    /// umount2(2) what is mounted at a place of the host's, up to its proc or sysfs, or cover that where it is locked.
    Unmount(CString),
    /// Move the root onto `/` and chroot(2): --no-pivot, and containers in a ramfs.
    MoveRoot,
    /// chroot(2) to a directory: containers without a mount namespace, and exec into those.
    Chroot(Slot),
    /// Hide a path, where it exists.
    Mask {
        /// What is hidden.
        path: CString,
        /// Covers a file.
        null: Slot,
        /// Covers a directory.
        empty: Slot,
    },
    /// Make a path and all below it read-only, where it exists.
    ReadOnly(CString),
    /// Set flags on a mount at the end, when nothing has to be made in it any more.
    Finish {
        /// The mount's place.
        path: CString,
        /// Its flags.
        attributes: Attributes,
    },
    /// Write a value below `sys` in the host's /proc.
    Sysctl {
        /// Path below `sys`.
        name: CString,
        /// What is written.
        value: CString,
    },
    /// sethostname(2).
    Hostname(CString),
    /// setdomainname(2).
    Domainname(CString),
    /// Open a terminal in the container's own devpts, send its master away, use it for the standard streams. No session has
    /// it yet (`ControllingTerminal`).
    Console(Console),
    // what may I do
    /// umask(2).
    Umask(u32),
    /// setgroups(2).
    Groups(Vec<Gid>),
    /// fchown(2) those standard streams to a uid that are pipes without a name.
    OwnStdio(u32),
    /// Drop these capabilities from the bounding set (a mask), and keep the others over the next `Ids`.
    Bounding(u64),
    /// setresgid(2), setresuid(2).
    Ids {
        /// All uids of the process.
        uid: u32,
        /// All gids of the process.
        gid: u32,
    },
    /// capset(2) and the ambient set.
    Capabilities(CapabilitySets),
    /// prctl(PR_SET_NO_NEW_PRIVS, 1).
    NoNewPrivs,
    /// seccomp(2) with the compiled program.
    Seccomp(u32),
    /// sched_setattr(2).
    Scheduler(SchedAttr),
    /// setrlimit(2) RLIMIT_NPROC.
    Processes {
        /// The soft limit.
        soft: u64,
        /// The hard limit.
        hard: u64,
    },
    /// ioprio_set(2): class << 13 | level.
    IoPriority(u32),
    /// personality(2).
    Personality(u64),
    /// set_mempolicy(2).
    MemoryPolicy {
        /// Mode and flags.
        mode: u32,
        /// Nodes as a bit mask, lowest first.
        nodes: Vec<u64>,
    },
    /// PR_SET_PDEATHSIG(2const).
    DeathSignal(i32),
    /// sched_setaffinity(2) to every CPU there can be: the cpuset decides.
    AllCpus,
    /// sched_setaffinity(2): CPU mask.
    Affinity(Vec<u64>),
    // go
    /// Make the working directory where it is missing (0755).
    MakeCwd(CString),
    /// chdir(2) as root; permission denied is left to the `Chdir` after `Ids`.
    TryChdir(CString),
    /// chdir(2), and then make sure that it is inside the root (CVE-2024-21626).
    Chdir(CString),
    /// HOME for this uid out of the container's /etc/passwd.
    Home(u32),
    /// Close descriptors for good (close_range(2)).
    CloseFds {
        /// This one, and all above it.
        first: u32,
        /// But those that later steps use.
        kept: Kept,
    },
    /// Make sure that one of the candidates of `Exec` is there.
    FindProgram(Exec),
    /// Say that all is set up, and wait for the runtime to have recorded it.
    Ready,
    /// Wait for `start`.
    AwaitStart {
        /// The exec fifo, on which `start` gives the word.
        fifo: Slot,
        /// The fifo on which `start` hears what fails from here on.
        answer: Slot,
    },
    /// Run hooks inside the container.
    Hooks {
        /// Which.
        point: HookPoint,
        /// In their order.
        commands: Vec<HookCommand>,
        /// What they read on standard input.
        state: Slot,
        /// Where their output is kept.
        output: Slot,
    },
    /// Tell `start`, on the answer fifo, that only the exec is left: after this the end of the stream is the program's
    /// beginning.
    AboutToExec(Slot),
    /// execve(2).
    Exec(Exec),
}

/// The descriptors that later steps use; the socket to the runtime process is always one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// By slot.
    pub slots: Vec<Slot>,
    /// Whether the host's /proc is one of them.
    pub host_proc: bool,
}

/// A terminal to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Console {
    /// The connected socket that takes the master.
    pub socket: Slot,
    /// Rows and columns.
    pub size: Option<(u16, u16)>,
    /// Who owns the slave: the process's uid.
    pub uid: u32,
    /// Whether /dev/console becomes this terminal (init), or stays what it is (exec).
    pub device: ConsoleDevice,
}

/// What happens to /dev/console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsoleDevice {
    /// The slave is bound there.
    Bound(Target),
    /// It is not touched.
    Untouched,
}

/// One resource limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// RLIMIT_*, as the kernel counts them.
    pub resource: u32,
    /// `RLIMIT_NOFILE`.
    pub name: String,
    /// The soft limit.
    pub soft: u64,
    /// The hard limit.
    pub hard: u64,
    /// The property.
    pub at: At,
}

impl Step {
    /// A step that a property asked for.
    pub fn at(at: &At, what: What) -> Step {
        Step { what, from: Origin::At(at.clone()) }
    }

    /// A step that every container gets.
    pub fn always(why: &'static str, what: What) -> Step {
        Step { what, from: Origin::Runtime(why) }
    }
}

impl Target {
    /// A place that is made a directory where it is missing; links on the way are followed inside the root.
    pub fn directory(path: CString) -> Target {
        Target { path, missing: Missing::Directory, last: Last::Any }
    }
}

impl NewMount {
    /// A file system of this type, without settings, flags, or anything special.
    pub fn new(fstype: &CStr, target: Target) -> NewMount {
        NewMount {
            fstype: fstype.to_owned(),
            settings: Vec::new(),
            attributes: 0,
            changes: Vec::new(),
            target,
            content: Content::Empty,
            classic: None,
            ids: None,
            label: None,
            fallback: None,
            pid_namespace: None,
        }
    }
}

impl Namespaces {
    /// None at all.
    pub const NONE: Namespaces = Namespaces(0);

    /// True when every namespace of `other` is in this set.
    pub fn has(self, other: u64) -> bool {
        self.0 & other == other
    }

    /// This set without the bits of `other`.
    pub fn without(self, other: u64) -> Namespaces {
        Namespaces(self.0 & !other)
    }
}
