//! The process: its user, its capabilities, what it can gain by executing a program, and the confinement by a security module.

use oci_spec::runtime::{Capabilities, Process};

use super::facts::ConfigFacts;
use super::finding::Findings;
use super::tables::{CAPABILITIES, DEFAULT_CAPABILITIES};
use crate::config::At;
use crate::config::capability::number;

const SYS_PTRACE: u8 = 19;

fn bits<'a>(sets: impl IntoIterator<Item = &'a Option<Capabilities>>) -> u64 {
    let names = sets.into_iter().flatten().flatten().filter_map(number);
    names.fold(0, |mask, number| mask | 1 << number)
}

/// The capabilities that the process has, or can get by execve(2): from a program with set-user-ID or file capabilities, or, as
/// root, from any program. KERNEL: with no_new_privs no program gives more than the process had (security/commoncap.c).
pub(super) fn capabilities(process: &Process) -> u64 {
    let Some(sets) = process.capabilities() else { return 0 };
    let from_programs = if is_sealed(process) { 0 } else { bits([sets.bounding(), sets.inheritable()]) };
    held(process) | from_programs
}

/// Those that the process has. KERNEL: root has all of the bounding set with the next program (capabilities(7)).
pub(super) fn held(process: &Process) -> u64 {
    let Some(sets) = process.capabilities() else { return 0 };
    let own = bits([sets.permitted(), sets.effective(), sets.ambient()]);
    let as_root = process.user().uid() == 0 && !is_sealed(process);
    own | if as_root { bits([sets.bounding()]) } else { 0 }
}

fn is_sealed(process: &Process) -> bool {
    process.no_new_privileges().unwrap_or(false)
}

pub(super) fn find(facts: &ConfigFacts<'_>, found: &mut Findings) {
    let Some(process) = facts.process else { return };
    let at = At::new("process");
    let only = |number: u8| if facts.held & 1 << number == 0 { ", in the bounding set alone" } else { "" };
    for (number, name, weight, gain) in CAPABILITIES.into_iter().filter(|(number, ..)| facts.can(*number)) {
        let host_processes = number == SYS_PTRACE && facts.shares(oci_spec::runtime::LinuxNamespaceType::Pid);
        let weight = facts.weighed_capability(number, if host_processes { 85 } else { weight });
        let gain = if host_processes { "controls every process of the host, and reads its memory" } else { gain };
        let change = format!("remove {name} from all sets");
        found.add(
            at.key("capabilities"),
            weight,
            format!("{name} is not in the usual set{}", only(number)),
            gain,
            change,
        );
    }
    for (number, name, weight, gain) in DEFAULT_CAPABILITIES.into_iter().filter(|(number, ..)| facts.can(*number)) {
        let change = format!("remove {name}, if the program works without it");
        let weight = facts.weighed_capability(number, weight);
        found.add(at.key("capabilities"), weight, format!("{name}{}", only(number)), gain, change);
    }
    if facts.root && !facts.mapped {
        let gain = "is root on the host after an escape, and for every file that is mounted into the container";
        let change = "run as another uid, or map root to another user by a user namespace";
        found.add(at.key("user").key("uid"), 15, "0 is root, also on the host", gain, change);
    }
    if !is_sealed(process) {
        let gain = "gains rights by set-user-ID programs and file capabilities";
        let weight = if facts.capabilities == 0 { 2 } else { 5 };
        found.add(at.key("noNewPrivileges"), weight, "is not true", gain, "set it to true");
    }
    confinement(facts, process, found);
    if process.oom_score_adj().is_some_and(|score| score < -500) {
        let gain = "uses all memory, and the kernel kills other processes for it";
        found.add(at.key("oomScoreAdj"), 4, "protects the process", gain, "leave it at 0 or above");
    }
}

fn confinement(facts: &ConfigFacts<'_>, process: &Process, found: &mut Findings) {
    let profile = process.apparmor_profile().as_deref().filter(|profile| !["", "unconfined"].contains(profile));
    let label = process.selinux_label().as_deref().filter(|label| !label.is_empty());
    let free = label.is_some_and(|label| ["spc_t", "unconfined_t"].iter().any(|kind| label.contains(kind)));
    let at = At::new("process");
    if free {
        let gain = "is not confined by SELinux";
        found.add(at.key("selinuxLabel"), facts.weighed(15), "a type without rules", gain, "use container_t");
    } else if profile.is_none() && label.is_none() {
        let gain = "no AppArmor profile or SELinux label stops a write to /proc or a mount";
        let change = "set apparmorProfile or selinuxLabel, where the host has such a module";
        found.add(at.key("apparmorProfile"), facts.weighed(5), "not set, and neither is selinuxLabel", gain, change);
    }
}
