//! Writing to the shim's own file from inside of a container, by /proc/PID/exe: CVE-2019-5736. The attacker is `write-exe` of
//! integration/security/attacker.c: it keeps a descriptor of every program that it sees, and opens it for writing as soon as
//! no process runs it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::messages::google::Empty;
use crate::messages::task::*;
use crate::world::{Client, World, gone, root_is_here, world};

/// Compiles the attacker into the containers' root.
fn put_attacker(world: &World) -> bool {
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../integration/security/attacker.c");
    let mut cc = Command::new("cc");
    cc.args(["-static", "-O1", "-pthread", "-o"]).arg(world.path("rootfs/attacker")).arg(source);
    cc.status().is_ok_and(|status| status.success())
}

/// A bundle whose program is the attacker, with all that a privileged container may do.
fn privileged(world: &World, id: &str, args: &[&str], pids: Option<u32>) {
    let path = world.bundles.join(id).join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&path).expect("config.json")).expect("JSON");
    let all = json!(["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_SYS_PTRACE"]);
    config["process"]["capabilities"] = json!({"effective": all, "permitted": all, "bounding": all});
    config["process"]["args"] = json!(args);
    if let Some(pid) = pids {
        config["linux"]["namespaces"][0]["path"] = json!(format!("/proc/{pid}/ns/pid"));
    }
    fs::write(path, config.to_string()).expect("config.json");
}

/// The attacker again, which says how it is used and ends with 2: the file is the attacker's own, which it leaves alone.
fn exec(client: &mut Client, exec: &str) {
    let mut order = Client::exec_order("c1", exec, "");
    let all = json!(["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_SYS_PTRACE"]);
    let capabilities = json!({"effective": all, "permitted": all, "bounding": all});
    let object = json!({"cwd": "/", "args": ["/attacker"], "env": [], "user": {"uid": 0, "gid": 0}, "capabilities": capabilities});
    order.spec.as_mut().expect("a process").value = object.to_string().into_bytes();
    let _: Empty = client.call("Exec", &order).expect("Exec");
    client.start("c1", exec).expect("Start");
    let ended: WaitResponse = client.call("Wait", &Client::wait("c1", exec)).expect("Wait");
    assert_eq!(ended.exit_status, 2);
    client.delete("c1", exec).expect("Delete");
}

#[test]
fn the_file_of_the_shim_cannot_be_written_by_a_container() {
    if !root_is_here() {
        return;
    }
    let mut world = world();
    if !put_attacker(&world) {
        println!("skipped: no C compiler");
        return;
    }
    fs::copy(&world.program, world.path("copy")).expect("a copy");
    world.program = world.path("copy");
    let before = fs::read(&world.program).expect("the copy");
    privileged(&world, "c1", &["/attacker", "write-exe", "/stop", "copy"], None);
    world.bundle("c2");
    let mut client = world.start();
    let first = client.create(&world, "c1").expect("Create");
    client.start("c1", "").expect("Start");
    let said = || fs::read_to_string(world.path("out")).unwrap_or_default();
    gone("the attacker's silence", || !said().contains("ready"));
    for n in 0..20 {
        exec(&mut client, &format!("e{n}"));
    }
    // a container that comes later into the same pid namespace, as with shareProcessNamespace
    privileged(&world, "c2", &["/attacker"], Some(first.pid));
    for _ in 0..5 {
        client.create(&world, "c2").expect("Create");
        client.start("c2", "").expect("Start");
        let ended: WaitResponse = client.call("Wait", &Client::wait("c2", "")).expect("Wait");
        assert_eq!(ended.exit_status, 2);
        client.delete("c2", "").expect("Delete");
    }
    let seen = said();
    assert!(seen.contains("holds"), "it saw no program of ours: {seen}");
    assert!(!seen.contains("wrote") && !seen.contains("could write"), "{seen}");
    // no process runs it any more
    client.kill();
    std::thread::sleep(Duration::from_millis(300));
    assert!(fs::read(&world.program).expect("the copy") == before, "written: {}", said());
    world.clear();
}
