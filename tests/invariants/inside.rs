//! Joining namespaces that have other processes: these processes cannot see init before it is protected, and cannot
//! redirect a path.

use libcontainer::plan::needs::{Right, Writes};
use libcontainer::plan::step::{Kept, Slot, Step, What};
use libcontainer::plan::{Dumpable, Plan};

use super::frame::{Rule, at, insert_after, mounts, pivot, remove, steps, to_the_back_of};

const MOUNT: u64 = libc::CLONE_NEWNS as u64;
const PID: u64 = libc::CLONE_NEWPID as u64;
const USER: u64 = libc::CLONE_NEWUSER as u64;

pub const RULES: [Rule; 4] = [
    Rule {
        name: "nobody is seen before he is inside",
        holds: inside_first,
        broken_by: &[
            ("open to others from the clone on", |plan| {
                plan.clone_args.dumpable = Dumpable::UntilMapped;
                joins(plan, PID)
            }),
            ("not closed to others", |plan| {
                plan.bridge.retain(|step| step.what != What::Undumpable);
                joins(plan, PID)
            }),
            ("closed to others after the first setns", |plan| {
                joins(plan, PID) && to_the_back_of(plan, |what| *what == What::Undumpable, any_join)
            }),
            ("a namespace joined by init", |plan| {
                joins(plan, PID) && to_the_back_of(plan, any_join, |what| *what == What::Session)
            }),
            ("init spawned with all descriptors", |plan| {
                let bridge = &mut plan.bridge;
                let position = bridge.iter().position(|step| matches!(step.what, What::CloseFds { .. }));
                joins(plan, PID) && position.map(|n| remove(plan, n)).is_some()
            }),
            ("no second fork", |plan| {
                let joins = joins(plan, PID);
                let mut bridge = std::mem::take(&mut plan.bridge);
                bridge.pop();
                bridge.append(&mut plan.init);
                plan.init = bridge;
                joins
            }),
            ("the root changed by init", |plan| {
                joins(plan, PID) && !joins(plan, USER) && to_the_back_of(plan, pivot, |what| *what == What::Session)
            }),
            ("init spawned in a new user namespace with the host's root", |plan| {
                let new = joins(plan, PID) && at(plan, new_users).first().is_some_and(|n| *n < plan.bridge.len());
                // A former bug: init did the bridge's part.
                let position = plan.bridge.iter().position(|step| new_users(&step.what)).filter(|_| new);
                position.is_some_and(|n| {
                    let spawn = plan.bridge.split_off(plan.bridge.len() - 2);
                    let mut init = plan.bridge.split_off(n + 1);
                    plan.bridge.extend(spawn);
                    init.append(&mut plan.init);
                    plan.init = init;
                    true
                })
            }),
        ],
    },
    Rule {
        name: "who is seen has no more rights than the program",
        holds: cloned_without_power,
        broken_by: &[
            ("the capabilities given up where others see it", |plan| {
                seen_by_tracers(plan) && after_the_clone(plan, capset)
            }),
            ("the bounding set given up there", |plan| {
                seen_by_tracers(plan) && after_the_clone(plan, |what| matches!(what, What::Bounding(_)))
            }),
            ("the ids changed there", |plan| {
                seen_by_tracers(plan) && after_the_clone(plan, |what| matches!(what, What::Ids { .. }))
            }),
            ("the groups changed there", |plan| {
                seen_by_tracers(plan) && after_the_clone(plan, |what| matches!(what, What::Groups(_)))
            }),
            ("a step there that takes a right", |plan| {
                seen_by_tracers(plan) && insert_after(plan, spawn, What::Hostname(c"late".to_owned()))
            }),
        ],
    },
    Rule {
        name: "no write by path in a mount namespace of others",
        holds: no_path_in_a_joined_mount_namespace,
        broken_by: &[
            ("a mount made shared", |plan| {
                insert_after(plan, joins_mount, What::Propagate { path: c"/x".to_owned(), flags: libc::MS_SHARED })
            }),
            ("a source found again", |plan| insert_after(plan, joins_mount, What::Find(Slot(0)))),
        ],
    },
    Rule {
        name: "what is closed for good is not used later",
        holds: used_is_kept,
        broken_by: &[
            ("nothing is kept", |plan| {
                let mut changed = false;
                for step in plan.bridge.iter_mut().chain(&mut plan.init) {
                    if let What::CloseFds { kept, .. } = &mut step.what {
                        changed |= *kept != Kept::default();
                        *kept = Kept::default();
                    }
                }
                changed
            }),
            ("the host's /proc after it", |plan| {
                let label = What::Label { file: c"attr/exec".to_owned(), value: c"x".to_owned() };
                insert_after(plan, |what| matches!(what, What::CloseFds { .. }), label)
            }),
        ],
    },
];

fn any_join(what: &What) -> bool {
    matches!(what, What::Join(..))
}

fn new_users(what: &What) -> bool {
    matches!(what, What::Unshare(kinds) if kinds.has(USER))
}

fn spawn(what: &What) -> bool {
    matches!(what, What::Spawn(_))
}

fn capset(what: &What) -> bool {
    matches!(what, What::Capabilities(_))
}

fn after_the_clone(plan: &mut Plan, is: fn(&What) -> bool) -> bool {
    to_the_back_of(plan, is, spawn)
}

