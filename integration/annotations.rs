//! The annotations of crun (docs/annotations.md). The tests run on crun, too, where it does the same.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::rootless::{Own, user};
use crate::world::{Who, World, finish};
use crate::{needs, needs_root, only, ordinary, terminal};

fn with(name: &str, value: &str, args: &[&str]) -> World {
    let mut world = World::running(args);
    world.config["annotations"] = json!({name: value});
    world
}

#[test]
fn the_output_of_hooks_is_appended_to_files() {
    only!(Who::Us, Who::Crun; "annotations of crun");
    let mut world = World::running(&["true"]);
    let (out, err) = (world.path("out"), world.path("err"));
    fs::write(&out, "before\n").unwrap();
    world.config["annotations"] = json!({"run.oci.hooks.stdout": out, "run.oci.hooks.stderr": err});
    let hook = |word: &str| json!([{"path": "/bin/sh", "args": ["sh", "-c", format!("cat >/dev/null; echo {word}; echo {word}! >&2")]}]);
    world.config["hooks"] = json!({"createRuntime": hook("made"), "poststart": hook("runs"), "poststop": hook("gone")});
    world.run().ok();
    assert_eq!(fs::read_to_string(&out).unwrap(), "before\nmade\nruns\ngone\n");
    assert_eq!(fs::read_to_string(&err).unwrap(), "made!\nruns!\ngone!\n");
    if crate::world::who() != Who::Us {
        return;
    }
    // a link, a link before the name, a file of the kernel, a device, a relative path
    let (link, above) = (world.path("link"), world.path("above"));
    symlink(&out, &link).unwrap();
    symlink(world.path(""), &above).unwrap();
    let cases = [
        (link.to_str().unwrap(), "a link in it is not followed"),
        (&format!("{}/out", above.display()), "a link in it is not followed"),
        (&format!("{}/new", above.display()), "a link in it is not followed"),
        (&format!("/proc/{}/comm", std::process::id()), "only a file on a disk or in a tmpfs is opened"),
        ("/dev/zero", "is not a regular file"),
        ("out", "\"out\" is not an absolute path"),
    ];
    for (path, why) in cases {
        world.config["annotations"] = json!({"run.oci.hooks.stdout": path});
        let said = world.run().fails();
        assert!(said.contains(r#"annotations["run.oci.hooks.stdout"]: "#) && said.contains(why), "{path}: {said}");
    }
    assert_eq!(fs::read_to_string(&out).unwrap().lines().count(), 4);
    assert!(!world.path("new").exists());
}

/// A poststart hook that fails stops the container. A file that cannot be opened is found before its program begins.
#[test]
fn the_output_of_a_poststart_hook_cannot_stop_a_running_container() {
    only!(Who::Us; "crun opens the files when a hook runs");
    let mut world = World::running(&["sleep", "1000"]);
    let out = world.path("out");
    world.config["annotations"] = json!({"run.oci.hooks.stdout": out});
    world.config["hooks"] = json!({"poststart": [{"path": "/bin/echo", "args": ["echo", "runs"]}]});
    world.create().ok();
    fs::remove_file(&out).unwrap();
    symlink("/nowhere", &out).unwrap();
    let start = || world.call(&["start", &world.id]);
    let said = start().fails();
    assert!(said.contains(r#"annotations["run.oci.hooks.stdout"]: open "#), "{said}");
    assert_eq!(world.status(), "created");
    fs::remove_file(&out).unwrap();
    start().ok();
    assert_eq!(world.status(), "running");
    assert_eq!(fs::read_to_string(&out).unwrap(), "runs\n");
}

#[test]
fn a_socket_receives_a_pidfd_of_init() {
    only!(Who::Us, Who::Crun; "an annotation of crun");
    let mut world = World::running(&["sleep", "1000"]);
    let socket = world.path("pidfd.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    world.config["annotations"] = json!({"run.oci.pidfd_receiver": socket});
    world.create().ok();
    let (text, fds) = terminal::message(listener.accept().unwrap().0);
    assert_eq!((text.as_slice(), fds.len()), (&b" "[..], 1));
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", fds[0].as_raw_fd())).unwrap();
    assert!(info.contains(&format!("Pid:\t{}\n", world.pid())), "{info}");
    // (A child of another test may have a copy for a moment.)
    rustix::net::shutdown(&listener, rustix::net::Shutdown::Both).unwrap();
    if crate::world::who() == Who::Us {
        let other = with("run.oci.pidfd_receiver", socket.to_str().unwrap(), &["true"]);
        let said = other.create().fails();
        assert!(said.contains(r#"annotations["run.oci.pidfd_receiver"]: "#), "{said}");
        assert!(said.contains("connection refused (ECONNREFUSED)"), "{said}");
    }
}

#[test]
fn an_unknown_call_in_the_profile_is_an_error_if_requested() {
    only!(Who::Us, Who::Crun; "an annotation of crun");
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "fly"], "action": "SCMP_ACT_ERRNO"}]});
    let mut world = World::running(&["true"]);
    *world.at("/linux/seccomp") = profile;
    world.run().ok();
    world.config["annotations"] = json!({"run.oci.seccomp_fail_unknown_syscall": "1"});
    let said = world.run().fails();
    if crate::world::who() == Who::Us {
        assert!(said.contains("linux.seccomp.syscalls[0].names[1]: unknown system call \"fly\""), "{said}");
    }
}

/// A filter that denies mkdir(2) and mkdirat(2) with ENOSPC.
fn no_mkdir() -> String {
    let instruction =
        |code: u16, yes: u8, no: u8, k: u32| [&code.to_ne_bytes()[..], &[yes, no], &k.to_ne_bytes()].concat();
    #[cfg(target_arch = "x86_64")]
    let first = libc::SYS_mkdir;
    #[cfg(not(target_arch = "x86_64"))]
    let first = libc::SYS_mkdirat;
    let number = |call: libc::c_long| u32::try_from(call).unwrap();
    let program = [
        instruction(0x20, 0, 0, 0),
        instruction(0x15, 1, 0, number(first)),
        instruction(0x15, 0, 1, number(libc::SYS_mkdirat)),
        instruction(0x06, 0, 0, libc::SECCOMP_RET_ERRNO | 28),
        instruction(0x06, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let mut command = Command::new("base64");
    crate::world::finish_with(command.arg("-w0"), &program.concat()).ok()
}

#[test]
fn a_filter_as_data_is_loaded_for_init_and_exec_and_replaces_no_profile() {
    only!(Who::Us, Who::Crun; "an annotation of crun");
    let script = "mkdir /dev/shm/x 2>&1";
    let mut world = with("run.oci.seccomp_bpf_data", &no_mkdir(), &["sh", "-c", &format!("{script}; sleep 1000")]);
    world.config["linux"].as_object_mut().unwrap().remove("seccomp");
    world.begin();
    if crate::world::who() == Who::Us {
        let said = world.exec(&["sh", "-c", &format!("{script}; true")]).ok();
        assert!(said.contains("No space left on device"), "{said}");
        *world.at("/linux/seccomp") = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": []});
        let mut other = World::running(&["true"]);
        other.config["annotations"] = world.config["annotations"].clone();
        *other.at("/linux/seccomp") = world.config["linux"]["seccomp"].clone();
        let said = other.run().fails();
        let place = r#"annotations["run.oci.seccomp_bpf_data"]: "#;
        assert!(said.contains(&format!("{place}linux.seccomp is set, too")), "{said}");
        for (data, why) in [("?", "is not base64"), ("Zm9v", "is not a list of instructions")] {
            let said = with("run.oci.seccomp_bpf_data", data, &["true"]).run().fails();
            assert!(said.contains(&format!("{place}{why}")), "{said}");
        }
    }
}

#[test]
fn clocks_are_shifted_by_the_annotation() {
    only!(Who::Us; "Debian's crun does not know time namespaces of the specification");
    let mut world = with("run.oci.timens_offset", "boottime 604800 0", &["cat", "/proc/self/timens_offsets"]);
    world.namespace("time", None);
    let said = world.run().ok();
    assert!(said.contains("604800"), "{said}");
}

/// The groups are rights of the caller. An annotation must not give root's groups to a container.
#[test]
fn root_gives_no_container_its_groups() {
    only!(Who::Us; "crun gives them");
    needs_root!("an ordinary user may");
    let said = with("run.oci.keep_original_groups", "1", &["true"]).run().fails();
    assert!(said.contains(r#"annotations["run.oci.keep_original_groups"]: the caller is root"#), "{said}");
    with("run.oci.keep_original_groups", "0", &["true"]).run().ok();
}

#[test]
fn a_user_keeps_its_groups_if_requested() {
    needs!(ordinary::root(), "makes up grants for a user, in a mount namespace");
    needs!(Path::new("/usr/bin/newuidmap").exists(), "newuidmap is not installed (package uidmap)");
    only!(Who::Us, Who::Crun; "an annotation of crun");
    let mut own = Own::running(&["id", "-G"]);
    for (book, first) in [("subuid", 3_000_000), ("subgid", 4_000_000)] {
        fs::write(own.world.path(book), format!("{}:{first}:9\n", user())).unwrap();
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    fs::write(own.world.path("passwd"), format!("{users}mate:x:{0}:{0}::/:/bin/sh\n", user())).unwrap();
    for (pointer, first) in [("/linux/uidMappings", 3_000_000), ("/linux/gidMappings", 4_000_000)] {
        *own.world.at(pointer) =
            json!([{"containerID": 0, "hostID": user(), "size": 1}, {"containerID": 1, "hostID": first, "size": 9}]);
    }
    let mut groups = |annotations: Value| {
        own.world.config["annotations"] = annotations;
        own.world.write();
        let script =
            r#"for book in passwd subuid subgid; do mount --bind "$1/$book" "/etc/$book"; done; shift; exec "$@""#;
        let run = own.command(&["run", &own.world.id]);
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-ec", script, "-"]).arg(own.world.path(""));
        command.arg(run.get_program());
        let args = run.get_args();
        command.args(args.map(|arg| if arg == "--clear-groups" { "--groups=4242".as_ref() } else { arg }));
        command.current_dir(own.world.bundle()).env("XDG_RUNTIME_DIR", own.world.path("run"));
        finish(&mut command).ok()
    };
    assert_eq!(groups(json!({})).trim(), "0");
    // 65534 is a group without a mapping
    assert_eq!(groups(json!({"run.oci.keep_original_groups": "1"})).trim(), "0 65534");
}
