//! The steps of init on its way into the container's namespaces, and the number of forks. The plan shows each step.

use super::finished::{Dumpable, FirstClone, Opening, TimeOffset};
use super::given::{Facts, Given, Joined};
use super::namespaces::{self, CGROUP, Kinds, MOUNT, NETWORK, PID, SpawnOrder, TIME, USER};
use super::step::{Kept, Namespaces, Slot, Step, What};
use super::steps::Steps;
use crate::config::At;
use crate::host::{Host, MayMount};
use crate::wire::Request;

/// How the first child is made.
pub(super) fn clone_args(kinds: &Kinds, host: &Host) -> FirstClone {
    let new = match () {
        () if kinds.joins(USER) || joins_beside_new_users(kinds) => Namespaces::NONE,
        () if kinds.new.has(USER) => Namespaces(USER | (kinds.new.0 & PID)),
        () => kinds.new.without(CGROUP | TIME),
    };
    // Only the init of an ordinary user is dumpable at first, until its maps are written. In a joined pid namespace,
    // init is never dumpable, because other processes are there. Joining a pid namespace whose user namespace is not
    // also joined needs root.
    let open = host.me.uid != 0 && kinds.new.has(USER) && !kinds.joins(PID);
    FirstClone { new, dumpable: if open { Dumpable::UntilMapped } else { Dumpable::No } }
}

fn joins_beside_new_users(kinds: &Kinds) -> bool {
    kinds.new.has(USER) && !kinds.joined.is_empty()
}

/// Processes of the container cannot trace this process.
pub(super) fn unseen(steps: &mut Steps) {
    steps.always("CVE-2016-9962", What::Undumpable);
}

/// The same for init, at the earliest time: right after the clone.
pub(super) fn unseen_from_the_clone_on(clone_args: FirstClone, steps: &mut Steps) {
    if clone_args.dumpable == Dumpable::No {
        unseen(steps);
    }
}

/// Enters all namespaces but two. The cgroup namespace follows when the container is in its cgroup (`mounts`). A pid
/// namespace with other processes in it follows when the root has changed (`into_pids`).
pub(super) fn enter(
    kinds: &Kinds,
    clone_args: FirstClone,
    offsets: &[TimeOffset],
    facts: &Facts<'_>,
    steps: &mut Steps,
) {
    let at = At::new("linux.namespaces");
    if joins_beside_new_users(kinds) && kinds.joins(PID) {
        new_users_beside_pids(kinds, steps);
    } else if kinds.joins(USER) || joins_beside_new_users(kinds) {
        across(kinds, clone_args, facts, steps);
    } else if !kinds.new.has(USER) {
        join_each(kinds, steps);
    }
    if kinds.new.has(USER) {
        steps.at(&At::new("linux.uidMappings"), What::Request(Request::IdMaps));
    }
    if clone_args.dumpable == Dumpable::UntilMapped {
        // ORDER: the runtime writes the time offsets, too, while init is dumpable.
        time(kinds, offsets, steps);
        unseen(steps);
    }
    if kinds.private(USER) {
        let mut rest = kinds.new.without(CGROUP | TIME | USER | PID);
        if facts.host.me.may_mount == MayMount::Inside {
            // ORDER: before BecomeRoot: the caller's user can reach files that the container's root may not reach.
            if rest.has(MOUNT) {
                steps.at(&at, What::Unshare(Namespaces(MOUNT)));
                rest = rest.without(MOUNT);
            }
            steps.find_here();
        }
        steps.at(&at, What::BecomeRoot(facts.groups));
        if rest != Namespaces::NONE {
            // ORDER: after BecomeRoot: the new namespaces belong to the root of the new user namespace.
            steps.at(&at, What::Unshare(rest));
        }
    }
    if clone_args.dumpable == Dumpable::No {
        time(kinds, offsets, steps);
    }
}

