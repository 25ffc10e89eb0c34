//! The seccomp filter and the steps around it: the profile cannot deny a call that init still needs, and no process
//! stays behind.

use libcontainer::plan::Plan;
use libcontainer::plan::step::{CallersGroups, CapabilitySets, What};
use libcontainer::wire::{HookPoint, Request};

use super::frame::{Rule, at, insert_after, leave_out, remove, runs_nothing, step, steps, twice};

const SYS_ADMIN: u64 = 1 << 21;

pub const RULES: [Rule; 6] = [
    Rule {
        name: "the exec alone comes after the filter",
        holds: seccomp,
        broken_by: &[
            ("two filters", |plan| twice(plan, filter)),
            ("no filter", |plan| leave_out(plan, filter)),
            ("a step of ours after it", |plan| insert_after(plan, filter, What::Session)),
            ("the last word after it", |plan| {
                let Some(n) = at(plan, filter).first().copied() else { return false };
                matches!(step(plan, n - 1).what, What::AboutToExec(_)) && {
                    let n = n - plan.bridge.len();
                    plan.init.swap(n - 1, n);
                    true
                }
            }),
        ],
    },
    Rule {
        name: "the filter can be loaded",
        holds: filter_can_be_loaded,
        broken_by: &[
            ("CAP_SYS_ADMIN is not kept", |plan| {
                sets(plan).is_some_and(|sets| std::mem::take(&mut sets.until_exec) != 0)
            }),
            ("no_new_privs is left out", |plan| {
                !at(plan, filter).is_empty() && leave_out(plan, |what| *what == What::NoNewPrivs)
            }),
        ],
    },
    Rule {
        name: "nothing else is kept",
        holds: nothing_else_is_kept,
        broken_by: &[
            ("without a filter", |plan| plan.filter.is_none() && keep(plan, SYS_ADMIN)),
            ("with no_new_privs", |plan| {
                !at(plan, |what| *what == What::NoNewPrivs).is_empty() && keep(plan, SYS_ADMIN)
            }),
            ("more than the filter needs", |plan| keep(plan, SYS_ADMIN | 1)),
        ],
    },
    Rule {
        name: "hooks wear the filter",
        holds: hooks_wear_the_filter,
        broken_by: &[("one that does not", |plan| {
            let hooks = plan.bridge.iter_mut().chain(&mut plan.init).filter_map(|step| match &mut step.what {
                What::Hooks { commands, .. } => Some(commands),
                _ => None,
            });
            hooks.flatten().fold(false, |some, hook| some | hook.filter.take().is_some())
        })],
    },
    Rule {
        name: "init ends with the runtime until it is ready",
        holds: ends_with_the_runtime,
        broken_by: &[
            ("it lives on from the beginning", |plan| leave_out(plan, kills)),
            ("the bridge lives on", |plan| !plan.bridge.is_empty() && kills(&plan.bridge.remove(0).what)),
            ("what clears it after it", |plan| {
                insert_after(plan, |what| *what == What::Ready, What::BecomeRoot(CallersGroups::Dropped))
            }),
            ("it is dumpable after a change of ids", |plan| {
                let Some(n) = at(plan, |what| matches!(what, What::BecomeRoot(_))).first().copied() else {
                    return false;
                };
                remove(plan, n + 1).what == What::Undumpable
            }),
            ("what is ready ends with the runtime", |plan| {
                leave_out(plan, |what| matches!(what, What::DeathSignal(_)) && !kills(what))
            }),
        ],
    },
    Rule {
        name: "not dumpable to the end",
        holds: undumpable_to_the_end,
        broken_by: &[("the last one is left out", |plan| {
            let Some(n) = at(plan, |what| *what == What::Undumpable).last().copied() else { return false };
            !runs_nothing(plan) && remove(plan, n).what == What::Undumpable
        })],
    },
];

fn filter(what: &What) -> bool {
    matches!(what, What::Seccomp(_))
}

fn kills(what: &What) -> bool {
    *what == What::DeathSignal(libc::SIGKILL)
}

fn sets(plan: &mut Plan) -> Option<&mut CapabilitySets> {
    plan.bridge.iter_mut().chain(&mut plan.init).find_map(|step| match &mut step.what {
        What::Capabilities(sets) => Some(sets),
        _ => None,
    })
}

fn keep(plan: &mut Plan, kept: u64) -> bool {
    sets(plan).map(|sets| sets.until_exec = kept).is_some()
}

/// seccomp(2) needs CAP_SYS_ADMIN or no_new_privs, and a profile may deny any call. So only the exec follows the
/// filter. Messages to the runtime and to `start` come before it. A filter with a listener comes before `Ready`,
/// because the runtime sends the listener on. After that, init only waits.
fn seccomp(plan: &Plan) -> Result<(), String> {
    let filters = at(plan, filter);
    let Some(loaded) = filters.first() else {
        return if plan.filter.is_none() { Ok(()) } else { Err("a filter that nobody loads".to_owned()) };
    };
    let Some(profile) = plan.filter.as_ref().filter(|_| filters.len() == 1) else {
        return Err("more filters than one, or none to load".to_owned());
    };
    let listener = profile.listener().is_some();
    let may_follow = |what: &What| match what {
        What::Exec(_) => true,
        What::Request(Request::SeccompListener) | What::Ready | What::AwaitStart { .. } | What::AboutToExec(_) => {
            listener
        }
        What::Hooks { point: HookPoint::StartContainer, .. } => listener,
        _ => false,
    };
    match steps(plan).skip(loaded + 1).find(|step| !may_follow(&step.what)) {
        Some(step) => Err(format!("{step} after the filter")),
        None => Ok(()),
    }
}

