//! events: statistics of a container, and the event when its memory runs out.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::cgroups::{directory, read, unified};
use crate::world::{Who, World, wait_until};
use crate::{needs, needs_cgroup, only};

#[test]
fn stats_are_runcs_numbers() {
    needs_cgroup!();
    only!(Who::Us, Who::Runc; "has no events command");
    let mut world = World::running(&["sleep", "1000"]);
    *world.at("/linux/resources/memory") = json!({"limit": 64 << 20});
    *world.at("/linux/resources/pids") = json!({"limit": 50});
    world.begin();
    let event: Value = serde_json::from_str(&world.call(&["events", "--stats", &world.id]).ok()).unwrap();
    assert_eq!((event["type"].as_str(), event["id"].as_str()), (Some("stats"), Some(world.id.as_str())));
    let data = &event["data"];
    assert_eq!(data["memory"]["usage"]["limit"], 64 << 20);
    assert!(data["memory"]["usage"]["usage"].as_u64().unwrap() > 0, "{data}");
    assert_eq!(data["pids"], json!({"current": 1, "limit": 50}));
    assert!(data["cpu"]["usage"]["total"].as_u64().unwrap() > 0, "{data}");
}

#[test]
fn pressure_and_the_peak_are_printed_if_the_kernel_has_them() {
    needs_cgroup!();
    only!(Who::Us; "Debian's runc knows neither, and crun has no events command");
    needs!(unified(), "version 1 has neither");
    let mut world =
        World::running(&["sh", "-c", "dd if=/dev/zero of=/dev/shm/x bs=1M count=12; rm /dev/shm/x; sleep 1000"]);
    *world.at("/linux/resources/memory") = json!({"limit": 64 << 20});
    world.begin();
    let group = directory("", &world.group());
    let number = |file: &str| read(&group, file).parse::<u64>().unwrap();
    wait_until("it has used memory and given it back", || {
        number("memory.current") < 8 << 20 && number("memory.peak") > 12 << 20
    });
    let event: Value = serde_json::from_str(&world.call(&["events", "--stats", &world.id]).ok()).unwrap();
    let data = &event["data"];
    assert_eq!(data["memory"]["usage"]["max"], number("memory.peak"), "{data}");
    for (controller, file) in [("cpu", "cpu.pressure"), ("memory", "memory.pressure"), ("blkio", "io.pressure")] {
        let psi = &data[controller]["psi"];
        // A kernel with psi=0 has the files, but reading them fails.
        match std::fs::read_to_string(group.join(file)) {
            Ok(text) => {
                assert!(psi["some"]["avg10"].is_f64() && psi["full"]["total"].is_u64(), "{controller}: {psi}\n{text}");
            }
            Err(_) => assert!(psi.is_null(), "{controller}: {psi}"),
        }
    }
}

#[test]
fn the_stream_tells_of_memory_running_out_and_ends_with_the_container() {
    needs_cgroup!();
    only!(Who::Us, Who::Runc; "has no events command");
    // Init survives: the kernel kills its child.
    let hungry = "sleep 1; (x=xxxxxxxxxxxxxxxx; while :; do x=$x$x; done); echo oom; sleep 1000";
    let mut world = World::running(&["sh", "-c", hungry]);
    *world.at("/linux/resources/memory") = json!({"limit": 16 << 20, "swap": 16 << 20});
    world.begin();
    let mut events = world.command(&["events", "--interval", "100ms", &world.id]);
    let mut events = events.stdout(Stdio::piped()).spawn().unwrap();
    let mut kinds = Vec::new();
    for line in BufReader::new(events.stdout.take().unwrap()).lines() {
        let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let kind = event["type"].as_str().unwrap().to_owned();
        let over = kind == "oom";
        kinds.push(kind);
        if over {
            break;
        }
    }
    assert!(kinds.contains(&"stats".to_owned()) && kinds.contains(&"oom".to_owned()), "{kinds:?}");
    world.call(&["kill", &world.id, "KILL"]).ok();
    wait_until("the stream ends", || events.try_wait().unwrap().is_some());
}

#[test]
fn a_stopped_container_and_a_bad_interval_are_errors() {
    only!(Who::Us; "words of ours");
    let world = World::running(&["true"]);
    world.begin();
    world.wait_for_status("stopped");
    assert!(world.call(&["events", "--stats", &world.id]).fails().contains("is not running"));
    let said = world.call(&["events", "--interval", "0s", &world.id]).fails();
    assert!(said.contains("must be greater than 0"), "{said}");
}
