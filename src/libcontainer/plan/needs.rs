//! What each step needs and what it touches: descriptors, rights, paths, mounts. The rules of `tests/invariants.rs` stand on
//! these. Every match names every step, without `_`: who adds a step says here what it needs.

use std::ffi::CStr;

use rustix::thread::CapabilitySet;

use super::finished::Opening;
use super::step::{Console, ConsoleDevice, Missing, Namespaces, NewMount, Slot, Target, What};
use crate::wire::{HookPoint, Request};

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
    /// What is at this path in the mount namespace that the process is in: the owner of that namespace decides what it is.
    Path(&'a CStr),
    /// This file of the host's /proc, which the runtime opened (`sys/host_proc.rs`).
    HostProc(&'a CStr),
    /// What is at this path in the container's root. The kernel resolves it there, and no link leads out.
    Inside(&'a CStr),
}

/// All that a step needs and touches.
struct Needs<'a> {
    /// The man page's word for it.
    name: &'static str,
    /// What needs one comes before rights are given up.
    right: Right,
    /// Whether it attaches a mount, or changes one that is attached.
    mounts: bool,
    writes: Writes<'a>,
    /// The place that it puts a mount at.
    target: Option<&'a Target>,
    /// The descriptors that it uses beside the container's root.
    slots: [Option<(Slot, Use)>; 4],
}

const ADMIN: Right = Right::Capability(CapabilitySet::SYS_ADMIN);
const NET_ADMIN: Right = Right::Capability(CapabilitySet::NET_ADMIN);
/// To make files in a root that belongs to somebody else.
const OVERRIDE: Right = Right::Capability(CapabilitySet::DAC_OVERRIDE);
const NICE: Right = Right::Capability(CapabilitySet::SYS_NICE);
const SETID: Right = Right::Capability(CapabilitySet::SETUID.union(CapabilitySet::SETGID));

fn needs<'a>(name: &'static str, right: Right) -> Needs<'a> {
    Needs { name, right, mounts: false, writes: Writes::Nothing, target: None, slots: [None; 4] }
}

