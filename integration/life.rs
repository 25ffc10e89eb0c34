//! create, start, state, kill, delete, pause, resume, ps, list: a container from its bundle to its end, and the message
//! of each command at the wrong time.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::ordinary::root;
use crate::security::attacker;
use crate::world::{Outcome, Who, World, finish, wait_until, who};
use crate::{needs, needs_cgroup, only};

#[test]
fn run_gives_the_programs_output_and_status() {
    let world = World::running(&["sh", "-c", "echo hello; exit 7"]);
    let ran = world.run();
    assert_eq!((ran.out.as_str(), ran.code()), ("hello\n", 7), "{}", ran.err);
}

#[test]
fn run_of_a_program_that_is_killed_gives_128_and_the_signal() {
    let world = World::running(&["sh", "-c", "sh -c 'kill -9 $$'; exit $?"]);
    assert_eq!(world.run().code(), 137);
    let mut world = World::running(&["sh", "-c", "kill -9 $$"]);
    world.without_namespace("pid");
    assert_eq!(world.run().code(), 137);
}

#[test]
fn a_container_is_created_started_killed_and_deleted() {
    let world = World::running(&["sleep", "1000"]);
    world.create().ok();
    assert_eq!(world.status(), "created");
    world.call(&["start", &world.id]).ok();
    assert_eq!(world.status(), "running");
    says(world.call(&["start", &world.id]), "cannot start an already running container");
    says(world.call(&["delete", &world.id]), "cannot delete container");
    assert_eq!(world.status(), "running");
    world.call(&["kill", &world.id, "KILL"]).ok();
    wait_until("stopped", || world.status() == "stopped");
    says(world.call(&["start", &world.id]), "cannot start a container that has stopped");
    world.call(&["delete", &world.id]).ok();
    says(world.call(&["state", &world.id]), "does not exist");
}

/// Asserts a failure. For coracle and runc, the status is 1 and the message contains these words.
#[track_caller]
pub fn says(outcome: Outcome, words: &str) {
    assert_ne!(outcome.code(), 0, "{}", outcome.out);
    if who() != Who::Crun {
        assert_eq!(outcome.code(), 1, "{}{}", outcome.out, outcome.err);
        let said = outcome.err.replace("can't", "cannot");
        assert!(said.contains(words), "{words:?} is not in {said:?}");
    }
}

#[test]
fn state_is_what_clients_read() {
    let mut world = World::running(&["sleep", "1000"]);
    world.config["annotations"] = json!({"org.example/a": "b"});
    world.begin();
    let state = world.state();
    assert_eq!(state["id"], *world.id);
    assert_eq!(state["status"], "running");
    assert_eq!(state["bundle"], world.bundle().to_str().unwrap());
    assert_eq!(state["annotations"], json!({"org.example/a": "b"}));
    assert!(state["ociVersion"].as_str().unwrap().starts_with("1."));
    assert!(Path::new(&format!("/proc/{}", state["pid"])).is_dir());
    let created = state["created"].as_str().unwrap();
    assert!(created.len() > 20 && created.as_bytes()[10] == b'T' && created.ends_with('Z'), "{created}");
    if who() != Who::Crun {
        assert_eq!(state["rootfs"], world.rootfs("").to_str().unwrap().trim_end_matches('/'));
        assert_eq!(state["owner"], "");
    }
    world.call(&["kill", &world.id, "9"]).ok();
    world.wait_for_status("stopped");
    assert_eq!(world.state()["pid"], 0);
}

#[test]
fn the_bundle_in_the_state_has_no_link_in_its_path() {
    let world = World::running(&["true"]);
    world.write();
    let link = world.path("link");
    std::os::unix::fs::symlink("bundle", &link).unwrap();
    world.call(&["create", "--bundle", link.to_str().unwrap(), &world.id]).ok();
    assert_eq!(world.state()["bundle"], world.bundle().to_str().unwrap());
    world.call(&["delete", "--force", &world.id]).ok();
}

/// The version of the kernel, its first two numbers.
fn kernel() -> (u32, u32) {
    let text = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = text.split(['.', '-', '+']).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap(), numbers.next().unwrap())
}

