//! `mounts add` and `mounts remove`: mounts of a container that runs.

use std::fs;

use serde_json::{Value, json};

use crate::world::{Outcome, Who, World, finish_with};
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
        assert!(said.contains("no mount that `mounts add` has made"), "{other}: {said}");
    }
    mounts(&world, "remove", &list).ok();
    assert_eq!(world.exec(&["ls", "/data", "/t"]).ok().replace('\n', " ").trim(), "/data:  /t:");
    assert!(mounts(&world, "remove", &list).fails().contains("mounts[0].destination: /data: no mount"));

    for (list, said) in [
        (json!([{"destination": "/proc/1", "source": share, "options": ["bind"]}]), "/proc of a running container"),
        (json!([{"destination": "/t", "type": "proc"}]), "takes bind mounts"),
        (json!({"destination": "/t"}), "mounts: expected an array"),
    ] {
        let told = mounts(&world, "add", &list).fails();
        assert!(told.contains(said), "{told}");
    }
    world.call(&["kill", &world.id, "KILL"]).ok();
    world.wait_for_status("stopped");
    assert!(mounts(&world, "add", &list).fails().contains("container not running"));
}
