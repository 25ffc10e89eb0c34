//! How the container's namespaces are entered, and in how many forks: visible in the plan.

use super::finished::{CloneArgs, Dumpable, Opening, TimeOffset};
use super::given::{Facts, Given, Joined};
use super::namespaces::{self, CGROUP, Kinds, MOUNT, NETWORK, PID, SpawnOrder, TIME, USER};
use super::step::{Kept, Namespaces, Slot, Step, What};
use super::steps::Steps;
use crate::config::At;
use crate::host::{Host, Mounts};
use crate::wire::Request;

/// How the first child is made.
pub(super) fn clone_args(kinds: &Kinds, host: &Host) -> CloneArgs {
    let new = match () {
        () if kinds.joins(USER) || joins_beside_new_users(kinds) => Namespaces::NONE,
        () if kinds.new.has(USER) => Namespaces(USER | (kinds.new.0 & PID)),
        () => kinds.new.without(CGROUP | TIME),
    };
    // Only an ordinary user's init is open to others at first, until its maps are written. In a pid namespace that is joined
    // it never is: others are there, and only root can join one that does not belong to the user namespace it joins as well.
    let open = host.me.uid != 0 && kinds.new.has(USER) && !kinds.joins(PID);
    CloneArgs { new, dumpable: if open { Dumpable::UntilMapped } else { Dumpable::No } }
}

fn joins_beside_new_users(kinds: &Kinds) -> bool {
    kinds.new.has(USER) && !kinds.joined.is_empty()
}

/// No process of the container looks into us.
pub(super) fn unseen(steps: &mut Steps) {
    steps.always("CVE-2016-9962", What::Undumpable);
}

/// The same for init, at the earliest time.
pub(super) fn unseen_from_the_clone_on(clone_args: CloneArgs, steps: &mut Steps) {
    if clone_args.dumpable == Dumpable::No {
        unseen(steps);
    }
}

/// Enters them all but the cgroup namespace, which comes when the container is in its cgroup (`mounts`), and a pid namespace
/// with others in it, which comes when the root has changed (`into_pids`).
pub(super) fn enter(
    kinds: &Kinds,
    clone_args: CloneArgs,
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
        // ORDER: the runtime writes the offsets as well while init is dumpable
        time(kinds, offsets, steps);
        unseen(steps);
    }
    if kinds.private(USER) {
        let mut rest = kinds.new.without(CGROUP | TIME | USER | PID);
        if facts.host.me.mounts == Mounts::Inside {
            // ORDER: before BecomeRoot: our user reaches files that the container's root may not reach
            if rest.has(MOUNT) {
                steps.at(&at, What::Unshare(Namespaces(MOUNT)));
                rest = rest.without(MOUNT);
            }
            steps.find_here();
        }
        steps.at(&at, What::BecomeRoot);
        if rest != Namespaces::NONE {
            // ORDER: after BecomeRoot: what is made here belongs to the new user namespace's root
            steps.at(&at, What::Unshare(rest));
        }
    }
    if clone_args.dumpable == Dumpable::No {
        time(kinds, offsets, steps);
    }
}

/// Each by a step of its own, but the pid namespace.
fn join_each(kinds: &Kinds, steps: &mut Steps) {
    for (kind, path, at) in kinds.joined.iter().filter(|(kind, ..)| *kind != PID) {
        let slot = steps.open(at, Opening::Namespace(path.clone(), *kind));
        steps.at(at, What::Join(slot, Namespaces(*kind)));
    }
}

/// A new user namespace beside a joined pid namespace, which belongs to another user namespace. A process that has
/// CAP_SYS_PTRACE in that one may trace init. So the bridge does everything, as without a user namespace (`into_pids`).
/// ORDER: setns(2) for the pid namespace takes the host's rights, and unshare(2) of the user namespace gives them up. The
/// bridge itself stays where it is: its first child is the first member.
fn new_users_beside_pids(kinds: &Kinds, steps: &mut Steps) {
    join_each(kinds, steps);
    if let Some((path, at)) = kinds.path_of(PID) {
        let slot = steps.open(at, Opening::Namespace(path.to_path_buf(), PID));
        steps.at(at, What::Join(slot, Namespaces(PID)));
    }
    steps.at(&At::new("linux.namespaces"), What::Unshare(Namespaces(USER)));
}

