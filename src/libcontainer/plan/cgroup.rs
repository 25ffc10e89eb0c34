//! The paths of the container's cgroups, and their limits. A limit that this host cannot apply is an error or a warning
//! (docs/spec.md, "Properties that cannot be applied").

use std::ffi::OsStr;
use std::path::Path;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxResources};

use super::annotations;
use super::finished::PlannedCgroup;
use super::given::{CgroupUse, Given, Rootless};
use super::notes::Notes;
use super::resources::{self, CgroupOwner, Delegated, DeviceAccess, OnForbidden, Placement, WithoutCgroup};
use crate::config::{At, Faults};
use crate::host::Cgroups;

const NOT_MOUNTED: &str = "no cgroup hierarchy is mounted at /sys/fs/cgroup";
const RUN_WITHOUT: &str = "to run without cgroups: CgroupUse::Disabled";
const DISABLED: &str = "not applied: the container has no cgroup (CgroupUse::Disabled)";

impl PlannedCgroup {
    /// True when the container may run without a cgroup of its own.
    pub(super) fn may_lack(&self) -> bool {
        self.placement.without_cgroup == WithoutCgroup::Runs
    }

    /// Adds the user who owns the cgroup.
    pub(super) fn handed_to(mut self, owner: Option<CgroupOwner>) -> PlannedCgroup {
        self.placement.owner = owner;
        self
    }
}

/// Reads `linux.cgroupsPath` and `linux.resources`.
pub(super) fn read(given: &Given<'_>, notes: &mut Notes) -> Option<PlannedCgroup> {
    let linux = given.linux();
    let path = linux.and_then(|linux| linux.cgroups_path().as_deref()).filter(|path| !path.as_os_str().is_empty());
    let resources = linux.and_then(|linux| linux.resources().as_ref());
    notes.warnings(resources.map_or(Vec::new(), resources::unused));
    if given.flags.cgroup == CgroupUse::Disabled {
        warn_disabled(path, resources, given, notes);
        return None;
    }
    let subgroup = annotations::subgroup(given, notes);
    let delegated = annotations::delegated(given, notes);
    let mut placement = placement(given, notes)?;
    if let Some(below) = subgroup {
        // The unit's directory is the nearest one of that name above the container's (UnitName::outermost).
        let unit = placement.unit.as_ref().map(|unit| OsStr::new(&unit.name));
        if below.iter().any(|part| Some(part) == unit) {
            notes.fault(&At::annotation(annotations::SUBGROUP), format!("{below:?} has the name of the unit"));
        }
        placement = placement.below_unit(&below);
    }
    placement.without_cgroup = without_cgroup(given, path, delegated.as_ref());
    placement.delegated = delegated;
    placement.on_forbidden_devices = on_forbidden(rules(resources), given);
    if placement.directories.is_empty() && placement.without_cgroup != WithoutCgroup::Runs {
        notes.fault(&At::new("linux.cgroupsPath"), format!("{NOT_MOUNTED} ({RUN_WITHOUT})"));
    }
    let writes = resources.map_or(Ok(Vec::new()), |requested| resources::writes(requested, &given.host.cgroups));
    let writes = notes.collect(writes);
    if placement.directories.is_empty() {
        for write in writes.iter().flatten() {
            notes.fault(&write.at, NOT_MOUNTED);
        }
    }
    let devices = devices(rules(resources), placement.on_forbidden_devices, given, notes);
    let (writes, devices) = (writes?, devices?);
    if let Some(unit) = &mut placement.unit {
        unit.properties = resources::unit_properties::properties(&writes);
        unit.properties.extend(resources::unit_properties::device_properties(&devices));
        let more = given.config.spec.annotations().as_ref().map(resources::annotations::properties);
        unit.properties.extend(more.and_then(|more| notes.collect(more)).into_iter().flatten());
    }
    Some(PlannedCgroup { placement, writes, devices })
}

