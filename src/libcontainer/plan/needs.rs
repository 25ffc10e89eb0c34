//! The needs of each step: descriptors, rights, paths, mounts. The rules of `tests/invariants.rs` use this. Every match
//! names every step, without `_`, so a new step must be added here.

use std::ffi::CStr;

use rustix::thread::CapabilitySet;

use super::finished::Opening;
use super::step::{ConsoleDevice, Missing, Namespaces, NewMount, Other, Pty, Remount, Slot, Target, What};
use crate::wire::{HookPoint, Request};

/// The use of a descriptor in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// setns(2) into its namespaces.
    Enter,
    /// Use the id maps of this user namespace for a mount.
    MapIds,
    /// fchdir(2) and chroot(2) to this directory.
    Chroot,
    /// Open the same file again, in init's own mount namespace.
    Find,
    /// Replace the file by a detached copy of its mount.
    Copy,
    /// Replace the slot by a new, empty, detached file system.
    MakeEmpty,
    /// Replace the source by the detached mount that the runtime sends.
    Receive,
    /// Attach this detached mount. It can be done once.
    Attach,
    /// Attach a copy of this detached mount. It can be done many times.
    AttachCopy,
    /// Check whether it is a directory.
    Look,
    /// Read the state that hooks get on standard input.
    ReadState,
    /// Write the output of hooks.
    KeepOutput,
    /// Add rules to this ruleset, or apply it.
    Confine,
    /// Write or read the list of the files at the paths of a ruleset.
    Recall,
    /// Send the terminal's master.
    SendTerminal,
    /// Wait for `start`.
    AwaitStart,
    /// Answer to `start`.
    AnswerStart,
}

/// The right that the kernel requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// None: any process may do it.
    Anybody,
    /// This capability, in the user namespace that owns the changed object.
    Capability(CapabilitySet),
    /// CAP_SYS_ADMIN, or no_new_privs (seccomp(2), landlock_restrict_self(2)).
    AdminOrNoNewPrivs,
    /// The same ids as the runtime: the runtime acts on init, and the kernel compares their ids.
    SameIds,
}

/// The file that a step writes, and how it finds the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes<'a> {
    /// No file and no mount, or only the object of a descriptor.
    Nothing,
    /// The file at this path in the process's mount namespace. The owner of that namespace decides which file that is.
    Path(&'a CStr),
    /// This file of the host's /proc, which the runtime opened (`sys/host_proc.rs`).
    HostProc(&'a CStr),
    /// The file at this path in the container's root. The kernel resolves the path there, and no link leads out.
    Inside(&'a CStr),
}

/// The needs of a step.
struct Needs<'a> {
    /// Its name: the man page's word.
    name: &'static str,
    /// The right. A step that needs one comes before the rights are given up.
    right: Right,
    /// Whether the step attaches a mount, or changes an attached one.
    mounts: bool,
    writes: Writes<'a>,
    /// The mount point of the mount that it makes.
    target: Option<&'a Target>,
    /// The descriptors that it uses, except the container's root.
    slots: [Option<(Slot, Use)>; 4],
}

const ADMIN: Right = Right::Capability(CapabilitySet::SYS_ADMIN);
const NET_ADMIN: Right = Right::Capability(CapabilitySet::NET_ADMIN);
/// Needed to make files in a root that belongs to another user.
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
        self.slots.iter_mut().zip(slots).for_each(|(own, slot)| *own = slot);
        self
    }
}

