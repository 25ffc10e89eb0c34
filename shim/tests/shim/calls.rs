//! Calls of Task that the other tests do not make, over both versions of the service: each does what it says.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use prost::Message;
use serde_json::json;

use crate::messages::cgroups::{v1, v2};
use crate::messages::google::{Any, Empty, Timestamp};
use crate::messages::runc::ProcessDetails;
use crate::messages::task::*;
use crate::world::{Client, V2, V3, World, gone, root_is_here, skip, world};

/// open(2) does not wait for a writer, and read(2) not for bytes.
const NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();

/// A pod whose container runs this script.
fn shell(script: &str) -> Option<World> {
    if !root_is_here() {
        return None;
    }
    let world = world();
    world.edit("c1", |config| config["process"]["args"] = json!(["/sh", "-c", script]));
    if !world.put_shell() {
        skip("no static busybox");
        return None;
    }
    // by this name it runs its other programs
    fs::hard_link(world.path("rootfs/sh"), world.path("rootfs/busybox")).expect("a link");
    Some(world)
}

#[test]
fn pause_stops_a_container_until_resume() {
    if !root_is_here() {
        return;
    }
    let world = world();
    for service in [V2, V3] {
        let mut client = world.start();
        client.service = service;
        client.create(&world, "c1").expect("Create");
        let pause = |client: &mut Client| client.call::<Empty>("Pause", &PauseRequest { id: "c1".into() });
        let resume = |client: &mut Client| client.call::<Empty>("Resume", &ResumeRequest { id: "c1".into() });
        assert_eq!(pause(&mut client).expect_err("it does not run").code, 9);
        client.start("c1", "").expect("Start");
        assert_eq!(resume(&mut client).expect_err("it is not paused").code, 9);
        pause(&mut client).expect("Pause");
        assert_eq!(client.status("c1"), status::PAUSED);
        assert_eq!(pause(&mut client).expect_err("it is paused").code, 9);
        let exec = client.call::<Empty>("Exec", &Client::exec_order("c1", "e", "-v"));
        assert_eq!(exec.expect_err("it is paused").code, 9);
        // its program could end now, and does not
        client.close_stdin("c1");
        let waiting = client.ask("Wait", &Client::wait("c1", ""));
        assert_eq!(client.status("c1"), status::PAUSED);
        assert!(!client.has_answer(waiting));
        resume(&mut client).expect("Resume");
        assert_eq!(client.answer::<WaitResponse>(waiting).expect("Wait").exit_status, 0);
        client.delete("c1", "").expect("Delete");
        client.shut_down();
        let expected = ["create", "start", "paused", "resumed", "exit", "delete"].map(|topic| format!("{topic} c1"));
        let came: Vec<String> =
            world.events_to("delete c1").iter().map(|event| event.trim_end_matches(" 0").to_owned()).collect();
        assert_eq!(came, expected);
        world.assert_empty();
    }
}

/// The pids limit of the container, as its cgroup has it.
fn pids_limit(pid: u32) -> String {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("its cgroups");
    let of = |controller: &str| groups.lines().find_map(|line| line.split_once(controller)?.1.split_once(':'));
    let path = match of(":pids") {
        Some((_, path)) => format!("/sys/fs/cgroup/pids{path}"),
        None => format!("/sys/fs/cgroup{}", of("0:").expect("version 2").1),
    };
    fs::read_to_string(format!("{path}/pids.max")).expect("pids.max").trim().to_owned()
}

