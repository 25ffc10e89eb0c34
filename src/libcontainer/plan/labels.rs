//! Security labels: `apparmorProfile`, `selinuxLabel`, `mountLabel`. A host that cannot apply what confines a process
//! refuses the container (docs/decisions/015). A label of mounts confines nobody by itself, and is left out with a warning.

use std::ffi::CString;

use super::draft::Draft;
use super::process::{Own, c_string};
use super::step::What;
use super::{Asked, Keyring, SELINUX_OFF};
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
            plan.at(&at, What::Label(CString::from(c"attr/exec"), value));
        }
    }
}

fn apparmor(profile: &str, at: &At, host: &Host, plan: &mut Draft) {
    if !host.lsm.apparmor {
        plan.fault(at, "cannot be applied: AppArmor is not supported or not enabled on this host");
        return;
    }
    // KERNEL(5.8): attr/apparmor, which another LSM cannot take
    let file = if host.lsm.own_apparmor_files { c"attr/apparmor/exec" } else { c"attr/exec" };
    if let Some(value) = c_string(&format!("exec {profile}"), at, plan) {
        plan.at(at, What::Label(CString::from(file), value));
    }
}

/// The label of keys that are made from here on, as long as this program runs (proc_pid_attr(5)).
pub(super) fn of_keyring(own: &Own<'_>, ask: &Asked<'_>, plan: &mut Draft) {
    let label = own.process.and_then(|process| process.selinux_label().as_ref()).filter(|label| !label.is_empty());
    if let Some(label) = label
        && ask.host.lsm.selinux
        && ask.flags.keyring != Keyring::Inherited
    {
        let at = own.at.key("selinuxLabel");
        if let Ok(value) = CString::new(label.as_str()) {
            plan.at(&at, What::Label(CString::from(c"attr/keycreate"), value));
        }
    }
}

/// File systems that the kernel labels by itself, and takes no `context=` for.
const OWN_LABELS: [&str; 5] = ["proc", "sysfs", "mqueue", "cgroup", "cgroup2"];

/// `linux.mountLabel` as the option `context=` of a new mount of this type, which has these options already.
pub(super) fn of_mount<'a>(ask: &Asked<'a>, fstype: &str, options: &[(String, Option<String>)]) -> Option<&'a str> {
    let said = options.iter().any(|(key, _)| key == "context");
    asked_for_mounts(ask).filter(|_| ask.host.lsm.selinux && !said && !OWN_LABELS.contains(&fstype))
}

/// The same for the root of a file system whose files are labelled one by one: a message queue is what programs make.
pub(super) fn of_root(ask: &Asked<'_>, fstype: &str, plan: &mut Draft) -> Option<CString> {
    let label = asked_for_mounts(ask).filter(|_| ask.host.lsm.selinux && fstype == "mqueue")?;
    c_string(label, &At::new("linux.mountLabel"), plan)
}

/// The same for the directory that covers masked ones.
pub(super) fn of_empty(ask: &Asked<'_>, plan: &mut Draft) -> Option<CString> {
    let label = of_mount(ask, "tmpfs", &[])?;
    c_string(label, &At::new("linux.mountLabel"), plan)
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