impl What {
    #[expect(clippy::too_many_lines, reason = "a table: what each step needs")]
    fn needs(&self) -> Needs<'_> {
        use Right::{Anybody, Capability};
        use Writes::{HostProc, Inside, Nothing, Path};
        match self {
            What::Request(request) => {
                let (right, slot) = needs_of_request(*request);
                needs("ask", right).using([slot])
            }
            What::Join(slot, _) => needs("setns", ADMIN).using([Some((*slot, Use::Enter))]),
            What::Unshare(_) => needs("unshare", ADMIN),
            What::BecomeRoot(_) => needs("setuid 0", SETID),
            What::EnterTime => needs("setns time", ADMIN),
            What::Loopback => needs("lo up", NET_ADMIN),
            // A clone into the pid namespace that setns(2) has chosen needs no right.
            What::Spawn(Namespaces::NONE) => needs("clone", Anybody),
            What::Spawn(_) => needs("clone", ADMIN),
            What::Signals => needs("signals", Anybody),
            What::ExitOnSignals => needs("exit on signals", Anybody),
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
            What::Remount(Remount { target, .. }) => {
                needs("remount", ADMIN).mounting(Inside(&target.path)).using([looks(target)])
            }
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
            What::Console(Pty { socket, device: ConsoleDevice::Bound(target), .. }) => needs("terminal", ADMIN)
                .mounting(Inside(&target.path))
                .using([looks(target), Some((*socket, Use::SendTerminal))]),
            What::Console(Pty { socket, device: ConsoleDevice::Untouched, .. }) => {
                needs("terminal", ADMIN).using([Some((*socket, Use::SendTerminal))])
            }
            What::Umask(_) => needs("umask", Anybody),
            What::Groups(_) => needs("setgroups", Capability(CapabilitySet::SETGID)),
            What::OwnStdio(_) => needs("fchown stdio", Capability(CapabilitySet::CHOWN)),
            What::Bounding(_) => needs("bounding set", Capability(CapabilitySet::SETPCAP)),
            What::Ids { .. } => needs("setresuid", SETID),
            What::Capabilities(_) => needs("capset", Anybody),
            What::NoNewPrivs => needs("no_new_privs", Anybody),
            What::Allow { ruleset, files, .. } => needs("landlock_add_rule", OVERRIDE)
                .using([Some((*ruleset, Use::Confine)), Some((*files, Use::Recall))]),
            What::Restrict(ruleset) => {
                needs("landlock_restrict_self", Right::AdminOrNoNewPrivs).using([Some((*ruleset, Use::Confine))])
            }
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

    /// The name of the step: the man page's word.
    pub fn name(&self) -> &'static str {
        self.needs().name
    }

    /// The descriptors that it uses, except the container's root, and how.
    pub fn slots(&self) -> impl Iterator<Item = (Slot, Use)> {
        self.needs().slots.into_iter().flatten()
    }

    /// The right that it needs. A step that needs one comes before the rights are given up.
    pub fn right(&self) -> Right {
        self.needs().right
    }

    /// Whether the step may send this request. Each step sends one at most.
    pub fn may_request(&self, request: Request) -> bool {
        match request {
            Request::MapIds(number) => {
                let ids = Slot(number as usize);
                match self {
                    What::NewMount(mount) => mount.ids == Some(ids),
                    // A source that is opened at its step, in the container's root.
                    What::Copy(source, _) => *source == ids,
                    What::Request(Request::Tree(source)) => *source == number,
                    _ => false,
                }
            }
            Request::Kept(number) => matches!(self, What::Mknod(node) if node.other == Other::Keep(number)),
            request => *self == What::Request(request),
        }
    }

    /// Whether it attaches a mount, or changes an attached one.
    pub fn mounts(&self) -> bool {
        self.needs().mounts
    }

    /// The file or mount that it writes, makes, covers or changes.
    pub fn writes(&self) -> Writes<'_> {
        self.needs().writes
    }

    /// The mount point of the mount that it makes.
    pub fn target(&self) -> Option<&Target> {
        self.needs().target
    }

    /// Whether it uses the host's /proc: to write a file, or to read its own namespaces.
    pub fn needs_host_proc(&self) -> bool {
        // setns(2) refuses the process's own user namespace. So the step compares the two first.
        let own = |namespaces: &Namespaces| namespaces.has(libc::CLONE_NEWUSER as u64);
        matches!(self.writes(), Writes::HostProc(_))
            || matches!(self, What::Join(_, namespaces) if own(namespaces))
            || *self == What::EnterTime
    }
}

