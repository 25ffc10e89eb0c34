//! Writing to the runtime's own binary from inside, by /proc/PID/exe: CVE-2019-5736. The attacker keeps a descriptor of
//! every program that it sees, and opens it for writing as soon as no process runs it. The attack succeeds on
//! `weak-exec` of attacker.c, which enters a container with its own binary. binary.rs tests the protection on read-only
//! mounts.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::{attacker, capable, put_attacker};
use crate::world::{Outcome, Who, World, finish, runtime, wait_until};
use crate::{needs, needs_root, only};

/// A container whose program is the attacker. Its /evil is a script that runs the program which runs it.
fn attacked(name: &str) -> World {
    let mut world = World::running(&["sh", "-c", &format!("/attacker write-exe /stop {name} >/out; echo $? >/code")]);
    *world.at("/root/readonly") = json!(false);
    capable(&mut world);
    put_attacker(&world);
    fs::write(world.rootfs("evil"), "#!/proc/self/exe\n").unwrap();
    fs::set_permissions(world.rootfs("evil"), fs::Permissions::from_mode(0o755)).unwrap();
    world.begin();
    wait_until("the attacker is ready", || {
        fs::read_to_string(world.rootfs("out")).is_ok_and(|out| out.contains("ready"))
    });
    world
}

/// Stops the attacker. Returns its exit status and its output.
fn ended(world: &World) -> (String, String) {
    fs::write(world.rootfs("stop"), "").unwrap();
    wait_until("the attacker has ended", || {
        fs::read_to_string(world.rootfs("code")).is_ok_and(|code| !code.is_empty())
    });
    let read = |name: &str| fs::read_to_string(world.rootfs(name)).unwrap();
    (read("code"), read("out"))
}

/// A copy of a binary, which the attack may destroy.
fn copy_of(binary: &Path, world: &World, name: &str) -> std::path::PathBuf {
    let copy = world.path(name);
    finish(Command::new("cp").arg(binary).arg(&copy)).ok();
    copy
}

#[test]
fn an_unprotected_binary_is_written() {
    needs!(attacker().is_some(), "no C compiler");
    needs_root!("setns(2)");
    let world = attacked("weak");
    let copy = copy_of(attacker().unwrap(), &world, "weak");
    // The attacker's own program has the same contents, and the attacker does not attack that.
    fs::OpenOptions::new().append(true).open(&copy).unwrap().set_len(fs::metadata(&copy).unwrap().len() + 1).unwrap();
    let before = fs::read(&copy).unwrap();
    for _ in 0..20 {
        // The exec fails with ETXTBSY while the attacker has the copy open.
        let _ = Command::new(&copy).arg("weak-exec").arg(world.pid().to_string()).args(["/bin/true"]).status();
    }
    let (code, out) = ended(&world);
    assert!(code == "0\n" && out.contains("wrote"), "{code} {out}");
    assert!(fs::read(&copy).unwrap() != before, "not seen: {out}");
}

#[test]
fn our_own_binary_cannot_be_written_by_exec_or_by_a_container_beside() {
    needs!(attacker().is_some(), "no C compiler");
    needs_root!("a container that may trace");
    let world = attacked("coracle");
    let copy = copy_of(&runtime(), &world, "coracle");
    let before = fs::read(&copy).unwrap();
    // By a shell: the kernel counts the attacker as a writer for the moment in which its open(2) fails with EROFS. An exec of
    // the file fails with ETXTBSY in that moment.
    let call = |of: &World, args: &[&str]| -> Outcome {
        let mut shell = Command::new("sh");
        shell.args(["-c", "exec \"$0\" \"$@\""]).arg(&copy).arg("--root").arg(of.path("state"));
        finish(shell.args(args).current_dir(of.bundle()))
    };
    for _ in 0..20 {
        let _ = call(&world, &["exec", &world.id, "/evil"]);
        let _ = call(&world, &["exec", &world.id, "/proc/self/exe", "sleep", "1"]);
        let _ = call(&world, &["exec", &world.id, "true"]);
    }
    // A pod: another container in the same pid namespace, with hooks that run inside.
    let mut other = World::running(&["/evil"]);
    other.namespace("pid", Some(&format!("/proc/{}/ns/pid", world.pid())));
    fs::copy(world.rootfs("evil"), other.rootfs("evil")).unwrap();
    *other.at("/hooks") = json!({
        "startContainer": [{"path": "/evil"}, {"path": "/proc/self/exe", "args": ["exe", "features"]}],
    });
    other.write();
    for _ in 0..10 {
        let _ = call(&other, &["run", &other.id]);
        other.call(&["delete", "--force", &other.id]).ok();
    }
    let (code, out) = ended(&world);
    assert!(fs::read(&copy).unwrap() == before, "the binary has changed: {code} {out}");
    assert_eq!(code, "1\n", "something of the runtime's was written: {out}");
    let opened: Vec<_> =
        out.lines().filter(|line| line.starts_with("could write") && *line != "could write busybox").collect();
    assert!(opened.is_empty(), "{opened:?}");
}

#[test]
fn the_binary_of_a_waiting_init_cannot_be_written() {
    needs_root!("a look at a process that is closed");
    // CVE-2019-5736: the program has an interpreter line that makes the runtime run itself again. Then a library of the
    // root, or a second process, opens /proc/PID/exe for writing.
    only!(Who::Us; "it could overwrite the peer's binary");
    let own = runtime();
    let before = fs::read(&own).unwrap();
    let mut world = World::running(&["/evil"]);
    *world.at("/root/readonly") = json!(false);
    capable(&mut world);
    fs::write(world.rootfs("evil"), "#!/proc/self/exe\n").unwrap();
    finish(Command::new("chmod").arg("755").arg(world.rootfs("evil"))).ok();
    let _ = world.run();
    // The binary of a waiting init, from another process.
    world.config["process"]["args"] = json!(["sleep", "1000"]);
    world.create().ok();
    let pid = world.pid();
    let exe = format!("/proc/{pid}/exe");
    fs::OpenOptions::new().write(true).open(&exe).expect_err("init's binary can be written");
    // The file is protected permanently, not only while it runs: by its mount, or as a sealed copy.
    let flags = rustix::fs::statvfs(&exe).unwrap().f_flag;
    let sealed = fs::read_link(&exe).unwrap().to_string_lossy().starts_with("/memfd:coracle");
    assert!(flags.contains(rustix::fs::StatVfsMountFlags::RDONLY) || sealed, "{flags:?}");
    // The result does not depend on chance: exec runs many times.
    world.call(&["start", &world.id]).ok();
    for _ in 0..20 {
        let _ = world.exec(&["/evil"]);
        let _ = world.exec(&["sh", "-c", "for p in /proc/[0-9]*; do echo x 2>/dev/null >>$p/exe; done"]);
    }
    assert!(fs::read(&own).unwrap() == before, "our binary has changed");
}
