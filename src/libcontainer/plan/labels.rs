//! Security labels: `apparmorProfile`, `selinuxLabel`, `mountLabel`. If this host cannot apply a label that confines a
//! process, that is an error (docs/decisions/015). A label of mounts confines no process: it is ignored with a warning.

use std::ffi::{CStr, CString};

use super::annotations::MOUNT_CONTEXT_TYPE;
use super::given::{Given, Keyring, PlannedProcess};
use super::notes::Notes;
use super::step::What;
use super::steps::Steps;
use super::values::c_string;
use crate::config::{At, Config};
use crate::host::Host;

const SELINUX_OFF: &str = "cannot be applied: SELinux is not supported or not enabled on this host";

/// The labels of a process. Each has a file below /proc/self, a value and a property.
#[derive(Debug, Default)]
pub(super) struct ProcessLabels {
    /// These take effect at the exec.
    exec: Vec<Label>,
    /// The label of keys that are made from now on, until the exec (proc_pid_attr(5)).
    keyring: Option<Label>,
}

#[derive(Debug)]
struct Label {
    file: CString,
    value: CString,
    at: At,
}

/// Reads `apparmorProfile` and `selinuxLabel`.
pub(super) fn of_process(planned: PlannedProcess<'_>, given: &Given<'_>, notes: &mut Notes) -> ProcessLabels {
    let mut labels = ProcessLabels::default();
    let Some(process) = planned.process else { return labels };
    let (host, keyring) = (given.host, &given.flags.keyring);
    if let Some(profile) = process.apparmor_profile().as_ref().filter(|profile| !profile.is_empty()) {
        // Without AppArmor, a process is unconfined anyway.
        if profile != "unconfined" || host.lsm.apparmor {
            labels.exec.extend(apparmor(profile, planned.at.key("apparmorProfile"), host, notes));
        }
    }
    if let Some(label) = process.selinux_label().as_ref().filter(|label| !label.is_empty()) {
        let at = planned.at.key("selinuxLabel");
        if !host.lsm.selinux {
            notes.fault(&at, SELINUX_OFF);
        } else if let Some(value) = c_string(label, &at, notes) {
            let label = |file: &CStr| Label { file: file.to_owned(), value: value.clone(), at: at.clone() };
            labels.keyring = (*keyring != Keyring::Inherited).then(|| label(c"attr/keycreate"));
            labels.exec.push(label(c"attr/exec"));
        }
    }
    labels
}

fn apparmor(profile: &str, at: At, host: &Host, notes: &mut Notes) -> Option<Label> {
    if !host.lsm.apparmor {
        notes.fault(&at, "cannot be applied: AppArmor is not supported or not enabled on this host");
        return None;
    }
    // KERNEL(5.8): attr/apparmor belongs to AppArmor alone. attr/exec may belong to another LSM.
    let file = if host.lsm.own_apparmor_files { c"attr/apparmor/exec" } else { c"attr/exec" };
    let value = c_string(&format!("exec {profile}"), &at, notes)?;
    Some(Label { file: file.to_owned(), value, at })
}

impl ProcessLabels {
    /// Init writes these now. They take effect at the exec.
    pub(super) fn at_exec(&self, steps: &mut Steps) {
        self.exec.iter().for_each(|label| label.step(steps));
    }

    /// The label of the session keyring.
    pub(super) fn of_keyring(&self, steps: &mut Steps) {
        self.keyring.iter().for_each(|label| label.step(steps));
    }
}

impl Label {
    fn step(&self, steps: &mut Steps) {
        steps.add(&self.at, What::Label { file: self.file.clone(), value: self.value.clone() });
    }
}

/// `linux.mountLabel`, if SELinux is on.
#[derive(Debug)]
pub(super) struct MountLabel {
    label: Option<CString>,
    /// The option that sets it.
    option: &'static CStr,
}

/// The options for a label (mount(8)).
const CONTEXTS: [(&str, &CStr); 4] = [
    ("context", c"context"),
    ("fscontext", c"fscontext"),
    ("defcontext", c"defcontext"),
    ("rootcontext", c"rootcontext"),
];

/// File systems that the kernel labels itself. They do not accept `context=`.
const OWN_LABELS: [&str; 5] = ["proc", "sysfs", "mqueue", "cgroup", "cgroup2"];

/// The label of new mounts in a container that runs with `config`, whose mistakes were reported when it was made.
pub(super) fn of_running(config: &Config) -> MountLabel {
    let label = config.spec.linux().as_ref().and_then(|linux| linux.mount_label().as_deref());
    let label = label.filter(|label| !label.is_empty()).and_then(|label| CString::new(label).ok());
    let asked = config.spec.annotations().as_ref().and_then(|all| all.get(MOUNT_CONTEXT_TYPE));
    let known = asked.and_then(|asked| CONTEXTS.iter().find(|(name, _)| name == asked));
    MountLabel { label, option: known.map_or(c"context", |(_, option)| option) }
}

/// Reads `linux.mountLabel`.
pub(super) fn of_mounts(given: &Given<'_>, notes: &mut Notes) -> MountLabel {
    let at = At::new("linux.mountLabel");
    let label = given.linux().and_then(|linux| linux.mount_label().as_deref()).filter(|label| !label.is_empty());
    if label.is_some() && !given.host.lsm.selinux {
        notes.warn(&at, SELINUX_OFF);
    }
    let label = label.filter(|_| given.host.lsm.selinux).and_then(|label| c_string(label, &at, notes));
    let requested = given.annotation(MOUNT_CONTEXT_TYPE).unwrap_or("context");
    let known = CONTEXTS.iter().find(|(name, _)| *name == requested);
    if known.is_none() {
        let names = CONTEXTS.map(|(name, _)| name).join(", ");
        notes.fault(
            &At::annotation(MOUNT_CONTEXT_TYPE),
            format!("unknown option {requested:?} (expected one of {names})"),
        );
    }
    MountLabel { label, option: known.map_or(c"context", |(_, option)| option) }
}

impl MountLabel {
    /// The option for a new mount of type `fstype`, with its value, unless `options` have one already.
    pub(super) fn context(
        &self,
        fstype: &str,
        options: &[(String, Option<String>)],
    ) -> Option<(CString, Option<CString>)> {
        let said = options.iter().any(|(key, _)| CONTEXTS.iter().any(|(name, _)| name == key));
        let label = self.label.as_ref().filter(|_| !said && !OWN_LABELS.contains(&fstype));
        label.map(|label| (self.option.to_owned(), Some(label.clone())))
    }

    /// The label for the root of a file system without `context=` whose files can be labelled one by one: a message
    /// queue file system.
    pub(super) fn of_root(&self, fstype: &str) -> Option<CString> {
        self.label.clone().filter(|_| fstype == "mqueue")
    }

    /// The label of the directory that is mounted over masked directories.
    pub(super) fn of_empty(&self) -> Option<CString> {
        self.label.clone()
    }
}
