//! Properties that the specification does not have. It says that they are ignored. A warning tells the author about them, and
//! names the property that was meant.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::distance::is_near;
use super::places::NAMED_BY_USERS;
use super::unknown_name::{KnownNames, Unknown, is_known, plain, unknown};
use super::{At, Faults, Warning};

/// Properties of a rule of a seccomp profile that have no note: comments, and the old form, which is a mistake.
const WITH_ANOTHER_WORD: [&str; 2] = ["comment", "name"];

/// Properties of a profile in the format of Docker and podman. The engine must convert such a profile.
const CONDITIONS: [&str; 4] = ["archMap", "includes", "excludes", "minKernel"];
const CONDITIONAL: &str = "is in Docker's format: its conditions (archMap, includes, excludes, minKernel) are ignored";

/// One remark about a name in a document.
struct NameNote {
    at: At,
    name: String,
    remark: Remark,
}

#[derive(Debug, PartialEq, Eq)]
enum Remark {
    Unknown(Unknown),
    /// It is given more than once.
    Repeated,
    /// The profile has conditions that only engines know.
    Conditional,
}

impl NameNote {
    fn warning(self) -> Warning {
        let said = match self.remark {
            Remark::Unknown(unknown) => format!("unknown property, ignored{unknown}"),
            Remark::Repeated => "is given more than once: the last one counts".to_owned(),
            Remark::Conditional => CONDITIONAL.to_owned(),
        };
        Warning { at: self.at, said }
    }

    /// True if this name was meant for the property at `at` of the same object, or for one inside it.
    fn is_meant_for(&self, at: &At) -> bool {
        let suggestion: &[&str] = match &self.remark {
            Remark::Unknown(Unknown::Slip(suggestion) | Unknown::Foreign { suggestion, .. }) => {
                std::slice::from_ref(suggestion)
            }
            Remark::Unknown(Unknown::Elsewhere(objects)) => objects,
            Remark::Unknown(Unknown::Other) | Remark::Repeated | Remark::Conditional => &[],
        };
        let mut names = suggestion.iter().flat_map(|path| path.split(['.', '[', ']'])).filter(|name| !name.is_empty());
        names.any(|suggestion| self.at.sibling(&self.name, suggestion) == *at)
    }
}

/// Finds every property that the specification does not have, or has in another object, and every one that is given twice.
/// Finds nothing if the text is not JSON. The text is streamed, because it may be large.
pub fn unknown_properties(bytes: &[u8]) -> Vec<Warning> {
    unknown_properties_at(bytes, At::default())
}

/// If a property is missing, and one with an unknown name was meant for it, adds that name to the fault.
pub fn mention_slips(faults: &mut Faults, bytes: &[u8]) {
    let (mut notes, mut document) = (None, None);
    for fault in faults.iter_mut() {
        let notes = notes.get_or_insert_with(|| notes_on_names(bytes, At::default()));
        let Some(note) = notes.iter().find(|note| note.is_meant_for(&fault.at)) else { continue };
        let document = document.get_or_insert_with(|| serde_json::from_slice(bytes).unwrap_or_default());
        if !has(document, &fault.at) {
            fault.problem = format!("{}: {:?} is an unknown property", fault.problem, note.name);
        }
    }
}

/// Whether the document has a property at this place.
fn has(document: &serde_json::Value, at: &At) -> bool {
    let pointer = at.as_str().replace(['[', '.'], "/").replace(']', "");
    document.pointer(&format!("/{pointer}")).is_some()
}

/// The same for the object at `at`, which is a document of its own.
pub(super) fn unknown_properties_at(bytes: &[u8], at: At) -> Vec<Warning> {
    notes_on_names(bytes, at).into_iter().map(NameNote::warning).collect()
}

fn notes_on_names(bytes: &[u8], mut at: At) -> Vec<NameNote> {
    let mut found = Vec::new();
    let look = Look { known: &KnownNames::default(), at: &mut at, found: &mut found };
    match look.deserialize(&mut serde_json::Deserializer::from_slice(bytes)) {
        Ok(()) => {
            // The first of them says it for the whole profile.
            let mut others = false;
            found.retain(|note| note.remark != Remark::Conditional || !std::mem::replace(&mut others, true));
            found
        }
        Err(_) => Vec::new(),
    }
}

/// Properties that confine the process. Without one of them, it can do more.
const CONFINING: [&str; 19] = [
    "readonly",
    "maskedPaths",
    "readonlyPaths",
    "noNewPrivileges",
    "capabilities",
    "rlimits",
    "apparmorProfile",
    "selinuxLabel",
    "seccomp",
    "namespaces",
    "resources",
    "uidMappings",
    "gidMappings",
    "hostID",
    "containerID",
    "user",
    "uid",
    "gid",
    "options",
];

