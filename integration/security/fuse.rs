//! A file system of a container that never answers. A process that asks it waits in the kernel, and SIGKILL does not end this
//! wait. So the runtime must never ask it: the container would keep the runtime, and the lock of the container, for ever.

use std::fs;

use serde_json::json;

use super::{attacker, put_attacker};
use crate::checkpoint::{dump, needs_criu};
use crate::live_mounts::mounts;
use crate::world::{Who, World, wait_until};
use crate::{needs, needs_root, only};

/// A container that mounts the file system at /mnt/f. `with` changes its config.
fn begun(with: impl FnOnce(&mut World)) -> World {
    let mut world = World::running(&["sh", "-c", "exec /attacker mute /mnt/f >/tmp/said 2>&1"]);
    *world.at("/linux/devices") = json!([{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}]);
    world
        .at("/linux/resources/devices")
        .as_array_mut()
        .unwrap()
        .push(json!({"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rwm"}));
    for set in ["bounding", "effective", "permitted"] {
        *world.at(&format!("/process/capabilities/{set}")) = json!(["CAP_SYS_ADMIN"]);
    }
    *world.at("/root/readonly") = json!(false);
    for place in ["mnt/f/vol", "tmp"] {
        fs::create_dir_all(world.rootfs(place)).unwrap();
    }
    put_attacker(&world);
    with(&mut world);
    world.begin();
    let said = || fs::read_to_string(world.rootfs("tmp/said")).unwrap_or_default();
    wait_until("the file system is mounted", || !said().is_empty());
    assert_eq!(said(), "ready\n");
    world
}

macro_rules! needs_fuse {
    () => {
        needs_root!("the container needs CAP_SYS_ADMIN on the host");
        only!(Who::Us; "the others have no such look-up, or no such command");
        needs!(attacker().is_some(), "no C compiler");
        needs!(fs::metadata("/dev/fuse").is_ok(), "no /dev/fuse");
    };
}

#[test]
fn no_mount_is_added_or_removed_below_it() {
    needs_fuse!();
    let world = begun(|_| ());
    for place in ["/mnt/f/x", "/mnt/f"] {
        let list = json!([{"destination": place, "type": "tmpfs"}]);
        for what in ["add", "remove"] {
            let said = mounts(&world, what, &list).fails();
            let expected = format!(
                "mounts[0].destination: {place}: the path enters a file system of the container (fuse.mute), which may never answer"
            );
            assert!(said.contains(&expected), "{what} {place}: {said}");
        }
    }
    // nobody keeps the lock
    world.call(&["pause", &world.id]).ok();
    world.call(&["resume", &world.id]).ok();
}

#[test]
fn the_cause_of_a_failed_exec_is_not_looked_for_in_it() {
    needs_fuse!();
    let world = begun(|_| ());
    std::os::unix::fs::symlink("/mnt/f/prog", world.rootfs("link")).unwrap();
    for program in ["/mnt/f/prog", "/link"] {
        let said = world.exec(&[program]).fails();
        assert!(said.contains(&format!("exec: {program:?}: stat {program}: no such file or directory")), "{said}");
    }
}

#[test]
fn a_checkpoint_does_not_look_for_a_mount_below_it() {
    needs_criu!();
    needs_fuse!();
    let world = begun(|world| {
        let source = world.path("volume");
        fs::create_dir(&source).unwrap();
        world.mount(json!({"destination": "/mnt/f/vol", "source": source, "options": ["bind"]}));
    });
    let said = dump(&world, "images", &[]).fails();
    assert!(said.contains("the path enters a file system of the container (fuse.mute)"), "{said}");
    assert!(world.call(&["state", &world.id]).ok().contains("running"));
}
