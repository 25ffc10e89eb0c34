//! Processes in a container's cgroup that are not its own: those that another program has moved there, and those of another container.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;

use crate::cgroups::{directory, unified, with_cgroup_mount};
use crate::ordinary::root;
use crate::world::{HostProcess, Who, World, by_units, finish, wait_until};
use crate::{needs, needs_cgroup, needs_root, only};

fn in_group(group: &Path) -> HostProcess {
    let process = HostProcess::sleeping();
    fs::write(group.join("cgroup.procs"), process.id().to_string()).unwrap();
    process
}

/// As a message names it.
fn name(process: &HostProcess) -> String {
    format!("{} (sleep)", process.id())
}

fn kill_init(world: &World) {
    let init = nix::unistd::Pid::from_raw(world.pid());
    nix::sys::signal::kill(init, nix::sys::signal::SIGKILL).unwrap();
    world.wait_for_status("stopped");
}

#[test]
fn processes_of_others_are_spared_and_named_and_killed_by_force_alone() {
    needs_root!("a process put into a cgroup from outside");
    needs_cgroup!();
    only!(Who::Us; "runc leaves them with the cgroup, and crun kills them");
    let world = World::running(&["sleep", "1000"]);
    world.begin();
    let group = world.group();
    let below = directory("pids", &group).join("below");
    fs::create_dir(&below).unwrap();
    let mut others = [in_group(&below), in_group(&directory("freezer", &group))];
    kill_init(&world);
    let printed = world.call(&["delete", &world.id]).fails();
    assert!(printed.contains("cgroups are still there: "), "{printed}");
    for other in &mut others {
        assert!(printed.contains(&name(other)) && !other.has_ended(), "{printed}");
    }
    assert!(world.call(&["state", &world.id]).ok().contains("stopped"));
    // a process in a frozen cgroup ends as well
    if !unified() {
        fs::write(directory("freezer", &group).join("freezer.state"), "FROZEN").unwrap();
    }
    let deleted = world.call(&["delete", "--force", &world.id]);
    // else a failure of this test would wait for ever
    let _ = fs::write(directory("freezer", &group).join("freezer.state"), "THAWED");
    for other in &mut others {
        assert!(other.has_ended() && deleted.err.contains(&name(other)), "{}", deleted.err);
    }
    deleted.ok();
    world.assert_clean();
}

/// The program's status is that of `run`, and a message names what is left.
#[test]
fn the_end_of_a_run_spares_processes_of_others() {
    needs_root!("a process put into a cgroup from outside");
    needs_cgroup!();
    only!(Who::Us; "runc leaves them with the cgroup, and crun kills them");
    let world = World::running(&["sh", "-c", "while [ ! -e /dev/shm/end ]; do sleep 0.02; done; exit 7"]);
    world.write();
    let mut run = world.command(&["run", &world.id]);
    let run = run.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let state = world.path("state").join(&world.id).join("state.json");
    wait_until("the container exists", || state.exists());
    world.wait_for_status("running");
    let mut other = in_group(&directory("pids", &world.group()));
    fs::write(format!("/proc/{}/root/dev/shm/end", world.pid()), "").unwrap();
    let ended = run.wait_with_output().unwrap();
    let printed = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(7), "{printed}");
    assert!(printed.contains(&name(&other)) && !other.has_ended(), "{printed}");
    world.call(&["delete", "--force", &world.id]).ok();
    world.assert_clean();
}

/// Without a pid namespace, the container's own processes are those in all of its cgroups.
#[test]
fn a_process_in_some_hierarchies_is_not_the_containers() {
    needs_root!("a process put into a cgroup from outside");
    needs!(!unified(), "version 2 has one hierarchy");
    only!(Who::Us; "the peers leave the cgroup, or kill both");
    let by_kill = |world: &World| {
        world.call(&["kill", &world.id, "KILL"]).ok();
        world.wait_for_status("stopped");
    };
    for end in [&kill_init as &dyn Fn(&World), &by_kill] {
        let mut world = World::running(&["sh", "-c", "sleep 1000 & echo $! >/dev/shm/own; wait"]);
        world.without_namespace("pid");
        world.begin();
        let file = format!("/proc/{}/root/dev/shm/own", world.pid());
        wait_until("it has a child", || fs::read_to_string(&file).is_ok_and(|own| own.ends_with('\n')));
        let own = fs::read_to_string(&file).unwrap();
        let mut other = in_group(&directory("pids", &world.group()));
        end(&world);
        assert!(!other.has_ended());
        let printed = world.call(&["delete", &world.id]).fails();
        assert!(printed.contains(&name(&other)) && !other.has_ended(), "{printed}");
        wait_until("its own has ended", || {
            fs::read_to_string(format!("/proc/{}/cgroup", own.trim()))
                .map_or(true, |groups| !groups.contains(&world.id))
        });
        drop(other);
        world.call(&["delete", &world.id]).ok();
        world.assert_clean();
    }
}

