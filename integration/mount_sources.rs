//! Sources of bind mounts in the container's own root: files on an earlier mount, and symbolic links.

use std::fs;
use std::os::unix::fs::{chown, symlink};

use serde_json::json;

use crate::mountinfo::{HostMount, bind, tmpfs};
use crate::namespaces::with_users;
use crate::world::{Who, World, who};
use crate::{needs_root, only};

/// A container with a directory mounted on /mnt, and with bind mounts of what is in that directory.
fn with_brought(script: &str) -> World {
    let mut world = World::running(&["sh", "-c", script]);
    *world.at("/root/readonly") = json!(false);
    let source = world.path("source");
    fs::create_dir_all(source.join("x")).unwrap();
    fs::write(source.join("x/file"), "brought\n").unwrap();
    fs::create_dir(world.rootfs("mnt")).unwrap();
    world.mount(bind(&source, "/mnt", &["bind"]));
    world.mount(tmpfs("/mnt/x/below", &[]));
    fs::create_dir(source.join("x/below")).unwrap();
    world
}

#[test]
fn a_source_that_only_an_earlier_mount_brings_is_found() {
    let script = "cat /one/file /file /deep/file; grep -c ' /one/below ' /proc/self/mountinfo; \
                  grep -c ' /all/below ' /proc/self/mountinfo; true";
    let mut world = with_brought(script);
    world.mount(bind(world.rootfs("mnt/x"), "/one", &["bind"]));
    world.mount(bind(world.rootfs("mnt/x"), "/all", &["rbind", "ro"]));
    world.mount(bind(world.rootfs("mnt/x/file"), "/file", &["bind"]));
    // Relative to the bundle, and through a bind mount of a bind mount.
    world.mount(bind("rootfs/all", "/deep", &["bind"]));
    let wanted = "brought\nbrought\nbrought\n0\n1\n";
    assert_eq!(world.run().ok(), wanted);
    if who() == Who::Us {
        // With a user namespace, runc opens sources before the mounts are made.
        with_users(&mut world);
        assert_eq!(world.run().ok(), wanted);
    }
}

#[test]
fn mounts_below_a_source_that_may_be_a_link_come_only_with_rbind() {
    needs_root!("mounts on the host");
    only!(Who::Us, Who::Crun; "does not know src-nofollow and copy-symlink");
    let mut world = World::running(&["sh", "-c", "grep -o ' /[a-z]*/below ' /proc/self/mountinfo; true"]);
    let source = world.path("source");
    fs::create_dir(&source).unwrap();
    let _below = HostMount::of(&["-t", "tmpfs", "tmpfs"], &source.join("below"));
    for (place, options) in [
        ("/nofollow", ["rbind", "src-nofollow"]),
        ("/copied", ["rbind", "copy-symlink"]),
        ("/alone", ["bind", "src-nofollow"]),
        ("/single", ["bind", "copy-symlink"]),
    ] {
        world.mount(bind(&source, place, &options));
    }
    assert_eq!(world.run().ok(), " /nofollow/below \n /copied/below \n");
    if who() == Who::Us {
        with_users(&mut world);
        assert_eq!(world.run().ok(), " /nofollow/below \n /copied/below \n");
    }
}

#[test]
fn a_link_of_the_hosts_leads_to_what_an_earlier_mount_brings() {
    let mut world = with_brought("cat /one/file /two/file");
    symlink(world.rootfs("mnt/x"), world.path("dangling")).unwrap();
    symlink("bundle", world.path("alias")).unwrap();
    world.mount(bind(world.path("dangling"), "/one", &["bind"]));
    world.mount(bind(world.path("alias/rootfs/mnt/x"), "/two", &["bind"]));
    assert_eq!(world.run().ok(), "brought\nbrought\n");
}