impl<'a> Needs<'a> {
    fn writing(self, writes: Writes<'a>) -> Needs<'a> {
        Needs { writes, ..self }
    }

    fn mounting(self, writes: Writes<'a>) -> Needs<'a> {
        Needs { writes, mounts: true, ..self }
    }

    fn attaching(self, target: &'a Target) -> Needs<'a> {
        Needs { target: Some(target), ..self.mounting(Writes::Inside(&target.path)) }
    }

    fn using<const N: usize>(mut self, slots: [Option<(Slot, Use)>; N]) -> Needs<'a> {
        self.slots.iter_mut().zip(slots).for_each(|(place, slot)| *place = slot);
        self
    }
}

impl What {
    fn needs(&self) -> Needs<'_> {
        use Right::{Anybody, Capability};
        use Writes::{HostProc, Inside, Nothing, Path};
        match self {
            What::Request(ask) => {
                let (right, slot) = asked(*ask);
                needs("ask", right).using([slot])
            }
            What::Join(slot, _) => needs("setns", ADMIN).using([Some((*slot, Use::Enter))]),
            What::Unshare(_) => needs("unshare", ADMIN),
            What::BecomeRoot => needs("setuid 0", SETID),
            What::EnterTime => needs("setns time", ADMIN),
            What::Loopback => needs("lo up", NET_ADMIN),
            // a clone into the pid namespace that setns(2) has chosen needs no right
            What::Spawn(Namespaces::NONE) => needs("clone", Anybody),
            What::Spawn(_) => needs("clone", ADMIN),
            What::Signals => needs("signals", Anybody),
            What::Undumpable => needs("not dumpable", Anybody),
            What::Session => needs("setsid", Anybody),
            What::ControllingTerminal => needs("controlling terminal", Anybody),
            What::Keyring(_) => needs("keyring", Anybody),
            What::Label { file, .. } => needs("label", Anybody).writing(HostProc(file)),
            What::Propagate { path, .. } => needs("propagation", ADMIN).mounting(Path(path)),
            What::PrivateAbove(path) => needs("private", ADMIN).mounting(Path(path)),
            What::AttachRoot { tree, path, .. } => {
                needs("mount root", ADMIN).mounting(Path(path)).using([Some((*tree, Use::Attach))])
            }
            What::NewMount(mount) => needs("mount", ADMIN).attaching(&mount.target).using(of_mount(mount)),
            What::Find(slot) => needs("find", Anybody).using([Some((*slot, Use::Find))]),
            What::Copy(slot, _) => needs("open_tree", ADMIN).using([Some((*slot, Use::Copy))]),
            What::EmptyDirectory(slot, _) => needs("empty directory", ADMIN).using([Some((*slot, Use::MakeEmpty))]),
            What::Bind(slot, _, target) => {
                needs("bind", ADMIN).attaching(target).using([looks(target), Some((*slot, Use::Attach))])
            }
            What::BindOrLink(slot, _, target) => {
                needs("bind or link", ADMIN).attaching(target).using([looks(target), Some((*slot, Use::Attach))])
            }
            What::Remount(_, target) => needs("remount", ADMIN).mounting(Inside(&target.path)).using([looks(target)]),
            What::Mknod(node) => needs("mknod", Capability(CapabilitySet::MKNOD)).writing(Inside(&node.path)),
            What::Symlink { path, .. } => needs("symlink", OVERRIDE).writing(Inside(path)),
            What::Replace { path, .. } => needs("symlink, replaced", OVERRIDE).writing(Inside(path)),
            What::Pivot => needs("pivot_root", ADMIN).mounting(Nothing),
            What::Unmount(path) => needs("umount", ADMIN).mounting(Path(path)),
            What::MoveRoot => needs("move root", ADMIN).mounting(Nothing),
            What::Chroot(slot) => {
                needs("chroot", Capability(CapabilitySet::SYS_CHROOT)).using([Some((*slot, Use::Chroot))])
            }
            What::Mask { path, null, empty } => {
                let slots = [*null, *empty].map(|slot| Some((slot, Use::AttachCopy)));
                needs("mask", ADMIN).mounting(Inside(path)).using(slots)
            }
            What::ReadOnly(path) => needs("read-only", ADMIN).mounting(Inside(path)),
            What::Finish { path, .. } => needs("mount_setattr", ADMIN).mounting(Inside(path)),
            What::Sysctl { name, .. } => needs("sysctl", ADMIN).writing(HostProc(name)),
            What::Hostname(_) => needs("sethostname", ADMIN),
            What::Domainname(_) => needs("setdomainname", ADMIN),
            What::Console(Console { socket, device: ConsoleDevice::Bound(target), .. }) => needs("terminal", ADMIN)
                .mounting(Inside(&target.path))
                .using([looks(target), Some((*socket, Use::SendTerminal))]),
            What::Console(Console { socket, device: ConsoleDevice::Untouched, .. }) => {
                needs("terminal", ADMIN).using([Some((*socket, Use::SendTerminal))])
            }
            What::Umask(_) => needs("umask", Anybody),
            What::Groups(_) => needs("setgroups", Capability(CapabilitySet::SETGID)),
            What::OwnStdio(_) => needs("fchown stdio", Capability(CapabilitySet::CHOWN)),
            What::Bounding(_) => needs("bounding set", Capability(CapabilitySet::SETPCAP)),
            What::Ids { .. } => needs("setresuid", SETID),
            What::Capabilities(_) => needs("capset", Anybody),
            What::NoNewPrivs => needs("no_new_privs", Anybody),
            What::Seccomp(_) => needs("seccomp", Right::AdminOrNoNewPrivs),
            What::Scheduler(_) => needs("sched_setattr", NICE),
            What::Processes { .. } => needs("setrlimit", Anybody),
            What::IoPriority(_) => needs("ioprio_set", NICE),
            What::Personality(_) => needs("personality", Anybody),
            What::MemoryPolicy { .. } => needs("set_mempolicy", Anybody),
            What::DeathSignal(_) => needs("parent-death signal", Anybody),
            What::AllCpus | What::Affinity(_) => needs("sched_setaffinity", Anybody),
            What::MakeCwd(path) => needs("mkdir cwd", OVERRIDE).writing(Inside(path)),
            What::TryChdir(_) => needs("chdir as root", OVERRIDE),
            What::Chdir(_) => needs("chdir", Anybody),
            What::Home(_) => needs("HOME", OVERRIDE),
            What::CloseFds { .. } => needs("close_range", Anybody),
            What::FindProgram(_) => needs("find program", Anybody),
            What::Ready => needs("ready", Anybody),
            What::AwaitStart { fifo, answer } => {
                needs("await start", Anybody).using([Some((*fifo, Use::AwaitStart)), Some((*answer, Use::AnswerStart))])
            }
            What::AboutToExec(answer) => needs("tell start", Anybody).using([Some((*answer, Use::AnswerStart))]),
            What::Hooks { point, state, output, .. } => needs("hooks", of_hooks(*point))
                .using([Some((*state, Use::ReadState)), Some((*output, Use::KeepOutput))]),
            What::Exec(_) => needs("execve", Anybody),
        }
    }

    /// The man page's word for it.
    pub fn name(&self) -> &'static str {
        self.needs().name
    }

