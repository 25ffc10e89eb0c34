//! What a rule is: a function over a plan, and the changes to a plan that break it. A rule that no change breaks proves
//! nothing, so each has at least one.

use libcontainer::config::At;
use libcontainer::plan::Plan;
use libcontainer::plan::step::{Step, What};

/// One invariant.
pub struct Rule {
    /// What it says.
    pub name: &'static str,
    /// Whether a plan keeps it, or which step does not.
    pub holds: fn(&Plan) -> Result<(), String>,
    /// Each of these must make `holds` fail, wherever it can be made.
    pub broken_by: &'static [Mutation],
}

/// A change to a plan: its name, and the change. False where this plan has nothing to change.
pub type Mutation = (&'static str, fn(&mut Plan) -> bool);

/// The bridge's steps, then init's: as they are performed, and as they are numbered.
pub fn steps(plan: &Plan) -> impl DoubleEndedIterator<Item = &Step> {
    plan.bridge.iter().chain(&plan.init)
}

/// The numbers of the steps that are so.
pub fn at(plan: &Plan, is: impl Fn(&What) -> bool) -> Vec<usize> {
    steps(plan).enumerate().filter(|(_, step)| is(&step.what)).map(|(n, _)| n).collect()
}

/// The step of that number.
pub fn step(plan: &Plan, n: usize) -> &Step {
    plan.bridge.get(n).unwrap_or_else(|| &plan.init[n - plan.bridge.len()])
}

/// Takes the step of that number out.
pub fn remove(plan: &mut Plan, n: usize) -> Step {
    match n.checked_sub(plan.bridge.len()) {
        None => plan.bridge.remove(n),
        Some(n) => plan.init.remove(n),
    }
}

/// Puts a step in, which has that number then. Behind the bridge's last step it is init's.
pub fn insert(plan: &mut Plan, n: usize, step: Step) {
    match n.checked_sub(plan.bridge.len()) {
        None => plan.bridge.insert(n, step),
        Some(n) => plan.init.insert(n, step),
    }
}

/// Every one of `first` comes before every one of `second`.
pub fn before(plan: &Plan, what: &str, first: &[usize], second: &[usize]) -> Result<(), String> {
    match (first.last(), second.first()) {
        (Some(a), Some(b)) if a >= b => Err(format!("{what}: {} comes after {}", step(plan, *a), step(plan, *b))),
        _ => Ok(()),
    }
}

/// The first step that is `late` goes to the front of the first that is `early`, which stood before it.
pub fn to_the_front_of(plan: &mut Plan, late: fn(&What) -> bool, early: fn(&What) -> bool) -> bool {
    let (late, early) = (at(plan, late), at(plan, early));
    let Some(early) = early.first() else { return false };
    let Some(late) = late.iter().find(|late| *late > early) else { return false };
    let step = remove(plan, *late);
    insert(plan, *early, step);
    true
}

/// The last step that is `early` goes behind the last that is `late`, which stood after it.
pub fn to_the_back_of(plan: &mut Plan, early: fn(&What) -> bool, late: fn(&What) -> bool) -> bool {
    let (early, late) = (at(plan, early), at(plan, late));
    let Some(late) = late.last() else { return false };
    let Some(early) = early.iter().rfind(|early| *early < late) else { return false };
    let step = remove(plan, *early);
    insert(plan, *late, step);
    true
}

/// Every step that is so is left out.
pub fn leave_out(plan: &mut Plan, is: fn(&What) -> bool) -> bool {
    let before = steps(plan).count();
    plan.bridge.retain(|step| !is(&step.what));
    plan.init.retain(|step| !is(&step.what));
    steps(plan).count() != before
}

/// The first step that is so is done twice.
pub fn twice(plan: &mut Plan, is: fn(&What) -> bool) -> bool {
    let Some(n) = at(plan, is).first().copied() else { return false };
    let step = step(plan, n).clone();
    insert(plan, n, step);
    true
}

/// `what` comes right after the last step that is so.
pub fn insert_after(plan: &mut Plan, is: fn(&What) -> bool, what: What) -> bool {
    let Some(n) = at(plan, is).last().copied() else { return false };
    insert(plan, n + 1, Step::at(&At::new("mutation"), what));
    true
}

/// The container runs nothing. SPEC: config.md#process: it may be missing until `start`, which then says so.
pub fn runs_nothing(plan: &Plan) -> bool {
    at(plan, |what| matches!(what, What::FindProgram(_) | What::Exec(_) | What::Ids { .. })).is_empty()
}

/// The root changes.
pub fn pivot(what: &What) -> bool {
    matches!(what, What::Pivot | What::MoveRoot | What::Chroot(_))
}

/// What config.json asks to be mounted, and the root itself.
pub fn mounts(what: &What) -> bool {
    what.mounts()
        && matches!(
            what,
            What::NewMount(_) | What::Bind(..) | What::BindOrLink(..) | What::Remount(..) | What::AttachRoot { .. }
        )
}

/// What lies on a mount of the container's to hide or protect it.
pub fn covers(what: &What) -> bool {
    matches!(what, What::Mask { .. } | What::ReadOnly(_))
}
