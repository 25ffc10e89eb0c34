//! Cgroups of other users that a container may change: CVE-2023-25809 (an ordinary user's /sys/fs/cgroup was writable),
//! and the statements of runc and crun on cgroup mounts without a cgroup namespace. The attack succeeds if the
//! container gets the host's /sys/fs/cgroup by `rbind`: the advisory is about this.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::json;

use super::{attacker, put_attacker};
use crate::cgroups::{directory, unified};
use crate::ordinary::first;
use crate::world::{Who, World, finish, wait_until};
use crate::{needs, needs_cgroup, needs_root, only};

/// A cgroup of version 2 that belongs to the container's root, as systemd gives a user's session to the user.
struct Hers(PathBuf);

impl Hers {
    fn new(world: &World) -> Option<Hers> {
        let tops = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(PathBuf::from);
        let top = tops
            .into_iter()
            .find(|top| top.join("cgroup.procs").exists() && top.join("cgroup.controllers").exists())?;
        let place = top.join(format!("hers-{}", world.id));
        fs::create_dir(&place).unwrap();
        finish(Command::new("chown").arg("-R").arg(format!("{}:{}", first(), first())).arg(&place)).ok();
        Some(Hers(place))
    }
}

impl Drop for Hers {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

fn in_a_user_namespace() -> World {
    let mut world = World::running(&["sh", "-c", "/attacker cgroup-write /sys/fs/cgroup; echo $?"]);
    world.namespace("user", None);
    let map = json!([{"containerID": 0, "hostID": first(), "size": 65536}]);
    *world.at("/linux/uidMappings") = map.clone();
    *world.at("/linux/gidMappings") = map;
    put_attacker(&world);
    crate::ordinary::give_to_first(&world.rootfs(""));
    world
}

#[test]
fn a_cgroup_mount_shows_no_cgroup_that_others_of_the_user_have() {
    only!(Who::Us, Who::Crun; "Debian's runc binds no cgroup in a user namespace here");
    needs!(attacker().is_some(), "no C compiler");
    needs_root!("a cgroup that is given away");
    let seen = |own_namespace: bool, options: &[&str]| {
        let mut world = in_a_user_namespace();
        if own_namespace {
            world.namespace("cgroup", None);
        }
        world.mount(json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options}));
        let hers = Hers::new(&world)?;
        let out = world.run().ok();
        drop(hers);
        Some(out)
    };
    for own_namespace in [false, true] {
        for options in [&["ro"][..], &[]] {
            let Some(out) = seen(own_namespace, options) else {
                crate::world::skip(&crate::world::test_name(), "no cgroup of version 2");
                return;
            };
            assert!(!out.contains("hers-"), "with a cgroup namespace: {own_namespace}, {options:?}: {out}");
            if options == ["ro"] {
                assert_eq!(out, "1\n", "with a cgroup namespace: {own_namespace}");
            }
        }
    }
}

#[test]
fn the_attacker_sees_a_cgroup_that_is_open() {
    needs!(attacker().is_some(), "no C compiler");
    needs_root!("a cgroup that is given away");
    let mut world = in_a_user_namespace();
    world.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/sys");
    let sys = json!({"destination": "/sys", "type": "none", "source": "/sys", "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]});
    world.config["mounts"].as_array_mut().unwrap().push(sys);
    let Some(hers) = Hers::new(&world) else {
        crate::world::skip(&crate::world::test_name(), "no cgroup of version 2");
        return;
    };
    let out = world.run().ok();
    drop(hers);
    assert!(out.contains("hers-") && out.ends_with("0\n"), "{out}");
}

/// A container that may make cgroups can hide a process in one that no path can name, and keep its cgroup for ever.
#[test]
fn a_process_in_a_cgroup_that_no_path_can_name_is_killed_and_all_is_removed() {
    needs_root!("the host's pid namespace with a cgroup of its own");
    needs_cgroup!();
    only!(Who::Us; "runc and crun walk by path");
    needs!(attacker().is_some(), "no C compiler");
    let below = if unified() { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/pids" };
    let mut world = World::running(&["/attacker", "nest", below, "25"]);
    world.mount(json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["rw"]}));
    world.namespace("cgroup", None);
    world.without_namespace("pid");
    put_attacker(&world);
    world.begin();
    let top = directory("pids", &world.group());
    let is_empty = || fs::read_to_string(top.join("cgroup.procs")).unwrap().is_empty();
    wait_until("it has left the cgroup that it began in", is_empty);
    let pid = world.pid().to_string();
    assert!(world.call(&["ps", "--format", "json", &world.id]).ok().contains(&pid));
    world.call(&["kill", &world.id, "KILL"]).ok();
    world.wait_for_status("stopped");
    world.call(&["delete", &world.id]).ok();
    world.assert_clean();
}
