//! The output of a container goes to a file (`file://`), or to a program of the host (`binary://`).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::messages::task::*;
use crate::world::{Client, SHIM, World, gone, root_is_here, skip, world};

/// A logger in the form that containerd describes: stdout is 3, stderr is 4, and it closes 5 when it is ready. It has SIGTERM at the
/// deletion, and may still have to write then.
const LOGGER: &str = r#"#!/bin/sh
trap '' TERM
d=$(dirname "$0")
echo "$CONTAINER_NAMESPACE $CONTAINER_ID $*" >"$d/args"
env | wc -l >"$d/variables"
for fd in /proc/$$/fd/*; do echo "${fd##*/} $(readlink "$fd")"; done >"$d/fds"
exec 5>&-
cat <&4 >"$d/stderr" &
cat <&3 >"$d/stdout"
wait
echo end >"$d/ended"
"#;

fn put_logger(world: &World) -> String {
    let path = world.path("log ger");
    fs::write(&path, LOGGER).expect("a logger");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
    format!("binary://{}", world.text("log%20ger"))
}

fn shell(world: &World, script: &str) -> bool {
    world.edit("c1", |config| config["process"]["args"] = json!(["/sh", "-c", script]));
    let there = world.put_shell();
    if !there {
        skip("no static busybox");
    }
    there
}

#[test]
fn a_program_of_the_host_gets_the_output() {
    if !root_is_here() {
        return;
    }
    for terminal in [false, true] {
        let world = world();
        if !shell(&world, "echo out; echo err >&2; i=0; while [ $i -lt 20000 ]; do echo 0123456789; i=$((i + 1)); done")
        {
            return;
        }
        world.edit("c1", |config| config["process"]["terminal"] = json!(terminal));
        let uri = put_logger(&world);
        let mut client = world.start();
        let uri = format!("{uri}?id=a+b&flag=%2Dv");
        let order = CreateTaskRequest {
            stdout: uri.clone(),
            stderr: uri,
            stdin: String::new(),
            terminal,
            ..Client::order(&world, "c1")
        };
        let _: CreateTaskResponse = client.call("Create", &order).expect("Create");
        client.start("c1", "").expect("Start");
        assert_eq!(client.finish_c1(), 0);
        gone("the logger", || !world.path("ended").exists());
        let text = |name: &str| fs::read_to_string(world.path(name)).expect("the logger's file").replace('\r', "");
        assert_eq!(text("args"), "test c1 id a b flag -v\n");
        // dash adds PWD
        assert!(["2\n", "3\n"].contains(&&*text("variables")), "the shim's environment: {}", text("variables"));
        let (out, err) = (text("stdout"), text("stderr"));
        assert_eq!(out.matches("0123456789\n").count(), 20_000, "output is lost");
        if terminal {
            assert!(out.starts_with("out\nerr\n") && err.is_empty(), "{err}");
        } else {
            assert!(out.starts_with("out\n0") && err == "err\n", "{err}");
        }
        let fds = text("fds");
        assert!(fds.contains("0 /dev/null\n") && fds.contains("2 /dev/null\n") && fds.contains("5 pipe:"), "{fds}");
        // the shim's own: its sockets, epoll, signalfd, pidfds
        assert!(!fds.contains("socket:") && !fds.contains("anon_inode:"), "{fds}");
        world.assert_empty();
    }
}

#[test]
fn an_exec_has_a_logger_of_its_own() {
    if !root_is_here() {
        return;
    }
    let world = world();
    let uri = put_logger(&world);
    let mut client = world.start_c1();
    let order = Client::exec_order("c1", "e", "-v");
    let asked = ExecProcessRequest { stdout: uri.clone(), stderr: uri, ..order };
    let _: crate::messages::google::Empty = client.call("Exec", &asked).expect("Exec");
    client.start("c1", "e").expect("Start");
    let _: WaitResponse = client.call("Wait", &Client::wait("c1", "e")).expect("Wait");
    client.delete("c1", "e").expect("Delete");
    gone("the logger", || !world.path("ended").exists());
    assert_eq!(fs::read_to_string(world.path("args")).expect("its arguments"), "test e \n");
    assert!(fs::read_to_string(world.path("stdout")).expect("the output").starts_with("containerd-shim-coracle-v1:"));
    client.end_c1();
    world.assert_empty();
}

