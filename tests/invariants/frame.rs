//! A rule is a function over a plan, and the changes to a plan that break it. A rule that no change breaks proves
//! nothing, so each has at least one.

use libcontainer::config::At;
use libcontainer::plan::Plan;
use libcontainer::plan::step::{Step, What};

/// One invariant.
pub struct Rule {
    /// Its name.
    pub name: &'static str,
    /// Returns an error if a plan breaks it. The error names the step.
    pub holds: fn(&Plan) -> Result<(), String>,
    /// Each of these must make `holds` fail if it can be applied.
    pub broken_by: &'static [Mutation],
}

/// A change to a plan: its name and the function. It returns false if it cannot be applied to this plan.
pub type Mutation = (&'static str, fn(&mut Plan) -> bool);

/// The bridge's steps, then init's: the order in which they run, and by which they are numbered.
pub fn steps(plan: &Plan) -> impl DoubleEndedIterator<Item = &Step> {
    plan.bridge.iter().chain(&plan.init)
}

/// The numbers of the steps for which `is` is true.
pub fn at(plan: &Plan, is: impl Fn(&What) -> bool) -> Vec<usize> {
    steps(plan).enumerate().filter(|(_, step)| is(&step.what)).map(|(n, _)| n).collect()
}

/// The step with this number.
pub fn step(plan: &Plan, n: usize) -> &Step {
    plan.bridge.get(n).unwrap_or_else(|| &plan.init[n - plan.bridge.len()])
}

/// Removes the step with this number.
pub fn remove(plan: &mut Plan, n: usize) -> Step {
    match n.checked_sub(plan.bridge.len()) {
        None => plan.bridge.remove(n),
        Some(n) => plan.init.remove(n),
    }
}

/// Inserts a step with this number. After the bridge's last step, it is a step of init.
pub fn insert(plan: &mut Plan, n: usize, step: Step) {
    match n.checked_sub(plan.bridge.len()) {
        None => plan.bridge.insert(n, step),
        Some(n) => plan.init.insert(n, step),
    }
}

/// Checks that every step of `first` comes before every step of `second`.
pub fn before(plan: &Plan, what: &str, first: &[usize], second: &[usize]) -> Result<(), String> {
    match (first.last(), second.first()) {
        (Some(a), Some(b)) if a >= b => Err(format!("{what}: {} comes after {}", step(plan, *a), step(plan, *b))),
        _ => Ok(()),
    }
}

/// Moves the first `late` step that stands after the first `early` step to the place before it.
pub fn to_the_front_of(plan: &mut Plan, late: fn(&What) -> bool, early: fn(&What) -> bool) -> bool {
    let (late, early) = (at(plan, late), at(plan, early));
    let Some(early) = early.first() else { return false };
    let Some(late) = late.iter().find(|late| *late > early) else { return false };
    let step = remove(plan, *late);
    insert(plan, *early, step);
    true
}

/// Moves the last `early` step that stands before the last `late` step to the place after it.
pub fn to_the_back_of(plan: &mut Plan, early: fn(&What) -> bool, late: fn(&What) -> bool) -> bool {
    let (early, late) = (at(plan, early), at(plan, late));
    let Some(late) = late.last() else { return false };
    let Some(early) = early.iter().rfind(|early| *early < late) else { return false };
    let step = remove(plan, *early);
    insert(plan, *late, step);
    true
}

/// Removes every step for which `is` is true.
pub fn leave_out(plan: &mut Plan, is: fn(&What) -> bool) -> bool {
    let before = steps(plan).count();
    plan.bridge.retain(|step| !is(&step.what));
    plan.init.retain(|step| !is(&step.what));
    steps(plan).count() != before
}

/// Repeats the first step for which `is` is true.
pub fn twice(plan: &mut Plan, is: fn(&What) -> bool) -> bool {
    let Some(n) = at(plan, is).first().copied() else { return false };
    let step = step(plan, n).clone();
    insert(plan, n, step);
    true
}

/// Inserts `what` directly after the last step for which `is` is true.
pub fn insert_after(plan: &mut Plan, is: fn(&What) -> bool, what: What) -> bool {
    let Some(n) = at(plan, is).last().copied() else { return false };
    insert(plan, n + 1, Step::new(&At::new("mutation"), what));
    true
}

/// True if the container runs no program. SPEC: config.md#process: the process may be missing until `start`, which then
/// fails.
pub fn runs_nothing(plan: &Plan) -> bool {
    at(plan, |what| matches!(what, What::FindProgram(_) | What::Exec(_) | What::Ids { .. })).is_empty()
}

/// True if this step changes the root.
pub fn pivot(what: &What) -> bool {
    matches!(what, What::Pivot | What::MoveRoot | What::Chroot(_))
}

/// True for the mounts of config.json and the mount of the root.
pub fn mounts(what: &What) -> bool {
    what.mounts()
        && matches!(
            what,
            What::NewMount(_) | What::Bind(..) | What::BindOrLink(..) | What::Remount(..) | What::AttachRoot { .. }
        )
}

/// True for a mount that hides or protects a path of the container.
pub fn covers(what: &What) -> bool {
    matches!(what, What::Mask { .. } | What::ReadOnly(_))
}
