//! What each step needs and what it touches: descriptors, rights, paths, mounts. The rules of `tests/invariants.rs` stand on
//! these. Every match names every step, without `_`: who adds a step says here what it needs.

use std::ffi::CStr;

use rustix::thread::CapabilitySet;

use super::draft::Opening;
use super::step::{Console, ConsoleDevice, Missing, Namespaces, NewMount, Slot, Target, What};
use crate::wire::{Ask, HookPoint};

/// What a step does with a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// setns(2) into its namespaces.
    Enter,
    /// The ids of a mount go through the maps of this user namespace.
    MapIds,
    /// fchdir(2) and chroot(2) to this directory.
    Chroot,
    /// Open the same file again, in the own mount namespace.
    Find,
    /// Replace the file by a detached copy of its mount.
    Copy,
    /// Replace it by a new, empty, detached file system.
    MakeEmpty,
    /// Replace the source by the detached mount that the runtime sends.
    Receive,
    /// Attach this detached mount. It can be done once.
    Attach,
    /// Attach a copy of this detached mount. It can be done many times.
    AttachCopy,
    /// Look whether it is a directory.
    Look,
    /// Read the state that hooks get on standard input.
    ReadState,
    /// Write what hooks print.
    KeepOutput,
    /// Send the terminal's master.
    SendTerminal,
    /// Wait for `start`.
    AwaitStart,
    /// Answer to `start`.
    AnswerStart,
}

/// The right that the kernel asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// None: everybody may do it.
    Anybody,
    /// This capability, in the user namespace that owns what is changed.
    Capability(CapabilitySet),
    /// CAP_SYS_ADMIN, or no_new_privs (seccomp(2)).
    AdminOrNoNewPrivs,
    /// The same ids as the process that answers: the runtime acts on init, and the kernel compares who they are.
    SameIds,
}

