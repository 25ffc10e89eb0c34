//! `mounts add` and `mounts remove`: mounts of a container that runs.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::mountinfo::{HostMount, find_mount};
use crate::old_kernels::{hiding, under};
use crate::world::{Outcome, Who, World, finish, finish_with, runtime};
use crate::{needs_root, only};

/// `mounts WHAT` with this list.
pub fn mounts(world: &World, what: &str, list: &Value) -> Outcome {
    finish_with(&mut world.command(&["mounts", what, &world.id, "-"]), list.to_string().as_bytes())
}

#[test]
fn mounts_are_added_and_removed_while_the_container_runs() {
    needs_root!("only root copies mounts of the host");
    only!(Who::Us; "crun makes missing mount points");
    let mut world = World::running(&["sleep", "1000"]);
    for name in ["data", "t", "sub"] {
        fs::create_dir(world.rootfs(name)).unwrap();
    }
    *world.at("/linux/maskedPaths") = json!(["/sys/firmware"]);
    let share = world.path("share");
    fs::create_dir(&share).unwrap();
    fs::write(share.join("file"), "of the host\n").unwrap();
    world.begin();
    let data = json!({"destination": "/data", "source": share, "options": ["bind", "ro", "nosuid"]});
    let list = json!([data, {"destination": "/t", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m"]}]);

    // all or none
    let wrong = json!([data, {"destination": "/missing", "source": share, "options": ["bind"]}]);
    let said = mounts(&world, "add", &wrong).fails();
    assert!(said.contains("mounts[1].destination: /missing: no such file or directory (ENOENT)"), "{said}");
    assert_eq!(world.exec(&["ls", "/data"]).ok(), "");

    let said = mounts(&world, "add", &json!([{"destination": "/data", "type": "proc"}])).fails();
    assert!(said.contains("list of mounts: mounts[0].type: ") && !said.contains("config.json"), "{said}");

    mounts(&world, "add", &list).ok();
    let script = "cat /data/file; touch /data/x 2>/dev/null || echo closed; echo y > /t/x && cat /t/x";
    assert_eq!(world.exec(&["sh", "-c", script]).ok(), "of the host\nclosed\ny\n");
    // other tests mount on the host meanwhile
    let ours = world.path("").to_str().unwrap().to_owned();
    let host = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let here: Vec<_> = host.lines().filter(|line| line.contains(&ours)).collect();
    assert!(here.is_empty(), "on the host: {here:?}");

    // only what was added
    for other in ["/sys/firmware", "/dev", "/sub"] {
        let said = mounts(&world, "remove", &json!([{"destination": other}])).fails();
        assert!(said.contains("`mounts add` has made no mount there"), "{other}: {said}");
    }
    mounts(&world, "remove", &list).ok();
    assert_eq!(world.exec(&["ls", "/data", "/t"]).ok().replace('\n', " ").trim(), "/data:  /t:");
    assert!(
        mounts(&world, "remove", &list)
            .fails()
            .contains("mounts[0].destination: /data: `mounts add` has made no mount there")
    );

    for (list, said) in [
        (json!([{"destination": "/proc/1", "source": share, "options": ["bind"]}]), "/proc of a running container"),
        (json!([{"destination": "/t", "type": "proc"}]), "accepts only bind mounts"),
        (json!({"destination": "/t"}), "mounts: expected an array"),
    ] {
        let printed = mounts(&world, "add", &list).fails();
        assert!(printed.contains(said), "{printed}");
    }
    world.call(&["kill", &world.id, "KILL"]).ok();
    world.wait_for_status("stopped");
    assert!(mounts(&world, "add", &list).fails().contains("container not running"));
}

/// The added tree is a peer of the host's: an unmount there would unmount the host's mounts, too.
#[test]
fn what_is_below_a_shared_source_stays_when_the_mount_is_removed() {
    needs_root!("only root copies mounts of the host");
    only!(Who::Us; "the command is another one");
    let world = World::running(&["sleep", "1000"]);
    fs::create_dir(world.rootfs("data")).unwrap();
    fs::write(world.rootfs("file"), "").unwrap();
    let (source, file) = (world.path("source"), world.path("file"));
    fs::write(&file, "of the host\n").unwrap();
    let _source = HostMount::of(&["-t", "tmpfs", "tmpfs"], &source);
    finish(Command::new("mount").arg("--make-shared").arg(&source)).ok();
    let _inner = HostMount::of(&["-t", "tmpfs", "tmpfs"], &source.join("inner"));
    world.begin();
    let data = json!({"destination": "/data", "source": source, "options": ["rbind", "rshared"]});
    let mounted = || {
        find_mount(&fs::read_to_string("/proc/self/mountinfo").unwrap(), source.join("inner").to_str().unwrap())
            .is_some()
    };
    mounts(&world, "add", &json!([data])).ok();
    mounts(&world, "remove", &json!([data])).ok();
    assert!(mounted(), "removed");
    mounts(&world, "add", &json!([data, {"destination": "/missing", "source": file, "options": ["bind"]}])).fails();
    assert!(mounted(), "rolled back");
    // a file
    let list = json!([{"destination": "/file", "source": file, "options": ["bind"]}]);
    mounts(&world, "add", &list).ok();
    assert_eq!(world.exec(&["cat", "/file"]).ok(), "of the host\n");
    mounts(&world, "remove", &list).ok();
    assert_eq!(world.exec(&["cat", "/file"]).ok(), "");
}

#[test]
fn a_tmpfs_belongs_to_the_mapped_root_or_to_a_mapped_user() {
    needs_root!("only root copies mounts of the host");
    only!(Who::Us; "the command is another one");
    let mut world = World::running(&["sleep", "1000"]);
    crate::namespaces::with_users(&mut world);
    for name in ["t", "u"] {
        fs::create_dir(world.rootfs(name)).unwrap();
    }
    world.begin();
    let tmpfs = |at: &str, options: &[&str]| json!({"destination": at, "type": "tmpfs", "options": options});
    mounts(&world, "add", &json!([tmpfs("/t", &[]), tmpfs("/u", &["uid=7", "gid=8", "mode=750"])])).ok();
    assert_eq!(world.exec(&["stat", "-c", "%u:%g %a", "/t", "/u"]).ok(), "0:0 1777\n7:8 750\n");
    let said = mounts(&world, "add", &json!([tmpfs("/t", &["uid=70000"])])).fails();
    assert!(said.contains("mounts[0].options: uid=70000: the container's user namespace does not map it"), "{said}");
}

/// A service with a mount namespace of its own.
#[test]
fn the_host_is_known_from_a_mount_namespace_of_our_own() {
    needs_root!("only root copies mounts of the host");
    only!(Who::Us; "the command is another one");
    let mut world = World::running(&["sleep", "1000"]);
    world.without_namespace("mount");
    let linux = world.config["linux"].as_object_mut().unwrap();
    linux.remove("maskedPaths");
    linux.remove("readonlyPaths");
    *world.at("/root/readonly") = json!(false);
    *world.at("/mounts") = json!([]);
    let share = world.path("share");
    fs::create_dir(&share).unwrap();
    world.begin();
    let list = json!([{"destination": share, "source": share, "options": ["bind"]}]).to_string();
    let mut command = Command::new("unshare");
    command.args(["-m", "--propagation", "private"]).arg(runtime()).arg("--root").arg(world.path("state"));
    let said = finish_with(command.args(["mounts", "add", &world.id, "-"]), list.as_bytes()).fails();
    assert!(said.contains("the container has no mount namespace of its own"), "{said}");
}

#[test]
fn a_thread_that_the_kernel_does_not_make_is_reported() {
    needs_root!("only root loads a filter without no_new_privs");
    only!(Who::Us; "the message is coracle's");
    let world = World::running(&["sleep", "1000"]);
    world.begin();
    let list = json!([{"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}]);
    let file = world.path("list.json");
    fs::write(&file, list.to_string()).unwrap();
    let command = world.command(&["mounts", "add", &world.id, file.to_str().unwrap()]);
    let said = under(command, hiding("clone3", None, libc::EPERM));
    assert!(said.code() == 1 && said.err.contains("thread: operation not permitted (EPERM)"), "{said:?}");
}