#[test]
fn update_stats_and_pids_speak_of_the_container() {
    if !root_is_here() {
        return;
    }
    let world = world();
    world.fifo("never");
    for service in [V2, V3] {
        let mut client = world.start();
        client.service = service;
        let init = client.create(&world, "c1").expect("Create").pid;
        client.start("c1", "").expect("Start");
        let order = ExecProcessRequest { stdin: world.text("never"), ..Client::exec_order("c1", "e", "-info") };
        let _: Empty = client.call("Exec", &order).expect("Exec");
        let exec = client.start("c1", "e").expect("Start").pid;
        let update = |client: &mut Client, value: serde_json::Value| {
            let resources = Some(Any { type_url: "Resources".into(), value: value.to_string().into_bytes() });
            client.call::<Empty>("Update", &UpdateTaskRequest { id: "c1".into(), resources })
        };
        update(&mut client, json!({"pids": {"limit": 77}})).expect("Update");
        assert_eq!(pids_limit(init), "77");
        let wrong = update(&mut client, json!({"pids": {"limit": "many"}})).expect_err("a mistake");
        assert!(
            wrong.message.contains("OCI runtime update failed") && wrong.message.contains("pids.limit"),
            "{wrong:?}"
        );
        let stats: StatsResponse = client.call("Stats", &StatsRequest { id: "c1".into() }).expect("Stats");
        let any = stats.stats.expect("numbers");
        let (count, limit) = match &*any.type_url {
            "io.containerd.cgroups.v1.Metrics" => {
                let pids = v1::Metrics::decode(&*any.value).expect("v1").pids.expect("pids");
                (pids.current, pids.limit)
            }
            "io.containerd.cgroups.v2.Metrics" => {
                let pids = v2::Metrics::decode(&*any.value).expect("v2").pids.expect("pids");
                (pids.current, pids.limit)
            }
            other => panic!("unknown type {other}"),
        };
        assert_eq!((count, limit), (2, 77));
        let pids: PidsResponse = client.call("Pids", &PidsRequest { id: "c1".into() }).expect("Pids");
        let of = |pid| {
            let process = pids.processes.iter().find(|process| process.pid == pid).expect("a process");
            process.info.as_ref().map(|info| ProcessDetails::decode(&*info.value).expect("details").exec_id)
        };
        assert_eq!((pids.processes.len(), of(init), of(exec)), (2, None, Some("e".to_owned())));
        let connected: ConnectResponse = client.call("Connect", &ConnectRequest { id: "c1".into() }).expect("Connect");
        assert_eq!(connected.task_pid, init);
        client.kill_container("c1");
        client.finish_c1();
        world.assert_empty();
    }
}

#[test]
fn a_terminal_has_the_size_of_resize() {
    let Some(world) = shell("/busybox stty size; read x; /busybox stty size; read x; exit 7") else { return };
    world.fifo("tty");
    world.edit("c1", |config| config["process"]["terminal"] = json!(true));
    for service in [V2, V3] {
        let mut client = world.start();
        client.service = service;
        let order = CreateTaskRequest { terminal: true, stdout: world.text("tty"), ..Client::order(&world, "c1") };
        let _: CreateTaskResponse = client.call("Create", &order).expect("Create");
        let mut screen = File::options().read(true).custom_flags(NONBLOCK).open(world.path("tty")).expect("the fifo");
        let mut keys = File::options().write(true).open(world.path("stdin-c1")).expect("the fifo");
        let mut seen = String::new();
        let mut see = |text: &str| {
            let mut buffer = [0; 512];
            gone("the silence of the terminal", || {
                let count = screen.read(&mut buffer).unwrap_or_default();
                seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
                !seen.contains(text)
            });
        };
        let resize = |client: &mut Client, exec_id: &str, height, width| {
            let asked = ResizePtyRequest { id: "c1".into(), exec_id: exec_id.into(), width, height };
            client.call::<Empty>("ResizePty", &asked)
        };
        resize(&mut client, "", 33, 101).expect("ResizePty");
        client.start("c1", "").expect("Start");
        see("33 101");
        resize(&mut client, "", 44, 202).expect("ResizePty");
        keys.write_all(b"\n").expect("a key");
        see("44 202");
        assert_eq!(resize(&mut client, "e", 1, 1).expect_err("no exec").code, 5);
        let state: StateResponse =
            client.call("State", &StateRequest { id: "c1".into(), exec_id: String::new() }).expect("State");
        assert!(state.terminal && state.stdout == world.text("tty"));
        keys.write_all(b"\n").expect("a key");
        assert_eq!(client.finish_c1(), 7);
        world.assert_empty();
    }
}

