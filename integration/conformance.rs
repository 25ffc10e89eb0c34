//! Requirements of the specification that no other file tests, and findings of the OCI's validation suite.

use std::fs;

use serde_json::json;

use crate::namespaces::with_users;
use crate::world::{Who, World};
use crate::{needs_root, only};

/// A profile from the time before close_range(2) and faccessat2(2). It denies these calls, and programs work without
/// them.
fn old_profile() -> serde_json::Value {
    json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["close_range", "faccessat2", "statx", "getcwd"], "action": "SCMP_ACT_ERRNO"}]})
}

#[test]
fn a_profile_that_forbids_what_the_runtime_itself_calls() {
    only!(Who::Us, Who::Crun; "runc looks at its working directory after the filter is loaded");
    for no_new_privileges in [false, true] {
        let mut world = World::running(&["sh", "-c", "ls /proc/self/fd; grep Seccomp: /proc/self/status"]);
        world.config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        world.config["linux"]["seccomp"] = old_profile();
        // busybox's ls has one more descriptor.
        assert_eq!(world.run().ok(), "0\n1\n2\n3\nSeccomp:\t2\n");
    }
}

/// A member of a published profile or config.json, by its form. The program prints what it sees.
#[test]
fn forms_that_engines_and_people_publish_run_as_with_the_peers() {
    let docker = json!({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": null,
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]}],
        "syscalls": [{"names": ["mkdir", "mkdirat", "no_such_call"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "args": [],
            "comment": "", "includes": {"minKernel": "4.8"}, "excludes": {"caps": ["CAP_SYS_ADMIN"]}}]});
    let podman = json!({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrno": "ENOSYS", "syscalls": [
        {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "errno": "EPERM", "args": [
            {"index": 1, "value": 0, "valueTwo": 0, "op": "SCMP_CMP_EQ"}]}, {"names": ["mkdirat"], "action": "SCMP_ACT_ALLOW"}]});
    let zero = json!({"args": ["sh", "-c", "mkdir /tmp/d; id -G"], "cwd": "/", "terminal": false, "env": ["PATH=/bin"],
        "consoleSize": {"height": 0, "width": 0}, "user": {"uid": 0, "gid": 0, "umask": 18, "additionalGids": []},
        "rlimits": [], "oomScoreAdj": null, "apparmorProfile": "", "capabilities": {"bounding": []}});
    for (name, changes, wanted) in [
        ("Docker's profile", vec![("/linux/seccomp", docker)], "Function not implemented 0"),
        ("podman's profile, with arguments", vec![("/linux/seccomp", podman)], "made 0"),
        (
            "a release candidate's config.json",
            vec![
                ("/ociVersion", json!("1.0.0-rc5")),
                ("/platform", json!({"os": "linux", "arch": "amd64"})),
                ("/solaris", json!({"anet": [{}]})),
                ("/hooks", json!({})),
                ("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": [], "syscalls": []})),
            ],
            "made 0",
        ),
        ("the zero values of a Go program", vec![("/process", zero), ("/linux/resources", json!({}))], "made 0"),
    ] {
        let mut world = World::running(&["sh", "-c", "mkdir /tmp/d; id -G"]);
        for (pointer, value) in changes {
            *world.at(pointer) = value;
        }
        world.mount(json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid"]}));
        let ran = world.run();
        let denied = ran.err.contains("Function not implemented");
        let seen = format!("{} {}", if denied { "Function not implemented" } else { "made" }, ran.out.trim());
        assert_eq!((seen.as_str(), ran.code()), (wanted, 0), "{name}: {ran:?}");
    }
}