#[test]
fn a_logger_that_cannot_be_started_is_named() {
    if !root_is_here() {
        return;
    }
    let world = world();
    let mut client = world.start();
    fs::write(world.path("plain"), "not a program").expect("a file");
    for (name, reason) in [("none", "no such file"), ("plain", "permission denied")] {
        let uri = format!("binary://{}", world.text(name));
        let order = CreateTaskRequest { stdout: uri.clone(), stderr: uri, ..Client::order(&world, "c1") };
        let error = client.call::<CreateTaskResponse>("Create", &order).expect_err("no logger").message;
        assert!(error.contains(&format!("start the logger {}", world.text(name))) && error.contains(reason), "{error}");
    }
    // the next one succeeds
    client.create(&world, "c1").expect("Create");
    client.kill_container("c1");
    client.finish_c1();
    world.assert_empty();
}

/// A pipe that only closes means that the logger is ready.
#[test]
fn a_logger_without_its_streams_is_not_ready() {
    for files in 4..=6 {
        // the limit is too low for number 5, or for a file after it
        let script = format!("ulimit -n {files} && exec {SHIM} logger true");
        let ran = Command::new("sh").args(["-c", &script]).stdin(Stdio::null()).output().expect("sh");
        assert!(ran.stdout.starts_with(b"\0not executed: "), "{files}: {ran:?}");
    }
}

/// A logger that is never ready. The file `slow.began` appears when it has begun.
pub fn never_ready(world: &World) -> String {
    let path = world.path("slow");
    fs::write(&path, "#!/bin/sh\necho >\"$0.began\"\nexec sleep 1000\n").expect("a logger");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
    format!("binary://{}", path.display())
}

/// Such a logger would keep the thread of the creation.
#[test]
fn a_logger_that_is_never_ready_can_be_deleted() {
    if !root_is_here() {
        return;
    }
    let world = world();
    let uri = never_ready(&world);
    let mut client = world.start();
    let order = CreateTaskRequest { stdout: uri.clone(), stderr: uri, ..Client::order(&world, "c1") };
    let creating = client.ask("Create", &order);
    gone("the logger's begin", || !world.path("slow.began").exists());
    let deleting = client.ask("Delete", &DeleteRequest { id: "c1".into(), exec_id: String::new() });
    assert!(client.answer::<CreateTaskResponse>(creating).is_err());
    assert_eq!(client.answer::<DeleteResponse>(deleting).expect_err("it was never there").code, 5);
    client.shut_down();
    world.assert_empty();
}

#[test]
fn a_file_gets_both_streams_and_its_directory_is_made() {
    if !root_is_here() {
        return;
    }
    let world = world();
    if !shell(&world, "echo out; echo err >&2") {
        return;
    }
    let uri = format!("file://{}", world.text("deep/er/the%20log"));
    for times in 1..=2 {
        let mut client = world.start();
        let order = CreateTaskRequest { stdout: uri.clone(), stderr: uri.clone(), ..Client::order(&world, "c1") };
        let _: CreateTaskResponse = client.call("Create", &order).expect("Create");
        client.start("c1", "").expect("Start");
        assert_eq!(client.finish_c1(), 0);
        let text = fs::read_to_string(world.path("deep/er/the log")).expect("the file");
        assert_eq!((text.matches("out\n").count(), text.matches("err\n").count()), (times, times), "{text}");
        world.assert_empty();
    }
    let mut client = world.start();
    let order = CreateTaskRequest { stdout: "ftp:///x".into(), ..Client::order(&world, "c1") };
    let error = client.call::<CreateTaskResponse>("Create", &order).expect_err("no such scheme").message;
    assert!(error.contains("unknown STDIO scheme ftp"), "{error}");
    client.shut_down();
    world.assert_empty();
}
