//! Fifos, sockets with a full queue and other programs that never answer: coracle does not wait for them without end.

use std::fs;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::only;
use crate::world::{Who, World};

fn fifo(path: PathBuf) -> PathBuf {
    let _ = fs::remove_file(&path);
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    path
}

/// A socket whose queue is full, and from which no process accepts.
fn stuck(path: &Path) -> (UnixListener, Vec<UnixStream>) {
    let listener = UnixListener::bind(path).unwrap();
    // The queue that bind makes is too long for this test to fill.
    rustix::net::listen(&listener, 0).unwrap();
    (listener, vec![UnixStream::connect(path).unwrap()])
}

#[test]
fn a_log_without_a_reader_is_refused_without_a_wait() {
    only!(Who::Us; "the peers wait for ever");
    let world = World::running(&["true"]);
    world.write();
    let log = fifo(world.path("log"));
    let ran = world.call(&["--log", log.to_str().unwrap(), "run", &world.id]);
    assert_eq!(ran.code(), 1, "{}", ran.err);
    assert!(ran.err.contains("--log: open ") && ran.err.contains("no process reads this fifo"), "{}", ran.err);
}

#[test]
fn a_fifo_is_neither_a_namespace_nor_a_config() {
    only!(Who::Us; "the peers wait for ever");
    let mut world = World::running(&["true"]);
    let path = fifo(world.path("fifo"));
    world.namespace("network", path.to_str());
    assert!(world.run().fails().contains("is not a namespace"));
    let world = World::running(&["sleep", "1000"]);
    world.begin();
    for args in [&["exec", "--process"][..], &["update", "--resources"]] {
        let said = world.call(&[args, &[path.to_str().unwrap(), &world.id]].concat()).fails();
        assert!(said.contains("its writer has not closed it within 10 s"), "{said}");
    }
    for args in [&["check", "--config"][..], &["exec", "--process"], &["update", "--resources"]] {
        let id = if args[0] == "check" { "." } else { &world.id };
        let said = world.call(&[args, &["/dev/zero", id]].concat()).fails();
        assert!(said.contains("/dev/zero: it is a device"), "{said}");
    }
    // Data that another process writes is read.
    let line = format!(
        "echo '{{}}' > {0} & exec {1} --root {2} update --resources {0} {3}",
        path.display(),
        crate::world::runtime().display(),
        world.path("state").display(),
        world.id
    );
    let mut command = std::process::Command::new("bash");
    crate::world::finish(command.args(["-c", &line])).ok();
}

#[test]
fn a_socket_that_accepts_no_connection_does_not_block() {
    only!(Who::Us; "the peers wait for ever");
    let mut world = World::running(&["true"]);
    world.config["process"]["terminal"] = json!(true);
    world.write();
    let path = world.path("console");
    let _stuck = stuck(&path);
    let said = world.call(&["create", "--console-socket", path.to_str().unwrap(), &world.id]).fails();
    assert!(said.contains("connect to") && said.contains("no process accepted the connection within 10 s"), "{said}");
    world.assert_clean();
}