/// A user namespace is joined, or a new one is made beside others that are joined (but a pid namespace): a second fork. The
/// bridge enters everything with the rights of the host's root, the user namespace last, and init is spawned inside. An ordinary
/// user has rights only in the user namespace, and enters it first.
fn across(kinds: &Kinds, clone_args: CloneArgs, facts: &Facts<'_>, steps: &mut Steps) {
    // ORDER: before Spawn, which no handler of a signal may meet
    steps.of_bridge(Step::always("no handler of the runtime's runs", What::Signals));
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

/// The bridge's last steps. Nothing that init does not need is open when others may see it.
fn spawn(at: &At, new: Namespaces, facts: &Facts<'_>, steps: &mut Steps) {
    steps.of_bridge(Step::always("init shows only what it needs", closed(facts)));
    steps.of_bridge(Step::at(at, What::Spawn(new)));
}

/// Closes all descriptors but the standard streams and those that were asked for. What later steps use is kept: that is
/// filled in when the steps are whole.
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
        // ORDER: before anybody is in the namespace; later the kernel refuses (time_namespaces(7))
        steps.at(&At::new("linux.timeOffsets"), What::Request(Request::TimeOffsets));
    }
    steps.at(&at, What::EnterTime);
}

/// The loopback of a new network namespace.
pub(super) fn loopback(kinds: &Kinds, steps: &mut Steps) {
    if kinds.new.has(NETWORK) {
        steps.always("loopback of a new network namespace", What::Loopback);
    }
}

/// A pid namespace that is joined without its user namespace has others in it, and who may trace there sees all of init: its
/// root directory, its descriptors, its memory. So everything that needs the host is done by the bridge, which is not a
/// member (setns(2) moves only its children). Init is spawned when the root has changed (CVE-2016-9962) and the rights are given
/// up (`spawned_last`). With a new user namespace the bridge has joined it before (`new_users_beside_pids`).
pub(super) fn open_pids(kinds: &Kinds, steps: &mut Steps) -> Option<Slot> {
    let (path, at) = kinds.pids_of_others().filter(|_| !kinds.new.has(USER))?;
    Some(steps.open(at, Opening::Namespace(path.to_path_buf(), PID)))
}

/// The bridge's children are in that pid namespace from here on.
pub(super) fn into_pids(kinds: &Kinds, pids: Option<Slot>, steps: &mut Steps) {
    if let (Some((_, at)), Some(slot)) = (kinds.pids_of_others(), pids) {
        steps.at(at, What::Join(slot, Namespaces(PID)));
    }
}

/// ORDER: init is spawned in the bridge's cgroup.
pub(super) fn into_cgroup(kinds: &Kinds, steps: &mut Steps) {
    if let Some((_, at)) = kinds.pids_of_others().filter(|_| !kinds.new.has(CGROUP)) {
        steps.at(at, What::Request(Request::Cgroup));
    }
}

/// What was planned so far is the bridge's, and init is spawned with the program's rights alone: who may trace it, where it is
/// seen, gets nothing by that (docs/decisions/014). Where the pid namespace belongs to a user namespace that is joined as well,
/// this is not needed: as long as init is not dumpable, to trace it takes CAP_SYS_PTRACE in the runtime's user namespace.
pub(super) fn spawned_last(at: &At, facts: &Facts<'_>, steps: &mut Steps) {
    steps.become_bridge();
    spawn(at, Namespaces::NONE, facts, steps);
}

/// When a further process is spawned. It is spawned last if processes in the container's pid namespace could trace it: if the
/// container has no user namespace, or has a new one beside a pid namespace that was joined.
pub(super) fn spawn_order_inside(container: Joined, given: &Given<'_>) -> SpawnOrder {
    let beside = || namespaces::is_joined(given, PID) && !namespaces::is_joined(given, USER);
    let tracers = container.kinds.has(PID) && (!container.kinds.has(USER) || beside());
    if tracers { SpawnOrder::Last } else { SpawnOrder::First }
}

/// Joins a running container: everything in one call by the pidfd of its init (setns(2); KERNEL(5.8)), so that the kernel
/// itself weighs the user namespace against the others. Others are in its pid namespace: the bridge does all of that, and
/// what was planned so far, and the process is spawned inside (CVE-2016-9962): at once where a user namespace holds tracers off,
/// and else when the rights are given up (`spawned_last`).
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
            // ORDER: before its ids change: systemd moves only processes of the user who asks
            steps.at(&at, What::Request(Request::Cgroup));
        }
        steps.at(&at, What::BecomeRoot);
    }
}
