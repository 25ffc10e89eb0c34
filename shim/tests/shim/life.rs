//! A container from its creation to its end.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use prost::Message;
use rustix::process::Pid;

use crate::messages::bootstrap::RuntimeInfo;
use crate::messages::google::Empty;
use crate::messages::task::*;
use crate::world::{Client, SHIM, gone, root_is_here, skip, world};

#[test]
fn a_container_lives_and_its_events_come_in_order() {
    if !root_is_here() {
        return;
    }
    let world = world();
    let mut client = world.start();
    let unknown: Result<StateResponse, _> = client.call("State", &StateRequest::default());
    assert_eq!(unknown.expect_err("no container").code, 5);
    let unknown: Result<Empty, _> = client.call("Fly", &Empty {});
    assert_eq!(unknown.expect_err("no method").code, 12);
    let created = client.create(&world, "c1").expect("Create");
    let again = client.create(&world, "c1");
    assert_eq!(again.expect_err("it is there").code, 6);
    assert_eq!(client.status("c1"), status::CREATED);
    let waiting = client.ask("Wait", &Client::wait("c1", ""));
    assert_eq!(client.start("c1", "").expect("Start").pid, created.pid);
    assert_eq!(client.status("c1"), status::RUNNING);
    assert_eq!(client.exec(&world, "e0", "-v"), 0);
    assert!(fs::read_to_string(world.path("e0")).expect("output").starts_with("containerd-shim-coracle-v1:"));
    assert_eq!(client.exec(&world, "e1", "-x"), 1);
    client.close_stdin("c1");
    assert_eq!(client.answer::<WaitResponse>(waiting).expect("Wait").exit_status, 0);
    assert_eq!(client.status("c1"), status::STOPPED);
    let deleted = client.delete("c1", "").expect("Delete");
    assert_eq!((deleted.pid, deleted.exit_status), (created.pid, 0));
    client.shut_down();
    let exec = |code| [format!("exec-added e{code}"), format!("exec-started e{code}"), format!("exit e{code} {code}")];
    let first = ["create c1", "start c1"].map(str::to_owned);
    let last = ["exit c1 0", "delete c1"].map(str::to_owned);
    let expected = [&first[..], &exec(0), &exec(1), &last].concat();
    assert_eq!(world.events_to("delete c1"), expected);
    world.assert_empty();
}

/// Waits for the end of a shim that nobody ends.
fn ends_by_itself(path: &Path, pid: Option<Pid>) {
    let limit = Instant::now() + Duration::from_secs(90);
    while path.exists() && Instant::now() < limit {
        std::thread::sleep(Duration::from_millis(50));
    }
    if path.exists() {
        pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::KILL));
        panic!("it still serves");
    }
}

#[test]
fn a_shim_that_nobody_knows_ends() {
    if !root_is_here() {
        return;
    }
    let world = world();
    // containerd connects once, and never again
    let mut client = world.start();
    let (path, pid) = (client.path.clone(), client.pid.take());
    drop(client);
    ends_by_itself(&path, pid);
}

/// containerd is killed before it calls Create, or between Delete and Shutdown. 1.6 connects to the shim again, and has no task to end.
#[test]
fn a_shim_without_a_container_ends_although_containerd_is_connected() {
    if !root_is_here() {
        return;
    }
    let world = world();
    let mut client = world.start();
    let (path, pid) = (client.path.clone(), client.pid.take());
    // as a monitor does, until it is gone
    let asks = std::thread::spawn(move || {
        let asked = StateRequest { id: "c1".into(), exec_id: String::new() };
        while client.path.exists() && client.try_ask("State", &asked).is_ok() {
            std::thread::sleep(Duration::from_secs(1));
        }
    });
    ends_by_itself(&path, pid);
    asks.join().expect("it asks");
    let mut client = world.start_c1();
    client.close_stdin("c1");
    let _: WaitResponse = client.call("Wait", &Client::wait("c1", "")).expect("Wait");
    client.delete("c1", "").expect("Delete");
    ends_by_itself(&client.path.clone(), client.pid.take());
    world.assert_empty();
}

