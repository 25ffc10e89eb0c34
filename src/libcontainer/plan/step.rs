//! The actions of a plan. Each step of init is plain data for one system call, with the property that it comes from.
//! This file has no control flow: `plan` decides, or, if only the kernel knows the answer, one named step does.

use std::ffi::CString;

use rustix::thread::Gid;

pub use super::step_arguments::{
    Absent, CallersGroups, CapabilitySets, ConsoleDevice, Content, DeviceNode, EnvOf, Execve, FILE_ID_SIZE,
    FILE_RIGHTS, HookCommand, Kept, Last, Missing, MountChange, Namespaces, NewMount, Other, Pty, Remount, Rlimit,
    Role, Setting, Slot, Target,
};
use crate::config::At;
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

/// The action of a step: a man page's word or two. `init` has one match arm for each.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    // Namespaces and sessions.
    /// Send a request, and wait until the runtime process has carried it out.
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
    /// Install handlers, so that SIGTERM and the like end this process, although it may be the first of a pid namespace. The exec
    /// resets them.
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
        /// The file that lists the found files.
        files: Slot,
        /// The number of this path in the list.
        nth: usize,
        /// The process that looks it up. The first one records the files that it finds. A further one must find the same
        /// files: the container may have put a link or another file there.
        role: Role,
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
    /// chdir(2), and then check that the directory is inside the root (CVE-2024-21626).
    Chdir(CString),
    /// Set HOME to this uid's home directory in the container's /etc/passwd.
    Home(u32),
    /// Close descriptors for good (close_range(2)).
    CloseFds {
        /// The first number. All higher ones are closed, too.
        first: u32,
        /// The descriptors that stay open, because later steps use them.
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

impl Step {
    /// A step that comes from a property.
    pub fn new(at: &At, what: What) -> Step {
        Step { what, from: Origin::At(at.clone()) }
    }

    /// A step that every container has.
    pub fn always(why: &'static str, what: What) -> Step {
        Step { what, from: Origin::Runtime(why) }
    }
}