/// The kernel shows a process as a zombie as soon as its first thread has ended. Earlier versions and runc take it for
/// stopped, and plain `delete` kills it.
#[test]
fn a_container_runs_until_the_last_thread_of_its_init_has_ended() {
    needs_cgroup!();
    only!(Who::Us; "a zombie is stopped");
    needs!(attacker().is_some(), "no C compiler");
    let mut world = World::running(&["/bin/attacker", "last-thread", "/tmp/count"]);
    finish(Command::new("cp").arg(attacker().unwrap()).arg(world.rootfs("bin/attacker"))).ok();
    world.mount(json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}));
    world.begin();
    let pid = world.pid();
    let stat = || fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    wait_until("the first thread has ended", || stat().contains(") Z "));
    assert_eq!((world.status().as_str(), world.pid()), ("running", pid));
    assert!(world.call(&["list"]).ok().lines().any(|line| line.contains(&world.id) && line.contains("running")));
    says(world.call(&["delete", &world.id]), "cannot delete container");
    let ran = world.exec(&["sh", "-c", "cat /tmp/count; readlink /proc/self/ns/mnt"]);
    if kernel() >= (6, 9) {
        let own = fs::read_link("/proc/self/ns/mnt").unwrap();
        let said = ran.ok();
        let (count, namespace) = said.trim().split_once('\n').unwrap();
        assert!(count.parse::<u32>().is_ok() && namespace != own.to_str().unwrap(), "{said}");
    } else {
        says(ran, "open the container's init");
    }
    world.call(&["pause", &world.id]).ok();
    assert_eq!(world.status(), "paused");
    world.call(&["resume", &world.id]).ok();
    world.call(&["update", "--pids-limit", "60", &world.id]).ok();
    world.call(&["kill", &world.id, "KILL"]).ok();
    world.wait_for_status("stopped");
    world.call(&["delete", &world.id]).ok();
    world.assert_clean();
}

#[test]
fn what_is_not_there_does_not_exist() {
    let world = World::running(&["true"]);
    world.write();
    for command in ["state", "start", "pause", "resume", "delete", "kill", "ps"] {
        says(world.call(&[command, "nobody"]), "container does not exist");
    }
    let exec = world.call(&["exec", "nobody", "true"]);
    assert_eq!(exec.code(), if who() == Who::Crun { 1 } else { 255 }, "{}", exec.err);
    assert_eq!(world.call(&["delete", "--force", "nobody"]).code(), 0);
    // crun 1.8 accepts any file name.
    let bad: &[&str] = if who() == Who::Crun { &["a/b"] } else { &["a/b", "..", "a b", "ä"] };
    for bad in bad {
        says(world.call(&["create", bad]), "invalid container ID format");
    }
}

#[test]
fn a_created_container_is_killed_or_deleted_and_lives_through_other_signals() {
    let world = World::running(&["sleep", "1000"]);
    world.create().ok();
    let pid = world.pid();
    for signal in ["USR1", "0", "WINCH", "CONT"] {
        let killed = world.call(&["kill", &world.id, signal]);
        // runc's init is a Go program: it has handlers, and dies of some signals. crun does not know signal 0.
        if who() == Who::Us {
            killed.ok();
            assert_eq!(world.status(), "created", "after {signal}");
        }
    }
    world.call(&["kill", &world.id, "KILL"]);
    world.wait_for_status("stopped");
    says(world.call(&["start", &world.id]), "cannot start a container that has stopped");
    world.call(&["delete", &world.id]).ok();
    world.assert_clean();

    world.create().ok();
    world.call(&["delete", &world.id]).ok();
    world.assert_clean();
    assert!(!alive(pid));
}

/// The kernel does not deliver a signal to the first process of a pid namespace if it has no handler for it.
#[test]
fn a_signal_to_end_ends_a_created_container() {
    needs!(who() != Who::Crun, "crun's container lives on");
    let world = World::running(&["sleep", "1000"]);
    for (name, signal) in [("TERM", Signal::SIGTERM), ("INT", Signal::SIGINT), ("HUP", Signal::SIGHUP)] {
        for by_command in [true, false] {
            world.create().ok();
            if by_command {
                world.call(&["kill", &world.id, name]).ok();
            } else {
                signal::kill(Pid::from_raw(world.pid()), signal).unwrap();
            }
            world.wait_for_status("stopped");
            world.call(&["delete", &world.id]).ok();
            world.assert_clean();
        }
    }
}

