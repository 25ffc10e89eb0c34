//! The vocabulary of a plan. Each step of init is plain data for one system call, with the property that it comes from.
//! This file has no control flow: `plan` decides, or, if only the kernel knows the answer, one named step does.

use std::ffi::{CStr, CString};

use rustix::thread::Gid;

use crate::config::At;
use crate::sys::exec::Strings;
use crate::sys::mount::{Attributes, Reach};
use crate::sys::sched::SchedAttr;
use crate::wire::{HookPoint, Request};

/// One step of init, and its reason.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The action.
    pub what: What,
    /// The property or rule that it comes from.
    pub from: Origin,
}

/// Why a step is in the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A property of config.json, or a flag.
    At(At),
    /// A rule: every container has this step.
    Runtime(&'static str),
}

/// An index into the descriptors that the runtime opens before the fork. See `Opening`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot(pub usize);

/// The five capability sets as bit masks.
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
    /// Capabilities that stay in effective and permitted until the exec, because loading the filter needs them. The
    /// exec computes both sets again (capabilities(7)).
    pub until_exec: u64,
}

/// A set of namespaces, as CLONE_NEW* bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Namespaces(pub u64);

/// A path inside the container's root. The kernel resolves it there: its path on the host is never used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Relative to the root, without a leading slash; `.` is the root itself.
    pub path: CString,
    /// What to make if the path does not exist.
    pub missing: Missing,
    /// Whether the last component may be a symbolic link.
    pub last: Last,
}

/// What to make if a target does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// A directory with mode 0755, and the directories above it.
    Directory,
    /// Like the tree in this slot: a directory for a directory, an empty file for anything else.
    LikeSource(Slot),
    /// An empty file, 0644.
    File,
}

/// What becomes of the supplementary groups of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallersGroups {
    /// Init has none of them.
    Dropped,
    /// Init and the program have them, and no others.
    Kept,
}

/// What the last component of a target may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    /// Anything. Links are followed inside the root.
    Any,
    /// Anything. The mount covers a link itself.
    Itself,
    /// A directory and not a link: a link there is an attack (CVE-2019-19921, CVE-2023-27561).
    Ordinary,
}

/// One setting for fsconfig(2): key and value, or a flag without one.
pub type Setting = (CString, Option<CString>);

/// A mount that changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Remount {
    /// The superblock's flags and the file system's options that change. The others stay as they are.
    pub settings: Vec<Setting>,
    /// The changes of the mount.
    pub changes: Vec<MountChange>,
    /// The mount point.
    pub target: Target,
}

/// A new file system to mount.
#[derive(Clone, Debug, PartialEq)]
pub struct NewMount {
    /// Its type, as in /proc/filesystems.
    pub fstype: CString,
    /// For fsconfig(2), in order.
    pub settings: Vec<Setting>,
    /// MOUNT_ATTR_* for fsmount(2).
    pub attributes: u64,
    /// The changes of the mount before it is attached.
    pub changes: Vec<MountChange>,
    /// The mount point.
    pub target: Target,
    /// Its content at first.
    pub content: Content,
    /// The same settings for mount(2), if one of them is too long for fsconfig(2): MS_* flags of the superblock, and
    /// the file system's own options as one text.
    pub classic: Option<(u64, CString)>,
    /// The user namespace whose maps apply to its ids.
    pub ids: Option<Slot>,
    /// The SELinux label of its root, if the file system does not accept a label as an option.
    pub label: Option<CString>,
    /// The tree that is bound if the kernel refuses the new mount (EPERM, EBUSY), for example of a cgroup2 or sysfs.
    pub fallback: Option<Slot>,
    /// The pid namespace that a proc file system shows, if the process that mounts it is not a member of it.
    pub pid_namespace: Option<Slot>,
}

/// The content of a new tmpfs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Nothing.
    Empty,
    /// Nothing. It has the mode of the directory that it covers.
    EmptyWithMode,
    /// A copy of the directory that it covers (`tmpcopyup`), with its mode.
    Copy,
}

/// A change of a detached mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MountChange {
    /// The flags and the propagation.
    pub attributes: Attributes,
    /// This mount alone, or its whole tree.
    pub reach: Reach,
}

/// A device node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceNode {
    /// Relative to the root.
    pub path: CString,
    /// Type and permissions, as st_mode.
    pub mode: u32,
    /// makedev(3).
    pub device: u64,
    /// The owner's uid in the container.
    pub uid: u32,
    /// The owner's gid in the container.
    pub gid: u32,
    /// What to do if another file is at the path.
    pub other: Other,
}

/// What to do if another file is at the path of a device node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Other {
    /// Fail: config.json has the node.
    Refuse,
    /// Keep the file, and report the number of the default device to the runtime.
    Keep(u32),
}

/// The rights of Landlock that a file has: execute, write_file, read_file, truncate, ioctl_dev, resolve_unix.
pub const FILE_RIGHTS: u64 = 0b111 | 1 << 14 | 1 << 15 | 1 << 16;

