//! Descriptors that lead to the host, and working directories through them: CVE-2016-9962, CVE-2024-21626. The attack
//! succeeds on Debian's runc 1.1.5, which leaves descriptors open for createContainer hooks. joining.rs tests what a
//! container sees of a process that joins it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::json;

use crate::world::{Who, World};
use crate::{needs_root, only};

#[test]
fn a_working_directory_through_a_descriptor_is_refused() {
    // CVE-2024-21626
    for number in 3..20 {
        let mut world = World::running(&["sh", "-c", "ls ../../.."]);
        *world.at("/process/cwd") = json!(format!("/proc/self/fd/{number}"));
        let ran = world.run();
        // A descriptor of the container's own root does not lead out.
        assert!(!ran.status.success() || ran.out == "bin\ndev\netc\nproc\nsys\n", "fd {number}: {ran:?}");
        world.assert_clean();
    }
    let world = World::running(&["sleep", "1000"]);
    world.begin();
    for number in 3..20 {
        let cwd = format!("/proc/self/fd/{number}");
        let ran = world.call(&["exec", "--cwd", &cwd, &world.id, "ls", "../../.."]);
        assert!(!ran.status.success() || ran.out == "bin\ndev\netc\nproc\nsys\n", "fd {number}: {ran:?}");
    }
}

#[test]
fn no_descriptor_of_ours_reaches_the_program_or_a_hook() {
    only!(Who::Us, Who::Crun; "Debian's runc leaves descriptors open for createContainer");
    // CVE-2016-9962, CVE-2024-21626
    let mut world = World::running(&["sh", "-c", "ls /proc/self/fd"]);
    let hook = |name: &str| {
        let log = world.path(name);
        json!([{"path": "/bin/sh", "args": ["sh", "-c", format!("ls /proc/self/fd > {}; cat >/dev/null", log.display())]}])
    };
    let mut hooks = json!({});
    for point in ["prestart", "createRuntime", "createContainer", "poststart", "poststop"] {
        hooks[point] = hook(point);
    }
    *world.at("/hooks") = hooks;
    let out = world.run().ok();
    // The fourth descriptor is ls's own.
    assert_eq!(out.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
    for point in ["prestart", "createRuntime", "createContainer", "poststart", "poststop"] {
        let seen = fs::read_to_string(world.path(point)).unwrap_or_else(|_| panic!("{point} has not run"));
        assert_eq!(seen.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"], "{point}");
    }
    world.config.as_object_mut().unwrap().remove("hooks");
    *world.at("/process/args") = json!(["sleep", "1000"]);
    world.begin();
    let seen = world.exec(&["ls", "/proc/self/fd"]).ok();
    assert_eq!(seen.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
}

#[test]
fn a_waiting_init_shows_no_way_to_the_host() {
    needs_root!("a look at a process that is closed");
    // CVE-2016-9962: what a process of the container sees of a process that joins.
    only!(Who::Us; "about our own init");
    let world = World::running(&["sleep", "1000"]);
    world.create().ok();
    let pid = world.pid();
    let root = fs::metadata(world.rootfs("")).unwrap();
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
        let path = entry.unwrap().path();
        let Ok(target) = fs::metadata(&path) else { continue };
        // Only the container's own root, and the empty directory over masked ones.
        let own = (target.dev(), target.ino()) == (root.dev(), root.ino());
        let own = own || (target.is_dir() && fs::read_dir(&path).unwrap().count() == 0);
        assert!(own || !target.is_dir(), "{path:?} -> {:?}", fs::read_link(&path));
    }
    assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).unwrap(), Path::new("/"));
    assert_eq!(fs::metadata(format!("/proc/{pid}/environ")).unwrap().uid(), 0);
}