#[test]
fn a_container_below_the_cgroup_of_another_one_outlives_it() {
    needs_cgroup!();
    needs!(!by_units(), "systemd has no unit below a scope");
    only!(Who::Us; "runc removes the record of the outer one, and crun kills the inner one");
    for (own_pids, force) in [(true, true), (false, false), (false, true)] {
        let mut outer = World::running(&["sleep", "1000"]);
        if !own_pids && root() {
            outer.without_namespace("pid");
        }
        outer.begin();
        // the same bundle and root, with another id
        let inner = format!("{}-inner", outer.id);
        let group = outer.config["linux"]["cgroupsPath"].as_str().unwrap().to_owned();
        outer.config["linux"]["cgroupsPath"] = json!(format!("{group}/inner"));
        outer.write();
        let mut run = outer.command(&["run", "-d", &inner]);
        run.stdin(Stdio::null()).stdout(Stdio::null());
        assert!(run.status().unwrap().success());
        if force {
            let printed = outer.call(&["delete", "--force", &outer.id]).fails();
            assert!(printed.contains(&inner), "{printed}");
        } else {
            kill_init(&outer);
            let printed = outer.call(&["delete", &outer.id]).fails();
            assert!(printed.contains(&inner), "{printed}");
        }
        let state = outer.call(&["state", &inner]).ok();
        assert!(state.contains("running"), "{own_pids} {force}: {state}");
        outer.call(&["delete", "--force", &inner]).ok();
        outer.call(&["delete", &outer.id]).ok();
        outer.assert_clean();
    }
}

/// On version 1, a frozen process does not end. If a cgroup above is frozen, killing more processes does not help.
#[test]
fn a_container_below_the_cgroup_of_a_frozen_one_outlives_it() {
    needs_root!("a frozen cgroup above");
    needs_cgroup!();
    needs!(!unified() && !by_units(), "a frozen process ends on version 2, and systemd has no unit below a scope");
    only!(Who::Us; "runc removes the record of the outer one, and crun kills the inner one");
    let mut outer = World::running(&["sleep", "1000"]);
    let group = outer.config["linux"]["cgroupsPath"].as_str().unwrap().to_owned();
    outer.config["linux"]["cgroupsPath"] = json!(format!("{group}/outer"));
    outer.begin();
    let inner = format!("{}-inner", outer.id);
    outer.config["linux"]["cgroupsPath"] = json!(format!("{group}/outer/inner"));
    outer.write();
    let mut run = outer.command(&["run", "-d", &inner]);
    assert!(run.stdin(Stdio::null()).stdout(Stdio::null()).status().unwrap().success());
    let pid: serde_json::Value = serde_json::from_str(&outer.call(&["state", &inner]).ok()).unwrap();
    let freezer = directory("freezer", &group).join("freezer.state");
    fs::write(&freezer, "FROZEN").unwrap();
    let printed = outer.call(&["delete", "--force", &outer.id]);
    fs::write(&freezer, "THAWED").unwrap();
    assert_eq!(printed.code(), 1, "{printed:?}");
    // a pending SIGKILL would end it now
    let status = fs::read_to_string(format!("/proc/{}/status", pid["pid"])).unwrap();
    for pending in ["SigPnd", "ShdPnd"] {
        assert!(status.contains(&format!("{pending}:\t0000000000000000")), "{status}");
    }
    outer.wait_for_status("stopped");
    assert!(outer.call(&["state", &inner]).ok().contains("running"));
    outer.call(&["delete", "--force", &inner]).ok();
    outer.call(&["delete", "--force", &outer.id]).ok();
    for top in outer.cgroups() {
        let _ = fs::remove_dir(top);
    }
    outer.assert_clean();
}

/// The owner of a directory can take the rights to it away, also from a runtime that is the same user. Root without
/// CAP_DAC_OVERRIDE is in the same place.
#[test]
fn what_a_container_does_not_let_its_owner_read_is_removed_all_the_same() {
    needs_cgroup!();
    needs!(!by_units(), "a cgroup of our own is above it");
    needs!(!root() || Path::new("/usr/bin/setpriv").exists(), "no setpriv");
    only!(Who::Us; "the peers leave the cgroups");
    let tops = if unified() { "." } else { "*" };
    let script = format!(
        "cd /sys/fs/cgroup; sleep 1000 & n=$(printf 'n\\377'); for top in {tops}; do mkdir -p $top/$n/deep; \
         echo $! >$top/$n/deep/cgroup.procs; chmod 0 $top/$n/deep/* $top/$n/deep $top/$n/* $top/$n $top/cgroup.* \
         $top/freezer.state; chmod 0 $top; done 2>/dev/null; touch /dev/shm/done; exec sleep 1000"
    );
    let mut world = with_cgroup_mount(&["sh", "-c", &script], &["rw", "nosuid", "nodev", "noexec"]);
    // the kernel lets nobody write the root of a hierarchy without this capability
    let above = world.config["linux"]["cgroupsPath"].as_str().unwrap().to_owned();
    world.config["linux"]["cgroupsPath"] = json!(format!("{above}/own"));
    world.begin();
    let done = format!("/proc/{}/root/dev/shm/done", world.pid());
    wait_until("it has taken the rights away", || Path::new(&done).exists());
    let command = world.command(&["delete", "--force", &world.id]);
    let mut delete =
        Command::new(if root() { Path::new("/usr/bin/setpriv") } else { Path::new(command.get_program()) });
    if root() {
        delete.arg("--bounding-set=-dac_override,-dac_read_search").arg(command.get_program());
    }
    let deleted = finish(delete.args(command.get_args()).current_dir(world.bundle()));
    let left: Vec<_> = world.cgroups().into_iter().filter(|group| fs::remove_dir(group).is_err()).collect();
    deleted.ok();
    assert_eq!(left, Vec::<PathBuf>::new());
    world.assert_clean();
}
