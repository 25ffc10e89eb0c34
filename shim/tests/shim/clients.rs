//! Clients that come late, ask too much, or send signals without a name.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::messages::google::{Any, Empty};
use crate::messages::task::*;
use crate::messages::ttrpc::Request;
use crate::wire;
use crate::world::{Client, gone, root_is_here, skip, world};

/// More than the shim and the socket keep.
const FLOOD: usize = 64 << 20;
/// open(2) does not wait for a writer.
const NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
/// The bytes of all requests that may wait.
const ROOM: usize = 64 << 20;
/// The number of callers that may wait for one process.
const WAITS: usize = 4096;

#[test]
fn a_reader_that_comes_after_the_end_gets_the_output() {
    if !root_is_here() {
        return;
    }
    let world = world();
    world.fifo("late");
    let mut client = world.start_c1();
    let order = Client::exec_order("c1", "e", "-v");
    let _: Empty = client.call("Exec", &ExecProcessRequest { stdout: world.text("late"), ..order }).expect("Exec");
    client.start("c1", "e").expect("Start");
    let ended: WaitResponse = client.call("Wait", &Client::wait("c1", "e")).expect("Wait");
    assert_eq!(ended.exit_status, 0);
    // opened only now, and it comes to its end without a Delete
    let mut late = File::options().read(true).custom_flags(NONBLOCK).open(world.path("late")).expect("the fifo");
    let mut text = Vec::new();
    gone("a writer", || late.read_to_end(&mut text).is_err_and(|error| error.kind() == ErrorKind::WouldBlock));
    let text = String::from_utf8_lossy(&text);
    assert!(text.starts_with("containerd-shim-coracle-v1:"), "{text}");
    client.delete("c1", "e").expect("Delete");
    client.end_c1();
    world.assert_empty();
}

#[test]
fn a_reader_of_a_stream_without_output_that_comes_late_finds_its_end() {
    if !root_is_here() {
        return;
    }
    let world = world();
    let mut client = world.start_c1();
    world.fifo("spoken");
    world.fifo("silent");
    let order = Client::exec_order("c1", "e", "-v");
    let order = ExecProcessRequest { stdout: world.text("spoken"), stderr: world.text("silent"), ..order };
    let _: Empty = client.call("Exec", &order).expect("Exec");
    client.start("c1", "e").expect("Start");
    let _: WaitResponse = client.call("Wait", &Client::wait("c1", "e")).expect("Wait");
    // ExecSync of the CRI opens both streams in threads of their own, and waits for their ends without a limit
    let (sender, read) = std::sync::mpsc::channel();
    for name in ["spoken", "silent"] {
        let (path, sender) = (world.path(name), sender.clone());
        std::thread::spawn(move || sender.send((name, std::fs::read_to_string(path).expect("a stream"))));
    }
    for _ in 0..2 {
        let (name, text) = read.recv_timeout(Duration::from_secs(20)).expect("each stream ends for its late reader");
        assert_eq!(text.is_empty(), name == "silent", "{name}: {text}");
    }
    client.delete("c1", "e").expect("Delete");
    client.end_c1();
    world.assert_empty();
}

#[test]
fn a_client_that_reads_no_answer_is_not_heard_for_ever() {
    if !root_is_here() {
        return;
    }
    let world = world();
    let mut client = world.start();
    let mut flood = UnixStream::connect(&client.path).expect("connect");
    flood.set_write_timeout(Some(Duration::from_secs(1))).expect("a time limit");
    let request = Request { service: "containerd.task.v3.Task".into(), method: "x".repeat(1000), ..Request::default() };
    let requests = wire::request(1, &request).repeat(64);
    let mut sent = 0;
    let error = loop {
        match flood.write(&requests) {
            Ok(count) => sent += count,
            Err(error) => break error,
        }
        assert!(sent < FLOOD, "the shim keeps all answers");
    };
    assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
    // others are served
    assert_eq!(client.call::<Empty>("Fly", &Empty {}).expect_err("no method").code, 12);
    // when it reads, it gets all answers and is heard again
    flood.set_read_timeout(Some(Duration::from_secs(20))).expect("a time limit");
    let (mut inbox, mut answers, mut buffer) = (wire::Inbox::default(), 0, [0; 65536]);
    while answers < sent / (requests.len() / 64) {
        let count = flood.read(&mut buffer).expect("an answer");
        inbox.take(&buffer[..count]);
        answers += std::iter::from_fn(|| inbox.next()).count();
    }
    client.shut_down();
    world.assert_empty();
}