#[test]
fn what_an_earlier_mount_covers_is_not_the_source() {
    let mut world = with_brought("ls /one");
    fs::create_dir(world.rootfs("mnt/x")).unwrap();
    fs::write(world.rootfs("mnt/x/covered"), "").unwrap();
    world.mount(bind(world.rootfs("mnt/x"), "/one", &["bind"]));
    assert_eq!(world.run().ok(), "below\nfile\n");
}

#[test]
fn a_source_in_the_root_has_mapped_ids() {
    needs_root!("mapped ids");
    only!(Who::Us; "crun opens a source with mapped ids before any mount is made, runc 1.1 maps no ids");
    let mut world = World::running(&["stat", "-c", "%u:%g", "/mapped/file"]);
    *world.at("/root/readonly") = json!(false);
    let source = world.path("source");
    let _mounted = HostMount::of(&["-t", "tmpfs", "tmpfs"], &source);
    fs::write(source.join("file"), "").unwrap();
    chown(source.join("file"), Some(1), Some(2)).unwrap();
    world.mount(bind(&source, "/mnt", &["bind"]));
    let mut mapped = bind(world.rootfs("mnt"), "/mapped", &["bind", "idmap"]);
    let map = json!([{"containerID": 0, "hostID": 1000, "size": 10}]);
    mapped["uidMappings"] = map.clone();
    mapped["gidMappings"] = map;
    world.mount(mapped);
    assert_eq!(world.run().ok(), "1001:1002\n");
}

#[test]
fn a_missing_source_in_the_root_is_reported_with_its_place() {
    let mut world = World::running(&["true"]);
    *world.at("/root/readonly") = json!(false);
    world.mount(bind(world.rootfs("nothing/x"), "/there", &["bind"]));
    let said = world.run().fails();
    assert!(said.to_lowercase().contains("no such file or directory"), "{said}");
    if who() == Who::Us {
        let expected = format!("open {}: no such file", world.rootfs("nothing/x").display());
        assert!(said.contains("mounts[") && said.contains(&expected), "{said}");
    }
    world.assert_clean();
}

#[test]
fn tmpcopyup_copies_a_tree_of_any_depth() {
    needs_root!("mounts");
    only!(Who::Us, Who::Runc; "crun was not measured");
    let count = "echo $(find /v -type d | wc -l) $(find /v -type f | wc -l); cat /v/a0/a1/a2/file-2 /v/last";
    let mut world = World::running(&["sh", "-c", count]);
    let mut place = world.rootfs("v");
    for depth in 0..300 {
        place.push(format!("a{depth}"));
        fs::create_dir_all(place.join("beside")).unwrap();
        fs::write(place.join(format!("file-{depth}")), format!("{depth}\n")).unwrap();
    }
    fs::write(world.rootfs("v/last"), "last\n").unwrap();
    world.mount(json!({"destination": "/v", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]}));
    assert_eq!(world.run().ok(), "601 301\n2\nlast\n");
}

/// runc's own tests do it, with every path of the host.
#[test]
fn a_destination_that_is_the_hosts_path_of_a_place_in_the_root_is_that_place() {
    only!(Who::Us, Who::Runc; "crun makes that path in the root");
    let mut world = with_brought("cat /mnt/y/file /final/y/file; ls /");
    fs::create_dir(world.path("source/y")).unwrap();
    fs::create_dir(world.rootfs("final")).unwrap();
    world.mount(bind(world.rootfs("mnt/x"), world.rootfs("mnt/y").to_str().unwrap(), &["bind"]));
    world.mount(bind(world.rootfs("mnt"), world.rootfs("final").to_str().unwrap(), &["rbind"]));
    let outcome = world.run();
    if who() == Who::Us {
        assert!(outcome.err.contains("coracle uses \"/final\""), "{}", outcome.err);
    }
    let seen = outcome.ok();
    assert!(seen.starts_with("brought\nbrought\n"), "{seen}");
    // runc 1.1 makes the directory of the other reading, too.
    assert!(who() != Who::Us || !seen.contains("tmp"), "{seen}");
}
