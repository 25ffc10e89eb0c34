//! The steps of init on its way into the container's namespaces, and the number of forks. The plan shows each step.

use super::finished::{Dumpable, FirstClone, Opening, TimeOffset};
use super::given::{Facts, Given, Joined};
use super::namespaces::{self, CGROUP, MOUNT, NETWORK, PID, PlannedNamespaces, SpawnOrder, TIME, USER};
use super::step::{Kept, Namespaces, Slot, Step, What};
use super::steps::Steps;
use crate::config::At;
use crate::host::{Host, MayMount};
use crate::wire::Request;

/// How the first child is made.
pub(super) fn clone_args(namespaces: &PlannedNamespaces, host: &Host) -> FirstClone {
    let new = match () {
        () if namespaces.joins(USER) || joins_beside_new_users(namespaces) => Namespaces::NONE,
        () if namespaces.new.has(USER) => Namespaces(USER | (namespaces.new.0 & PID)),
        () => namespaces.new.without(CGROUP | TIME),
    };
    // Only the init of an ordinary user is dumpable at first, until its maps are written. In a joined pid namespace,
    // init is never dumpable, because other processes are there. Joining a pid namespace whose user namespace is not
    // also joined needs root.
    let open = host.me.uid != 0 && namespaces.new.has(USER) && !namespaces.joins(PID);
    FirstClone { new, dumpable: if open { Dumpable::UntilMapped } else { Dumpable::No } }
}

fn joins_beside_new_users(namespaces: &PlannedNamespaces) -> bool {
    namespaces.new.has(USER) && !namespaces.joined.is_empty()
}

/// From here on, processes of the container cannot trace this process.
pub(super) fn undumpable(steps: &mut Steps) {
    steps.add_always("CVE-2016-9962", What::Undumpable);
}

/// The same for init, at the earliest time: right after the clone.
pub(super) fn undumpable_from_the_clone_on(clone_args: FirstClone, steps: &mut Steps) {
    if clone_args.dumpable == Dumpable::No {
        undumpable(steps);
    }
}

/// Enters all namespaces but two. The cgroup namespace follows when the container is in its cgroup (`mounts`). A pid
/// namespace with other processes in it follows when the root has changed (`into_pids`).
pub(super) fn enter(
    namespaces: &PlannedNamespaces,
    clone_args: FirstClone,
    offsets: &[TimeOffset],
    facts: &Facts<'_>,
    steps: &mut Steps,
) {
    let at = At::new("linux.namespaces");
    if joins_beside_new_users(namespaces) && namespaces.joins(PID) {
        new_users_beside_pids(namespaces, steps);
    } else if namespaces.joins(USER) || joins_beside_new_users(namespaces) {
        through_the_bridge(namespaces, clone_args, facts, steps);
    } else if !namespaces.new.has(USER) {
        join_each(namespaces, steps);
    }
    if namespaces.new.has(USER) {
        steps.add(&At::new("linux.uidMappings"), What::Request(Request::IdMaps));
    }
    if clone_args.dumpable == Dumpable::UntilMapped {
        // ORDER: the runtime writes the time offsets, too, while init is dumpable.
        time_namespace(namespaces, offsets, steps);
        undumpable(steps);
    }
    if namespaces.private(USER) {
        let mut rest = namespaces.new.without(CGROUP | TIME | USER | PID);
        if facts.host.me.may_mount == MayMount::Inside {
            // ORDER: before BecomeRoot: the caller's user can reach files that the container's root may not reach.
            if rest.has(MOUNT) {
                steps.add(&at, What::Unshare(Namespaces(MOUNT)));
                rest = rest.without(MOUNT);
            }
            steps.find_here();
        }
        steps.add(&at, What::BecomeRoot(facts.groups));
        if rest != Namespaces::NONE {
            // ORDER: after BecomeRoot: the new namespaces belong to the root of the new user namespace.
            steps.add(&at, What::Unshare(rest));
        }
    }
    if clone_args.dumpable == Dumpable::No {
        time_namespace(namespaces, offsets, steps);
    }
}

/// Joins each namespace by a separate step, except the pid namespace.
fn join_each(namespaces: &PlannedNamespaces, steps: &mut Steps) {
    for (kind, path, at) in namespaces.joined.iter().filter(|(kind, ..)| *kind != PID) {
        let slot = steps.open(at, Opening::Namespace(path.clone(), *kind));
        steps.add(at, What::Join(slot, Namespaces(*kind)));
    }
}

/// A new user namespace beside a joined pid namespace, which belongs to another user namespace. A process with
/// CAP_SYS_PTRACE in that other user namespace may trace init. So the bridge does everything, as without a user
/// namespace (`into_pids`).
/// ORDER: setns(2) for the pid namespace needs the host's rights, and unshare(2) of the user namespace gives them up.
/// The bridge itself stays in its pid namespace: only its children are in the joined one.
fn new_users_beside_pids(namespaces: &PlannedNamespaces, steps: &mut Steps) {
    join_each(namespaces, steps);
    if let Some((path, at)) = namespaces.path_of(PID) {
        let slot = steps.open(at, Opening::Namespace(path.to_path_buf(), PID));
        steps.add(at, What::Join(slot, Namespaces(PID)));
    }
    steps.add(&At::new("linux.namespaces"), What::Unshare(Namespaces(USER)));
}

