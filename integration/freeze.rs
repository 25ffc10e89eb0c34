//! Difficult cases of the freezer: a process that does not stop. The container must not stay half frozen.

use std::fs;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use serde_json::json;

use crate::cgroups::{directory, read, remove_level, unified};
use crate::world::{Who, World, by_units, wait_until};
use crate::{needs, needs_cgroup, needs_root, only};

/// A process that waits in the kernel for a file system without a server. Only SIGKILL wakes it: the freezer of version
/// 2 does not stop it.
struct Stuck {
    child: Child,
    place: PathBuf,
    /// /dev/fuse: while it is open, the kernel waits for an answer.
    _server: fs::File,
}

impl Stuck {
    fn looking_at(place: PathBuf) -> Option<Stuck> {
        let server = fs::File::options().read(true).write(true).open("/dev/fuse").ok()?;
        fs::create_dir(&place).unwrap();
        let settings = format!("fd={},rootmode=40000,user_id=0,group_id=0", server.as_raw_fd());
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("nobody"), &place, Some("fuse"), flags, Some(settings.as_str())).unwrap();
        let child = Command::new("stat").arg(&place).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let stuck = Stuck { child, place, _server: server };
        let state = format!("/proc/{}/stat", stuck.child.id());
        wait_until("it is stuck", || fs::read_to_string(&state).unwrap().contains(") D "));
        Some(stuck)
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = umount2(&self.place, MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_pause_that_does_not_come_about_is_undone() {
    needs_root!("a process put into a cgroup from outside");
    only!(Who::Us; "crun 1.8 does not wait for the processes to stop, and Debian's runc leaves them so");
    needs!(unified(), "the freezer of version 1 stops even who waits for a file system");
    let world = World::running(&["sh", "-c", "while :; do date +%s%N >/dev/shm/now; sleep 0.01; done"]);
    let stuck = Stuck::looking_at(world.path("nobody"));
    needs!(stuck.is_some(), "no /dev/fuse here, on which a process could be made to wait");
    let stuck = stuck.unwrap();
    world.begin();
    let group = directory("", &world.group());
    fs::write(group.join("cgroup.procs"), stuck.child.id().to_string()).unwrap();
    let said = world.call(&["pause", &world.id]).fails();
    assert!(said.contains("freeze ") && said.contains("some processes do not stop; all run again"), "{said}");
    assert_eq!(read(&group, "cgroup.freeze"), "0");
    // A signal ends the wait, and the pause is undone.
    let mut waiting = world.command(&["pause", &world.id]).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("it waits", || read(&group, "cgroup.freeze") == "1");
    kill(Pid::from_raw(waiting.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert!(!waiting.wait().unwrap().success());
    assert_eq!(read(&group, "cgroup.freeze"), "0");
    assert_eq!(world.status(), "running");
    let now = || fs::read_to_string(format!("/proc/{}/root/dev/shm/now", world.pid())).unwrap_or_default();
    let then = now();
    wait_until("it runs again", || now() != then);
    // Without that process, the container can be paused.
    drop(stuck);
    world.call(&["pause", &world.id]).ok();
    assert_eq!(world.status(), "paused");
    world.call(&["resume", &world.id]).ok();
}

#[test]
fn the_message_names_the_frozen_group() {
    needs_cgroup!();
    needs!(!by_units(), "a unit is below none that is frozen");
    only!(Who::Us; "the peers say no more than paused");
    let mut world = World::running(&["sleep", "1000"]);
    let group = world.group();
    *world.at("/linux/cgroupsPath") = json!(format!("/{group}/own"));
    world.begin();
    let above = directory("freezer", &group);
    let (file, frozen, thawed) =
        if unified() { ("cgroup.freeze", "1", "0") } else { ("freezer.state", "FROZEN", "THAWED") };
    fs::write(above.join(file), frozen).unwrap();
    world.wait_for_status("paused");
    let named = above.display().to_string();
    for command in ["pause", "resume"] {
        let said = world.call(&[command, &world.id]).fails();
        assert!(said.contains(&named), "{command}: {said}");
    }
    let state = world.call(&["state", &world.id]);
    assert!(state.err.contains(&named), "{}", state.err);
    fs::write(above.join(file), thawed).unwrap();
    world.wait_for_status("running");
    assert!(!world.call(&["state", &world.id]).err.contains("frozen"));
    if !unified() {
        // A process that version 1 has frozen does not die before it is thawed.
        fs::write(above.join(file), frozen).unwrap();
        world.wait_for_status("paused");
        let said = world.call(&["delete", "--force", &world.id]).fails();
        assert!(said.contains(&named), "delete: {said}");
        fs::write(above.join(file), thawed).unwrap();
    }
    world.call(&["delete", "--force", &world.id]).ok();
    remove_level(&group);
}

/// Version 1: what is frozen does not die before it thaws, and a container may freeze a cgroup below its own.
#[test]
fn a_group_that_the_container_froze_is_killed() {
    needs_root!("a cgroup of version 1");
    needs!(!unified(), "what version 2 has frozen dies at once");
    only!(Who::Us; "runc fails as well, and crun leaves the process");
    let freeze = "cd /sys/fs/cgroup/freezer && mkdir own && sleep 1000 & cd /sys/fs/cgroup/freezer; sleep 0.1; \
        echo $! >own/cgroup.procs && echo FROZEN >own/freezer.state && sleep 1000";
    let mut world = World::running(&["sh", "-c", freeze]);
    world.namespace("cgroup", None);
    world.mount(json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["rw"]}));
    for end in [&["delete", "--force"][..], &["kill", "--all"][..]] {
        world.begin();
        let own = directory("freezer", &world.group()).join("own");
        wait_until("it is frozen", || {
            fs::read_to_string(own.join("freezer.state")).is_ok_and(|state| state.trim() == "FROZEN")
        });
        let mut args = end.to_vec();
        args.push(&world.id);
        args.extend(Some("KILL").filter(|_| end[0] == "kill"));
        world.call(&args).ok();
        if end[0] == "kill" {
            world.wait_for_status("stopped");
            world.call(&["delete", &world.id]).ok();
        }
        world.assert_clean();
    }
}

/// A container can freeze a process that enters. On version 1 the process does not die then, and no command waits for
/// it.
#[test]
fn an_exec_into_a_frozen_container_ends_by_a_signal() {
    needs_cgroup!();
    only!(Who::Us; "about our own wait");
    let world = World::running(&["sleep", "1000"]);
    world.begin();
    world.call(&["pause", &world.id]).ok();
    let group = directory("freezer", &world.group());
    let mut exec = world.command(&["exec", "--ignore-paused", &world.id, "true"]);
    // A frozen process keeps its streams, so they are no pipes.
    let err = fs::File::create(world.path("err")).unwrap();
    let mut exec = exec.stdin(Stdio::null()).stdout(Stdio::null()).stderr(err).spawn().unwrap();
    wait_until("it has come in", || read(&group, "cgroup.procs").lines().count() > 1);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(exec.id().cast_signed()), nix::sys::signal::SIGTERM).unwrap();
    wait_until("it has ended", || exec.try_wait().unwrap().is_some());
    let said = fs::read_to_string(world.path("err")).unwrap();
    assert!(said.contains("interrupted by SIGTERM: process "), "{said}");
    assert!(said.contains(&format!(" is frozen by {}", group.display())), "{said}");
    world.call(&["resume", &world.id]).ok();
    wait_until("nobody is left of it", || read(&group, "cgroup.procs").lines().count() == 1);
    world.call(&["delete", "--force", &world.id]).ok();
}

/// The kernel ends the first process of a pid namespace only after all others. Its descriptors are closed long before.
#[test]
fn a_start_whose_init_was_killed_fails_while_the_hook_is_frozen() {
    needs_root!("a frozen cgroup below the container's");
    needs_cgroup!();
    needs!(!unified() && !by_units(), "on version 2 a frozen process ends");
    only!(Who::Us; "about our own waits");
    let mut world = World::running(&["sleep", "1000"]);
    world.config["hooks"] = json!({"startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "sleep 1000"]}]});
    world.create().ok();
    let (init, ice) = (world.pid(), directory("freezer", &world.group()).join("ice"));
    fs::create_dir(&ice).unwrap();
    fs::write(ice.join("freezer.state"), "FROZEN").unwrap();
    std::thread::scope(|scope| {
        let start = scope.spawn(|| world.call(&["start", &world.id]));
        wait_until("the hook is frozen", || {
            let pids = fs::read_to_string(ice.join("../cgroup.procs")).unwrap();
            let others = pids.lines().filter(|pid| **pid != init.to_string());
            others.for_each(|pid| drop(fs::write(ice.join("cgroup.procs"), pid)));
            !fs::read_to_string(ice.join("cgroup.procs")).unwrap().is_empty()
        });
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(init), nix::sys::signal::SIGKILL).unwrap();
        let said = start.join().unwrap().fails();
        assert!(said.contains("killed before its program began"), "{said}");
    });
    world.call(&["delete", "--force", &world.id]).ok();
    world.assert_clean();
}
