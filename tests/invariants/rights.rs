//! A step that needs a right comes before the right is given up.

use libcontainer::plan::Plan;
use libcontainer::plan::needs::Right;
use libcontainer::plan::step::What;

use super::frame::{Rule, at, before, insert_after, leave_out, to_the_back_of};

pub const RULES: [Rule; 3] = [
    Rule {
        name: "nothing that needs a right after it is given up",
        holds: rights,
        broken_by: &[
            ("the bounding set after the ids", |plan| {
                to_the_back_of(plan, |what| matches!(what, What::Bounding(_)), ids)
            }),
            ("a host name after the ids", |plan| insert_after(plan, ids, What::Hostname(c"late".to_owned()))),
            ("setns after the capabilities", |plan| insert_after(plan, capset, What::EnterTime)),
            ("streams given away after the ids", |plan| {
                to_the_back_of(plan, |what| matches!(what, What::OwnStdio(_)), ids)
            }),
        ],
    },
    Rule {
        name: "capabilities after the ids, once",
        holds: capabilities_last,
        broken_by: &[
            ("capset is left out", |plan| leave_out(plan, capset)),
            ("the bounding set is left out", |plan| leave_out(plan, |what| matches!(what, What::Bounding(_)))),
            ("ids after capset", |plan| to_the_back_of(plan, ids, capset)),
        ],
    },
    Rule {
        name: "not dumpable before anything of the container's",
        holds: undumpable_first,
        broken_by: &[
            ("it is left out", |plan| {
                plan.bridge.retain(|step| step.what != What::Undumpable);
                leave_out(plan, |what| *what == What::Undumpable)
            }),
            ("after the root has changed", |plan| {
                plan.bridge.retain(|step| step.what != What::Undumpable);
                let mut moved = false;
                while to_the_back_of(plan, |what| *what == What::Undumpable, super::frame::pivot) {
                    moved = true;
                }
                moved
            }),
        ],
    },
];

fn ids(what: &What) -> bool {
    matches!(what, What::Ids { .. })
}

fn capset(what: &What) -> bool {
    matches!(what, What::Capabilities(_))
}

/// Steps that need a right come before the change of ids and capabilities. Otherwise they fail for every user but root.
fn rights(plan: &Plan) -> Result<(), String> {
    let needs = at(plan, |what| match what.right() {
        Right::Capability(_) | Right::SameIds => !ids(what),
        // The rule for the filter checks this (filter.rs).
        Right::AdminOrNoNewPrivs | Right::Anybody => false,
    });
    before(plan, "rights", &needs, &at(plan, |what| ids(what) || capset(what)))
}

/// The change of ids clears the capability sets (capabilities(7)), so they are set after it.
fn capabilities_last(plan: &Plan) -> Result<(), String> {
    let (bounding, sets) = (at(plan, |what| matches!(what, What::Bounding(_))), at(plan, capset));
    if (bounding.len(), sets.len()) != (1, 1) {
        return Err(format!("bounding set {bounding:?}, capset {sets:?}: each is set, and once"));
    }
    before(plan, "capset", &at(plan, ids), &sets)
}

/// A process of the container, or a hook, that can trace init can use init's descriptors (CVE-2016-9962).
fn undumpable_first(plan: &Plan) -> Result<(), String> {
    let closed = at(plan, |what| *what == What::Undumpable);
    let in_bridge = plan.bridge.iter().any(|step| step.what == What::Undumpable);
    if closed.is_empty() && !in_bridge {
        return Err("init is never closed to being looked into".to_owned());
    }
    let container = at(plan, |what| {
        super::frame::mounts(what) || super::frame::pivot(what) || matches!(what, What::Hooks { .. } | What::Console(_))
    });
    before(plan, "not dumpable", &closed[..closed.len().min(1)], &container)
}
