//! Namespaces that the container shares with the host, and whose root its root is.

use std::path::Path;

use oci_spec::runtime::{LinuxNamespaceType, Spec};

use super::facts::ConfigFacts;
use super::finding::Findings;
use crate::config::At;

/// A directory of podman and buildah.
const CONTAINERS: &str = "overlay-containers";

/// The kind, its word, the weight for a shared one, what is gained.
const KINDS: [(LinuxNamespaceType, &str, u8, &str); 6] = [
    (LinuxNamespaceType::Mount, "mount", 90, "sees and changes the mounts and files of the host"),
    (
        LinuxNamespaceType::Pid,
        "pid",
        40,
        "sees all processes of the host, their environment and, as their user, their files",
    ),
    (
        LinuxNamespaceType::Network,
        "network",
        32,
        "reaches services on localhost and abstract sockets of the host (CVE-2020-15257)",
    ),
    (LinuxNamespaceType::Ipc, "ipc", 12, "reads the shared memory and the semaphores of the host"),
    (LinuxNamespaceType::Cgroup, "cgroup", 3, "sees the paths of its cgroups on the host"),
    (LinuxNamespaceType::Uts, "uts", 2, "sees the name of the host, and with CAP_SYS_ADMIN changes it"),
];

/// Whether root in the container is another user on the host.
pub(super) fn is_mapped(spec: &Spec) -> bool {
    let Some(linux) = spec.linux().as_ref() else { return false };
    let namespaces = linux.namespaces().as_deref().unwrap_or_default();
    let Some(user) = namespaces.iter().find(|namespace| namespace.typ() == LinuxNamespaceType::User) else {
        // podman's default for an ordinary user: the container stays in the user namespace of the engine
        return is_of_ordinary_user(spec);
    };
    // the maps of a joined namespace are not in the config
    let maps = linux.uid_mappings().as_deref().unwrap_or_default();
    let is_host_root = |map: &oci_spec::runtime::LinuxIdMapping| map.host_id() == 0 && map.size() > 0;
    let joins_host = user.path().as_deref().is_some_and(|path| path.starts_with("/proc/1/"));
    !joins_host && (is_of_ordinary_user(spec) || !maps.iter().any(is_host_root))
}

/// Whether an engine of an ordinary user wrote it, inside that engine's user namespace: its host ids are not the host's.
fn is_of_ordinary_user(spec: &Spec) -> bool {
    let sources = spec.mounts().iter().flatten().filter_map(|mount| mount.source().as_deref());
    let runtime = |path: &Path| {
        let below = path.strip_prefix("/run/user").ok().filter(|below| !below.starts_with("0"));
        below.is_some_and(|below| below.components().any(|part| part.as_os_str() == CONTAINERS))
    };
    sources.into_iter().any(runtime)
}

pub(super) fn find(facts: &ConfigFacts<'_>, found: &mut Findings) {
    let at = At::new("linux.namespaces");
    for (_, word, weight, gain) in KINDS.into_iter().filter(|(kind, ..)| facts.shares(*kind)) {
        let weight = if facts.mapped { facts.weighed(weight).max(weight / 3) } else { weight };
        let change = format!("{{\"type\": \"{word}\"}}");
        found.add(at.clone(), weight, format!("the {word} namespace is the host's"), gain, format!("add {change}"));
    }
    let user = !facts.shares(LinuxNamespaceType::User);
    if user && !facts.mapped {
        let gain = "is root on the host after an escape: the user namespace does not protect the host";
        let change = "map other host ids than 0, such as 100000";
        found.add(At::new("linux.uidMappings"), 12, "host id 0 is mapped", gain, change);
    }
    if !user && !facts.mapped {
        let gain = "if the kernel lacks a check, rights in the container are rights on the host";
        let weight = if facts.capabilities == 0 && !facts.root { 3 } else { 10 };
        let change = "add {\"type\": \"user\"} and map ids, as engines do rootless or with userns";
        found.add(at, weight, "there is no user namespace", gain, change);
    }
}
