//! The annotation `org.coracle.landlock`: what the processes of the container cannot do, also those of `exec` and hooks.

use serde_json::{Value, json};

use crate::world::{Who, World};
use crate::{needs, only, ordinary};

/// Why a test is skipped.
const OLD: &str = "this kernel has no Landlock of ABI 6 (Linux 6.12)";

fn abi() -> u32 {
    libcontainer::internals::abi()
}

fn with(policy: &Value, script: &str) -> World {
    let mut world = World::running(&["sh", "-c", script]);
    world.config["annotations"] = json!({"org.coracle.landlock": policy.to_string()});
    world
}

/// Everything is readable, and /dev/shm is writable.
fn policy() -> Value {
    json!({"abi": 3, "ruleset": [{"handledAccessFs": ["abi.all"]}], "pathBeneath": [
        {"allowedAccess": ["abi.read_execute"], "parent": ["/"]},
        {"allowedAccess": ["abi.read_write"], "parent": ["/dev/shm"]},
        {"allowedAccess": ["write_file"], "parent": ["/dev/null"]}]})
}

const WRITES: &str = "echo > /tmp/a || echo no; echo > /dev/shm/a && echo yes; cat /etc/hosts; mkdir /x || echo no";

#[test]
fn the_policy_applies_to_init_exec_and_hooks() {
    only!(Who::Us; "an annotation of ours");
    needs!(abi() >= 6, OLD);
    let mut world = with(&policy(), &format!("cat /dev/shm/hook; {WRITES}; sleep 1000"));
    world.mount(json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}));
    std::fs::write(world.rootfs("etc/hosts"), "hosts\n").unwrap();
    // a file that the ruleset gives no right to write
    let hook = "echo > /tmp/h || echo denied > /dev/shm/hook";
    world.config["hooks"] = json!({"startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", hook]}]});
    world.begin();
    let same = |said: String| assert_eq!(said, "no\nyes\nhosts\nno\n");
    same(world.exec(&["sh", "-c", &format!("({WRITES}) 2>/dev/null")]).ok());
    assert_eq!(world.exec(&["cat", "/dev/shm/hook"]).ok(), "denied\n");
    // with the ids of another user, and without no_new_privs
    let mut world = with(&policy(), "echo > /tmp/b || echo no");
    world.mount(json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}));
    world.config["process"]["noNewPrivileges"] = json!(false);
    if ordinary::root() {
        world.config["process"]["user"] = json!({"uid": 1, "gid": 1});
    }
    assert_eq!(world.run().ok(), "no\n");
}

#[test]
fn ports_and_scopes_are_restricted() {
    only!(Who::Us; "an annotation of ours");
    needs!(abi() >= 6, OLD);
    let policy = json!({"ruleset": [{"handledAccessNet": ["bind_tcp"], "scoped": ["signal"]}],
        "netPort": [{"allowedAccess": ["bind_tcp"], "port": [8000]}]});
    let serve = |port: u16| format!("busybox nc -l -p {port} -w 1 2>&1 </dev/null | head -n 1");
    let world = with(&policy, &format!("{}; echo; {}", serve(8001), serve(8000)));
    let said = world.run().ok();
    assert_eq!(said.matches("Permission denied").count(), 1, "{said}");
    // exec is outside of the domain of init: the same ruleset, but another domain
    let world = with(&policy, "sleep 1000");
    world.begin();
    assert!(world.exec(&["sh", "-c", "kill -0 1 2>&1; echo"]).ok().contains("ermitted"));
}

