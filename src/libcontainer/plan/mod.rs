//! Makes a plan from config, host and flags. Pure: it reads no file and no environment, and makes no system call. This
//! page gives the order of the steps, and the order is the security property: `tests/invariants.rs` checks its rules.

mod affinity;
pub mod annotations;
pub mod capabilities;
mod cgroup;
mod cgroup_mounts;
mod credentials;
pub(crate) mod devices;
mod entering;
pub mod explain;
pub mod failure;
mod fields;
mod filter;
mod finished;
mod given;
mod hooks;
mod idmap;
pub mod images;
mod labels;
mod landlock;
mod limits;
mod mount_entry;
mod mount_ids;
pub mod mount_options;
mod mounts;
pub mod namespaces;
pub mod needs;
mod net_devices;
mod notes;
mod paths;
mod process;
pub mod resctrl;
pub mod resources;
mod rootfs;
pub mod ruleset;
mod run_as;
#[cfg(feature = "seccomp")]
pub mod seccomp;
#[cfg(not(feature = "seccomp"))]
#[path = "seccomp/absent.rs"]
pub mod seccomp;
mod session;
pub mod step;
mod steps;
mod sysctl;
mod times;
mod uts;
pub(crate) mod values;

use crate::config::{At, Faults};

use given::{Own, Role};
use idmap::Maps;
use mount_entry::MountContext;
use namespaces::{SpawnOrder, USER};
use notes::Notes;
use steps::{Steps, Whole};

pub use filter::SECCOMP_RECEIVER;
pub use finished::{
    Dumpable, FirstClone, IdMap, IdMaps, Mapped, Mapper, NetDevice, OomScore, Opening, Plan, PlannedCgroup,
    RuntimeHooks, TimeOffset, Writer,
};
pub use given::{CgroupUse, Flags, Given, Joined, Joining, Keyring, RootChange, Rootless, Start, Terminal};
pub use landlock::LANDLOCK;
pub use process::candidates;
pub use resources::unit::Manager;

/// The plan of a new container. All mistakes of the config are found here, before the runtime changes anything.
///
/// # Errors
/// All mistakes, each with its place.
pub fn create(given: &Given<'_>) -> Result<Plan, Faults> {
    let facts = &given.facts();
    let own = Own { process: given.config.spec.process().as_ref(), at: &At::new("process"), role: Role::First };

    // Part one reads config.json. A value that another reader needs is passed on.
    let mut found = Notes::of(given.config);
    let notes = &mut found;
    let cgroup = cgroup::read(given, notes);
    let resctrl = resctrl::read(given, notes);
    let kinds = &namespaces::read(given, notes);
    let (clone_args, spawn) = (entering::clone_args(kinds, given.host), kinds.spawn_order());
    let maps = idmap::read(given, kinds, notes);
    let payload = process::read(own, given, notes);
    let held = credentials::held(given, kinds.private(USER));
    let credentials = credentials::read(own, held, &maps, given, notes);
    let loaded = filter::read(own, given, &credentials, notes);
    let landlock = landlock::read(own, given, &credentials, notes);
    let (filter, until_exec) = (loaded.as_ref(), loaded.as_ref().map_or(0, |filter| filter.takes));
    let limits = limits::read(own, spawn, held, given, notes);
    let oom_score_adj = limits::oom_score(own, given, notes);
    affinity::read(own, notes); //                    only exec uses it, but a mistake in it is reported now
    let labels = labels::of_process(own, given, notes);
    let session = session::read(own, spawn, given, notes);
    let time_offsets = times::read(given, kinds, notes);
    let root = &rootfs::read(given, kinds, notes);
    let label = &labels::of_mounts(given, notes);
    let mounts = mounts::read(&MountContext { given, kinds, root, label, cgroup: cgroup.as_ref() }, notes);
    let cgroup_owner = mounts.cgroup_owner.clone();
    let devices = devices::read(given, kinds, &maps, &mounts, notes);
    let net_devices = net_devices::read(given, kinds, notes);
    let names = uts::read(given, kinds, notes);
    let parameters = sysctl::read(given, kinds, notes);
    let mut hooks = hooks::read(given, &payload, filter, notes);
    let hook_files = annotations::hook_files(given, notes);
    let pidfd_receiver = annotations::pidfd_receiver(given, notes);
    annotations::no_further_cgroup(given, notes);
    let covered = paths::read(given, kinds, label, notes);
    let scheduling = run_as::read(own, spawn, given, notes);
    let warnings = found.into_warnings(given.config)?;

    // Part two says what is done, in this order.
    let mut list = Steps::new(given.host.me.mounts);
    let steps = &mut list;
    process::begin(steps); //                         signals, umask
    entering::unseen_from_the_clone_on(clone_args, steps); // others cannot trace it
    process::everywhere(steps);
    entering::enter(kinds, clone_args, &time_offsets, facts, steps); // ids first   SPEC: config-linux.md#namespaces
    labels.of_keyring(steps);
    session.begin(steps); //                          session and keyring
    let root_slot = root.attach(steps); //            propagation first: otherwise mounts appear on the host
    let pids = entering::open_pids(kinds, steps);
    let writable = mounts.steps(kinds, pids, steps); // in config order   SPEC: config.md#mounts
    devices.steps(root, steps);
    entering::loopback(kinds, steps);
    net_devices::steps(&net_devices, steps); //       ORDER: before sysctl: a parameter may belong to a device
    names.steps(steps);
    sysctl::steps(parameters, steps); //              on the host's own /proc
    let hooked = hooks.run_in_container();
    hooks.in_runtime(steps); //                       createRuntime   SPEC: runtime.md#lifecycle
    if hooked {
        entering::into_pids(kinds, pids, steps); //   for the hooks   SPEC: config.md#posix-platform-hooks
    }
    hooks.in_container(steps); //                     createContainer
    labels.at_exec(steps); //                         for the exec; createContainer hooks must not have them
    root.change(root_slot, steps);
    if !hooked {
        entering::into_pids(kinds, pids, steps);
    }
    entering::into_cgroup(kinds, steps);
    session.console(steps);
    let readonly_root = covered.root_step();
    covered.steps(steps); //                          ORDER: after pivot, on the container's own /proc
    writable.into_iter().for_each(|mount| mount.step(steps));
    payload.make_cwd(steps);
    readonly_root.into_iter().for_each(|(what, at)| steps.at(&at, what));
    root.finish(steps); //                            read-only last: no step makes files after this
    payload.enter_cwd(steps); //                      the working directory and HOME, as root
    scheduling.steps(steps); //                       scheduler, priorities, memory
    credentials.forbid_new_privileges(steps);
    landlock.iter().for_each(|landlock| landlock.steps(steps)); // ORDER: no step mounts after this
    credentials.give_up_power(until_exec, steps); //  groups, ids, capabilities
    // ORDER: other processes can see init only when nothing of the host is in reach, and init's rights are the
    // program's alone.
    if let Some((_, at)) = kinds.pids_of_others() {
        entering::spawned_last(at, facts, steps);
        session.begin_last(steps);
        scheduling.begin_last(steps);
        limits.begin_last(steps);
    }
    payload.prepare(filter, facts, steps); //         cwd is inside the root, descriptors closed, program found, ready
    let answer = hooks::await_start(facts, steps);
    hooks.at_start(steps); //                         startContainer
    payload.go(filter, answer, steps); //             seccomp, the exec

    let Whole { bridge, init, openings } = list.whole(root_slot);
    Ok(Plan {
        clone_args,
        openings,
        root: root_slot,
        root_on_host: root.on_host(),
        bridge,
        init,
        id_maps: maps.own,
        joined_maps: maps.joined,
        time_offsets,
        net_devices,
        runtime_hooks: hooks.runtime,
        later_hooks: hooks.later,
        hook_files,
        pidfd_receiver,
        oom_score_adj,
        limits: limits.list,
        scheduler: scheduling.by_runtime(),
        initial_affinity: None,
        filter: loaded.map(|loaded| loaded.filter),
        cgroup: cgroup.map(|cgroup| cgroup.handed_to(cgroup_owner)),
        resctrl,
        warnings,
    })
}

