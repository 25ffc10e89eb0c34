//! Which namespaces are new, which are joined, and in how many forks: decided once, here, and visible in the plan.

use std::collections::HashMap;
use std::ffi::CString;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespaceType, LinuxTimeOffset};

use super::Asked;
use super::draft::{Draft, Dumpable, Joined, Opening, TimeOffset};
use super::process::{self, Own};
use super::step::{Namespaces, Origin, Step, What};
use super::{idmap, net_devices, sysctl};
use crate::config::At;
use crate::host::Mounts;
use crate::wire::Ask;

/// CLONE_NEW* as the plan holds them.
pub(super) const MOUNT: u64 = libc::CLONE_NEWNS as u64;
pub(super) const CGROUP: u64 = libc::CLONE_NEWCGROUP as u64;
pub(super) const UTS: u64 = libc::CLONE_NEWUTS as u64;
pub(super) const USER: u64 = libc::CLONE_NEWUSER as u64;
pub(super) const PID: u64 = libc::CLONE_NEWPID as u64;
pub(super) const NETWORK: u64 = libc::CLONE_NEWNET as u64;
pub(super) const TIME: u64 = libc::CLONE_NEWTIME as u64;
pub(super) const IPC: u64 = libc::CLONE_NEWIPC as u64;

/// Every kind with the word of the spec and the name of its file under /proc/PID/ns.
pub const KINDS: [(u64, &str, &str); 8] = [
    (MOUNT, "mount", "mnt"),
    (CGROUP, "cgroup", "cgroup"),
    (UTS, "uts", "uts"),
    (IPC, "ipc", "ipc"),
    (USER, "user", "user"),
    (PID, "pid", "pid"),
    (NETWORK, "network", "net"),
    (TIME, "time", "time"),
];

/// The container's namespaces.
#[derive(Debug, Default)]
pub(super) struct Kinds {
    /// To be made.
    pub(super) new: Namespaces,
    /// To be entered.
    joined: Vec<(u64, PathBuf, At)>,
}

impl Kinds {
    /// True when the container has its own of this kind, or a pod's: anything but the host's.
    pub(super) fn private(&self, kind: u64) -> bool {
        self.new.has(kind) || self.joins(kind)
    }

    /// The file of the one that is joined.
    pub(super) fn path_of(&self, kind: u64) -> Option<(&Path, &At)> {
        self.joined.iter().find(|(joined, ..)| *joined == kind).map(|(_, path, at)| (path.as_path(), at))
    }

    pub(super) fn joins(&self, kind: u64) -> bool {
        self.joined.iter().any(|(joined, ..)| *joined == kind)
    }
}

/// The bit of a namespace type.
pub fn bit(kind: LinuxNamespaceType) -> u64 {
    match kind {
        LinuxNamespaceType::Mount => MOUNT,
        LinuxNamespaceType::Cgroup => CGROUP,
        LinuxNamespaceType::Uts => UTS,
        LinuxNamespaceType::Ipc => IPC,
        LinuxNamespaceType::User => USER,
        LinuxNamespaceType::Pid => PID,
        LinuxNamespaceType::Network => NETWORK,
        LinuxNamespaceType::Time => TIME,
    }
}

/// Reads `linux.namespaces`. SPEC: config-linux.md#namespaces.
pub(super) fn of(ask: &Asked<'_>, plan: &mut Draft) -> Kinds {
    let mut kinds = Kinds::default();
    let list = ask.config.spec.linux().as_ref().and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default();
    for (n, namespace) in list.iter().enumerate() {
        let at = At::new("linux.namespaces").index(n);
        let kind = bit(namespace.typ());
        if kinds.private(kind) {
            plan.fault(&at, format!("a second {} namespace", word(kind)));
        }
        match namespace.path().as_ref().filter(|path| !path.as_os_str().is_empty()) {
            None => kinds.new.0 |= kind,
            Some(path) if path.is_absolute() => kinds.joined.push((kind, path.clone(), at.key("path"))),
            Some(path) => plan.fault(&at.key("path"), format!("{path:?} is not absolute")),
        }
    }
    idmap::check(ask, &kinds, plan);
    an_ordinary_user_needs(ask, &kinds, plan);
    kinds
}