/// Loading the filter needs no_new_privs or CAP_SYS_ADMIN. Without no_new_privs, CAP_SYS_ADMIN is kept beyond
/// `Capabilities`.
fn filter_can_be_loaded(plan: &Plan) -> Result<(), String> {
    let Some(loaded) = at(plan, filter).first().copied() else { return Ok(()) };
    let before: Vec<_> = steps(plan).take(loaded).collect();
    let no_new_privs = before.iter().any(|step| step.what == What::NoNewPrivs);
    let kept = before.iter().any(
        |step| matches!(&step.what, What::Capabilities(sets) if (sets.effective | sets.until_exec) & SYS_ADMIN != 0),
    );
    match (no_new_privs, kept) {
        (true, _) | (false, true) => Ok(()),
        (false, false) => Err("neither no_new_privs nor CAP_SYS_ADMIN when the filter is loaded".to_owned()),
    }
}

/// Only the capability for the filter is kept until the exec. None is kept if the exec could give it to the program
/// (no_new_privs: capabilities(7)).
fn nothing_else_is_kept(plan: &Plan) -> Result<(), String> {
    let no_new_privs = at(plan, |what| *what == What::NoNewPrivs);
    let may = if plan.filter.is_some() && no_new_privs.is_empty() { SYS_ADMIN } else { 0 };
    match at(plan, |what| matches!(what, What::Capabilities(sets) if sets.until_exec & !may != 0)).first() {
        Some(n) => Err(format!("{} keeps what the filter does not need", step(plan, *n))),
        None => Ok(()),
    }
}

/// A startContainer hook has the filter of the process. If init loads the filter after the hook, the hook loads it
/// itself.
fn hooks_wear_the_filter(plan: &Plan) -> Result<(), String> {
    let loaded = at(plan, filter).first().copied();
    for (n, hooked) in steps(plan).enumerate() {
        let What::Hooks { point, commands: hooks, .. } = &hooked.what else { continue };
        let later = loaded.filter(|loaded| *loaded > n && *point == HookPoint::StartContainer);
        let wanted = later.and_then(|loaded| match step(plan, loaded).what {
            What::Seccomp(flags) => Some(flags),
            _ => None,
        });
        if hooks.iter().any(|hook| hook.filter != wanted) {
            return Err(format!("{hooked}: not confined as it must be"));
        }
    }
    Ok(())
}

/// Init ends with the runtime until it is ready, also after each change of ids or capabilities. Such a change clears
/// the parent-death signal (PR_SET_PDEATHSIG(2const)), and makes init dumpable again (PR_SET_DUMPABLE(2const)). A
/// process that is ready lives on, unless the runtime is to end it.
fn ends_with_the_runtime(plan: &Plan) -> Result<(), String> {
    let clears = |what: &What| match what {
        What::BecomeRoot(_) => true,
        What::Join(_, kinds) => kinds.has(libc::CLONE_NEWUSER as u64),
        _ => false,
    };
    for list in [&plan.bridge, &plan.init] {
        let set = |n: usize| list.get(n).is_some_and(|step| kills(&step.what));
        if !list.is_empty() && !set(0) {
            return Err("it lives on at first".to_owned());
        }
        if let Some(n) = (0..list.len()).find(|n| clears(&list[*n].what) && !set(n + 2)) {
            return Err(format!("after {} it lives on", list[n]));
        }
        let closed = |n: usize| list.get(n).is_some_and(|step| step.what == What::Undumpable);
        if let Some(n) = (0..list.len()).find(|n| clears(&list[*n].what) && !closed(n + 1)) {
            return Err(format!("after {} it is as dumpable as fs.suid_dumpable says", list[n]));
        }
    }
    let ready = at(plan, |what| *what == What::Ready);
    let given_up = at(plan, |what| matches!(what, What::Ids { .. } | What::Capabilities(_)));
    let (Some(ready), Some(given_up)) = (ready.first(), given_up.last()) else { return Err("never ready".to_owned()) };
    // Init's first step sets the signal when init is spawned. It does not show what happens when init is ready.
    let first = plan.bridge.len();
    let last = steps(plan).enumerate().take(*ready).skip(*given_up).filter(|(n, _)| *n != first);
    let last = last.map(|(_, step)| step).filter(|step| matches!(step.what, What::DeathSignal(_)));
    // When it is ready, the signal of the caller may be the same.
    match *last.map(|step| &step.what).collect::<Vec<_>>() {
        [first, _] if kills(first) => Ok(()),
        [last] if runs_nothing(plan) && !kills(last) => Ok(()),
        _ => Err("it lives on when its rights are given up, or ends with the runtime when it is ready".to_owned()),
    }
}

/// A change of ids makes a process dumpable if fs.suid_dumpable says so (PR_SET_DUMPABLE(2const)).
fn undumpable_to_the_end(plan: &Plan) -> Result<(), String> {
    let undumpable = at(plan, |what| *what == What::Undumpable);
    let ids = at(plan, |what| matches!(what, What::Ids { .. } | What::Capabilities(_)));
    match (ids.last(), undumpable.last()) {
        (Some(ids), Some(undumpable)) if ids < undumpable => Ok(()),
        (Some(_), _) if runs_nothing(plan) => Ok(()),
        (None, _) => Ok(()),
        _ => Err("after the ids have changed anybody may look".to_owned()),
    }
}