/// The right that the answer to a request needs, and the descriptor that it concerns.
fn needs_of_request(request: Request) -> (Right, Option<(Slot, Use)>) {
    match request {
        // The runtime's own rights. Hooks are among these: they may inspect init, which must still be root.
        Request::IdMaps
        | Request::TimeOffsets
        | Request::Cgroup
        | Request::Delegate
        | Request::Limits
        | Request::Hooks(_) => (Right::SameIds, None),
        Request::Tree(slot) => (ADMIN, Some((Slot(slot as usize), Use::Receive))),
        Request::MapIds(slot) => (ADMIN, Some((Slot(slot as usize), Use::MapIds))),
        Request::NetDevices => (NET_ADMIN, None),
        // The runtime's own right over a process that has none, or a check only.
        Request::SeccompListener | Request::Scheduler | Request::CheckViews | Request::Kept(_) => {
            (Right::Anybody, None)
        }
    }
}

fn of_hooks(point: HookPoint) -> Right {
    match point {
        HookPoint::CreateRuntime | HookPoint::CreateContainer => Right::SameIds,
        // SPEC: config.md#posix-platform-hooks: these hooks run in the container, with the rights of the program.
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

/// The state of a descriptor: as it was opened, or as steps have changed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotState {
    /// As the runtime opened it.
    Opened,
    /// The same file, opened again in init's own mount namespace.
    Found,
    /// A detached mount, ready to be attached.
    Detached,
    /// It has been attached: it refers to a mount point now.
    Attached,
}

impl Opening {
    /// Whether a descriptor that was opened this way and is in this state can be used for `wanted`, and its state
    /// afterwards.
    pub fn serves(&self, state: SlotState, wanted: Use) -> Option<SlotState> {
        let is = |right: bool| right.then_some(state);
        match wanted {
            Use::Enter => is(matches!(self, Opening::Namespace(..) | Opening::Process(_))),
            Use::MapIds => is(matches!(self, Opening::IdMaps(_))),
            Use::Chroot => is(matches!(self, Opening::Directory(_) | Opening::RootOf(_))),
            Use::ReadState => is(matches!(self, Opening::HookState(_))),
            Use::KeepOutput => is(*self == Opening::HookOutput),
            Use::Confine => is(matches!(self, Opening::Landlock(_))),
            Use::Recall => is(*self == Opening::FilesOfRuleset),
            Use::SendTerminal => is(*self == Opening::Terminal),
            Use::AwaitStart => is(*self == Opening::StartFifo),
            Use::AnswerStart => is(*self == Opening::AnswerFifo),
            Use::Look => is(self.is_mountable()),
            Use::Find => (state == SlotState::Opened && matches!(self, Opening::Found(_))).then_some(SlotState::Found),
            Use::Copy => (state == SlotState::Found).then_some(SlotState::Detached),
            Use::MakeEmpty => {
                let empty = matches!(self, Opening::Found(inner) if matches!(**inner, Opening::Empty(_)));
                (state == SlotState::Opened && empty).then_some(SlotState::Detached)
            }
            Use::Receive => {
                (state == SlotState::Opened && matches!(self, Opening::Source(..))).then_some(SlotState::Detached)
            }
            Use::Attach => (self.is_detached(state)).then_some(SlotState::Attached),
            Use::AttachCopy => is(self.is_detached(state)),
        }
    }

    fn is_mountable(&self) -> bool {
        self.reach().is_some()
    }

    /// The runtime's copies are detached from the start. Others become detached by a step.
    fn is_detached(&self, state: SlotState) -> bool {
        match state {
            SlotState::Detached => true,
            SlotState::Opened => self.is_mountable() && !matches!(self, Opening::Found(_) | Opening::Source(..)),
            SlotState::Found | SlotState::Attached => false,
        }
    }
}
