//! A mount of type `cgroup`: the container sees its own cgroup, in the layout of the host.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::mountinfo::mount_at;
use crate::world::{Who, World, who};
use crate::{needs, needs_cgroup, needs_root};

const SCRIPT: &str = "cat /proc/self/mountinfo; echo ==; ls -l /sys/fs/cgroup; echo ==; cat /sys/fs/cgroup/pids/cgroup.procs; \
                      mkdir /sys/fs/cgroup/pids/new 2>&1; mkdir /sys/fs/cgroup/new 2>&1; true";

fn v1() -> bool {
    Path::new("/sys/fs/cgroup/pids/cgroup.procs").exists()
}

fn with_cgroups(options: &[&str]) -> World {
    let mut world = World::running(&["sh", "-c", SCRIPT]);
    world.mount(json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options}));
    world
}

/// The directories and links of the host's /sys/fs/cgroup.
fn hierarchies() -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir("/sys/fs/cgroup")
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .filter(|name| {
            fs::read_to_string("/proc/self/mountinfo").unwrap().contains(&format!(" /sys/fs/cgroup/{name} "))
        })
        .collect();
    names.sort_unstable();
    names
}

#[test]
fn version_2_is_mounted_by_its_name_and_options_reach_it() {
    needs_root!("a mount of version 2 without a cgroup namespace");
    // The first mount of version 2 on a machine adds `0::/` to every /proc/PID/cgroup, and other tests read that file.
    let known = fs::read_to_string("/proc/self/cgroup").unwrap().lines().any(|line| line.starts_with("0::"));
    needs!(known, "the kernel has no cgroup v2 hierarchy yet");
    let mut world = World::running(&["cat", "/proc/self/mountinfo"]);
    world.mount(json!({"destination": "/mnt", "type": "cgroup2", "source": "cgroup", "options": ["ro"]}));
    let line = mount_at(&world.run().ok(), "/mnt");
    assert!(line.fstype == "cgroup2" && line.has("ro"), "{line:?}");
    world.at("/mounts/6/options").as_array_mut().unwrap().push(json!("nosuch"));
    let said = world.run().fails();
    assert!(
        who() != Who::Us || said.contains("mounts[6]: mount cgroup2 on /mnt: ") && said.contains("nosuch"),
        "{said}"
    );
}

#[test]
fn on_v1_every_hierarchy_shows_the_containers_own_cgroup() {
    needs_cgroup!();
    needs!(v1(), "the host has no cgroup v1");
    let world = with_cgroups(&["nosuid", "noexec", "nodev", "relatime", "ro"]);
    let out = world.run().ok();
    let seen = out.split("==").next().unwrap();
    let top = mount_at(seen, "/sys/fs/cgroup");
    assert!(top.fstype == "tmpfs" && top.has("nosuid") && top.has("noexec"), "{top:?}");
    for name in hierarchies() {
        if who() != Who::Us && name == "unified" {
            continue;
        }
        let line = mount_at(seen, &format!("/sys/fs/cgroup/{name}"));
        assert!(line.fstype.starts_with("cgroup") && line.has("ro"), "{name}: {line:?}");
        if line.fstype == "cgroup" {
            assert!(line.root.ends_with(&world.id), "{name}: {line:?}");
        }
    }
    // Init is in it, and both are read-only.
    assert!(out.lines().any(|line| line == "1"), "{out}");
    // With coracle, the directory of the hierarchies is read-only, too.
    assert_eq!(top.has("ro"), who() == Who::Us, "{top:?}");
    assert_eq!(out.matches("Read-only file system").count(), if who() == Who::Us { 2 } else { 1 }, "{out}");
}

#[test]
fn on_v1_with_a_cgroup_namespace_the_own_cgroup_is_the_root() {
    needs!(v1(), "the host has no cgroup v1");
    let mut world = with_cgroups(&["nosuid", "noexec", "nodev", "relatime"]);
    world.namespace("cgroup", None);
    world.config["process"]["args"] = json!(["sh", "-c", format!("{SCRIPT}; cat /proc/self/cgroup")]);
    let out = world.run().ok();
    let seen = out.split("==").next().unwrap();
    for name in hierarchies() {
        if who() != Who::Us && name == "unified" {
            continue;
        }
        let line = mount_at(seen, &format!("/sys/fs/cgroup/{name}"));
        assert!(line.root == "/" && line.has("rw"), "{name}: {line:?}");
    }
    let own: Vec<_> = out.lines().filter(|line| line.contains(":pids:")).collect();
    assert!(own.len() == 1 && own[0].ends_with(":/"), "{out}");
    // It was writable.
    assert!(!out.contains("Read-only"), "{out}");
}

#[test]
fn a_hierarchy_that_is_covered_on_the_host_is_not_mounted() {
    crate::only!(Who::Us; "runc makes directories in what covers it");
    needs_cgroup!();
    needs_root!("only root can mount there");
    let world = World::running(&["true"]);
    world.write();
    let with_a_tmpfs_on = |place: &str| {
        let runtime = world.command(&["run", &world.id]);
        let mut covered = std::process::Command::new("unshare");
        let script = r#"mount -t tmpfs none $0 && exec "$@""#;
        covered.args(["-m", "--propagation", "private", "sh", "-c", script, place]).arg(runtime.get_program());
        crate::world::finish(covered.args(runtime.get_args()).current_dir(world.bundle()))
    };
    let said = with_a_tmpfs_on("/sys/fs/cgroup").fails();
    assert!(said.contains("linux.cgroupsPath: no cgroup hierarchy is mounted at /sys/fs/cgroup"), "{said}");
    // version 2 beside version 1: the container is in the others
    if Path::new("/sys/fs/cgroup/unified/cgroup.procs").exists() {
        with_a_tmpfs_on("/sys/fs/cgroup/unified").ok();
    }
    world.assert_clean();
}
