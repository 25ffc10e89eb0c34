//! Names that look like a property's and are none. The spec has us ignore them; their author should know.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

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

/// Properties of a profile in the format of Docker and podman, which the engine turns into one for a container.
const CONDITIONS: [&str; 4] = ["archMap", "includes", "excludes", "minKernel"];
const CONDITIONAL: &str = "is in Docker's format: its conditions (archMap, includes, excludes, minKernel) are ignored";

/// True for a property of the specification.
pub(super) fn is_known(name: &str) -> bool {
    KNOWN.contains(&name)
}

/// Every property whose name is nearly one of the specification's: written in another case, with other word breaks, or
/// with a slip. Nothing for what is not JSON. The text is read once and never held as a whole: it may be large.
pub fn near_misses(bytes: &[u8]) -> Vec<Warning> {
    let mut found = Vec::new();
    let plain = KNOWN.map(plain);
    let look = Look { known: &plain, at: &mut At::default(), found: &mut found };
    match look.deserialize(&mut serde_json::Deserializer::from_slice(bytes)) {
        Ok(()) => found,
        Err(_) => Vec::new(),
    }
}

/// Looks at the names in one value.
struct Look<'a> {
    /// KNOWN without case and word breaks.
    known: &'a [String],
    at: &'a mut At,
    found: &'a mut Vec<Warning>,
}

impl<'de> DeserializeSeed<'de> for Look<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        value.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Look<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<(), A::Error> {
        while let Some(name) = object.next_key::<String>()? {
            if CONDITIONS.contains(&name.as_str()) && self.at.is_below("linux.seccomp") {
                if self.found.iter().all(|warning| warning.said != CONDITIONAL) {
                    self.found.push(Warning { at: At::new("linux.seccomp"), said: CONDITIONAL.to_owned() });
                }
                object.next_value::<IgnoredAny>()?;
                continue;
            }
            let before = self.at.enter(&name);
            if let Some(meant) = meant(&name, self.known) {
                let said = format!("unknown property, ignored: did you mean {meant:?}?");
                self.found.push(Warning { at: self.at.clone(), said });
            }
            if FREE.contains(&name.as_str()) {
                object.next_value::<IgnoredAny>()?;
            } else {
                object.next_value_seed(Look { known: self.known, at: self.at, found: self.found })?;
            }
            self.at.leave(before);
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let mut n = 0;
        loop {
            let before = self.at.enter_element(n);
            let look = Look { known: self.known, at: self.at, found: self.found };
            if list.next_element_seed(look)?.is_none() {
                self.at.leave(before);
                return Ok(());
            }
            self.at.leave(before);
            n += 1;
        }
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

fn plain(name: &str) -> String {
    name.chars().filter(|c| !['_', '-'].contains(c)).map(|c| c.to_ascii_lowercase()).collect()
}

fn meant(name: &str, known: &[String]) -> Option<&'static str> {
    if is_known(name) {
        return None;
    }
    let bare = plain(name);
    let is_near = |known: &str| known.len().abs_diff(bare.len()) <= 4 && distance(known, &bare) <= 1;
    let same = known.iter().position(|known| *known == bare);
    same.or_else(|| (0..KNOWN.len()).find(|n| KNOWN[*n].len() > 4 && is_near(&known[*n]))).map(|n| KNOWN[n])
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

    fn misses(json: &str) -> Vec<String> {
        near_misses(json.as_bytes()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_slip_is_noticed_and_a_name_of_ones_own_is_not() {
        assert_eq!(
            misses(r#"{"root":{"readOnly":true},"linux":{"masked_paths":[],"namespaces":[{"typ":"pid"}]}}"#),
            [
                "root.readOnly: unknown property, ignored: did you mean \"readonly\"?",
                "linux.masked_paths: unknown property, ignored: did you mean \"maskedPaths\"?",
            ]
        );
        assert!(misses(r#"{"annotations":{"Args":"1"},"x-mine":{"y":1}}"#).is_empty());
        assert_eq!(misses(r#"{"hostnam":"x"}"#).len(), 1);
    }

    #[test]
    fn a_profile_of_dockers_is_one_note() {
        let entry = r#"{"names":["ptrace"],"action":"SCMP_ACT_ALLOW","comment":"","includes":{"minKernel":"4.8"},
            "excludes":{"caps":["CAP_SYS_PTRACE"],"arches":["x"]}}"#;
        let seccomp = format!(
            r#"{{"defaultAction":"SCMP_ACT_ERRNO","archMap":[{{"architecture":"x"}}],"syscalls":[{entry},{entry}]}}"#
        );
        let said = format!("linux.seccomp: {CONDITIONAL}");
        assert_eq!(misses(&format!(r#"{{"linux":{{"seccomp":{seccomp}}}}}"#)), [said]);
        // in another place these are names of somebody's own
        assert!(misses(r#"{"includes":[1],"linux":{"mine":{"excludes":1}}}"#).is_empty());
    }
}