/// True for a name that is similar to that of a property that confines the process. For most names, this does not allocate.
pub(super) fn is_slip(name: &[u8]) -> bool {
    let Some(first) = name.first() else { return false };
    let near = |known: &&&str| {
        known.len().abs_diff(name.len()) <= 3
            && known.as_bytes()[0].eq_ignore_ascii_case(first)
            && known.as_bytes() != name
    };
    CONFINING.iter().filter(near).any(|known| {
        std::str::from_utf8(name).is_ok_and(|name| !is_known(name) && is_near(&plain(known), &plain(name)))
    })
}

/// The warnings of `unknown_properties_at` about such names.
pub(super) fn slips_that_confine(bytes: &[u8], at: At) -> Vec<Warning> {
    let notes = notes_on_names(bytes, at).into_iter().filter(|note| is_slip(note.name.as_bytes()));
    notes.map(NameNote::warning).collect()
}

/// Checks the names in one value.
struct Look<'a> {
    known: &'a KnownNames,
    at: &'a mut At,
    found: &'a mut Vec<NameNote>,
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
        let mut before = Vec::new();
        while let Some(name) = object.next_key::<String>()? {
            if CONDITIONS.contains(&name.as_str()) && self.at.is_below("linux.seccomp") {
                self.found.push(NameNote { at: At::new("linux.seccomp"), name, remark: Remark::Conditional });
                object.next_value::<IgnoredAny>()?;
                continue;
            }
            let (place, outside) = (self.at.clone(), self.at.enter(&name));
            let unknown = unknown(&name, place.as_str(), self.known);
            let near = is_known(&name) || matches!(unknown, Some(Unknown::Slip(_)));
            let has_own_word = WITH_ANOTHER_WORD.contains(&&*name) && place.is_below("linux.seccomp");
            if let Some(unknown) = unknown.filter(|_| !has_own_word) {
                let (at, name) = (self.at.clone(), name.clone());
                self.found.push(NameNote { at, name, remark: Remark::Unknown(unknown) });
            }
            // few: only names of the specification are kept
            if before.contains(&name) {
                self.found.push(NameNote { at: self.at.clone(), name: name.clone(), remark: Remark::Repeated });
            } else if is_known(&name) {
                before.push(name.clone());
            }
            // the names in it are its own
            if NAMED_BY_USERS.contains(&name.as_str()) || !near {
                object.next_value::<IgnoredAny>()?;
            } else {
                object.next_value_seed(Look { known: self.known, at: self.at, found: self.found })?;
            }
            self.at.shorten(outside);
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let mut n = 0;
        loop {
            let before = self.at.enter_element(n);
            let look = Look { known: self.known, at: self.at, found: self.found };
            if list.next_element_seed(look)?.is_none() {
                self.at.shorten(before);
                return Ok(());
            }
            self.at.shorten(before);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::places::PLACES;

    fn misses(json: &str) -> Vec<String> {
        unknown_properties(json.as_bytes()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_slip_is_noticed_and_a_name_of_ones_own_is_not() {
        assert_eq!(
            misses(r#"{"root":{"readOnly":true},"linux":{"masked_paths":[],"namespaces":[{"typ":"pid"}]}}"#),
            [
                "root.readOnly: unknown property, ignored: did you mean \"readonly\"?",
                "linux.masked_paths: unknown property, ignored: did you mean \"maskedPaths\"?",
                "linux.namespaces[0].typ: unknown property, ignored: did you mean \"type\"?",
            ]
        );
        assert!(
            misses(r#"{"annotations":{"Args":"1"},"x-mine":{"y":1},"org.me/x":{"z":1},"windows":{"z":1}}"#).is_empty()
        );
        assert_eq!(misses(r#"{"hostnam":"x"}"#).len(), 1);
    }

    #[test]
    fn a_slip_in_a_name_that_confines_is_found_in_one_pass() {
        for slip in [
            "readOnly",
            "read_only",
            "maskedpaths",
            "maskedPath",
            "NoNewPrivileges",
            "SECCOMP",
            "seccom",
            "Namespaces",
            "User",
            "UID",
            "Gid",
            "option",
        ] {
            let text = format!(r#"{{"linux": {{"{slip}" : []}}}}"#);
            assert!(!super::super::shape::is_sound(text.as_bytes()), "{slip}");
            let found = slips_that_confine(text.as_bytes(), At::default());
            assert_eq!(found.len(), 1, "{slip}");
            assert!(found[0].to_string().contains("did you mean"), "{}", found[0]);
        }
        assert!(PLACES.iter().flat_map(|(_, names)| *names).all(|name| !is_slip(name.as_bytes())));
        assert!(CONFINING.iter().all(|name| is_known(name)));
        assert!(super::super::shape::is_sound(
            br#"{"linux":{"rootfsPropagation":"Seccomp"},"annotations":{"readOnly":"1"}}"#
        ));
    }

    #[test]
    fn a_property_at_the_wrong_level_is_noted_with_its_place() {
        for (json, said) in [
            (r#"{"env":[]}"#, "env: unknown property, ignored here: it belongs in process"),
            (r#"{"readonly":true}"#, "readonly: unknown property, ignored here: it belongs in root"),
            (r#"{"resources":{}}"#, "resources: unknown property, ignored here: it belongs in linux"),
            (r#"{"process":{"uid":0}}"#, "process.uid: unknown property, ignored here: it belongs in process.user"),
            (
                r#"{"linux":{"resources":{"cpus":"0"}}}"#,
                "linux.resources.cpus: unknown property, ignored here: it belongs in linux.resources.cpu",
            ),
            (
                r#"{"linux":{"resources":{"limit":1}}}"#,
                "linux.resources.limit: unknown property, ignored here: it belongs in linux.resources.memory or \
                 linux.resources.pids",
            ),
            (
                r#"{"linux":{"memory":{"limit":1}}}"#,
                "linux.memory: unknown property, ignored here: it belongs in linux.resources",
            ),
            (
                r#"{"linux":{"seccomp":{"names":["x"]}}}"#,
                "linux.seccomp.names: unknown property, ignored here: it belongs in linux.seccomp.syscalls[]",
            ),
            (r#"{"mounts":[{"path":"/x"}]}"#, "mounts[0].path: unknown property, ignored here: it belongs in root"),
            (
                r#"{"hooks":{"poststop":[{"cwd":"/"}]}}"#,
                "hooks.poststop[0].cwd: unknown property, ignored here: it belongs in process",
            ),
            (
                r#"{"process":{"ociVersion":"1"}}"#,
                "process.ociVersion: unknown property, ignored here: it belongs in the top of the document",
            ),
        ] {
            assert_eq!(misses(json), [said], "{json}");
        }
    }

    #[test]
    fn what_is_given_twice_or_is_a_mistake_besides() {
        assert_eq!(
            misses(r#"{"process":{"cwd":"/a","cwd":"/b","args":[]},"x":1,"x":2}"#),
            [
                "process.cwd: is given more than once: the last one counts",
                "x: unknown property, ignored",
                "x: unknown property, ignored",
            ]
        );
        assert!(misses(r#"{"linux":{"seccomp":{"syscalls":[{"name":"a","action":"b"}]}}}"#).is_empty());
        let said = unknown_properties_at(br#"{"Env":[],"user":{"UID":1}}"#, At::new("process"));
        let said: Vec<_> = said.iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "process.Env: unknown property, ignored: did you mean \"env\"?",
                "process.user.UID: unknown property, ignored: did you mean \"uid\"?",
            ]
        );
    }

    #[test]
    fn a_name_of_any_distance_is_noted_once() {
        assert_eq!(
            misses(
                r#"{"privileged":true,"volumes":[{"nmae":1}],"linux":{"mine":{"excludes":1}},"capabilities":{},"process":{"Cmd":["x"],"path":"/"}}"#
            ),
            [
                "privileged: unknown property, ignored: all capabilities, devices and paths are listed one by one \
                 (process.capabilities, linux.resources.devices)",
                "volumes: unknown property, ignored: use mounts",
                "linux.mine: unknown property, ignored",
                "capabilities: unknown property, ignored here: it belongs in process",
                "process.Cmd: unknown property, ignored: use process.args",
                "process.path: unknown property, ignored here: it belongs in root",
            ]
        );
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
        // In another place, users choose these names.
        assert_eq!(misses(r#"{"includes":[1],"linux":{"mine":{"excludes":1}}}"#).len(), 2);
    }

    #[test]
    fn what_is_missing_names_the_property_that_was_meant_for_it() {
        let text = br#"{"process": {"cmd": ["sh"], "Cwd": "x", "cwd": 7}, "mounts": [{}, {"dest": "/x"}], "rot": {}}"#;
        let mut faults = Faults::none();
        for at in ["root", "process.args", "process.cwd", "mounts[0].destination", "mounts[1].destination"] {
            faults.add(At::new(at), "is missing");
        }
        mention_slips(&mut faults, text);
        let said: Vec<_> = faults.iter().map(|fault| fault.problem.trim_start_matches("is missing")).collect();
        let of = |name: &str| format!(": {name:?} is an unknown property");
        // process.cwd is there, with another mistake
        assert_eq!(said, [of("rot"), of("cmd"), String::new(), String::new(), of("dest")]);
    }
}
