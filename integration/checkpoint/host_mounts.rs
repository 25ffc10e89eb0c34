//! The host's files in a container are not in the images. The restore finds them again, or the checkpoint names what
//! cannot be found.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::json;

use super::{COUNTER, assert_counts_on, command, count, dump, needs_criu, restore};
use crate::namespaces::{only_with, with_users};
use crate::only;
use crate::world::{Who, World, finish, wait_until};

/// A tmpfs of the host in a directory of the test.
struct Tmpfs(std::path::PathBuf);

impl Tmpfs {
    fn at(path: std::path::PathBuf) -> Tmpfs {
        fs::create_dir_all(&path).unwrap();
        finish(Command::new("mount").args(["-t", "tmpfs", "it"]).arg(&path)).ok();
        Tmpfs(path)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn mounts_below_a_bind_and_those_of_hooks_are_the_hosts_again() {
    only!(Who::Us; "criu copies them or refuses for the peers");
    needs_criu!();
    let mut world = World::running(&["sh", "-c", COUNTER]);
    let volume = world.path("volume");
    let below = Tmpfs::at(volume.join("below"));
    let of_a_hook = Tmpfs::at(world.path("hook"));
    world.mount(json!({"destination": "/data", "type": "bind", "source": volume, "options": ["rbind"]}));
    let target = world.rootfs("of-a-hook");
    fs::create_dir(&target).unwrap();
    let script = format!("mount --bind {} {}", of_a_hook.0.display(), target.display());
    world.config["hooks"]["createContainer"] = json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
    world.begin();
    let before = count(&world);
    dump(&world, "images", &[]).ok();
    restore(&world, "images", &[]).ok();
    assert_counts_on(&world, before);
    for (host, inside) in [(&below.0, "/data/below/file"), (&of_a_hook.0, "/of-a-hook/file")] {
        fs::write(host.join("file"), "written later").unwrap();
        assert_eq!(world.exec(&["cat", inside]).ok(), "written later");
    }
    dump(&world, "images", &["--leave-running"]).ok();
    world.call(&["delete", "--force", &world.id]).ok();
    // another file, a link, and what is gone are named
    let place = below.0.clone();
    drop((of_a_hook, below));
    let refused = |why: &str| {
        let said = restore(&world, "images", &[]).fails();
        assert!(said.contains("/images: mounts.json: ") && said.contains(why), "{said}");
    };
    refused("/below: this is another file than at the checkpoint");
    fs::remove_dir(&place).unwrap();
    std::os::unix::fs::symlink("/etc", &place).unwrap();
    refused("a link in it is not followed");
    fs::remove_file(&place).unwrap();
    refused("/below: no such file or directory (ENOENT)");
    world.assert_clean();
}

#[test]
fn a_container_with_its_own_users_continues() {
    only!(Who::Us; "the peers cannot");
    needs_criu!();
    let mut world = World::running(&["sh", "-c", COUNTER]);
    with_users(&mut world);
    world.namespace("time", None);
    *world.at("/linux/timeOffsets") = json!({"monotonic": {"secs": 1000}});
    let mut holder = Command::new("unshare").args(["-i", "sleep", "1000"]).spawn().unwrap();
    let path = format!("/proc/{}/ns/ipc", holder.id());
    let own = fs::read_link("/proc/self/ns/ipc").unwrap();
    wait_until("the namespace is there", || fs::read_link(&path).unwrap() != own);
    let mut joining = World::running(&["sh", "-c", COUNTER]);
    joining.namespace("ipc", Some(&path));
    joining.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/dev/mqueue");
    // the mapped root may open the null device again, and not a file of the test's
    let with_null = |world: &World, args: &[&str]| {
        let log = world.path("log");
        let mut call = command(world, &[&["--log", log.to_str().unwrap()], args, &[&world.id]].concat());
        call.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        assert!(call.status().unwrap().success(), "{args:?}: {:?}", fs::read_to_string(log));
        // its ids and capabilities are those of config.json
        let said = fs::read_to_string(log).unwrap_or_default();
        assert!(!said.contains("from the images"), "{said}");
    };
    for world in [&world, &joining] {
        world.write();
        with_null(world, &["run", "-d"]);
        let before = count(world);
        dump(world, "images", &[]).ok();
        with_null(world, &["restore", "-d", "--image-path", "images"]);
        assert_counts_on(world, before);
    }
    let map = world.exec(&["cat", "/proc/self/uid_map"]).ok();
    assert_eq!(map.split_whitespace().collect::<Vec<_>>()[1..], [crate::ordinary::first().to_string(), "65536".into()]);
    let uptime: f64 = world.exec(&["cat", "/proc/uptime"]).ok().split(' ').next().unwrap().parse().unwrap();
    assert!(uptime > 0.0);
    assert_eq!(fs::read_link(format!("/proc/{}/ns/ipc", joining.pid())).unwrap(), fs::read_link(&path).unwrap());
    joining.call(&["delete", "--force", &joining.id]).ok();
    holder.kill().unwrap();
    holder.wait().unwrap();
}

#[test]
fn an_object_that_criu_cannot_restore_is_refused_with_the_reason() {
    only!(Who::Us; "the words are ours");
    needs_criu!();
    let mut mapped = World::running(&["sh", "-c", "sleep 1000"]);
    let ids = json!([{"containerID": 0, "hostID": 100_000, "size": 1000}]);
    let source = mapped.path("bundle/rootfs/etc");
    mapped.mount(json!({"destination": "/mapped", "type": "bind", "source": source, "options": ["bind"],
        "uidMappings": ids, "gidMappings": ids}));
    let mut bare = only_with(&["pid"], &["/bin/sleep", "1000"]);
    bare.config["root"]["readonly"] = json!(false);
    bare.config["mounts"] = json!([]);
    for paths in ["maskedPaths", "readonlyPaths"] {
        bare.config["linux"][paths] = json!([]);
    }
    let mut joining = World::running(&["sleep", "1000"]);
    joining.namespace("cgroup", Some("/proc/self/ns/cgroup"));
    let cases = [
        (mapped, "criu does not map the ids of a mount again"),
        (bare, "a container without a mount namespace of its own cannot be checkpointed"),
        (joining, "criu cannot join a cgroup namespace by its path"),
    ];
    for (world, expected) in cases {
        world.begin();
        let said = dump(&world, "images", &[]).fails();
        assert!(said.starts_with("coracle: error: checkpoint: ") && said.contains(expected), "{said}");
        assert_eq!(world.status(), "running");
        assert!(!world.bundle().join("images").exists());
        world.call(&["delete", "--force", &world.id]).ok();
    }
}
