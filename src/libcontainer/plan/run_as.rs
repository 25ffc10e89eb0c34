//! Scheduling, I/O priority, execution domain, memory policy: the spec's words as the kernel's numbers.

use oci_spec::runtime::{
    ExecCPUAffinity, IOPriorityClass, LinuxPersonalityDomain, LinuxSchedulerFlag, LinuxSchedulerPolicy,
    MemoryPolicyFlagType, MemoryPolicyModeType, Process, Scheduler,
};

use super::draft::Draft;
use super::step::What;
use super::{Asked, Joining};
use crate::config::At;
use crate::sys::sched::SchedAttr;
use crate::wire::Ask;

/// SPEC: config.md#linux-process (scheduler), sched_setattr(2).
pub(super) fn scheduler(asked: &Scheduler, at: &At, plan: &mut Draft) {
    let policy = *asked.policy();
    let nice = asked.nice().unwrap_or(0);
    let priority = asked.priority().unwrap_or(0);
    let nice_counts = matches!(policy, LinuxSchedulerPolicy::SchedOther | LinuxSchedulerPolicy::SchedBatch);
    let realtime = matches!(policy, LinuxSchedulerPolicy::SchedFifo | LinuxSchedulerPolicy::SchedRr);
    let deadline = policy == LinuxSchedulerPolicy::SchedDeadline;
    if nice != 0 && !nice_counts {
        // as with runc: sched_setattr(2) does not look at it
        plan.warn(&at.key("nice"), "is ignored: only SCHED_OTHER and SCHED_BATCH have a nice value");
    } else if !(-20..=19).contains(&nice) {
        plan.fault(&at.key("nice"), format!("{nice} is not in -20..19"));
    }
    if priority != 0 && !realtime {
        plan.fault(&at.key("priority"), "is for SCHED_FIFO and SCHED_RR only");
    } else if realtime && !(1..=99).contains(&priority) {
        plan.fault(&at.key("priority"), format!("{priority} is not in 1..99"));
    }
    if deadline && [asked.runtime(), asked.deadline()].iter().any(|time| time.unwrap_or(0) == 0) {
        plan.fault(at, "SCHED_DEADLINE needs runtime and deadline");
    }
    let times = [("runtime", asked.runtime()), ("deadline", asked.deadline()), ("period", asked.period())];
    for (name, value) in times {
        if value.is_some_and(|value| value != 0) && !deadline {
            plan.fault(&at.key(name), "is for SCHED_DEADLINE only");
        }
    }
    let flags = asked.flags().as_deref().unwrap_or_default().iter().map(scheduler_flag).fold(0, |all, one| all | one);
    let attr = SchedAttr {
        policy: scheduler_policy(policy),
        flags,
        nice,
        priority: u32::try_from(priority).unwrap_or(0),
        runtime: asked.runtime().unwrap_or(0),
        deadline: asked.deadline().unwrap_or(0),
        period: asked.period().unwrap_or(0),
        ..SchedAttr::default()
    };
    // ORDER: a realtime process cannot be moved into a cgroup that has no time for it (EINVAL, v1); there it is told so
    plan.at(at, What::Ask(Ask::Cgroup));
    plan.at(at, What::Scheduler(attr));
}

fn scheduler_policy(policy: LinuxSchedulerPolicy) -> u32 {
    match policy {
        LinuxSchedulerPolicy::SchedOther => 0,
        LinuxSchedulerPolicy::SchedFifo => 1,
        LinuxSchedulerPolicy::SchedRr => 2,
        LinuxSchedulerPolicy::SchedBatch => 3,
        LinuxSchedulerPolicy::SchedIso => 4,
        LinuxSchedulerPolicy::SchedIdle => 5,
        LinuxSchedulerPolicy::SchedDeadline => 6,
    }
}

fn scheduler_flag(flag: &LinuxSchedulerFlag) -> u64 {
    match flag {
        LinuxSchedulerFlag::SchedResetOnFork => 0x01,
        LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
        LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
        LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
        LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
        LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
        LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
    }
}

/// The number of an I/O class (ioprio_set(2)).
pub(super) fn io_class(class: IOPriorityClass) -> u32 {
    match class {
        IOPriorityClass::IoprioClassRt => 1,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    }
}

/// `linux.personality`. SPEC: config-linux.md#personality.
pub(super) fn domain(ask: &Asked<'_>, plan: &mut Draft) {
    let Some(asked) = ask.config.spec.linux().as_ref().and_then(|linux| linux.personality().as_ref()) else { return };
    let at = At::new("linux.personality");
    if asked.flags().as_ref().is_some_and(|flags| !flags.is_empty()) {
        plan.warn(&at.key("flags"), "has no flag that is known; they are ignored");
    }
    let persona = match asked.domain() {
        LinuxPersonalityDomain::PerLinux => 0,
        LinuxPersonalityDomain::PerLinux32 => 8,
    };
    plan.at(&at, What::Personality(persona));
}

