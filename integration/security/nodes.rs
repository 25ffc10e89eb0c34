//! The host's directories do not change: the runtime makes no device node, link or file in a bind mount of the host.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::attacker;
use super::exchange::Racer;
use crate::mountinfo::HostMount;
use crate::world::{Who, World};
use crate::{needs, needs_root, only};

fn names(directory: &Path) -> Vec<PathBuf> {
    let mut names: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    names
}

#[test]
fn nothing_is_made_in_a_dev_that_is_bound_whatever_its_options_look_like() {
    needs_root!("device nodes");
    for options in [json!(["rbind,rprivate"]), json!(["ro,bind"]), json!(["rprivate", "rbind"]), json!(["bind"])] {
        let mut world = World::running(&["true"]);
        let host = world.path("host-dev");
        fs::create_dir(&host).unwrap();
        fs::write(host.join("ptmx"), "the host's\n").unwrap();
        fs::create_dir(host.join("pts")).unwrap();
        let before = names(&host);
        *world.at("/mounts") = json!([
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "bind", "source": host, "options": options},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance"]},
        ]);
        let _ = world.run();
        assert_eq!(names(&host), before, "{options}");
        assert_eq!(fs::read_to_string(host.join("ptmx")).unwrap(), "the host's\n", "{options}");
    }
}

#[test]
fn a_device_below_any_bind_is_not_made_in_the_hosts_directory() {
    needs_root!("device nodes");
    let mut world = World::running(&["ls", "/dev/null", "/dev/net"]);
    let host = world.path("net");
    fs::create_dir(&host).unwrap();
    world.mount(json!({"destination": "/dev/net", "type": "bind", "source": host, "options": ["rw,rbind"]}));
    *world.at("/linux/devices") = json!([{"path": "/dev/net/tun", "type": "c", "major": 10, "minor": 200}]);
    let ran = world.run();
    assert_eq!(names(&host), Vec::<PathBuf>::new());
    assert!(ran.err.contains("linux.devices[0]: is not made: /dev/net is bound from the host"), "{}", ran.err);
    assert!(ran.ok().contains("/dev/null"));
}

/// `/dev` of the image is a link to a path where the host's directory is bound later. The names of the paths do not
/// show that nodes would be made there. The attack succeeds on versions of coracle that did not check the mounts.
#[test]
fn a_dev_that_is_a_link_into_a_later_bind_gets_no_nodes() {
    needs_root!("device nodes");
    for path in ["/dev/null", "/dev/net/tun"] {
        linked_into_a_bind("dev", "data", path);
    }
}

/// As above, but the target of the link is missing: it would be made in the host's directory, with the nodes in it.
#[test]
fn a_link_to_what_is_missing_in_a_bind_makes_nothing_there() {
    needs_root!("device nodes");
    for (link, to, path) in [
        ("dev", "/data/new", "/dev/null"),
        ("dev", "data/new/deep", "/dev/net/tun"),
        ("devices", "/data/new", "/devices/tun"),
        ("devices", "/data/new", "/devices/net/tun"),
    ] {
        linked_into_a_bind(link, to, path);
    }
}

