//! /dev: the default nodes, the nodes of config.json, and the links beside them.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::process::Command;

use serde_json::{Value, json};

use crate::cgroups::{directory, unified};
use crate::namespaces::with_users;
use crate::world::{Who, World, finish, finish_with, wait_until, who};
use crate::{needs, needs_cgroup, needs_root, only};

const DEFAULT: [(&str, &str); 6] =
    [("null", "1,3"), ("zero", "1,5"), ("full", "1,7"), ("tty", "5,0"), ("random", "1,8"), ("urandom", "1,9")];

/// A script that prints type, mode, numbers and owner of each path.
fn stat(paths: &str) -> String {
    format!("stat -c '%n|%F|%a|%t,%T|%u:%g' {paths}")
}

fn mknod(path: &std::path::Path, kind: &str, major: &str, minor: &str) {
    finish(Command::new("mknod").arg(path).args([kind, major, minor])).ok();
}

#[test]
fn every_container_has_the_default_nodes_and_links() {
    needs_root!("device nodes");
    let script = format!(
        "umask 077; {}; for l in fd stdin stdout stderr ptmx; do readlink /dev/$l; done; \
         test -e /proc/kcore && readlink /dev/core; true",
        stat("/dev/null /dev/zero /dev/full /dev/tty /dev/random /dev/urandom")
    );
    let world = World::running(&["sh", "-c", &script]);
    let out = world.run().ok();
    let lines: Vec<_> = out.lines().collect();
    for (n, (name, numbers)) in DEFAULT.iter().enumerate() {
        assert_eq!(lines[n], format!("/dev/{name}|character special file|666|{numbers}|0:0"));
    }
    let mut links = vec!["/proc/self/fd", "/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2", "pts/ptmx"];
    if fs::metadata("/proc/kcore").is_ok() {
        links.push("/proc/kcore");
    }
    assert_eq!(lines[6..], links[..]);
}

#[test]
fn ptmx_is_a_link_also_without_a_devpts() {
    let mut world = World::running(&["readlink", "/dev/ptmx"]);
    world.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/dev/pts");
    assert_eq!(world.run().ok(), "pts/ptmx\n");
}

#[test]
fn requested_nodes_have_exactly_their_type_mode_and_owner() {
    needs_root!("device nodes");
    only!(Who::Us, Who::Runc; "crun 1.8 makes no fifo and lets the umask cut modes");
    let script = stat("/dev/c /dev/u /dev/b /dev/pipe /dev/dir/plain /elsewhere/node");
    let mut world = World::running(&["sh", "-c", &script]);
    *world.at("/root/readonly") = json!(false);
    *world.at("/process/user/umask") = json!(0o77);
    *world.at("/linux/devices") = json!([
        {"path": "/dev/c", "type": "c", "major": 10, "minor": 229, "fileMode": 0o666, "uid": 0, "gid": 0},
        {"path": "/dev/u", "type": "u", "major": 1, "minor": 5, "fileMode": 0o622, "uid": 3, "gid": 4},
        {"path": "/dev/b", "type": "b", "major": 7, "minor": 300, "fileMode": 0o640, "uid": 1, "gid": 6},
        {"path": "/dev/pipe", "type": "p", "fileMode": 0o660, "uid": 5, "gid": 5},
        {"path": "/dev/dir/plain", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666},
        {"path": "/elsewhere/node", "type": "c", "major": 1, "minor": 7, "fileMode": 0o777},
    ]);
    let out = world.run().ok();
    assert_eq!(
        out.lines().collect::<Vec<_>>(),
        [
            "/dev/c|character special file|666|a,e5|0:0",
            "/dev/u|character special file|622|1,5|3:4",
            "/dev/b|block special file|640|7,12c|1:6",
            "/dev/pipe|fifo|660|0,0|5:5",
            "/dev/dir/plain|character special file|666|1,3|0:0",
            "/elsewhere/node|character special file|777|1,7|0:0",
        ]
    );
}

#[test]
fn a_mode_that_is_not_given_is_666() {
    needs_root!("device nodes");
    only!(Who::Us; "Debian's runc and crun make it 000");
    let mut world = World::running(&["sh", "-c", &stat("/dev/x")]);
    *world.at("/linux/devices") = json!([{"path": "/dev/x", "type": "c", "major": 1, "minor": 3}]);
    assert_eq!(world.run().ok(), "/dev/x|character special file|666|1,3|0:0\n");
}

