//! Many commands for the same container at once: the commands take effect one after the other, and nothing is left.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::life::says;
use crate::world::{Who, World, wait_until, who};
use crate::{needs, needs_root, only};

fn spawn(world: &World, args: &[&str]) -> Child {
    let mut command = world.command(args);
    command.arg(&world.id).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

fn code(mut child: Child) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    let status = child.wait().unwrap();
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// A number that differs each time, to choose a moment.
fn random(below: u64) -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish() % below
}

fn processes_of(world: &World) -> usize {
    let here = world.path("").display().to_string();
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter(|entry| {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let root = std::fs::read_link(entry.path().join("root")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&here) || root.starts_with(&here)
        })
        .count()
}

/// Calls `create` and `delete --force` for one id, over and over, each at its own pace. Returns how many creates
/// succeeded.
fn churn(world: &World, rounds: usize, verb: &str) -> usize {
    let mut done = 0;
    let mut creators: Vec<Child> = Vec::new();
    for round in 0..rounds {
        creators.push(spawn(world, &[verb]));
        std::thread::sleep(Duration::from_micros(random(if round % 2 == 0 { 4_000 } else { 30_000 })));
        assert_eq!(code(spawn(world, &["delete", "--force"])), 0, "round {round}");
        creators = creators
            .into_iter()
            .filter_map(|mut child| match child.try_wait().unwrap() {
                None => Some(child),
                Some(_) => {
                    let code = code(child);
                    // It was made; another command has taken or deleted it; it was ended; the program of `run` was
                    // killed.
                    assert!([0, 1, 137, 143].contains(&code), "round {round}: {verb} exits with {code}");
                    done += usize::from(code == 0);
                    None
                }
            })
            .collect();
    }
    for mut child in creators {
        // A `run` that came after every delete would run its program to the end.
        while child.try_wait().unwrap().is_none() {
            assert_eq!(world.call(&["delete", "--force", &world.id]).code(), 0);
            std::thread::sleep(Duration::from_millis(20));
        }
        let code = code(child);
        assert!([0, 1, 137, 143].contains(&code), "{verb} exits with {code}");
        done += usize::from(code == 0);
        assert_eq!(world.call(&["delete", "--force", &world.id]).code(), 0);
    }
    assert_eq!(world.call(&["delete", "--force", &world.id]).code(), 0);
    done
}

