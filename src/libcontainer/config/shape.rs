//! Finds arrays in places of objects. serde accepts an array of values for a struct. The specification does not: values
//! that are read by position could grant rights that the author did not request. In the same pass it finds names that the types
//! would take or ignore although they are not right.

use serde_json::Value;

use super::{At, Faults, capability, names};

/// Properties that are objects (runtime-spec 1.3, schema/*.json).
const OBJECTS: [&str; 20] = [
    "process",
    "root",
    "user",
    "consoleSize",
    "capabilities",
    "scheduler",
    "ioPriority",
    "execCPUAffinity",
    "hooks",
    "linux",
    "resources",
    "memory",
    "cpu",
    "pids",
    "blockIO",
    "network",
    "seccomp",
    "intelRdt",
    "personality",
    "memoryPolicy",
];
/// Properties that are objects with objects as values.
const MAPS: [&str; 3] = ["timeOffsets", "rdma", "netDevices"];
/// Properties that are arrays of objects. `args` is one only below `syscalls`: the `args` of the process are strings.
const LISTS: [&str; 21] = [
    "mounts",
    "devices",
    "namespaces",
    "rlimits",
    "uidMappings",
    "gidMappings",
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
    "hugepageLimits",
    "weightDevice",
    "throttleReadBpsDevice",
    "throttleWriteBpsDevice",
    "throttleReadIOPSDevice",
    "throttleWriteIOPSDevice",
    "priorities",
    "syscalls",
    "args",
];

/// The kind of the values directly inside a bracket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inside {
    /// Properties, by name.
    Properties,
    /// Objects only.
    Objects,
    /// The sets of capabilities.
    Sets,
    /// Names of capabilities.
    Capabilities,
    /// A property that is not in the specification, or a value that cannot be read by position.
    Anything,
}

impl Inside {
    /// The kind of the values inside the bracket that opens the value of `key`. None if the value must begin with the
    /// other bracket.
    fn enter(self, bracket: u8, key: &[u8]) -> Option<Inside> {
        let among = |names: &[&str]| names.iter().any(|name| name.as_bytes() == key);
        match (self, bracket) {
            (Inside::Objects, b'{') => Some(Inside::Properties),
            (Inside::Objects, _) => None,
            (Inside::Properties, b'{') if key == b"capabilities" => Some(Inside::Sets),
            (Inside::Sets, b'[') => Some(Inside::Capabilities),
            (Inside::Properties, b'{') if among(&OBJECTS) => Some(Inside::Properties),
            (Inside::Properties, b'{') if among(&MAPS) => Some(Inside::Objects),
            (Inside::Properties, b'[') if among(&OBJECTS) || among(&MAPS) => None,
            (Inside::Properties, b'[') if among(&LISTS) => Some(Inside::Objects),
            (Inside::Properties | Inside::Sets | Inside::Capabilities | Inside::Anything, _) => Some(Inside::Anything),
        }
    }
}

/// True for a document that needs no second look: no object is written as an array, every capability has its exact name, and no
/// name is nearly that of a property that confines the process. The memory depends only on the depth of the document.
pub(super) fn is_sound(json: &[u8]) -> bool {
    let mut open = vec![Inside::Objects];
    let (mut key, mut n): (&[u8], usize) = (b"", 0);
    while let Some(byte) = json.get(n) {
        match byte {
            b'"' => {
                let end = end_of_string(json, n);
                key = &json[n + 1..end];
                n = end;
                let sound = match open.last() {
                    // A name may contain escapes. Then the whole document is parsed.
                    Some(Inside::Properties) => !(key.contains(&b'\\') || is_name(json, end) && names::is_slip(key)),
                    Some(Inside::Capabilities) => capability::is_spelled_right(key),
                    _ => true,
                };
                if !sound {
                    return false;
                }
            }
            b'{' | b'[' => match open.last().and_then(|inside| inside.enter(*byte, key)) {
                Some(inside) => open.push(inside),
                None => return false,
            },
            b'}' | b']' => drop(open.pop()),
            _ => {}
        }
        n += 1;
    }
    true
}

/// True if the string that ends at `end` is the name of a property.
fn is_name(json: &[u8], end: usize) -> bool {
    json[end..].iter().skip(1).find(|byte| !byte.is_ascii_whitespace()) == Some(&b':')
}

/// The end of the string that begins at `start`: its closing quote, or the end of the text.
fn end_of_string(json: &[u8], start: usize) -> usize {
    let mut n = start + 1;
    while n < json.len() && json[n] != b'"' {
        n += if json[n] == b'\\' { 2 } else { 1 };
    }
    n.min(json.len())
}