/// What a step writes, and how it finds the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes<'a> {
    /// No file and no mount, or only what a descriptor stands for.
    Nothing,
    /// What is at this path in the mount namespace that the process is in. Whoever made that namespace decides what it is.
    Path(&'a CStr),
    /// This file of the host's /proc, which the runtime opened (`sys/host_proc.rs`).
    HostProc(&'a CStr),
    /// What is at this path in the container's root. The kernel resolves it there, and no link leads out.
    Inside(&'a CStr),
}

const ADMIN: Right = Right::Capability(CapabilitySet::SYS_ADMIN);
const NET_ADMIN: Right = Right::Capability(CapabilitySet::NET_ADMIN);
/// To make files in a root that belongs to somebody else.
const OVERRIDE: Right = Right::Capability(CapabilitySet::DAC_OVERRIDE);
const NICE: Right = Right::Capability(CapabilitySet::SYS_NICE);

impl What {
    /// The man page's word for it.
    pub fn name(&self) -> &'static str {
        match self {
            What::Ask(_) => "ask",
            What::Join(..) => "setns",
            What::Unshare(_) => "unshare",
            What::BecomeRoot => "setuid 0",
            What::EnterTime => "setns time",
            What::Loopback => "lo up",
            What::Spawn(_) => "clone",
            What::Signals => "signals",
            What::Undumpable => "not dumpable",
            What::Session => "setsid",
            What::ControllingTerminal => "controlling terminal",
            What::Keyring(_) => "keyring",
            What::Label(..) => "label",
            What::Propagate(..) => "propagation",
            What::PrivateAbove(_) => "private",
            What::AttachRoot(..) => "mount root",
            What::NewMount(_) => "mount",
            What::Find(_) => "find",
            What::Copy(..) => "open_tree",
            What::EmptyDirectory(..) => "empty directory",
            What::Bind(..) => "bind",
            What::BindOrLink(..) => "bind or link",
            What::Remount(..) => "remount",
            What::Mknod(_) => "mknod",
            What::Symlink(..) => "symlink",
            What::Replace(..) => "symlink, replaced",
            What::Pivot => "pivot_root",
            What::Unmount(_) => "umount",
            What::MoveRoot => "move root",
            What::Chroot(_) => "chroot",
            What::Mask(..) => "mask",
            What::ReadOnly(_) => "read-only",
            What::Finish(..) => "mount_setattr",
            What::Sysctl(..) => "sysctl",
            What::Hostname(_) => "sethostname",
            What::Domainname(_) => "setdomainname",
            What::Console(_) => "terminal",
            What::Umask(_) => "umask",
            What::Groups(_) => "setgroups",
            What::OwnStdio(_) => "fchown stdio",
            What::Bounding(_) => "bounding set",
            What::Ids(..) => "setresuid",
            What::Capabilities(_) => "capset",
            What::NoNewPrivs => "no_new_privs",
            What::Seccomp(_) => "seccomp",
            What::Scheduler(_) => "sched_setattr",
            What::Processes(..) => "setrlimit",
            What::IoPriority(_) => "ioprio_set",
            What::Personality(_) => "personality",
            What::MemoryPolicy(..) => "set_mempolicy",
            What::DeathSignal(_) => "parent-death signal",
            What::AllCpus | What::Affinity(_) => "sched_setaffinity",
            What::MakeCwd(_) => "mkdir cwd",
            What::TryChdir(_) => "chdir as root",
            What::Chdir(_) => "chdir",
            What::Home(_) => "HOME",
            What::CloseFds(..) => "close_range",
            What::FindProgram(_) => "find program",
            What::Ready => "ready",
            What::AwaitStart(..) => "await start",
            What::AboutToExec(_) => "tell start",
            What::Hooks(..) => "hooks",
            What::Exec(_) => "execve",
        }
    }

    /// The descriptors that it uses beside the container's root, and for what.
    pub fn slots(&self) -> Vec<(Slot, Use)> {
        match self {
            What::Ask(Ask::Tree(slot)) => vec![(Slot(*slot as usize), Use::Receive)],
            What::Ask(Ask::MapIds(slot)) => vec![(Slot(*slot as usize), Use::MapIds)],
            What::Ask(
                Ask::IdMaps
                | Ask::TimeOffsets
                | Ask::Cgroup
                | Ask::Limits
                | Ask::Scheduler
                | Ask::Hooks(_)
                | Ask::SeccompListener
                | Ask::NetDevices
                | Ask::CheckViews,
            ) => Vec::new(),
            What::Join(slot, _) => vec![(*slot, Use::Enter)],
            What::AttachRoot(slot, ..) => vec![(*slot, Use::Attach)],
            What::NewMount(mount) => mount.slots(),
            What::Find(slot) => vec![(*slot, Use::Find)],
            What::Copy(slot, _) => vec![(*slot, Use::Copy)],
            What::EmptyDirectory(slot, _) => vec![(*slot, Use::MakeEmpty)],
            What::Bind(slot, _, target) | What::BindOrLink(slot, _, target) => {
                target.slots().chain([(*slot, Use::Attach)]).collect()
            }
            What::Remount(_, target) => target.slots().collect(),
            What::Chroot(slot) => vec![(*slot, Use::Chroot)],
            What::Mask(_, null, empty) => vec![(*null, Use::AttachCopy), (*empty, Use::AttachCopy)],
            What::Console(console) => console.slots(),
            What::AwaitStart(fifo, answer) => vec![(*fifo, Use::AwaitStart), (*answer, Use::AnswerStart)],
            What::AboutToExec(answer) => vec![(*answer, Use::AnswerStart)],
            What::Hooks(_, _, state, output) => vec![(*state, Use::ReadState), (*output, Use::KeepOutput)],
            What::Unshare(_)
            | What::BecomeRoot
            | What::EnterTime
            | What::Loopback
            | What::Spawn(_)
            | What::Signals
            | What::Undumpable
            | What::Session
            | What::ControllingTerminal
            | What::Processes(..)
            | What::Keyring(_)
            | What::Label(..)
            | What::Propagate(..)
            | What::PrivateAbove(_)
            | What::Mknod(_)
            | What::Symlink(..)
            | What::Replace(..)
            | What::Pivot
            | What::Unmount(_)
            | What::MoveRoot
            | What::ReadOnly(_)
            | What::Finish(..)
            | What::Sysctl(..)
            | What::Hostname(_)
            | What::Domainname(_)
            | What::Umask(_)
            | What::Groups(_)
            | What::OwnStdio(_)
            | What::Bounding(_)
            | What::Ids(..)
            | What::Capabilities(_)
            | What::NoNewPrivs
            | What::Seccomp(_)
            | What::Scheduler(_)
            | What::IoPriority(_)
            | What::Personality(_)
            | What::MemoryPolicy(..)
            | What::DeathSignal(_)
            | What::AllCpus
            | What::Affinity(_)
            | What::MakeCwd(_)
            | What::TryChdir(_)
            | What::Chdir(_)
            | What::Home(_)
            | What::CloseFds(..)
            | What::FindProgram(_)
            | What::Ready
            | What::Exec(_) => Vec::new(),
        }
    }

    /// The right that it needs. What needs one comes before rights are given up.
    pub fn right(&self) -> Right {
        match self {
            What::Ask(Ask::IdMaps | Ask::TimeOffsets | Ask::Cgroup | Ask::Limits) => Right::SameIds,
            What::Ask(Ask::Tree(_) | Ask::MapIds(_)) => ADMIN,
            What::Ask(Ask::NetDevices) => NET_ADMIN,
            // the runtime's own rights: hooks may look at the container as its root is
            What::Ask(Ask::Hooks(_)) => Right::SameIds,
            // the runtime's own right, over a process that has none; or a look at it
            What::Ask(Ask::SeccompListener | Ask::Scheduler | Ask::CheckViews) => Right::Anybody,
            // a clone into the pid namespace that setns(2) has chosen needs no right
            What::Spawn(Namespaces::NONE) => Right::Anybody,
            What::Join(..) | What::Unshare(_) | What::EnterTime | What::Spawn(_) => ADMIN,
            What::BecomeRoot | What::Ids(..) => Right::Capability(CapabilitySet::SETUID.union(CapabilitySet::SETGID)),
            What::Groups(_) => Right::Capability(CapabilitySet::SETGID),
            What::Bounding(_) => Right::Capability(CapabilitySet::SETPCAP),
            What::Loopback => NET_ADMIN,
            What::Propagate(..) | What::PrivateAbove(_) | What::AttachRoot(..) => ADMIN,
            What::NewMount(_) | What::Copy(..) | What::EmptyDirectory(..) => ADMIN,
            What::Bind(..) | What::BindOrLink(..) | What::Remount(..) => ADMIN,
            What::Pivot | What::Unmount(_) | What::MoveRoot | What::Mask(..) | What::ReadOnly(_) | What::Finish(..) => {
                ADMIN
            }
            What::Sysctl(..) | What::Hostname(_) | What::Domainname(_) | What::Console(_) => ADMIN,
            What::Mknod(_) => Right::Capability(CapabilitySet::MKNOD),
            What::Symlink(..) | What::Replace(..) | What::MakeCwd(_) | What::TryChdir(_) | What::Home(_) => OVERRIDE,
            What::Chroot(_) => Right::Capability(CapabilitySet::SYS_CHROOT),
            What::OwnStdio(_) => Right::Capability(CapabilitySet::CHOWN),
            What::Scheduler(_) | What::IoPriority(_) => NICE,
            What::Seccomp(_) => Right::AdminOrNoNewPrivs,
            What::Hooks(HookPoint::CreateRuntime | HookPoint::CreateContainer, ..) => Right::SameIds,
            // SPEC: config.md#posix-platform-hooks: they run in the container, with what the program has
            What::Hooks(HookPoint::StartContainer, ..) => Right::Anybody,
            What::Find(_)
            | What::Signals
            | What::Undumpable
            | What::Session
            | What::ControllingTerminal
            | What::Processes(..)
            | What::Keyring(_)
            | What::Label(..)
            | What::Umask(_)
            | What::Capabilities(_)
            | What::NoNewPrivs
            | What::Personality(_)
            | What::MemoryPolicy(..)
            | What::DeathSignal(_)
            | What::AllCpus
            | What::Affinity(_)
            | What::Chdir(_)
            | What::CloseFds(..)
            | What::FindProgram(_)
            | What::Ready
            | What::AwaitStart(..)
            | What::AboutToExec(_)
            | What::Exec(_) => Right::Anybody,
        }
    }

    /// Whether it attaches a mount, or changes one that is attached.
    pub fn mounts(&self) -> bool {
        match self {
            What::Propagate(..)
            | What::PrivateAbove(_)
            | What::AttachRoot(..)
            | What::NewMount(_)
            | What::Bind(..)
            | What::BindOrLink(..)
            | What::Remount(..)
            | What::Pivot
            | What::Unmount(_)
            | What::MoveRoot
            | What::Mask(..)
            | What::ReadOnly(_)
            | What::Finish(..) => true,
            What::Console(console) => matches!(console.device, ConsoleDevice::Bound(_)),
            What::Ask(_)
            | What::Join(..)
            | What::Unshare(_)
            | What::BecomeRoot
            | What::EnterTime
            | What::Loopback
            | What::Spawn(_)
            | What::Signals
            | What::Undumpable
            | What::Session
            | What::ControllingTerminal
            | What::Processes(..)
            | What::Keyring(_)
            | What::Label(..)
            | What::Find(_)
            | What::Copy(..)
            | What::EmptyDirectory(..)
            | What::Mknod(_)
            | What::Symlink(..)
            | What::Replace(..)
            | What::Chroot(_)
            | What::Sysctl(..)
            | What::Hostname(_)
            | What::Domainname(_)
            | What::Umask(_)
            | What::Groups(_)
            | What::OwnStdio(_)
            | What::Bounding(_)
            | What::Ids(..)
            | What::Capabilities(_)
            | What::NoNewPrivs
            | What::Seccomp(_)
            | What::Scheduler(_)
            | What::IoPriority(_)
            | What::Personality(_)
            | What::MemoryPolicy(..)
            | What::DeathSignal(_)
            | What::AllCpus
            | What::Affinity(_)
            | What::MakeCwd(_)
            | What::TryChdir(_)
            | What::Chdir(_)
            | What::Home(_)
            | What::CloseFds(..)
            | What::FindProgram(_)
            | What::Ready
            | What::AwaitStart(..)
            | What::AboutToExec(_)
            | What::Hooks(..)
            | What::Exec(_) => false,
        }
    }

    /// Which file or mount it writes to, makes, covers or changes.
    pub fn writes(&self) -> Writes<'_> {
        match self {
            What::Label(file, _) | What::Sysctl(file, _) => Writes::HostProc(file),
            What::Propagate(path, _) | What::PrivateAbove(path) | What::AttachRoot(_, path, _) => Writes::Path(path),
            What::Unmount(path) => Writes::Path(path),
            What::NewMount(mount) => Writes::Inside(&mount.target.path),
            What::Bind(_, _, target) | What::BindOrLink(_, _, target) | What::Remount(_, target) => {
                Writes::Inside(&target.path)
            }
            What::Mknod(node) => Writes::Inside(&node.path),
            What::Symlink(_, path) | What::Replace(_, path) => Writes::Inside(path),
            What::Mask(path, ..) | What::ReadOnly(path) | What::Finish(path, _) => Writes::Inside(path),
            What::MakeCwd(path) => Writes::Inside(path),
            What::Console(console) => match &console.device {
                ConsoleDevice::Bound(target) => Writes::Inside(&target.path),
                ConsoleDevice::Untouched => Writes::Nothing,
            },
            What::Ask(_)
            | What::Join(..)
            | What::Unshare(_)
            | What::BecomeRoot
            | What::EnterTime
            | What::Loopback
            | What::Spawn(_)
            | What::Signals
            | What::Undumpable
            | What::Session
            | What::ControllingTerminal
            | What::Processes(..)
            | What::Keyring(_)
            | What::Find(_)
            | What::Copy(..)
            | What::EmptyDirectory(..)
            | What::Pivot
            | What::MoveRoot
            | What::Chroot(_)
            | What::Hostname(_)
            | What::Domainname(_)
            | What::Umask(_)
            | What::Groups(_)
            | What::OwnStdio(_)
            | What::Bounding(_)
            | What::Ids(..)
            | What::Capabilities(_)
            | What::NoNewPrivs
            | What::Seccomp(_)
            | What::Scheduler(_)
            | What::IoPriority(_)
            | What::Personality(_)
            | What::MemoryPolicy(..)
            | What::DeathSignal(_)
            | What::AllCpus
            | What::Affinity(_)
            | What::TryChdir(_)
            | What::Chdir(_)
            | What::Home(_)
            | What::CloseFds(..)
            | What::FindProgram(_)
            | What::Ready
            | What::AwaitStart(..)
            | What::AboutToExec(_)
            | What::Hooks(..)
            | What::Exec(_) => Writes::Nothing,
        }
    }
}