#[test]
fn a_delete_beside_a_create_ends_it_or_waits_for_it() {
    only!(Who::Us; "the peers leave cgroups, or two containers under one id");
    // By hand: ROUNDS=200
    let rounds = std::env::var("ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(40);
    for verb in ["create", "run"] {
        let mut world = World::running(&["sleep", "1000"]);
        world.config["hooks"] = json!({"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "0.005"]}]});
        world.write();
        let begun = Instant::now();
        let done = churn(&world, rounds, verb);
        eprintln!("{rounds} rounds of {verb}, of which {done} went well, took {:?}", begun.elapsed());
        world.assert_clean();
        wait_until("no process is left", || processes_of(&world) == 0);
        world.config["process"]["args"] = json!(["true"]);
        world.run().ok();
    }
}

#[test]
fn a_delete_beside_a_create_that_hangs_ends_it_and_its_hook() {
    only!(Who::Us; "the peers leave what the creator has made");
    let mut world = World::running(&["sleep", "1000"]);
    let seen = world.path("seen");
    let hook = format!("echo > {}; sleep 7322", seen.display());
    world.config["hooks"] = json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", hook]}]});
    world.write();
    let create = spawn(&world, &["create"]);
    wait_until("the hook runs", || seen.exists());
    // The container does not exist yet.
    assert!(world.call(&["state", &world.id]).fails().contains("container does not exist"));
    assert!(world.call(&["delete", &world.id]).fails().contains("container does not exist"));
    assert!(world.call(&["create", &world.id]).fails().contains("container with given ID already exists"));
    let begun = Instant::now();
    world.call(&["delete", "--force", &world.id]).ok();
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!(code(create), 143);
    world.assert_clean();
    wait_until("no process is left", || processes_of(&world) == 0);
}

#[test]
fn a_delete_as_soon_as_the_program_has_ended_does_not_fail() {
    for _ in 0..20 {
        let world = World::running(&["sh", "-c", "read line"]);
        world.write();
        let mut run = world.command(&["run", "--keep", &world.id]);
        only!(Who::Us; "crun has no --keep, and runc sees that it runs still");
        let mut child = run.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        wait_until("it runs", || world.call(&["list", "-f", "json"]).out.contains("running"));
        drop(child.stdin.take());
        // Its output ends a moment before the process does.
        let mut rest = Vec::new();
        std::io::Read::read_to_end(&mut child.stdout.take().unwrap(), &mut rest).unwrap();
        world.call(&["delete", &world.id]).ok();
        child.wait().unwrap();
    }
}

#[test]
fn a_delete_waits_for_a_program_that_the_kernel_is_ending() {
    only!(Who::Us; "the peers refuse after a moment");
    needs_root!("a cgroup below the container's");
    let freezer = Path::new("/sys/fs/cgroup/freezer");
    needs!(freezer.join("cgroup.procs").exists(), "no freezer of version 1");
    let world = World::running(&["sh", "-c", "sleep 7324; true"]);
    world.begin();
    let (group, init) = (freezer.join(&world.id), world.pid().to_string());
    let processes = || fs::read_to_string(group.join("cgroup.procs")).unwrap();
    wait_until("its program runs", || processes().lines().count() == 2);
    let child = processes().lines().find(|pid| *pid != init).unwrap().to_owned();
    // A frozen process does not die, and init waits for it. (`kill` would thaw it.)
    let below = group.join("below");
    fs::create_dir(&below).unwrap();
    fs::write(below.join("cgroup.procs"), child).unwrap();
    fs::write(below.join("freezer.state"), "FROZEN").unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(world.pid()), nix::sys::signal::SIGKILL).unwrap();
    let flags = || -> u64 {
        let stat = fs::read_to_string(format!("/proc/{init}/stat")).unwrap();
        stat.rsplit_once(") ").unwrap().1.split(' ').nth(6).unwrap().parse().unwrap()
    };
    wait_until("init is ending", || flags() & 4 != 0);
    let mut delete = spawn(&world, &["delete"]);
    std::thread::sleep(Duration::from_millis(300));
    let waits = delete.try_wait().unwrap().is_none();
    fs::write(below.join("freezer.state"), "THAWED").unwrap();
    assert_eq!((waits, code(delete)), (true, 0));
}

#[test]
fn a_creator_that_was_killed_while_init_hangs_is_deleted() {
    only!(Who::Us; "the peers leave what the creator has made");
    for with_cgroup in [true, false] {
        for point in ["createRuntime", "createContainer"] {
            let mut world = World::running(&["sleep", "1000"]);
            if !with_cgroup {
                world.config["linux"].as_object_mut().unwrap().remove("cgroupsPath");
            }
            let seen = world.path("seen");
            let script = format!("echo > {}; exec sleep 7323", seen.display());
            world.config["hooks"] = json!({point: [{"path": "/bin/sh", "args": ["sh", "-c", script]}]});
            world.write();
            let mut create = spawn(&world, &["create"]);
            wait_until("the hook runs", || seen.exists());
            create.kill().unwrap();
            create.wait().unwrap();
            let begun = Instant::now();
            world.call(&["delete", "--force", &world.id]).ok();
            assert!(begun.elapsed() < Duration::from_secs(3), "{point}: {:?}", begun.elapsed());
            world.assert_clean();
            wait_until("no process is left", || processes_of(&world) == 0);
        }
    }
}

#[test]
fn one_of_many_concurrent_starts_succeeds() {
    only!(Who::Us, Who::Crun; "in Debian's runc one that loses now and then waits at the fifo for ever");
    let mut world = World::running(&["sh", "-c", "echo x >> /tmp/started; sleep 1000"]);
    world.config["root"]["readonly"] = json!(false);
    fs::create_dir(world.rootfs("tmp")).unwrap();
    world.create().ok();
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let starts: Vec<_> = (0..6).map(|_| scope.spawn(|| world.call(&["start", &world.id]))).collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    assert_eq!(outcomes.iter().filter(|outcome| outcome.code() == 0).count(), 1, "{outcomes:?}");
    if who() == Who::Us {
        for lost in outcomes.iter().filter(|outcome| outcome.code() != 0) {
            assert!(lost.err.contains("cannot start an already running container"), "{}", lost.err);
        }
    }
    wait_until("started", || world.rootfs("tmp/started").exists());
    assert_eq!(fs::read_to_string(world.rootfs("tmp/started")).unwrap(), "x\n");
}

#[test]
fn one_of_many_concurrent_creates_succeeds() {
    only!(Who::Us, Who::Crun; "in Debian's runc the one that loses now and then takes the winner's directory away");
    let world = World::running(&["sleep", "1000"]);
    world.write();
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let creates: Vec<_> = (0..5).map(|_| scope.spawn(|| world.call(&["create", &world.id]))).collect();
        creates.into_iter().map(|create| create.join().unwrap()).collect()
    });
    assert_eq!(outcomes.iter().filter(|outcome| outcome.code() == 0).count(), 1, "{outcomes:?}");
    assert_eq!(world.status(), "created");
    says(world.call(&["create", &world.id]), "container with given ID already exists");
    assert_eq!(world.status(), "created");
}

