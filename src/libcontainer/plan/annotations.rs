//! crun's annotations, each with the rule for a value that cannot be read. docs/annotations.md says who may use each of them.

use std::path::{Component, Path, PathBuf};

use super::given::{CgroupUse, Given, Switch};
use super::notes::Notes;
use super::resources::{CgroupOwner, Delegated};
use super::values::inside;
use crate::config::At;
use crate::host::cgroups::Layout;

pub use super::given::KEEP_GROUPS;

/// A socket that receives a pidfd of the container's first process.
pub const PIDFD_RECEIVER: &str = "run.oci.pidfd_receiver";
/// The file for the standard output of hooks.
pub const HOOKS_STDOUT: &str = "run.oci.hooks.stdout";
/// The file for the standard error of hooks.
pub const HOOKS_STDERR: &str = "run.oci.hooks.stderr";
/// An unknown system call in the profile is an error.
pub const FAIL_UNKNOWN_SYSCALL: &str = "run.oci.seccomp_fail_unknown_syscall";
/// The socket of the seccomp agent.
pub const SECCOMP_RECEIVER: &str = "run.oci.seccomp.receiver";
/// The filter itself, in base64.
pub const BPF_DATA: &str = "run.oci.seccomp_bpf_data";
/// The option for the SELinux label of mounts.
pub const MOUNT_CONTEXT_TYPE: &str = "run.oci.mount_context_type";
/// The offsets of the clocks in the new time namespace.
pub const TIME_OFFSET: &str = "run.oci.timens_offset";
/// A cgroup below the one of the unit.
pub const SUBGROUP: &str = "run.oci.systemd.subgroup";
/// A cgroup below that, which the container manages.
pub const DELEGATE_CGROUP: &str = "run.oci.delegate-cgroup";

/// Reads an annotation that is on or off. Another value is a fault.
pub(super) fn switch(given: &Given<'_>, name: &str, notes: &mut Notes) -> Switch {
    given.switch(name).unwrap_or_else(|other| {
        notes.fault(&At::annotation(name), format!("{other:?} is not 1, true, 0 or false"));
        Switch::Off
    })
}

/// Reads an annotation whose value is a path of the host.
fn host_path(given: &Given<'_>, name: &str, notes: &mut Notes) -> Option<(At, PathBuf)> {
    let (at, path) = (At::annotation(name), given.annotation(name)?);
    if !Path::new(path).is_absolute() || path.contains('\0') {
        notes.fault(&at, format!("{path:?} is not an absolute path"));
        return None;
    }
    Some((at, path.into()))
}

/// The socket that receives a pidfd of the container's first process.
pub(super) fn pidfd_receiver(given: &Given<'_>, notes: &mut Notes) -> Option<(At, PathBuf)> {
    host_path(given, PIDFD_RECEIVER, notes)
}

/// The files for the output of the hooks that the runtime runs. They are opened when a hook runs.
pub(super) fn hook_files(given: &Given<'_>, notes: &mut Notes) -> Vec<(At, PathBuf)> {
    [HOOKS_STDOUT, HOOKS_STDERR].into_iter().filter_map(|name| host_path(given, name, notes)).collect()
}

/// The path of a cgroup below another. A slash before it changes nothing, as with crun.
fn cgroup_path(given: &Given<'_>, name: &str, notes: &mut Notes) -> Option<PathBuf> {
    let (at, text) = (At::annotation(name), given.annotation(name).filter(|text| !text.is_empty())?);
    let path = inside(Path::new(text));
    let leaves = Path::new(text).components().any(|part| part == Component::ParentDir);
    if leaves || path.as_os_str().is_empty() || text.contains(['\0', '\n']) {
        notes.fault(&at, format!("{text:?} is not the path of a cgroup below another one"));
        return None;
    }
    Some(path)
}

/// The cgroup of the container below that of its unit.
pub(super) fn subgroup(given: &Given<'_>, notes: &mut Notes) -> Option<PathBuf> {
    let path = cgroup_path(given, SUBGROUP, notes)?;
    if matches!(given.flags.cgroup, CgroupUse::Unit(_)) {
        return Some(path);
    }
    notes.warn(&At::annotation(SUBGROUP), "not applied: the container is not a unit of systemd");
    None
}

/// The cgroup below the container's own that the container manages.
pub(super) fn delegated(given: &Given<'_>, notes: &mut Notes) -> Option<Delegated> {
    let (at, below) = (At::annotation(DELEGATE_CGROUP), cgroup_path(given, DELEGATE_CGROUP, notes)?);
    if given.host.cgroups.layout() != Layout::Unified {
        notes.fault(&at, "needs a host with cgroup version 2 only: on version 1 it is not safe to delegate a cgroup");
        return None;
    }
    let uid = given.config.spec.process().as_ref().map_or(0, |process| process.user().uid());
    Some(Delegated { below, owner: CgroupOwner { uid, at } })
}
