//! The container's first process makes a user namespace, and a mount namespace that belongs to it. This needs no rights. The process can
//! make every mount there writable. `mounts add` and `exec` must not trust it.
//!
//! Both attacks succeed on coracle of November 2026, and the one on `exec` on Debian's runc.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::json;

use super::attacker;
use crate::live_mounts::mounts;
use crate::namespaces::{all_capabilities, with_users};
use crate::world::{Who, World, finish, skip, test_name, wait_until};
use crate::{needs, needs_root, only};

/// Part of the error.
const LEFT: &str = "is in another mnt namespace than at create";

/// A container without capabilities whose program `attacker own-mounts` has made its namespaces. None where it may not.
fn attacking(uid: u32, users: bool, args: &[&str]) -> Option<World> {
    let mut world = World::running(&[&["/bin/attacker", "own-mounts"], args].concat());
    finish(Command::new("cp").arg(attacker()?).arg(world.rootfs("bin/attacker"))).ok();
    world.config["process"]["user"] = json!({"uid": uid, "gid": uid});
    world.config["process"]["capabilities"] = json!({});
    world.config["process"]["noNewPrivileges"] = json!(true);
    let evil = world.rootfs("evil");
    fs::write(&evil, "#!/bin/sh\necho evil\n").unwrap();
    fs::set_permissions(&evil, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(world.rootfs("good"), "#!/bin/sh\necho good\n").unwrap();
    fs::set_permissions(world.rootfs("good"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(world.rootfs("data")).unwrap();
    if users {
        with_users(&mut world);
    }
    world.begin();
    let pid = world.pid();
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let ready = || read("uid_map").trim().ends_with(" 1") && (args.len() < 2 || read("mountinfo").contains(args[1]));
    wait_until("the attacker is in its namespaces, or has ended", || ready() || world.status() == "stopped");
    if world.status() == "stopped" {
        skip(&test_name(), "a process without rights may make no user namespace here");
        return None;
    }
    Some(world)
}

#[test]
fn a_read_only_mount_is_not_added_where_the_container_can_make_it_writable() {
    needs_root!("only root copies mounts of the host");
    only!(Who::Us; "runc has no such command");
    needs!(attacker().is_some(), "no C compiler");
    for users in [false, true] {
        // a map for uid 0 needs CAP_SETFCAP
        let Some(world) = attacking(1000, users, &["/data"]) else { return };
        let share = world.path("share");
        fs::create_dir(&share).unwrap();
        fs::set_permissions(&share, fs::Permissions::from_mode(0o777)).unwrap();
        let list = json!([{"destination": "/data", "type": "bind", "source": share, "options": ["rbind", "ro"]}]);
        let added = mounts(&world, "add", &list);
        if added.code() == 0 {
            // the attacker tries every 10 ms
            wait_until("the attack", || share.join("written").exists());
        }
        assert!(!share.join("written").exists(), "written through a read-only mount (user namespace: {users})");
        let printed = added.fails();
        assert!(printed.contains(LEFT), "{printed}");
        let printed = mounts(&world, "remove", &list).fails();
        assert!(printed.contains(LEFT), "{printed}");
    }
}

#[test]
fn an_exec_runs_no_program_that_a_process_without_rights_has_put_in_its_place() {
    needs_root!("an ordinary user's container has one user");
    needs!(attacker().is_some(), "no C compiler");
    for users in [false, true] {
        let Some(world) = attacking(1000, users, &["/evil", "/good"]) else { return };
        let done = world.call(&["exec", "--user", "0", &world.id, "/good"]);
        assert!(!done.out.contains("evil"), "{}", done.out);
        let printed = done.fails();
        assert!(printed.contains(LEFT), "{printed}");
    }
}

#[test]
fn an_exec_joins_the_namespaces_that_the_containers_root_has_made() {
    needs_root!("an ordinary user's container has one user");
    needs!(attacker().is_some(), "no C compiler");
    let mut world = World::running(&["/bin/attacker", "own-mounts"]);
    finish(Command::new("cp").arg(attacker().unwrap()).arg(world.rootfs("bin/attacker"))).ok();
    all_capabilities(&mut world, json!(["CAP_SYS_ADMIN"]));
    world.begin();
    let name = || world.exec(&["cat", "/proc/sys/kernel/hostname"]).ok();
    wait_until("the host name", || name().trim() == "own-mounts");
}