fn placement(given: &Given<'_>, notes: &mut Notes) -> Option<Placement> {
    let path = given.linux().and_then(|linux| linux.cgroups_path().as_deref());
    let (id, cgroups) = (&given.flags.id, &given.host.cgroups);
    notes.collect(match given.flags.cgroup {
        CgroupUse::Unit(_) if cfg!(not(feature = "systemd")) => {
            Err(Faults::one(At::new("CgroupUse::Unit"), "this build has no systemd"))
        }
        CgroupUse::Unit(manager) => resources::unit_placement(path, id, manager, given.host.me.uid, cgroups),
        CgroupUse::Own | CgroupUse::Disabled => resources::placement(path, id, cgroups),
    })
}

/// The plan if the caller wants no cgroup. Checks the properties of config.json, and applies none of them.
fn warn_disabled(path: Option<&Path>, resources: Option<&LinuxResources>, given: &Given<'_>, notes: &mut Notes) {
    if path.is_some() {
        notes.warn(&At::new("linux.cgroupsPath"), DISABLED);
    }
    for name in [annotations::SUBGROUP, annotations::DELEGATE_CGROUP] {
        if given.annotation(name).is_some_and(|value| !value.is_empty()) {
            notes.warn(&At::annotation(name), DISABLED);
        }
    }
    let Some(resources) = resources else { return };
    for place in notes.collect(resources::places(resources, &given.host.cgroups)).unwrap_or_default() {
        notes.warn(&place, DISABLED);
    }
    let rules = rules(Some(resources));
    let access = notes.collect(resources::devices(rules, &given.host.cgroups));
    if !rules.is_empty() && access.is_some_and(|access| access != DeviceAccess::Unrestricted) {
        notes.warn(&At::new(resources::DEVICES), DISABLED);
    }
}

/// What happens when the runtime may not make a cgroup.
fn without_cgroup(given: &Given<'_>, path: Option<&Path>, delegated: Option<&Delegated>) -> WithoutCgroup {
    let requested = given.flags.cgroup != CgroupUse::Own || path.is_some() || delegated.is_some();
    match given.flags.rootless {
        Rootless::No => WithoutCgroup::Fails,
        Rootless::Auto if given.host.me.is_root() => WithoutCgroup::Fails,
        _ if requested => WithoutCgroup::FailsWithAdvice,
        Rootless::Auto | Rootless::Yes => WithoutCgroup::Runs,
    }
}

/// As with runc: only root of the initial user namespace can restrict devices. Other callers cannot make devices
/// (mknod(2), EPERM), so their containers have only the devices that the caller has. Every stock config denies all
/// devices and allows some, so this causes no warning. A rule that denies a device by its number causes one.
fn on_forbidden(rules: &[LinuxDeviceCgroup], given: &Given<'_>) -> OnForbidden {
    let denies_one = |rule: &LinuxDeviceCgroup| !rule.allow() && (rule.major().is_some() || rule.minor().is_some());
    if given.host.me.is_root() {
        OnForbidden::Fail
    } else if rules.iter().any(denies_one) {
        OnForbidden::Warn
    } else {
        OnForbidden::Ignore
    }
}

fn rules(resources: Option<&LinuxResources>) -> &[LinuxDeviceCgroup] {
    resources.and_then(|requested| requested.devices().as_deref()).unwrap_or_default()
}

/// Device access, if a cgroup can restrict it.
fn devices(
    rules: &[LinuxDeviceCgroup],
    on_forbidden: OnForbidden,
    given: &Given<'_>,
    notes: &mut Notes,
) -> Option<DeviceAccess> {
    let access = notes.collect(resources::devices(rules, &given.host.cgroups))?;
    let DeviceAccess::Missing(what) = access else { return Some(access) };
    match on_forbidden {
        // A fault about the whole cgroup already says this.
        OnForbidden::Fail if rules.is_empty() && given.host.cgroups == Cgroups::default() => {}
        OnForbidden::Fail => notes.fault(&At::new(resources::DEVICES), what),
        OnForbidden::Warn => notes.warn(&At::new(resources::DEVICES), resources::not_restricted(what)),
        OnForbidden::Ignore => {}
    }
    Some(DeviceAccess::Unrestricted)
}
