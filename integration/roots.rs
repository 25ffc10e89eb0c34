//! Roots on every file system that engines use: writable, read-only, and read-only without the mount points that
//! config.json needs.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::mountinfo::{HostMount, LOOP, bind, mount_at, tmpfs};
use crate::namespaces::with_users;
use crate::ordinary::first;
use crate::world::{Who, World, finish, who};
use crate::{needs_fs, needs_root, only};

pub const LOOK: [&str; 3] = ["sh", "-c", "cat /proc/self/mountinfo; touch /made 2>&1 && echo written; true"];

/// Moves the root to another path, and makes an empty directory in its place.
pub fn aside(world: &World) -> (PathBuf, PathBuf) {
    let (rootfs, aside) = (world.bundle().join("rootfs"), world.path("aside"));
    fs::rename(&rootfs, &aside).unwrap();
    fs::create_dir(&rootfs).unwrap();
    (aside, rootfs)
}

fn copy(from: &Path, to: &Path) {
    finish(Command::new("cp").arg("-a").arg(from.join(".")).arg(to)).ok();
}

/// Runs a container in the mounted root: read-only, writable, and with a user namespace. exec works, too.
#[track_caller]
fn works_and_is_written(world: &mut World, fstype: &str) {
    *world.at("/process/args") = json!(LOOK);
    let seen = world.run().ok();
    assert_eq!(mount_at(&seen, "/").fstype, fstype, "{seen}");
    assert!(mount_at(&seen, "/").has("ro") && seen.contains("Read-only file system"), "{seen}");
    *world.at("/root/readonly") = json!(false);
    let seen = world.run().ok();
    assert!(mount_at(&seen, "/").has("rw") && seen.ends_with("written\n"), "{seen}");
    fs::remove_file(world.rootfs("made")).unwrap();
    with_users(world);
    let seen = world.run().ok();
    assert!(mount_at(&seen, "/").fstype == fstype && seen.ends_with("written\n"), "{seen}");
    assert_eq!(fs::metadata(world.rootfs("made")).unwrap().uid(), first());
    *world.at("/process/args") = json!(["sleep", "1000"]);
    world.begin();
    assert_eq!(world.exec(&["stat", "-c", "%u", "/made"]).ok(), "0\n");
    world.call(&["delete", "--force", &world.id]).ok();
}

#[test]
fn on_a_tmpfs() {
    needs_root!("mounts on the host");
    let mut world = World::running(&[]);
    let (aside, rootfs) = aside(&world);
    let _root = HostMount::of(&["-t", "tmpfs", "tmpfs"], &rootfs);
    copy(&aside, &rootfs);
    works_and_is_written(&mut world, "tmpfs");
}

#[test]
fn on_a_disk() {
    needs_root!("mounts on the host");
    needs_fs!("ext4", "mkfs.ext4", LOOP);
    let mut world = World::running(&[]);
    let (aside, rootfs) = aside(&world);
    let image = world.path("image");
    fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
    finish(Command::new("mkfs.ext4").arg("-q").arg("-d").arg(&aside).arg(&image)).ok();
    let _root = HostMount::of(&["-o", "loop", image.to_str().unwrap()], &rootfs);
    works_and_is_written(&mut world, "ext4");
}

/// Two layers below a writable one, in a tmpfs, which can be a layer of an overlay. Returns the tmpfs and the options
/// of the mount.
fn layers(world: &World, lower: &Path) -> (HostMount, String) {
    let base = world.path("layers");
    let own = HostMount::of(&["-t", "tmpfs", "tmpfs"], &base);
    for name in ["middle", "upper", "work"] {
        fs::create_dir(base.join(name)).unwrap();
    }
    fs::write(base.join("middle/note"), "middle\n").unwrap();
    let here = base.display();
    let options = format!("lowerdir={here}/middle:{},upperdir={here}/upper,workdir={here}/work", lower.display());
    (own, options)
}

#[test]
fn on_an_overlay() {
    needs_root!("mounts on the host");
    let mut world = World::running(&[]);
    let (aside, rootfs) = aside(&world);
    let (_layers, options) = layers(&world, &aside);
    let _root = HostMount::of(&["-t", "overlay", "-o", &options, "overlay"], &rootfs);
    works_and_is_written(&mut world, "overlay");
    assert!(world.path("layers/upper/made").exists());
    // Mount points are made only in the writable layer.
    assert!(!aside.join("proc").exists() && !aside.join("made").exists());
}

#[test]
fn on_an_overlay_in_user_space() {
    needs_root!("mounts on the host");
    needs_fs!("fuse", "fuse-overlayfs", "/dev/fuse");
    let mut world = World::running(&[]);
    let (aside, rootfs) = aside(&world);
    let (_layers, options) = layers(&world, &aside);
    // Other users than the one who mounted it are allowed only with this option.
    let mut mount = Command::new("fuse-overlayfs");
    let _root = HostMount::by(mount.arg("-o").arg(format!("{options},allow_other")), &rootfs);
    works_and_is_written(&mut world, "fuse.fuse-overlayfs");
    assert!(world.path("layers/upper/made").exists());
    assert!(!aside.join("proc").exists() && !aside.join("made").exists());
}

/// Makes a read-only file system of a directory, and mounts it at a path.
pub type Seal = fn(&World, &Path, &Path) -> HostMount;

/// A file system in a file, made by a program.
fn sealed(world: &World, make: &mut Command, fstype: &str, place: &Path) -> HostMount {
    finish(make).ok();
    let image = world.path("image");
    HostMount::of(&["-t", fstype, "-o", "loop,ro", image.to_str().unwrap()], place)
}

