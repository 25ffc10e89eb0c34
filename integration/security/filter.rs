//! A profile of `linux.seccomp` may deny any call, with any action. Only one execve(2) runs under it. In every case,
//! the program begins or a message says why not. No process waits for ever, and nothing is left.
//!
//! Before the filter came last, coracle failed this test: a profile that denies exit_group(2) made init spin while the
//! runtime waited for it, and one that denies write(2) made both wait for ever. runc 1.1.5 waits for ever if its init
//! is killed.

use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::world::{Outcome, Who, World, finish};
use crate::{needs_root, only};

/// The calls that init makes before the filter, or made under it in earlier versions. Only `execve` is left.
const CALLS: [&str; 13] = [
    "read",
    "write",
    "exit_group",
    "close_range",
    "capset",
    "prctl",
    "setresuid",
    "setgroups",
    "newfstatat",
    "faccessat2",
    "chdir",
    "recvmsg",
    "execve",
];

/// Every action that denies, and one that does not. After EINTR, the call is tried again. 0 means success, but the call
/// was not made.
fn actions() -> Vec<(String, Value)> {
    let errno = |number: i32| (format!("ERRNO {number}"), json!({"action": "SCMP_ACT_ERRNO", "errnoRet": number}));
    let plain = |name: &str| (name.to_owned(), json!({"action": format!("SCMP_ACT_{name}")}));
    let errnos = [libc::EPERM, libc::EINTR, 0].map(errno);
    let others = ["TRACE", "TRAP", "KILL_PROCESS", "LOG"].map(plain);
    errnos.into_iter().chain(others).collect()
}

fn denying(calls: &[&str], action: &Value, no_new_privileges: bool, args: &[&str]) -> World {
    let mut world = World::running(args);
    let mut rule = json!({"names": calls});
    rule.as_object_mut().unwrap().extend(action.as_object().unwrap().clone());
    *world.at("/linux/seccomp") = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]});
    *world.at("/process/noNewPrivileges") = json!(no_new_privileges);
    world
}

/// Only a denied execve is a failure of the runtime. Other denied calls concern the program.
#[track_caller]
fn must_be_right(what: &str, call: &str, outcome: &Outcome) {
    if call == "execve" && !what.contains("LOG") {
        let said = outcome.err.clone();
        assert_ne!(outcome.code(), 0, "{what}: {said}");
        for words in ["linux.seccomp: execve", "the profile denies it"] {
            assert!(said.contains(words), "{what}: {words:?} is not in {said:?}");
        }
    } else {
        assert!(!outcome.err.contains("coracle"), "{what}: {}", outcome.err);
    }
}

#[test]
fn run_begins_or_says_why_not_whatever_is_denied() {
    only!(Who::Us; "runc and crun wait for ever for some of these");
    for call in CALLS {
        for (action, rule) in actions() {
            for no_new_privileges in [true, false] {
                let what = format!("{call} {action} no_new_privs {no_new_privileges}");
                let world = denying(&[call], &rule, no_new_privileges, &["true"]);
                must_be_right(&what, call, &world.run());
            }
        }
    }
}

#[test]
fn create_and_start_begin_or_say_why_not_whatever_is_denied() {
    only!(Who::Us; "runc and crun wait for ever for some of these");
    for calls in [&["read"][..], &["write"], &["exit_group"], &["execve"], &["execve", "write", "exit_group"]] {
        for (action, rule) in actions() {
            for no_new_privileges in [true, false] {
                let what = format!("{calls:?} {action} no_new_privs {no_new_privileges}");
                let world = denying(calls, &rule, no_new_privileges, &["true"]);
                world.create().ok();
                must_be_right(&what, calls[0], &world.call(&["start", &world.id]));
                world.wait_for_status("stopped");
                world.call(&["delete", &world.id]).ok();
            }
        }
    }
}

#[test]
fn exec_begins_or_says_why_not_whatever_is_denied() {
    only!(Who::Us; "runc and crun wait for ever for some of these");
    for call in ["read", "write", "exit_group", "capset", "close_range", "execve"] {
        for (action, rule) in actions() {
            for no_new_privileges in [true, false] {
                let what = format!("{call} {action} no_new_privs {no_new_privileges}");
                let mut world = World::running(&["sleep", "1000"]);
                *world.at("/process/noNewPrivileges") = json!(no_new_privileges);
                world.begin();
                // A profile that lets init begin, and then another profile.
                let path = world.path(&format!("state/{}/config.json", world.id));
                let denied = denying(&[call], &rule, no_new_privileges, &["true"]);
                std::fs::write(&path, denied.config.to_string()).unwrap();
                must_be_right(&what, call, &world.exec(&["true"]));
            }
        }
    }
}