#[test]
fn the_callers_that_wait_for_a_process_are_limited_and_one_that_leaves_makes_room() {
    if !root_is_here() {
        return;
    }
    let world = world();
    let mut client = world.start();
    client.create(&world, "c1").expect("Create");
    let mut other = Client::connect(&client.path);
    for _ in 0..WAITS {
        other.ask("Wait", &Client::wait("c1", ""));
    }
    let more: Result<WaitResponse, _> = other.call("Wait", &Client::wait("c1", ""));
    assert_eq!(more.expect_err("they are many").code, 8);
    drop(other);
    let waiting = loop {
        let waiting = client.ask("Wait", &Client::wait("c1", ""));
        // the answer to State comes after a refusal
        client.status("c1");
        if !client.has_answer(waiting) {
            break waiting;
        }
    };
    client.start("c1", "").expect("Start");
    client.close_stdin("c1");
    assert_eq!(client.answer::<WaitResponse>(waiting).expect("Wait").exit_status, 0);
    client.delete("c1", "").expect("Delete");
    client.shut_down();
    world.assert_empty();
}

/// An exec that is not started keeps its process object.
#[test]
fn the_bytes_of_requests_that_wait_are_limited() {
    if !root_is_here() {
        return;
    }
    let world = world();
    let mut client = world.start_c1();
    let (large, name) = ("x".repeat(4_000_000), |n: usize| format!("e{n}"));
    let ask = |client: &mut Client, n: usize| {
        let mut order = Client::exec_order("c1", &name(n), "-v");
        let object =
            serde_json::json!({"cwd": "/", "args": ["/shim", "-v"], "env": [&large], "user": {"uid": 0, "gid": 0}});
        order.spec.as_mut().expect("a process").value = object.to_string().into_bytes();
        client.call::<Empty>("Exec", &order)
    };
    let mut count = 0;
    let refused = loop {
        match ask(&mut client, count) {
            Ok(_) => count += 1,
            Err(status) => break status,
        }
        assert!(count * large.len() < 2 * ROOM, "the shim keeps all");
    };
    assert_eq!((refused.code, count), (8, ROOM / large.len()));
    // small ones have room
    assert_eq!(client.exec(&world, "small", "-v"), 0);
    // an update has the same room
    let value = format!("{{\"x\":\"{large}\"}}").into_bytes();
    let update = UpdateTaskRequest { id: "c1".into(), resources: Some(Any { type_url: "x".into(), value }) };
    assert_eq!(client.call::<Empty>("Update", &update).expect_err("no room").code, 8);
    // one that is deleted, or started, makes room again
    client.delete("c1", &name(0)).expect("Delete");
    ask(&mut client, 0).expect("room");
    // its environment is too long for execve(2)
    client.start("c1", &name(1)).expect_err("E2BIG");
    ask(&mut client, count).expect("room");
    client.end_c1();
    world.assert_empty();
}

/// A small request can have a large answer.
#[test]
fn the_bytes_of_answers_that_wait_are_limited() {
    if !root_is_here() {
        return;
    }
    let world = world();
    let mut client = world.start_c1();
    let order = ExecProcessRequest { stderr: "x".repeat(3 << 20), ..Client::exec_order("c1", "e", "-v") };
    let _: Empty = client.call("Exec", &order).expect("Exec");
    let mut second = Client::connect(&client.path);
    let streams: Vec<u32> =
        (0..60).map(|_| second.ask("State", &StateRequest { id: "c1".into(), exec_id: "e".into() })).collect();
    // others are served meanwhile
    assert_eq!(client.exec(&world, "x", "-v"), 0);
    let peak = client.number("status", "VmHWM");
    assert!(peak < 64 << 10, "the shim keeps all answers: {peak} KiB");
    for stream in streams {
        assert_eq!(second.answer::<StateResponse>(stream).expect("State").stderr.len(), 3 << 20);
    }
    client.end_c1();
    world.assert_empty();
}

