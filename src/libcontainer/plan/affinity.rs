//! `process.execCPUAffinity`: the CPUs of a process that exec starts. SPEC: config.md#linux-process.

use super::given::{Given, PlannedProcess};
use super::notes::Notes;
use super::process;
use super::step::What;
use super::steps::Steps;
use super::values::bitmap;
use crate::config::At;
use crate::wire::Request;

/// CPU masks, each with its property.
#[derive(Debug, Default)]
pub(super) struct Affinity {
    /// The CPUs of the runtime process until the new process is in its cgroup.
    pub(super) initial: Option<(At, Vec<u64>)>,
    last: Option<(At, Vec<u64>)>,
}

/// Reads the property. Both lists must have the syntax of CPU lists, also when no exec uses them.
pub(super) fn read(planned: PlannedProcess<'_>, notes: &mut Notes) -> Affinity {
    let requested = planned.process.and_then(|process| process.exec_cpu_affinity().as_ref());
    let Some(requested) = requested else { return Affinity::default() };
    let at = planned.at.key("execCPUAffinity");
    Affinity {
        initial: cpus(requested.initial(), at.key("initial"), notes),
        last: cpus(requested.cpu_affinity_final(), at.key("final"), notes),
    }
}

/// The affinity for exec: from its own process object, or from the container's if exec's has none.
pub(super) fn of_exec(planned: PlannedProcess<'_>, given: &Given<'_>, notes: &mut Notes) -> Affinity {
    let process = planned.process.filter(|process| process.exec_cpu_affinity().is_some());
    read(PlannedProcess { process: process.or(given.config.spec.process().as_ref()), ..planned }, notes)
}

/// The mask for a list. An empty list changes nothing.
fn cpus(list: &Option<String>, at: At, notes: &mut Notes) -> Option<(At, Vec<u64>)> {
    let text = list.as_deref().filter(|text| !text.is_empty())?;
    let mask = bitmap(text);
    if mask.is_none() {
        notes.fault(&at, format!("{text:?} is not a list of CPUs such as 0-3,7"));
    }
    mask.map(|mask| (at, mask))
}

impl Affinity {
    /// Without an initial mask, the process must not keep the runtime's own affinity. Since Linux 6.2, a process keeps
    /// its affinity when it moves to another cgroup.
    pub(super) fn before_cgroup(&self, steps: &mut Steps) {
        if self.initial.is_none() {
            process::all_cpus(steps);
        }
    }

    /// Sets the final mask when the process is in its cgroup.
    pub(super) fn in_cgroup(&self, steps: &mut Steps) {
        if let Some((at, mask)) = &self.last {
            // The mask may name a CPU that only the container's cpuset has.
            steps.add(at, What::Request(Request::Cgroup));
            steps.add(at, What::Affinity(mask.clone()));
        }
    }
}