/// A path is one of the container's: a link in it does not lead out. A missing one is an error, unless best-effort.
#[test]
fn a_path_is_found_in_the_containers_root() {
    only!(Who::Us; "an annotation of ours");
    needs!(abi() >= 6, OLD);
    let rule = |path: &str, compatibility: &str| {
        json!({"compatibility": compatibility, "ruleset": [{"handledAccessFs": ["read_file", "execute"]}],
            "pathBeneath": [{"allowedAccess": ["read_file", "execute"], "parent": ["/bin", path]}]})
    };
    let world = with(&rule("/out", "required"), "cat /inside/file; cat /etc/passwd");
    std::os::unix::fs::symlink("/../../../../inside", world.rootfs("out")).unwrap();
    std::fs::create_dir(world.rootfs("inside")).unwrap();
    std::fs::write(world.rootfs("inside/file"), "read\n").unwrap();
    std::fs::write(world.rootfs("etc/passwd"), "").unwrap();
    let outcome = world.run();
    assert_eq!((outcome.out.as_str(), outcome.code()), ("read\n", 1), "{}", outcome.err);
    assert!(outcome.err.contains("'/etc/passwd': Permission denied"), "{}", outcome.err);
    let said = with(&rule("/none", "required"), "true").run().fails();
    let place = r#"annotations["org.coracle.landlock"].pathBeneath[0].parent[1]: "#;
    assert!(said.contains(&format!("{place}allow execute,read_file beneath /none: no such file")), "{said}");
    assert_eq!(with(&rule("/none", "best-effort"), "echo ran").run().ok(), "ran\n");
    // rights of a directory alone for a file
    let policy = json!({"ruleset": [{"handledAccessFs": ["read_dir"]}],
        "pathBeneath": [{"allowedAccess": ["read_dir"], "parent": ["/bin/busybox"]}]});
    assert!(with(&policy, "true").run().fails().contains("all these rights are rights of a directory"));
    // the program itself
    let policy = json!({"ruleset": [{"handledAccessFs": ["execute"]}]});
    let said = with(&policy, "true").run().fails();
    assert!(said.contains("permission denied (EACCES): the Landlock ruleset does not allow"), "{said}");
}

/// A program of the container must not decide what a later process may do.
#[test]
fn a_later_process_finds_the_files_of_the_first_one() {
    only!(Who::Us; "an annotation of ours");
    needs!(abi() >= 6, OLD);
    let policy = |compatibility: &str| {
        json!({"compatibility": compatibility, "ruleset": [{"handledAccessFs": ["read_file"]}], "pathBeneath": [
            {"allowedAccess": ["read_file"], "parent": ["/bin", "/lib", "/open/link", "/open/late"]}]})
    };
    let script = "cd /open && rm link && ln -s ../secret link && ln -s ../secret late && echo done > said; sleep 1000";
    let make = |compatibility: &str| {
        let mut world = with(&policy(compatibility), script);
        *world.at("/root/readonly") = json!(false);
        for name in ["open", "secret", "lib", "first"] {
            let _ = std::fs::create_dir(world.rootfs(name));
        }
        std::fs::write(world.rootfs("secret/file"), "secret\n").unwrap();
        std::fs::write(world.rootfs("first/file"), "first\n").unwrap();
        std::os::unix::fs::symlink("../first", world.rootfs("open/link")).unwrap();
        world
    };
    let world = make("best-effort");
    world.begin();
    crate::world::wait_until("the link leads elsewhere", || world.rootfs("open/said").exists());
    let said = world.exec(&["sh", "-c", "cat /secret/file 2>&1; true"]).ok();
    assert!(said.contains("Permission denied"), "{said}");
    let world = make("required");
    std::fs::create_dir(world.rootfs("open/late")).unwrap();
    world.begin();
    crate::world::wait_until("the link leads elsewhere", || world.rootfs("open/said").exists());
    let said = world.exec(&["true"]).fails();
    assert!(said.contains("this is another file than at create (EPERM)"), "{said}");
}

/// CRIU does not support Landlock: the restored processes could do more than before.
#[test]
fn checkpoint_refuses_what_it_could_not_restore() {
    only!(Who::Us; "an annotation of ours");
    needs!(ordinary::root(), "checkpoint is for root");
    needs!(abi() >= 6, OLD);
    let world = with(&policy(), "sleep 1000");
    world.begin();
    let images = world.path("images");
    let said = world.call(&["checkpoint", "--image-path", images.to_str().unwrap(), &world.id]).fails();
    assert!(said.contains("CRIU does not restore a Landlock ruleset"), "{said}");
    assert_eq!(world.status(), "running");
}
