//! `process.execCPUAffinity`: the CPUs of a further process. SPEC: config.md#linux-process.

use super::given::{Given, Own};
use super::notes::Notes;
use super::process;
use super::step::What;
use super::steps::Steps;
use super::values::mask;
use crate::config::At;
use crate::wire::Request;

/// CPU masks, each with its property.
#[derive(Debug, Default)]
pub(super) struct Affinity {
    /// Where the runtime is before the process is in its cgroup.
    pub(super) initial: Option<(At, Vec<u64>)>,
    last: Option<(At, Vec<u64>)>,
}

/// Reads it. The lists must be lists, whoever they are for.
pub(super) fn read(own: Own<'_>, notes: &mut Notes) -> Affinity {
    let asked = own.process.and_then(|process| process.exec_cpu_affinity().as_ref());
    let Some(asked) = asked else { return Affinity::default() };
    let at = own.at.key("execCPUAffinity");
    Affinity {
        initial: cpus(asked.initial(), at.key("initial"), notes),
        last: cpus(asked.cpu_affinity_final(), at.key("final"), notes),
    }
}

/// What exec is told of CPUs: its own process object, or where that is silent, the container's.
pub(super) fn of_exec(own: Own<'_>, given: &Given<'_>, notes: &mut Notes) -> Affinity {
    let process = own.process.filter(|process| process.exec_cpu_affinity().is_some());
    read(Own { process: process.or(given.config.spec.process().as_ref()), ..own }, notes)
}

/// The mask for a list that is there; an empty one says nothing.
fn cpus(list: &Option<String>, at: At, notes: &mut Notes) -> Option<(At, Vec<u64>)> {
    let text = list.as_deref().filter(|text| !text.is_empty())?;
    let mask = mask(text);
    if mask.is_none() {
        notes.fault(&at, format!("{text:?} is not a list of CPUs such as 0-3,7"));
    }
    mask.map(|mask| (at, mask))
}

impl Affinity {
    /// Without an initial mask what we are confined to is not the process's (it stays so over the change of cgroups since
    /// Linux 6.2).
    pub(super) fn before_cgroup(&self, steps: &mut Steps) {
        if self.initial.is_none() {
            process::everywhere(steps);
        }
    }

    /// Once it is in its cgroup.
    pub(super) fn in_cgroup(&self, steps: &mut Steps) {
        if let Some((at, mask)) = &self.last {
            // a CPU of its cpuset may be none of ours
            steps.at(at, What::Request(Request::Cgroup));
            steps.at(at, What::Affinity(mask.clone()));
        }
    }
}
