//! The seccomp profile.

use super::facts::ConfigFacts;
use super::finding::Findings;
use super::tables::{CALLS, SYS_ADMIN};
use crate::config::At;
use crate::plan::annotations::BPF_DATA;
use crate::plan::seccomp;

/// Up to that many allowed calls are a finding each.
const FEW: usize = 6;
/// A row of `CALLS`: name, weight, gain.
type DangerousCall = (&'static str, u8, &'static str);

pub(super) fn find(facts: &ConfigFacts<'_>, found: &mut Findings) {
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
        let all = "can make every system call: a vulnerability in any of them lets it escape";
        found.add(at, unfiltered(facts), "is not set", all, "use the default profile of an engine");
        return;
    };
    let Ok((filter, _)) = seccomp::filter(profile, &at) else { return };
    let allowed: Vec<_> = CALLS.into_iter().filter(|(name, ..)| filter.denies(name).is_none()).collect();
    if allowed.len() > FEW {
        // as much of the weight of no filter as is left open
        let sum = |calls: &[DangerousCall]| calls.iter().map(|(_, weight, _)| u32::from(*weight)).sum::<u32>();
        let share = u32::from(unfiltered(facts)) * sum(&allowed) / sum(&CALLS);
        let weight = u8::try_from(share).unwrap_or(u8::MAX);
        let names: Vec<_> = allowed.iter().map(|(name, ..)| *name).collect();
        let (said, gain) = if allowed.len() == CALLS.len() {
            (
                "denies none of the dangerous calls".to_owned(),
                "can make every system call: a vulnerability in any of them lets it escape",
            )
        } else {
            (
                format!("allows {} of {} dangerous calls: {}", names.len(), CALLS.len(), names.join(", ")),
                "reaches kernel code that has had many vulnerabilities",
            )
        };
        found.add(at, weight.min(unfiltered(facts) - 1), said, gain, "use the default profile of an engine");
        return;
    }
    for (name, weight, gain) in allowed {
        // what only helps with rights counts little without them
        let weight = if facts.can(SYS_ADMIN) { weight } else { facts.weighed(weight).max(1) };
        let said = format!("{name} is allowed");
        found.add(at.key("syscalls"), weight, said, gain, format!("deny {name}"));
    }
}

/// The weight of no filter. A program with no rights at all still reaches the kernel's code by unprivileged user namespaces.
fn unfiltered(facts: &ConfigFacts<'_>) -> u8 {
    if facts.mapped || (!facts.root && facts.capabilities == 0) { 22 } else { 32 }
}