/// Who is not root makes namespaces only in a user namespace, and mounts only in a mount namespace that belongs to it.
fn an_ordinary_user_needs(ask: &Asked<'_>, kinds: &Kinds, plan: &mut Draft) {
    let (me, at) = (&ask.host.me, At::new("linux.namespaces"));
    if me.uid != 0 && !kinds.private(USER) {
        plan.fault(&at, format!("rootless container requires user namespaces: we are uid {} and not root", me.uid));
    } else if me.mounts == Mounts::Inside && !kinds.private(USER) {
        plan.fault(&at, "needs a user namespace: we may not mount in the one we are in");
    } else if me.mounts == Mounts::Inside && !kinds.private(MOUNT) {
        plan.fault(&at, "needs a mount namespace: we may not mount in the one we are in");
    }
}

/// No process of the container looks into init. Only an ordinary user's init is open until its maps are written.
pub(super) fn unseen(ask: &Asked<'_>, kinds: &Kinds, plan: &mut Draft) {
    if mapped_by_user(ask, kinds) {
        plan.plan().birth.dumpable = Dumpable::UntilMapped;
    } else {
        process::unseen(plan);
    }
}

/// True for the one init that is open at first. In a pid namespace that is joined it never is: others are there, and only
/// root can join one that does not belong to the user namespace it joins as well.
fn mapped_by_user(ask: &Asked<'_>, kinds: &Kinds) -> bool {
    ask.host.me.uid != 0 && kinds.new.has(USER) && !kinds.joins(PID)
}

/// The spec's word for a kind.
pub(super) fn word(kind: u64) -> &'static str {
    KINDS.iter().find(|(bit, ..)| *bit == kind).map_or("unknown", |(_, word, _)| word)
}

/// Enters them all but the cgroup namespace, which comes when the container is in its cgroup.
pub(super) fn enter(ask: &Asked<'_>, kinds: &Kinds, plan: &mut Draft) {
    let late = CGROUP | TIME;
    let joins_beside_new_users = kinds.new.has(USER) && !kinds.joined.is_empty();
    if joins_beside_new_users && kinds.joins(PID) {
        new_users_beside_pids(kinds, plan);
    } else if kinds.joins(USER) || joins_beside_new_users {
        across(ask, kinds, plan);
    } else if kinds.new.has(USER) {
        plan.plan().birth.new = Namespaces(USER | (kinds.new.0 & PID));
    } else {
        plan.plan().birth.new = kinds.new.without(late);
        join_each(kinds, plan);
    }
    let by_user = mapped_by_user(ask, kinds);
    if kinds.private(USER) {
        let at = At::new("linux.namespaces");
        if kinds.new.has(USER) {
            plan.at(&At::new("linux.uidMappings"), What::Ask(Ask::IdMaps));
        }
        if by_user {
            // ORDER: the offsets as well are written by who may look
            time(ask, kinds, plan);
            process::unseen(plan);
        }
        let mut rest = kinds.new.without(late | USER | PID);
        if ask.host.me.mounts == Mounts::Inside {
            // ORDER: before BecomeRoot: what our user reaches the container's root may not
            if rest.has(MOUNT) {
                plan.at(&at, What::Unshare(Namespaces(MOUNT)));
                rest = rest.without(MOUNT);
            }
            plan.find_here();
        }
        plan.at(&at, What::BecomeRoot);
        if rest != Namespaces::NONE {
            // ORDER: after BecomeRoot: what is made here belongs to the new user namespace's root
            plan.at(&at, What::Unshare(rest));
        }
    }
    if !by_user {
        time(ask, kinds, plan);
    }
}

/// Without a user namespace: each by a step of its own, but the pid namespace, which comes last (`into_pids`).
fn join_each(kinds: &Kinds, plan: &mut Draft) {
    for (kind, path, at) in kinds.joined.iter().filter(|(kind, ..)| *kind != PID) {
        let slot = plan.open(at, Opening::Namespace(path.clone(), *kind));
        plan.at(at, What::Join(slot, Namespaces(*kind)));
    }
}

/// A new user namespace beside a joined pid namespace, which belongs to another one. Whoever has CAP_SYS_PTRACE in that one may
/// trace init. So the bridge does everything, as without a user namespace (`into_pids`).
/// ORDER: setns(2) for the pid namespace takes the host's rights, and unshare(2) of the user namespace gives them up. The
/// bridge itself stays where it is: its first child is the first member.
fn new_users_beside_pids(kinds: &Kinds, plan: &mut Draft) {
    join_each(kinds, plan);
    if let Some((path, at)) = kinds.path_of(PID) {
        let slot = plan.open(at, Opening::Namespace(path.to_path_buf(), PID));
        plan.at(at, What::Join(slot, Namespaces(PID)));
    }
    plan.at(&At::new("linux.namespaces"), What::Unshare(Namespaces(USER)));
}