#[test]
fn a_hook_inside_under_such_a_profile() {
    only!(Who::Us; "runc and crun ask for their working directory after the filter is loaded");
    let mut world = World::running(&["cat", "/tmp/told"]);
    world.config["root"]["readonly"] = json!(false);
    world.config["linux"]["seccomp"] = old_profile();
    world.config["hooks"] =
        json!({"startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "mkdir -p /tmp; echo hi > /tmp/told"]}]});
    assert_eq!(world.run().ok(), "hi\n");
}

#[test]
fn capabilities_in_a_user_namespace_are_exactly_the_requested_ones() {
    let mut world = World::running(&["grep", "Cap", "/proc/self/status"]);
    with_users(&mut world);
    let kill = json!(["CAP_KILL", "CAP_SYS_RESOURCE"]);
    world.config["process"]["capabilities"] = json!({"bounding": kill, "permitted": kill, "effective": ["CAP_KILL"]});
    let said = world.run().ok();
    // The runtime may give CAP_SYS_RESOURCE, whether it has the right itself or not. It gives nothing else.
    let wanted = format!("{:016x}", 1u64 << 5 | 1 << 24);
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert!(said.contains(&format!("{set}:\t{wanted}")), "{said}");
    }
}

#[test]
fn hooks_receive_the_current_state() {
    only!(Who::Us; "runc says creating and crun created to both");
    let mut world = World::running(&["true"]);
    let state_file = |name: &str| world.path(&format!("{name}.json"));
    let hook = |name: &str| json!([{"path": "/bin/sh", "args": ["sh", "-c", format!("cat > {}", state_file(name).display())]}]);
    let names = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"];
    let hooks: serde_json::Map<_, _> = names.iter().map(|name| ((*name).to_owned(), hook(name))).collect();
    world.config["hooks"] = hooks.into();
    world.config["annotations"] = json!({"a": "b"});
    world.begin();
    world.wait_for_status("stopped");
    world.call(&["delete", &world.id]).ok();
    let status = |name: &str| {
        let text = fs::read(world.path(&format!("{name}.json"))).unwrap();
        let state: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(state["id"], world.id.as_str(), "{name}");
        assert_eq!(state["bundle"], world.bundle().to_str().unwrap(), "{name}");
        assert_eq!(state["annotations"], json!({"a": "b"}), "{name}");
        assert_eq!(state["ociVersion"], "1.0.2", "{name}");
        state["status"].as_str().unwrap().to_owned()
    };
    assert_eq!(names.map(status), ["created", "creating", "creating", "running", "stopped"]);
}

#[test]
fn options_of_a_bind_mount_that_a_file_system_would_take_have_no_effect() {
    let mut world = World::running(&["cat", "/mnt/file"]);
    fs::create_dir(world.path("shared")).unwrap();
    fs::write(world.path("shared/file"), "here").unwrap();
    fs::create_dir(world.rootfs("mnt")).unwrap();
    let source = world.path("shared").to_str().unwrap().to_owned();
    world.mount(json!({"destination": "/mnt", "source": source, "options": ["bind", "mode=755", "size=1k", "ro"]}));
    assert_eq!(world.run().ok(), "here");
}

#[test]
fn a_container_without_a_process_is_created_and_ends_when_started() {
    only!(Who::Us; "runc and crun 1.8 refuse to create it");
    let mut world = World::running(&[]);
    world.config.as_object_mut().unwrap().remove("process");
    world.create().ok();
    assert_eq!(world.status(), "created");
    let powers = fs::read_to_string(format!("/proc/{}/status", world.pid())).unwrap();
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert!(powers.contains(&format!("{set}:\t0000000000000000")), "{powers}");
    }
    let started = world.call(&["start", &world.id]);
    assert!(started.err.contains("process is not set in config.json"), "{started:?}");
    world.wait_for_status("stopped");
    world.call(&["delete", &world.id]).ok();
    assert!(world.run().fails().contains("process: is missing"));
}

#[test]
fn a_namespace_that_is_not_requested_is_the_runtimes() {
    needs_root!("namespaces of the host's own");
    only!(Who::Us; "runc and crun leave their mounts on the host");
    let mut world = World::running(&["sh", "-c", "ls -l /dev/null /proc/self/exe && sleep 1000"]);
    world.config["linux"]["namespaces"] = json!([]);
    world.config["linux"]["maskedPaths"] = json!([]);
    world.config["linux"]["readonlyPaths"] = json!([]);
    world.config["root"]["readonly"] = json!(false);
    world.config.as_object_mut().unwrap().remove("hostname");
    // mqueue and sysfs belong to namespaces of the host here.
    world.begin();
    let namespace = |pid: &str, name: &str| fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
    for name in ["mnt", "pid", "net", "ipc", "uts", "user", "cgroup"] {
        assert_eq!(namespace(&world.pid().to_string(), name), namespace("self", name), "{name}");
    }
    let here = world.rootfs("proc").to_str().unwrap().to_owned();
    assert!(fs::read_to_string("/proc/self/mountinfo").unwrap().contains(&here));
    assert!(world.exec(&["ls", "/dev"]).ok().contains("urandom"));
    world.call(&["delete", "--force", &world.id]).ok();
    world.assert_clean();
    assert!(!world.rootfs("dev/null").exists(), "it was made in the tmpfs");
}

#[test]
fn mounts_on_the_host_are_unmounted_if_create_fails() {
    needs_root!("mounts on the host");
    only!(Who::Us; "runc and crun leave their mounts on the host");
    let mut world = World::running(&["/no/such/program"]);
    world.config["linux"]["namespaces"] = json!([{"type": "pid"}]);
    world.config["linux"]["maskedPaths"] = json!([]);
    world.config["linux"]["readonlyPaths"] = json!([]);
    world.config["root"]["readonly"] = json!(false);
    world.config.as_object_mut().unwrap().remove("hostname");
    assert!(world.create().fails().contains("/no/such/program"));
    world.assert_clean();
    world.config["root"]["readonly"] = json!(true);
    assert!(world.create().fails().contains("root.readonly: needs a mount namespace"));
}