#[test]
fn a_profile_that_allows_nothing_ends_with_words_and_leaves_nothing() {
    only!(Who::Us; "runc and crun wait for ever for some of these");
    for action in ["ERRNO", "TRACE", "TRAP", "KILL", "KILL_THREAD", "KILL_PROCESS"] {
        for (no_new_privileges, uid) in [(true, 0), (false, 0), (true, 1000), (false, 1000)] {
            let what = format!("{action} no_new_privs {no_new_privileges} uid {uid}");
            let mut world = World::running(&["true"]);
            *world.at("/linux/seccomp") = json!({"defaultAction": format!("SCMP_ACT_{action}")});
            *world.at("/process/noNewPrivileges") = json!(no_new_privileges);
            *world.at("/process/user") = json!({"uid": uid, "gid": uid});
            must_be_right(&what, "execve", &world.run());
            world.assert_clean();
            world.create().ok();
            must_be_right(&what, "execve", &world.call(&["start", &world.id]));
        }
    }
}

/// As with runc and crun: only what the profile denies to the program matters.
#[test]
fn a_program_that_does_not_read_needs_no_read() {
    for no_new_privileges in [true, false] {
        if no_new_privileges || crate::world::who() == Who::Us {
            let rule = json!({"action": "SCMP_ACT_ERRNO"});
            denying(&["read", "readv", "pread64"], &rule, no_new_privileges, &["true"]).run().ok();
        }
    }
}

const RIGHTS: &str = "grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp:)' /proc/self/status";

/// The capability for the filter is dropped at the exec: the rights are the same with and without a filter.
#[test]
fn a_filter_changes_nothing_of_what_the_process_may_do() {
    needs_root!("ids of other users");
    let some = json!(["CAP_KILL", "CAP_CHOWN", "CAP_NET_BIND_SERVICE"]);
    let (one, none, admin) = (json!(["CAP_KILL"]), json!([]), json!(["CAP_KILL", "CAP_SYS_ADMIN"]));
    let sets = [
        [&some, &some, &some, &none, &none],
        [&some, &some, &some, &one, &one],
        [&some, &one, &one, &some, &none],
        [&admin, &admin, &admin, &admin, &admin],
        [&admin, &one, &one, &none, &none],
        [&none, &none, &none, &none, &none],
    ];
    for [bounding, effective, permitted, inheritable, ambient] in sets {
        for (uid, no_new_privileges) in [(0, true), (0, false), (1000, true), (1000, false)] {
            for users in [false, true] {
                let look = |filter: Option<&Value>| {
                    let world = |args: &[&str]| {
                        let mut world = World::running(args);
                        *world.at("/process/capabilities") = json!({
                            "bounding": bounding, "effective": effective, "permitted": permitted,
                            "inheritable": inheritable, "ambient": ambient,
                        });
                        *world.at("/process/user") = json!({"uid": uid, "gid": uid, "additionalGids": [5]});
                        *world.at("/process/noNewPrivileges") = json!(no_new_privileges);
                        if users {
                            world.namespace("user", None);
                            let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
                            *world.at("/linux/uidMappings") = map.clone();
                            *world.at("/linux/gidMappings") = map;
                            // The container's root must be able to make the mount points.
                            finish(Command::new("chown").args(["-hR", "100000:100000"]).arg(world.rootfs(""))).ok();
                        }
                        if let Some(filter) = filter {
                            *world.at("/linux/seccomp") = filter.clone();
                        }
                        world
                    };
                    let first = world(&["sh", "-c", RIGHTS]).run().ok();
                    let further = world(&["sleep", "1000"]);
                    further.begin();
                    first + &further.exec(&["sh", "-c", RIGHTS]).ok()
                };
                let harmless = json!({"defaultAction": "SCMP_ACT_ALLOW",
                    "syscalls": [{"names": ["swapon"], "action": "SCMP_ACT_ERRNO"}]});
                let (without, with) = (look(None), look(Some(&harmless)));
                let what = format!("{effective} uid {uid} no_new_privs {no_new_privileges} users {users}");
                assert!(without.contains("Seccomp:\t0") && with.contains("Seccomp:\t2"), "{with}");
                assert_eq!(with.replace("Seccomp:\t2", "Seccomp:\t0"), without, "{what}");
            }
        }
    }
}

