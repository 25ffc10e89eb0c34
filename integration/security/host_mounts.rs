//! Without a mount namespace, the mounts of a container are mounts of the host. `delete` unmounts those of the
//! container and no others, also if the paths have changed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::mountinfo::{HostMount, find_mount};
use crate::world::{Who, World, finish};
use crate::{needs_root, only};

fn mounted(place: &Path) -> bool {
    find_mount(&fs::read_to_string("/proc/self/mountinfo").unwrap(), place.to_str().unwrap()).is_some()
}

/// A container without a mount namespace, with a tmpfs at /data/inner.
fn world() -> World {
    let world = planned();
    world.begin();
    assert!(mounted(&world.rootfs("data/inner")));
    world
}

fn planned() -> World {
    let mut world = World::running(&["sleep", "1000"]);
    world.without_namespace("mount");
    *world.at("/root/readonly") = json!(false);
    *world.at("/mounts") = json!([{"destination": "/data/inner", "type": "tmpfs", "source": "ours"}]);
    let linux = world.config["linux"].as_object_mut().unwrap();
    linux.remove("maskedPaths");
    linux.remove("readonlyPaths");
    world
}

#[test]
fn a_link_above_a_mount_leads_delete_to_no_other() {
    needs_root!("mounts on the host");
    let world = world();
    let victim = world.path("victim/inner");
    let _victim = HostMount::of(&["-t", "tmpfs", "victim"], &victim);
    // The container can do this, and any process that may write to its root.
    fs::rename(world.rootfs("data"), world.rootfs("moved")).unwrap();
    symlink(world.path("victim"), world.rootfs("data")).unwrap();
    world.call(&["delete", "--force", &world.id]).ok();
    assert!(mounted(&victim), "the host's mount is gone");
    assert!(!mounted(&world.rootfs("moved/inner")), "the container's own is left");
}

#[test]
fn another_mount_at_the_same_place_is_kept_and_reported() {
    needs_root!("mounts on the host");
    let world = world();
    let place = world.rootfs("data/inner");
    let other = HostMount::of(&["-t", "tmpfs", "other"], &place);
    let deleted = world.call(&["delete", "--force", &world.id]);
    assert!(deleted.err.contains(&format!("another mount covers {}", place.display())), "{}", deleted.err);
    deleted.ok();
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert_eq!(table.lines().filter(|line| line.contains(place.to_str().unwrap())).count(), 2, "{table}");
    drop(other);
    let _ = Command::new("umount").arg("-l").arg(&place).status();
}

#[test]
fn a_mount_that_is_already_unmounted_is_not_an_error() {
    needs_root!("mounts on the host");
    let world = world();
    finish(Command::new("umount").arg(world.rootfs("data/inner"))).ok();
    let _other = HostMount::of(&["-t", "tmpfs", "other"], &world.rootfs("data/inner"));
    world.call(&["delete", "--force", &world.id]).ok();
    assert!(mounted(&world.rootfs("data/inner")), "somebody else's mount is gone");
}

fn damage(world: &World) {
    fs::write(world.path("state").join(&world.id).join("state.json"), "garbage").unwrap();
}

/// Other programs have mounted something below the root since then. Not every new mount belongs to the container.
#[test]
fn mounts_of_others_below_the_root_stay_if_the_state_is_damaged() {
    needs_root!("mounts on the host");
    let world = world();
    let (own, later) = (world.rootfs("data/inner"), world.rootfs("later"));
    let _later = HostMount::of(&["-t", "tmpfs", "later"], &later);
    let on_top = HostMount::of(&["-t", "tmpfs", "top"], &own);
    damage(&world);
    let said = world.call(&["delete", "--force", &world.id]).fails();
    assert!(said.contains(&format!("another mount covers {}", own.display())), "{said}");
    assert!(mounted(&later) && mounted(&own), "somebody else's mount is gone");
    drop(on_top);
    assert!(mounted(&own), "the container's own was on top");
    world.call(&["delete", "--force", &world.id]).ok();
    assert!(mounted(&later) && !mounted(&own));
}

/// A mount of the container stays if it contains a mount of another program.
#[test]
fn a_mount_of_others_inside_keeps_the_containers_mount() {
    needs_root!("mounts on the host");
    let world = world();
    let own = world.rootfs("data/inner");
    let inside = HostMount::of(&["-t", "tmpfs", "inside"], &own.join("inside"));
    let deleted = world.call(&["delete", "--force", &world.id]);
    assert!(deleted.err.contains(&format!("the mount at {} stays", own.display())), "{}", deleted.err);
    assert!(mounted(&own.join("inside")), "somebody else's mount is gone");
    drop(inside);
    finish(Command::new("umount").arg(&own)).ok();
}