/// Removes each array in the place of an object from the document, and notes the mistake.
pub(super) fn take_out_arrays(document: &mut Value, at: &At, faults: &mut Faults) {
    has_wrong_shape(document, Inside::Properties, at, faults);
}

/// Removes such arrays from `value`. True if `value` itself must be removed, because one of its elements is such an array.
fn has_wrong_shape(value: &mut Value, inside: Inside, at: &At, faults: &mut Faults) -> bool {
    match value {
        Value::Object(object) => object.retain(|name, value| {
            let at = at.key(name);
            match inside.enter(bracket(value), name.as_bytes()) {
                Some(inside) => !has_wrong_shape(value, inside, &at, faults),
                None if bracket(value) == 0 => true,
                None => {
                    report(name, &at, faults);
                    false
                }
            }
        }),
        Value::Array(list) if inside == Inside::Objects => {
            let mut wrong = false;
            for (n, value) in list.iter_mut().enumerate() {
                let at = at.index(n);
                match value {
                    Value::Object(_) => wrong |= has_wrong_shape(value, Inside::Properties, &at, faults),
                    Value::Array(_) => {
                        report("", &at, faults);
                        wrong = true;
                    }
                    // The typed read reports it.
                    _ => {}
                }
            }
            return wrong;
        }
        _ => {}
    }
    false
}

/// The bracket at the beginning of a value, or 0.
fn bracket(value: &Value) -> u8 {
    match value {
        Value::Object(_) => b'{',
        Value::Array(_) => b'[',
        _ => 0,
    }
}

fn report(name: &str, at: &At, faults: &mut Faults) {
    let more = match name {
        "capabilities" => {
            ": one list for all sets is the form from before version 1.0; name bounding, effective and permitted"
        }
        _ => "",
    };
    faults.add(at.clone(), format!("expected an object, got an array{more}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The result of both algorithms.
    fn wrong(json: &str) -> Vec<String> {
        let mut faults = Faults::none();
        let mut document = serde_json::from_str(json).unwrap();
        take_out_arrays(&mut document, &At::default(), &mut faults);
        assert_eq!(is_sound(json.as_bytes()), faults.is_empty(), "{json}");
        assert!(is_sound(document.to_string().as_bytes()), "{document}");
        faults.iter().map(|fault| fault.at.to_string()).collect()
    }

    #[test]
    fn an_array_is_found_wherever_an_object_must_stand() {
        for (json, place) in [
            (r#"{"root":["rootfs",false]}"#, "root"),
            (r#"{"linux":[]}"#, "linux"),
            (r#"{"process":{"user":[0,0]}}"#, "process.user"),
            (r#"{"process":{"capabilities":[["CAP_KILL"]]}}"#, "process.capabilities"),
            (r#"{"mounts":[{"destination":"/a"},["/b"]]}"#, "mounts[1]"),
            (r#"{"hooks":{"prestart":[["/bin/true"]]}}"#, "hooks.prestart[0]"),
            (r#"{"linux":{"resources":{"rdma":{"x":[1,2]}}}}"#, "linux.resources.rdma.x"),
            (r#"{"linux":{"seccomp":{"syscalls":[{"args":[[1,2]]}]}}}"#, "linux.seccomp.syscalls[0].args[0]"),
        ] {
            assert_eq!(wrong(json), [place], "{json}");
        }
    }

    #[test]
    fn every_struct_of_the_types_is_known_here() {
        // The example has most of them. Each is found if it is written as an array of its values.
        let example = crate::config::example::spec(crate::config::example::ExampleUser::Rootful);
        assert!(is_sound(example.as_bytes()));
        let document: Value = serde_json::from_str(&example).unwrap();
        let Value::Object(properties) = &document else { panic!("no object") };
        for (name, value) in properties.iter().filter(|(_, value)| value.is_object()) {
            let list: Vec<_> = value.as_object().unwrap().values().cloned().collect();
            assert_eq!(wrong(&serde_json::json!({name: list}).to_string()), [name.as_str()]);
        }
    }

    #[test]
    fn unknown_properties_are_not_changed() {
        for json in [
            r#"{"x-mine":{"root":[1]},"annotations":{"root":"[]"},"process":{"args":["sh","["],"env":["A=[\"]"]}}"#,
            r#"{"linux":{"maskedPaths":["/proc/\"["],"sysctl":{"a":"{"}}}"#,
        ] {
            assert_eq!(wrong(json), Vec::<String>::new(), "{json}");
        }
        assert!(!is_sound(b"[]") && !is_sound(br#"{"r\u006fot":[]}"#));
    }
}