#[test]
fn kill_takes_names_and_numbers_in_any_spelling() {
    let script = "for s in TERM USR1 USR2 HUP INT; do trap \"echo $s >> /tmp/got\" $s; done; touch /tmp/ready; \
                  while :; do sleep 0.02; done";
    let mut world = World::running(&["sh", "-c", script]);
    fs::create_dir(world.rootfs("tmp")).unwrap();
    world.config["root"]["readonly"] = json!(false);
    world.begin();
    wait_until("traps are set", || world.rootfs("tmp/ready").exists());
    // crun 1.8 does not accept lower case.
    let lower = if who() == Who::Crun { "USR2" } else { "usr2" };
    for (n, (typed, expected)) in [
        ("SIGUSR1", "USR1"),
        (lower, "USR2"),
        ("1", "HUP"),
        ("INT", "INT"),
        ("none", "TERM"),
        ("", "TERM"),
        ("15", "TERM"),
    ]
    .into_iter()
    .filter(|(typed, _)| !typed.is_empty() || who() != Who::Crun)
    .enumerate()
    {
        let mut args = vec!["kill", &world.id];
        args.extend(Some(typed).filter(|typed| *typed != "none"));
        world.call(&args).ok();
        let got = || fs::read_to_string(world.rootfs("tmp/got")).unwrap_or_default();
        wait_until(typed, || got().lines().count() > n);
        assert_eq!(got().lines().last(), Some(expected));
        assert_eq!(world.status(), "running");
    }
    for none in ["NOPE", "99"] {
        // crun 1.8 passes it on as a number, and loses the kernel's error.
        let code = world.call(&["kill", &world.id, none]).code();
        assert!(who() == Who::Crun || code != 0, "{none}");
    }
    world.call(&["kill", "--all", &world.id, "9"]).ok();
    world.wait_for_status("stopped");
    says(world.call(&["kill", &world.id, "TERM"]), "container not running");
    // containerd still uses --all, and expects success.
    assert_eq!(world.call(&["kill", "--all", &world.id, "9"]).code(), 0);
}

#[test]
fn the_images_stop_signal_is_the_default() {
    only!(Who::Us; "nobody else does what the spec says one should");
    let mut world = World::running(&["sh", "-c", "trap 'exit 5' USR2; touch /tmp/ready; while :; do sleep 0.02; done"]);
    fs::create_dir(world.rootfs("tmp")).unwrap();
    world.config["root"]["readonly"] = json!(false);
    world.config["annotations"] = json!({"org.opencontainers.image.stopSignal": "SIGUSR2"});
    world.begin();
    wait_until("trap is set", || world.rootfs("tmp/ready").exists());
    world.call(&["kill", &world.id]).ok();
    world.wait_for_status("stopped");
}

#[test]
fn without_a_pid_namespace_kill_leaves_no_process() {
    needs_cgroup!();
    let script =
        "for n in 1 2 3; do sh -c 'trap \"\" TERM HUP; sleep 999 & sleep 999' & done; touch /tmp/ready; sleep 999";
    let mut world = World::running(&["sh", "-c", script]);
    fs::create_dir(world.rootfs("tmp")).unwrap();
    world.config["root"]["readonly"] = json!(false);
    world.without_namespace("pid");
    world.begin();
    wait_until("all run", || pids(&world).len() >= 7);
    let all = pids(&world);
    // Older runtimes need --all.
    let args = if who() == Who::Us { &["kill", &world.id, "KILL"][..] } else { &["kill", "--all", &world.id, "KILL"] };
    world.call(args).ok();
    for pid in all {
        wait_until(&format!("{pid} is gone"), || !alive(pid));
    }
    world.wait_for_status("stopped");
    world.call(&["delete", &world.id]).ok();
}

