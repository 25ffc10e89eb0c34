//! Nothing that config.json sets is silently ignored.

use libcontainer::config;
use libcontainer::plan::Plan;
use libcontainer::plan::step::Origin;
use serde_json::Value;

use super::cases;

/// Properties that are not a step of the plan, and where they are used.
const ELSEWHERE: [&str; 20] = [
    "ociVersion",                 // read by `load`, kept in the state
    "annotations",                // in the state, for hooks
    "process.env",                // in the step of process.args
    "process.consoleSize",        // in the step of process.terminal
    "process.execCPUAffinity",    // for exec only (SPEC: config.md#linux-process)
    "process.terminal",           // false
    "process.noNewPrivileges",    // false
    "process.selinuxLabel",       // empty
    "process.apparmorProfile",    // unconfined
    "root.readonly",              // false
    "linux.rootfsPropagation",    // private, as every root is at first
    "linux.mountLabel",           // among the options of mounts
    "linux.gidMappings",          // with linux.uidMappings
    "linux.resources.cpu.shares", // 0, or idle
    "linux.resources.cpu.period", // with quota, in one file
    "linux.resources.memory",     // 0 is nothing; checkBeforeUpdate is for update
    "linux.resources.network",    // 0
    "linux.resources.blockIO",    // empty
    "linux.devices",              // /dev/ptmx, which is always a link
    "linux.seccomp",              // one step
];

/// Checks that every value of the config is the origin of a step, or that a warning names it.
fn nothing_is_ignored(text: &[u8], plan: &Plan) -> Result<(), String> {
    let mut places: Vec<String> = plan.lines().into_iter().map(|line| line.from).collect();
    places.extend(plan.init.iter().filter_map(|step| match &step.from {
        Origin::At(at) => Some(at.to_string()),
        Origin::Runtime(_) => None,
    }));
    let warnings = plan.warnings.iter().cloned().chain(config::unknown_properties(text));
    places.extend(warnings.map(|warning| warning.at.to_string()));
    let inside = |long: &str, short: &str| {
        long.strip_prefix(short).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    let mut leaves = Vec::new();
    leaf_places(&serde_json::from_slice(text).unwrap(), String::new(), &mut leaves);
    let ignored: Vec<_> = leaves
        .into_iter()
        .filter(|leaf| !leaf.starts_with("x-") && !ELSEWHERE.iter().any(|place| inside(leaf, place)))
        .filter(|leaf| !places.iter().any(|place| !place.is_empty() && (inside(leaf, place) || inside(place, leaf))))
        .collect();
    if ignored.is_empty() { Ok(()) } else { Err(format!("silently ignored: {}", ignored.join(", "))) }
}

fn leaf_places(value: &Value, at: String, leaves: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                // The name of a sysctl may have dots or slashes.
                let name = if at == "linux.sysctl" { name.replace('/', ".") } else { name.clone() };
                leaf_places(value, if at.is_empty() { name } else { format!("{at}.{name}") }, leaves);
            }
        }
        Value::Array(list) => {
            for (n, value) in list.iter().enumerate() {
                leaf_places(value, format!("{at}[{n}]"), leaves);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => leaves.push(at),
    }
}

#[test]
fn no_request_is_silently_ignored() {
    let mut all = Vec::new();
    for case in cases::all("plan").into_iter().filter(|case| case.host.get("exec").is_none()) {
        let (_, plan) = case.plan().unwrap();
        all.extend(nothing_is_ignored(&case.text, &plan).err().map(|what| format!("{}: {what}", case.name())));
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
}