impl What {
    /// Whether it goes through the host's /proc: to write, or to look at the process's own namespaces.
    pub fn needs_host_proc(&self) -> bool {
        match self.writes() {
            Writes::HostProc(_) => true,
            Writes::Nothing | Writes::Path(_) | Writes::Inside(_) => {
                // setns(2) refuses the user namespace that the process is in already: it is compared with the own one
                let own = |kinds: &Namespaces| kinds.has(libc::CLONE_NEWUSER as u64);
                matches!(self, What::Join(_, kinds) if own(kinds)) || *self == What::EnterTime
            }
        }
    }
}

impl Target {
    fn slots(&self) -> impl Iterator<Item = (Slot, Use)> {
        match self.missing {
            Missing::LikeSource(slot) => Some((slot, Use::Look)),
            Missing::Directory | Missing::File => None,
        }
        .into_iter()
    }
}

impl NewMount {
    fn slots(&self) -> Vec<(Slot, Use)> {
        let maps = self.ids.map(|slot| (slot, Use::MapIds));
        let instead = self.fallback.map(|slot| (slot, Use::Attach));
        let pids = self.pid_namespace.map(|slot| (slot, Use::Enter));
        self.target.slots().chain(maps).chain(instead).chain(pids).collect()
    }
}

impl Console {
    fn slots(&self) -> Vec<(Slot, Use)> {
        let place = match &self.device {
            ConsoleDevice::Bound(target) => target.slots().next(),
            ConsoleDevice::Untouched => None,
        };
        place.into_iter().chain([(self.socket, Use::SendTerminal)]).collect()
    }
}

