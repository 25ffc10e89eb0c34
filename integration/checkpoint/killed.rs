//! CRIU, or the runtime, is killed during its work: the container continues, or nothing of it is left.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::{COUNTER, assert_counts_on, command, count, dump, needs_criu};
use crate::only;
use crate::world::{Who, World, wait_until};

/// Whom the signal ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Victim {
    Criu,
    Runtime,
}

/// Kills it, so long after CRIU has begun.
fn kill(child: &mut Child, victim: Victim, after: u64) {
    let own = child.id();
    let criu = || {
        let tasks = fs::read_dir(format!("/proc/{own}/task")).ok()?;
        let children = tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
        let all: Vec<u32> =
            children.flat_map(|text| text.split(' ').filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect();
        let is = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.starts_with("criu"));
        all.into_iter().find(is)
    };
    let mut pid = None;
    wait_until("criu has begun", || {
        pid = criu();
        pid.is_some() || child.try_wait().unwrap().is_some()
    });
    std::thread::sleep(Duration::from_millis(after));
    let worker = pid;
    let pid = if victim == Victim::Criu { pid } else { Some(own) };
    let pid = pid.and_then(|pid| Pid::from_raw(pid.try_into().unwrap()));
    if let Some(pid) = pid {
        let _ = kill_process(pid, Signal::KILL);
    }
    let _ = child.wait();
    // CRIU undoes its work as soon as the connection is closed
    if let Some(pid) = worker {
        wait_until("criu has ended", || !Path::new(&format!("/proc/{pid}")).exists());
    }
}

#[test]
fn a_checkpoint_that_is_cut_off_leaves_a_container_or_nothing() {
    only!(Who::Us; "what the peers leave is theirs");
    needs_criu!();
    for (victim, after) in [(Victim::Criu, 10), (Victim::Criu, 120), (Victim::Runtime, 60)] {
        let world = World::running(&["sh", "-c", COUNTER]);
        world.begin();
        let before = count(&world);
        let args = ["checkpoint", "--image-path", "images", "--work-path", "work", &world.id];
        let mut child = command(&world, &args).stderr(Stdio::null()).spawn().unwrap();
        kill(&mut child, victim, after);
        let lives = world.call(&["state", &world.id]);
        if lives.status.success() && lives.out.contains("\"running\"") {
            assert_counts_on(&world, before);
            dump(&world, "again", &[]).ok();
        }
        world.call(&["delete", "--force", &world.id]).ok();
        world.assert_clean();
    }
}

