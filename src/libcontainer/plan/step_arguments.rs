//! The arguments of steps: slots, paths, mounts, device nodes, hooks, programs. Each is plain data for a system call.

use std::ffi::{CStr, CString};

use crate::config::At;
use crate::sys::exec::Strings;
use crate::sys::mount::{Attributes, Reach};

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

/// What init does with the supplementary groups of the caller.
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

/// The size of a device number and an inode number. They identify a file of a ruleset.
pub const FILE_ID_SIZE: usize = 16;

/// The role of a process in the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Its first process.
    First,
    /// A process of `exec`.
    Further,
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
    /// The origin of `env`.
    pub env_of: EnvOf,
    /// Seconds until init kills it with its process group.
    pub timeout: Option<u32>,
    /// The flags of the filter that its process loads just before its exec, if init itself loads it later.
    pub filter: Option<u32>,
}

/// The origin of a hook's environment.
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
    /// It does not change.
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
