//! `start` in the forms of containerd 1.6 to 2.3, and the containers that share a shim.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use prost::Message;
use serde_json::json;

use crate::messages::bootstrap::{BootstrapParams, BootstrapResult};
use crate::messages::google::Any;
use crate::messages::task::*;
use crate::world::{Client, V2, V3, World, gone, root_is_here, world};

fn text(out: &std::process::Output) -> String {
    assert!(out.status.success(), "start: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout.clone()).expect("UTF-8")
}

/// One life with the shim at that address, and its service.
fn live(world: &World, address: &str, service: &'static str) {
    let mut client = Client::to(address);
    client.service = service;
    client.create(world, "c1").expect("Create");
    client.start("c1", "").expect("Start");
    assert_eq!(fs::read_to_string(world.bundles.join("c1/address")).expect("the address"), address);
    client.end_c1();
    gone("the socket", || Path::new(address.trim_start_matches("unix://")).exists());
    world.assert_empty();
}

/// containerd 1.6 sends no version and reads an address. Later ones send theirs and read JSON. From 2.3 on, both are messages.
#[test]
fn each_containerd_gets_the_answer_that_it_reads() {
    if !root_is_here() {
        return;
    }
    let mut world = world();
    let options = Any::of("containerd.runc.v1.Options", &world.options()).encode_to_vec();
    live(&world, &text(&world.act("start", &options)), V2);
    live(&world, &text(&world.act("start", b"")), V2);
    for (highest, version, service) in [("2", 2, V2), ("3", 3, V3), ("4", 3, V3)] {
        world.variables = vec![("MAX_SHIM_VERSION", highest.into())];
        let answer = text(&world.act("start", &options));
        let answer: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!((&answer["version"], &answer["protocol"]), (&json!(version), &json!("ttrpc")));
        live(&world, answer["address"].as_str().expect("an address"), service);
    }
    let out = world.start_shim();
    let answer = BootstrapResult::decode(&*out.stdout).expect("a BootstrapResult");
    assert_eq!((answer.version, &*answer.protocol), (3, "ttrpc"));
    assert!(answer.address.starts_with(&format!("unix://{}/", world.text("s"))), "{}", answer.address);
    live(&world, &answer.address, V3);
}

/// The addresses of containers with these annotations.
fn addresses(world: &World, annotations: &[(&str, serde_json::Value)]) -> Vec<String> {
    let start = |(id, value): &(&str, serde_json::Value)| {
        world.edit(id, |config| config["annotations"] = value.clone());
        let params =
            BootstrapParams { instance_id: (*id).into(), socket_dir: world.text("s"), ..BootstrapParams::default() };
        let out = world.act_on(id, "start", &params.encode_to_vec());
        BootstrapResult::decode(&*out.stdout).expect("a BootstrapResult").address
    };
    annotations.iter().map(start).collect()
}

#[test]
fn containers_of_a_group_have_one_shim() {
    if !root_is_here() {
        return;
    }
    let world = world();
    for id in ["c2", "c3", "c4", "c5"] {
        world.bundle(id);
    }
    let (runc, cri) = ("io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id");
    let all = addresses(
        &world,
        &[
            ("c1", json!({cri: "pod"})),
            ("c2", json!({cri: "pod", "other": "x"})),
            // the first of the two counts
            ("c3", json!({runc: "group", cri: "pod"})),
            // its id is its group
            ("c4", json!({})),
            ("c5", json!({runc: "group"})),
        ],
    );
    assert_eq!((&all[0], &all[2]), (&all[1], &all[4]));
    let different: std::collections::BTreeSet<_> = all.iter().collect();
    assert_eq!(different.len(), 3);
    let mut clients: Vec<Client> = [0, 2, 3].map(|n| Client::to(&all[n])).into();
    let pids: std::collections::BTreeSet<_> =
        clients.iter().map(|client| client.pid.expect("a shim").as_raw_pid()).collect();
    assert_eq!(pids.len(), 3);
    // it ends with the last container, and not before
    clients[0].create(&world, "c1").expect("Create");
    clients[0].create(&world, "c2").expect("Create");
    let _: crate::messages::google::Empty = clients[0].call("Shutdown", &ShutdownRequest::default()).expect("Shutdown");
    clients[0].delete("c1", "").expect("Delete");
    let _: crate::messages::google::Empty = clients[0].call("Shutdown", &ShutdownRequest::default()).expect("Shutdown");
    assert_eq!(clients[0].status("c2"), status::CREATED);
    clients[0].delete("c2", "").expect("Delete");
    for client in &mut clients {
        client.shut_down();
    }
    world.assert_empty();
}

#[test]
fn input_of_start_that_is_no_message_starts_nothing() {
    if !root_is_here() {
        return;
    }
    let world = world();
    let large = vec![b'x'; (10 << 20) + 1];
    for (input, reason) in [(&b"\xff\xff"[..], "stdin: "), (&large, "longer than 10485760 bytes")] {
        let out = world.act("start", input);
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!out.status.success() && text.contains(reason), "{text}");
    }
    let none = world.act("other", b"");
    assert!(String::from_utf8_lossy(&none.stderr).contains("unknown action other"));
    world.assert_empty();
}

/// containerd learns of a shim by the answer of `start` alone.
#[test]
fn a_start_that_cannot_answer_fails_and_leaves_no_shim() {
    if !root_is_here() {
        return;
    }
    let world = world();
    let full = std::fs::File::options().write(true).open("/dev/full").expect("/dev/full");
    let mut child = world.command_on("c1", "start").stdout(full).spawn().expect("the shim");
    child.stdin.take().expect("stdin").write_all(&world.params("c1")).expect("write");
    let out = child.wait_with_output().expect("its end");
    let text = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success() && text.contains("stdout: no space left on device (ENOSPC)"), "{text}");
    world.assert_empty();
}