#[test]
fn memory_that_runs_out_before_start_returns_is_reported() {
    if !root_is_here() {
        return;
    }
    let world = world();
    if !world.put_shell() {
        skip("no static shell");
        return;
    }
    fs::rename(world.path("rootfs/sh"), world.path("rootfs/tail")).expect("tail");
    world.edit("c1", |config| {
        config["process"]["args"] = serde_json::json!(["/tail", "/dev/zero"]);
        config["linux"]["resources"]["memory"]["limit"] = (20 << 20).into();
        config["hooks"]["poststart"] = serde_json::json!([{"path": "/bin/sleep", "args": ["sleep", "2"]}]);
    });
    let mut client = world.start_c1();
    assert_eq!(client.finish_c1(), 137);
    let events = world.events_to("delete c1");
    assert_eq!(events, ["create c1", "start c1", "oom c1", "exit c1 137", "delete c1"]);
    world.assert_empty();
}

#[test]
fn the_end_of_init_ends_its_execs_first() {
    if !root_is_here() {
        return;
    }
    let world = world();
    world.fifo("never");
    let config = world.bundles.join("c1/config.json");
    for namespaces in ["pid", "none"] {
        let mut client = world.start();
        client.create(&world, "c1").expect("Create");
        client.start("c1", "").expect("Start");
        // its stdin never ends
        let order = ExecProcessRequest { stdin: world.text("never"), ..Client::exec_order("c1", "e", "-info") };
        let _: Empty = client.call("Exec", &order).expect("Exec");
        client.start("c1", "e").expect("Start");
        let waiting = client.ask("Wait", &Client::wait("c1", "e"));
        client.close_stdin("c1");
        let ended: WaitResponse = client.call("Wait", &Client::wait("c1", "")).expect("Wait");
        assert_eq!(ended.exit_status, 0, "{namespaces}");
        assert_eq!(client.answer::<WaitResponse>(waiting).expect("Wait").exit_status, 137, "{namespaces}");
        client.delete("c1", "e").expect("Delete");
        client.delete("c1", "").expect("Delete");
        client.shut_down();
        let expected =
            ["create c1", "start c1", "exec-added e", "exec-started e", "exit e 137", "exit c1 0", "delete c1"];
        assert_eq!(world.events_to("delete c1"), expected, "{namespaces}");
        world.assert_empty();
        // the second time without a pid namespace, whose end would kill the exec
        let text = fs::read_to_string(&config).expect("config.json");
        fs::write(&config, text.replace(r#"{"type":"pid"},"#, "")).expect("config.json");
    }
}

#[test]
fn an_idle_shim_gives_back_the_pages_of_its_program() {
    if !root_is_here() {
        return;
    }
    let world = world();
    let mut client = world.start();
    client.create(&world, "c1").expect("Create");
    let pid = client.pid.expect("a shim").as_raw_pid();
    // what is mapped from its file, and cannot be written
    let resident = || {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps")).expect("smaps");
        let (mut total, mut ours) = (0, false);
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                [range, rights, _, _, inode, ..] if range.contains('-') => ours = !rights.contains('w') && inode != "0",
                ["Rss:", size, "kB"] if ours => total += size.parse::<usize>().expect("KiB"),
                _ => {}
            }
        }
        total
    };
    // the most that was resident at any time: the shim may have given it back before we look
    let peak = client.number("status", "VmHWM");
    gone("half of the program", || resident() > peak / 2);
    // it works on
    client.start("c1", "").expect("Start");
    client.end_c1();
    world.assert_empty();
}

#[test]
fn info_has_the_features_of_the_runtime() {
    let out = Command::new(SHIM).arg("-info").stdin(std::process::Stdio::null()).output().expect("-info");
    let info = RuntimeInfo::decode(&*out.stdout).expect("a RuntimeInfo");
    assert_eq!(info.name, "io.containerd.coracle.v1");
    let features = info.features.expect("features");
    assert_eq!(features.type_url, "types.containerd.io/opencontainers/runtime-spec/1/features/Features");
    let features: serde_json::Value = serde_json::from_slice(&features.value).expect("JSON");
    assert_eq!(features["linux"]["cgroup"]["v2"], true);
}
