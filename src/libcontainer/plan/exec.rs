//! The plan of a further process in a running container.

use super::given::{Given, Joining, PlannedProcess};
use super::idmap::Maps;
use super::namespaces::SpawnOrder;
use super::notes::Notes;
use super::step::Role;
use super::steps::Steps;
use super::{Plan, affinity, credentials, entering, filter, labels, landlock, limits, process, scheduling, session};
use crate::config::{At, Faults};

/// The plan of a further process in a running container. The steps are the same, but namespaces are joined, not made.
///
/// # Errors
/// All mistakes, each with its place.
pub fn exec(given: &Given<'_>, joining: &Joining<'_>) -> Result<Plan, Faults> {
    let (facts, container) = (&given.facts(), joining.container);
    let planned = PlannedProcess { process: Some(joining.process), at: joining.at, role: Role::Further };

    // Part one reads the process object.
    let mut found = Notes::new(given.config);
    let notes = &mut found;
    let spawn = entering::spawn_order_inside(container, given);
    let program = process::read(planned, given, notes);
    let bounding = credentials::initial_bounding(given, container.namespaces);
    let credentials = credentials::read(planned, bounding, &Maps::default(), given, notes);
    let loaded = filter::read(planned, given, &credentials, notes);
    let landlock = landlock::read(planned, given, &credentials, notes);
    let limits = limits::read(planned, spawn, container.namespaces, given, notes);
    let oom_score_adj = limits::oom_score(planned, given, notes);
    let affinity = affinity::of_exec(planned, given, notes);
    let labels = labels::of_process(planned, given, notes);
    let session = session::read(planned, spawn, given, notes);
    let scheduling = scheduling::read(planned, spawn, given, notes);
    let warnings = found.into_warnings(given.config)?;

    // Part two says what is done, in this order.
    let filter = loaded.as_ref();
    let mut list = Steps::new(given.host.me.may_mount);
    let steps = &mut list;
    process::begin(steps);
    entering::undumpable(steps);
    affinity.before_cgroup(steps);
    labels.at_exec(steps); //                         ORDER: uses the host's /proc, so before the container's mounts
    labels.of_keyring(steps);
    entering::join(container, spawn, facts, steps);
    session.begin(steps);
    session.further_terminal(steps);
    program.enter_cwd(steps);
    affinity.in_cgroup(steps); //                     before the scheduler, which may check it
    scheduling.steps(steps);
    credentials.forbid_new_privileges(steps);
    landlock.iter().for_each(|landlock| landlock.steps(steps));
    credentials.give_up_power(filter.map_or(0, |filter| filter.until_exec), steps);
    if spawn == SpawnOrder::Last {
        entering::spawned_last(&At::new("linux.namespaces"), facts, steps); // ORDER: as for init
        session.begin_last(steps);
        scheduling.begin_last(steps);
        limits.begin_last(steps);
    }
    program.prepare(filter, facts, steps);
    program.exec(filter, None, steps);

    let plan = Plan {
        oom_score_adj,
        limits: limits.list,
        scheduler: scheduling.by_runtime(),
        initial_affinity: affinity.initial,
        filter: loaded.map(|loaded| loaded.filter),
        warnings,
        ..Plan::default()
    };
    Ok(list.into_plan(None, plan))
}