/// Joins each namespace by a separate step, except the pid namespace.
fn join_each(kinds: &Kinds, steps: &mut Steps) {
    for (kind, path, at) in kinds.joined.iter().filter(|(kind, ..)| *kind != PID) {
        let slot = steps.open(at, Opening::Namespace(path.clone(), *kind));
        steps.at(at, What::Join(slot, Namespaces(*kind)));
    }
}

/// A new user namespace beside a joined pid namespace, which belongs to another user namespace. A process with
/// CAP_SYS_PTRACE in that other user namespace may trace init. So the bridge does everything, as without a user
/// namespace (`into_pids`).
/// ORDER: setns(2) for the pid namespace needs the host's rights, and unshare(2) of the user namespace gives them up.
/// The bridge itself stays in its pid namespace: only its children are in the joined one.
fn new_users_beside_pids(kinds: &Kinds, steps: &mut Steps) {
    join_each(kinds, steps);
    if let Some((path, at)) = kinds.path_of(PID) {
        let slot = steps.open(at, Opening::Namespace(path.to_path_buf(), PID));
        steps.at(at, What::Join(slot, Namespaces(PID)));
    }
    steps.at(&At::new("linux.namespaces"), What::Unshare(Namespaces(USER)));
}

/// The container joins a user namespace, or makes a new one and joins others (but no pid namespace): this needs a
/// second fork. The bridge enters every namespace with the rights of the host's root, the user namespace last, and
/// spawns init inside. An ordinary user has rights only in the user namespace, and so enters it first.
fn across(kinds: &Kinds, clone_args: FirstClone, facts: &Facts<'_>, steps: &mut Steps) {
    // ORDER: before Spawn: no signal handler of the runtime may run during it.
    steps.of_bridge(Step::always("the runtime's handlers must not run", What::Signals));
    if clone_args.dumpable == Dumpable::No {
        steps.of_bridge(Step::always("CVE-2016-9962", What::Undumpable));
    }
    let (user, others): (Vec<_>, Vec<_>) = kinds.joined.iter().partition(|(kind, ..)| *kind == USER);
    let order = if facts.host.me.uid == 0 { [others, user] } else { [user, others] };
    for (kind, path, at) in order.into_iter().flatten() {
        let slot = steps.open(at, Opening::Namespace(path.clone(), *kind));
        steps.of_bridge(Step::at(at, What::Join(slot, Namespaces(*kind))));
    }
    spawn(&At::new("linux.namespaces"), Namespaces(kinds.new.0 & (USER | PID)), facts, steps);
}

/// The bridge's last steps. Descriptors that init does not need are closed before other processes can see init.
fn spawn(at: &At, new: Namespaces, facts: &Facts<'_>, steps: &mut Steps) {
    steps.of_bridge(Step::always("init keeps only what it needs", closed(facts)));
    steps.of_bridge(Step::at(at, What::Spawn(new)));
}

/// Closes all descriptors except the standard streams and the requested ones. The slots that later steps use are kept,
/// too: they are filled in when all steps are known.
pub(super) fn closed(facts: &Facts<'_>) -> What {
    What::CloseFds { first: 3 + facts.flags.extra_fds, kept: Kept::default() }
}

fn time(kinds: &Kinds, offsets: &[TimeOffset], steps: &mut Steps) {
    if !kinds.new.has(TIME) {
        return;
    }
    let at = At::new("linux.namespaces");
    steps.at(&at, What::Unshare(Namespaces(TIME)));
    if !offsets.is_empty() {
        // ORDER: before any process is in the namespace: after that the kernel refuses the offsets
        // (time_namespaces(7)).
        steps.at(&At::new("linux.timeOffsets"), What::Request(Request::TimeOffsets));
    }
    steps.at(&at, What::EnterTime);
}

/// Sets up the loopback device of a new network namespace.
pub(super) fn loopback(kinds: &Kinds, steps: &mut Steps) {
    if kinds.new.has(NETWORK) {
        steps.always("loopback of a new network namespace", What::Loopback);
    }
}