/// The plan of a further process in a running container. The steps are the same, but namespaces are joined, not made.
///
/// # Errors
/// All mistakes, each with its place.
pub fn exec(given: &Given<'_>, joining: &Joining<'_>) -> Result<Plan, Faults> {
    let (facts, container) = (&given.facts(), joining.container);
    let own = Own { process: Some(joining.process), at: joining.at, role: Role::Further };

    // Part one reads the process object.
    let mut found = Notes::of(given.config);
    let notes = &mut found;
    let spawn = entering::spawn_order_inside(container, given);
    let payload = process::read(own, given, notes);
    let held = credentials::held(given, container.kinds.has(USER));
    let credentials = credentials::read(own, held, &Maps::default(), given, notes);
    let loaded = filter::read(own, given, &credentials, notes);
    let landlock = landlock::read(own, given, &credentials, notes);
    let (filter, until_exec) = (loaded.as_ref(), loaded.as_ref().map_or(0, |filter| filter.takes));
    let limits = limits::read(own, spawn, held, given, notes);
    let oom_score_adj = limits::oom_score(own, given, notes);
    let affinity = affinity::of_exec(own, given, notes);
    let labels = labels::of_process(own, given, notes);
    let session = session::read(own, spawn, given, notes);
    let scheduling = run_as::read(own, spawn, given, notes);
    let warnings = found.into_warnings(given.config)?;

    // Part two says what is done, in this order.
    let mut list = Steps::new(given.host.me.mounts);
    let steps = &mut list;
    process::begin(steps);
    entering::unseen(steps);
    affinity.before_cgroup(steps);
    labels.at_exec(steps); //                         ORDER: uses the host's /proc, so before the container's mounts
    labels.of_keyring(steps);
    entering::join(container, spawn, facts, steps);
    session.begin(steps);
    session.further_terminal(steps);
    payload.enter_cwd(steps);
    affinity.in_cgroup(steps); //                     before the scheduler, which may check it
    scheduling.steps(steps);
    credentials.forbid_new_privileges(steps);
    landlock.iter().for_each(|landlock| landlock.steps(steps));
    credentials.give_up_power(until_exec, steps);
    if spawn == SpawnOrder::Last {
        entering::spawned_last(&At::new("linux.namespaces"), facts, steps); // ORDER: as for init
        session.begin_last(steps);
        scheduling.begin_last(steps);
        limits.begin_last(steps);
    }
    payload.prepare(filter, facts, steps);
    payload.go(filter, None, steps);

    let Whole { bridge, init, openings } = list.whole(None);
    Ok(Plan {
        openings,
        bridge,
        init,
        oom_score_adj,
        limits: limits.list,
        scheduler: scheduling.by_runtime(),
        initial_affinity: affinity.initial,
        filter: loaded.map(|loaded| loaded.filter),
        warnings,
        ..Plan::default()
    })
}
