//! A runtime that waits gets SIGTERM, SIGINT or SIGHUP: it undoes everything, and then ends by that signal.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::only;
use crate::world::{Who, World, wait_until};

/// The time that the hook sleeps. The number is different in each run, so the test finds the process by it.
fn seconds() -> u32 {
    1_000_000 + std::process::id()
}

/// A hook that writes its child's pid to `file`, and does not end.
fn endless(file: &std::path::Path) -> serde_json::Value {
    json!([{"path": "/bin/sh", "args": ["sh", "-c", format!("sleep {} & echo $! > {}.new; mv {1}.new {1}; wait", seconds(), file.display())]}])
}

/// Whether a process with that command line exists.
fn is_somewhere(command: &[u8]) -> bool {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.map(|entry| entry.path().join("cmdline")).any(|line| fs::read(line).is_ok_and(|line| line == command))
}

/// Begins a command in the background. The signals have their default effects there.
pub fn begun(world: &World, verb: &[&str]) -> Child {
    let created = world.command(verb);
    // A shell that runs the tests in the background ignores SIGINT.
    let mut command = Command::new("env");
    command.arg("--default-signal=TERM,INT,HUP").arg(created.get_program()).args(created.get_args());
    command.current_dir(world.bundle()).arg(&world.id).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

/// Sends `signal`. The runtime must end soon, by this signal.
pub fn ends_by(mut child: Child, signal: Signal) {
    let begun = Instant::now();
    kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
    wait_until("the runtime ends", || child.try_wait().unwrap().is_some());
    assert!(begun.elapsed() < Duration::from_secs(3), "it took {:?}", begun.elapsed());
    assert_eq!(child.wait().unwrap().signal(), Some(signal as i32));
}

#[test]
fn a_hook_that_does_not_end_is_ended_and_all_is_undone() {
    only!(Who::Us; "the peers leave the cgroup, the state and the hook");
    let verbs: [&[&str]; 3] = [&["create"], &["run"], &["run", "--detach"]];
    for point in ["prestart", "createRuntime", "createContainer", "poststart", "startContainer"] {
        for (verb, signal) in verbs.into_iter().zip([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]) {
            let late = matches!(point, "poststart" | "startContainer");
            if verb == ["create"] && late {
                continue;
            }
            let mut world = World::running(&["sleep", "1000"]);
            let inside = point == "startContainer";
            let seen = if inside { world.rootfs("seen/pid") } else { world.path("pid") };
            fs::create_dir_all(world.rootfs("seen")).unwrap();
            *world.at("/root/readonly") = json!(false);
            world.config["hooks"] = match inside {
                true => json!({point: endless(std::path::Path::new("/seen/pid"))}),
                false => json!({point: endless(&seen)}),
            };
            world.write();
            let runtime = begun(&world, verb);
            wait_until("the hook runs", || seen.exists());
            ends_by(runtime, signal);
            world.assert_clean();
            wait_until("what the hook started is gone", || !is_somewhere(format!("sleep\0{}\0", seconds()).as_bytes()));
            // The id is free.
            world.config["hooks"] = json!({});
            *world.at("/process/args") = json!(["true"]);
            world.run().ok();
        }
    }
}

#[test]
fn a_poststop_hook_that_does_not_end_is_ended_and_the_others_run() {
    only!(Who::Us; "runc does not hear the signal before the hook ends");
    let mut world = World::running(&["sh", "-c", "exit 7"]);
    let (seen, last) = (world.path("pid"), world.path("last"));
    let touch = json!({"path": "/bin/sh", "args": ["sh", "-c", format!("echo > {}", last.display())]});
    world.config["hooks"] = json!({"poststop": [endless(&seen)[0], touch]});
    world.write();
    let mut runtime = begun(&world, &["run"]);
    wait_until("the hook runs", || seen.exists());
    kill(Pid::from_raw(runtime.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    wait_until("the runtime ends", || runtime.try_wait().unwrap().is_some());
    // The program has ended by itself, and `run` returns its exit status.
    assert_eq!(runtime.wait().unwrap().code(), Some(7));
    assert!(last.exists());
    world.assert_clean();
    wait_until("what the hook started is gone", || !is_somewhere(format!("sleep\0{}\0", seconds()).as_bytes()));
}

#[test]
fn a_signal_that_the_caller_ignores_is_ignored() {
    only!(Who::Us; "the peers leave the cgroup, the state and the hook");
    let mut world = World::running(&["true"]);
    let seen = world.path("pid");
    let hook = format!("echo > {}; sleep 1", seen.display());
    world.config["hooks"] = json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", hook]}]});
    world.write();
    let mut command = Command::new("nohup");
    let created = world.command(&["create", &world.id]);
    command.arg(created.get_program()).args(created.get_args()).current_dir(world.bundle());
    let mut runtime = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until("the hook runs", || seen.exists());
    kill(Pid::from_raw(runtime.id().try_into().unwrap()), Signal::SIGHUP).unwrap();
    assert!(runtime.wait().unwrap().success());
    world.call(&["delete", "--force", &world.id]).ok();
}