/// The image's `link` leads `to` the host's directory, which is bound on `/data`. config.json has a node at `path`.
fn linked_into_a_bind(link: &str, to: &str, path: &str) {
    let mut world = World::running(&["true"]);
    let host = world.path("data");
    fs::create_dir(&host).unwrap();
    fs::create_dir(world.rootfs("data")).unwrap();
    std::os::unix::fs::symlink(to, world.rootfs(link)).unwrap();
    let mut mounts = vec![json!({"destination": "/proc", "type": "proc", "source": "proc"})];
    // A mount on the link would make its target, as config.json demands.
    if to == "data" || link != "dev" {
        mounts.push(json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs"}));
    }
    mounts.push(json!({"destination": "/data", "type": "bind", "source": host, "options": ["rbind"]}));
    *world.at("/mounts") = json!(mounts);
    *world.at("/linux/devices") = json!([{"path": path, "type": "c", "major": 1, "minor": 3}]);
    let ran = world.run();
    assert_eq!(names(&host), Vec::<PathBuf>::new(), "{link} -> {to}: {path}");
    assert!(ran.err.contains("a link leads into a bind mount of the host"), "{link} -> {to}: {path}: {}", ran.err);
}

/// `/dev/console` of the image is a link to a missing file in a bind mount. The mount point would be made in the host's
/// directory. The attack succeeds on versions of coracle that did not check the links.
#[test]
fn a_console_that_is_a_link_to_what_is_missing_in_a_bind_is_not_made() {
    needs_root!("device nodes");
    let mut world = World::running(&["true"]);
    let host = world.path("data");
    fs::create_dir(&host).unwrap();
    fs::create_dir(world.rootfs("dev")).unwrap();
    std::os::unix::fs::symlink("/data/console", world.rootfs("dev/console")).unwrap();
    world.config["process"]["terminal"] = json!(true);
    *world.at("/mounts") = json!([
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666"]},
        {"destination": "/data", "type": "bind", "source": host, "options": ["rbind"]},
    ]);
    let said = world.run().fails();
    assert!(said.contains("a link leads into a bind mount of the host"), "{said}");
    assert_eq!(names(&host), Vec::<PathBuf>::new());
    // The same link, but the file exists: the terminal is mounted on it, inside.
    fs::write(host.join("console"), "the host's\n").unwrap();
    world.run().ok();
    assert_eq!(fs::read_to_string(host.join("console")).unwrap(), "the host's\n");
}

/// A mount moves with the directory that contains it. /vol is exchanged with a directory of the image. Then a node in
/// that directory would be made in a file system of the host that `rbind` has copied. The attack succeeds on earlier
/// versions of coracle, which did not walk up from there, and on Debian's runc.
#[test]
fn nothing_is_made_in_a_mount_below_an_rbind_that_was_moved() {
    only!(Who::Us; "Debian's runc makes the node on the host");
    needs!(attacker().is_some(), "no C compiler");
    needs_root!("device nodes");
    for (directory, made, terminal) in [("dev2/sub", "evil", false), ("dev", "console", true)] {
        let mut world = World::running(&["true"]);
        let host = world.path("host");
        let top = directory.split('/').next().unwrap();
        let sub = host.join(directory.strip_prefix(top).unwrap().trim_start_matches('/'));
        let _sub = (sub != host).then(|| HostMount::of(&["-t", "tmpfs", "sub"], &sub));
        for directory in [host.clone(), sub.join("pts"), world.rootfs("vol"), world.rootfs(directory).join("pts")] {
            fs::create_dir_all(directory).unwrap();
        }
        *world.at("/root/readonly") = json!(false);
        world.config["process"]["terminal"] = json!(terminal);
        *world.at("/mounts") = json!([
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666"]},
            {"destination": "/vol", "source": host, "options": ["rbind"]},
        ]);
        if !terminal {
            *world.at("/linux/devices") = json!([{"path": "/dev2/sub/evil", "type": "c", "major": 1, "minor": 3}]);
        }
        world.write();
        let racer = Racer::between(&[(world.rootfs("vol"), world.rootfs(top))]);
        let (mut refused, mut there) = (0, 0);
        for round in 0..400 {
            // on a busy machine the racer needs more rounds to get between
            if round >= 20 && refused > 0 {
                break;
            }
            refused += u32::from(world.run().err.contains("it is in a bind mount of the host"));
            there += u32::from(fs::remove_file(sub.join(made)).is_ok());
        }
        racer.stop();
        assert_eq!(there, 0, "{made} is made on the host");
        assert!(refused > 0, "the racer has not got there");
    }
}

/// Nodes may be made in mounts that the root had before, and in a file system of the container inside a bind mount.
#[test]
fn nodes_are_made_in_mounts_of_the_root_and_in_new_ones_inside_a_bind() {
    needs_root!("device nodes");
    let mut world = World::running(&["ls", "/pre/node", "/data/own/node"]);
    let _pre = HostMount::of(&["-t", "tmpfs", "pre"], &world.rootfs("pre"));
    fs::create_dir(world.path("data")).unwrap();
    world.mount(json!({"destination": "/data", "source": world.path("data"), "options": ["rbind"]}));
    world.mount(json!({"destination": "/data/own", "type": "tmpfs", "source": "tmpfs"}));
    let node = |path: &str| json!({"path": path, "type": "c", "major": 1, "minor": 3});
    *world.at("/linux/devices") = json!([node("/pre/node"), node("/data/own/node")]);
    assert_eq!(world.run().ok().lines().count(), 2);
}