#[test]
fn without_a_pid_namespace_what_init_left_is_killed_and_deleted() {
    needs_cgroup!();
    let mut world = World::running(&["sh", "-c", "setsid sleep 999 & sleep 0.2"]);
    std::os::unix::fs::symlink("busybox", world.rootfs("bin/setsid")).unwrap();
    world.without_namespace("pid");
    world.begin();
    world.wait_for_status("stopped");
    let left = pids(&world);
    assert_eq!(left.len(), 1);
    if who() == Who::Us {
        world.call(&["kill", &world.id, "KILL"]).ok();
        wait_until("killed", || !alive(left[0]));
    }
    world.call(&["delete", "--force", &world.id]).ok();
    wait_until("gone", || !alive(left[0]));
    world.assert_clean();
}

fn pids(world: &World) -> Vec<i32> {
    serde_json::from_str::<Option<Vec<i32>>>(&world.call(&["ps", "--format", "json", &world.id]).ok())
        .unwrap()
        .unwrap_or_default()
}

pub fn alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}

#[test]
fn pause_and_resume_go_back_to_where_it_was() {
    needs_cgroup!();
    let world = World::running(&["sleep", "1000"]);
    world.create().ok();
    // crun 1.8 resumes any container, and shows a paused one that waits for start as created.
    if who() != Who::Crun {
        says(world.call(&["resume", &world.id]), "not paused");
        world.call(&["pause", &world.id]).ok();
        assert_eq!(world.status(), "paused");
        says(world.call(&["start", &world.id]), "cannot start a container in the paused state");
        world.call(&["resume", &world.id]).ok();
        assert_eq!(world.status(), "created");
    }
    world.call(&["start", &world.id]).ok();
    world.call(&["pause", &world.id]).ok();
    assert_eq!(world.status(), "paused");
    assert_eq!(world.state()["pid"], pids(&world)[0]);
    if who() != Who::Crun {
        world.call(&["pause", &world.id]).fails();
    }
    says(world.call(&["delete", &world.id]), "not stopped: paused");
    let exec = world.exec(&["true"]);
    assert_eq!(exec.code(), if who() == Who::Crun { 1 } else { 255 });
    if who() != Who::Crun {
        assert!(exec.err.contains("cannot exec in a paused container"), "{}", exec.err);
    }
    world.call(&["resume", &world.id]).ok();
    assert_eq!(world.status(), "running");
    assert_eq!(world.exec(&["echo", "awake"]).ok(), "awake\n");
    world.call(&["pause", &world.id]).ok();
    world.call(&["kill", &world.id, "KILL"]).ok();
    if who() == Who::Us {
        world.wait_for_status("stopped");
        says(world.call(&["pause", &world.id]), "not running");
        says(world.call(&["resume", &world.id]), "not running");
    }
    world.call(&["delete", "--force", &world.id]).ok();
}

#[test]
fn a_paused_container_is_deleted_by_force() {
    needs_cgroup!();
    let world = World::running(&["sleep", "1000"]);
    world.begin();
    let pid = world.pid();
    world.call(&["pause", &world.id]).ok();
    world.call(&["delete", "--force", &world.id]).ok();
    assert!(!alive(pid));
    world.assert_clean();
}

#[test]
fn exec_in_every_status() {
    let world = World::running(&["sleep", "1000"]);
    world.create().ok();
    if root() {
        assert_eq!(world.exec(&["echo", "early"]).ok(), "early\n");
    } else if who() == Who::Us {
        let said = world.exec(&["echo", "early"]).fails();
        assert!(said.contains("cannot exec in a container that is not started"), "{said}");
    }
    assert_eq!(world.status(), "created");
    world.call(&["start", &world.id]).ok();
    assert_eq!(world.exec(&["echo", "on time"]).ok(), "on time\n");
    world.call(&["kill", &world.id, "KILL"]).ok();
    world.wait_for_status("stopped");
    let late = world.exec(&["echo", "late"]);
    assert_eq!(late.code(), if who() == Who::Crun { 1 } else { 255 });
    if who() != Who::Crun {
        assert!(late.err.contains("cannot exec in a stopped container"), "{}", late.err);
    }
}