#[test]
fn an_exec_gets_signals_without_a_name() {
    if !root_is_here() {
        return;
    }
    let world = world();
    world.fifo("never");
    let mut client = world.start_c1();
    let order = Client::exec_order("c1", "e", "-info");
    let _: Empty = client.call("Exec", &ExecProcessRequest { stdin: world.text("never"), ..order }).expect("Exec");
    client.start("c1", "e").expect("Start");
    let kill = |signal| KillRequest { id: "c1".into(), exec_id: "e".into(), signal, ..KillRequest::default() };
    // it only asks whether the process exists
    let _: Empty = client.call("Kill", &kill(0)).expect("signal 0");
    assert_eq!(client.call::<Empty>("Kill", &kill(65)).expect_err("no signal").code, 2);
    assert_eq!(client.call::<Empty>("Kill", &kill(1 << 31)).expect_err("no signal").code, 3);
    let _: Empty = client.call("Kill", &kill(40)).expect("a real-time signal");
    let ended: WaitResponse = client.call("Wait", &Client::wait("c1", "e")).expect("Wait");
    assert_eq!(ended.exit_status, 128 + 40);
    client.delete("c1", "e").expect("Delete");
    client.end_c1();
    world.assert_empty();
}

#[test]
fn a_file_as_stdin_comes_whole() {
    if !root_is_here() {
        return;
    }
    let world = world();
    if !world.put_shell() {
        skip("no static busybox");
        return;
    }
    std::fs::write(world.path("input"), vec![b'x'; 1 << 20]).expect("the file");
    world.edit("c1", |config| config["process"]["args"] = serde_json::json!(["/busybox", "wc", "-c"]));
    std::fs::copy(world.path("rootfs/sh"), world.path("rootfs/busybox")).expect("its own name");
    let mut client = world.start();
    let order = CreateTaskRequest { stdin: world.text("input"), ..Client::order(&world, "c1") };
    let _: CreateTaskResponse = client.call("Create", &order).expect("Create");
    client.start("c1", "").expect("Start");
    assert_eq!(client.finish_c1(), 0);
    assert_eq!(std::fs::read_to_string(world.path("out")).expect("out").trim(), (1 << 20).to_string());
    world.assert_empty();
}

/// All connections together have a limit, too.
#[test]
fn the_bytes_of_requests_that_have_not_come_whole_are_limited() {
    if !root_is_here() {
        return;
    }
    let world = world();
    let mut client = world.start();
    let request = Request { method: "x".repeat(4_000_000), ..Request::default() };
    let mut half = wire::request(1, &request);
    half.truncate(3_500_000);
    let others: Vec<UnixStream> = (0..40)
        .map(|_| {
            let mut other = UnixStream::connect(&client.path).expect("connect");
            // the shim may close it meanwhile
            let _ = other.write_all(&half);
            // a request that has come whole is performed
            assert_eq!(client.call::<Empty>("Fly", &Empty {}).expect_err("no method").code, 12);
            other
        })
        .collect();
    let is_closed = |mut other: &UnixStream| {
        other.set_nonblocking(true).expect("nonblocking");
        !matches!(other.read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock)
    };
    gone("a connection too many", || others.iter().filter(|other| !is_closed(other)).count() * half.len() > ROOM / 2);
    assert!(others.iter().any(|other| !is_closed(other)), "those that have room stay");
    let peak = client.number("status", "VmHWM");
    assert!(peak < 64 << 10, "the shim keeps all: {peak} KiB");
    client.shut_down();
    world.assert_empty();
}
