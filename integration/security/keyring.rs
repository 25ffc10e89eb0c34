//! A session keyring that another process has made before: a process that knows the name could read the container's keys.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use serde_json::json;

use super::attacker;
use crate::world::{HostProcess, Who, World, skip, test_name, wait_until};
use crate::{needs_root, only};

/// The serial number of the container's session keyring, and those of the keyrings that a process of `uid` made before.
fn serials(uid: u32) -> Option<(String, Vec<String>)> {
    let attacker = attacker().or_else(|| {
        skip(&test_name(), "no C compiler here, and ATTACKER names no program");
        None
    })?;
    let mut world = World::running(&["/attacker", "keyring-of-mine"]);
    assert!(Command::new("cp").arg(attacker).arg(world.rootfs("attacker")).status().unwrap().success());
    let out = world.path("serials");
    let mut holder = Command::new(attacker);
    holder.args(["keyring-made-first", &format!("_ses.{}", world.id)]).stdin(Stdio::null());
    holder.stdout(fs::File::create(&out).unwrap()).uid(uid).gid(uid);
    // The keyrings end with it.
    let holder = HostProcess::begin(&mut holder);
    let made = || fs::read_to_string(&out).unwrap();
    wait_until("the keyring is made", || made().ends_with('\n'));
    *world.at("/process/terminal") = json!(false);
    let said = world.run().ok();
    drop(holder);
    Some((said.trim().to_owned(), made().lines().map(str::to_owned).collect()))
}

#[test]
fn a_keyring_that_another_process_made_is_not_joined() {
    needs_root!("keyrings of other users");
    // runc 1.1.5 joins it, too.
    only!(Who::Us; "runc joins whatever has the name");
    for uid in [4321, 0] {
        let Some((joined, made)) = serials(uid) else { return };
        assert!(!made.contains(&joined), "the container is in a keyring of uid {uid}: {joined}");
        assert_ne!(joined.parse::<i32>().unwrap(), 0);
    }
}

#[test]
fn the_keyring_of_the_longest_id_is_found() {
    let mut world = World::running(&["true"]);
    world.id = "x".repeat(255);
    world.run().ok();
}
