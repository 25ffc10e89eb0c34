//! The unit for systemd in `examples`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::world::{Who, World, finish, runtime, wait_until};
use crate::{needs, needs_root, only};

/// A unit and its file. At the end, also of a test that has failed, the unit stops and its file is removed.
struct UnitFile {
    path: PathBuf,
    unit: String,
}

impl Drop for UnitFile {
    fn drop(&mut self) {
        // ORDER: before the file is removed: systemd starts a failed unit again.
        let _ = systemctl(&["stop", &self.unit]);
        let _ = fs::remove_file(&self.path);
        let _ = systemctl(&["daemon-reload"]);
    }
}

fn systemctl(args: &[&str]) -> crate::world::Outcome {
    finish(Command::new("systemctl").args(args))
}

#[test]
fn the_unit_of_the_examples_runs_a_bundle_and_ends_it() {
    only!(Who::Us; "a file of coracle's");
    needs!(Path::new("/run/systemd/system").is_dir(), "systemd is not the first process here");
    needs_root!("a unit of the system");
    // By SIGTERM, a first process ends only if it has a handler.
    let script = "trap 'exit 143' TERM; echo begun; while :; do sleep 0.1; done";
    let mut world = World::running(&["sh", "-c", script]);
    world.config["linux"].as_object_mut().unwrap().remove("cgroupsPath");
    world.write();
    // The paths of this test instead of those of an installed coracle.
    let ours = format!("{} --root {}", runtime().display(), world.path("state").display());
    let text = include_str!("../examples/coracle@.service");
    let text = text.replace("/usr/local/bin/coracle", &ours);
    let text = text.replace("/var/lib/coracle/%i", world.bundle().to_str().unwrap());
    let path = format!("/run/systemd/system/coracle-{}@.service", world.id).into();
    let file = UnitFile { path, unit: format!("coracle-{0}@{0}.service", world.id) };
    fs::write(&file.path, text).unwrap();
    systemctl(&["daemon-reload"]).ok();
    let unit = &file.unit;
    systemctl(&["start", unit]).ok();
    wait_until("the container exists", || world.path("state").join(&world.id).join("state.json").exists());
    world.wait_for_status("running");
    let group = fs::read_to_string(format!("/proc/{}/cgroup", world.pid())).unwrap();
    assert!(group.contains(&format!("/system.slice/coracle-{}.scope\n", world.id)), "{group}");
    assert_eq!(systemctl(&["is-active", unit]).ok().trim(), "active");
    assert_eq!(world.exec(&["echo", "hello"]).ok(), "hello\n");
    // The journal notes the unit of the process that has written: the container's scope.
    let scope = format!("coracle-{}.scope", world.id);
    wait_until("the output is in the journal", || {
        finish(Command::new("journalctl").args(["--no-pager", "-o", "cat", "-u", &scope])).out.contains("begun")
    });
    systemctl(&["stop", unit]).ok();
    // A program of the container that ends by the stop signal is not a failure of the unit.
    let ended = systemctl(&["show", "-P", "ActiveState", unit]).ok();
    assert_eq!(ended.trim(), "inactive");
    wait_until("the container is deleted", || !world.path("state").join(&world.id).exists());
    world.assert_clean();
}
