//! Security labels: `apparmorProfile`, `selinuxLabel`, `mountLabel`. A host that cannot apply a process's SELinux label
//! refuses the container. The two that the OCI's validation suite sets on every host are left out with a warning there.

use std::ffi::CString;

use super::draft::Draft;
use super::process::{Own, c_string};
use super::step::What;
use super::{Asked, SELINUX_OFF};
use crate::config::At;
use crate::host::Host;

/// AppArmor profile and SELinux label: written now, they take effect at the exec.
pub(super) fn of_process(own: &Own<'_>, ask: &Asked<'_>, plan: &mut Draft) {
    let Some(process) = own.process else { return };
    if let Some(profile) = process.apparmor_profile().as_ref().filter(|profile| !profile.is_empty()) {
        let at = own.at.key("apparmorProfile");
        // a process is unconfined unless somebody has confined us
        if profile != "unconfined" || ask.host.lsm.apparmor {
            apparmor(profile, &at, ask.host, plan);
        }
    }
    if let Some(label) = process.selinux_label().as_ref().filter(|label| !label.is_empty()) {
        let at = own.at.key("selinuxLabel");
        if !ask.host.lsm.selinux {
            plan.fault(&at, SELINUX_OFF);
        } else if let Some(value) = c_string(label, &at, plan) {
            plan.at(&at, What::Label(CString::from(c"/proc/self/attr/exec"), value));
        }
    }
}

fn apparmor(profile: &str, at: &At, host: &Host, plan: &mut Draft) {
    if !host.lsm.apparmor {
        plan.warn(at, "cannot be applied: AppArmor is not supported or not enabled on this host");
        return;
    }
    // KERNEL(5.8): attr/apparmor, which another LSM cannot take
    let file = if host.lsm.own_apparmor_files { c"/proc/self/attr/apparmor/exec" } else { c"/proc/self/attr/exec" };
    if let Some(value) = c_string(&format!("exec {profile}"), at, plan) {
        plan.at(at, What::Label(CString::from(file), value));
    }
}

/// `linux.mountLabel` as an option of a new mount of this type: `context=`. What the kernel labels by itself has none.
pub(super) fn of_mount(ask: &Asked<'_>, fstype: &str) -> Option<(String, Option<String>)> {
    const OWN_LABELS: [&str; 5] = ["proc", "sysfs", "mqueue", "cgroup", "cgroup2"];
    let label = asked_for_mounts(ask).filter(|_| ask.host.lsm.selinux && !OWN_LABELS.contains(&fstype))?;
    Some(("context".to_owned(), Some(label.to_owned())))
}

/// A label for mounts on a host that has none.
pub(super) fn check(ask: &Asked<'_>, plan: &mut Draft) {
    if asked_for_mounts(ask).is_some() && !ask.host.lsm.selinux {
        plan.warn(&At::new("linux.mountLabel"), SELINUX_OFF);
    }
}

fn asked_for_mounts<'a>(ask: &Asked<'a>) -> Option<&'a str> {
    let linux = ask.config.spec.linux().as_ref()?;
    linux.mount_label().as_deref().filter(|label| !label.is_empty())
}
