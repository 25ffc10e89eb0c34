//! Devices: nodes that the config makes, and the rules for those that a process makes.

use std::path::Path;

use oci_spec::runtime::{LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType};

use super::facts::ConfigFacts;
use super::finding::Findings;
use super::tables::{CHARACTERS, CharacterDevice, DISKS};
use crate::config::At;

const MKNOD: u8 = 27;
const SYS_RAWIO: u8 = 17;
const DISK: u8 = 80;
const DISK_GAIN: &str = "reads and writes a disk of the host, below its file system";
/// Engines allow lesser devices to every container.
const OF_NOTE: u8 = 8;
/// With that many nodes, the whole /dev of the host is given.
const ALL_OF_THEM: usize = 40;

pub(super) fn find(facts: &ConfigFacts<'_>, found: &mut Findings) {
    let Some(linux) = facts.linux else { return };
    let at = At::new("linux.devices");
    let nodes = linux.devices().as_deref().unwrap_or_default();
    for (n, node) in nodes.iter().enumerate().take(ALL_OF_THEM) {
        let (weight, gain) = match (node.typ(), special(node)) {
            (LinuxDeviceType::B, _) => (DISK, DISK_GAIN),
            (LinuxDeviceType::C | LinuxDeviceType::U, Some(row)) => (weight_of(facts, row), row.gain),
            _ => continue,
        };
        // who is not the owner of the node cannot open it
        let weight = if facts.root { weight } else { weight / 4 };
        let change = "remove it, or give a narrower device";
        found.add(at.index(n).key("path"), weight.max(1), node.path().to_string_lossy(), gain, change);
    }
    rules(facts, found);
}

/// The row of a node: its number counts, and for those with a number that the kernel chooses, its name.
fn special(node: &LinuxDevice) -> Option<&'static CharacterDevice> {
    let number =
        |row: &&CharacterDevice| row.major == node.major() && row.minor.is_none_or(|minor| minor == node.minor());
    CHARACTERS.iter().find(number).or_else(|| CHARACTERS.iter().find(|row| row.major < 0 && is_named(node.path(), row)))
}

/// The node of the row, one with a number after it, or one in its directory.
fn is_named(path: &Path, row: &CharacterDevice) -> bool {
    let rest = path.to_str().and_then(|path| path.strip_prefix(row.path));
    rest.is_some_and(|rest| rest.starts_with('/') || rest.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The weight of a device. It is a third if the kernel requires a capability that the container does not have.
fn weight_of(facts: &ConfigFacts<'_>, row: &CharacterDevice) -> u8 {
    if row.raw && !facts.can(SYS_RAWIO) { row.weight / 3 } else { row.weight }
}

/// A node of the host that is bound into the container. False for another one, or an unknown file.
pub(super) fn bound(facts: &ConfigFacts<'_>, path: &Path, at: &At, found: &mut Findings) -> bool {
    let is_disk = path.to_str().is_some_and(|path| DISKS.iter().any(|disk| path.starts_with(disk)));
    let row = CHARACTERS.iter().find(|row| is_named(path, row));
    let (kind, weight, gain) = match row {
        Some(row) => (LinuxDeviceType::C, weight_of(facts, row), row.gain),
        None if is_disk => (LinuxDeviceType::B, DISK, DISK_GAIN),
        None => return false,
    };
    let opens = may_open(facts, kind, row);
    let weight = if opens { weight } else { weight / 3 };
    let weight = facts.weighed(if facts.root { weight } else { weight / 4 });
    let what = format!("{} of the host is mounted", path.display());
    let gain = if opens { gain.to_owned() } else { format!("{gain}, if a device rule allows it") };
    found.add(at.clone(), weight.max(1), what, gain, "remove it, or give a narrower device");
    true
}

fn all_rules<'a>(facts: &ConfigFacts<'a>) -> &'a [LinuxDeviceCgroup] {
    let resources = facts.linux.and_then(|linux| linux.resources().as_ref());
    resources.and_then(|resources| resources.devices().as_deref()).unwrap_or_default()
}

/// True if the rules allow to open such a device. Without a row, its number is not known, and every rule covers it.
fn may_open(facts: &ConfigFacts<'_>, kind: LinuxDeviceType, row: Option<&CharacterDevice>) -> bool {
    let rules = all_rules(facts);
    let last = rules.iter().rposition(is_for_all);
    let by_default = last.is_none_or(|n| rules[n].allow());
    by_default
        || rules.iter().skip(last.map_or(0, |n| n + 1)).any(|rule| {
            let covers = row.is_none_or(|row| covers(rule, row));
            rule.allow() && opens(rule) && is_for(rule, kind) && covers
        })
}

fn opens(rule: &LinuxDeviceCgroup) -> bool {
    rule.access().as_deref().is_none_or(|access| access.contains(['r', 'w']))
}

fn is_for(rule: &LinuxDeviceCgroup, kind: LinuxDeviceType) -> bool {
    matches!(rule.typ(), None | Some(LinuxDeviceType::A)) || rule.typ() == Some(kind)
}

fn covers(rule: &LinuxDeviceCgroup, row: &CharacterDevice) -> bool {
    let same = |rule: Option<i64>, row: i64| rule.is_none_or(|rule| rule < 0 || row < 0 || rule == row);
    same(rule.major(), row.major) && row.minor.is_none_or(|minor| same(rule.minor(), minor))
}

/// SPEC: config-linux.md#allowed-device-list: the rules in their order, each for those that it matches.
fn rules(facts: &ConfigFacts<'_>, found: &mut Findings) {
    let rules = all_rules(facts);
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
    for (n, rule) in rules.iter().enumerate().skip(n + 1).filter(|(_, rule)| rule.allow() && opens(rule)) {
        // without the right to make a node, one must be there already
        let reached = |weight: u8| if facts.can(MKNOD) { weight } else { weight / 2 };
        if is_for(rule, LinuxDeviceType::B) {
            let weight = if rule.major().is_none_or(|major| major < 0) { 60 } else { reached(60) };
            found.add(at.index(n), facts.weighed(weight), "allows a block device", DISK_GAIN, "remove the rule");
            continue;
        }
        let rows = CHARACTERS.iter().filter(|row| row.weight >= OF_NOTE && row.major >= 0 && covers(rule, row));
        if let Some(row) =
            rows.rev().filter(|_| is_for(rule, LinuxDeviceType::C)).max_by_key(|row| weight_of(facts, row))
        {
            let what = format!("allows {}", row.path);
            found.add(at.index(n), facts.weighed(reached(weight_of(facts, row))), what, row.gain, "remove the rule");
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