/// A pid namespace that is joined without its user namespace has others in it, and who may trace there sees all of init: its
/// root directory, its descriptors, its memory. So everything that needs the host is done by the bridge, which is no member
/// (setns(2) moves only its children). Init is born when the root has changed (CVE-2016-9962) and the rights are given up
/// (`born`).
pub(super) fn into_pids(kinds: &Kinds, plan: &mut Draft) {
    let Some((path, at)) = kinds.path_of(PID).filter(|_| !kinds.joins(USER)) else { return };
    let (path, at) = (path.to_path_buf(), at.clone());
    if kinds.new.has(USER) {
        no_new_proc(&at, plan);
    } else {
        join_pids_last(path, &at, plan);
    }
    let bridge = &mut plan.plan().init;
    if !bridge.iter().any(|step| step.what == What::Ask(Ask::Cgroup)) {
        // ORDER: init is born in the bridge's cgroup
        bridge.push(Step::at(&at, What::Ask(Ask::Cgroup)));
    }
}

/// Only a process with CAP_SYS_ADMIN in the user namespace that owns the pid namespace makes a proc for it, and a new user
/// namespace does not own one that was there before.
fn no_new_proc(joined: &At, plan: &mut Draft) {
    let is_proc = |what: &What| matches!(what, What::NewMount(mount) if mount.fstype.as_c_str() == c"proc");
    let places = plan.plan().init.iter().filter(|step| is_proc(&step.what)).map(|step| step.from.clone());
    for from in places.collect::<Vec<_>>() {
        let Origin::At(at) = from else { continue };
        plan.fault(
            &at,
            format!(
                "a new proc shows the pid namespace of {joined}, and the new user namespace does not own that one: \
                 join the user namespace that does, or bind a proc"
            ),
        );
    }
}

fn join_pids_last(path: PathBuf, at: &At, plan: &mut Draft) {
    let slot = plan.open(at, Opening::Namespace(path, PID));
    let bridge = &mut plan.plan().init;
    for step in &mut *bridge {
        if let What::NewMount(mount) = &mut step.what
            && mount.fstype.as_c_str() == c"proc"
        {
            mount.pid_namespace = Some(slot);
            // mount(2) would mount the bridge's
            mount.classic = None;
        }
    }
    // SPEC: config.md#posix-platform-hooks: createContainer hooks are in the container's namespaces
    let hooks = bridge.iter().position(|step| matches!(step.what, What::Hooks(..))).unwrap_or(bridge.len());
    bridge.insert(hooks, Step::at(at, What::Join(slot, Namespaces(PID))));
}

/// Init of a container that joins a pid namespace (`into_pids`) is born.
pub(super) fn born_in_pids(own: &Own<'_>, ask: &Asked<'_>, kinds: &Kinds, plan: &mut Draft) {
    if let Some((_, at)) = kinds.path_of(PID).filter(|_| !kinds.joins(USER)) {
        born(own, at, ask, plan);
    }
}

/// What was planned so far is the bridge's, and init is born with the program's rights alone: who may trace it, where it is
/// seen, gets nothing by that (docs/decisions/014). Where the pid namespace belongs to a user namespace that is joined as well,
/// this is not needed: as long as init is not dumpable, to trace it takes CAP_SYS_PTRACE in the runtime's user namespace.
fn born(own: &Own<'_>, at: &At, ask: &Asked<'_>, plan: &mut Draft) {
    let planned = std::mem::take(&mut plan.plan().init);
    let (of_init, bridge): (Vec<_>, Vec<_>) = planned.into_iter().partition(|step| is_not_inherited(&step.what));
    plan.plan().bridge = bridge;
    spawn(ask, at, Namespaces::NONE, plan);
    for step in of_init {
        match step.what {
            What::Scheduler(attr) => {
                let Origin::At(at) = step.from else { continue };
                plan.at(&at, What::Ask(Ask::Scheduler));
                plan.plan().scheduler = Some((attr, at));
            }
            what => plan.because(&step.from, what),
        }
    }
    process::room_for_two(own, ask, plan);
}

/// What fork(2) does not hand on. A process with SCHED_DEADLINE cannot even fork (sched(7)).
fn is_not_inherited(what: &What) -> bool {
    const SCHED_DEADLINE: u32 = 6;
    const SCHED_FLAG_RESET_ON_FORK: u64 = 1;
    match what {
        What::Session | What::ControllingTerminal => true,
        What::Scheduler(attr) => attr.policy == SCHED_DEADLINE || attr.flags & SCHED_FLAG_RESET_ON_FORK != 0,
        _ => false,
    }
}

