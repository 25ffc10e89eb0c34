//! The scheduler, I/O priority, execution domain and memory policy: the specification's words as the kernel's numbers.

use oci_spec::runtime::{
    IOPriorityClass, LinuxIOPriority, LinuxPersonalityDomain, LinuxSchedulerFlag, LinuxSchedulerPolicy,
    MemoryPolicyFlagType, MemoryPolicyModeType, Scheduler,
};

use super::given::{Given, PlannedProcess};
use super::namespaces::SpawnOrder;
use super::notes::Notes;
use super::step::What;
use super::steps::Steps;
use super::values::bitmap;
use crate::config::At;
use crate::sys::sched::SchedAttr;
use crate::wire::Request;

/// Scheduler, I/O priority, execution domain, memory policy: those that config.json sets.
#[derive(Debug)]
pub(super) struct Scheduling {
    /// The place of the process object.
    at: At,
    scheduler: Option<SchedAttr>,
    spawn: SpawnOrder,
    io_priority: Option<u32>,
    personality: Option<u64>,
    /// The mode with its flags, and the node mask.
    memory_policy: Option<(u32, Vec<u64>)>,
}

/// Reads `scheduler` and `ioPriority`, and `linux.personality` and `linux.memoryPolicy`.
pub(super) fn read(planned: PlannedProcess<'_>, spawn: SpawnOrder, given: &Given<'_>, notes: &mut Notes) -> Scheduling {
    let at = planned.at.clone();
    let Some(process) = planned.process else {
        return Scheduling { at, scheduler: None, spawn, io_priority: None, personality: None, memory_policy: None };
    };
    let scheduler = process.scheduler().as_ref().map(|requested| scheduler(requested, &at.key("scheduler"), notes));
    let io = process.io_priority().as_ref();
    let io_priority = io.and_then(|requested| io_priority(requested, &at.key("ioPriority"), notes));
    let personality = personality(given, notes);
    Scheduling { at, scheduler, spawn, io_priority, personality, memory_policy: memory_policy(given, notes) }
}

impl Scheduling {
    /// The steps of init, or of the bridge.
    pub(super) fn steps(&self, steps: &mut Steps) {
        if let Some(attr) = self.scheduler {
            let at = self.at.key("scheduler");
            // ORDER: a realtime process cannot be moved into a cgroup without realtime time (EINVAL, v1). In the
            // cgroup, sched_setattr(2) reports that.
            steps.add(&at, What::Request(Request::Cgroup));
            if self.by_runtime().is_none() {
                steps.add(&at, What::Scheduler(attr));
            }
        }
        if let Some(value) = self.io_priority {
            steps.add(&self.at.key("ioPriority"), What::IoPriority(value));
        }
        if let Some(persona) = self.personality {
            steps.add(&At::new("linux.personality"), What::Personality(persona));
        }
        if let Some((mode, nodes)) = &self.memory_policy {
            steps.add(&At::new("linux.memoryPolicy"), What::MemoryPolicy { mode: *mode, nodes: nodes.clone() });
        }
    }

    /// The scheduler of a process that is spawned last, if fork(2) does not pass it on. The runtime sets this one. A
    /// process with SCHED_DEADLINE cannot even fork (sched(7)).
    pub(super) fn by_runtime(&self) -> Option<(SchedAttr, At)> {
        const SCHED_DEADLINE: u32 = 6;
        const SCHED_FLAG_RESET_ON_FORK: u64 = 1;
        let not_inherited =
            |attr: &SchedAttr| attr.policy == SCHED_DEADLINE || attr.flags & SCHED_FLAG_RESET_ON_FORK != 0;
        let attr = self.scheduler.filter(|attr| self.spawn == SpawnOrder::Last && not_inherited(attr))?;
        Some((attr, self.at.key("scheduler")))
    }

    /// The settings that a process that is spawned last does not inherit from the bridge.
    pub(super) fn begin_last(&self, steps: &mut Steps) {
        if let Some((_, at)) = self.by_runtime() {
            steps.add(&at, What::Request(Request::Scheduler));
        }
    }
}

