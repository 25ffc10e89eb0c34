//! A container that may write its own cgroup freezes each process that enters it, and processes that the runtime must end. On
//! version 1 a frozen process does not die. Whatever it freezes, the runtime itself stays outside of its cgroup, a signal ends each
//! command, and `delete --force` removes the container.
//!
//! Against earlier versions of coracle, `delete --force` fails while `start` waits for a frozen hook, or kills or freezes itself
//! when it was moved into the container's cgroup.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::{attacker, put_attacker};
use crate::cgroups::{directory, unified};
use crate::world::{Who, World, wait_until};
use crate::{needs, needs_cgroup, needs_root, only};

/// The freezer's directory in the container.
fn inside() -> &'static str {
    if unified() { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/freezer" }
}

/// The command that freezes the container's own cgroup of version 1.
const FREEZE: &str = "echo FROZEN >/sys/fs/cgroup/freezer/freezer.state";

/// A container that may write its own cgroup.
fn with_its_cgroup(args: &[&str]) -> World {
    let mut world = World::running(args);
    world.namespace("cgroup", None);
    world.mount(json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["rw"]}));
    put_attacker(&world);
    world
}

/// A container that freezes each process that enters its cgroup.
fn freezing() -> World {
    let world = with_its_cgroup(&["/attacker", "freezer", inside()]);
    world.begin();
    wait_until("the attacker waits", || !in_group(&world, "fire").is_empty());
    world
}

fn group(world: &World, below: &str) -> PathBuf {
    directory("freezer", &world.group()).join(below)
}

/// The processes in a cgroup of the container.
fn in_group(world: &World, below: &str) -> String {
    fs::read_to_string(group(world, below).join("cgroup.procs")).unwrap_or_default()
}

/// Begins a command. A frozen process of the container may keep its streams, so they are no pipes.
fn spawn(world: &World, args: &[&str]) -> Child {
    world.command(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// The runtime is in no cgroup of the container.
#[track_caller]
fn is_outside(runtime: &Child, world: &World) {
    let groups = fs::read_to_string(format!("/proc/{}/cgroup", runtime.id())).unwrap();
    assert!(!groups.contains(&world.group()), "{groups}");
}

#[track_caller]
fn ends(mut runtime: Child) {
    wait_until("the command has ended", || runtime.try_wait().unwrap().is_some());
}

/// `delete --force` succeeds, and leaves nothing.
#[track_caller]
fn is_deleted(world: &World) {
    world.call(&["delete", "--force", &world.id]).ok();
    world.assert_clean();
}

#[test]
fn an_exec_that_is_frozen_ends_with_its_container() {
    needs_root!("a cgroup that the container may write");
    needs_cgroup!();
    only!(Who::Us; "about our own waits");
    needs!(attacker().is_some(), "no C compiler");
    let world = freezing();
    let exec = spawn(&world, &["exec", &world.id, "sleep", "1000"]);
    wait_until("it is frozen", || !in_group(&world, "ice").is_empty());
    std::thread::sleep(Duration::from_millis(200));
    is_outside(&exec, &world);
    // If its program has begun, the program gets the signal, and is frozen.
    kill(Pid::from_raw(exec.id().cast_signed()), Signal::SIGTERM).unwrap();
    is_deleted(&world);
    ends(exec);
}

#[test]
fn a_hook_that_freezes_its_cgroup_does_not_keep_delete_from_the_lock() {
    needs_root!("a cgroup that the container may write");
    needs_cgroup!();
    needs!(!unified(), "on version 2 no process in a cgroup namespace freezes its root (nsdelegate)");
    only!(Who::Us; "about our own waits");
    needs!(attacker().is_some(), "no C compiler");
    let mut world = with_its_cgroup(&["true"]);
    world.config["hooks"] = json!({"startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", FREEZE]}]});
    world.create().ok();
    let start = spawn(&world, &["start", &world.id]);
    world.wait_for_status("paused");
    is_outside(&start, &world);
    is_deleted(&world);
    ends(start);
}

