//! The Landlock ruleset: a process under it can do less, so it comes after all that init needs, and before the program.

use libcontainer::plan::step::What;
use libcontainer::plan::{Opening, Plan};

use super::frame::{Rule, at, before, leave_out, pivot, step, steps, to_the_back_of, to_the_front_of, twice};

pub const RULES: [Rule; 2] = [
    Rule {
        name: "a ruleset is applied, once, when it is complete",
        holds: applied,
        broken_by: &[
            ("it is left out", |plan| leave_out(plan, restrict)),
            ("applied twice", |plan| twice(plan, restrict)),
            ("a path after it", |plan| to_the_back_of(plan, allow, restrict)),
        ],
    },
    Rule {
        name: "the ruleset after the root and the mounts, before the ids",
        holds: at_its_time,
        broken_by: &[
            ("a path of the host", |plan| to_the_front_of(plan, allow, pivot)),
            ("a mount after it", |plan| to_the_back_of(plan, What::mounts, restrict)),
            ("with the ids of the program", |plan| to_the_back_of(plan, restrict, ids)),
            ("before no_new_privs", |plan| to_the_front_of(plan, restrict, |what| *what == What::NoNewPrivs)),
        ],
    },
];

fn restrict(what: &What) -> bool {
    matches!(what, What::Restrict(_))
}

fn allow(what: &What) -> bool {
    matches!(what, What::Allow { .. })
}

fn ids(what: &What) -> bool {
    matches!(what, What::Ids { .. })
}

fn applied(plan: &Plan) -> Result<(), String> {
    let rulesets = plan.openings.iter().filter(|(opening, _)| matches!(opening, Opening::Landlock(_))).count();
    let applied = at(plan, restrict);
    if applied.len() != rulesets || rulesets > 1 {
        return Err(format!("{rulesets} rulesets, applied at {applied:?}"));
    }
    before(plan, "ruleset", &at(plan, allow), &applied)
}

/// landlock(7): a process with a ruleset for files cannot mount and cannot change its root. Paths belong to the
/// container. The ids and capabilities of the program may not suffice to apply it.
fn at_its_time(plan: &Plan) -> Result<(), String> {
    let applied = at(plan, restrict);
    let Some(n) = applied.first().copied() else { return Ok(()) };
    let roots = |what: &What| pivot(what) || matches!(what, What::Join(..));
    before(plan, "ruleset", &at(plan, roots), &at(plan, allow))?;
    before(plan, "ruleset", &at(plan, |what| *what == What::NoNewPrivs), &applied)?;
    before(plan, "ruleset", &applied, &at(plan, |what| ids(what) || matches!(what, What::Capabilities(_))))?;
    match steps(plan).skip(n + 1).find(|later| later.what.mounts() || pivot(&later.what)) {
        Some(later) => Err(format!("{later} after {}", step(plan, n))),
        None => Ok(()),
    }
}