/// SPEC: config.md#linux-process (scheduler), sched_setattr(2).
fn scheduler(requested: &Scheduler, at: &At, notes: &mut Notes) -> SchedAttr {
    let policy = *requested.policy();
    let nice = requested.nice().unwrap_or(0);
    let priority = requested.priority().unwrap_or(0);
    let nice_counts = matches!(policy, LinuxSchedulerPolicy::SchedOther | LinuxSchedulerPolicy::SchedBatch);
    let realtime = matches!(policy, LinuxSchedulerPolicy::SchedFifo | LinuxSchedulerPolicy::SchedRr);
    let deadline = policy == LinuxSchedulerPolicy::SchedDeadline;
    if nice != 0 && !nice_counts {
        // As with runc: sched_setattr(2) ignores it.
        notes.warn(&at.key("nice"), "is ignored: only SCHED_OTHER and SCHED_BATCH have a nice value");
    } else if !(-20..=19).contains(&nice) {
        notes.fault(&at.key("nice"), format!("{nice} is not in -20..19"));
    }
    if priority != 0 && !realtime {
        notes.fault(&at.key("priority"), "is for SCHED_FIFO and SCHED_RR only");
    } else if realtime && !(1..=99).contains(&priority) {
        notes.fault(&at.key("priority"), format!("{priority} is not in 1..99"));
    }
    if deadline && [requested.runtime(), requested.deadline()].iter().any(|time| time.unwrap_or(0) == 0) {
        notes.fault(at, "SCHED_DEADLINE needs runtime and deadline");
    }
    let times = [("runtime", requested.runtime()), ("deadline", requested.deadline()), ("period", requested.period())];
    for (name, value) in times {
        if value.is_some_and(|value| value != 0) && !deadline {
            notes.fault(&at.key(name), "is for SCHED_DEADLINE only");
        }
    }
    let flags =
        requested.flags().as_deref().unwrap_or_default().iter().map(scheduler_flag).fold(0, |all, one| all | one);
    SchedAttr {
        policy: scheduler_policy(policy),
        flags,
        nice,
        // A value that does not fit is a fault already.
        priority: u32::try_from(priority).unwrap_or(0),
        runtime: requested.runtime().unwrap_or(0),
        deadline: requested.deadline().unwrap_or(0),
        period: requested.period().unwrap_or(0),
        ..SchedAttr::default()
    }
}

fn io_priority(requested: &LinuxIOPriority, at: &At, notes: &mut Notes) -> Option<u32> {
    match u32::try_from(requested.priority()).ok().filter(|level| *level < 8) {
        Some(level) => Some(io_class(requested.class()) << 13 | level),
        None => {
            notes.fault(&at.key("priority"), format!("{} is not in 0..7", requested.priority()));
            None
        }
    }
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
fn io_class(class: IOPriorityClass) -> u32 {
    match class {
        IOPriorityClass::IoprioClassRt => 1,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    }
}

/// `linux.personality`. SPEC: config-linux.md#personality.
fn personality(given: &Given<'_>, notes: &mut Notes) -> Option<u64> {
    let requested = given.linux().and_then(|linux| linux.personality().as_ref())?;
    let at = At::new("linux.personality");
    if requested.flags().as_ref().is_some_and(|flags| !flags.is_empty()) {
        notes.warn(&at.key("flags"), "no flag is known: ignored");
    }
    Some(match requested.domain() {
        LinuxPersonalityDomain::PerLinux => 0,
        LinuxPersonalityDomain::PerLinux32 => 8,
    })
}

/// `linux.memoryPolicy`. SPEC: config-linux.md#memory-policy, set_mempolicy(2).
fn memory_policy(given: &Given<'_>, notes: &mut Notes) -> Option<(u32, Vec<u64>)> {
    let requested = given.linux().and_then(|linux| linux.memory_policy().as_ref())?;
    let at = At::new("linux.memoryPolicy");
    let nodes_at = at.key("nodes");
    let text = requested.nodes().as_deref().unwrap_or_default();
    let Some(nodes) = bitmap(text) else {
        notes.fault(&nodes_at, format!("{text:?} is not a list of nodes such as 0-3,7"));
        return None;
    };
    let (mode, takes_nodes) = memory_mode(&requested.mode());
    if !takes_nodes && !nodes.is_empty() {
        notes.fault(&nodes_at, "must be empty for MPOL_DEFAULT and MPOL_LOCAL");
    }
    let flags = requested.flags().as_deref().unwrap_or_default().iter().map(memory_flag).fold(0, |all, one| all | one);
    let (static_nodes, relative_nodes) = (1 << 15, 1 << 14);
    if flags & (static_nodes | relative_nodes) == static_nodes | relative_nodes {
        notes.fault(&at.key("flags"), "MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude each other");
    }
    Some((mode | flags, nodes))
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