#[test]
fn a_requested_default_node_is_made_as_requested() {
    needs_root!("device nodes");
    only!(Who::Us; "Debian's runc and crun keep the default's mode");
    let mut world = World::running(&["sh", "-c", &stat("/dev/null /dev/tty")]);
    *world.at("/linux/devices") = json!([
        {"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600, "uid": 7},
        {"path": "/dev/tty", "type": "c", "major": 5, "minor": 0, "fileMode": 0o620},
    ]);
    assert_eq!(
        world.run().ok(),
        "/dev/null|character special file|600|1,3|7:0\n/dev/tty|character special file|620|5,0|0:0\n"
    );
}

#[test]
fn the_same_node_already_there_is_fine_and_another_is_not() {
    needs_root!("device nodes");
    let mut world = World::running(&["cat", "/x/node"]);
    *world.at("/root/readonly") = json!(false);
    fs::create_dir(world.rootfs("x")).unwrap();
    mknod(&world.rootfs("x/node"), "c", "1", "3");
    *world.at("/linux/devices") = json!([{"path": "/x/node", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666}]);
    world.run().ok();
    only!(Who::Us; "Debian's runc and crun take whatever is there");
    for (kind, major, minor) in [("c", 1, 5), ("b", 1, 3), ("p", 0, 0)] {
        *world.at("/linux/devices/0") =
            json!({"path": "/x/node", "type": kind, "major": major, "minor": minor, "fileMode": 0o666});
        let said = world.run().fails();
        assert!(said.contains("linux.devices[0]") && said.contains("another file exists there"), "{said}");
    }
    for make in [0, 1, 2] {
        let _ = fs::remove_file(world.rootfs("x/node"));
        match make {
            0 => fs::write(world.rootfs("x/node"), "").unwrap(),
            1 => symlink("/dev/null", world.rootfs("x/node")).unwrap(),
            _ => fs::create_dir(world.rootfs("x/node")).unwrap(),
        }
        *world.at("/linux/devices/0") =
            json!({"path": "/x/node", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666});
        let said = world.run().fails();
        assert!(said.contains("linux.devices[0]") && said.contains("another file exists there"), "{said}");
    }
}

#[test]
fn a_mount_in_the_place_of_a_default_device_is_what_is_there() {
    needs_root!("device nodes");
    let binds =
        [("/dev/random", "/dev/urandom", "1,9"), ("/dev/tty", "/dev/null", "1,3"), ("/dev/null", "/dev/zero", "1,5")];
    let script = "stat -c '%t,%T' /dev/random /dev/tty /dev/null; cat /dev/full; stat -c %t,%T /dev/zero";
    let container = || {
        let mut world = World::running(&["sh", "-c", script]);
        fs::write(world.path("full"), "a file\n").unwrap();
        for (destination, source, _) in binds {
            world.mount(json!({"destination": destination, "type": "bind", "source": source, "options": ["bind"]}));
        }
        world.mount(
            json!({"destination": "/dev/full", "type": "bind", "source": world.path("full"), "options": ["bind"]}),
        );
        world
    };
    let expected = "1,9\n1,3\n1,5\na file\n1,5\n";
    let mut world = container();
    assert_eq!(world.run().ok(), expected);
    // A tmpfs of config.json that is mounted later covers all of them. The default devices are made there, too.
    world.mount(json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs"}));
    *world.at("/process/args/2") = json!("stat -c '%t,%T' /dev/random /dev/tty /dev/null /dev/full");
    assert_eq!(world.run().ok(), "1,8\n5,0\n1,3\n1,7\n");
    only!(Who::Us; "Debian's runc binds the host's devices over them in a user namespace");
    needs!(fs::metadata("/proc/self/ns/user").is_ok(), "user namespaces");
    let mut world = container();
    with_users(&mut world);
    assert_eq!(world.run().ok(), expected);
}

#[test]
fn a_file_of_the_image_at_the_path_of_a_default_device_stays_and_is_reported() {
    needs_root!("device nodes");
    let mut world = World::running(&["sh", "-c", "cat /dev/random; readlink /dev/tty; stat -c '%t,%T' /dev/full"]);
    *world.at("/root/readonly") = json!(false);
    world.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/dev");
    fs::create_dir_all(world.rootfs("dev")).unwrap();
    fs::write(world.rootfs("dev/random"), "a file\n").unwrap();
    // A link is not followed: no node is made at its target.
    symlink("/made", world.rootfs("dev/tty")).unwrap();
    let ran = world.run();
    let said = ran.err.clone();
    assert_eq!(ran.ok(), "a file\n/made\n1,7\n");
    assert!(fs::symlink_metadata(world.rootfs("made")).is_err());
    only!(Who::Us; "the peers say nothing");
    for path in ["/dev/random", "/dev/tty"] {
        assert!(said.contains(&format!("warning: root.path: {path} is another file in the image")), "{said}");
    }
    // A node of linux.devices is made, or the container fails.
    *world.at("/linux/devices") = json!([{"path": "/dev/random", "type": "c", "major": 1, "minor": 8}]);
    assert!(world.run().fails().contains("another file exists there"));
}

#[test]
fn an_invalid_node_is_refused_with_its_place() {
    let cases = [
        (json!({"path": "/dev/x", "type": "a", "major": 1, "minor": 3}), "linux.devices[0].type"),
        (json!({"path": "dev/x", "type": "c", "major": 1, "minor": 3}), "linux.devices[0].path"),
        (json!({"path": "/dev/x", "type": "c", "major": -1, "minor": 3}), "linux.devices[0].major"),
        (json!({"path": "/dev/x", "type": "z", "major": 1, "minor": 3}), "linux.devices[0].type"),
    ];
    only!(Who::Us; "the words are ours");
    for (device, place) in cases {
        let mut world = World::running(&["true"]);
        *world.at("/linux/devices") = json!([device]);
        let said = world.run().fails();
        assert!(said.contains(place), "{said}");
    }
}

#[test]
fn ptmx_is_always_the_containers_own() {
    let mut world = World::running(&["sh", "-c", "readlink /dev/ptmx; test -c /dev/ptmx && echo node"]);
    *world.at("/linux/devices") =
        json!([{"path": "/dev/ptmx", "type": "c", "major": 5, "minor": 2, "fileMode": 0o666}]);
    assert_eq!(world.run().ok(), "pts/ptmx\nnode\n");
}

#[test]
fn a_dev_that_is_bound_from_the_host_is_not_changed() {
    needs_root!("device nodes");
    let mut world = World::running(&["ls", "/dev"]);
    let dev = world.path("dev");
    for below in ["", "pts", "shm", "mqueue"] {
        fs::create_dir_all(dev.join(below)).unwrap();
    }
    mknod(&dev.join("null"), "c", "1", "3");
    fs::write(dev.join("marker"), "").unwrap();
    let mut mounts = world.config["mounts"].as_array().unwrap().clone();
    mounts[1] = json!({"destination": "/dev/", "type": "none", "source": dev, "options": ["rbind"]});
    world.config["mounts"] = json!(mounts);
    *world.at("/linux/maskedPaths") = json!([]);
    assert_eq!(world.run().ok(), "marker\nmqueue\nnull\npts\nshm\n");
    let mut left: Vec<_> =
        fs::read_dir(&dev).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    left.sort_unstable();
    assert_eq!(left, ["marker", "mqueue", "null", "pts", "shm"]);
}

#[test]
fn a_root_whose_own_dev_was_filled_by_an_earlier_run_starts_again() {
    needs_root!("device nodes");
    only!(Who::Us; "runc stumbles over the links it has made, crun 1.8 over a missing /dev");
    let mut world = World::running(&["sh", "-c", "test -c /dev/null && test -L /dev/fd && echo filled"]);
    *world.at("/root/readonly") = json!(false);
    world.config["mounts"] = json!([{"destination": "/proc", "type": "proc", "source": "proc"}]);
    *world.at("/linux/maskedPaths") = json!([]);
    for _ in 0..3 {
        assert_eq!(world.run().ok(), "filled\n");
    }
    let null = fs::symlink_metadata(world.rootfs("dev/null")).unwrap();
    assert!(null.file_type().is_char_device() && null.rdev() == 0x103 && null.mode() & 0o777 == 0o666);
}

#[test]
fn nodes_work_in_a_user_namespace() {
    let script = "echo x >/dev/null && head -c 3 /dev/zero | wc -c; test -c /dev/tty && test -c /dev/urandom && echo nodes; \
                  readlink /dev/ptmx";
    let mut world = World::running(&["sh", "-c", script]);
    with_users(&mut world);
    assert_eq!(world.run().ok(), "3\nnodes\npts/ptmx\n");
    only!(Who::Us; "Debian's runc and crun bind the host's fifo, and there is none");
    *world.at("/process/args") = json!(["sh", "-c", stat("/dev/pipe /dev/kmsg")]);
    *world.at("/linux/devices") = json!([
        {"path": "/dev/pipe", "type": "p", "fileMode": 0o640, "uid": 5, "gid": 6},
        {"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11, "fileMode": 0o640},
    ]);
    let out = world.run().ok();
    assert!(out.starts_with("/dev/pipe|fifo|640|0,0|5:6\n/dev/kmsg|character special file|"), "{out}");
    // The host must have a node with that name, and it must be the requested device.
    let another = "it is another device (ENODEV)";
    for (path, kind, minor, why) in [
        ("/dev/null", "c", 5, another),
        ("/dev/null", "b", 3, another),
        ("/dev/shm", "c", 3, another),
        ("/dev/nosuch", "c", 3, "no such file or directory (ENOENT)"),
    ] {
        *world.at("/linux/devices/0") = json!({"path": path, "type": kind, "major": 1, "minor": minor});
        let said = world.run().fails();
        let wanted = format!("linux.devices[0]: bind the host's {path}, where no node can be made: {why}");
        assert!(said.contains(&wanted), "{said}");
    }
}

#[test]
fn rules_hold_for_the_hosts_nodes_in_a_user_namespace() {
    needs_root!("device nodes");
    only!(Who::Us, Who::Runc; "crun 1.8 gives the host's /dev/null to the user");
    let mut world = World::running(&[]);
    // The kernel's log: any user can write to it, if the device rules allow it.
    let node = world.path("node");
    mknod(&node, "c", "1", "11");
    fs::set_permissions(&node, fs::Permissions::from_mode(0o666)).unwrap();
    *world.at("/process/args") = json!(["sh", "-c", format!("cat </dev/null && : >{} && echo open", node.display())]);
    with_users(&mut world);
    *world.at("/root/readonly") = json!(false);
    *world.at("/linux/devices") =
        json!([{"path": node, "type": "c", "major": 1, "minor": 11, "fileMode": 0o666, "uid": 0, "gid": 0}]);
    *world.at("/linux/resources/devices") = json!([{"allow": false, "access": "rwm"}]);
    let said = world.run().fails();
    assert!(said.contains("Operation not permitted"), "{said}");
    let rule = json!({"allow": true, "type": "c", "major": 1, "minor": 11, "access": "w"});
    world.at("/linux/resources/devices").as_array_mut().unwrap().push(rule);
    assert_eq!(world.run().ok(), "open\n");
}

/// The device programs of the container's group.
fn programs(world: &World) -> Vec<u64> {
    let shown = finish(Command::new("bpftool").args(["-j", "cgroup", "show"]).arg(directory("", &world.group()))).ok();
    // The output is empty if there is no program.
    let list: Value = serde_json::from_str(shown.trim()).unwrap_or(json!([]));
    let device = |one: &&Value| one["attach_type"].as_str().is_some_and(|kind| kind.contains("device"));
    list.as_array().unwrap().iter().filter(device).map(|one| one["id"].as_u64().unwrap()).collect()
}

#[test]
fn a_container_has_one_device_program_and_it_is_removed() {
    needs_cgroup!();
    needs!(unified(), "version 1 has lists and no programs");
    needs!(finish(Command::new("sh").args(["-c", "command -v bpftool"])).status.success(), "no bpftool");
    let world = World::running(&["sleep", "1000"]);
    world.begin();
    let mut all = programs(&world);
    assert_eq!(all.len(), 1);
    if who() == Who::Us {
        for minor in [5, 7, 8] {
            let rule = json!({"allow": true, "type": "c", "major": 1, "minor": minor, "access": "r"});
            let asked = json!({"devices": [{"allow": false}, rule]}).to_string();
            finish_with(&mut world.command(&["update", "-r", "-", &world.id]), asked.as_bytes()).ok();
            let now = programs(&world);
            assert!(now.len() == 1 && !all.contains(&now[0]), "{now:?}");
            all.extend(now);
        }
        let asked = br#"{"devices": [{"allow": true, "access": "rwm"}]}"#;
        finish_with(&mut world.command(&["update", "-r", "-", &world.id]), asked).ok();
        assert!(programs(&world).is_empty());
    }
    world.call(&["delete", "--force", &world.id]).ok();
    let loaded =
        |id: &u64| finish(Command::new("bpftool").args(["prog", "show", "id", &id.to_string()])).status.success();
    wait_until("the kernel has let go of all of them", || !all.iter().any(loaded));
}