/// `linux.memoryPolicy`. SPEC: config-linux.md#memory-policy, set_mempolicy(2).
pub(super) fn memory(ask: &Asked<'_>, plan: &mut Draft) {
    let Some(asked) = ask.config.spec.linux().as_ref().and_then(|linux| linux.memory_policy().as_ref()) else {
        return;
    };
    let at = At::new("linux.memoryPolicy");
    let nodes_at = at.key("nodes");
    let text = asked.nodes().as_deref().unwrap_or_default();
    let nodes = match mask(text) {
        Some(nodes) => nodes,
        None => {
            plan.fault(&nodes_at, format!("{text:?} is not a list of nodes such as 0-3,7"));
            return;
        }
    };
    let (mode, takes_nodes) = memory_mode(&asked.mode());
    if !takes_nodes && !nodes.is_empty() {
        plan.fault(&nodes_at, "must be empty for MPOL_DEFAULT and MPOL_LOCAL");
    }
    let flags = asked.flags().as_deref().unwrap_or_default().iter().map(memory_flag).fold(0, |all, one| all | one);
    let (static_nodes, relative_nodes) = (1 << 15, 1 << 14);
    if flags & (static_nodes | relative_nodes) == static_nodes | relative_nodes {
        plan.fault(&at.key("flags"), "MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude each other");
    }
    plan.at(&at, What::MemoryPolicy(mode | flags, nodes));
}

/// The lists of `execCPUAffinity` must be lists, whoever they are for.
pub(super) fn check_affinity(process: &Process, at: &At, plan: &mut Draft) {
    if let Some(asked) = process.exec_cpu_affinity() {
        cpus(asked.initial(), &at.key("execCPUAffinity").key("initial"), plan);
        cpus(asked.cpu_affinity_final(), &at.key("execCPUAffinity").key("final"), plan);
    }
}

/// What exec is told of CPUs: its own process object, or where that is silent, the container's.
fn affinity<'a>(joining: &Joining<'a>, ask: &Asked<'a>) -> Option<&'a ExecCPUAffinity> {
    let container = ask.config.spec.process().as_ref();
    let own = joining.process.exec_cpu_affinity().as_ref();
    own.or_else(|| container.and_then(|process| process.exec_cpu_affinity().as_ref()))
}

/// SPEC: config.md#linux-process, execCPUAffinity: where the runtime is before the process is in its cgroup. Nothing said
/// means that what we are confined to is not the process's (it stays so over the change of cgroups since Linux 6.2).
pub(super) fn before_cgroup(joining: &Joining<'_>, ask: &Asked<'_>, plan: &mut Draft) {
    let at = joining.at.key("execCPUAffinity").key("initial");
    match affinity(joining, ask).and_then(|asked| cpus(asked.initial(), &at, plan)) {
        Some(mask) => plan.plan().initial_affinity = Some((at, mask)),
        None => super::process::everywhere(plan),
    }
}

/// And once it is there.
pub(super) fn in_cgroup(joining: &Joining<'_>, ask: &Asked<'_>, plan: &mut Draft) {
    let at = joining.at.key("execCPUAffinity").key("final");
    if let Some(mask) = affinity(joining, ask).and_then(|asked| cpus(asked.cpu_affinity_final(), &at, plan)) {
        // a CPU of its cpuset may be none of ours
        plan.at(&at, What::Ask(Ask::Cgroup));
        plan.at(&at, What::Affinity(mask));
    }
}

/// The mask for a list that is there; an empty one says nothing.
fn cpus(list: &Option<String>, at: &At, plan: &mut Draft) -> Option<Vec<u64>> {
    let text = list.as_deref().filter(|text| !text.is_empty())?;
    let mask = mask(text);
    if mask.is_none() {
        plan.fault(at, format!("{text:?} is not a list of CPUs such as 0-3,7"));
    }
    mask
}

fn memory_mode(mode: &MemoryPolicyModeType) -> (u32, bool) {
    match mode {
        MemoryPolicyModeType::MpolDefault => (0, false),
        MemoryPolicyModeType::MpolPreferred => (1, true),
        MemoryPolicyModeType::MpolBind => (2, true),
        MemoryPolicyModeType::MpolInterleave => (3, true),
        MemoryPolicyModeType::MpolLocal => (4, false),
        MemoryPolicyModeType::MpolPreferredMany => (5, true),
        MemoryPolicyModeType::MpolWeightedInterleave => (6, true),
    }
}

fn memory_flag(flag: &MemoryPolicyFlagType) -> u32 {
    match flag {
        MemoryPolicyFlagType::MpolFStaticNodes => 1 << 15,
        MemoryPolicyFlagType::MpolFRelativeNodes => 1 << 14,
        MemoryPolicyFlagType::MpolFNumaBalancing => 1 << 13,
    }
}

/// A list such as `0-3,7` (cpuset(7), "List format") as a bit mask, lowest first; None when it is none.
pub(super) fn mask(list: &str) -> Option<Vec<u64>> {
    let mut mask = Vec::new();
    for range in list.split(',').map(str::trim).filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last >= 8192 {
            return None;
        }
        for bit in first..=last {
            if mask.len() <= bit / 64 {
                mask.resize(bit / 64 + 1, 0);
            }
            mask[bit / 64] |= 1 << (bit % 64);
        }
    }
    Some(mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_a_mask_lowest_first() {
        assert_eq!(mask("0-3,7"), Some(vec![0b1000_1111]));
        assert_eq!(mask("64"), Some(vec![0, 1]));
        assert_eq!(mask(""), Some(vec![]));
        assert_eq!(mask(" 1 , 2-2 "), Some(vec![0b110]));
        for bad in ["x", "3-1", "-1", "1-", "99999"] {
            assert_eq!(mask(bad), None, "{bad}");
        }
    }
}