/// A pid namespace that is joined without its user namespace has other processes in it. Those that may trace there can
/// see all of init: its root directory, its descriptors, its memory. So the bridge does all steps that need the host.
/// The bridge is not a member of the pid namespace: setns(2) moves only its children. It spawns init when the root has
/// changed (CVE-2016-9962) and init's rights are given up (`spawned_last`). With a new user namespace, the bridge has
/// joined the pid namespace before (`new_users_beside_pids`).
pub(super) fn open_pids(kinds: &Kinds, steps: &mut Steps) -> Option<Slot> {
    let (path, at) = kinds.pids_of_others().filter(|_| !kinds.new.has(USER))?;
    Some(steps.open(at, Opening::Namespace(path.to_path_buf(), PID)))
}

/// From here on, the bridge's children are in that pid namespace.
pub(super) fn into_pids(kinds: &Kinds, pids: Option<Slot>, steps: &mut Steps) {
    if let (Some((_, at)), Some(slot)) = (kinds.pids_of_others(), pids) {
        steps.at(at, What::Join(slot, Namespaces(PID)));
    }
}

/// ORDER: init is spawned in the cgroup of the bridge, so the bridge enters the container's cgroup first.
pub(super) fn into_cgroup(kinds: &Kinds, steps: &mut Steps) {
    if let Some((_, at)) = kinds.pids_of_others().filter(|_| !kinds.new.has(CGROUP)) {
        steps.at(at, What::Request(Request::Cgroup));
    }
}

/// Makes all steps so far steps of the bridge. The bridge spawns init with only the program's rights, so a process that
/// traces init gains nothing (docs/decisions/014). This is not needed if the pid namespace belongs to a user namespace
/// that is joined, too: while init is not dumpable, only a process with CAP_SYS_PTRACE in the runtime's user namespace can
/// trace it.
pub(super) fn spawned_last(at: &At, facts: &Facts<'_>, steps: &mut Steps) {
    steps.become_bridge();
    spawn(at, Namespaces::NONE, facts, steps);
}

/// The time at which the bridge spawns the process of an exec. It is last if processes in the container's pid namespace could
/// trace the new process: if the container has no user namespace, or has a new one beside a joined pid namespace.
pub(super) fn spawn_order_inside(container: Joined, given: &Given<'_>) -> SpawnOrder {
    let beside = || namespaces::is_joined(given, PID) && !namespaces::is_joined(given, USER);
    let tracers = container.kinds.has(PID) && (!container.kinds.has(USER) || beside());
    if tracers { SpawnOrder::Last } else { SpawnOrder::First }
}

/// Joins a running container. One setns(2) call with the pidfd of its init joins all namespaces (KERNEL(5.8)), and the
/// kernel checks rights in the user namespace for the others. Other processes are in the container's pid namespace. So
/// the bridge does this and all steps planned before, and spawns the process inside (CVE-2016-9962): at once if a user
/// namespace keeps tracers out, otherwise when the rights are given up (`spawned_last`).
pub(super) fn join(container: Joined, order: SpawnOrder, facts: &Facts<'_>, steps: &mut Steps) {
    let (at, root_at) = (At::new("linux.namespaces"), At::new("root.path"));
    let process = steps.open(&at, Opening::Process(container.pid));
    let root = (!container.kinds.has(MOUNT)).then(|| steps.open(&root_at, Opening::RootOf(container.pid)));
    if container.kinds != Namespaces::NONE {
        steps.at(&at, What::Join(process, container.kinds));
    }
    if let Some(root) = root {
        steps.at(&root_at, What::Chroot(root));
    }
    if container.kinds.has(USER) {
        if order == SpawnOrder::First {
            steps.become_bridge();
            spawn(&at, Namespaces::NONE, facts, steps);
        }
        if !facts.host.me.is_root() {
            // ORDER: before the ids change: systemd moves only processes of the user who sends the request.
            steps.at(&at, What::Request(Request::Cgroup));
        }
        steps.at(&at, What::BecomeRoot(facts.groups));
    }
}
