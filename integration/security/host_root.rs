//! Mounts that appear on the host, and access to the host's root (runc #4417). mounts.rs shows that the host's mount
//! table contains such a mount: a_shared_mount_tells_the_host_what_is_mounted_in_it.

use std::fs;
use std::process::Command;

use serde_json::json;

use super::capable;
use crate::world::{Who, World, finish};
use crate::{needs_root, only};

#[test]
fn the_hosts_mounts_are_the_same_before_and_after() {
    let mine = |text: &str, world: &World| {
        let here = world.path("").display().to_string();
        text.lines()
            .filter(|line| line.contains(&here) || line.contains(" / / "))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let mut world = World::running(&["sleep", "1000"]);
    let read = || fs::read_to_string("/proc/self/mountinfo").unwrap();
    let before = mine(&read(), &world);
    fs::create_dir(world.path("source")).unwrap();
    *world.at("/root/readonly") = json!(false);
    world.mount(
        json!({"destination": "/a", "type": "none", "source": world.path("source"), "options": ["rbind", "rshared"]}),
    );
    world.begin();
    assert_eq!(mine(&read(), &world), before);
    world.exec(&["true"]).ok();
    world.call(&["delete", "--force", &world.id]).ok();
    assert_eq!(mine(&read(), &world), before);
}

#[test]
fn nothing_of_the_hosts_root_is_reachable() {
    let script = "ls -a /.. ; ls -a /proc/1/root/../..; ls -a /proc/self/cwd/..; cat /marker 2>&1; \
                  mount | grep -c pivot; readlink /proc/1/cwd";
    for flag in [None, Some("--no-pivot")] {
        let mut world = World::running(&["sh", "-c", script]);
        capable(&mut world);
        world.write();
        let mut args = vec!["run"];
        args.extend(flag);
        args.push(&world.id);
        let out = world.call_apart(&args).out;
        assert!(!out.contains("coracle-it-") && !out.contains("home") && !out.contains("boot"), "{out}");
        assert!(out.contains("can't open '/marker'"), "{out}");
    }
}

/// A mount on the host's `/` itself: umount2(2) removes only the topmost mount, and the old root would still cover the
/// container's. The attack succeeds on earlier versions of coracle and on Debian's runc.
#[test]
fn a_root_of_the_host_that_is_covered_is_let_go_of_as_well() {
    only!(Who::Us; "Debian's runc shows the host's root at /..");
    needs_root!("a mount on /");
    let world = World::running(&["ls", "-a", "/.."]);
    world.write();
    let runtime = world.command(&["run", &world.id]);
    let mut command = Command::new("unshare");
    command.args([
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        "mount --rbind / / && mount --bind / / && exec \"$@\"",
        "sh",
    ]);
    let out = finish(command.arg(runtime.get_program()).args(runtime.get_args()).current_dir(world.bundle())).ok();
    assert!(out.contains("bin") && !out.contains("home") && !out.contains("boot"), "{out}");
}
