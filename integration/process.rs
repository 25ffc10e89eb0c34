//! The process: who it is and what it may use.

use serde_json::json;

use crate::world::World;

#[test]
fn limits_are_set_for_whoever_the_process_becomes() {
    let mut world = World::running(&["sh", "-c", "ulimit -n; ulimit -Hn; id -u"]);
    *world.at("/process/user") = json!({"uid": 1000, "gid": 1000});
    *world.at("/process/rlimits") = json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]);
    assert_eq!(world.run().ok(), "100\n200\n1000\n");
}
