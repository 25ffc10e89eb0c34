//! Recognizes files that people take for a config.json, and says where the right one is.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;

use super::At;
use super::places::PLACES;

/// Larger files are recognized only by their first bytes: files that people take for a config.json are small.
const LARGEST: usize = 1 << 20;

/// The names of a document's properties. Their values are not kept: a document of many values would take thirty times its size.
type PropertyNames = BTreeMap<String, IgnoredAny>;

/// The kind of a file that is not a config.json, and what to do. None if the file looks like a config.json, or if its kind is
/// unknown.
pub(super) fn kind(bytes: &[u8]) -> Option<String> {
    if let Some(said) = encoding(bytes) {
        return Some(said);
    }
    if bytes.len() > LARGEST {
        return None;
    }
    let text = std::str::from_utf8(bytes).ok()?;
    let parsed = match text.trim_start().as_bytes().first() {
        Some(b'[') => serde_json::from_str(text).map(|list: Vec<PropertyNames>| list.first().and_then(of_list)),
        _ => serde_json::from_str(text).map(|document: PropertyNames| of_document(&document)),
    };
    match parsed {
        Ok(kind) => kind.map(str::to_owned),
        Err(error) if error.is_data() => None,
        Err(error) => of_text(text, &error),
    }
}

/// The kind of a document that has no property of the object at `at`.
pub(super) fn instead_of_object(bytes: &[u8], at: &At) -> Option<String> {
    let document: PropertyNames = serde_json::from_slice(bytes).ok()?;
    let here = PLACES.iter().find(|(there, _)| *there == at.as_str())?.1;
    if document.keys().any(|name| here.contains(&name.as_str())) {
        return None;
    }
    // a whole config.json, or a part of one around the object
    if ["process", "root", "linux", "resources"].iter().any(|name| document.contains_key(*name)) {
        return Some(format!("is a config.json: pass only its object `{at}`"));
    }
    of_document(&document).map(str::to_owned)
}

fn encoding(bytes: &[u8]) -> Option<String> {
    let said = match bytes {
        [0xEF, 0xBB, 0xBF, ..] => {
            "begins with a byte order mark, which JSON does not allow: sed -i '1s/^\\xEF\\xBB\\xBF//'"
        }
        [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] | [b'{', 0, ..] | [0, b'{', ..] => {
            "is UTF-16, and JSON is UTF-8: iconv -f UTF-16 -t UTF-8"
        }
        [0x1F, 0x8B, ..] => "is compressed by gzip: gunzip it; a bundle needs the config.json itself",
        [0x7F, b'E', b'L', b'F', ..] => "is a program, not JSON",
        _ if bytes.get(257..262) == Some(b"ustar") => {
            "is a tar archive: unpack it; a bundle needs the config.json itself"
        }
        _ => return None,
    };
    Some(said.to_owned())
}

/// The names that a document of one kind has, and the message about that kind.
type Mark = (&'static [&'static str], &'static str);

const MARKS: [Mark; 12] = [
    (&["schemaVersion", "manifests"], INDEX),
    (
        &["schemaVersion", "layers"],
        "is the manifest of an image, not the config of a container: `coracle spec --from LAYOUT` makes one",
    ),
    (&["imageLayoutVersion"], INDEX),
    (
        &["rootfs", "architecture"],
        "is the config of an image, not of a container: `coracle spec --from LAYOUT` makes one",
    ),
    (&["rootfs", "history"], "is the config of an image, not of a container: `coracle spec --from LAYOUT` makes one"),
    (&["ociVersionMin"], "is the output of `features`"),
    (&["init_process_pid"], "is state.json, which a runtime writes: the config.json is in the container's bundle"),
    (
        &["ociVersion", "id", "status", "bundle"],
        "is the output of `state`: the config.json is in the directory that `bundle` names",
    ),
    (&["defaultAction", "syscalls"], "is a seccomp profile: it belongs in config.json as linux.seccomp"),
    (&["apiVersion", "kind"], "is an object of Kubernetes: an engine makes the config.json of a container from it"),
    (&["services"], "is a file of compose: an engine makes the config.json of a container from it"),
    (&["args", "cwd"], "is a process object: `exec --process` takes it, and in config.json it is `process`"),
];
const INDEX: &str = "is the index of an image, not the config of a container: `coracle spec --from LAYOUT` makes one";