#[test]
fn ps_lists_the_processes() {
    let world = World::running(&["sh", "-c", "sleep 777 & sleep 778; true"]);
    world.begin();
    wait_until("three", || pids(&world).len() == 3);
    assert!(pids(&world).contains(&world.pid()));
    if who() == Who::Crun {
        return;
    }
    let table = world.call(&["ps", &world.id]).ok();
    assert!(table.starts_with("UID") && table.contains("sleep 777") && table.contains("sleep 778"), "{table}");
    assert_eq!(table.lines().count(), 4);
    let table = world.call(&["ps", &world.id, "-eo", "pid,comm"]).ok();
    assert_eq!(table.lines().count(), 4, "{table}");
    let bad = world.call(&["ps", &world.id, "-eo", "comm"]).fails();
    assert!(bad.contains("couldn't find PID field in ps output"), "{bad}");
}

#[test]
fn list_shows_all_that_are_there() {
    let world = World::running(&["sleep", "1000"]);
    let missing = world.call(&["list"]);
    if who() == Who::Us {
        missing.fails();
    }
    world.begin();
    let other = format!("{}-b", world.id);
    let mut config = world.config.clone();
    if let Some(path) = world.config["linux"]["cgroupsPath"].as_str() {
        config["linux"]["cgroupsPath"] = json!(path.replace(&world.id, &other));
    }
    fs::write(world.bundle().join("config.json"), config.to_string()).unwrap();
    world.call(&["create", &other]).ok();
    let mut ids: Vec<_> = world.call(&["list", "-q"]).ok().lines().map(str::to_owned).collect();
    ids.sort();
    assert_eq!(ids, [world.id.clone(), other.clone()]);
    let list: Value = serde_json::from_str(&world.call(&["list", "--format", "json"]).ok()).unwrap();
    let mut statuses: Vec<_> = list.as_array().unwrap().iter().map(|one| one["status"].as_str().unwrap()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, ["created", "running"]);
    let owner = if root() { "root".to_owned() } else { std::env::var("USER").unwrap() };
    let table = world.call(&["list"]).ok();
    if who() != Who::Crun {
        let header = table.lines().next().unwrap().split_whitespace().collect::<Vec<_>>();
        assert_eq!(header, ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
        assert!(table.lines().nth(1).unwrap().trim_end().ends_with(&owner), "{table}");
    }
    if who() == Who::Us {
        // A container that cannot be read gives a warning, and the others are listed.
        fs::create_dir(world.path("state/broken")).unwrap();
        fs::write(world.path("state/broken/state.json"), "{").unwrap();
        let list = world.call(&["list", "-q"]);
        assert!(list.err.contains("broken"), "{}", list.err);
        assert_eq!(list.ok(), format!("{}\n{other}\n", world.id));
        // The runtime does not know what was made for it, and so does not remove it (`damaged.rs`).
        assert!(world.call(&["delete", "--force", "broken"]).fails().contains("what must be undone is unknown"));
        fs::remove_dir_all(world.path("state/broken")).unwrap();
    }
    world.call(&["delete", "--force", &other]).ok();
}

#[test]
fn a_change_of_the_bundle_after_create_has_no_effect() {
    let mut world = World::running(&["sleep", "1000"]);
    world.config["process"]["env"] = json!(["PATH=/bin", "WHEN=before"]);
    world.create().ok();
    world.config["process"]["args"] = json!(["false"]);
    world.config["process"]["env"] = json!(["PATH=/bin", "WHEN=after"]);
    world.write();
    world.call(&["start", &world.id]).ok();
    assert_eq!(world.status(), "running");
    if who() == Who::Us {
        assert_eq!(world.exec(&["sh", "-c", "echo $WHEN"]).ok(), "before\n");
        fs::remove_file(world.bundle().join("config.json")).unwrap();
        assert_eq!(world.exec(&["sh", "-c", "echo $WHEN"]).ok(), "before\n");
    }
}

#[test]
fn a_program_that_ends_at_once_never_hangs_and_leaves_nothing() {
    let world = World::running(&["true"]);
    world.write();
    for _ in 0..100 {
        assert_eq!(world.call(&["run", &world.id]).code(), 0);
    }
    for _ in 0..20 {
        world.call(&["create", &world.id]).ok();
        world.call(&["start", &world.id]).ok();
        world.call(&["delete", "--force", &world.id]).ok();
    }
    world.assert_clean();
}

#[test]
fn run_detached_returns_when_it_runs_and_keep_keeps_it() {
    let world = World::running(&["sh", "-c", "sleep 1000"]);
    world.write();
    world.call(&["run", "-d", &world.id]).ok();
    assert_eq!(world.status(), "running");
    world.call(&["delete", "--force", &world.id]).ok();
    if who() == Who::Crun {
        return; // crun 1.8 has no --keep
    }
    let world = World::running(&["sh", "-c", "exit 3"]);
    world.write();
    assert_eq!(world.call(&["run", "--keep", &world.id]).code(), 3);
    assert_eq!(world.status(), "stopped");
    world.call(&["delete", &world.id]).ok();
}

#[test]
fn delete_in_the_middle_of_a_foreground_run_is_fine() {
    let mut world = World::running(&["sleep", "1000"]);
    let note = world.path("note");
    let script = format!("echo x >> {}", note.display());
    world.config["hooks"] = json!({"poststop": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]});
    world.write();
    std::thread::scope(|scope| {
        let run = scope.spawn(|| world.call(&["run", &world.id]));
        // The program, not the init that becomes it.
        let begun = |pid: i32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sleep\n");
        let state = || serde_json::from_str::<Value>(&world.call(&["state", &world.id]).out).ok();
        let pid = || state().and_then(|state| i32::try_from(state["pid"].as_i64()?).ok());
        wait_until("it runs", || pid().is_some_and(begun));
        let deleted = world.call(&["delete", "--force", &world.id]);
        // crun's two commands disturb each other.
        assert!(who() == Who::Crun || deleted.code() == 0, "{}", deleted.err);
        let run = run.join().unwrap();
        assert!(who() != Who::Us || run.code() == 137, "{}", run.err);
    });
    world.assert_clean();
    if who() == Who::Us {
        assert_eq!(fs::read_to_string(note).unwrap(), "x\n");
    }
}