/// The bridge's last steps. Nothing that init does not need is open when others may see it.
fn spawn(ask: &Asked<'_>, at: &At, new: Namespaces, plan: &mut Draft) {
    let bridge = &mut plan.plan().bridge;
    bridge.push(Step::always("init shows only what it needs", process::closed(ask)));
    bridge.push(Step::at(at, What::Spawn(new)));
}

/// With a user namespace to join, or a new one beside others to join (but a pid namespace): a second fork. The bridge enters everything with
/// the rights of the host's root, the user namespace last, and init is born inside. Who is not root has rights only in the
/// user namespace, and enters it first.
fn across(ask: &Asked<'_>, kinds: &Kinds, plan: &mut Draft) {
    let (user, others): (Vec<_>, Vec<_>) = kinds.joined.iter().partition(|(kind, ..)| *kind == USER);
    // ORDER: before Spawn, which no handler of a signal may meet
    plan.plan().bridge.push(Step::always("no handler of the runtime's runs", What::Signals));
    if !mapped_by_user(ask, kinds) {
        plan.plan().bridge.push(Step::always("CVE-2016-9962", What::Undumpable));
    }
    let order = if ask.host.me.uid == 0 { [others, user] } else { [user, others] };
    for (kind, path, at) in order.into_iter().flatten() {
        let slot = plan.open(at, Opening::Namespace(path.clone(), *kind));
        let step = Step::at(at, What::Join(slot, Namespaces(*kind)));
        plan.plan().bridge.push(step);
    }
    let born = Namespaces(kinds.new.0 & (USER | PID));
    spawn(ask, &At::new("linux.namespaces"), born, plan);
}

fn time(ask: &Asked<'_>, kinds: &Kinds, plan: &mut Draft) {
    let at = At::new("linux.timeOffsets");
    let asked = ask.config.spec.linux().as_ref().and_then(|linux| linux.time_offsets().as_ref());
    let offsets = asked.map(|map| offsets(map, &at, plan)).unwrap_or_default();
    if !kinds.new.has(TIME) {
        if !offsets.is_empty() {
            plan.fault(&at, "needs a new time namespace (linux.namespaces)");
        }
        return;
    }
    let namespaces = At::new("linux.namespaces");
    plan.at(&namespaces, What::Unshare(Namespaces(TIME)));
    if !offsets.is_empty() {
        if ask.host.me.uid != 0 && kinds.joins(USER) {
            // the file is the host root's as long as we are closed to those who are there (proc(5), CVE-2016-9962)
            let said = "cannot be set by an ordinary user where the user namespace is joined: it must be a new one";
            plan.fault(&at, said);
        }
        // ORDER: before anybody is in the namespace; later the kernel refuses (time_namespaces(7))
        plan.at(&at, What::Ask(Ask::TimeOffsets));
        plan.plan().time_offsets = offsets;
    }
    plan.at(&namespaces, What::EnterTime);
}

fn offsets(map: &HashMap<String, LinuxTimeOffset>, at: &At, plan: &mut Draft) -> Vec<TimeOffset> {
    let mut offsets = Vec::new();
    for (clock, offset) in map {
        let at = at.key(clock);
        let nanosecs = offset.nanosecs().unwrap_or(0);
        if clock != "monotonic" && clock != "boottime" {
            plan.fault(&at, "unknown clock (expected one of monotonic, boottime)");
        }
        if nanosecs >= 1_000_000_000 {
            plan.fault(&at.key("nanosecs"), format!("{nanosecs} is not less than a second (1000000000)"));
        }
        offsets.push(TimeOffset { clock: clock.clone(), secs: offset.secs().unwrap_or(0), nanosecs, at });
    }
    offsets.sort_by(|a, b| a.clock.cmp(&b.clock));
    offsets
}

/// What a namespace holds from its beginning: the host name, kernel parameters, the loopback.
pub(super) fn settle(ask: &Asked<'_>, kinds: &Kinds, plan: &mut Draft) {
    if kinds.new.has(NETWORK) {
        plan.always("loopback of a new network namespace", What::Loopback);
    }
    // ORDER: before the kernel parameters, which may be those of a device
    net_devices::all(ask, kinds, plan);
    let spec = &ask.config.spec;
    let names = [
        ("hostname", spec.hostname(), What::Hostname as fn(CString) -> What),
        ("domainname", spec.domainname(), What::Domainname as fn(CString) -> What),
    ];
    for (property, value, what) in names {
        let at = At::new(property);
        let Some(value) = value.as_ref().filter(|value| !value.is_empty()) else { continue };
        if !kinds.private(UTS) {
            plan.fault(&at, format!("unable to set {property} without a private UTS namespace"));
        } else {
            name(value, &at, what, plan);
        }
    }
    kernel_parameters(ask, kinds, plan);
}