#[test]
fn an_oom_kill_is_reported_before_the_end() {
    let Some(world) = shell("x=0123456789; while :; do x=$x$x; done") else { return };
    world.edit("c1", |config| {
        config["linux"]["resources"] = json!({"memory": {"limit": 16 << 20}});
    });
    let mut client = world.start();
    if let Err(status) = client.create(&world, "c1") {
        assert!(status.message.contains("memory"), "{}", status.message);
        client.shut_down();
        return skip(&format!("no limit of memory here: {}", status.message));
    }
    client.start("c1", "").expect("Start");
    assert_eq!(client.finish_c1(), 137);
    let came = world.events_to("delete c1");
    assert_eq!(
        came.iter().filter(|event| *event != "oom c1").cloned().collect::<Vec<_>>(),
        ["create c1", "start c1", "exit c1 137", "delete c1"]
    );
    let position = |event: &str| came.iter().position(|other| other == event);
    assert!(position("oom c1").expect("an event") < position("exit c1 137").expect("an event"), "{came:?}");
    world.assert_empty();
}

/// The bytes that a program writes, and that its slow reader gets.
const MUCH: usize = 100_000_000;

#[test]
fn a_hundred_megabytes_reach_a_slow_reader() {
    let Some(world) = shell(&format!("/busybox yes 0123456789abcde | /busybox head -c {MUCH}")) else { return };
    world.fifo("slow");
    let mut client = world.start();
    let order = CreateTaskRequest { stdout: world.text("slow"), stdin: String::new(), ..Client::order(&world, "c1") };
    let _: CreateTaskResponse = client.call("Create", &order).expect("Create");
    let mut reader = File::options().read(true).write(true).open(world.path("slow")).expect("the fifo");
    client.start("c1", "").expect("Start");
    let waiting = client.ask("Wait", &Client::wait("c1", ""));
    let line = b"0123456789abcde\n";
    let (lines, mut buffer, mut count) = (line.repeat(8192), vec![0; 65536], 0);
    while count < MUCH {
        let got = reader.read(&mut buffer).expect("output");
        let from = count % line.len();
        assert!(buffer[..got] == lines[from..from + got], "at {count}");
        // it rests after each 10 MB, and others are served
        if count / 10_000_000 != (count + got) / 10_000_000 {
            std::thread::sleep(Duration::from_millis(50));
            client.status("c1");
        }
        count += got;
    }
    assert_eq!(count, MUCH);
    assert_eq!(client.answer::<WaitResponse>(waiting).expect("Wait").exit_status, 0);
    let peak = client.number("status", "VmHWM");
    assert!(peak < 48 << 10, "the shim keeps the output: {peak} KiB");
    client.delete("c1", "").expect("Delete");
    client.shut_down();
    world.assert_empty();
}

#[test]
fn a_request_that_is_no_message_or_names_no_process_is_refused() {
    if !root_is_here() {
        return;
    }
    let world = world();
    let mut client = world.start();
    client.create(&world, "c1").expect("Create");
    // the first field of each request is a string
    let wrong = Timestamp { seconds: 1, nanos: 0 };
    let methods = [
        "State",
        "Create",
        "Start",
        "Delete",
        "Pids",
        "Pause",
        "Resume",
        "Checkpoint",
        "Kill",
        "Exec",
        "ResizePty",
        "CloseIO",
        "Update",
        "Wait",
        "Stats",
    ];
    for service in [V2, V3] {
        client.service = service;
        for method in methods {
            // an empty message names the container ""
            let code = client.call::<Empty>(method, &Empty {}).expect_err(method).code;
            assert_eq!(code, if method == "Create" { 3 } else { 5 }, "{service} {method}");
            assert_eq!(client.call::<Empty>(method, &wrong).expect_err(method).code, 3, "{service} {method}");
        }
        let _: ConnectResponse = client.call("Connect", &Empty {}).expect("Connect");
        let _: Empty = client.call("Shutdown", &Empty {}).expect("Shutdown");
        assert_eq!(client.call::<Empty>("Fly", &Empty {}).expect_err("no method").code, 12);
    }
    client.service = "containerd.task.v4.Task";
    assert_eq!(client.call::<Empty>("State", &Empty {}).expect_err("no service").code, 12);
    client.service = V3;
    // files of a bundle that is not named would come into the directory of the shim, which is that of c1
    let order = CreateTaskRequest { bundle: String::new(), ..Client::order(&world, "c2") };
    assert_eq!(client.call::<CreateTaskResponse>("Create", &order).expect_err("no bundle").code, 3);
    assert_eq!(client.status("c1"), status::CREATED);
    client.delete("c1", "").expect("Delete");
    client.shut_down();
    world.assert_empty();
}
