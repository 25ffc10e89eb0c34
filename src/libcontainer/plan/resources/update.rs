//! New limits for a running container. The request is merged into the current limits, and only changes are written.
//! Resources are JSON objects here, so unknown properties are kept.

use std::collections::HashSet;

use oci_spec::runtime::LinuxResources;
use serde_json::{Map, Value, json};

use super::{DEVICES, DeviceAccess, OnFailure, Write, devices, unused, writes};
use crate::config::{At, Faults, Warning};
use crate::host::cgroups::Cgroups;

/// Numbers for which 0 is a value. For all others, 0 means "unchanged", and clients send it.
const ZERO_COUNTS: [&str; 6] =
    ["cpu.idle", "cpu.burst", "memory.swappiness", "hugepageLimits", "rdma", "network.classID"];

/// The result of an update.
#[derive(Clone, Debug)]
pub struct UpdatedResources {
    /// The resources in force afterwards.
    pub resources: Value,
    /// The limits that change, or that the request names.
    pub writes: Vec<Write>,
    /// The limits that do not change.
    pub kept: Vec<Write>,
    /// Device access if the request has it: the new and the old one.
    pub devices: Option<[DeviceAccess; 2]>,
    /// Warnings for the user.
    pub warnings: Vec<Warning>,
}

/// The update that turns the resources `there` into `requested`.
///
/// # Errors
/// All mistakes in the resulting resources, each with its place in `linux.resources`.
pub fn update(there: &Value, requested: &Value, cgroups: &Cgroups) -> Result<UpdatedResources, Faults> {
    let (there, requested) = (&without_unset(there, ""), without_unset(requested, ""));
    let mut resources = merge(there, &requested);
    forget_overwritten(&mut resources, &requested, cgroups)?;
    let (old, new) = (typed(there)?, typed(&resources)?);
    let mut faults = Faults::none();
    if requested["cpu"]["shares"].is_number() && resources["cpu"]["idle"] == 1 {
        faults.add(At::new("linux.resources.cpu.shares"), "a group that idles (cpu.idle is 1) has no shares");
    }
    let wanted = faults.collect(writes(&new, cgroups)).unwrap_or_default();
    let before: HashSet<_> = writes(&old, cgroups).unwrap_or_default().into_iter().map(file_and_value).collect();
    let is_new_or_requested =
        |write: &Write| !before.contains(&file_and_value(write.clone())) || is_requested(&write.at, &requested);
    let devices = match &requested["devices"] {
        Value::Array(_) => {
            let access =
                |resources: &LinuxResources| devices(resources.devices().as_deref().unwrap_or_default(), cgroups);
            let (new, old) = (faults.collect(access(&new)), faults.collect(access(&old).map_err(of_current_rules)));
            new.zip(old).map(|(new, old)| [new, old])
        }
        _ => None,
    };
    let warnings = typed(&requested).map(|requested| unused(&requested)).unwrap_or_default();
    let (mut writes, kept): (Vec<_>, _) = wanted.into_iter().partition(is_new_or_requested);
    writes.extend(oom_killer(there, &requested, cgroups));
    faults.into_result(UpdatedResources { resources, writes, kept, devices, warnings })
}

/// The rules of the container itself are not at a place of the request.
fn of_current_rules(wrong: Faults) -> Faults {
    let mut all = Faults::none();
    for fault in wrong.iter() {
        let text = format!("the container's current rules cannot be read: {}: {}", fault.at, fault.problem);
        all.add(At::new(DEVICES), text);
    }
    all
}

fn file_and_value(write: Write) -> (String, String, String) {
    (write.controller, write.file, write.value)
}

fn typed(resources: &Value) -> Result<LinuxResources, Faults> {
    if resources.is_null() {
        return Ok(LinuxResources::default());
    }
    serde_json::from_value(resources.clone())
        .map_err(|error| Faults::one(At::new("linux.resources"), error.to_string()))
}