/// What a descriptor is good for, as it was opened and as steps have changed it since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// As the runtime opened it.
    Opened,
    /// The file, found again in init's own mount namespace.
    Found,
    /// A detached mount, ready to be attached.
    Detached,
    /// It has been attached: it is a place now.
    Attached,
}

impl Opening {
    /// Whether a descriptor that was opened so and is in this state serves for this, and its state afterwards.
    pub fn serves(&self, state: State, wanted: Use) -> Option<State> {
        let is = |right: bool| right.then_some(state);
        match wanted {
            Use::Enter => is(matches!(self, Opening::Namespace(..) | Opening::Process(_))),
            Use::MapIds => is(matches!(self, Opening::IdMaps(_))),
            Use::Chroot => is(matches!(self, Opening::Directory(_) | Opening::RootOf(_))),
            Use::ReadState => is(matches!(self, Opening::HookState(_))),
            Use::KeepOutput => is(*self == Opening::HookOutput),
            Use::SendTerminal => is(*self == Opening::Terminal),
            Use::AwaitStart => is(*self == Opening::StartFifo),
            Use::AnswerStart => is(*self == Opening::AnswerFifo),
            Use::Look => is(self.is_mountable()),
            Use::Find => (state == State::Opened && matches!(self, Opening::Found(_))).then_some(State::Found),
            Use::Copy => (state == State::Found).then_some(State::Detached),
            Use::MakeEmpty => {
                let empty = matches!(self, Opening::Found(inner) if matches!(**inner, Opening::Empty(_)));
                (state == State::Opened && empty).then_some(State::Detached)
            }
            Use::Receive => (state == State::Opened && matches!(self, Opening::Source(..))).then_some(State::Detached),
            Use::Attach => (self.is_detached(state)).then_some(State::Attached),
            Use::AttachCopy => is(self.is_detached(state)),
        }
    }

    fn is_mountable(&self) -> bool {
        self.reach().is_some()
    }

    /// The runtime's own copies are detached from the start; the others become so.
    fn is_detached(&self, state: State) -> bool {
        match state {
            State::Detached => true,
            State::Opened => self.is_mountable() && !matches!(self, Opening::Found(_) | Opening::Source(..)),
            State::Found | State::Attached => false,
        }
    }
}
