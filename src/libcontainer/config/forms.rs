//! Older and generated forms of a document. Forms that every runtime accepts are changed to the current one. A form
//! that has no meaning any more gives one mistake, and not one for each of its lines.

use serde_json::{Value, json};

use super::places::NAMED_BY_USERS;
use super::{At, Faults, Warning};

/// Removes properties that are null. As with runc and crun, a null property counts as missing. In an object with names
/// that users choose, a null is a value of the wrong type.
pub(super) fn without_nulls(document: &mut Value) {
    match document {
        Value::Object(properties) => {
            properties.retain(|_, value| !value.is_null());
            properties
                .iter_mut()
                .filter(|(name, _)| !NAMED_BY_USERS.contains(&name.as_str()) && *name != "timeOffsets")
                .for_each(|(_, value)| without_nulls(value));
        }
        Value::Array(list) => list.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

/// Changes older forms of a document, which is a config.json or a process object, to the current ones. `at` is its place.
pub(super) fn as_today(document: &mut Value, at: &At, warnings: &mut Vec<Warning>, faults: &mut Faults) {
    // a process object has this place, and a config.json has none
    let process = if at.as_str() == "process" { Some(&mut *document) } else { document.get_mut("process") };
    if let Some(process) = process.and_then(Value::as_object_mut) {
        root_is_the_user(process);
    }
    for rules in ["/linux/resources/devices", "/devices"] {
        document.pointer_mut(rules).into_iter().for_each(all_types);
    }
    let at = at.key("linux").key("seccomp");
    let Some(linux) = document.get_mut("linux").and_then(Value::as_object_mut) else { return };
    if linux.get("seccomp").is_some_and(is_no_filter) {
        linux.remove("seccomp");
        let said = "has neither a defaultAction nor syscalls: as with runc, there is no filter".to_owned();
        warnings.push(Warning { at: at.clone(), said });
    }
    if let Some(syscalls) = linux.get_mut("seccomp").and_then(|seccomp| seccomp.get_mut("syscalls")) {
        one_name_each(syscalls, &at.key("syscalls"), faults);
    }
}

/// As with runc and crun: without a user, the process runs as root.
fn root_is_the_user(process: &mut serde_json::Map<String, Value>) {
    let Some(user) = process.entry("user").or_insert_with(|| json!({})).as_object_mut() else { return };
    for id in ["uid", "gid"] {
        user.entry(id).or_insert_with(|| json!(0));
    }
}

/// A device rule with the type "" has no type, so it is for all types.
fn all_types(rules: &mut Value) {
    for rule in rules.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        if rule.get("type").is_some_and(|kind| kind == "") {
            rule.remove("type");
        }
    }
}

/// The zero value, which generators in Go write.
fn is_no_filter(seccomp: &Value) -> bool {
    let Some(seccomp) = seccomp.as_object() else { return false };
    let empty = |name: &str| {
        seccomp.get(name).is_none_or(|value| match value {
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            _ => false,
        })
    };
    empty("defaultAction") && empty("syscalls")
}

/// From before version 1.0: `name` for one system call. Today `names` is a list. runc ignores such an entry, so the
/// filter would lack these rules.
fn one_name_each(syscalls: &mut Value, at: &At, faults: &mut Faults) {
    let Some(list) = syscalls.as_array_mut() else { return };
    let old = |entry: &Value| entry.get("names").is_none() && entry.get("name").is_some_and(Value::is_string);
    let count = list.iter().filter(|entry| old(entry)).count();
    if count > 0 {
        let have = if count == 1 { "has" } else { "have" };
        let said = format!(
            "{count} of the entries {have} `name`, the form from before version 1.0: write `\"names\": [\"…\"]`"
        );
        faults.add(at.clone(), said);
        list.retain(|entry| !old(entry));
    }
}
