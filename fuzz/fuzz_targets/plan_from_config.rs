//! Any bytes as config.json: loading and planning must return faults or succeed. The same bytes are also read as a
//! process object and as a resources object. If they are a config, its process is also planned as a further process.
#![no_main]

use std::hint::black_box;
use std::sync::LazyLock;

use libcontainer::config::{self, At};
use libcontainer::plan::resources::update;
use serde_json::{Value, json};

#[path = "../../tests/cases/mod.rs"]
mod cases;

/// Hosts and command lines, in the format of tests/*/*.host: root with version 2 and all labels; root with version 1;
/// an ordinary user; root in a user namespace; a further process.
static HOSTS: LazyLock<[Value; 6]> = LazyLock::new(|| {
    let all = json!(["pid", "network", "ipc", "uts", "mount", "cgroup", "user", "time"]);
    [
        json!({"apparmor": true, "own apparmor files": true, "selinux": true}),
        json!({"cgroups": "v1", "no pivot": true, "notify": true}),
        json!({"cgroups": "hybrid", "uid": 1000, "nested": true, "bounding": 0, "resctrl": "not mounted"}),
        json!({"cgroups": "none", "nested": true, "no console socket": true, "no cgroup": true, "resctrl": "unknown"}),
        json!({"exec": {"namespaces": all}}),
        json!({"exec": {"namespaces": ["pid"]}, "cgroups": "v1", "uid": 1000, "listen fds": 2}),
    ]
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    black_box(config::unknown_properties(bytes));
    let _ = black_box(config::load_process(bytes, &At::new("process")));
    if let Ok((asked, _)) = config::load_resources(bytes) {
        for layout in ["v1", "v2"] {
            let before = json!({"pids": {"limit": 5}});
            let _ = black_box(update::update(&before, &asked, &cases::cgroups(layout)));
        }
    }
    let Ok(config) = config::load(bytes) else { return };
    for host in HOSTS.iter() {
        if host.get("exec").is_some() && config.spec.process().is_none() {
            continue;
        }
        // The plan as `explain` prints it, or the messages for its mistakes.
        black_box(match cases::plan_of(&config, host) {
            Ok(plan) => plan.to_string(),
            Err(faults) => faults.to_string(),
        });
    }
});
