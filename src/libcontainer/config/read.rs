//! From bytes to types. If the typed read of a document fails, the mistake is noted with its place, its piece is
//! removed, and the rest is read again, until no mistake is left.

use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::mistake::{Mistake, Segment, from_value};
use super::names;
use super::unknown_name::is_known;
use super::{At, Faults, Warning, capability, forms, shape};

/// The most mistakes that are reported.
const MAX_MISTAKES: usize = 64;

/// The readable part of a document.
#[derive(Debug)]
pub(super) struct Readable<T> {
    pub(super) value: T,
    pub(super) warnings: Vec<Warning>,
    /// Names that are almost those of properties that confine the process.
    pub(super) slips: Vec<Warning>,
    pub(super) faults: Faults,
}

/// Reads a `T`. `at` is the place of the document itself.
pub(super) fn typed<T: DeserializeOwned>(bytes: &[u8], at: &At) -> Result<Readable<T>, Faults> {
    if let Ok(value) = serde_json::from_slice(bytes)
        && shape::is_sound(bytes)
    {
        return Ok(Readable { value, warnings: Vec::new(), slips: Vec::new(), faults: Faults::none() });
    }
    let wrong = |error: serde_json::Error| Faults::one(at.clone(), not_json(&error));
    let other = match bytes.trim_ascii_start().first() {
        Some(b'{') => None,
        Some(b'[') => Some(serde_json::from_slice(bytes).map(|IgnoredAny| "an array".to_owned()).map_err(wrong)?),
        _ => Some(kind(&serde_json::from_slice(bytes).map_err(wrong)?)),
    };
    if let Some(other) = other {
        return Err(Faults::one(at.clone(), format!("expected an object, got {other}")));
    }
    let KnownProperties(mut document) = serde_json::from_slice(bytes).map_err(wrong)?;
    let (mut warnings, mut faults) = (Vec::new(), Faults::none());
    forms::without_nulls(&mut document);
    shape::take_out_arrays(&mut document, at, &mut faults);
    forms::as_today(&mut document, at, &mut warnings, &mut faults);
    drop_unknown_capabilities(&mut document, at, &mut warnings);
    rename_scheduler_flags(&mut document);
    drop_empty_affinity(&mut document);
    let (value, faults) = all_mistakes(document, at, faults)?;
    Ok(Readable { value, warnings, slips: names::slips_that_confine(bytes, at.clone()), faults })
}

/// A document without properties that are not in the specification: they are ignored, and may be large.
struct KnownProperties(Value);

impl<'de> Deserialize<'de> for KnownProperties {
    fn deserialize<D: Deserializer<'de>>(text: D) -> Result<KnownProperties, D::Error> {
        struct Top;
        impl<'de> Visitor<'de> for Top {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut document: A) -> Result<Value, A::Error> {
                let mut known = serde_json::Map::new();
                while let Some(name) = document.next_key::<String>()? {
                    if is_known(&name) {
                        known.insert(name, document.next_value()?);
                    } else {
                        document.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(known.into())
            }
        }
        text.deserialize_map(Top).map(KnownProperties)
    }
}

/// The error of a document that is not JSON.
pub(crate) fn not_json(error: &serde_json::Error) -> String {
    if error.is_eof() && error.line() <= 1 && error.column() == 0 {
        return "is empty".to_owned();
    }
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or_default();
    format!("is not JSON: {what} (line {}, column {})", error.line(), error.column())
}

/// A value in words, by its type.
pub(crate) fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => format!("the boolean {value}"),
        Value::Number(value) => format!("the number {value}"),
        Value::String(value) => format!("the string {value:?}"),
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

/// SPEC: config.md#linux-process: an unknown capability is a warning. The types refuse it.
fn drop_unknown_capabilities(document: &mut Value, at: &At, warnings: &mut Vec<Warning>) {
    let (process, at) = match document.get_mut("process") {
        Some(process) => (process, at.key("process")),
        None => (document, at.clone()),
    };
    let Some(sets) = process.get_mut("capabilities").and_then(Value::as_object_mut) else { return };
    for (name, set) in sets {
        let at = at.key("capabilities").key(name);
        let Some(list) = set.as_array_mut() else { continue };
        let mut n = 0;
        list.retain(|entry| {
            let unknown = entry.as_str().filter(|name| capability::by_name(name).is_none());
            if let Some(name) = unknown {
                warnings.push(Warning { at: at.index(n), said: capability::unknown_message(name) });
            }
            n += 1;
            unknown.is_none()
        });
    }
}