/// True if other processes are in the pid namespace, and no user namespace keeps out those with CAP_SYS_PTRACE. A new
/// user namespace does not: it does not own that pid namespace.
fn seen_by_tracers(plan: &Plan) -> bool {
    joins(plan, PID) && !joins(plan, USER)
}

fn joins_mount(what: &What) -> bool {
    matches!(what, What::Join(_, kinds) if kinds.has(MOUNT))
}

fn joins(plan: &Plan, kind: u64) -> bool {
    steps(plan).any(|step| matches!(step.what, What::Join(_, kinds) if kinds.has(kind)))
}

/// Other processes are in a joined pid namespace (CVE-2016-9962). Before a process of ours becomes a member, it is not
/// dumpable, has joined all namespaces, and has closed the descriptors that it does not need. If no user namespace
/// keeps tracers out, its root is the container's, too.
fn inside_first(plan: &Plan) -> Result<(), String> {
    if !joins(plan, PID) {
        return Ok(());
    }
    let all: Vec<&Step> = steps(plan).collect();
    let spawn = at(plan, |what| matches!(what, What::Spawn(_)));
    let [spawn] = spawn[..] else { return Err(format!("{} second forks", spawn.len())) };
    if spawn + 1 != plan.bridge.len() {
        return Err("the bridge goes on after init is spawned".to_owned());
    }
    if plan.clone_args.dumpable != Dumpable::No {
        return Err("the bridge is made open to others".to_owned());
    }
    let (closed, joined) = (at(plan, |what| *what == What::Undumpable), at(plan, any_join));
    if closed.first().is_none_or(|closed| Some(closed) > joined.first()) {
        return Err("a namespace is joined before the bridge is closed to others".to_owned());
    }
    if joined.last().is_some_and(|joined| *joined > spawn) {
        return Err("init joins a namespace where others see it".to_owned());
    }
    if !matches!(all[spawn - 1].what, What::CloseFds { .. }) {
        return Err("init is spawned with all descriptors".to_owned());
    }
    let needs_host = all[spawn..].iter().any(|step| pivot(&step.what) || mounts(&step.what));
    if needs_host && !joins(plan, USER) {
        return Err("init has the host's root where others see it".to_owned());
    }
    Ok(())
}

/// With CAP_SYS_PTRACE, and without a user namespace, other processes in the pid namespace can trace init as soon as
/// they see it. So its rights are given up before, and no later step needs a right (decisions/014). Only the filter may
/// be loaded later (decisions/016).
fn cloned_without_power(plan: &Plan) -> Result<(), String> {
    if !seen_by_tracers(plan) {
        return Ok(());
    }
    let changes = |what: &What| {
        matches!(
            what,
            What::Ids { .. } | What::Groups(_) | What::Bounding(_) | What::Capabilities(_) | What::NoNewPrivs
        )
    };
    let needs_a_right = |what: &What| matches!(what.right(), Right::Capability(_) | Right::SameIds);
    let seen = at(plan, spawn).first().copied().unwrap_or(0);
    match steps(plan).skip(seen + 1).find(|step| changes(&step.what) || needs_a_right(&step.what)) {
        Some(step) => Err(format!("{step} where others see it")),
        None => Ok(()),
    }
}

/// In a joined mount namespace, its members decide where a path leads (CVE-2019-16884, CVE-2025-52881). A plan uses a
/// path there only for a file that is then compared with the one that the runtime opened.
fn no_path_in_a_joined_mount_namespace(plan: &Plan) -> Result<(), String> {
    let Some(joined) = at(plan, joins_mount).first().copied() else { return Ok(()) };
    // From here on, the root is the container's, and the paths are its own.
    let changed = at(plan, pivot).first().copied().unwrap_or(usize::MAX);
    let by_path = |what: &What| match what.writes() {
        Writes::Path(path) => path != c"/" && !matches!(what, What::AttachRoot { .. } | What::PrivateAbove(_)),
        Writes::Nothing | Writes::HostProc(_) | Writes::Inside(_) => matches!(what, What::Find(_)),
    };
    match at(plan, by_path).into_iter().find(|n| joined < *n && *n < changed) {
        Some(n) => Err(format!("{} in a mount namespace of others", super::frame::step(plan, n))),
        None => Ok(()),
    }
}

/// Checks that `CloseFds` keeps all descriptors that later steps use.
fn used_is_kept(plan: &Plan) -> Result<(), String> {
    let all: Vec<&Step> = steps(plan).collect();
    for (n, step) in all.iter().enumerate() {
        let What::CloseFds { kept, .. } = &step.what else { continue };
        for later in &all[n + 1..] {
            if later.what.needs_host_proc() && !kept.host_proc {
                return Err(format!("{later} goes through the host's /proc, which is closed"));
            }
            if let Some((slot, _)) = later.what.slots().find(|(slot, _)| !kept.slots.contains(slot)) {
                return Err(format!("{later} uses {slot}, which is closed"));
            }
        }
        let closes_again = all[n + 1..].iter().any(|step| matches!(step.what, What::CloseFds { .. }));
        if closes_again && plan.root.is_some_and(|root| !kept.slots.contains(&root)) {
            return Err("the root is closed before its last use".to_owned());
        }
    }
    Ok(())
}
