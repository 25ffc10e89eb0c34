//! Two engines whose containers are in the same root directory, as two containerds of one host with the default options. A container
//! of one is never that of the other, even if both use the same id.

use crate::messages::google::Any;
use crate::messages::task::*;
use crate::world::{Client, root_is_here, world};

#[test]
fn a_container_of_another_engine_outlives_a_failed_creation_and_the_delete_that_follows() {
    if !root_is_here() {
        return;
    }
    let (first, second) = (world(), world());
    let mut theirs = first.start();
    theirs.create(&first, "c1").expect("Create");
    theirs.start("c1", "").expect("Start");
    let mut ours = second.start();
    let options = Some(Any::of("containerd.runc.v1.Options", &first.options()));
    let order = CreateTaskRequest { options, ..Client::order(&second, "c1") };
    assert_eq!(ours.call::<CreateTaskResponse>("Create", &order).expect_err("it is there").code, 6);
    assert_eq!(theirs.exec(&first, "e", "-v"), 0);
    ours.shut_down();
    // containerd calls `delete` after that
    let out = second.act("delete", b"");
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "delete: {text}");
    assert_eq!(theirs.exec(&first, "f", "-v"), 0);
    assert!(text.contains("not deleted, because it was made from"), "{text}");
    theirs.end_c1();
    first.assert_empty();
    second.assert_empty();
}
