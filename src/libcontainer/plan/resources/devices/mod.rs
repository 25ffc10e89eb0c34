//! Device access. The rules become a list for version 1. For version 2 the list becomes a program with the same
//! meaning. SPEC: config-linux.md#allowed-device-list.

mod list;
mod program;
mod rule;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

pub use list::DeviceList;
pub use rule::DEVICES;
use rule::{Access, DeviceRule};

use crate::config::{At, Faults};
use crate::host::cgroups::{Cgroups, Layout};

/// How the container's access to devices is restricted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceAccess {
    /// The list, for devices.allow and devices.deny.
    List(DeviceList),
    /// Instructions of a BPF_PROG_TYPE_CGROUP_DEVICE program, eight bytes each.
    Program(Vec<u8>),
    /// Everything is allowed.
    Unrestricted,
    /// The rules restrict access, but this host cannot. The text says what is missing.
    Missing(&'static str),
}

/// The warning for device rules that cannot be applied, if that does no harm.
pub fn not_restricted(why: &str) -> String {
    format!("not applied, access to devices stays that of the caller: {why}")
}

/// The devices of every container, after the user's rules: nodes of any kind may be made; the default devices,
/// terminals and tun may be used. Type, major, minor, access; None means all.
const DEFAULT: [(LinuxDeviceType, Option<u32>, Option<u32>, Access); 11] = [
    (LinuxDeviceType::C, None, None, Access::MKNOD),
    (LinuxDeviceType::B, None, None, Access::MKNOD),
    (LinuxDeviceType::C, Some(1), Some(3), Access::ALL),
    (LinuxDeviceType::C, Some(1), Some(8), Access::ALL),
    (LinuxDeviceType::C, Some(1), Some(7), Access::ALL),
    (LinuxDeviceType::C, Some(5), Some(0), Access::ALL),
    (LinuxDeviceType::C, Some(1), Some(5), Access::ALL),
    (LinuxDeviceType::C, Some(1), Some(9), Access::ALL),
    (LinuxDeviceType::C, Some(136), None, Access::ALL),
    (LinuxDeviceType::C, Some(5), Some(2), Access::ALL),
    (LinuxDeviceType::C, Some(10), Some(200), Access::ALL),
];

impl DeviceAccess {
    /// The lines for `explain`.
    pub fn acts(&self) -> Vec<String> {
        match self {
            // As on a host without restrictions.
            DeviceAccess::List(list) => {
                list.writes("a *:* rwm").iter().map(|w| format!("write {} = {}", w.file, w.value)).collect()
            }
            DeviceAccess::Program(bytes) => vec![format!("device program of {} instructions", bytes.len() / 8)],
            DeviceAccess::Unrestricted | DeviceAccess::Missing(_) => Vec::new(),
        }
    }
}

/// The rules of `linux.resources.devices`, followed by the defaults.
///
/// # Errors
/// Invalid rules, and on version 2 rules that a list cannot express.
pub fn devices(rules: &[LinuxDeviceCgroup], cgroups: &Cgroups) -> Result<DeviceAccess, Faults> {
    let at = At::new(DEVICES);
    let mut faults = Faults::none();
    let mut list = Vec::with_capacity(rules.len() + DEFAULT.len());
    for (n, rule) in rules.iter().enumerate() {
        let at = at.index(n);
        list.extend(faults.collect(understand(rule, &at)).map(|rule| (rule, at)));
    }
    let default = DEFAULT
        .into_iter()
        .map(|(kind, major, minor, access)| (DeviceRule { allow: true, kind, major, minor, access }, at.clone()));
    list.extend(default);
    let Some(list) = faults.collect(DeviceList::from_rules(&list)) else { return Err(faults) };
    let mounted = cgroups.v1.iter().any(|hierarchy| hierarchy.has("devices"));
    let access = match cgroups.layout() {
        Layout::Legacy | Layout::Hybrid if mounted => DeviceAccess::List(list),
        _ if list.allows_everything() => DeviceAccess::Unrestricted,
        Layout::Unified if cgroups.v2.is_some() => DeviceAccess::Program(program::from_list(&list)),
        Layout::Unified => DeviceAccess::Missing("no cgroup hierarchy is mounted at /sys/fs/cgroup"),
        Layout::Legacy | Layout::Hybrid => {
            DeviceAccess::Missing("the cgroup controller devices is not mounted on this host")
        }
    };
    faults.into_result(access)
}

