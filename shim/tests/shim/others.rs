//! Processes and shims beside ours: one that traces a process of a container, and one that has a container with the same id.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::messages::google::Empty;
use crate::messages::task::*;
use crate::world::{Client, World, gone, root_is_here, skip, world};

/// The time that the shim's main thread has run, in nanoseconds.
fn run_time(client: &Client) -> String {
    let pid = client.pid.expect("a shim").as_raw_pid();
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).expect("schedstat");
    text.split(' ').next().expect("a number").to_owned()
}

fn wait(client: &mut Client, exec: &str) -> u32 {
    client.call::<WaitResponse>("Wait", &Client::wait("c1", exec)).expect("Wait").exit_status
}

/// A tracer keeps the end of a process until it has read it, and its pidfd is readable all this time (ptrace(2)). Another container of
/// the pod can be the tracer: containerd would wait for the end of this one as long as that one wants.
#[test]
fn an_end_that_a_tracer_keeps_is_reported() {
    if !root_is_here() {
        return;
    }
    let world = world();
    world.fifo("input");
    let mut client = world.start_c1();
    let order = Client::exec_order("c1", "e", "-info");
    let _: Empty = client.call("Exec", &ExecProcessRequest { stdin: world.text("input"), ..order }).expect("Exec");
    let exec = Pid::from_raw(client.start("c1", "e").expect("Start").pid.cast_signed());
    let state: StateResponse =
        client.call("State", &StateRequest { id: "c1".into(), ..StateRequest::default() }).expect("State");
    let init = Pid::from_raw(state.pid.cast_signed());
    // this thread plays the tracer
    for pid in [init, exec] {
        ptrace::seize(pid, ptrace::Options::empty()).expect("seize");
    }
    let asked = CloseIoRequest { id: "c1".into(), exec_id: "e".into(), stdin: true };
    let _: Empty = client.call("CloseIO", &asked).expect("CloseIO");
    assert_eq!(wait(&mut client, "e"), 0);
    gone("a shim that spins", || {
        let before = run_time(&client);
        std::thread::sleep(Duration::from_millis(300));
        run_time(&client) != before
    });
    assert_eq!(waitpid(exec, Some(WaitPidFlag::__WALL)), Ok(WaitStatus::Exited(exec, 0)));
    client.kill_container("c1");
    assert_eq!(wait(&mut client, ""), 137);
    assert!(matches!(waitpid(init, Some(WaitPidFlag::__WALL)), Ok(WaitStatus::Signaled(..))));
    // they are children of the shim, and no container owns them any more
    for pid in [init, exec] {
        gone("a zombie", || fs::exists(format!("/proc/{pid}")).expect("/proc"));
    }
    client.delete("c1", "").expect("Delete");
    let ends: Vec<_> = world.events_to("delete c1").into_iter().filter(|event| event.starts_with("exit")).collect();
    assert_eq!(ends, ["exit e 0", "exit c1 137"]);
    client.shut_down();
    world.assert_empty();
}

#[test]
fn a_creation_that_fails_spares_the_container_of_another_shim() {
    if !root_is_here() {
        return;
    }
    let world = world();
    let mut client = world.start_c1();
    world.edit("c1", |config| config["annotations"] = serde_json::json!({"io.kubernetes.cri.sandbox-id": "other"}));
    let mut other = world.start();
    assert_ne!(client.path, other.path);
    assert_eq!(other.create(&world, "c1").expect_err("the id is in use").code, 6);
    let images = CreateTaskRequest { checkpoint: world.text("images"), ..Client::order(&world, "c1") };
    let restored: Result<CreateTaskResponse, _> = other.call("Create", &images);
    assert_eq!(restored.expect_err("the id is in use").code, 6);
    assert_eq!(client.exec(&world, "e0", "-v"), 0);
    assert_eq!(client.status("c1"), status::RUNNING);
    other.shut_down();
    client.end_c1();
    world.assert_empty();
}