/// The container joins a user namespace, or makes a new one and joins others (but no pid namespace): this needs a
/// second fork. The bridge enters every namespace with the rights of the host's root, the user namespace last, and
/// spawns init inside. An ordinary user has rights only in the user namespace, and so enters it first.
fn through_the_bridge(namespaces: &PlannedNamespaces, clone_args: FirstClone, facts: &Facts<'_>, steps: &mut Steps) {
    // ORDER: before Spawn: no signal handler of the runtime may run during it.
    steps.add_to_bridge(Step::always("the runtime's handlers must not run", What::Signals));
    if clone_args.dumpable == Dumpable::No {
        steps.add_to_bridge(Step::always("CVE-2016-9962", What::Undumpable));
    }
    let (user, others): (Vec<_>, Vec<_>) = namespaces.joined.iter().partition(|(kind, ..)| *kind == USER);
    let order = if facts.host.me.uid == 0 { [others, user] } else { [user, others] };
    for (kind, path, at) in order.into_iter().flatten() {
        let slot = steps.open(at, Opening::Namespace(path.clone(), *kind));
        steps.add_to_bridge(Step::new(at, What::Join(slot, Namespaces(*kind))));
    }
    spawn(&At::new("linux.namespaces"), Namespaces(namespaces.new.0 & (USER | PID)), facts, steps);
}

/// The bridge's last steps. Descriptors that init does not need are closed before other processes can see init.
fn spawn(at: &At, new: Namespaces, facts: &Facts<'_>, steps: &mut Steps) {
    steps.add_to_bridge(Step::always("init keeps only what it needs", close_fds(facts)));
    steps.add_to_bridge(Step::new(at, What::Spawn(new)));
}

/// Closes all descriptors except the standard streams and the requested ones. The slots that later steps use are kept,
/// too: they are filled in when all steps are known.
pub(super) fn close_fds(facts: &Facts<'_>) -> What {
    What::CloseFds { first: 3 + facts.flags.extra_fds, kept: Kept::default() }
}

fn time_namespace(namespaces: &PlannedNamespaces, offsets: &[TimeOffset], steps: &mut Steps) {
    if !namespaces.new.has(TIME) {
        return;
    }
    let at = At::new("linux.namespaces");
    steps.add(&at, What::Unshare(Namespaces(TIME)));
    if !offsets.is_empty() {
        // ORDER: before any process is in the namespace: after that the kernel refuses the offsets
        // (time_namespaces(7)).
        steps.add(&At::new("linux.timeOffsets"), What::Request(Request::TimeOffsets));
    }
    steps.add(&at, What::EnterTime);
}

/// Sets up the loopback device of a new network namespace.
pub(super) fn loopback(namespaces: &PlannedNamespaces, steps: &mut Steps) {
    if namespaces.new.has(NETWORK) {
        steps.add_always("loopback of a new network namespace", What::Loopback);
    }
}

/// A pid namespace that is joined without its user namespace has other processes in it. Those that may trace there can
/// see all of init: its root directory, its descriptors, its memory. So the bridge does all steps that need the host.
/// The bridge is not a member of the pid namespace: setns(2) moves only its children. It spawns init when the root has
/// changed (CVE-2016-9962) and init's rights are given up (`spawned_last`). With a new user namespace, the bridge has
/// joined the pid namespace before (`new_users_beside_pids`).
pub(super) fn open_pids(namespaces: &PlannedNamespaces, steps: &mut Steps) -> Option<Slot> {
    let (path, at) = namespaces.pids_of_others().filter(|_| !namespaces.new.has(USER))?;
    Some(steps.open(at, Opening::Namespace(path.to_path_buf(), PID)))
}

/// From here on, the bridge's children are in that pid namespace.
pub(super) fn into_pids(namespaces: &PlannedNamespaces, pids: Option<Slot>, steps: &mut Steps) {
    if let (Some((_, at)), Some(slot)) = (namespaces.pids_of_others(), pids) {
        steps.add(at, What::Join(slot, Namespaces(PID)));
    }
}

/// ORDER: init is spawned in the cgroup of the bridge, so the bridge enters the container's cgroup first.
pub(super) fn into_cgroup(namespaces: &PlannedNamespaces, steps: &mut Steps) {
    if let Some((_, at)) = namespaces.pids_of_others().filter(|_| !namespaces.new.has(CGROUP)) {
        steps.add(at, What::Request(Request::Cgroup));
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
    let tracers = container.namespaces.has(PID) && (!container.namespaces.has(USER) || beside());
    if tracers { SpawnOrder::Last } else { SpawnOrder::First }
}

/// Joins a running container. One setns(2) call with the pidfd of its init joins all namespaces (KERNEL(5.8)), and the
/// kernel checks rights in the user namespace for the others. Other processes are in the container's pid namespace. So
/// the bridge does this and all steps planned before, and spawns the process inside (CVE-2016-9962): at once if a user
/// namespace keeps tracers out, otherwise when the rights are given up (`spawned_last`).
pub(super) fn join(container: Joined, order: SpawnOrder, facts: &Facts<'_>, steps: &mut Steps) {
    let (at, root_at) = (At::new("linux.namespaces"), At::new("root.path"));
    let process = steps.open(&at, Opening::Process(container.pid));
    let root = (!container.namespaces.has(MOUNT)).then(|| steps.open(&root_at, Opening::RootOf(container.pid)));
    if container.namespaces != Namespaces::NONE {
        steps.add(&at, What::Join(process, container.namespaces));
    }
    if let Some(root) = root {
        steps.add(&root_at, What::Chroot(root));
    }
    if container.namespaces.has(USER) {
        if order == SpawnOrder::First {
            steps.become_bridge();
            spawn(&at, Namespaces::NONE, facts, steps);
        }
        if !facts.host.me.is_root() {
            // ORDER: before the ids change: systemd moves only processes of the user who sends the request.
            steps.add(&at, What::Request(Request::Cgroup));
        }
        steps.add(&at, What::BecomeRoot(facts.groups));
    }
}
