//! A complete proc or sysfs of the host must not be in the container's mount namespace, even if no path leads to it.
//! Otherwise a process in a user namespace of the container may mount a new one without masks and read-only files
//! (mount_namespaces(7)).

use std::fs;

use serde_json::json;

use crate::mountinfo::{HostMount, mount_at};
use crate::needs_root;
use crate::world::World;

/// Tries to mount a new proc in a new user namespace. Prints `got it` if that works.
const TRY: &str = "busybox unshare -mrpf sh -c 'mount -t proc none /proc && echo got it; mount -t sysfs none /sys && echo got sysfs' 2>&1; cat /proc/self/mountinfo";

fn world() -> World {
    let mut world = World::running(&["sh", "-c", TRY]);
    *world.at("/root/readonly") = json!(false);
    for set in ["effective", "permitted", "bounding"] {
        *world.at(&format!("/process/capabilities/{set}")) =
            json!(["CAP_SETFCAP", "CAP_SYS_ADMIN", "CAP_SETUID", "CAP_SETGID"]);
    }
    world
}

#[test]
fn no_pivot_leaves_no_proc_or_sysfs_of_the_hosts() {
    needs_root!("user namespaces with all ids");
    for propagation in ["", "shared", "rslave", "private"] {
        let mut world = world();
        if !propagation.is_empty() {
            *world.at("/linux/rootfsPropagation") = json!(propagation);
        }
        world.write();
        for args in [&["run", &world.id][..], &["run", "--no-pivot", &world.id]] {
            let out = world.call_apart(args).ok();
            assert!(!out.contains("got"), "{args:?} {propagation:?}: {out}");
            // The container sees only mounts below its root. Its own are there.
            assert!(out.contains(" - proc proc"), "{args:?} {propagation:?}: {out}");
        }
        let host = fs::read_to_string(world.bundle().join("mounts")).unwrap();
        assert_eq!((&*mount_at(&host, "/proc").fstype, &*mount_at(&host, "/sys").fstype), ("proc", "sysfs"));
    }
}

#[test]
fn mounts_that_no_pivot_unmounts_stay_on_the_host() {
    needs_root!("mounts on the host");
    let world = world();
    world.write();
    let _proc = HostMount::of(&["-t", "proc", "proc"], &world.rootfs("proc"));
    let _stacked = HostMount::of(&["-t", "proc", "proc"], &world.path("stacked"));
    let _on_top = HostMount::of(&["-t", "tmpfs", "tmpfs"], &world.path("stacked"));
    let out = world.call_apart(&["run", "--no-pivot", &world.id]).ok();
    // The root's own copy is in the container: it shows what the caller has put there.
    assert!(out.contains(" - proc proc"), "{out}");
    let mounts = fs::read_to_string(world.bundle().join("mounts")).unwrap();
    let stacked = world.path("stacked").display().to_string();
    assert_eq!(mounts.lines().filter(|line| line.contains(&stacked)).count(), 2, "the host's are let go of");
}

#[test]
fn a_mount_on_the_host_during_create_does_not_appear_in_the_container() {
    needs_root!("mounts on the host");
    let mut world = world();
    // A mount of its own: the mount that contains the root is private anyway.
    let _shared = HostMount::of(&["-t", "tmpfs", "tmpfs"], &world.path("shared"));
    let late = world.path("shared/late");
    fs::create_dir(&late).unwrap();
    for point in ["prestart", "createRuntime"] {
        // In the runtime's mount namespace, which is shared, after the container's was made.
        *world.at("/hooks") = json!({point: [{"path": "/bin/mount", "args": ["mount", "-t", "proc", "proc", late]}]});
        world.write();
        let out = world.call_apart(&["run", "--no-pivot", &world.id]).ok();
        assert!(!out.contains("got"), "{point}: {out}");
        let mounts = fs::read_to_string(world.bundle().join("mounts")).unwrap();
        assert_eq!(mount_at(&mounts, late.to_str().unwrap()).fstype, "proc", "{point}");
    }
}