/// A list, by its first element.
fn of_list(first: &PropertyNames) -> Option<&'static str> {
    let has = |names: &[&str]| names.iter().all(|name| first.contains_key(*name));
    if has(&["Id", "State"]) || has(&["Id", "RootFS"]) {
        Some("is the output of `inspect` (of an engine): the config.json is in the bundle, which `coracle list` shows")
    } else if has(&["Config", "Layers"]) {
        Some(
            "is the manifest of an image archive (docker save), not the config of a container: skopeo and umoci make a bundle of the image",
        )
    } else {
        None
    }
}

fn of_document(document: &PropertyNames) -> Option<&'static str> {
    let has = |name: &&str| document.contains_key(*name);
    let is_config = has(&"ociVersion") && (has(&"process") || has(&"root"));
    let mark = MARKS.iter().find(|(names, _)| names.iter().all(has));
    mark.filter(|_| !is_config).map(|(_, said)| *said)
}

/// A text that is not JSON.
fn of_text(text: &str, error: &serde_json::Error) -> Option<String> {
    let line = text.lines().nth(error.line().checked_sub(1)?).unwrap_or_default();
    // serde_json counts columns from 1
    let rest = line.get(error.column().saturating_sub(1)..).unwrap_or_default().trim_start();
    let at = |said: &str| Some(format!("is not JSON: {said} (line {}, column {})", error.line(), error.column()));
    if rest.starts_with("//") || rest.starts_with("/*") || rest.starts_with('#') && text.trim_start().starts_with('{') {
        return at("JSON has no comments");
    }
    let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'))?;
    let key = first
        .split_once(':')
        .is_some_and(|(key, _)| !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || "_-.".contains(c)));
    if first == "---" || first.starts_with("--- ") || first.starts_with("%YAML") || key {
        return at("it looks like YAML");
    }
    if rest.starts_with('\'') {
        return at("text stands in double quotes");
    }
    None
}

#[cfg(test)]
mod tests {
    use crate::config;

    #[test]
    fn the_wrong_kind_of_file_is_named() {
        let utf16: Vec<u8> = "{}".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let cases: [(&[u8], &str); 18] = [
            (b"\xEF\xBB\xBF{}", "begins with a byte order mark"),
            (&utf16, "is UTF-16"),
            (b"\x1F\x8B\x08", "is compressed by gzip"),
            (br#"{"schemaVersion":2,"manifests":[]}"#, "is the index of an image"),
            (br#"{"schemaVersion":2,"config":{},"layers":[]}"#, "is the manifest of an image"),
            (br#"{"architecture":"amd64","config":{},"rootfs":{"type":"layers"}}"#, "is the config of an image"),
            (br#"[{"Id":"a","State":{},"HostConfig":{}}]"#, "is the output of `inspect`"),
            (
                br#"{"ociVersion":"1.0.0","id":"a","pid":1,"status":"running","bundle":"/b"}"#,
                "is the output of `state`",
            ),
            (br#"{"id":"a","init_process_pid":1,"config":{}}"#, "is state.json"),
            (br#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[]}"#, "is a seccomp profile"),
            (br#"{"args":["sh"],"cwd":"/","user":{"uid":0,"gid":0}}"#, "is a process object"),
            (br#"{"apiVersion":"v1","kind":"Pod"}"#, "is an object of Kubernetes"),
            (br#"{"ociVersionMin":"1.0.0","ociVersionMax":"1.3.0"}"#, "is the output of `features`"),
            (b"ociVersion: 1.0.0\nprocess:\n", "it looks like YAML (line 1"),
            (b"---\na: 1\n", "it looks like YAML"),
            (b"{\n  // mine\n  \"ociVersion\": \"1.0.0\"}", "JSON has no comments (line 2"),
            (b"{\"ociVersion\": \"1.0.0\", # mine\n}", "JSON has no comments (line 1"),
            (b"{'ociVersion': '1.0.0'}", "text stands in double quotes"),
        ];
        for (bytes, expected) in cases {
            let said = config::load(bytes).unwrap_err().to_string();
            assert!(said.starts_with("config.json: ") && said.contains(expected), "{said}");
        }
    }

    #[test]
    fn a_config_stays_one_whatever_else_it_has() {
        let json = br#"{"ociVersion":"1.0.0","services":1,"apiVersion":"v1","kind":"x","root":{"path":5}}"#;
        assert!(config::load(json).unwrap().faults.to_string().contains("root.path: expected a string"));
        assert!(config::load(b"{\"a\": }").unwrap_err().to_string().contains("expected value (line 1, column 7)"));
    }
}
