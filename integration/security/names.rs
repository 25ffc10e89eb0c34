//! Names that a process of the container chooses, and that the runtime reads in files of /proc.

use std::fs;

use crate::world::{World, wait_until};

#[test]
fn a_process_whose_name_is_not_utf8_is_killed_and_deleted() {
    // The name is in /proc/PID/stat and /proc/PID/status, and any process may choose its name.
    let world =
        World::running(&["sh", "-c", r"printf 'a\377) b' > /proc/self/comm; touch /named; while :; do sleep 1; done"]);
    world.write();
    world.begin();
    let comm = format!("/proc/{}/comm", world.pid());
    wait_until("the name", || fs::read(&comm).unwrap().starts_with(b"a\xff"));
    assert_eq!(world.status(), "running");
    assert!(world.call(&["list"]).ok().contains(&world.id));
    world.exec(&["true"]).ok();
    world.call(&["kill", &world.id, "KILL"]).ok();
    world.wait_for_status("stopped");
    world.call(&["delete", &world.id]).ok();
    world.assert_clean();
}