/// A hook has the same filter as the process, and a message names a call that the profile denies to it.
#[test]
fn a_hook_that_the_profile_forbids_is_reported() {
    only!(Who::Us; "runc and crun load the filter after these hooks, or before, by version");
    for (action, rule) in actions() {
        for no_new_privileges in [true, false] {
            let what = format!("{action} no_new_privs {no_new_privileges}");
            for calls in [&["execve"][..], &["execve", "write", "exit_group", "close"]] {
                let mut world = denying(calls, &rule, no_new_privileges, &["true"]);
                world.config["hooks"] = json!({"startContainer": [{"path": "/bin/true"}]});
                let outcomes = [world.run(), {
                    world.create().ok();
                    world.call(&["start", &world.id])
                }];
                for outcome in outcomes.iter().filter(|_| action != "LOG") {
                    assert_ne!(outcome.code(), 0, "{what}");
                    let said = &outcome.err;
                    assert!(said.contains("hooks.startContainer[0]: "), "{what}: {said}");
                    assert!(said.contains("#0: execve /bin/true: ") || said.contains("SIGSYS"), "{what}: {said}");
                }
                assert!(action != "LOG" || outcomes.iter().all(|outcome| outcome.code() == 0), "{what}");
            }
        }
    }
}

#[test]
fn a_terminal_makes_no_difference() {
    only!(Who::Us; "runc and crun wait for ever for some of these");
    for call in CALLS {
        for action in [json!({"action": "SCMP_ACT_ERRNO"}), json!({"action": "SCMP_ACT_KILL_PROCESS"})] {
            let mut world = denying(&[call], &action, true, &["true"]);
            *world.at("/process/terminal") = json!(true);
            must_be_right(&format!("{call} {action}"), call, &world.run());
        }
    }
}

/// An agent that receives the listener. If `keeps`, it holds the listener without an answer; otherwise it closes it.
fn silent_agent(world: &World, keeps: bool) -> std::sync::mpsc::Receiver<Option<UnixStream>> {
    let listener = UnixListener::bind(world.path("agent.sock")).unwrap();
    let (sender, taken) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            if !keeps {
                // If a message is not received, its descriptor is closed.
                std::io::Read::read(&mut &stream, &mut [0; 4096]).unwrap();
            }
            let _ = sender.send(keeps.then_some(stream));
        }
    });
    taken
}

fn notifying(calls: &[&str], no_new_privileges: bool) -> World {
    let mut world = denying(calls, &json!({"action": "SCMP_ACT_NOTIFY"}), no_new_privileges, &["true"]);
    *world.at("/linux/seccomp/listenerPath") = json!(world.path("agent.sock"));
    world
}

#[test]
fn an_agent_that_is_gone_ends_what_waits_for_it_with_words() {
    only!(Who::Us; "the words are ours");
    for no_new_privileges in [true, false] {
        for call in ["read", "execve"] {
            let world = notifying(&[call], no_new_privileges);
            let _taken = silent_agent(&world, false);
            let said = world.run().fails();
            let wanted = format!("linux.seccomp: {call}");
            assert!(said.contains(&wanted) && said.contains("the profile denies it"), "{said}");
            world.assert_clean();
        }
    }
}

/// SIGTERM ends the runtime, and with it the init that waits for its agent.
#[test]
fn an_agent_that_never_answers_does_not_block_a_signal_to_end() {
    only!(Who::Us; "runc and crun leave the container");
    for (verb, call) in [("create", "read"), ("run", "read"), ("run", "execve")] {
        let world = notifying(&[call], true);
        let taken = silent_agent(&world, true);
        world.write();
        let mut runtime = world.command(&[verb, &world.id]);
        let mut runtime = runtime.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let _stream = taken.recv().unwrap();
        let pid = rustix::process::Pid::from_child(&runtime);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        crate::world::wait_until("the runtime ends", || runtime.try_wait().unwrap().is_some());
        world.assert_clean();
    }
}

/// Until it is ready, init ends with its runtime, however the runtime is killed: here while it waits for a hook.
#[test]
fn an_init_that_is_not_ready_ends_with_its_runtime() {
    only!(Who::Us; "runc's and crun's init goes on");
    let mut world = World::running(&["true"]);
    let (init, inside) = (world.path("init"), world.path("inside"));
    let script = |file: &std::path::Path, then: &str| json!([{"path": "/bin/sh", "args": ["sh", "-c", format!("cat > {0}.new; mv {0}.new {0}; {then}", file.display())]}]);
    world.config["hooks"] =
        json!({"createRuntime": script(&init, "true"), "createContainer": script(&inside, "exec sleep 1000")});
    world.write();
    let mut runtime = world.command(&["create", &world.id]);
    let mut runtime = runtime.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    crate::world::wait_until("init's hook runs", || inside.exists());
    let state: Value = serde_json::from_str(&std::fs::read_to_string(&init).unwrap()).unwrap();
    let init = i32::try_from(state["pid"].as_i64().unwrap()).unwrap();
    assert!(crate::life::alive(init));
    runtime.kill().unwrap();
    runtime.wait().unwrap();
    crate::world::wait_until("init ends", || !crate::life::alive(init));
    world.call(&["delete", "--force", &world.id]).ok();
}