/// While the container is made, its hook mounts something for another program (or another container in the same root
/// does). The container's own mounts are removed, with all that `rbind` has copied, also if its creation fails or its
/// creator is killed.
#[test]
fn mounts_that_others_make_during_create_stay() {
    needs_root!("mounts on the host");
    for (last, made) in [("exit 0", true), ("exit 3", false), ("kill -9 $PPID", false)] {
        let mut world = planned();
        let (source, theirs) = (world.path("source"), world.rootfs("theirs"));
        let _sub = HostMount::of(&["-t", "tmpfs", "sub"], &source.join("sub"));
        fs::create_dir(&theirs).unwrap();
        world.mount(json!({"destination": "/vol", "source": source, "options": ["rbind"]}));
        let script = format!("mount -t tmpfs theirs {}; {last}", theirs.display());
        world.config["hooks"] = json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script],
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]}]});
        world.write();
        let own = ["data/inner", "vol", "vol/sub"].map(|place| world.rootfs(place));
        assert_eq!(world.call(&["create", &world.id]).code() == 0, made, "{last}");
        let _theirs = HostMount::there(&theirs);
        assert!(!made || own.iter().all(|own| mounted(own)), "{last}");
        world.call(&["delete", "--force", &world.id]).ok();
        assert!(mounted(&theirs), "{last}: somebody else's mount is gone");
        assert!(mounted(&source.join("sub")), "{last}: the source's mount is gone");
        let left: Vec<_> = own.iter().filter(|own| mounted(own)).collect();
        assert!(left.is_empty(), "{last}: left: {left:?}");
    }
}

/// A mount of the container covers a mount that came with its `rbind`: both are unmounted, in whatever order they cover each
/// other, and the source keeps its own.
#[test]
fn mounts_that_cover_each_other_are_unmounted() {
    needs_root!("mounts on the host");
    for (places, damaged) in [
        (&["data/inner"][..], false),
        (&["data/inner"], true),
        (&["data"], false),
        (&["data", "data"], false),
        (&["data/inner", "data"], false),
        (&["data/inner/deep", "data/inner"], false),
        (&["data/file", "data/file", "data"], true),
    ] {
        let mut world = planned();
        let source = world.path("source");
        let _inner = HostMount::of(&["-t", "tmpfs", "inner"], &source.join("inner"));
        let _deep = HostMount::of(&["-t", "tmpfs", "deep"], &source.join("inner/deep"));
        let (file, other) = (source.join("file"), world.path("other"));
        fs::write(&file, "").unwrap();
        fs::write(&other, "").unwrap();
        finish(Command::new("mount").arg("--bind").arg(&other).arg(&file)).ok();
        let _file = HostMount::there(&file);
        *world.at("/mounts") =
            json!([{"destination": "/data", "type": "bind", "source": source, "options": ["rbind"]}]);
        for place in places {
            world.mount(match place.ends_with("file") {
                true => json!({"destination": format!("/{place}"), "source": other, "options": ["bind"]}),
                false => json!({"destination": format!("/{place}"), "type": "tmpfs", "source": "ours"}),
            });
        }
        world.begin();
        if damaged {
            damage(&world);
        }
        let deleted = world.call(&["delete", "--force", &world.id]);
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let below = world.rootfs("");
        let left: Vec<_> = table.lines().filter(|line| line.contains(below.to_str().unwrap())).collect();
        for _ in &left {
            let _ = Command::new("umount").args(["-q", "-l", "-R"]).arg(world.rootfs("data")).status();
        }
        assert!(left.is_empty(), "{places:?}: left: {left:?} {}", deleted.err);
        assert!(mounted(&source.join("inner/deep")) && mounted(&file), "{places:?}: the source's mount is gone");
        deleted.ok();
    }
}

/// A record of the file `mounted`.
const RECORD: usize = 32;

#[test]
fn mounts_that_came_with_rbind_are_unmounted_if_the_creator_was_killed() {
    needs_root!("mounts on the host");
    only!(Who::Us; "the file is ours");
    let mut world = planned();
    let source = world.path("source");
    let _inner = HostMount::of(&["-t", "tmpfs", "inner"], &source.join("inner"));
    *world.at("/mounts") = json!([{"destination": "/data", "type": "bind", "source": source, "options": ["rbind"]}]);
    world.begin();
    assert!(mounted(&world.rootfs("data/inner")));
    // As if SIGKILL had come before the first hook: init has recorded its own mount, and nothing else is recorded.
    let file = world.path("state").join(&world.id).join("mounted");
    let mut records = fs::read(&file).unwrap();
    assert_eq!(records.len(), 3 * RECORD, "the mount, what came with it, and the end");
    records.truncate(RECORD);
    fs::write(file, records).unwrap();
    damage(&world);
    world.call(&["delete", "--force", &world.id]).ok();
    assert!(!mounted(&world.rootfs("data/inner")) && !mounted(&world.rootfs("data")));
    assert!(mounted(&source.join("inner")), "the source is gone");
}
