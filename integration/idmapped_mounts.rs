//! Mounts with id maps, on every file system that can have them. The host must not see these mounts.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::mountinfo::{HostMount, LOOP, bind, tmpfs};
use crate::namespaces::{Pod, with_users};
use crate::ordinary::first;
use crate::roots::{Seal, erofs, squashfs};
use crate::world::{Who, World, finish, runtime};
use crate::{needs_fs, needs_root, only};

const CANNOT: &str = "the file system may not support id-mapped mounts";
const NO_RUNC: &str = "runc 1.1.5 has no id-mapped mounts";

/// `mount` with a map of the file system's ids 0 to 9 to `first` and the ids after it.
fn mapped(mut mount: Value, first: u32) -> Value {
    let map = json!([{"containerID": 0, "hostID": first, "size": 10}]);
    mount["uidMappings"] = map.clone();
    mount["gidMappings"] = map;
    mount
}

/// A directory with a file of root and one of uid 5, gid 6.
fn owned(directory: &Path) {
    fs::create_dir_all(directory).unwrap();
    fs::write(directory.join("roots"), "").unwrap();
    fs::write(directory.join("other"), "").unwrap();
    chown(directory.join("other"), Some(5), Some(6)).unwrap();
}

/// The mounts in the test's directory.
fn mounts_of(world: &World) -> String {
    let here = world.path("").display().to_string();
    let all = fs::read_to_string("/proc/self/mountinfo").unwrap();
    all.lines().filter(|line| line.contains(&here)).collect::<Vec<_>>().join("\n")
}