#[test]
fn a_restore_that_is_cut_off_leaves_nothing() {
    only!(Who::Us; "what the peers leave is theirs");
    needs_criu!();
    let world = World::running(&["sh", "-c", COUNTER]);
    world.begin();
    let before = count(&world);
    dump(&world, "images", &[]).ok();
    for (victim, after) in [(Victim::Criu, 10), (Victim::Criu, 100), (Victim::Runtime, 50), (Victim::Runtime, 110)] {
        let args = ["restore", "-d", "--image-path", "images", "--work-path", "work", &world.id];
        let mut child =
            command(&world, &args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        kill(&mut child, victim, after);
        world.call(&["delete", "--force", &world.id]).ok();
        world.assert_clean();
    }
    super::restore(&world, "images", &[]).ok();
    assert_counts_on(&world, before);
}

/// A CRIU that sends its version, freezes the container on a dump request, and ends when the connection is closed.
const HANGS: &str = r#"dd bs=65536 count=1 <&3 >/dev/null 2>&1
printf '\010\012\020\001\122\004\010\004\020\001' >&3
dd bs=65536 count=1 <&3 >/dev/null 2>&1
if [ -e "$GROUP/freezer.state" ]; then echo FROZEN >"$GROUP/freezer.state"; else echo 1 >"$GROUP/cgroup.freeze"; fi
: >"$READY"
dd bs=65536 count=1 <&3 >/dev/null 2>&1
exit 1
"#;

/// A program that does what the script says.
fn pretended(world: &World, script: &str) -> std::path::PathBuf {
    let program = world.path("criu");
    // Its socket has the number behind `swrk`. dash redirects no number from 10 on; bash would write the packet in two pieces.
    fs::write(world.path("criu.sh"), script).unwrap();
    fs::write(&program, "#!/bin/bash\nexec 3<&$2\nexec /bin/sh $0.sh\n").unwrap();
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    program
}

#[test]
fn a_signal_ends_a_checkpoint_and_the_container_continues() {
    only!(Who::Us; "runc waits for criu without a limit");
    crate::needs!(crate::ordinary::root(), "checkpoint and restore are root's");
    let world = World::running(&["sh", "-c", COUNTER]);
    world.begin();
    let program = pretended(&world, HANGS);
    let groups = world.cgroups();
    let group = groups.iter().find(|group| group.join("freezer.state").exists()).unwrap_or(&groups[0]);
    // A shell starts background jobs with SIGINT ignored, so the tests do not send it.
    for signal in [Signal::TERM, Signal::TERM] {
        let (before, ready) = (count(&world), world.path("ready"));
        let args = ["--criu", program.to_str().unwrap(), "checkpoint", "--image-path", "images", &world.id];
        let mut command = world.command(&args);
        let said = fs::File::create(world.path("said")).unwrap();
        let mut child = command.env("GROUP", group).env("READY", &ready).stderr(said).spawn().unwrap();
        wait_until("it is frozen", || ready.exists());
        assert_eq!(world.status(), "paused");
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert!(!child.wait().unwrap().success());
        let said = fs::read_to_string(world.path("said")).unwrap();
        assert!(said.contains("checkpoint: interrupted by SIG"), "{said}");
        assert_eq!(world.status(), "running");
        assert_counts_on(&world, before);
        fs::remove_file(&ready).unwrap();
    }
}

#[test]
fn a_criu_ends_after_its_runtime_and_the_container_continues() {
    only!(Who::Us; "what the peers leave is theirs");
    crate::needs!(crate::ordinary::root(), "checkpoint and restore are root's");
    let world = World::running(&["sh", "-c", COUNTER]);
    world.begin();
    let groups = world.cgroups();
    let group = groups.iter().find(|group| group.join("freezer.state").exists()).unwrap_or(&groups[0]);
    // it ends when the connection is closed, and has not thawed
    let program = pretended(&world, &HANGS.replace(": >\"$READY\"", "echo $$ >\"$READY\""));
    let (before, ready) = (count(&world), world.path("ready"));
    let args = ["--criu", program.to_str().unwrap(), "checkpoint", "--image-path", "images", &world.id];
    let mut command = world.command(&args);
    let mut child = command.env("GROUP", group).env("READY", &ready).stderr(Stdio::null()).spawn().unwrap();
    let mut criu = String::new();
    wait_until("it is frozen", || {
        criu = fs::read_to_string(&ready).unwrap_or_default().trim().to_owned();
        !criu.is_empty()
    });
    assert_eq!(world.status(), "paused");
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("criu has ended", || !Path::new("/proc").join(&criu).exists());
    wait_until("it is thawed", || world.status() == "running");
    assert_counts_on(&world, before);
}

#[test]
fn a_signal_ends_a_restore_and_nothing_is_left() {
    only!(Who::Us; "runc waits for criu without a limit");
    needs_criu!();
    let world = World::running(&["sh", "-c", COUNTER]);
    world.begin();
    let before = count(&world);
    dump(&world, "images", &[]).ok();
    // it does not even tell its version
    let hears = "dd bs=65536 count=1 <&3 >/dev/null 2>&1\n";
    let program = pretended(&world, &format!("{hears}echo $$ >\"$READY\"\n{hears}exit 1\n"));
    let (log, ready) = (world.path("log"), world.path("ready"));
    let args = [
        "--log",
        log.to_str().unwrap(),
        "--criu",
        program.to_str().unwrap(),
        "restore",
        "-d",
        "--image-path",
        "images",
    ];
    let mut command = world.command(&[&args[..], &[&world.id]].concat());
    let mut child = command.env("READY", &ready).stderr(Stdio::null()).spawn().unwrap();
    wait_until("criu has begun", || ready.exists());
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    wait_until("the restore has ended", || child.try_wait().unwrap().is_some());
    let said = fs::read_to_string(&log).unwrap();
    assert!(said.contains("restore: interrupted by SIGTERM"), "{said}");
    world.assert_clean();
    super::restore(&world, "images", &[]).ok();
    assert_counts_on(&world, before);
}
