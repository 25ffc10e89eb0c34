//! Where the container's cgroups are and what they limit. What cannot be limited here is refused, or warned about
//! (docs/spec.md, "What is asked and cannot be applied").

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxResources};

use super::draft::Draft;
use super::resources::{self, DeviceAccess, OnForbidden, Placement, Refused};
use super::{Asked, CgroupUse, Rootless};
use crate::config::At;
use crate::host::Cgroups;

const NOT_MOUNTED: &str = "no cgroup hierarchy is mounted at /sys/fs/cgroup";
const DOES_WITHOUT: &str = "--cgroup-manager=disabled does without";
const DISABLED: &str = "not applied: the container has no cgroup (--cgroup-manager=disabled)";

pub(super) fn all(ask: &Asked<'_>, plan: &mut Draft) {
    let linux = ask.config.spec.linux().as_ref();
    let path = linux.and_then(|linux| linux.cgroups_path().as_deref()).filter(|path| !path.as_os_str().is_empty());
    let resources = linux.and_then(|linux| linux.resources().as_ref());
    plan.warnings(resources.map_or(Vec::new(), resources::unused));
    if ask.flags.cgroup == CgroupUse::Disabled {
        without(path.is_some(), resources, ask, plan);
        return;
    }
    let Some(mut placement) = place(ask, plan) else { return };
    placement.refused = refused(ask, path.is_some());
    placement.devices = on_forbidden(rules(resources), ask);
    if placement.places.is_empty() && placement.refused != Refused::None {
        plan.fault(&At::new("linux.cgroupsPath"), format!("{NOT_MOUNTED} ({DOES_WITHOUT})"));
    }
    let writes = resources.map_or(Ok(Vec::new()), |asked| resources::writes(asked, &ask.host.cgroups));
    let writes = plan.keep(writes);
    if placement.places.is_empty() {
        for write in writes.iter().flatten() {
            plan.fault(&write.at, NOT_MOUNTED);
        }
    }
    let access = devices(rules(resources), placement.devices, ask, plan);
    if let (Some(writes), Some(access)) = (writes, access) {
        if let Some(unit) = &mut placement.unit {
            unit.properties = resources::unit::properties(&writes);
            unit.properties.extend(resources::unit::device_properties(&access));
            let annotations = ask.config.spec.annotations().clone().unwrap_or_default();
            let more = resources::annotations::properties(&annotations);
            unit.properties.extend(plan.keep(more).unwrap_or_default());
        }
        plan.plan().cgroup = Some((placement, writes, access));
    }
}

fn place(ask: &Asked<'_>, plan: &mut Draft) -> Option<Placement> {
    let path = ask.config.spec.linux().as_ref().and_then(|linux| linux.cgroups_path().as_deref());
    let (id, cgroups) = (&ask.flags.id, &ask.host.cgroups);
    plan.keep(match ask.flags.cgroup {
        CgroupUse::Unit(manager) => resources::place_unit(path, id, manager, ask.host.me.uid, cgroups),
        CgroupUse::Own | CgroupUse::Disabled => resources::place(path, id, cgroups),
    })
}

/// The caller wants no cgroup. What config.json wants of one is still looked at, and none of it is applied.
fn without(path_is_asked: bool, resources: Option<&LinuxResources>, ask: &Asked<'_>, plan: &mut Draft) {
    if path_is_asked {
        plan.warn(&At::new("linux.cgroupsPath"), DISABLED);
    }
    let Some(resources) = resources else { return };
    for place in plan.keep(resources::places(resources, &ask.host.cgroups)).unwrap_or_default() {
        plan.warn(&place, DISABLED);
    }
    let rules = rules(Some(resources));
    let access = plan.keep(resources::devices(rules, &ask.host.cgroups));
    if !rules.is_empty() && access.is_some_and(|access| access != DeviceAccess::Unrestricted) {
        plan.warn(&At::new(resources::DEVICES), DISABLED);
    }
}

/// What it means that we may not make a cgroup.
fn refused(ask: &Asked<'_>, path_is_asked: bool) -> Refused {
    match ask.flags.rootless {
        Rootless::No => Refused::Fails,
        Rootless::Auto if ask.host.me.is_root() => Refused::Fails,
        _ if ask.flags.cgroup != CgroupUse::Own || path_is_asked => Refused::Told,
        Rootless::Auto | Rootless::Yes => Refused::None,
    }
}

/// As runc: only root of the initial user namespace can restrict devices, and elsewhere the kernel gives nobody a device
/// that the caller did not have (mknod(2), EPERM). Every stock config denies all devices and allows some: that is no news to
/// such a caller. A rule that denies a device by its number is.
fn on_forbidden(rules: &[LinuxDeviceCgroup], ask: &Asked<'_>) -> OnForbidden {
    let denies_one = |rule: &LinuxDeviceCgroup| !rule.allow() && (rule.major().is_some() || rule.minor().is_some());
    if ask.host.me.is_root() {
        OnForbidden::Fail
    } else if rules.iter().any(denies_one) {
        OnForbidden::Warn
    } else {
        OnForbidden::Ignore
    }
}

fn rules(resources: Option<&LinuxResources>) -> &[LinuxDeviceCgroup] {
    resources.and_then(|asked| asked.devices().as_deref()).unwrap_or_default()
}

/// Device access, where there is a cgroup that can restrict it.
fn devices(
    rules: &[LinuxDeviceCgroup],
    on_forbidden: OnForbidden,
    ask: &Asked<'_>,
    plan: &mut Draft,
) -> Option<DeviceAccess> {
    let access = plan.keep(resources::devices(rules, &ask.host.cgroups))?;
    let DeviceAccess::Missing(what) = access else { return Some(access) };
    match on_forbidden {
        // said of the container's cgroup as a whole
        OnForbidden::Fail if rules.is_empty() && ask.host.cgroups == Cgroups::default() => {}
        OnForbidden::Fail => plan.fault(&At::new(resources::DEVICES), what),
        OnForbidden::Warn => plan.warn(&At::new(resources::DEVICES), resources::not_restricted(what)),
        OnForbidden::Ignore => {}
    }
    Some(DeviceAccess::Unrestricted)
}
