//! `linux.sysctl`: only kernel parameters of a namespace that the container does not share with the host. SPEC:
//! config-linux.md#sysctl.

use std::collections::HashMap;
use std::ffi::CString;

use oci_spec::runtime::LinuxNamespaceType;

use super::given::Given;
use super::namespaces::{self, PlannedNamespaces, UTS, bit};
use super::notes::Notes;
use super::step::What;
use super::steps::Steps;
use super::uts;
use super::values::c_string;
use crate::config::{At, Faults};

/// Parameters of an ipc namespace (ipc_namespaces(7)), besides fs/mqueue.
const IPC: [&str; 8] = [
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
    "kernel/shm_rmid_forced",
];

/// One parameter, and how it is set.
#[derive(Debug)]
pub(super) struct Parameter {
    at: At,
    set: Set,
}

#[derive(Debug)]
enum Set {
    /// Write its file under /proc/sys.
    File(CString, CString),
    /// Call setdomainname(2). In a user namespace, the file still belongs to the host's root, but the container's root
    /// may make the call.
    Domainname(CString),
}

/// Reads `linux.sysctl`.
pub(super) fn read(given: &Given<'_>, namespaces: &PlannedNamespaces, notes: &mut Notes) -> Vec<Parameter> {
    let Some(map) = given.linux().and_then(|linux| linux.sysctl().as_ref()) else { return Vec::new() };
    let at = At::new("linux.sysctl");
    let holders =
        [LinuxNamespaceType::Ipc, LinuxNamespaceType::Network, LinuxNamespaceType::Uts, LinuxNamespaceType::User];
    let private: Vec<_> = holders.into_iter().filter(|kind| namespaces.private(bit(*kind))).collect();
    let mut parameters = Vec::with_capacity(map.len());
    for (path, value) in notes.collect(paths_and_values(map, &private, &at)).into_iter().flatten() {
        let at = at.key(&path.replace('/', "."));
        let set = if path == "kernel/domainname" {
            uts::name(value.trim_end_matches('\n'), &at, notes).map(Set::Domainname)
        } else {
            let (path, value) = (c_string(&path, &at, notes), c_string(&value, &at, notes));
            path.zip(value).map(|(path, value)| Set::File(path, value))
        };
        parameters.extend(set.map(|set| Parameter { at, set }));
    }
    parameters
}

/// ORDER: before Pivot: this uses the host's own /proc, which the root file system cannot change (CVE-2025-52881).
pub(super) fn steps(parameters: Vec<Parameter>, steps: &mut Steps) {
    for Parameter { at, set } in parameters {
        steps.add(
            &at,
            match set {
                Set::File(name, value) => What::Sysctl { name, value },
                Set::Domainname(name) => What::Domainname(name),
            },
        );
    }
}

/// The type of the namespace (CLONE_NEW*) in which a step changes a kernel parameter or a name.
pub fn changed_namespace(what: &What) -> Option<u64> {
    match what {
        What::Sysctl { name, .. } => scope(name.to_str().ok()?).ok().flatten().map(bit),
        What::Hostname(_) | What::Domainname(_) => Some(UTS),
        _ => None,
    }
}

/// The parameters as paths under /proc/sys with their values, sorted. `private` are the namespaces that the container
/// does not share with the host. `at` is the place of the map.
///
/// # Errors
/// A parameter that would change the host, or that another property sets.
fn paths_and_values(
    map: &HashMap<String, String>,
    private: &[LinuxNamespaceType],
    at: &At,
) -> Result<Vec<(String, String)>, Faults> {
    let mut faults = Faults::none();
    let mut list = Vec::with_capacity(map.len());
    for (name, value) in map {
        let path = path_of_name(name);
        match scope(&path) {
            Err(problem) => faults.add(at.key(name), problem),
            Ok(Some(kind)) if private.contains(&kind) => list.push((path, value.clone())),
            Ok(kind) => {
                let why = kind.map_or("the kernel has one value for all namespaces".to_owned(), |kind| {
                    format!("it needs a new {} namespace (linux.namespaces)", namespaces::name(bit(kind)))
                });
                faults.add(at.key(name), format!("sysctl {name:?} is not in a separate kernel namespace: {why}"));
            }
        }
    }
    list.sort_unstable();
    faults.into_result(list)
}

/// `net.ipv4.conf.eth0/100.x` and `net/ipv4/conf/eth0.100/x` are the same (sysctl(8)): the first separator decides.
fn path_of_name(name: &str) -> String {
    match name.find(['.', '/']).map(|n| name.as_bytes()[n]) {
        Some(b'.') => name
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                other => other,
            })
            .collect(),
        _ => name.to_owned(),
    }
}

/// The type of the namespace that has a parameter.
fn scope(path: &str) -> Result<Option<LinuxNamespaceType>, &'static str> {
    if path.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        return Err("is not the name of a kernel parameter");
    }
    Ok(match path {
        "kernel/hostname" => return Err("is set by the property hostname"),
        "kernel/domainname" => Some(LinuxNamespaceType::Uts),
        path if IPC.contains(&path) || path.starts_with("fs/mqueue/") => Some(LinuxNamespaceType::Ipc),
        path if path.starts_with("net/") => Some(LinuxNamespaceType::Network),
        path if path.starts_with("user/") => Some(LinuxNamespaceType::User),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [LinuxNamespaceType; 2] = [LinuxNamespaceType::Ipc, LinuxNamespaceType::Network];

    fn one(name: &str, private: &[LinuxNamespaceType]) -> Result<String, String> {
        let map = HashMap::from([(name.to_owned(), "1".to_owned())]);
        let list = paths_and_values(&map, private, &At::new("linux.sysctl")).map_err(|faults| faults.to_string())?;
        Ok(list[0].0.clone())
    }

    #[test]
    fn dots_and_slashes_are_both_understood() {
        assert_eq!(one("net.ipv4.ip_forward", &BOTH).unwrap(), "net/ipv4/ip_forward");
        assert_eq!(one("net/ipv4/conf/eth0.100/forwarding", &BOTH).unwrap(), "net/ipv4/conf/eth0.100/forwarding");
        assert_eq!(one("net.ipv4.conf.eth0/100.forwarding", &BOTH).unwrap(), "net/ipv4/conf/eth0.100/forwarding");
    }

    #[test]
    fn the_hosts_parameters_stay_the_hosts() {
        assert!(one("kernel.panic", &BOTH).unwrap_err().contains("is not in a separate kernel namespace"));
        assert!(one("kernel.shmmax", &[]).is_err());
        assert!(one("kernel.shmmax", &BOTH).is_ok());
        assert!(one("fs.mqueue.queues_max", &BOTH).is_ok());
        assert!(one("kernel.hostname", &BOTH).unwrap_err().contains("hostname"));
        assert!(one("net/../kernel/panic", &BOTH).is_err());
        assert!(one("user.max_user_namespaces", &BOTH).is_err());
    }
}
