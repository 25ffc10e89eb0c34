//! The seccomp profile.

use super::facts::{ConfigFacts, Findings};
use super::tables::{CALLS, SYS_ADMIN};
use crate::config::At;
use crate::plan::annotations::BPF_DATA;
use crate::plan::seccomp;

pub(super) fn look(facts: &ConfigFacts<'_>, found: &mut Findings) {
    let at = At::new("linux.seccomp");
    let annotations = facts.spec.annotations().as_ref();
    let Some(profile) = facts.linux.and_then(|linux| linux.seccomp().as_ref()) else {
        if annotations.is_some_and(|all| all.contains_key(BPF_DATA)) {
            let gain = "reaches what the filter allows";
            let what = "a filter whose rules are not examined";
            found.add(
                At::annotation(BPF_DATA),
                5,
                what,
                gain,
                "use linux.seccomp with the default profile of an engine",
            );
            return;
        }
        // A program with no rights at all still reaches the kernel's code by unprivileged user namespaces.
        let weight = if facts.mapped || (!facts.root && facts.capabilities == 0) { 22 } else { 32 };
        let gain = "reaches all of the kernel: a hole in any system call is a way out";
        found.add(at, weight, "is not set", gain, "use the default profile of an engine");
        return;
    };
    let Ok((filter, _)) = seccomp::filter(profile, &at) else { return };
    let calls: Vec<_> = CALLS.into_iter().filter(|(name, ..)| filter.denies(name).is_none()).collect();
    if calls.len() == CALLS.len() {
        let gain = "reaches all of the kernel: a hole in any system call is a way out";
        found.add(at, 30, "denies none of the dangerous calls", gain, "use the default profile of an engine");
        return;
    }
    for (name, weight, gain) in calls {
        // what only helps with rights counts little without them
        let weight = if facts.can(SYS_ADMIN) { weight } else { facts.weighed(weight).max(1) };
        let said = format!("{name} is allowed");
        found.add(at.key("syscalls"), weight, said, gain, format!("deny {name}"));
    }
}
