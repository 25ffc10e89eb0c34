//! Names that look like a property's and are none. The spec has us ignore them; their author should know.

use serde_json::Value;

use super::{At, Warning};

/// Every property of the specification that has to do with Linux (runtime-spec 1.3, schema/*.json).
const KNOWN: [&str; 152] = [
    "access",
    "action",
    "additionalGids",
    "allow",
    "ambient",
    "annotations",
    "apparmorProfile",
    "architectures",
    "args",
    "blockIO",
    "boottime",
    "bounding",
    "burst",
    "capabilities",
    "checkBeforeUpdate",
    "class",
    "classID",
    "closID",
    "consoleSize",
    "containerID",
    "cpu",
    "cpus",
    "createContainer",
    "createRuntime",
    "cwd",
    "deadline",
    "defaultAction",
    "defaultErrnoRet",
    "destination",
    "devices",
    "disableOOMKiller",
    "domain",
    "domainname",
    "effective",
    "enableMonitoring",
    "env",
    "errnoRet",
    "execCPUAffinity",
    "fileMode",
    "final",
    "flags",
    "gid",
    "gidMappings",
    "hard",
    "hcaHandles",
    "hcaObjects",
    "height",
    "hooks",
    "hostID",
    "hostname",
    "hugepageLimits",
    "idle",
    "index",
    "inheritable",
    "initial",
    "intelRdt",
    "ioPriority",
    "kernel",
    "kernelTCP",
    "l3CacheSchema",
    "leafWeight",
    "limit",
    "linux",
    "listenerMetadata",
    "listenerPath",
    "major",
    "maskedPaths",
    "memBwSchema",
    "memory",
    "memoryPolicy",
    "mems",
    "minor",
    "mode",
    "monotonic",
    "mountLabel",
    "mounts",
    "name",
    "names",
    "namespaces",
    "nanosecs",
    "netDevices",
    "network",
    "nice",
    "noNewPrivileges",
    "nodes",
    "ociVersion",
    "op",
    "oomScoreAdj",
    "options",
    "pageSize",
    "path",
    "period",
    "permitted",
    "personality",
    "pids",
    "policy",
    "poststart",
    "poststop",
    "prestart",
    "priorities",
    "priority",
    "process",
    "quota",
    "rate",
    "rdma",
    "readonly",
    "readonlyPaths",
    "realtimePeriod",
    "realtimeRuntime",
    "reservation",
    "resources",
    "rlimits",
    "root",
    "rootfsPropagation",
    "runtime",
    "scheduler",
    "schemata",
    "seccomp",
    "secs",
    "selinuxLabel",
    "shares",
    "size",
    "soft",
    "source",
    "startContainer",
    "swap",
    "swappiness",
    "syscalls",
    "sysctl",
    "terminal",
    "throttleReadBpsDevice",
    "throttleReadIOPSDevice",
    "throttleWriteBpsDevice",
    "throttleWriteIOPSDevice",
    "timeOffsets",
    "timeout",
    "type",
    "uid",
    "uidMappings",
    "umask",
    "unified",
    "useHierarchy",
    "user",
    "username",
    "value",
    "valueTwo",
    "weight",
    "weightDevice",
    "width",
    "cgroupsPath",
    "enableCMT",
    "enableMBM",
];
/// Objects whose names are the user's own.
const FREE: [&str; 7] = ["annotations", "sysctl", "unified", "rdma", "netDevices", "windows", "solaris"];

/// Every property whose name is nearly one of the specification's: written in another case, with other word breaks, or
/// with a slip. Nothing for what is not JSON.
pub fn near_misses(bytes: &[u8]) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if let Ok(document) = serde_json::from_slice(bytes) {
        look(&document, &At::default(), &mut warnings);
    }
    warnings
}

fn look(value: &Value, at: &At, warnings: &mut Vec<Warning>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                if let Some(meant) = meant(name) {
                    let said = format!("is no property and is ignored: did you mean {meant:?}?");
                    warnings.push(Warning { at: at.key(name), said });
                }
                if !FREE.contains(&name.as_str()) {
                    look(value, &at.key(name), warnings);
                }
            }
        }
        Value::Array(list) => list.iter().enumerate().for_each(|(n, value)| look(value, &at.index(n), warnings)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn meant(name: &str) -> Option<&'static str> {
    if KNOWN.contains(&name) {
        return None;
    }
    let plain = |name: &str| name.replace(['_', '-'], "").to_ascii_lowercase();
    let bare = plain(name);
    KNOWN
        .iter()
        .find(|known| plain(known) == bare)
        .or_else(|| KNOWN.iter().find(|known| known.len() > 4 && distance(&plain(known), &bare) <= 1))
        .copied()
}

/// How many letters must be changed, put in or left out to make one of the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, other) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(json: &str) -> Vec<String> {
        near_misses(json.as_bytes()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_slip_is_noticed_and_a_name_of_ones_own_is_not() {
        assert_eq!(
            told(r#"{"root":{"readOnly":true},"linux":{"masked_paths":[],"namespaces":[{"typ":"pid"}]}}"#),
            [
                "root.readOnly: is no property and is ignored: did you mean \"readonly\"?",
                "linux.masked_paths: is no property and is ignored: did you mean \"maskedPaths\"?",
            ]
        );
        assert!(told(r#"{"annotations":{"Args":"1"},"x-mine":{"y":1}}"#).is_empty());
        assert_eq!(told(r#"{"hostnam":"x"}"#).len(), 1);
    }
}