/// Removes what the request does not set: null, an empty string, and 0 where 0 is not a value.
fn without_unset(value: &Value, at: &str) -> Value {
    if let (Value::Array(rules), "devices") = (value, at) {
        // In a rule, 0 is a number, and "" as a type means no type.
        let mut rules = rules.clone();
        let empty = |rule: &Value| rule["type"] == "";
        for rule in rules.iter_mut().filter(|rule| empty(rule)).filter_map(Value::as_object_mut) {
            rule.remove("type");
        }
        return Value::Array(rules);
    }
    let Value::Object(object) = value else { return value.clone() };
    let mut kept = Map::new();
    for (key, value) in object {
        let place = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
        let zero_counts = ZERO_COUNTS.iter().any(|there| place.starts_with(there));
        let nothing = match value {
            Value::Null => true,
            Value::String(text) => text.is_empty() && at != "unified",
            Value::Number(number) => number.as_i64() == Some(0) && !zero_counts,
            // As with runc: an empty list leaves the current rules.
            Value::Array(rules) => rules.is_empty() && place == "devices",
            _ => false,
        };
        if !nothing {
            kept.insert(key.clone(), without_unset(value, &place));
        }
    }
    // In oci-spec a missing pids limit is 0, and 0 means the smallest limit.
    if at.is_empty() && kept.get("pids").is_some_and(|pids| pids["limit"].is_null()) {
        kept.remove("pids");
    }
    Value::Object(kept)
}

fn merge(there: &Value, requested: &Value) -> Value {
    let mut all = there.clone();
    if !all.is_object() {
        all = json!({});
    }
    merge_into(&mut all, requested);
    let memory = &requested["memory"];
    if memory["limit"] == -1 && memory["swap"].is_null() {
        all["memory"]["swap"] = json!(-1);
    }
    all
}

/// Enables the OOM killer of version 1 again if it was disabled. A new group has it enabled.
fn oom_killer(there: &Value, requested: &Value, cgroups: &Cgroups) -> Option<Write> {
    let disabled = |resources: &Value| resources["memory"]["disableOOMKiller"].as_bool();
    let again = (disabled(there), disabled(requested)) == (Some(true), Some(false));
    (again && cgroups.v1.iter().any(|hierarchy| hierarchy.has("memory"))).then(|| Write {
        controller: "memory".to_owned(),
        file: "memory.oom_control".to_owned(),
        value: "0".to_owned(),
        on_failure: OnFailure::Fail,
        unless_used: None,
        at: At::new("linux.resources.memory.disableOOMKiller"),
    })
}

/// Removes lines of `unified` for files that the update writes by another property: the last request counts.
fn forget_overwritten(resources: &mut Value, requested: &Value, cgroups: &Cgroups) -> Result<(), Faults> {
    if resources["unified"].as_object().is_none_or(Map::is_empty) {
        return Ok(());
    }
    // Mistakes are reported later, together with all others.
    let files: Vec<_> = writes(&typed(resources)?, cgroups).unwrap_or_default();
    let by_property = |write: &&Write| unified_file(&write.at).is_none() && is_requested(&write.at, requested);
    for write in files.iter().filter(by_property) {
        if let Some(lines) = resources["unified"].as_object_mut()
            && requested["unified"][&write.file].is_null()
        {
            lines.remove(&write.file);
        }
    }
    Ok(())
}

/// The file of a line in `unified`.
fn unified_file(at: &At) -> Option<&str> {
    at.as_str().strip_prefix("linux.resources.unified.")
}

/// Merges objects property by property, and a list of limits by the thing that each limit is for. Device rules are one
/// ordered list, and are replaced.
fn merge_into(there: &mut Value, requested: &Value) {
    let (Value::Object(there), Value::Object(requested)) = (there, requested) else { return };
    for (key, value) in requested {
        match there.get_mut(key) {
            Some(old @ Value::Object(_)) if value.is_object() => merge_into(old, value),
            Some(Value::Array(old)) if key != "devices" && value.is_array() => {
                value.as_array().into_iter().flatten().for_each(|entry| merge_entry(old, entry));
            }
            _ => drop(there.insert(key.clone(), value.clone())),
        }
    }
}

fn merge_entry(list: &mut Vec<Value>, entry: &Value) {
    let names = ["major", "minor", "pageSize", "name"];
    // If there are two entries for one device, the kernel gets both, and the last one counts.
    match list.iter_mut().rfind(|there| names.iter().all(|name| there[*name] == entry[*name])) {
        Some(there) => merge_into(there, entry),
        None => list.push(entry.clone()),
    }
}