#[test]
fn one_of_many_concurrent_deletes_succeeds_and_poststop_runs_once() {
    let mut world = World::running(&["sleep", "1000"]);
    let note = world.path("note");
    let script = format!("echo x >> {}", note.display());
    world.config["hooks"] = json!({"poststop": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]});
    world.begin();
    std::thread::scope(|scope| {
        for _ in 0..5 {
            scope.spawn(|| world.call(&["delete", "--force", &world.id]));
        }
    });
    world.assert_clean();
    if who() == Who::Us {
        assert_eq!(fs::read_to_string(note).unwrap(), "x\n");
    }
}

#[test]
fn state_during_a_slow_create_or_start_does_not_wait() {
    let mut world = World::running(&["sleep", "1000"]);
    let note = world.path("note");
    let slow = |name: &str| {
        let script = format!("echo {name} >> {}; sleep 1.5", note.display());
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}])
    };
    world.config["hooks"] = json!({"createRuntime": slow("createRuntime"), "poststart": slow("poststart")});
    world.write();
    let noted = |name: &str| fs::read_to_string(&note).unwrap_or_default().contains(name);
    let mut create = spawn(&world, &["create"]);
    wait_until("the hook runs", || noted("createRuntime"));
    let before = Instant::now();
    let early = world.call(&["state", &world.id]);
    let list = world.call(&["list", "--format", "json"]).ok();
    assert!(before.elapsed() < Duration::from_secs(1), "state waits");
    if who() == Who::Us {
        says(early, "container does not exist");
        assert_eq!(list, "null\n");
    }
    assert!(create.wait().unwrap().success());
    assert_eq!(world.status(), "created");
    if who() == Who::Runc {
        return; // runc 1.1.5 runs poststart at create
    }
    let mut start = world.command(&["start", &world.id]).spawn().unwrap();
    wait_until("the hook runs", || noted("poststart"));
    let before = Instant::now();
    assert_eq!(world.status(), "running");
    assert!(before.elapsed() < Duration::from_secs(1), "state waits");
    assert!(start.wait().unwrap().success());
}
