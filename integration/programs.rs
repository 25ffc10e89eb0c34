//! A program that exists and cannot be executed: the kernel's word, which engines match, and the cause.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use serde_json::json;

use crate::world::{Outcome, Who, World, finish, who};
use crate::{needs_root, only};

/// A 64-bit binary for another machine: only its header.
fn foreign() -> Vec<u8> {
    let mut header = b"\x7fELF\x02\x01\x01".to_vec();
    header.resize(64, 0);
    let s390x = 22;
    (header[16], header[18], header[20], header[52]) = (2, s390x, 1, 64);
    header
}

/// A binary for this machine with a loader that does not exist: only its headers.
fn dynamic() -> Vec<u8> {
    let loader = b"/lib/none.so\0";
    let mut header = fs::read("/proc/self/exe").unwrap()[..64].to_vec();
    // One program header, after this one.
    header[32..40].copy_from_slice(&64_u64.to_le_bytes());
    header[56..58].copy_from_slice(&1_u16.to_le_bytes());
    let interp = 3_u32;
    let length = loader.len() as u64;
    header.extend(interp.to_le_bytes());
    header.extend(4_u32.to_le_bytes());
    [120, 120, 120, length, length, 1].iter().for_each(|word: &u64| header.extend(word.to_le_bytes()));
    header.extend(loader);
    header
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of programs")]
fn a_program_that_cannot_be_executed_is_reported_with_the_cause() {
    needs_root!("a look into init's root");
    // A file in the root, the error of execve(2), and the cause.
    let scripts: [(&str, Vec<u8>, u32, &str, &str); 12] = [
        (
            "dynamic",
            dynamic(),
            0o755,
            "no such file or directory",
            "the loader of \"/bin/dynamic\" is missing: \"/lib/none.so\"",
        ),
        ("crlf", b"#!/bin/sh\r\n".into(), 0o755, "no such file or directory", "is missing: \"/bin/sh\\r\""),
        (
            "nobash",
            b"#!/bin/bash -e\n".into(),
            0o755,
            "no such file or directory",
            "the interpreter of \"/bin/nobash\"",
        ),
        ("twice", b"#!/bin/crlf\n".into(), 0o755, "no such file or directory", "the interpreter of \"/bin/crlf\""),
        ("empty", Vec::new(), 0o755, "exec format error", "(ENOEXEC): is empty"),
        ("plain", b"echo x\n".into(), 0o755, "exec format error", "(ENOEXEC): does not begin with #!"),
        ("short", foreign()[..40].into(), 0o755, "exec format error", "(ENOEXEC): is not a whole ELF file"),
        ("foreign", foreign(), 0o755, "exec format error", "another architecture: s390x"),
        ("closed", b"#!/bin/sh\n".into(), 0o644, "permission denied", "no execute permission for the user (mode 0644)"),
        (
            "dir",
            b"#!/etc\n".into(),
            0o755,
            "permission denied",
            "the interpreter of \"/bin/dir\" is a directory: \"/etc\"",
        ),
        ("below", b"#!/bin/empty/x\n".into(), 0o755, "not a directory", "\"/bin/empty\" is a file"),
        (
            "secret/x",
            b"#!/bin/sh\n".into(),
            0o755,
            "permission denied",
            "the user may not enter \"/bin/secret\" (mode 0700)",
        ),
    ];
    let mut world = World::running(&["sleep", "1000"]);
    *world.at("/process/user") = json!({"uid": 1000, "gid": 1000});
    fs::create_dir(world.rootfs("bin/secret")).unwrap();
    for (name, text, mode, ..) in &scripts {
        let path = world.rootfs("bin").join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
    }
    fs::set_permissions(world.rootfs("bin/secret"), fs::Permissions::from_mode(0o700)).unwrap();
    world.mount(json!({"destination": "/noexec", "source": world.rootfs("bin"), "options": ["bind", "noexec"]}));
    world.begin();
    let fails_with = |how: &str, ran: Outcome, errno: &str, cause: &str| {
        let said = ran.fails();
        assert!(said.contains(errno), "{how}: {errno:?} is not in {said:?}");
        assert!(who() != Who::Us || said.contains(cause), "{how}: {cause:?} is not in {said:?}");
        assert!(who() != Who::Us || said.trim_end().lines().count() == 1, "{how}: {said}");
    };
    for (name, _, _, errno, cause) in &scripts {
        let path = format!("/bin/{name}");
        fails_with("exec", world.exec(&[&path]), errno, cause);
        if who() != Who::Us {
            // Debian's runc prints it on the container's standard error.
            continue;
        }
        let mut other = World::running(&[&path]);
        *other.at("/process/user") = json!({"uid": 1000, "gid": 1000});
        *other.at("/root/path") = json!(world.rootfs(""));
        fails_with("run", other.run(), errno, cause);
        // start reports what only execve(2) finds.
        let created = other.create();
        if created.status.success() {
            fails_with("start", other.call(&["start", &other.id]), errno, cause);
        } else {
            fails_with("create", created, errno, cause);
        }
    }
    // The words of runc and crun.
    fails_with("exec", world.exec(&["/bin/empty/x"]), "not a directory", "\"/bin/empty\" is a file");
    let mut other = World::running(&["/bin/empty/x"]);
    *other.at("/root/path") = json!(world.rootfs(""));
    fails_with(
        "run",
        other.run(),
        "not a directory",
        "exec: \"/bin/empty/x\": not a directory (ENOTDIR): \"/bin/empty\" is a file",
    );
    fails_with("exec", world.exec(&["/noexec/true"]), "permission denied", "(EACCES): is on a mount with noexec");
    if who() == Who::Us {
        fails_with("exec", world.exec(&["crlf"]), "no such file or directory", "exec crlf: no such file");
    }
}

#[test]
fn a_file_of_proc_is_not_read_for_the_cause() {
    needs_root!("a look into init's root");
    only!(Who::Us; "the peers do not look for the cause");
    let mut world = World::running(&["x"]);
    *world.at("/process/env") = json!(["PATH=/first:/second"]);
    for directory in ["first", "second"] {
        fs::create_dir(world.rootfs(directory)).unwrap();
    }
    // The first program is denied (EACCES), and init tries the second (ENOEXEC).
    symlink("/proc/kmsg", world.rootfs("first/x")).unwrap();
    fs::write(world.rootfs("second/x"), "echo x\n").unwrap();
    fs::set_permissions(world.rootfs("second/x"), fs::Permissions::from_mode(0o755)).unwrap();
    // A process that reads /proc/kmsg removes its messages, or waits for the next one. SIGTERM does not end it then.
    let within = |args: &[&str]| {
        let command = world.command(args);
        let mut limited = Command::new("timeout");
        limited.args(["-s", "KILL", "20"]).arg(command.get_program()).args(command.get_args());
        finish(limited.current_dir(world.bundle())).fails()
    };
    world.write();
    let expected = "exec format error (ENOEXEC): \"/second/x\" does not begin with #!";
    let said = within(&["run", &world.id]);
    assert!(said.contains(expected), "{said:?}");
    world.create().ok();
    let said = within(&["start", &world.id]);
    assert!(said.contains(expected), "{said:?}");
}

#[test]
fn a_failed_program_is_reported_even_if_a_filter_hides_the_cause() {
    needs_root!("a look into init's root");
    only!(Who::Us; "the peers need these calls themselves");
    for action in ["SCMP_ACT_KILL_PROCESS", "SCMP_ACT_ERRNO", "SCMP_ACT_TRAP"] {
        let mut world = World::running(&["/bin/plain"]);
        fs::write(world.rootfs("bin/plain"), "echo x\n").unwrap();
        fs::set_permissions(world.rootfs("bin/plain"), fs::Permissions::from_mode(0o755)).unwrap();
        *world.at("/linux/seccomp") = json!({"defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["poll", "ppoll", "exit_group", "read"], "action": action}]});
        assert!(world.run().fails().contains("exec format error"), "{action}");
        world.create().ok();
        assert!(world.call(&["start", &world.id]).fails().contains("exec format error"), "{action}");
    }
}
