//! exec: a further process, which is all that init is.

use crate::world::World;

#[test]
fn exec_runs_a_command_in_the_container_and_gives_its_status() {
    let world = World::running(&["sleep", "1000"]);
    world.begin();
    world.wait_for_status("running");
    assert_eq!(world.exec(&["cat", "/proc/1/comm"]).ok(), "sleep\n");
    assert_eq!(world.exec(&["sh", "-c", "exit 9"]).code(), 9);
    let host = std::fs::read_to_string(format!("/proc/{}/comm", world.pid())).unwrap();
    assert_eq!(host, "sleep\n");
}