pub fn squashfs(world: &World, from: &Path, place: &Path) -> HostMount {
    let mut make = Command::new("mksquashfs");
    sealed(world, make.arg(from).arg(world.path("image")).args(["-noappend", "-quiet"]), "squashfs", place)
}

pub fn erofs(world: &World, from: &Path, place: &Path) -> HostMount {
    sealed(world, Command::new("mkfs.erofs").arg(world.path("image")).arg(from), "erofs", place)
}

fn read_only_ext4(world: &World, from: &Path, place: &Path) -> HostMount {
    fs::File::create(world.path("image")).unwrap().set_len(16 << 20).unwrap();
    sealed(world, Command::new("mkfs.ext4").args(["-q", "-d"]).arg(from).arg(world.path("image")), "ext4", place)
}

pub fn overlay_without_upper(world: &World, from: &Path, place: &Path) -> HostMount {
    fs::create_dir_all(world.path("empty")).unwrap();
    let lower = format!("lowerdir={}:{}", from.display(), world.path("empty").display());
    HostMount::of(&["-t", "overlay", "-o", &lower, "overlay"], place)
}

fn read_only_bind(_: &World, from: &Path, place: &Path) -> HostMount {
    HostMount::of(&["--bind", "-o", "ro", from.to_str().unwrap()], place)
}

/// Runs a container in a root that no process can write to, with and without `readonly` and a user namespace. It works
/// if all mount points exist. If one is missing, the message names it.
#[track_caller]
fn works_sealed(seal: Seal) {
    for users in [false, true] {
        let mut world = World::running(&LOOK);
        if users {
            with_users(&mut world);
        }
        let (aside, rootfs) = aside(&world);
        fs::write(aside.join("etc/hosts"), "").unwrap();
        fs::write(world.path("hosts"), "bound\n").unwrap();
        for directory in ["proc", "dev", "sys"] {
            fs::create_dir(aside.join(directory)).unwrap();
        }
        let _root = seal(&world, &aside, &rootfs);
        world.mount(bind(world.path("hosts"), "/etc/hosts", &["bind", "ro"]));
        for readonly in [true, false] {
            *world.at("/root/readonly") = json!(readonly);
            let seen = world.run().ok();
            assert!(seen.contains("Read-only file system"), "{seen}");
        }
        *world.at("/process/args") = json!(["sleep", "1000"]);
        world.begin();
        assert_eq!(world.exec(&["cat", "/etc/hosts"]).ok(), "bound\n");
        world.call(&["delete", "--force", &world.id]).ok();
        places_are_named(&mut world);
    }
}

/// Adds one mount, directory or device for which the read-only root has no mount point.
#[track_caller]
fn places_are_named(world: &mut World) {
    *world.at("/process/args") = json!(["true"]);
    let mounts = world.config["mounts"].clone();
    let users = !world.config["linux"]["uidMappings"].is_null();
    let mut fails = |pointer: &str, value: Value, wanted: &str| {
        let before = std::mem::replace(world.at(pointer), value);
        let said = world.run().fails();
        // crun uses another word for the second.
        assert!(who() == Who::Crun || said.to_lowercase().contains("read-only file system"), "{said}");
        assert!(who() != Who::Us || said.contains(&format!("{wanted}: read-only file system (EROFS)")), "{said}");
        assert_eq!(world.call(&["list", "-q"]).ok(), "");
        *world.at(pointer) = before;
    };
    let with = |mount: Value| json!([mounts.as_array().unwrap().clone(), vec![mount]].concat());
    let missing = "the mount point is missing, and cannot be made";
    fails("/mounts", with(tmpfs("/new/deep", &[])), &format!("mounts[7]: mount tmpfs on /new/deep: {missing}"));
    let one = bind("/dev/zero", "/etc/zero", &["bind"]);
    fails("/mounts", with(one), &format!("mounts[7]: bind on /etc/zero: {missing}"));
    fails("/process/cwd", json!("/new"), "process.cwd: mkdir /new where missing");
    let node = json!([{"path": "/node", "type": "c", "major": 1, "minor": 3}]);
    // With a user namespace, these are bind mounts of the host's devices.
    if !users {
        fails("/linux/devices", node, "linux.devices[0]: mknod /node 20666 1:3 owner 0:0");
    }
    // Without a file system at /dev, no device can be made there either.
    let others: Vec<_> = mounts.as_array().unwrap().iter().filter(|mount| !under_dev(mount)).cloned().collect();
    let bound = format!("bind on /dev/null: {missing}");
    let null = if users { &bound } else { "mknod /dev/null 20666 1:3 owner 0:0" };
    fails("/mounts", json!(others), &format!("default device: {null}"));
}

fn under_dev(mount: &Value) -> bool {
    mount["destination"].as_str().is_some_and(|place| place.starts_with("/dev"))
}

#[test]
fn on_squashfs() {
    needs_root!("mounts on the host");
    needs_fs!("squashfs", "mksquashfs", LOOP);
    works_sealed(squashfs);
}

#[test]
fn on_erofs() {
    needs_root!("mounts on the host");
    needs_fs!("erofs", "mkfs.erofs", LOOP);
    works_sealed(erofs);
}

#[test]
fn on_a_read_only_disk() {
    needs_root!("mounts on the host");
    needs_fs!("ext4", "mkfs.ext4", LOOP);
    works_sealed(read_only_ext4);
}

#[test]
fn on_an_overlay_without_a_layer_that_is_written() {
    needs_root!("mounts on the host");
    works_sealed(overlay_without_upper);
}

#[test]
fn on_a_read_only_bind_mount() {
    needs_root!("mounts on the host");
    only!(Who::Us, Who::Runc; "crun lets such a root be written unless it is asked to be read-only");
    works_sealed(read_only_bind);
}