/// The flags of `process.scheduler` in the specification, and in the types.
const SCHEDULER_FLAGS: [(&str, &str); 2] =
    [("SCHED_FLAG_RESET_ON_FORK", "SCHED_RESET_ON_FORK"), ("SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_D_L_OVERRUN")];

fn rename_scheduler_flags(document: &mut Value) {
    let process = if document.get("process").is_some() { "/process/scheduler/flags" } else { "/scheduler/flags" };
    for flag in document.pointer_mut(process).and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some((_, typed)) = SCHEDULER_FLAGS.iter().find(|(spelled, _)| flag == spelled) {
            *flag = Value::from(*typed);
        }
    }
}

/// SPEC: config.md#linux-process: an empty list of CPUs means no list. The types refuse it.
fn drop_empty_affinity(document: &mut Value) {
    let process = if document.get("process").is_some() { &mut document["process"] } else { document };
    if let Some(lists) = process.get_mut("execCPUAffinity").and_then(Value::as_object_mut) {
        lists.retain(|_, list| list.as_str() != Some(""));
    }
}

/// Reads again and again, and each time removes one mistake. Returns the rest, and the mistakes. Pieces with known
/// mistakes were already removed from the document.
pub(super) fn all_mistakes<T: DeserializeOwned>(
    mut document: Value,
    at: &At,
    mut faults: Faults,
) -> Result<(T, Faults), Faults> {
    let known = faults.clone();
    let mut taken = HashMap::new();
    for _ in 0..MAX_MISTAKES {
        let error = match from_value::<T>(&document) {
            Ok(value) => return Ok((value, faults)),
            Err(error) => error,
        };
        let (place, problem) = fault(error.path(), error.mistake(), &document, at, &taken);
        // A piece that was removed because of its own mistake is now missing. Then the piece around it is removed, too.
        if !faults.iter().any(|fault| fault.at == place) && !known.iter().any(|known| known.at.touches(&place)) {
            faults.add(place, problem);
        }
        if !take_out(&mut document, error.path(), &mut taken) {
            break;
        }
    }
    Err(faults)
}

/// For an array: the number of elements that were removed before this one.
type Taken = HashMap<String, Vec<usize>>;

/// The place in the original document: removed elements still count.
fn original_place(path: &[Segment], at: &At, taken: &Taken) -> At {
    path.iter().fold(at.clone(), |at, segment| match segment {
        Segment::Index(index) => {
            let gone = taken.get(at.as_str());
            at.index(gone.map_or(*index, |gone| original(*index, gone)))
        }
        Segment::Key(key) => at.key(key),
    })
}

/// The original index of an element. `gone` are the removed elements, in the order of their removal.
fn original(index: usize, gone: &[usize]) -> usize {
    let mut gone = gone.to_vec();
    gone.sort_unstable();
    gone.into_iter().fold(index, |index, gone| if gone <= index { index + 1 } else { index })
}

fn fault(path: &[Segment], mistake: &Mistake, document: &Value, at: &At, taken: &Taken) -> (At, String) {
    let place = original_place(path, at, taken);
    let value = found(document, path);
    let problem = match mistake {
        Mistake::Missing(name) => return (place.key(name), "is missing".to_owned()),
        Mistake::UnknownWord(word, expected) => {
            let spelled = |typed: &&str| {
                let flag = SCHEDULER_FLAGS.iter().find(|(_, known)| known == typed);
                flag.map_or(*typed, |(spelled, _)| *spelled).to_owned()
            };
            let words: Vec<_> = expected.iter().map(spelled).collect();
            let words = words.join(if words.len() == 2 { " or " } else { ", " });
            format!("unknown value {word:?} (expected one of {words})")
        }
        Mistake::UnknownProperty(expected) => format!("unknown property (expected one of {})", expected.join(", ")),
        Mistake::Unexpected(expected) => {
            let value = value.map_or("something else".to_owned(), kind);
            format!("expected {}, got {value}", spoken(expected))
        }
        Mistake::Other(said) => match value.and_then(Value::as_str).filter(|_| is_affinity(path)) {
            Some(list) => format!("{list:?} is not a list of CPUs such as 0-3,7"),
            None => said.clone(),
        },
    };
    (place, problem)
}

