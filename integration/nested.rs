//! Containers in containers: the runtime runs in a container, as root of a user namespace. The kernel refuses
//! many calls that it allows root of the host.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use serde_json::{Value, json};

use crate::namespaces::{all_capabilities, with_users};
use crate::world::{Outcome, Who, World, runtime, stock};
use crate::{needs_root, only};

/// Runs the config in a container in a container: the bundle is /inner, and our own binary is beside it.
#[track_caller]
fn inside(outer: impl FnOnce(&mut World), inner: impl FnOnce(&mut Value)) -> Outcome {
    let mut world = World::running(&["/coracle", "run", "--bundle", "/inner", "inner"]);
    let bin = world.rootfs("inner/rootfs/bin");
    fs::create_dir_all(&bin).unwrap();
    for (from, to) in [(runtime(), world.rootfs("coracle")), ("/bin/busybox".into(), bin.join("busybox"))] {
        assert!(Command::new("cp").arg(from).arg(to).status().unwrap().success());
    }
    for name in ["sh", "id", "cat", "ls", "mount", "readlink", "grep", "wc", "sleep", "echo", "stat"] {
        symlink("busybox", bin.join(name)).unwrap();
    }
    let mut config = stock();
    inner(&mut config);
    fs::write(world.rootfs("inner/config.json"), config.to_string()).unwrap();
    with_users(&mut world);
    *world.at("/root/readonly") = json!(false);
    *world.at("/process/noNewPrivileges") = json!(false);
    let all: Vec<_> = [
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "SETGID",
        "SETUID",
        "SETPCAP",
        "NET_ADMIN",
        "SYS_CHROOT",
        "SYS_PTRACE",
        "SYS_ADMIN",
        "SYS_RESOURCE",
        "MKNOD",
        "AUDIT_WRITE",
        "SETFCAP",
        "NET_BIND_SERVICE",
    ]
    .map(|name| format!("CAP_{name}"))
    .into();
    all_capabilities(&mut world, json!(all));
    world.mount(json!({"destination": "/run", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]}));
    outer(&mut world);
    world.run()
}

#[test]
fn the_user_namespace_that_we_are_in_is_joined_by_path() {
    only!(Who::Us; "the peers are no static programs");
    let seen = inside(
        |_| {},
        |config| {
            looking(config);
            let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.push(json!({"type": "user", "path": "/proc/self/ns/user"}));
        },
    );
    assert_eq!(seen.out.lines().next(), Some("0"), "{seen:?}");
}

const LOOK: &str =
    "id -u; cat /proc/1/comm; ls /sys/class | wc -l; echo x >/dev/null; stat -c %t,%T /dev/null /dev/zero";

fn looking(config: &mut Value) {
    config["process"]["args"] = json!(["sh", "-c", LOOK]);
}

#[test]
fn uid_0_of_a_user_namespace_is_not_quite_root() {
    only!(Who::Us; "the peers are no static programs");
    let seen = inside(|_| {}, looking);
    let lines: Vec<_> = seen.out.lines().collect();
    assert_eq!(lines.first(), Some(&"0"), "{seen:?}");
    assert_eq!(lines[1], "sh", "{seen:?}");
    assert_eq!(lines[3..], ["1,3", "1,5"], "{seen:?}");
}