/// A name that a UTS namespace holds.
fn name(value: &str, at: &At, what: fn(CString) -> What, plan: &mut Draft) {
    if value.len() > 64 {
        plan.fault(at, format!("{value:?} has {} bytes, and 64 is the most", value.len()));
    } else if let Some(value) = process::c_string(value, at, plan) {
        plan.at(at, what(value));
    }
}

/// ORDER: before Pivot: the host's own /proc, which the rootfs cannot have touched (CVE-2025-52881).
fn kernel_parameters(ask: &Asked<'_>, kinds: &Kinds, plan: &mut Draft) {
    let Some(map) = ask.config.spec.linux().as_ref().and_then(|linux| linux.sysctl().as_ref()) else { return };
    let at = At::new("linux.sysctl");
    let private: Vec<_> =
        [LinuxNamespaceType::Ipc, LinuxNamespaceType::Network, LinuxNamespaceType::Uts, LinuxNamespaceType::User]
            .into_iter()
            .filter(|kind| kinds.private(bit(*kind)))
            .collect();
    let Some(list) = plan.keep(sysctl::all(map, &private, &at)) else { return };
    for (parameter, value) in list {
        let at = at.key(&parameter.replace('/', "."));
        if parameter == "kernel/domainname" {
            // the file is the host root's in every user namespace; the call is open to the container's
            name(value.trim_end_matches('\n'), &at, What::Domainname, plan);
            continue;
        }
        let path = process::c_string(&parameter, &at, plan);
        let value = process::c_string(&value, &at, plan);
        if let (Some(path), Some(value)) = (path, value) {
            plan.at(&at, What::Sysctl(path, value));
        }
    }
}

/// Joins a running container: everything in one call by the pidfd of its init (setns(2); KERNEL(5.8)), so that the kernel
/// itself weighs the user namespace against the others. Others are in its pid namespace: the bridge does all of that, and
/// what was planned so far, and init is born inside (CVE-2016-9962): at once where a user namespace holds tracers off, and
/// else when the rights are given up (`born_inside`).
pub(super) fn join(container: Joined, ask: &Asked<'_>, plan: &mut Draft) {
    let at = At::new("linux.namespaces");
    let process = plan.open(&at, Opening::Process(container.pid));
    let own_root = container.kinds.has(MOUNT);
    let root = (!own_root).then(|| plan.open(&At::new("root.path"), Opening::RootOf(container.pid)));
    if container.kinds != Namespaces::NONE {
        plan.at(&at, What::Join(process, container.kinds));
    }
    if let Some(root) = root {
        plan.at(&At::new("root.path"), What::Chroot(root));
    }
    if container.kinds.has(USER) {
        if !has_tracers(container, ask) {
            plan.plan().bridge = std::mem::take(&mut plan.plan().init);
            spawn(ask, &at, Namespaces::NONE, plan);
        }
        if !ask.host.me.is_root() {
            // ORDER: before it is somebody else: systemd moves the processes of who asks it, and nobody else's
            plan.at(&at, What::Ask(Ask::Cgroup));
        }
        plan.at(&at, What::BecomeRoot);
    }
}

/// True where the container's user namespace does not hold off all who are in its pid namespace: there is none, or it was new
/// and the pid namespace was not.
fn has_tracers(container: Joined, ask: &Asked<'_>) -> bool {
    let list = ask.config.spec.linux().as_ref().and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default();
    let joined = |kind: u64| {
        let named = |path: &&PathBuf| !path.as_os_str().is_empty();
        list.iter().any(|namespace| bit(namespace.typ()) == kind && namespace.path().as_ref().filter(named).is_some())
    };
    container.kinds.has(PID) && (!container.kinds.has(USER) || joined(PID) && !joined(USER))
}

/// A further process is born in the container's pid namespace.
pub(super) fn born_inside(own: &Own<'_>, container: Joined, ask: &Asked<'_>, plan: &mut Draft) {
    if has_tracers(container, ask) {
        born(own, &At::new("linux.namespaces"), ask, plan);
    }
}