    /// The descriptors that it uses beside the container's root, and for what.
    pub fn slots(&self) -> impl Iterator<Item = (Slot, Use)> {
        self.needs().slots.into_iter().flatten()
    }

    /// The right that it needs. What needs one comes before rights are given up.
    pub fn right(&self) -> Right {
        self.needs().right
    }

    /// Whether it attaches a mount, or changes one that is attached.
    pub fn mounts(&self) -> bool {
        self.needs().mounts
    }

    /// Which file or mount it writes to, makes, covers or changes.
    pub fn writes(&self) -> Writes<'_> {
        self.needs().writes
    }

    /// The place that it puts a mount at.
    pub fn target(&self) -> Option<&Target> {
        self.needs().target
    }

    /// Whether it goes through the host's /proc: to write, or to look at the process's own namespaces.
    pub fn needs_host_proc(&self) -> bool {
        // setns(2) refuses the user namespace that the process is in already: it is compared with the own one
        let own = |kinds: &Namespaces| kinds.has(libc::CLONE_NEWUSER as u64);
        matches!(self.writes(), Writes::HostProc(_))
            || matches!(self, What::Join(_, kinds) if own(kinds))
            || *self == What::EnterTime
    }
}

/// The right that an answer takes, and the descriptor that it is about.
fn asked(ask: Request) -> (Right, Option<(Slot, Use)>) {
    match ask {
        // the runtime's own rights: hooks may look at the container as its root is
        Request::IdMaps | Request::TimeOffsets | Request::Cgroup | Request::Limits | Request::Hooks(_) => {
            (Right::SameIds, None)
        }
        Request::Tree(slot) => (ADMIN, Some((Slot(slot as usize), Use::Receive))),
        Request::MapIds(slot) => (ADMIN, Some((Slot(slot as usize), Use::MapIds))),
        Request::NetDevices => (NET_ADMIN, None),
        // the runtime's own right, over a process that has none; or a look at it
        Request::SeccompListener | Request::Scheduler | Request::CheckViews | Request::Kept(_) => {
            (Right::Anybody, None)
        }
    }
}

fn of_hooks(point: HookPoint) -> Right {
    match point {
        HookPoint::CreateRuntime | HookPoint::CreateContainer => Right::SameIds,
        // SPEC: config.md#posix-platform-hooks: they run in the container, with what the program has
        HookPoint::StartContainer => Right::Anybody,
    }
}

fn looks(target: &Target) -> Option<(Slot, Use)> {
    match target.missing {
        Missing::LikeSource(slot) => Some((slot, Use::Look)),
        Missing::Directory | Missing::File => None,
    }
}

fn of_mount(mount: &NewMount) -> [Option<(Slot, Use)>; 4] {
    [
        looks(&mount.target),
        mount.ids.map(|slot| (slot, Use::MapIds)),
        mount.fallback.map(|slot| (slot, Use::Attach)),
        mount.pid_namespace.map(|slot| (slot, Use::Enter)),
    ]
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