/// containerd calls `delete` after each end of a shim, and does not wait with the next container of this id.
#[test]
fn a_late_delete_of_an_earlier_life_spares_the_next_one() {
    if !root_is_here() {
        return;
    }
    let world = world();
    let mut client = world.start_c1();
    let old = world.path("old");
    fs::create_dir(&old).expect("a directory");
    let out = std::process::Command::new("sh")
        .args(["-c", "rmdir \"$PWD\" && exec \"$@\"", "sh"])
        .arg(&world.program)
        .args(["-namespace", "test", "-id", "c1", "-bundle"])
        .arg(world.bundles.join("c1"))
        .arg("delete")
        .current_dir(&old)
        .output()
        .expect("sh");
    assert!(out.status.success() && !out.stdout.is_empty(), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(client.exec(&world, "e", "-v"), 0);
    client.end_c1();
    world.assert_empty();
}

/// A container from images is made by Start. Before that, another engine may make one with its id.
#[test]
fn calls_for_images_that_are_not_restored_spare_a_container_with_their_id() {
    if !root_is_here() {
        return;
    }
    let world = world();
    world.bundle("c2");
    world.edit("c2", |config| config["annotations"] = serde_json::json!({"io.kubernetes.cri.sandbox-id": "other"}));
    let mut other = Client::of(&world.act_on("c2", "start", &world.params("c2")));
    let bundle = Client::order(&world, "c2").bundle;
    let images = CreateTaskRequest { bundle, checkpoint: world.text("images"), ..Client::order(&world, "c1") };
    let _: CreateTaskResponse = other.call("Create", &images).expect("the id is free");
    let mut client = world.start();
    client.create(&world, "c1").expect("Create");
    let kill = KillRequest { id: "c1".into(), signal: 9, all: true, ..KillRequest::default() };
    let killed: Result<Empty, _> = other.call("Kill", &kill);
    assert_eq!(killed.expect_err("it does not run").code, 5);
    // it is created and has no program yet: a deletion would kill it
    other.delete("c1", "").expect("Delete");
    client.start("c1", "").expect("Start");
    assert_eq!(client.status("c1"), status::RUNNING);
    other.shut_down();
    client.end_c1();
    world.assert_empty();
}

/// A container c1 in the host's pid namespace, and an exec of it that reads its stdin.
fn with_an_exec(world: &World) -> (Client, Pid) {
    world.fifo("input");
    world.edit("c1", |config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().expect("namespaces");
        namespaces.retain(|namespace| namespace["type"] != "pid");
    });
    let mut client = world.start_c1();
    let order = Client::exec_order("c1", "e", "-info");
    let _: Empty = client.call("Exec", &ExecProcessRequest { stdin: world.text("input"), ..order }).expect("Exec");
    let pid = client.start("c1", "e").expect("Start").pid;
    (client, Pid::from_raw(pid.cast_signed()))
}

/// Takes a process out of the cgroups of its container.
fn leave_cgroup(world: &World, pid: Pid) {
    let top = PathBuf::from("/sys/fs/cgroup");
    // with version 2 alone, the directories are cgroups, and some are those of other tests
    let hierarchies = if top.join("cgroup.controllers").exists() {
        vec![top]
    } else {
        fs::read_dir(&top).expect("hierarchies").flatten().map(|hierarchy| hierarchy.path()).collect()
    };
    for file in hierarchies.iter().map(|hierarchy| hierarchy.join("cgroup.procs")).filter(|file| file.exists()) {
        fs::write(file, pid.to_string()).expect("it leaves");
    }
    let left = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("its cgroups");
    assert!(!left.contains(&world.cgroup), "{left}");
}

/// An exec of c1 that is frozen in a cgroup which is not the container's, and that cgroup. SIGKILL does not end it before it is thawed.
struct Frozen {
    cgroup: PathBuf,
    exec: Pid,
}

