//! Long lists in config.json: the time grows only with their length, and all numbers are large enough to count them.

use std::fs;

use serde_json::{Value, json};

use crate::only;
use crate::ordinary::root;
use crate::world::{Who, World};

/// If every pair were compared, this many entries would take minutes.
const MANY: u32 = 60_000;

fn entries(entry: impl Fn(u32) -> Value) -> Value {
    (0..MANY).map(entry).collect()
}

#[test]
fn no_list_is_compared_in_pairs() {
    only!(Who::Us; "the peers have no check");
    let maps = || entries(|n| json!({"containerID": 2 * n, "hostID": 2 * n, "size": 1}));
    let rule =
        |n: u32| json!({"allow": n.is_multiple_of(2), "type": "c", "major": n % 500, "minor": n, "access": "rwm"});
    let devices: serde_json::Map<_, _> = (0..MANY).map(|n| (format!("e{n}"), json!({}))).collect();
    let arg = |n: u32| json!({"names": ["personality"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": n, "op": "SCMP_CMP_EQ"}]});
    for (pointer, list, mistake) in [
        ("/process/env", entries(|n| json!(format!("V{n}=x"))), None),
        (
            "/linux/devices",
            entries(|n| json!({"path": format!("/dev/d{n}"), "type": "c", "major": 1, "minor": 3})),
            None,
        ),
        ("/linux/resources/devices", entries(rule), None),
        ("/linux/netDevices", devices.into(), None),
        ("/linux/uidMappings", maps(), Some("60000 mappings: the kernel accepts at most 340")),
        ("/linux/maskedPaths", entries(|n| json!(format!("/proc/m{n}"))), None),
        ("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": entries(arg)}), None),
        ("/mounts", entries(|n| json!({"destination": format!("/m{n}"), "type": "tmpfs", "source": "m"})), None),
        ("/unknown", entries(|n| json!({"a": n, "b": [n]})), None),
    ] {
        if pointer == "/linux/netDevices" && !root() {
            // Only root can move a device.
            continue;
        }
        let mut world = World::running(&["true"]);
        *world.at(pointer) = list;
        world.write();
        let checked = world.call(&["check", world.bundle().to_str().unwrap()]);
        match mistake {
            None => assert!(checked.ok().contains("no mistakes"), "{pointer}"),
            Some(mistake) => assert!(checked.fails().contains(mistake), "{pointer}"),
        }
    }
}

#[test]
fn more_steps_than_65536_are_counted() {
    only!(Who::Us; "the words are ours");
    let mut world = World::running(&["true"]);
    *world.at("/linux/maskedPaths") = (0..70_000).map(|n| json!(format!("/proc/none/{n}"))).collect();
    assert_eq!(world.run().code(), 0);
    *world.at("/process/args") = json!(["nothing-like-it"]);
    let said = world.run().fails();
    assert!(said.contains("process.args: exec: \"nothing-like-it\": executable file not found in $PATH"), "{said}");
    // The message for a killed init names its step, too.
    *world.at("/process/args") = json!(["true"]);
    *world.at("/linux/seccomp") = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["execve"], "action": "SCMP_ACT_KILL_PROCESS"}]});
    assert!(world.run().fails().contains("linux.seccomp: execve \"true\": killed by SIGSYS: the profile denies it"));
}

#[test]
fn a_large_config_is_not_held_in_pieces() {
    only!(Who::Us; "the peers have no check");
    let mut world = World::running(&["true"]);
    let many: Value = vec![1; 4_000_000].into();
    *world.at("/unknown") = many;
    let text = serde_json::to_vec(&world.config).unwrap();
    // An address space of five times the text is enough. A tree of values would need thirty times.
    let limit = 5 * text.len() / 1024 + 20 * 1024;
    for (cwd, code) in [(json!("/"), 0), (json!(5), 1)] {
        *world.at("/process/cwd") = cwd;
        fs::write(world.bundle().join("config.json"), serde_json::to_vec(&world.config).unwrap()).unwrap();
        let line = format!("ulimit -v {limit}; exec {} check", crate::world::runtime().display());
        let mut command = std::process::Command::new("bash");
        let checked = crate::world::finish(command.args(["-c", &line]).current_dir(world.bundle()));
        assert_eq!(checked.code(), code, "{}", checked.err);
    }
}
