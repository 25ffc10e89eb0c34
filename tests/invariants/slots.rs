//! Descriptors: each slot that a step uses was opened, has the right kind, and is not closed yet.

use libcontainer::config::At;
use libcontainer::plan::needs::{SlotState, Use};
use libcontainer::plan::step::{Namespaces, Slot, Step, What};
use libcontainer::plan::{Opening, Plan};
use libcontainer::wire::HookPoint;

use super::frame::{Rule, at, insert_after, leave_out, mounts, pivot, step, steps, twice};

pub const RULES: [Rule; 3] = [
    Rule {
        name: "every slot is opened and of the right kind",
        holds: kinds,
        broken_by: &[
            ("a slot that is never opened", |plan| {
                let slot = Slot(plan.openings.len());
                insert_after(plan, |what| *what == What::Signals, What::Join(slot, Namespaces::NONE))
            }),
            ("setns to a fifo", |plan| {
                let Some(slot) = slot_of(plan, |opening| *opening == Opening::StartFifo) else { return false };
                insert_after(plan, |what| *what == What::Signals, What::Join(slot, Namespaces::NONE))
            }),
            ("chroot to a mount", |plan| {
                let Some(slot) = slot_of(plan, |opening| matches!(opening, Opening::Tree(..))) else { return false };
                insert_after(plan, pivot, What::Chroot(slot))
            }),
            ("a tree is attached twice", |plan| {
                twice(plan, |what| matches!(what, What::Bind(..) | What::AttachRoot { .. }))
            }),
            ("a source is not replaced by its mount", |plan| {
                leave_out(plan, |what| matches!(what, What::Request(libcontainer::wire::Request::Tree(_))))
            }),
            ("what is found is not copied", |plan| leave_out(plan, |what| matches!(what, What::Copy(..)))),
            ("an empty directory is not made", |plan| leave_out(plan, |what| matches!(what, What::EmptyDirectory(..)))),
            ("the null device is asked to be the answer", |plan| {
                let Some(null) = slot_of(plan, |opening| *opening == Opening::Null) else { return false };
                insert_after(plan, |what| *what == What::Ready, What::AwaitStart { fifo: null, answer: null })
            }),
        ],
    },
    Rule {
        name: "the root is opened",
        holds: named_by_the_plan,
        broken_by: &[("a root that is never opened", |plan| {
            plan.root = plan.root.map(|_| Slot(plan.openings.len()));
            plan.root.is_some()
        })],
    },
    Rule {
        name: "nothing is used after descriptors are closed, but what is ours alone",
        holds: closed,
        broken_by: &[
            ("they are not closed", |plan| leave_out(plan, closes)),
            ("a mask after it", |plan| {
                let covers = at(plan, |what| matches!(what, What::Mask { .. }));
                let Some(mask) = covers.first().map(|n| step(plan, *n).what.clone()) else { return false };
                insert_after(plan, closes, mask)
            }),
            ("setns after it", |plan| {
                plan.openings.push((Opening::Process(1), At::new("mutation")));
                let slot = Slot(plan.openings.len() - 1);
                insert_after(plan, closes, What::Join(slot, Namespaces::NONE))
            }),
            ("createContainer after it", |plan| {
                let hooks = at(plan, |what| matches!(what, What::Hooks { point: HookPoint::CreateContainer, .. }));
                let Some(hooks) = hooks.first().map(|n| step(plan, *n).what.clone()) else { return false };
                insert_after(plan, closes, hooks)
            }),
        ],
    },
];

fn slot_of(plan: &Plan, is: fn(&Opening) -> bool) -> Option<Slot> {
    plan.openings.iter().position(|(opening, _)| is(opening)).map(Slot)
}

fn closes(what: &What) -> bool {
    matches!(what, What::CloseFds { .. })
}

/// Follows each descriptor through the steps of the bridge and of init.
fn kinds(plan: &Plan) -> Result<(), String> {
    let mut states = vec![SlotState::Opened; plan.openings.len()];
    for Step { what, from } in plan.bridge.iter().chain(&plan.init) {
        for (slot, wanted) in what.slots() {
            let Some((opening, _)) = plan.openings.get(slot.0) else {
                return Err(format!("{what}  {from}: {slot} is never opened"));
            };
            let state = states[slot.0];
            states[slot.0] = opening
                .serves(state, wanted)
                .ok_or_else(|| format!("{what}  {from}: {slot} ({opening}, {state:?}) does not serve to {wanted:?}"))?;
        }
    }
    Ok(())
}

/// Checks the slots that the plan itself names.
fn named_by_the_plan(plan: &Plan) -> Result<(), String> {
    let opened = |slot: Slot, right: fn(&Opening) -> bool| match plan.openings.get(slot.0) {
        Some((opening, _)) if right(opening) => Ok(()),
        Some((opening, _)) => Err(format!("{slot} is {opening}")),
        None => Err(format!("{slot} is never opened")),
    };
    let root = |opening: &Opening| {
        let own = |opening: &Opening| matches!(opening, Opening::Tree(..) | Opening::Directory(_));
        own(opening) || matches!(opening, Opening::Found(inner) if own(inner))
    };
    plan.root.map_or(Ok(()), |slot| opened(slot, root))
}

/// After the last `CloseFds`, only these are used: the fifos of `start`, and the state and the output of startContainer
/// hooks.
fn closed(plan: &Plan) -> Result<(), String> {
    // The bridge's `CloseFds` comes before init makes its own descriptors. `inside.rs` checks what it keeps.
    let Some(last) = at(plan, closes).last().copied() else { return Err("descriptors are not closed".to_owned()) };
    let later = |what: &What| {
        let own = what.slots().all(|(_, wanted)| match wanted {
            Use::AwaitStart | Use::AnswerStart | Use::ReadState | Use::KeepOutput => true,
            Use::Enter
            | Use::MapIds
            | Use::Chroot
            | Use::Find
            | Use::Copy
            | Use::MakeEmpty
            | Use::Receive
            | Use::Attach
            | Use::AttachCopy
            | Use::Look
            | Use::Confine
            | Use::Recall
            | Use::SendTerminal => false,
        });
        own && !mounts(what) && !pivot(what) && !matches!(what, What::Hooks { point: HookPoint::CreateContainer, .. })
    };
    match steps(plan).skip(last).find(|step| !later(&step.what)) {
        Some(step) => Err(format!("{step} after descriptors are closed")),
        None => Ok(()),
    }
}