/// Whether the request has the property of a write. Quota and period are one file.
fn is_requested(at: &At, requested: &Value) -> bool {
    if let Some(file) = unified_file(at) {
        return !requested["unified"][file].is_null();
    }
    let place = at.as_str().strip_prefix("linux.resources.").unwrap_or_default();
    // The name of a device may have dots.
    if let Some(device) = place.strip_prefix("rdma.") {
        return !requested["rdma"][device].is_null();
    }
    let mut names = place.split(['.', '[']);
    let (section, name) = (&requested[names.next().unwrap_or_default()], names.next().unwrap_or_default());
    match (section, name) {
        (Value::Array(_), _) => true,
        (_, "quota" | "period") => section["quota"].is_number() || section["period"].is_number(),
        (_, name) => !section[name].is_null(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::cgroups::{Hierarchy, Unified};

    fn v1() -> Cgroups {
        let hierarchy = |name: &str| Hierarchy { controllers: vec![name.into()], ..Hierarchy::default() };
        let names = ["pids", "memory", "cpu", "cpuset", "blkio", "hugetlb", "devices"];
        Cgroups { v1: names.map(hierarchy).to_vec(), v2: None }
    }

    fn v2() -> Cgroups {
        Cgroups { v1: vec![], v2: Some(Unified::default()) }
    }

    fn json(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    fn written(there: &str, requested: &str, cgroups: &Cgroups) -> Vec<String> {
        let update = update(&json(there), &json(requested), cgroups).unwrap();
        update.writes.iter().map(|write| format!("{}={}", write.file, write.value)).collect()
    }

    #[test]
    fn the_request_is_merged_into_the_current_values() {
        let cases = [
            (r#"{"memory":{"limit":5}}"#, r#"{"memory":{"swap":7}}"#, r#"{"memory":{"limit":5,"swap":7}}"#),
            (
                r#"{"memory":{"limit":5,"swap":9}}"#,
                r#"{"memory":{"limit":-1}}"#,
                r#"{"memory":{"limit":-1,"swap":-1}}"#,
            ),
            (r#"{"cpu":{"shares":5}}"#, r#"{"cpu":{"shares":0,"cpus":"","mems":null}}"#, r#"{"cpu":{"shares":5}}"#),
            (r#"{"cpu":{"idle":1}}"#, r#"{"cpu":{"idle":0}}"#, r#"{"cpu":{"idle":0}}"#),
            (r#"{"pids":{"limit":5}}"#, r#"{"pids":{}}"#, r#"{"pids":{"limit":5}}"#),
            (r#"{"pids":{"limit":5}}"#, r#"{"pids":{"limit":0}}"#, r#"{"pids":{"limit":5}}"#),
            (r#"{"devices":[{"allow":false}]}"#, r#"{"devices":[]}"#, r#"{"devices":[{"allow":false}]}"#),
            (r#"null"#, r#"{"unified":{"a.b":""}}"#, r#"{"unified":{"a.b":""}}"#),
            (
                r#"{"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":1},{"major":8,"minor":1,"rate":1}]}}"#,
                r#"{"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":1,"rate":2},{"major":8,"minor":2,"rate":3}]}}"#,
                r#"{"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":1},{"major":8,"minor":1,"rate":2},
                    {"major":8,"minor":2,"rate":3}]}}"#,
            ),
            (
                r#"{"hugepageLimits":[{"pageSize":"2MB","limit":5}],"strange":7}"#,
                r#"{"hugepageLimits":[{"pageSize":"2MB","limit":0}]}"#,
                r#"{"hugepageLimits":[{"pageSize":"2MB","limit":0}],"strange":7}"#,
            ),
        ];
        for (there, requested, expected) in cases {
            let requested = without_unset(&json(requested), "");
            let there = without_unset(&json(there), "");
            assert_eq!(merge(&there, &requested), json(expected), "{there} {requested}");
        }
    }

    #[test]
    fn only_changed_or_requested_values_are_written() {
        let there = r#"{"memory":{"limit":10,"swap":30},"pids":{"limit":5},"cpu":{"quota":5000,"period":20000}}"#;
        assert_eq!(written(there, "{}", &v1()), [""; 0]);
        assert_eq!(written(there, r#"{"pids":{"limit":5}}"#, &v1()), ["pids.max=5"]);
        let device = r#"{"rdma":{"mlx5_0.1":{"hcaHandles":3}}}"#;
        assert_eq!(written(device, device, &v2()), ["rdma.max=mlx5_0.1 hca_handle=3"]);
        let disabled = r#"{"memory":{"disableOOMKiller":true}}"#;
        assert_eq!(written(disabled, r#"{"memory":{"disableOOMKiller":false}}"#, &v1()), ["memory.oom_control=0"]);
        assert_eq!(written(there, r#"{"memory":{"limit":20}}"#, &v1()), ["memory.limit_in_bytes=20"]);
        // Version 2 has a limit of swap alone, and the period beside the quota.
        assert_eq!(written(there, r#"{"memory":{"limit":20}}"#, &v2()), ["memory.max=20", "memory.swap.max=10"]);
        assert_eq!(written(there, r#"{"cpu":{"quota":7000}}"#, &v2()), ["cpu.max=7000 20000"]);
        assert_eq!(written(there, r#"{"cpu":{"period":30000}}"#, &v2()), ["cpu.max=5000 30000"]);
        assert_eq!(written(there, r#"{"memory":{"limit":-1}}"#, &v2()), ["memory.max=max", "memory.swap.max=max"]);
    }

    #[test]
    fn what_is_not_written_is_kept() {
        let there = r#"{"pids":{"limit":5},"memory":{"limit":9},"cpu":{"quota":5000,"period":20000}}"#;
        let kept = |requested| update(&json(there), &json(requested), &v2()).unwrap().kept;
        let files = |kept: Vec<Write>| kept.iter().map(|write| write.file.clone()).collect::<Vec<_>>();
        assert_eq!(files(kept(r#"{"pids":{"limit":7}}"#)), ["memory.max", "cpu.max"]);
        assert_eq!(files(kept(r#"{"cpu":{"period":7000}}"#)), ["pids.max", "memory.max"]);
    }

    #[test]
    fn the_last_to_ask_for_a_file_of_version_2_is_obeyed() {
        let there = r#"{"memory":{"limit":10},"unified":{"memory.max":"20","memory.high":"15"}}"#;
        assert_eq!(written(there, r#"{"pids":{"limit":5}}"#, &v2()), ["pids.max=5"]);
        assert_eq!(written(there, r#"{"memory":{"limit":30}}"#, &v2()), ["memory.max=30"]);
        let after = update(&json(there), &json(r#"{"memory":{"limit":30}}"#), &v2()).unwrap().resources;
        assert_eq!(after["unified"], json(r#"{"memory.high":"15"}"#));
        assert_eq!(written(there, r#"{"unified":{"memory.high":"16"}}"#, &v2()), ["memory.high=16"]);
        let both = r#"{"memory":{"limit":30},"unified":{"memory.max":"40"}}"#;
        assert_eq!(written(there, both, &v2()), ["memory.max=30", "memory.max=40"]);
    }

    #[test]
    fn a_group_that_idles_gets_its_shares_back_when_it_wakes() {
        let there = r#"{"cpu":{"shares":1024,"idle":1}}"#;
        assert_eq!(written(there, r#"{"cpu":{"idle":0}}"#, &v2()), ["cpu.idle=0", "cpu.weight=100"]);
        assert_eq!(written(r#"{"cpu":{"shares":1024}}"#, r#"{"cpu":{"idle":1}}"#, &v2()), ["cpu.idle=1"]);
        let faults = update(&json(there), &json(r#"{"cpu":{"shares":5}}"#), &v2()).unwrap_err().to_string();
        assert!(faults.contains("linux.resources.cpu.shares: a group that idles"), "{faults}");
    }

    #[test]
    fn contradicting_values_are_reported() {
        let there = r#"{"memory":{"limit":10,"swap":20}}"#;
        let faults = update(&json(there), &json(r#"{"memory":{"limit":30}}"#), &v2()).unwrap_err().to_string();
        assert!(
            faults.contains("linux.resources.memory.swap: 20 is for memory and swap together: it must not be below"),
            "{faults}"
        );
    }

    #[test]
    fn current_device_rules_that_cannot_be_read_are_a_fault() {
        let there = r#"{"devices":[{"allow":false,"type":"c","major":1,"access":"x"}]}"#;
        let requested = r#"{"devices":[{"allow":true,"type":"c","major":10,"minor":229,"access":"rw"}]}"#;
        let faults = update(&json(there), &json(requested), &v1()).unwrap_err().to_string();
        let expected = "linux.resources.devices: the container's current rules cannot be read: linux.resources.devices[0].access: ";
        assert!(faults.contains(expected), "{faults}");
    }

    #[test]
    fn devices_do_not_change_without_a_request() {
        let there = r#"{"devices":[{"allow":false}]}"#;
        for nothing in [r#"{"devices":null}"#, r#"{"devices":[]}"#] {
            assert!(update(&json(there), &json(nothing), &v1()).unwrap().devices.is_none(), "{nothing}");
        }
        let requested = r#"{"devices":[{"allow":true,"type":"c","major":10,"minor":229,"access":"rw"}]}"#;
        let [new, old] = update(&json(there), &json(requested), &v1()).unwrap().devices.unwrap();
        let (DeviceAccess::List(new), DeviceAccess::List(old)) = (new, old) else { panic!("no lists") };
        let from = old.writes("");
        let shown: String = from.iter().map(|write| format!("{}\n", write.value)).collect();
        let lines: Vec<_> = new.writes(&shown).into_iter().map(|w| format!("{} {}", w.file, w.value)).collect();
        assert_eq!(lines, ["devices.allow c 10:229 rw"]);
    }
}
