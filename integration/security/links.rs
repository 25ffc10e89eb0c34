//! A root whose directories are links to the host before the runtime begins: CVE-2019-18837 (crun), CVE-2019-19921,
//! CVE-2023-27561, CVE-2025-54867 (/proc and /sys), CVE-2026-41579 (/dev), CVE-2025-52565 (/dev/pts, /dev/ptmx,
//! /dev/console), CVE-2025-31133 (a null device that is another file). The attack succeeds on Debian's runc 1.1.5,
//! which makes nodes and links on the host and uses the wrong file for a mask, and on crun 1.8.1, which leaves the mask
//! out.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use super::Victim;
use crate::mountinfo::mount_at;
use crate::only;
use crate::ordinary::root;
use crate::world::{Who, World, who};

#[test]
fn proc_and_sys_as_links_are_refused() {
    // CVE-2019-19921, CVE-2023-27561, CVE-2025-54867
    only!(Who::Us, Who::Runc; "crun follows them inside the root");
    for name in ["proc", "sys"] {
        for target in ["/elsewhere", "../../../../../elsewhere", "/"] {
            let world = World::running(&["true"]);
            fs::create_dir(world.rootfs("elsewhere")).unwrap();
            symlink(target, world.rootfs(name)).unwrap();
            let said = world.run().fails();
            assert!(said.contains("must be mounted on ordinary directory"), "{name} -> {target}: {said}");
            assert_eq!(fs::read_dir(world.rootfs("elsewhere")).unwrap().count(), 0);
            world.assert_clean();
        }
    }
}

#[test]
fn dev_as_a_link_to_the_host_leaves_the_host_alone() {
    only!(Who::Us; "Debian's runc and crun make nodes and links on the host");
    // CVE-2026-41579, CVE-2019-18837
    for with_mounts in ["all", "none"] {
        let mut world = World::running(&["sh", "-c", "test -c /dev/null && echo inside"]);
        *world.at("/root/readonly") = json!(false);
        *world.at("/linux/maskedPaths") = json!([]);
        let victim = Victim::of(&world);
        symlink(&victim.path, world.rootfs("dev")).unwrap();
        if with_mounts == "none" {
            world.config["mounts"] = json!([{"destination": "/proc", "type": "proc", "source": "proc"}]);
        }
        let ran = world.run();
        if who() == Who::Us {
            assert_eq!(ran.ok(), "inside\n");
        }
        victim.assert_unharmed();
    }
}

#[test]
fn pts_ptmx_and_console_as_links_leave_the_host_alone() {
    // CVE-2025-52565
    let mut world = World::running(&["sh", "-c", "readlink /dev/ptmx; ls /dev/pts"]);
    *world.at("/root/readonly") = json!(false);
    *world.at("/linux/maskedPaths") = json!([]);
    let victim = Victim::of(&world);
    fs::create_dir(world.rootfs("dev")).unwrap();
    for name in ["pts", "shm", "mqueue"] {
        symlink(&victim.path, world.rootfs("dev").join(name)).unwrap();
    }
    symlink(victim.path.join("file"), world.rootfs("dev/ptmx")).unwrap();
    symlink(victim.path.join("file"), world.rootfs("dev/console")).unwrap();
    symlink(victim.path.join("new"), world.rootfs("dev/tty")).unwrap();
    let mounts: Vec<_> = world.config["mounts"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|mount| mount["destination"] != "/dev")
        .cloned()
        .collect();
    world.config["mounts"] = json!(mounts);
    let ran = world.run();
    victim.assert_unharmed();
    // A bind mount, which is an ordinary user's device, is made at the target of the link inside.
    if who() == Who::Us && root() {
        // A file of the image at the path of a default device stays, with a warning. No node is made at the target of
        // the link.
        assert!(ran.err.contains("root.path: /dev/tty is another file in the image"), "{}", ran.err);
        assert!(ran.ok().starts_with("pts/ptmx\n"));
        assert_eq!(fs::read_link(world.rootfs("dev/tty")).unwrap(), victim.path.join("new"));
        fs::remove_file(world.rootfs("dev/tty")).unwrap();
        let out = world.run().ok();
        assert!(out.starts_with("pts/ptmx\n"), "{out}");
        victim.assert_unharmed();
    }
}

#[test]
fn a_null_device_that_is_something_else_uncovers_no_mask() {
    // CVE-2025-31133
    only!(Who::Us; "Debian's runc and crun have it");
    let mut world = World::running(&["sh", "-c", "cat /secret; cat /proc/self/mountinfo"]);
    *world.at("/root/readonly") = json!(false);
    world.config["mounts"] = json!([{"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "none", "source": world.path("dev"), "options": ["bind"]}]);
    fs::create_dir(world.path("dev")).unwrap();
    fs::write(world.path("dev/null"), "not null\n").unwrap();
    fs::write(world.rootfs("secret"), "secret\n").unwrap();
    *world.at("/linux/maskedPaths") = json!(["/secret", "/proc/keys"]);
    let out = world.run().ok();
    assert!(!out.starts_with("secret") && !out.starts_with("not null"), "{out}");
    assert_eq!(mount_at(&out, "/secret").root, "/null");
}