#[test]
fn a_delete_by_force_does_not_wait_for_a_hook_that_hangs() {
    only!(Who::Us; "what hangs a start hangs their delete or not, as it happens");
    for point in ["startContainer", "poststart"] {
        let mut world = World::running(&["sleep", "1000"]);
        world.config["hooks"] = json!({point: [{"path": "/bin/sh", "args": ["sh", "-c", "sleep 8.25"],
            "env": ["PATH=/bin:/usr/bin"]}]});
        world.create().ok();
        std::thread::scope(|scope| {
            let start = scope.spawn(|| world.call(&["start", &world.id]));
            std::thread::sleep(Duration::from_millis(300));
            let before = Instant::now();
            world.call(&["delete", "--force", &world.id]).ok();
            assert!(before.elapsed() < Duration::from_secs(5), "{point}: it waits");
            world.assert_clean();
            if point == "startContainer" {
                start.join().unwrap().fails();
            }
        });
    }
}

#[test]
fn kill_and_delete_take_a_pattern() {
    only!(Who::Us, Who::Crun; "runc has no --regex");
    let world = World::running(&["sleep", "1000"]);
    world.begin();
    let pattern = format!("^{}$", world.id);
    if who() == Who::Us {
        world.call(&["kill", "--regex", &pattern, "KILL"]).ok();
        world.wait_for_status("stopped");
    }
    world.call(&["delete", "--force", "--regex", &pattern]).ok();
    world.assert_clean();
}

#[test]
fn flags_in_gos_way_and_after_the_id() {
    let world = World::running(&["sleep", "1000"]);
    world.write();
    if who() == Who::Crun {
        return;
    }
    let bundle = world.bundle();
    let mut command = world.command(&["create", &world.id, "-bundle"]);
    finish(command.arg(&bundle).current_dir("/")).ok();
    world.call(&["delete", &world.id, "-force"]).ok();
    world.assert_clean();
}