impl Frozen {
    fn new(world: &World, pid: Pid) -> Option<Frozen> {
        let freezer = PathBuf::from("/sys/fs/cgroup/freezer");
        if !freezer.exists() {
            skip("with cgroup v2, a frozen process can be killed");
            return None;
        }
        leave_cgroup(world, pid);
        let other = freezer.join(&world.cgroup).join("other");
        fs::create_dir(&other).expect("a cgroup");
        fs::write(other.join("cgroup.procs"), pid.to_string()).expect("move the exec");
        fs::write(other.join("freezer.state"), "FROZEN").expect("freeze");
        Some(Frozen { cgroup: other, exec: pid })
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // a test that fails leaves nothing
        let _ = nix::sys::signal::kill(self.exec, nix::sys::signal::Signal::SIGKILL);
        let _ = fs::write(self.cgroup.join("freezer.state"), "THAWED");
        for _ in 0..1000 {
            if fs::remove_dir(&self.cgroup).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The end of init is reported after that of its execs.
#[test]
fn a_deletion_loses_no_end_that_waits_for_an_exec() {
    if !root_is_here() {
        return;
    }
    let world = world();
    let (mut client, pid) = with_an_exec(&world);
    let frozen = Frozen::new(&world, pid);
    client.kill_container("c1");
    gone("the program", || client.status("c1") != status::STOPPED);
    assert_eq!(client.delete("c1", "").expect("Delete").exit_status, 137);
    let events = world.events_to("delete c1");
    assert!(events.contains(&"exit c1 137".to_owned()), "{events:?}");
    drop(frozen);
    client.shut_down();
    world.assert_empty();
}

/// Without that, containerd would wait for the end of the container as long as the exec is frozen.
#[test]
fn an_end_waits_for_that_of_a_frozen_exec_but_not_for_ever() {
    if !root_is_here() {
        return;
    }
    let world = world();
    let (mut client, pid) = with_an_exec(&world);
    let Some(frozen) = Frozen::new(&world, pid) else { return client.end_c1() };
    client.kill_container("c1");
    // the shim waits for ten seconds
    assert_eq!(wait(&mut client, ""), 137);
    drop(frozen);
    assert_eq!(wait(&mut client, "e"), 137);
    assert_eq!(client.delete("c1", "").expect("Delete").exit_status, 137);
    let ends: Vec<_> = world.events_to("delete c1").into_iter().filter(|event| event.starts_with("exit")).collect();
    assert_eq!(ends, ["exit c1 137", "exit e 137"]);
    client.shut_down();
    world.assert_empty();
}

/// A container that may write to the host's cgroups takes its exec out of its own.
#[test]
fn an_exec_that_has_left_the_cgroup_ends_with_its_container() {
    if !root_is_here() {
        return;
    }
    let world = world();
    let (mut client, pid) = with_an_exec(&world);
    leave_cgroup(&world, pid);
    client.close_stdin("c1");
    let waiting = client.ask("Wait", &Client::wait("c1", ""));
    let ended: WaitResponse = client.call("Wait", &Client::wait("c1", "e")).expect("Wait");
    assert_eq!(ended.exit_status, 137);
    assert_eq!(client.answer::<WaitResponse>(waiting).expect("Wait").exit_status, 0);
    client.delete("c1", "").expect("Delete");
    let ends: Vec<_> = world.events_to("delete c1").into_iter().filter(|event| event.starts_with("exit")).collect();
    assert_eq!(ends, ["exit e 137", "exit c1 0"]);
    client.shut_down();
    world.assert_empty();
}

/// A deletion kills a container that was not started. The loop gets to know of many ends and deletions at the same time.
#[test]
fn a_deletion_before_the_start_loses_no_end() {
    if !root_is_here() {
        return;
    }
    let world = world();
    let ids: Vec<String> = (2..26).map(|n| format!("c{n}")).collect();
    ids.iter().for_each(|id| world.bundle(id));
    let mut client = world.start();
    for _ in 0..8 {
        for id in &ids {
            client.create(&world, id).expect("Create");
        }
        let deletions = ids.iter().map(|id| DeleteRequest { id: id.clone(), ..DeleteRequest::default() });
        let asked: Vec<u32> = deletions.map(|deletion| client.ask("Delete", &deletion)).collect();
        for stream in asked {
            assert_eq!(client.answer::<DeleteResponse>(stream).expect("Delete").exit_status, 137);
        }
    }
    client.create(&world, "c1").expect("Create");
    client.delete("c1", "").expect("Delete");
    let events = world.events_to("delete c1");
    let ends = events.iter().filter(|event| event.starts_with("exit ") && event.ends_with(" 137")).count();
    assert_eq!(ends, 8 * ids.len() + 1, "{events:?}");
    client.shut_down();
    world.assert_empty();
}