#[test]
fn with_its_own_user_namespace() {
    only!(Who::Us; "the peers are no static programs");
    let users = |config: &mut Value| {
        looking(config);
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        for map in ["uidMappings", "gidMappings"] {
            config["linux"][map] = json!([{"containerID": 0, "hostID": 0, "size": 1000}]);
        }
    };
    // Paths that are masked in the outer /proc must not be visible in the inner one.
    let said = inside(|_| {}, users).fails();
    assert!(said.contains("mounts[0]: mount proc on /proc: ") && said.contains("(EPERM): "), "{said}");
    assert!(said.contains("the one that is mounted here is covered in part"), "{said}");
    let uncovered = |world: &mut World| {
        *world.at("/linux/maskedPaths") = json!([]);
        *world.at("/linux/readonlyPaths") = json!([]);
    };
    let seen = inside(uncovered, users);
    let lines: Vec<_> = seen.out.lines().collect();
    assert_eq!(lines.first(), Some(&"0"), "{seen:?}");
    assert_eq!(lines[1], "sh", "{seen:?}");
    // podman gives a container that shares the pid namespace the existing /proc.
    let shared = |config: &mut Value| {
        users(config);
        config["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "pid");
    };
    let seen = inside(|_| {}, shared);
    assert_eq!(seen.out.lines().nth(1), Some("coracle"), "{seen:?}");
}

#[test]
fn a_property_that_needs_the_hosts_root_is_reported_with_its_place() {
    only!(Who::Us; "the peers are no static programs");
    let users = |first: u32, size: u32| {
        move |config: &mut Value| {
            config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
            for map in ["uidMappings", "gidMappings"] {
                config["linux"][map] = json!([{"containerID": 0, "hostID": first, "size": size}]);
            }
        }
    };
    // The outer container has ids up to 65535.
    for (first, size) in [(100_000, 1), (65_000, 1000)] {
        let said = inside(|_| {}, users(first, size)).fails();
        let wanted = format!(
            "linux.uidMappings[0]: {first}:{size} is more than the ids of the runtime's user namespace (0:65536): write uid_map: \
             operation not permitted (EPERM)"
        );
        assert!(said.contains(&wanted), "{said}");
    }
}

#[test]
fn the_ids_of_a_new_file_system_are_mapped_within_those_that_we_have() {
    only!(Who::Us; "the peers are no static programs");
    let mapped = |first: u32| {
        inside(
            |_| {},
            |config| {
                let map = json!([{"containerID": 0, "hostID": first, "size": 10}]);
                config["process"]["args"] = json!(["stat", "-c", "%u:%g", "/new"]);
                config["root"]["readonly"] = json!(false);
                config["mounts"].as_array_mut().unwrap().push(json!({"destination": "/new", "type": "tmpfs",
                "source": "tmpfs", "uidMappings": map, "gidMappings": map}));
            },
        )
    };
    assert_eq!(mapped(100).ok(), "100:100\n");
    let said = mapped(65_530).fails();
    let wanted =
        "].uidMappings[0]: 65530:10 is more than the ids of the runtime's user namespace (0:65536): write uid_map: ";
    assert!(said.contains(wanted), "{said}");
}

/// A missing writable cgroup is not an error if the config sets no limit, except with --rootless=false.
#[test]
fn how_much_of_a_root_we_are_can_be_said() {
    only!(Who::Us; "the peers are no static programs");
    let said_to_be = |word: &str, limits: Value| {
        let outer = |world: &mut World| {
            *world.at("/process/args") = json!(["/coracle", "--rootless", word, "run", "--bundle", "/inner", "inner"]);
            let group =
                json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]});
            world.mount(group);
        };
        inside(outer, |config| {
            looking(config);
            config["linux"]["resources"] = limits;
        })
    };
    let limits = json!({"pids": {"limit": 10}});
    for word in ["auto", "true"] {
        assert!(said_to_be(word, json!({})).ok().starts_with("0\nsh\n"));
        let said = said_to_be(word, limits.clone()).fails();
        let wanted = "linux.resources.pids.limit: rootless needs no limits + no cgrouppath when no permission";
        assert!(said.contains(wanted), "{said}");
    }
    for limits in [json!({}), limits] {
        let said = said_to_be("false", limits).fails();
        assert!(said.contains("linux.cgroupsPath: mkdir ") && said.contains("read-only file system"), "{said}");
    }
}

#[test]
fn root_has_limits_with_every_rootless_flag() {
    needs_root!("cgroups of the host's");
    only!(Who::Us, Who::Runc; "crun 1.8 leaves the cgroup when it is told so");
    for word in ["true", "false", "auto"] {
        let mut world = World::running(&["true"]);
        *world.at("/linux/resources/pids") = json!({"limit": 10});
        world.write();
        world.call(&["--rootless", word, "create", &world.id]).ok();
        let group = world.cgroups().into_iter().find(|group| group.join("pids.max").exists()).unwrap();
        assert_eq!(fs::read_to_string(group.join("pids.max")).unwrap(), "10\n", "{word}");
    }
}
