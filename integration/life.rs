//! create, start, state, kill, delete: one container from its bundle to its end.

use crate::world::{Who, World, wait_until, who};

#[test]
fn run_gives_the_programs_output_and_status() {
    let world = World::running(&["sh", "-c", "echo hello; exit 7"]);
    let ran = world.run();
    assert_eq!((ran.out.as_str(), ran.code()), ("hello\n", 7), "{}", ran.err);
}

#[test]
fn a_container_is_created_started_killed_and_deleted() {
    let world = World::running(&["sleep", "1000"]);
    world.create().ok();
    assert_eq!(world.status(), "created");
    world.call(&["start", &world.id]).ok();
    assert_eq!(world.status(), "running");
    let again = world.call(&["start", &world.id]).fails();
    if who() == Who::Us {
        assert!(again.contains("cannot start an already running container"), "{again}");
    }
    world.call(&["delete", &world.id]).fails();
    world.call(&["kill", &world.id, "KILL"]).ok();
    wait_until("stopped", || world.status() == "stopped");
    world.call(&["delete", &world.id]).ok();
    world.call(&["state", &world.id]).fails();
}
