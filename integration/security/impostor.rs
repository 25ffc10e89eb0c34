//! A container traces a process that enters its pid namespace (CAP_SYS_PTRACE, no user namespace), and makes it send false
//! messages to the runtime: another pid, a request that only the bridge may send, or another file system. The tracer must get only
//! what the program has, and nothing of the host.
//!
//! Each attack succeeds on versions of coracle that took the pid from memory of init, answered every request, and mounted what came
//! from the pid namespace. They use coracle's protocol, so they have no effect on runc and crun.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use super::attacker;
use super::joining::Watched;
use crate::old_kernels::{hiding, under};
use crate::only;
use crate::ordinary;
use crate::world::{HostProcess, Outcome, Who, World, finish, skip, test_name, wait_until};

/// A container that lies as `kind` and `what` say.
fn tracer(attacker: &Path, kind: &str, what: &str) -> Watched {
    Watched::by(attacker, |world| {
        world.config["process"]["args"] = json!(["/bin/attacker", "impostor", "/found", "/stop", kind, what]);
    })
}

/// Calls until the tracer has lied twice, at most forty times.
fn until_lied(tracer: &Watched, mut call: impl FnMut()) {
    let lies = || tracer.found().lines().filter(|line| line.starts_with("lied")).count();
    for _ in 0..40 {
        if lies() >= 2 {
            return;
        }
        call();
    }
    if lies() == 0 {
        skip(&test_name(), "the tracer has caught nobody in time: the machine is busy");
    }
}

/// A container in the pid namespace of `tracer`.
fn in_pids_of(tracer: &World, args: &[&str]) -> World {
    let mut world = World::running(args);
    world.namespace("pid", Some(&format!("/proc/{}/ns/pid", tracer.pid())));
    world.write();
    world
}

/// The attacker's program. None, with the reason printed, where the attack cannot run.
fn equipped() -> Option<&'static Path> {
    if !cfg!(target_arch = "x86_64") {
        skip(&test_name(), "the attacker knows the registers of x86_64 only");
        return None;
    }
    if !ordinary::root() {
        skip(&test_name(), "in an ordinary user's container nobody may trace what is not the user's");
        return None;
    }
    let program = attacker();
    if program.is_none() {
        skip(&test_name(), "no C compiler here, and ATTACKER names no program");
    }
    program.map(PathBuf::as_path)
}

#[test]
fn a_traced_init_names_no_other_process() {
    let Some(attacker) = equipped() else { return };
    let mut victim = HostProcess::sleeping();
    let tracer = tracer(attacker, "pid", &victim.id().to_string());
    let world = &tracer.world;
    until_lied(&tracer, || {
        finish(&mut world.command(&["exec", &world.id, "/bin/true"]));
        assert!(!victim.has_ended(), "an exec has killed a process of the host");
    });
    fs::write(world.rootfs("found"), "looking\n").unwrap();
    until_lied(&tracer, || {
        let joining = in_pids_of(world, &["sleep", "1000"]);
        finish(&mut joining.command(&["create", "--bundle", joining.bundle().to_str().unwrap(), &joining.id]));
        let state = finish(&mut joining.command(&["state", &joining.id])).out;
        assert!(!state.contains(&format!("\"pid\": {}", victim.id())), "a process of the host is recorded: {state}");
        finish(&mut joining.command(&["delete", "--force", &joining.id]));
        assert!(!victim.has_ended(), "a delete has killed a process of the host");
    });
}

#[test]
fn a_traced_init_asks_for_nothing_of_the_bridges() {
    let Some(attacker) = equipped() else { return };
    // the code of Request::Hooks
    let tracer = tracer(attacker, "ask", "4");
    let world = &tracer.world;
    let ran = world.path("ran");
    let mut joining = in_pids_of(world, &["/bin/true"]);
    joining.config["hooks"] = json!({"createRuntime": [
        {"path": "/bin/sh", "args": ["sh", "-c", format!("echo ran >> {}", ran.display())]}
    ]});
    joining.write();
    until_lied(&tracer, || {
        let _ = fs::remove_file(&ran);
        finish(&mut joining.command(&["run", "--bundle", joining.bundle().to_str().unwrap(), &joining.id]));
        let runs = fs::read_to_string(&ran).unwrap_or_default().lines().count();
        assert!(runs <= 1, "the container has run a hook of the host: {runs} times");
        finish(&mut joining.command(&["delete", "--force", &joining.id]));
    });
}

