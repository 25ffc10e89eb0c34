//! Collects the steps of a plan, and the descriptors that they use.

use super::finished::{Opening, Plan};
use super::step::{Kept, Origin, Slot, Step, What};
use crate::config::At;
use crate::host::MayMount;
use crate::sys::mount::Reach;

/// Steps in the order in which they run.
#[derive(Debug)]
pub(super) struct Steps {
    bridge: Vec<Step>,
    init: Vec<Step>,
    openings: Vec<(Opening, At)>,
    may_mount: MayMount,
    /// The index in init's steps where init opens the runtime's files again.
    finding: Option<usize>,
}

impl Steps {
    /// No steps yet. `may_mount` says in which mount namespace the runtime may copy mounts.
    pub(super) fn new(may_mount: MayMount) -> Steps {
        Steps { bridge: Vec::new(), init: Vec::with_capacity(64), openings: Vec::new(), may_mount, finding: None }
    }

    /// Adds a step that comes from the property at `at`.
    pub(super) fn add(&mut self, at: &At, what: What) {
        self.init.push(Step::new(at, what));
    }

    /// Adds a step that every such container has.
    pub(super) fn add_always(&mut self, why: &'static str, what: What) {
        self.init.push(Step::always(why, what));
    }

    /// Adds a step that comes from a property or a rule.
    pub(super) fn add_from(&mut self, from: &Origin, what: What) {
        self.init.push(Step { what, from: from.clone() });
    }

    /// Adds a step of the bridge, whatever steps init already has.
    pub(super) fn add_to_bridge(&mut self, step: Step) {
        self.bridge.push(step);
    }

    /// Makes all steps so far steps of the bridge. Init begins with the next one.
    pub(super) fn become_bridge(&mut self) {
        self.find_all();
        self.bridge.append(&mut self.init);
    }

    /// Where the runtime may mount.
    pub(super) fn may_mount(&self) -> MayMount {
        self.may_mount
    }

    /// The slot of a new descriptor.
    pub(super) fn open(&mut self, at: &At, opening: Opening) -> Slot {
        let opening = self.as_we_may(opening);
        self.openings.push((opening, at.clone()));
        Slot(self.openings.len() - 1)
    }

    /// The slot of a descriptor. If the same descriptor has a slot already, returns that slot.
    pub(super) fn open_once(&mut self, at: &At, opening: Opening) -> Slot {
        let wanted = self.as_we_may(opening.clone());
        let there = self.openings.iter().position(|(there, _)| *there == wanted);
        there.map_or_else(|| self.open(at, opening), Slot)
    }

    /// If only init may copy mounts, the runtime opens what it mounts, and init finds it again.
    fn as_we_may(&self, opening: Opening) -> Opening {
        match self.may_mount {
            MayMount::Inside if opening.reach().is_some() => Opening::Found(Box::new(opening)),
            MayMount::Inside | MayMount::Here => opening,
        }
    }

    /// From here on, init is in its own mount namespace, and opens the runtime's files again there.
    pub(super) fn find_here(&mut self) {
        self.finding = Some(self.init.len());
    }

    /// Adds the step that copies the tree in `slot`, if only init may copy it. A step that mounts the tree must follow.
    pub(super) fn add_copy(&mut self, at: &At, slot: Slot) {
        if let Some((Opening::Found(inner), _)) = self.openings.get(slot.0)
            && let Some(reach) = inner.reach()
        {
            self.add(at, What::Copy(slot, reach));
        }
    }

    /// `plan`, with these steps, when no more are added. `root` is the slot of the container's root.
    pub(super) fn into_plan(mut self, root: Option<Slot>, plan: Plan) -> Plan {
        self.find_all();
        self.keep_what_is_used(root);
        for list in [&mut self.bridge, &mut self.init] {
            end_with_the_runtime(list);
        }
        Plan { bridge: self.bridge, init: self.init, openings: self.openings, root, ..plan }
    }

    fn find_all(&mut self) {
        let Some(index) = self.finding.take() else { return };
        let (mut steps, mut found) = (Vec::new(), Vec::new());
        for (n, (opening, at)) in self.openings.iter().enumerate() {
            let (Opening::Found(inner), slot) = (opening, Slot(n)) else { continue };
            match &**inner {
                Opening::Empty(label) => found.push(What::EmptyDirectory(slot, label.clone())),
                // ORDER: the null device covers paths after the root has changed. Files of the host cannot be copied
                // any more then.
                Opening::Null => found.extend([What::Find(slot), What::Copy(slot, Reach::One)]),
                _ => found.push(What::Find(slot)),
            }
            steps.extend(found.drain(..).map(|what| Step::new(at, what)));
        }
        self.init.splice(index..index, steps);
    }

    /// Each `CloseFds` keeps the slots that later steps use. Between `Spawn` and the last `CloseFds`, any step may use
    /// the root.
    fn keep_what_is_used(&mut self, root: Option<Slot>) {
        let mut later = Kept::default();
        let mut closed = false;
        for step in self.bridge.iter_mut().chain(&mut self.init).rev() {
            if let What::CloseFds { kept, .. } = &mut step.what {
                *kept = later.clone();
                let root = root.filter(|root| closed && !kept.slots.contains(root));
                kept.slots.extend(root);
                kept.slots.sort_unstable();
                closed = true;
            }
            for (slot, _) in step.what.slots() {
                if !later.slots.contains(&slot) {
                    later.slots.push(slot);
                }
            }
            later.host_proc |= step.what.needs_host_proc();
        }
    }
}

/// Until it is ready, every process of ours ends with the runtime. It sets the parent-death signal at its beginning, and again
/// after a change of ids or capabilities, which clears it (PR_SET_PDEATHSIG(2const)). If the runtime has ended before that, the
/// process notices the end of the socket's stream. Such a change also sets the dumpable attribute to fs.suid_dumpable
/// (PR_SET_DUMPABLE(2const)): other processes in the container might then trace this one.
fn end_with_the_runtime(list: &mut Vec<Step>) {
    let ends = || Step::always("until it is ready, it ends with the runtime", What::DeathSignal(libc::SIGKILL));
    let undumpable = || Step::always("CVE-2016-9962", What::Undumpable);
    let changes = |what: &What| match what {
        What::BecomeRoot(_) => true,
        What::Join(_, namespaces) => namespaces.has(libc::CLONE_NEWUSER as u64),
        _ => false,
    };
    if list.is_empty() {
        return;
    }
    let steps = std::mem::take(list);
    list.reserve(steps.len() + 5);
    list.push(ends());
    for step in steps {
        let changes = changes(&step.what);
        list.push(step);
        if changes {
            list.extend([undumpable(), ends()]);
        }
    }
}