fn understand(rule: &LinuxDeviceCgroup, at: &At) -> Result<DeviceRule, Faults> {
    let mut faults = Faults::none();
    let mut number = |name: &str, value: Option<i64>| {
        // -1 means all, as in runc's own configs.
        let value = value.filter(|value| *value != -1)?;
        u32::try_from(value).map_err(|_| faults.add(at.key(name), format!("{value} is not a device number"))).ok()
    };
    let (major, minor) = (number("major", rule.major()), number("minor", rule.minor()));
    let kind = rule.typ().unwrap_or(LinuxDeviceType::A);
    let kind = if kind == LinuxDeviceType::U { LinuxDeviceType::C } else { kind };
    if kind == LinuxDeviceType::P {
        faults.add(at.key("type"), "unknown value \"p\" (expected one of a, b, c)");
    }
    let text = rule.access().as_deref().unwrap_or("rwm");
    let access = Access::parse(text).filter(|access| access.0 != 0);
    // A rule for every device is runc's switch, and needs no access.
    if rule.allow() && kind != LinuxDeviceType::A && rule.access().is_none() {
        faults.add(at.key("access"), "is missing: a rule that allows devices must list r, w or m");
    } else if access.is_none() {
        faults.add(at.key("access"), format!("{text:?} is not made of r, w and m"));
    }
    faults.into_result(DeviceRule { allow: rule.allow(), kind, major, minor, access: access.unwrap_or(Access::ALL) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::cgroups::Unified;

    fn refused(json: &str) -> String {
        let rules: Vec<LinuxDeviceCgroup> = serde_json::from_str(json).unwrap();
        let unified = Cgroups { v1: vec![], v2: Some(Unified::default()) };
        devices(&rules, &unified).unwrap_err().to_string()
    }

    #[test]
    fn a_hole_in_a_wildcard_is_refused_by_its_place() {
        let faults = refused(
            r#"[{"allow":true,"type":"c","major":1,"access":"rwm"},{"allow":false,"type":"c","major":1,"minor":3}]"#,
        );
        assert!(faults.contains("linux.resources.devices[1]: denies a part of an earlier wildcard"), "{faults}");
    }

    #[test]
    fn an_invalid_rule_is_reported() {
        let faults = refused(r#"[{"allow":true,"access":"x"}]"#);
        assert!(faults.contains("linux.resources.devices[0].access: \"x\""), "{faults}");
        let faults = refused(r#"[{"allow":true,"type":"c","major":10,"minor":200}]"#);
        assert!(faults.contains("linux.resources.devices[0].access: is missing"), "{faults}");
    }

    #[test]
    fn rules_that_nothing_can_apply_are_not_forgotten() {
        let none: Vec<LinuxDeviceCgroup> = serde_json::from_str(r#"[{"allow":false}]"#).unwrap();
        let memory = crate::host::cgroups::Hierarchy { controllers: vec!["memory".into()], ..Default::default() };
        for cgroups in [Cgroups::default(), Cgroups { v1: vec![memory], v2: Some(Unified::default()) }] {
            let access = devices(&none, &cgroups).unwrap();
            assert!(matches!(access, DeviceAccess::Missing(_)), "{access:?}");
            let all: Vec<LinuxDeviceCgroup> = serde_json::from_str(r#"[{"allow":true}]"#).unwrap();
            assert_eq!(devices(&all, &cgroups).unwrap(), DeviceAccess::Unrestricted);
        }
    }

    #[test]
    fn everything_needs_no_program() {
        let all: Vec<LinuxDeviceCgroup> = serde_json::from_str(r#"[{"allow":true}]"#).unwrap();
        let unified = Cgroups { v1: vec![], v2: Some(Unified::default()) };
        assert_eq!(devices(&all, &unified).unwrap(), DeviceAccess::Unrestricted);
    }
}