#[test]
fn a_hook_that_another_process_freezes_does_not_keep_delete_from_the_lock() {
    needs_root!("a cgroup that the container may write");
    needs_cgroup!();
    only!(Who::Us; "about our own waits");
    needs!(attacker().is_some(), "no C compiler");
    let mut world = with_its_cgroup(&["true"]);
    world.config["hooks"] = json!({"startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "sleep 1000"]}]});
    world.create().ok();
    let exec = world.command(&["exec", "--detach", &world.id, "/attacker", "freezer", inside()]).status();
    assert!(exec.unwrap().success());
    wait_until("init is frozen", || in_group(&world, "ice").contains(&world.pid().to_string()));
    let start = spawn(&world, &["start", &world.id]);
    std::thread::sleep(Duration::from_millis(300));
    is_deleted(&world);
    ends(start);
}

#[test]
fn a_run_in_a_cgroup_that_freezes_itself_is_deleted() {
    needs_root!("a cgroup that the container may write");
    needs_cgroup!();
    needs!(!unified(), "on version 2 no process in a cgroup namespace freezes its root (nsdelegate)");
    only!(Who::Us; "about our own waits");
    needs!(attacker().is_some(), "no C compiler");
    let world = with_its_cgroup(&["sh", "-c", &format!("{FREEZE}; exit 3")]);
    world.write();
    let run = spawn(&world, &["run", &world.id]);
    wait_until("it is frozen", || world.call(&["state", &world.id]).out.contains("paused"));
    is_outside(&run, &world);
    is_deleted(&world);
    ends(run);
}

/// A process of the container freezes its init again and again.
#[test]
fn an_init_that_is_kept_frozen_is_deleted() {
    needs_root!("a cgroup that the container may write");
    needs_cgroup!();
    only!(Who::Us; "about our own waits");
    needs!(attacker().is_some(), "no C compiler");
    let world = with_its_cgroup(&["sleep", "1000"]);
    world.begin();
    world.call(&["exec", "--detach", &world.id, "/attacker", "freezer", inside()]).ok();
    wait_until("init is frozen", || in_group(&world, "ice").contains(&world.pid().to_string()));
    is_deleted(&world);
}

/// On version 1, a container can move a process of another one, which shares its pid namespace, into its own frozen cgroup.
#[test]
fn what_another_container_has_frozen_is_named() {
    needs_root!("a cgroup that the container may write");
    needs_cgroup!();
    needs!(!unified(), "the process dies on version 2");
    only!(Who::Us; "about our own waits");
    needs!(attacker().is_some(), "no C compiler");
    let owner = with_its_cgroup(&["sleep", "1000"]);
    owner.begin();
    let ice = group(&owner, "ice");
    fs::create_dir(&ice).unwrap();
    fs::write(ice.join("freezer.state"), "FROZEN").unwrap();
    let mut world = World::running(&["sleep", "1000"]);
    world.namespace("pid", Some(&format!("/proc/{}/ns/pid", owner.pid())));
    world.begin();
    fs::write(ice.join("cgroup.procs"), world.pid().to_string()).unwrap();
    let said = world.call(&["delete", "--force", &world.id]).fails();
    assert!(said.contains(&format!("is frozen by {}", ice.display())), "{said}");
    is_deleted(&owner);
    is_deleted(&world);
}

/// A container that sees the runtime's pid can move the runtime into its own cgroup.
#[test]
fn a_runtime_that_was_moved_into_the_containers_cgroup_leaves_it() {
    needs_root!("a process in the cgroup of a container");
    needs_cgroup!();
    only!(Who::Us; "about our own waits");
    for (pid_namespace, below) in [(true, ""), (false, ""), (false, "own")] {
        let mut world = World::running(&["sleep", "1000"]);
        if !pid_namespace {
            world.without_namespace("pid");
        }
        world.begin();
        fs::create_dir_all(group(&world, below)).unwrap();
        let procs = group(&world, below).join("cgroup.procs");
        let enter = format!("echo $$ >{} && exec \"$@\"", procs.display());
        for args in [&["pause"][..], &["kill", "--all"], &["delete", "--force"]] {
            let command = world.command(args);
            let mut moved = Command::new("timeout");
            moved.args(["-s", "KILL", "60", "sh", "-c", &enter, "sh"]).arg(command.get_program());
            moved.args(command.get_args()).arg(&world.id).current_dir(world.bundle());
            moved.args(Some("KILL").filter(|_| args[0] == "kill"));
            let err = fs::File::create(world.path("err")).unwrap();
            let mut child = moved.stdin(Stdio::null()).stderr(err).spawn().unwrap();
            let began = Instant::now();
            wait_until("the command ends", || child.try_wait().unwrap().is_some() || began.elapsed().as_secs() > 15);
            let ended = child.try_wait().unwrap();
            if ended.is_none() {
                let (file, word) = if unified() { ("cgroup.freeze", "0") } else { ("freezer.state", "THAWED") };
                fs::write(group(&world, file), word).unwrap();
                ends(child);
            }
            assert!(ended.is_some_and(|status| status.success()), "{args:?}, {pid_namespace}, {below:?}: {ended:?}");
            assert_eq!(fs::read_to_string(world.path("err")).unwrap(), "");
            if args[0] == "pause" {
                world.call(&["resume", &world.id]).ok();
            }
        }
        world.assert_clean();
    }
}