/// What to do if a path of a ruleset does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// Fail.
    Refused,
    /// Allow nothing there.
    Skipped,
}

/// The size of a device number and an inode number, by which a file of a ruleset is known.
pub const FILE_ID_SIZE: usize = 16;

/// Which process looks up the paths of a ruleset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFinder {
    /// The container's first process. It writes down which files it finds.
    First,
    /// A later process (exec). What it finds must be the same: the container may have put a link or another file there.
    Later,
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
    /// Seconds until init kills it with its process group.
    pub timeout: Option<u32>,
    /// The flags of the filter that its process loads just before its exec, if init itself loads it later.
    pub filter: Option<u32>,
}

/// Whose environment a hook has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnvOf {
    /// Its own, or none.
    Hook,
    /// The process's, with the HOME that init found.
    Process,
}

/// The program that the container runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Execve {
    /// Paths to try, in the order of PATH, or the one path that was given.
    pub candidates: Vec<CString>,
    /// argv.
    pub args: Strings,
    /// envp, with a free place for HOME.
    pub env: Strings,
}

/// The action of a step: a man page's word or two. `init` has one match arm for each.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    // Namespaces and sessions.
    /// Wait until the runtime process has done what init cannot.
    Request(Request),
    /// setns(2) into the namespaces of a namespace file or pidfd.
    Join(Slot, Namespaces),
    /// unshare(2).
    Unshare(Namespaces),
    /// Become uid and gid 0 of the new user namespace.
    BecomeRoot(CallersGroups),
    /// Enter the time namespace of the last unshare(2). Otherwise only children would be in it.
    EnterTime,
    /// Set the loopback device of a new network namespace up.
    Loopback,
    /// Bridge only: clone init as a child of our parent, and exit.
    Spawn(Namespaces),
    /// Reset the signal dispositions and the signal mask to their defaults.
    Signals,
    /// A signal that asks a process to end ends this one, although it may be the first of a pid namespace. The exec sets the
    /// dispositions to their defaults again.
    ExitOnSignals,
    /// prctl(PR_SET_DUMPABLE, 0): no process of the container may trace this one (CVE-2016-9962).
    Undumpable,
    /// setsid(2).
    Session,
    /// ioctl(2) TIOCSCTTY: make standard input the controlling terminal of the session.
    ControllingTerminal,
    /// Join the session keyring of the container.
    Keyring(CString),
    /// Write a file in the process's own directory in the host's /proc (`attr/exec`). AppArmor and SELinux apply it at
    /// the exec.
    Label {
        /// The path below that directory.
        file: CString,
        /// The value to write.
        value: CString,
    },
    // Mounts, files and names.
    /// Change the propagation of mounts at a path.
    Propagate {
        /// The path.
        path: CString,
        /// MS_SHARED, MS_SLAVE, MS_PRIVATE or MS_UNBINDABLE, with or without MS_REC.
        flags: u64,
    },
    /// Make the mount that contains a path private.
    PrivateAbove(CString),
    /// Attach the root's detached tree at its own path. If that path cannot be reached, on top of `/`.
    AttachRoot {
        /// The tree.
        tree: Slot,
        /// The root's path.
        path: CString,
        /// The changes of the tree before that.
        changes: Vec<MountChange>,
    },
    /// Mount a new file system.
    NewMount(NewMount),
    /// Replace the slot by the same file in our own mount namespace, where it can be copied.
    Find(Slot),
    /// Replace the slot by a detached copy of its tree (open_tree(2)).
    Copy(Slot, Reach),
    /// Replace the slot by a detached empty directory: a read-only, empty tmpfs with this SELinux label.
    EmptyDirectory(Slot, Option<CString>),
    /// Attach a detached tree.
    Bind(Slot, Vec<MountChange>, Target),
    /// Like `Bind`, but if the source is a symbolic link, make the same link at the target.
    BindOrLink(Slot, Vec<MountChange>, Target),
    /// Change the mount at a path, and its file system (`remount`).
    Remount(Remount),
    /// mknodat(2) with exact mode and owner. If the same node exists, it is used. For another file, see `Other`.
    Mknod(DeviceNode),
    /// symlinkat(2). An existing file stays.
    Symlink {
        /// The text of the link.
        to: CString,
        /// The path of the link.
        path: CString,
    },
    /// Like `Symlink`, but replaces an existing file.
    Replace {
        /// The text of the link.
        to: CString,
        /// The path of the link.
        path: CString,
    },
    /// pivot_root(2) into the attached root, and unmount the old one.
    Pivot,
    /// umount2(2) the mounts at a path of the host, down to its proc or sysfs. If that is locked, cover it.
    Unmount(CString),
    /// Move the root onto `/` and chroot(2): for --no-pivot, and for containers in a ramfs.
    MoveRoot,
    /// chroot(2) to a directory: for containers without a mount namespace, and for exec into those.
    Chroot(Slot),
    /// Cover a path, if it exists.
    Mask {
        /// The path to cover.
        path: CString,
        /// Covers a file.
        null: Slot,
        /// Covers a directory.
        empty: Slot,
    },
    /// Make a path and all below it read-only, if it exists.
    ReadOnly(CString),
    /// Set flags of a mount at the end, when no step makes files in it any more.
    Finish {
        /// The mount point.
        path: CString,
        /// Its flags.
        attributes: Attributes,
    },
    /// Write a value below `sys` in the host's /proc.
    Sysctl {
        /// The path below `sys`.
        name: CString,
        /// The value to write.
        value: CString,
    },
    /// sethostname(2).
    Hostname(CString),
    /// setdomainname(2).
    Domainname(CString),
    /// Open a terminal in the container's own devpts, send its master away, and use it for the standard streams. It is
    /// not yet the controlling terminal of a session (`ControllingTerminal`).
    Console(Pty),
    // Rights, limits and scheduling.
    /// umask(2).
    Umask(u32),
    /// setgroups(2).
    Groups(Vec<Gid>),
    /// fchown(2) the standard streams to this uid, if they are pipes without a name.
    OwnStdio(u32),
    /// Drop these capabilities from the bounding set (a mask). The others stay over the next `Ids`.
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
    /// landlock_add_rule(2) for a path of the container.
    Allow {
        /// The ruleset.
        ruleset: Slot,
        /// Relative to the root.
        path: CString,
        /// LANDLOCK_ACCESS_FS_*, for this file or for all below this directory.
        access: u64,
        /// What to do if there is no such file.
        absent: Absent,
        /// Where the files are written down.
        files: Slot,
        /// The place of this one.
        nth: usize,
        /// Who looks it up.
        finder: FileFinder,
    },
    /// landlock_restrict_self(2).
    Restrict(Slot),
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
        /// Nodes as a bit mask, the lowest first.
        nodes: Vec<u64>,
    },
    /// PR_SET_PDEATHSIG(2const).
    DeathSignal(i32),
    /// sched_setaffinity(2) to every possible CPU: the cpuset decides.
    AllCpus,
    /// sched_setaffinity(2): CPU mask.
    Affinity(Vec<u64>),
    // The program.
    /// Make the working directory if it is missing (0755).
    MakeCwd(CString),
    /// chdir(2) as root. If permission is denied, the `Chdir` after `Ids` tries again.
    TryChdir(CString),
    /// chdir(2), and then make sure that it is inside the root (CVE-2024-21626).
    Chdir(CString),
    /// Set HOME to this uid's home directory in the container's /etc/passwd.
    Home(u32),
    /// Close descriptors for good (close_range(2)).
    CloseFds {
        /// This one and all above it.
        first: u32,
        /// Except those that later steps use.
        kept: Kept,
    },
    /// Check that one of the candidates of `Execve` exists.
    FindProgram(Execve),
    /// Report that the set-up is done, and wait until the runtime has recorded it.
    Ready,
    /// Wait for `start`.
    AwaitStart {
        /// The exec fifo: `start` writes to it.
        fifo: Slot,
        /// The fifo on which init reports later failures to `start`.
        answer: Slot,
    },
    /// Run hooks inside the container.
    Hooks {
        /// Which hooks.
        point: HookPoint,
        /// In their order.
        commands: Vec<HookCommand>,
        /// The state that they read on standard input.
        state: Slot,
        /// The file for their output.
        output: Slot,
    },
    /// Tell `start`, on the answer fifo, that only the exec is left. After this, the end of the stream means that the
    /// program has begun.
    AboutToExec(Slot),
    /// execve(2).
    Exec(Execve),
}

/// The descriptors that later steps use. The socket to the runtime process is always kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// By slot.
    pub slots: Vec<Slot>,
    /// Whether the host's /proc is one of them.
    pub host_proc: bool,
}

/// A terminal to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pty {
    /// The connected socket that receives the master.
    pub socket: Slot,
    /// Rows and columns.
    pub size: Option<(u16, u16)>,
    /// The uid of the process, which owns the slave.
    pub uid: u32,
    /// Whether /dev/console becomes this terminal (init), or does not change (exec).
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
pub struct Rlimit {
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
    /// A step that comes from a property.
    pub fn at(at: &At, what: What) -> Step {
        Step { what, from: Origin::At(at.clone()) }
    }

    /// A step that every container has.
    pub fn always(why: &'static str, what: What) -> Step {
        Step { what, from: Origin::Runtime(why) }
    }
}

impl Target {
    /// A path that becomes a directory if it is missing. Links in it are followed inside the root.
    pub fn directory(path: CString) -> Target {
        Target { path, missing: Missing::Directory, last: Last::Any }
    }
}

impl NewMount {
    /// A file system of this type, without settings, flags or anything special.
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
    /// The empty set.
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