/// True for a list of `execCPUAffinity`.
fn is_affinity(path: &[Segment]) -> bool {
    path.iter().any(|segment| matches!(segment, Segment::Key(key) if key == "execCPUAffinity"))
}

/// Translates serde's names of types into those of JSON.
fn spoken(expected: &str) -> String {
    match expected {
        "a sequence" => "an array".to_owned(),
        "a map" => "an object".to_owned(),
        "path string" => "a string".to_owned(),
        "u8" => "a number from 0 to 255".to_owned(),
        "u16" => "a number from 0 to 65535".to_owned(),
        "u32" => "a number from 0 to 4294967295".to_owned(),
        "u64" | "usize" => "a number that is not negative".to_owned(),
        "i32" | "i64" => "a whole number".to_owned(),
        other if other.starts_with("struct ") => "an object".to_owned(),
        other => other.to_owned(),
    }
}

fn found<'v>(document: &'v Value, path: &[Segment]) -> Option<&'v Value> {
    path.iter().try_fold(document, |value, segment| match segment {
        Segment::Index(index) => value.get(index),
        Segment::Key(key) => value.get(key),
    })
}

/// Removes the piece with the mistake. Returns false if that is the document itself.
fn take_out(document: &mut Value, path: &[Segment], taken: &mut Taken) -> bool {
    // A required property cannot be removed: the piece around it is removed, if there is one.
    for depth in (1..=path.len()).rev() {
        let (above, last) = (&path[..depth - 1], &path[depth - 1]);
        let array = original_place(above, &At::default(), taken).as_str().to_owned();
        let parent = above.iter().try_fold(&mut *document, |value, segment| match segment {
            Segment::Index(index) => value.get_mut(index),
            Segment::Key(key) => value.get_mut(key),
        });
        match (parent, last) {
            (Some(Value::Object(object)), Segment::Key(key)) if object.contains_key(key) => {
                object.shift_remove(key);
                return true;
            }
            (Some(Value::Array(list)), Segment::Index(index)) if *index < list.len() => {
                list.remove(*index);
                let gone = taken.entry(array).or_default();
                gone.push(original(*index, gone));
                return true;
            }
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::Spec;

    use super::*;

    fn mistakes(json: &str) -> String {
        match typed::<Spec>(json.as_bytes(), &At::default()) {
            Ok(read) => read.faults.to_string(),
            Err(faults) => faults.to_string(),
        }
    }

    #[test]
    fn invalid_json_is_reported_once_with_line_and_column() {
        assert_eq!(mistakes(""), "config.json: : is empty".replace(": :", ":"));
        assert!(mistakes("{\n \"a\": }").contains("is not JSON: expected value (line 2, column 7)"));
        assert!(mistakes("[]").contains("expected an object, got an array"));
    }

    #[test]
    fn every_mistake_is_reported_with_its_place_as_written() {
        let json = r#"{"ociVersion":"1.0.0","process":{"args":"sh","cwd":"/","user":{"uid":-1,"gid":0}},
            "mounts":[{"destination":5},{"destination":"/a"},{"options":["x",7]}],
            "linux":{"namespaces":[{"type":"pid"},{"type":"netwerk"},{"type":"mount"},{"path":"/x"}]}}"#;
        let found = mistakes(json);
        for expected in [
            "process.args: expected an array, got the string \"sh\"",
            "process.user.uid: expected a number from 0 to 4294967295, got the number -1",
            "mounts[0].destination: expected a string, got the number 5",
            "mounts[2].options[1]: expected a string, got the number 7",
            "linux.namespaces[1].type: unknown value \"netwerk\" (expected one of",
            "linux.namespaces[3].type: is missing",
        ] {
            assert!(found.contains(expected), "{expected:?} is not in:\n{found}");
        }
        assert!(!found.contains("line 1"), "{found}");
    }

    #[test]
    fn an_unknown_capability_is_a_warning() {
        let json = r#"{"ociVersion":"1.0.0","process":{"cwd":"/","user":{"uid":0,"gid":0},
            "capabilities":{"bounding":["CAP_KILL","CAP_NOPE"]}}}"#;
        let Readable { value: spec, warnings, .. } = typed::<Spec>(json.as_bytes(), &At::default()).unwrap();
        assert_eq!(warnings.len(), 1);
        assert_eq!(
            warnings[0].to_string(),
            "process.capabilities.bounding[1]: unknown capability \"CAP_NOPE\", ignored"
        );
        let sets = spec.process().as_ref().unwrap().capabilities().clone().unwrap();
        assert_eq!(sets.bounding().as_ref().unwrap().len(), 1);
    }

    #[test]
    fn an_empty_list_of_cpus_counts_as_absent() {
        let json = r#"{"ociVersion":"1.0.0","process":{"cwd":"/","user":{"uid":0,"gid":0},
            "execCPUAffinity":{"initial":"","final":"0"}}}"#;
        let spec = typed::<Spec>(json.as_bytes(), &At::default()).unwrap().value;
        let affinity = spec.process().as_ref().unwrap().exec_cpu_affinity().clone().unwrap();
        assert_eq!((affinity.initial(), affinity.cpu_affinity_final().as_deref()), (&None, Some("0")));
    }

    /// The places of all properties below `value`.
    fn properties(value: &Value, at: &str, found: &mut Vec<String>) {
        match value {
            Value::Object(object) => {
                for (name, value) in object {
                    let at = format!("{at}/{name}");
                    properties(value, &at, found);
                    found.push(at);
                }
            }
            Value::Array(list) => {
                list.iter().enumerate().for_each(|(n, value)| properties(value, &format!("{at}/{n}"), found));
            }
            _ => {}
        }
    }

    #[test]
    fn a_property_that_is_null_is_read_as_if_it_were_not_there() {
        let document = serde_json::json!({
            "ociVersion": "1.3.0", "hostname": "x", "root": {"path": "rootfs", "readonly": true},
            "process": {"cwd": "/", "args": ["sh"], "env": ["A=1"], "user": {"uid": 1, "gid": 1, "umask": 2},
                "consoleSize": {"height": 1, "width": 1}, "rlimits": [{"type": "RLIMIT_CORE", "soft": 1, "hard": 1}],
                "scheduler": {"policy": "SCHED_OTHER", "nice": 1}, "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 1}},
            "mounts": [{"destination": "/a", "type": "tmpfs", "source": "x", "options": ["ro"]}],
            "hooks": {"prestart": [{"path": "/bin/true", "args": ["true"], "timeout": 1}]},
            "linux": {"namespaces": [{"type": "pid", "path": "/x"}], "personality": {"domain": "LINUX"},
                "uidMappings": [{"containerID": 1, "hostID": 1, "size": 1}],
                "devices": [{"path": "/dev/x", "type": "c", "major": 1, "minor": 1, "uid": 1}],
                "memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0"},
                "resources": {"devices": [{"allow": true, "access": "r", "type": "c", "major": 1}], "pids": {"limit": 1},
                    "memory": {"limit": 1}, "hugepageLimits": [{"pageSize": "2MB", "limit": 1}],
                    "blockIO": {"weightDevice": [{"major": 1, "minor": 1, "weight": 10}],
                        "throttleReadBpsDevice": [{"major": 1, "minor": 1, "rate": 1}]},
                    "network": {"priorities": [{"name": "a", "priority": 1}]}},
                "seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"], "action": "SCMP_ACT_ERRNO",
                    "args": [{"index": 1, "value": 1, "op": "SCMP_CMP_EQ"}]}]}},
        });
        let mut places = Vec::new();
        properties(&document, "", &mut places);
        assert!(places.len() > 70);
        let read = |document: &Value| match typed::<Spec>(document.to_string().as_bytes(), &At::default()) {
            Ok(read) => (serde_json::to_value(read.value).unwrap(), read.faults.to_string()),
            Err(faults) => (Value::Null, faults.to_string()),
        };
        for place in places {
            let (mut null, mut gone) = (document.clone(), document.clone());
            *null.pointer_mut(&place).unwrap() = Value::Null;
            let (above, name) = place.rsplit_once('/').unwrap();
            gone.pointer_mut(above).unwrap().as_object_mut().unwrap().remove(name);
            assert_eq!(read(&null), read(&gone), "{place}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_input_makes_it_panic(bytes: Vec<u8>) {
            let _ = typed::<Spec>(&bytes, &At::default());
        }
    }
}