/// The tracer gets the end of a process first, and its parent only after that (ptrace(2)).
#[test]
fn a_tracer_that_keeps_the_end_of_init_lets_nobody_wait() {
    only!(Who::Us; "the attack fits coracle's protocol");
    let Some(attacker) = equipped() else { return };
    let tracer = tracer(attacker, "keep", "-");
    let world = &tracer.world;
    let ends = |command: &mut Command| {
        let mut child = command.spawn().unwrap();
        wait_until("the command ends", || child.try_wait().unwrap().is_some());
    };
    until_lied(&tracer, || {
        ends(&mut world.command(&["exec", &world.id, "/bin/true"]));
        let joining = in_pids_of(world, &["/bin/true"]);
        ends(&mut joining.command(&["run", "--bundle", joining.bundle().to_str().unwrap(), &joining.id]));
        finish(&mut joining.command(&["delete", "--force", &joining.id]));
    });
}

/// Then the end of the stream, which means that the program has begun, does not come.
#[test]
fn a_tracer_that_holds_the_socket_of_init_lets_nobody_wait() {
    only!(Who::Us; "the attack fits coracle's protocol");
    let Some(attacker) = equipped() else { return };
    let tracer = tracer(attacker, "hold", "-");
    let world = &tracer.world;
    until_lied(&tracer, || {
        let mut child = world.command(&["exec", "--detach", &world.id, "/bin/sleep", "1000"]).spawn().unwrap();
        wait_until("exec ends", || child.try_wait().unwrap().is_some());
    });
}

/// The whole tree of the host's devices, or a file system of the tracer's choice, in the place of /proc.
#[test]
fn a_traced_process_mounts_no_other_file_system() {
    only!(Who::Us; "the attack fits coracle's way to mount a proc for another pid namespace");
    let Some(attacker) = equipped() else { return };
    let tracer = tracer(attacker, "fs", "devtmpfs");
    let world = &tracer.world;
    let joining = in_pids_of(world, &["sh", "-c", "[ -e /proc/self/status ] || echo other"]);
    let old = |args: &[&str]| under(joining.command(args), hiding("fsconfig", Some((1, !0, 5)), libc::ENOSYS));
    let new = |args: &[&str]| finish(&mut joining.command(args));
    for run in [&new as &dyn Fn(&[&str]) -> Outcome, &old] {
        for _ in 0..8 {
            let outcome = run(&["run", "--bundle", joining.bundle().to_str().unwrap(), &joining.id]);
            assert!(!outcome.out.contains("other"), "/proc is another file system: {}", outcome.out);
            finish(&mut joining.command(&["delete", "--force", &joining.id]));
        }
    }
}

/// Before Linux 6.18 the traced process opens a proc for us. Another process would live on in the container.
#[test]
fn a_traced_process_makes_no_other_process() {
    only!(Who::Us; "the attack fits coracle's way to mount a proc for another pid namespace");
    let Some(attacker) = equipped() else { return };
    let tracer = tracer(attacker, "fork", "-");
    let world = &tracer.world;
    let joining = in_pids_of(world, &["true"]);
    let pids = |process: &Path| fs::read_link(process.join("ns/pid")).ok();
    let theirs = pids(&Path::new("/proc").join(world.pid().to_string()));
    until_lied(&tracer, || {
        let hidden = hiding("fsconfig", Some((1, !0, 5)), libc::ENOSYS);
        under(joining.command(&["create", "--bundle", joining.bundle().to_str().unwrap(), &joining.id]), hidden);
        let paths = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
        let status = |process: PathBuf| fs::read_to_string(process.join("status")).unwrap_or_default();
        let members = paths.filter(|process| pids(process) == theirs).map(status);
        let living: Vec<_> = members.filter(|status| !status.contains("State:\tZ")).collect();
        assert!(living.len() <= 2, "others than the tracer and init are in the pid namespace: {living:?}");
        finish(&mut joining.command(&["delete", "--force", &joining.id]));
    });
}
