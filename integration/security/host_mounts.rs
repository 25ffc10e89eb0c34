//! Without a mount namespace what is mounted for a container is the host's to unmount. `delete` unmounts what was mounted for
//! it and nothing else, whatever has become of the path.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::mountinfo::{HostMount, find_mount};
use crate::needs_root;
use crate::world::{World, finish};

fn mounted(place: &Path) -> bool {
    find_mount(&fs::read_to_string("/proc/self/mountinfo").unwrap(), place.to_str().unwrap()).is_some()
}

/// A container without a mount namespace that has a tmpfs at /data/inner.
fn world() -> World {
    let mut world = World::running(&["sleep", "1000"]);
    world.without_namespace("mount");
    *world.at("/root/readonly") = json!(false);
    *world.at("/mounts") = json!([{"destination": "/data/inner", "type": "tmpfs", "source": "ours"}]);
    let linux = world.config["linux"].as_object_mut().unwrap();
    linux.remove("maskedPaths");
    linux.remove("readonlyPaths");
    world.begin();
    assert!(mounted(&world.rootfs("data/inner")));
    world
}

#[test]
fn a_link_above_a_mount_leads_delete_to_no_other() {
    needs_root!("mounts on the host");
    let world = world();
    let victim = world.path("victim/inner");
    let _victim = HostMount::of(&["-t", "tmpfs", "victim"], &victim);
    // what the container, or whoever may write its root, can do
    fs::rename(world.rootfs("data"), world.rootfs("moved")).unwrap();
    symlink(world.path("victim"), world.rootfs("data")).unwrap();
    world.call(&["delete", "--force", &world.id]).ok();
    assert!(mounted(&victim), "the host's mount is gone");
    assert!(!mounted(&world.rootfs("moved/inner")), "the container's own is left");
}

#[test]
fn another_mount_at_the_same_place_is_left_and_told() {
    needs_root!("mounts on the host");
    let world = world();
    let place = world.rootfs("data/inner");
    let other = HostMount::of(&["-t", "tmpfs", "other"], &place);
    let deleted = world.call(&["delete", "--force", &world.id]);
    assert!(deleted.err.contains(&format!("another one lies on {}", place.display())), "{}", deleted.err);
    deleted.ok();
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert_eq!(table.lines().filter(|line| line.contains(place.to_str().unwrap())).count(), 2, "{table}");
    drop(other);
    let _ = Command::new("umount").arg("-l").arg(&place).status();
}

#[test]
fn what_is_unmounted_already_is_no_error() {
    needs_root!("mounts on the host");
    let world = world();
    finish(Command::new("umount").arg(world.rootfs("data/inner"))).ok();
    let _other = HostMount::of(&["-t", "tmpfs", "other"], &world.rootfs("data/inner"));
    world.call(&["delete", "--force", &world.id]).ok();
    assert!(mounted(&world.rootfs("data/inner")), "somebody else's mount is gone");
}