/// Checks the ids of files in `/mapped`, as seen inside, and the host's ids of a file that is made there. Tests both
/// options.
#[track_caller]
fn ids_are_mapped_on(source: &Path, world: &mut World) {
    owned(source);
    *world.at("/process/args") =
        json!(["sh", "-c", "cd /mapped; stat -c '%n %u:%g' roots other; touch made; stat -c '%n %u:%g' made"]);
    // uid 1000 is root in the file system.
    *world.at("/process/user") = json!({"uid": 1000, "gid": 1000});
    fs::set_permissions(source, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    *world.at("/root/readonly") = json!(false);
    let before = mounts_of(world);
    for options in [["bind", "idmap"], ["rbind", "ridmap"]] {
        world.mount(mapped(bind(source, "/mapped", &options), 1000));
        assert_eq!(world.run().ok(), "roots 1000:1000\nother 1005:1006\nmade 1000:1000\n", "{options:?}");
        assert_eq!(mounts_of(world), before, "{options:?}");
        let made = fs::metadata(source.join("made")).unwrap();
        assert_eq!((made.uid(), made.gid()), (0, 0), "{options:?}");
        fs::remove_file(source.join("made")).unwrap();
        world.config["mounts"].as_array_mut().unwrap().pop();
    }
}

#[test]
fn ids_are_mapped_on_a_tmpfs() {
    needs_root!("mounts on the host");
    only!(Who::Us, Who::Crun; NO_RUNC);
    let mut world = World::running(&["true"]);
    let source = world.path("source");
    let _mounted = HostMount::of(&["-t", "tmpfs", "tmpfs"], &source);
    ids_are_mapped_on(&source, &mut world);
}

#[test]
fn ids_are_mapped_on_ext4() {
    needs_root!("mounts on the host");
    needs_fs!("ext4", "mkfs.ext4", LOOP);
    only!(Who::Us, Who::Crun; NO_RUNC);
    let mut world = World::running(&["true"]);
    let (source, image) = (world.path("source"), ext4(&world));
    let _mounted = HostMount::of(&["-o", "loop", &image], &source);
    ids_are_mapped_on(&source, &mut world);
}

/// An ext4 file system in a file.
fn ext4(world: &World) -> String {
    let image = world.path("ext4");
    fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
    finish(Command::new("mkfs.ext4").arg("-q").arg(&image)).ok();
    image.display().to_string()
}

/// Checks the ids of files in a read-only file system.
#[track_caller]
fn ids_are_mapped_in(seal: Seal) {
    for options in [["bind", "idmap"], ["rbind", "ridmap"]] {
        let mut world = World::running(&["stat", "-c", "%n %u:%g", "/mapped/roots", "/mapped/other"]);
        let (from, source) = (world.path("from"), world.path("source"));
        owned(&from);
        let _mounted = seal(&world, &from, &source);
        *world.at("/root/readonly") = json!(false);
        let before = mounts_of(&world);
        world.mount(mapped(bind(&source, "/mapped", &options), 1000));
        assert_eq!(world.run().ok(), "/mapped/roots 1000:1000\n/mapped/other 1005:1006\n", "{options:?}");
        assert_eq!(mounts_of(&world), before, "{options:?}");
    }
}

#[test]
fn ids_are_mapped_on_squashfs() {
    needs_root!("mounts on the host");
    needs_fs!("squashfs", "mksquashfs", LOOP);
    only!(Who::Us, Who::Crun; NO_RUNC);
    ids_are_mapped_in(squashfs);
}

#[test]
fn ids_are_mapped_on_erofs() {
    needs_root!("mounts on the host");
    needs_fs!("erofs", "mkfs.erofs", LOOP);
    only!(Who::Us, Who::Crun; NO_RUNC);
    ids_are_mapped_in(erofs);
}

#[test]
fn mappings_need_no_option_and_the_option_alone_means_the_containers() {
    needs_root!("mounts on the host");
    only!(Who::Us, Who::Crun; NO_RUNC);
    let mut world = World::running(&["stat", "-c", "%n %u:%g", "/own/other", "/mapped/other", "/plain/other"]);
    let source = world.path("source");
    let _mounted = HostMount::of(&["-t", "tmpfs", "tmpfs"], &source);
    owned(&source);
    with_users(&mut world);
    *world.at("/root/readonly") = json!(false);
    world.mount(bind(&source, "/own", &["bind", "idmap"]));
    world.mount(mapped(bind(&source, "/mapped", &["bind"]), first() + 100));
    world.mount(bind(&source, "/plain", &["bind"]));
    assert_eq!(world.run().ok(), "/own/other 5:6\n/mapped/other 105:106\n/plain/other 65534:65534\n");
}

#[test]
fn the_option_alone_means_the_user_namespace_that_is_joined() {
    needs_root!("mounts on the host");
    only!(Who::Us, Who::Crun; NO_RUNC);
    let mut world = World::running(&["stat", "-c", "%n %u:%g", "/own/other"]);
    let source = world.path("source");
    let _mounted = HostMount::of(&["-t", "tmpfs", "tmpfs"], &source);
    owned(&source);
    let pod = Pod::with(&["--user"]);
    for (file, first) in [("uid_map", 300_000), ("gid_map", 400_000)] {
        fs::write(format!("/proc/{}/{file}", pod.pid()), format!("0 {first} 1000")).unwrap();
    }
    world.namespace("user", Some(&pod.file("user")));
    finish(Command::new("chown").args(["-hR", "300000:400000"]).arg(world.rootfs(""))).ok();
    *world.at("/root/readonly") = json!(false);
    world.mount(bind(&source, "/own", &["bind", "idmap"]));
    assert_eq!(world.run().ok(), "/own/other 5:6\n");
}

#[test]
fn mounts_below_are_mapped_only_with_ridmap() {
    needs_root!("mounts on the host");
    only!(Who::Us; "runc 1.1.5 has no id-mapped mounts, and crun 1.8.1 binds what is below not at all then");
    let files = ["/one/other", "/one/sub/other", "/all/other", "/all/sub/other"];
    let mut world = World::running(&[&["stat", "-c", "%n %u"][..], &files].concat());
    let source = world.path("source");
    let _top = HostMount::of(&["-t", "tmpfs", "tmpfs"], &source);
    let _sub = HostMount::of(&["-t", "tmpfs", "tmpfs"], &source.join("sub"));
    owned(&source);
    owned(&source.join("sub"));
    *world.at("/root/readonly") = json!(false);
    world.mount(mapped(bind(&source, "/one", &["rbind", "idmap"]), 1000));
    world.mount(mapped(bind(&source, "/all", &["rbind", "ridmap"]), 1000));
    assert_eq!(world.run().ok(), "/one/other 1005\n/one/sub/other 5\n/all/other 1005\n/all/sub/other 1005\n");
}

#[test]
fn a_new_file_system_has_mapped_ids_too() {
    needs_root!("mounts on the host");
    needs_fs!("ext4", "mkfs.ext4", LOOP);
    only!(Who::Us; "runc 1.1.5 has no id-mapped mounts, and crun 1.8.1 maps the ids of bind mounts only");
    let mut world = World::running(&["sh", "-c", "touch /new/made; stat -c '%n %u:%g' /new /new/made /disk"]);
    *world.at("/root/readonly") = json!(false);
    *world.at("/linux/resources/devices") = json!([{"allow": true, "access": "rwm"}]);
    *world.at("/process/user") = json!({"uid": 1000, "gid": 1000});
    world.mount(mapped(tmpfs("/new", &["idmap", "mode=755"]), 1000));
    let device = finish(Command::new("losetup").args(["--find", "--show", &ext4(&world)])).ok();
    world.mount(mapped(json!({"destination": "/disk", "type": "ext4", "source": device.trim()}), 1000));
    let outcome = world.run();
    finish(Command::new("losetup").args(["--detach", device.trim()])).ok();
    assert_eq!(outcome.ok(), "/new 1000:1000\n/new/made 1000:1000\n/disk 1000:1000\n");
}

/// Init has rights over its own file system, but not over the maps, which belong to the host.
#[test]
fn a_new_file_system_in_a_user_namespace_has_mapped_ids_too() {
    needs_root!("mounts on the host");
    only!(Who::Us; "runc 1.1.5 has no id-mapped mounts, and crun 1.8.1 maps the ids of bind mounts only");
    let show = "stat -c '%n %u:%g' /new /own; touch /new/made; stat -c '%n %u:%g' /new/made";
    let mut world = World::running(&["sh", "-c", show]);
    with_users(&mut world);
    *world.at("/root/readonly") = json!(false);
    world.mount(mapped(tmpfs("/new", &["mode=777"]), first() + 100));
    world.mount(tmpfs("/own", &["idmap", "mode=777"]));
    // A file with an id outside of the maps cannot be made there (EOVERFLOW).
    *world.at("/process/user") = json!({"uid": 105, "gid": 106});
    assert_eq!(world.run().ok(), "/new 100:100\n/own 0:0\n/new/made 105:106\n");
    let n = world.config["mounts"].as_array().unwrap().len();
    world.mount(mapped(json!({"destination": "/x", "type": "devpts", "source": "devpts"}), first()));
    let said = world.run().fails();
    let wanted = format!("mounts[{n}]: mount devpts on /x: the file system may not support id-mapped mounts (EINVAL)");
    assert!(said.contains(&wanted), "{said}");
}

#[test]
fn an_overlay_has_mapped_layers() {
    needs_root!("mounts on the host");
    only!(Who::Us, Who::Crun; NO_RUNC);
    let mut world = World::running(&["stat", "-c", "%n %u:%g", "/merged/roots", "/merged/other"]);
    let base = world.path("base");
    let _mounted = HostMount::of(&["-t", "tmpfs", "tmpfs"], &base);
    owned(&base.join("lower"));
    fs::create_dir_all(base.join("upper")).unwrap();
    fs::create_dir_all(base.join("work")).unwrap();
    *world.at("/root/readonly") = json!(false);
    world.mount(mapped(bind(base.join("lower"), "/lower", &["bind"]), 1000));
    let layers = ["lowerdir", "upperdir", "workdir"].into_iter().zip([
        world.rootfs("lower"),
        base.join("upper"),
        base.join("work"),
    ]);
    let options: Vec<_> = layers.map(|(key, path)| format!("{key}={}", path.display())).collect();
    world.mount(json!({"destination": "/merged", "type": "overlay", "source": "overlay", "options": options}));
    assert_eq!(world.run().ok(), "/merged/roots 1000:1000\n/merged/other 1005:1006\n");
}

#[test]
fn a_file_system_that_cannot_is_named() {
    needs_root!("mounts on the host");
    only!(Who::Us; "runc 1.1.5 has no id-mapped mounts, and the words are ours");
    let mut world = World::running(&["true"]);
    let n = world.config["mounts"].as_array().unwrap().len();
    world.mount(mapped(bind("/sys", "/x", &["bind"]), 1000));
    let said = world.run().fails();
    let wanted = format!("mounts[{n}].source: idmap /sys: {CANNOT}: sysfs on /sys (EINVAL)");
    assert!(said.contains(&wanted), "{said}");
    world.config["mounts"].as_array_mut().unwrap().pop();
    world.mount(mapped(json!({"destination": "/x", "type": "sysfs", "source": "sysfs"}), 1000));
    let said = world.run().fails();
    let wanted = format!("mounts[{n}]: mount sysfs on /x: {CANNOT} (EINVAL)");
    assert!(said.contains(&wanted), "{said}");
}

#[test]
fn the_message_names_the_file_system_that_cannot_be_mapped() {
    needs_root!("mounts on the host");
    needs_fs!("fuse", "fuse-overlayfs", "/dev/fuse");
    only!(Who::Us; "runc 1.1.5 has no id-mapped mounts, and the words are ours");
    let mut world = World::running(&["stat", "-c", "%u", "/mapped/sub/other"]);
    let base = world.path("base");
    let _base = HostMount::of(&["-t", "tmpfs", "tmpfs"], &base);
    owned(&base.join("lower"));
    fs::create_dir(base.join("empty")).unwrap();
    let layers = format!("lowerdir={0}/lower:{0}/empty", base.display());
    *world.at("/root/readonly") = json!(false);
    let n = world.config["mounts"].as_array().unwrap().len();
    for (fstype, mount) in
        [("overlay", &["mount", "-t", "overlay", "overlay"][..]), ("fuse.fuse-overlayfs", &["fuse-overlayfs"])]
    {
        let source = world.path(&format!("source-{fstype}"));
        let sub = source.join("sub");
        let _top = HostMount::of(&["-t", "tmpfs", "tmpfs"], &source);
        let _sub = HostMount::by(Command::new(mount[0]).args(&mount[1..]).args(["-o", &layers]), &sub);
        for (source, option) in [(&sub, "idmap"), (&sub, "ridmap"), (&source, "ridmap")] {
            world.mount(mapped(bind(source, "/mapped", &["rbind", option]), 1000));
            let said = world.run().fails();
            let at = format!("mounts[{n}].source: idmap {}", source.display());
            let wanted = format!("{at}: {CANNOT}: {fstype} on {} (EINVAL)", sub.display());
            assert!(said.contains(&wanted), "{said}");
            world.config["mounts"].as_array_mut().unwrap().pop();
        }
        world.mount(mapped(bind(source, "/mapped", &["rbind", "idmap"]), 1000));
        assert_eq!(world.run().ok(), "5\n");
        world.config["mounts"].as_array_mut().unwrap().pop();
    }
}

#[test]
fn the_hosts_mount_table_is_the_same_before_and_after() {
    needs_root!("mounts on the host");
    needs_fs!("ext4", "mkfs.ext4", LOOP);
    only!(Who::Us, Who::Crun; NO_RUNC);
    let mut world = World::running(&["sh", "-c", "cat /disk/file /memory/file /disks/file /memorys/file /merged/file"]);
    for name in ["disk", "memory"] {
        fs::create_dir(world.path(name)).unwrap();
    }
    *world.at("/root/readonly") = json!(false);
    for (place, source, options) in [
        ("/disk", "disk", ["bind", "idmap"]),
        ("/memory", "memory", ["bind", "idmap"]),
        ("/disks", "disk", ["rbind", "ridmap"]),
        ("/memorys", "memory", ["rbind", "ridmap"]),
    ] {
        world.mount(mapped(bind(world.path(source), place, &options), 1000));
    }
    let lower = format!("lowerdir={0}/memory:{0}/disk", world.rootfs("").display());
    world.mount(json!({"destination": "/merged", "type": "overlay", "source": "overlay", "options": [lower]}));
    world.write();
    // A mount namespace of its own: everything is shared, as with systemd, and no other program mounts anything.
    let image = ext4(&world);
    let script = r#"set -e
        mount --make-rshared /
        mount -o loop "$1" "$2/disk"
        mount -t tmpfs tmpfs "$2/memory"
        for name in disk memory; do echo "$name" >"$2/$name/file"; done
        cat /proc/self/mountinfo >"$2/before"
        cd "$2/bundle"
        "$3" --root "$2/state" run "$4"
        cat /proc/self/mountinfo >"$2/after""#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script, "-", &image]);
    let said = finish(command.arg(world.path("")).arg(runtime()).arg(&world.id)).ok();
    assert_eq!(said, "disk\nmemory\ndisk\nmemory\nmemory\n");
    let [before, after] = ["before", "after"].map(|file| fs::read_to_string(world.path(file)).unwrap());
    assert!(before.contains("/memory ") && before.contains("shared:"), "{before}");
    // Some copies of mounts elsewhere may disappear with their directories: rmdir(2) detaches the mounts on a
    // directory.
    let own = world.path("").display().to_string();
    let gone = before.lines().filter(|line| line.contains(&own) && !after.lines().any(|there| there == *line));
    let came = after.lines().filter(|line| !before.lines().any(|there| there == *line));
    assert_eq!(gone.chain(came).collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn the_host_sees_no_mapped_mount() {
    needs_root!("mounts on the host");
    only!(Who::Us; "runc 1.1.5 has no id-mapped mounts, and crun 1.8.1 leaves the mapped mount on the host");
    // crun's issue 2097: a peer of the host's mount appeared on the host, too.
    for propagation in ["shared", "rshared", "rslave", "private"] {
        let mut world = World::running(&["sh", "-c", "stat -c %u /mapped/other /mapped/sub/other"]);
        let source = world.path("source");
        let _top = HostMount::of(&["-t", "tmpfs", "tmpfs"], &source);
        finish(Command::new("mount").arg("--make-shared").arg(&source)).ok();
        let _sub = HostMount::of(&["-t", "tmpfs", "tmpfs"], &source.join("sub"));
        owned(&source);
        owned(&source.join("sub"));
        *world.at("/root/readonly") = json!(false);
        *world.at("/linux/rootfsPropagation") = json!(propagation);
        let before = mounts_of(&world);
        world.mount(mapped(bind(&source, "/mapped", &["rbind", "ridmap"]), 1000));
        world.mount(mapped(bind(source.join("sub"), "/mapped/sub", &["rbind", "ridmap"]), 2000));
        assert_eq!(world.run().ok(), "1005\n2005\n", "{propagation}");
        assert_eq!(mounts_of(&world), before, "{propagation}");
        assert_eq!(fs::metadata(source.join("sub/other")).unwrap().uid(), 5, "{propagation}");
    }
}
