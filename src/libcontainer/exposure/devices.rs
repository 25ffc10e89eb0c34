//! Devices: nodes that the config makes, and the rules for those that a process makes.

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use super::facts::{ConfigFacts, Findings};
use super::tables::CHARACTER_DEVICES;
use crate::config::At;

const MKNOD: u8 = 27;
const SYS_RAWIO: u8 = 17;
/// With that many nodes, the whole /dev of the host is given.
const ALL_OF_THEM: usize = 40;

pub(super) fn look(facts: &ConfigFacts<'_>, found: &mut Findings) {
    let Some(linux) = facts.linux else { return };
    let at = At::new("linux.devices");
    let nodes = linux.devices().as_deref().unwrap_or_default();
    for (n, node) in nodes.iter().enumerate().take(ALL_OF_THEM) {
        let path = node.path().to_string_lossy();
        let row = CHARACTER_DEVICES.iter().find(|(start, ..)| path.starts_with(start));
        let (weight, gain) = match (node.typ(), row) {
            (LinuxDeviceType::B, _) => (80, "reads and writes a disk of the host, below its file system"),
            (_, Some((_, weight, gain))) => (*weight, *gain),
            _ => continue,
        };
        // the node alone: who is not its owner cannot open it
        let weight = if facts.root { weight } else { weight / 4 };
        let change = "remove it, or give a narrower device";
        found.add(at.index(n).key("path"), weight.max(1), path, gain, change);
    }
    rules(facts, found);
}

/// SPEC: config-linux.md#allowed-device-list: the rules in their order, each for those that it matches.
fn rules(facts: &ConfigFacts<'_>, found: &mut Findings) {
    let resources = facts.linux.and_then(|linux| linux.resources().as_ref());
    let rules = resources.and_then(|resources| resources.devices().as_deref()).unwrap_or_default();
    let at = At::new("linux.resources.devices");
    let Some(n) = rules.iter().rposition(is_for_all) else {
        if facts.can(MKNOD) && !facts.mapped {
            let gain = "makes the node of a disk of the host, and opens it";
            let change = "begin with {\"allow\": false, \"access\": \"rwm\"}";
            found.add(at, 55, "no rule denies devices", gain, change);
        }
        return;
    };
    if rules[n].allow() {
        let weight = if facts.can(MKNOD) || facts.can(SYS_RAWIO) { 70 } else { 6 };
        let gain = "opens every device that it has or makes a node of, disks among them";
        found.add(at.index(n), facts.weighed(weight), "allows all devices", gain, "deny all, and allow single ones");
    }
    for (n, rule) in rules.iter().enumerate().skip(n + 1).filter(|(_, rule)| rule.allow()) {
        let block = rule.typ() == Some(LinuxDeviceType::B);
        let opens = rule.access().as_deref().is_none_or(|access| access.contains(['r', 'w']));
        if block && opens {
            let weight = if facts.can(MKNOD) || rule.major().is_none() { 60 } else { 30 };
            let gain = "reads and writes a disk of the host, below its file system";
            found.add(at.index(n), facts.weighed(weight), "allows a block device", gain, "remove the rule");
        }
    }
}

/// A rule for every device and every access.
fn is_for_all(rule: &LinuxDeviceCgroup) -> bool {
    let all_kinds = matches!(rule.typ(), None | Some(LinuxDeviceType::A));
    let all_access =
        rule.access().as_deref().is_none_or(|access| ["r", "w", "m"].iter().all(|one| access.contains(one)));
    let any = |number: Option<i64>| number.is_none_or(|number| number < 0);
    all_kinds && all_access && any(rule.major()) && any(rule.minor())
}
