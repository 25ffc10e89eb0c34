//! The rights of restored processes are those of the images. A config.json that gives fewer is not obeyed, and the restore says so.

use serde_json::json;

use super::{COUNTER, assert_counts_on, count, dump, needs_criu, restore};
use crate::only;
use crate::world::{Who, World};

/// The warnings of a restore with a config.json that gives fewer rights than the images have.
fn warnings(mut world: World) -> String {
    world.config["process"]["capabilities"] = json!({"bounding": ["CAP_KILL", "CAP_SYS_ADMIN"],
        "effective": ["CAP_SYS_ADMIN"], "permitted": ["CAP_SYS_ADMIN"]});
    world.config["process"]["noNewPrivileges"] = json!(false);
    world.begin();
    let before = count(&world);
    dump(&world, "images", &[]).ok();
    let said = restore(&world, "images", &[]);
    assert!(said.status.success() && said.err.is_empty(), "{}", said.err);
    assert_counts_on(&world, before);
    dump(&world, "images", &[]).ok();
    world.config["process"]["capabilities"] = json!({"bounding": ["CAP_KILL"]});
    // this one is applied: CRIU has it, and its children inherit it
    world.config["process"]["noNewPrivileges"] = json!(true);
    world.config["process"]["user"] = json!({"uid": 1000, "gid": 1001});
    world.config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}]});
    world.write();
    let said = restore(&world, "images", &[]);
    assert!(said.status.success(), "{}", said.err);
    said.err
}

fn assert_all_named(said: &str) {
    let not = "is not applied: the restored process";
    let expected = [
        format!("process.capabilities.bounding: {not} has CAP_SYS_ADMIN from the images"),
        format!("process.capabilities.effective: {not} has CAP_SYS_ADMIN from the images"),
        format!("process.capabilities.permitted: {not} has CAP_SYS_ADMIN from the images"),
        format!("process.user.uid: {not} has the uid 0 from the images, and not 1000"),
        format!("process.user.gid: {not} has the gid 0 from the images, and not 1001"),
        format!("linux.seccomp: {not} has no filter in the images"),
    ];
    for line in &expected {
        assert!(said.lines().any(|said| said == format!("coracle: warning: {line}")), "{line}: {said}");
    }
    assert_eq!(said.lines().count(), expected.len(), "{said}");
}

#[test]
fn each_right_that_config_json_does_not_give_is_a_warning() {
    only!(Who::Us; "the words are ours");
    needs_criu!();
    assert_all_named(&warnings(World::running(&["sh", "-c", COUNTER])));
}
