//! The record of a new container in state.json, in runc's format.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use oci_spec::runtime::Linux;

use crate::cgroup::Cgroup;
use crate::config::Config;
use crate::container::{
    AfterStart, Does, OwnRecord, Record, RecordedCgroup, RecordedConfig, RecordedNamespace, RecordedRdt, start_time,
};
use crate::error::{Result, error};
use crate::host::Namespace;
use crate::plan::namespaces::{KINDS, bit};
use crate::plan::step::What;
use crate::plan::{Flags, Keyring, Plan};

/// The record of the container that `plan` has made. The pid of its init is `pid`.
///
/// # Errors
/// Its init has ended.
pub(super) fn assemble(
    config: &Config,
    flags: &Flags,
    plan: &Plan,
    pid: i32,
    cgroup: Option<&Cgroup>,
) -> Result<Record> {
    Ok(Record {
        id: flags.id.clone(),
        init_process_pid: pid,
        init_process_start: start_time(pid)?.ok_or_else(|| error!("container init is gone"))?,
        created: jiff::Timestamp::now().to_string(),
        config: of_config(config, flags),
        rootless: rustix::process::geteuid().as_raw() != 0,
        cgroup_paths: cgroup.map(|cgroup| cgroup.paths().clone()).unwrap_or_default(),
        namespace_paths: KINDS
            .iter()
            .map(|(kind, _, file)| (runc_name(*kind), format!("/proc/{pid}/ns/{file}")))
            .collect(),
        external_descriptors: Vec::new(),
        intel_rdt_path: plan.resctrl.as_ref().map(|group| group.directory.clone()).unwrap_or_default(),
        intel_rdt_mon_path: plan.resctrl.as_ref().and_then(|group| group.monitoring.clone()).unwrap_or_default(),
        resources_in_force: None,
        coracle: Some(OwnRecord {
            oci_version: config.spec.version().clone(),
            bundle: flags.bundle.clone(),
            annotations: config.spec.annotations().clone().unwrap_or_default(),
            owner: rustix::process::geteuid().as_raw(),
            without_late_hooks: plan.later_hooks.is_empty(),
            host_mounts: Vec::new(),
            landlock: Vec::new(),
            keyring: match &flags.keyring {
                Keyring::Named(name) => Some(name.clone()),
                Keyring::Inherited => None,
            },
            namespaces: namespaces(config, pid),
            unit: cgroup.and_then(|cgroup| cgroup.unit().cloned()),
            after_start: after_start(plan),
            seal: String::new(),
        }),
    })
}

/// The namespaces of init, before its program runs: those that an `exec` joins, and the user namespace that owns them.
fn namespaces(config: &Config, pid: i32) -> BTreeMap<String, (u64, u64)> {
    let linux = config.spec.linux().as_ref();
    let list = linux.and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default();
    let requested =
        |kind| kind == libc::CLONE_NEWUSER as u64 || list.iter().any(|namespace| bit(namespace.typ()) == kind);
    let all = KINDS.iter().filter(|(kind, ..)| requested(*kind));
    all.filter_map(|(_, _, file)| Some(((*file).to_owned(), Namespace::of(pid, file).ok()?.numbers()))).collect()
}

/// The part that runc keeps of config.json.
fn of_config(config: &Config, flags: &Flags) -> RecordedConfig {
    let spec = &config.spec;
    let linux = spec.linux().as_ref();
    let namespaces = linux.and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default();
    let annotations = spec.annotations().iter().flatten().map(|(key, value)| format!("{key}={value}"));
    RecordedConfig {
        rootfs: flags.bundle.join(spec.root().as_ref().map_or(Path::new(""), |root| root.path())),
        labels: annotations.chain([format!("bundle={}", flags.bundle.display())]).collect(),
        namespaces: namespaces
            .iter()
            .map(|namespace| RecordedNamespace {
                kind: runc_name(bit(namespace.typ())),
                path: namespace.path().as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
            })
            .collect(),
        hostname: spec.hostname().clone().unwrap_or_default(),
        cgroups: RecordedCgroup {
            name: flags.id.clone(),
            path: linux.and_then(cgroups_path).unwrap_or_default(),
            ..RecordedCgroup::default()
        },
        no_new_keyring: flags.keyring == Keyring::Inherited,
        version: spec.version().clone(),
        intel_rdt: linux.and_then(|linux| linux.intel_rdt().as_ref()).map(RecordedRdt::of),
    }
}

fn cgroups_path(linux: &Linux) -> Option<String> {
    linux.cgroups_path().as_ref().map(|path| path.display().to_string())
}

/// runc's name of a namespace: `NEWPID`.
fn runc_name(kind: u64) -> String {
    let file = KINDS.iter().find(|(bit, ..)| *bit == kind).map_or("", |(_, _, file)| *file);
    match file {
        "mnt" => "NEWNS".to_owned(),
        other => format!("NEW{}", other.to_uppercase()),
    }
}

/// The steps that `start` needs to explain a failure, because `start` does not have the plan.
fn after_start(plan: &Plan) -> Vec<AfterStart> {
    let steps = plan.bridge.iter().chain(&plan.init).enumerate();
    steps
        .skip_while(|(_, step)| !matches!(step.what, What::AwaitStart { .. }))
        .filter_map(|(n, step)| {
            let (does, name) = match &step.what {
                What::Exec(exec) => (Does::Program, exec.args.iter().next()?.to_string_lossy().into_owned()),
                What::Hooks { point, .. } => (Does::Hooks, point.name().to_owned()),
                What::Seccomp(_) => (Does::Filter, step.what.to_string()),
                _ => return None,
            };
            let denied = plan.denied_always(n);
            Some(AfterStart { step: u32::try_from(n).ok()?, does, from: step.from.to_string(), name, denied })
        })
        .collect()
}

/// The files of the first three descriptors of a process. An empty string for a closed descriptor.
pub(super) fn descriptors(pid: i32) -> Vec<String> {
    let link = |number| fs::read_link(format!("/proc/{pid}/fd/{number}"));
    (0..3).map(|number| link(number).map(|path| path.to_string_lossy().into_owned()).unwrap_or_default()).collect()
}
