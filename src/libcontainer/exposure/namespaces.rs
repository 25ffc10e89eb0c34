//! Namespaces that the container shares with the host, and whose root its root is.

use oci_spec::runtime::{Linux, LinuxNamespaceType};

use super::facts::{ConfigFacts, Findings};
use crate::config::At;

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
    (LinuxNamespaceType::Cgroup, "cgroup", 3, "sees where the container is on the host"),
    (LinuxNamespaceType::Uts, "uts", 2, "sees the name of the host, and with CAP_SYS_ADMIN changes it"),
];

/// Whether root in the container is another user on the host.
pub(super) fn is_mapped(linux: Option<&Linux>) -> bool {
    let Some(linux) = linux else { return false };
    let namespaces = linux.namespaces().as_deref().unwrap_or_default();
    let Some(user) = namespaces.iter().find(|namespace| namespace.typ() == LinuxNamespaceType::User) else {
        return false;
    };
    // the maps of a joined namespace are not in the config
    let maps = linux.uid_mappings().as_deref().unwrap_or_default();
    let is_host_root = |map: &oci_spec::runtime::LinuxIdMapping| map.host_id() == 0 && map.size() > 0;
    user.path().as_deref().is_none_or(|path| !path.starts_with("/proc/1/")) && !maps.iter().any(is_host_root)
}

pub(super) fn look(facts: &ConfigFacts<'_>, found: &mut Findings) {
    let at = At::new("linux.namespaces");
    for (_, word, weight, gain) in KINDS.into_iter().filter(|(kind, ..)| facts.shares(*kind)) {
        let weight = if facts.mapped { facts.weighed(weight).max(weight / 3) } else { weight };
        let change = format!("{{\"type\": \"{word}\"}}");
        found.add(at.clone(), weight, format!("the {word} namespace is the host's"), gain, format!("add {change}"));
    }
    let user = !facts.shares(LinuxNamespaceType::User);
    if user && !facts.mapped {
        let gain = "is root on the host after any way out: the user namespace separates nothing";
        let change = "map other host ids than 0, such as 100000";
        found.add(At::new("linux.uidMappings"), 12, "host id 0 is mapped", gain, change);
    }
    if !user {
        let gain = "rights in the container are rights on the host, wherever a check of the kernel is missing";
        let weight = if facts.capabilities == 0 && !facts.root { 3 } else { 10 };
        let change = "add {\"type\": \"user\"} and map ids, as engines do rootless or with userns";
        found.add(at, weight, "there is no user namespace", gain, change);
    }
}
