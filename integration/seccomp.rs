//! `linux.seccomp` in a container: the effect of each action, and the protection of the cache of compiled filters.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::only;
use crate::world::{Who, World};

const MKDIR: [&str; 3] = ["sh", "-c", "mkdir /dev/shm/x 2>&1; echo $?"];

fn with(action: &str, more: &Value, args: &[&str]) -> World {
    let mut world = World::running(args);
    let mut rule = json!({"names": ["mkdir", "not_a_call"], "action": action});
    rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    *world.at("/linux/seccomp") = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]});
    world
}

#[test]
fn each_action_does_what_it_says() {
    let cases = [
        ("SCMP_ACT_ERRNO", json!({}), "Operation not permitted"),
        ("SCMP_ACT_ERRNO", json!({"errnoRet": 28}), "No space left on device"),
        ("SCMP_ACT_TRACE", json!({}), "Function not implemented"),
        ("SCMP_ACT_KILL", json!({}), "159"),
        ("SCMP_ACT_KILL_THREAD", json!({}), "159"),
        ("SCMP_ACT_KILL_PROCESS", json!({}), "159"),
        ("SCMP_ACT_TRAP", json!({}), "159"),
        ("SCMP_ACT_LOG", json!({}), "0\n"),
        ("SCMP_ACT_ALLOW", json!({}), "0\n"),
    ];
    for (action, more, expected) in cases {
        let said = with(action, &more, &MKDIR).run().ok();
        assert!(said.contains(expected), "{action}: {said}");
    }
}

#[test]
fn an_init_that_is_killed_ends_with_128_and_the_signal() {
    for action in ["SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"] {
        assert_eq!(with(action, &json!({}), &["mkdir", "/dev/shm/x"]).run().code(), 128 + 31, "{action}");
    }
}

#[test]
fn exec_has_the_filter_too() {
    only!(Who::Us, Who::Runc; "crun 1.8 without a process file has none");
    let world = with("SCMP_ACT_ERRNO", &json!({"errnoRet": 28}), &["sleep", "1000"]);
    world.begin();
    assert!(world.exec(&MKDIR).ok().contains("No space left on device"));
}

#[test]
fn a_cache_that_was_tampered_with_is_not_used() {
    only!(Who::Us; "the cache is ours");
    let world = with("SCMP_ACT_ERRNO", &json!({"errnoRet": 28}), &MKDIR);
    let right = world.run().ok();
    let cache = world.path("state/.@cache/seccomp");
    assert_eq!(fs::metadata(&cache).unwrap().permissions().mode() & 0o777, 0o700);
    let file = fs::read_dir(&cache).unwrap().next().unwrap().unwrap().path();
    // One instruction that allows everything.
    fs::write(&file, [6, 0, 0, 0, 0, 0, 0xff, 0x7f]).unwrap();
    assert_eq!(world.run().ok(), right);
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(world.run().ok(), right);
}

/// The calls of busybox, and the calls of runc 1.1 under the filter. runc changes ids by setuid and setgid, other
/// runtimes by setresuid and setresgid.
const RECORDED: &[&str] = &[
    // The program.
    "execve",
    "exit",
    "exit_group",
    "brk",
    "arch_prctl",
    "set_tid_address",
    "set_robust_list",
    "rseq",
    "prlimit64",
    "readlink",
    "readlinkat",
    "getrandom",
    "mprotect",
    "mmap",
    "munmap",
    "read",
    "write",
    "writev",
    "nanosleep",
    "clock_nanosleep",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "getuid",
    "geteuid",
    "getgid",
    "getegid",
    "ioctl",
    "uname",
    // runc.
    "futex",
    "close",
    "fcntl",
    "fstat",
    "newfstatat",
    "fstatfs",
    "openat",
    "epoll_ctl",
    "epoll_pwait",
    "epoll_create1",
    "pipe2",
    "getpid",
    "gettid",
    "tgkill",
    "sched_yield",
    "sigaltstack",
    "madvise",
    "clone",
    "getdents64",
    "lstat",
    "stat",
    "statx",
    "chdir",
    "capget",
    "capset",
    "setuid",
    "setgid",
    "setgroups",
    "getppid",
    "kill",
    "faccessat",
    "faccessat2",
    "access",
    "getcwd",
    "prctl",
    "epoll_pwait2",
    "restart_syscall",
];

#[test]
fn a_profile_that_was_recorded_with_runc_starts() {
    for (no_new_privileges, uid) in [(true, 0), (true, 1000), (false, 0), (false, 1000)] {
        let what = format!("noNewPrivileges {no_new_privileges}, uid {uid}");
        let mut world = World::running(&["sleep", "1000"]);
        *world.at("/process/noNewPrivileges") = json!(no_new_privileges);
        *world.at("/process/user") = json!({"uid": uid, "gid": uid});
        *world.at("/linux/seccomp") = json!({"defaultAction": "SCMP_ACT_ERRNO",
            "syscalls": [{"names": RECORDED, "action": "SCMP_ACT_ALLOW"}]});
        world.begin();
        assert_eq!(world.exec(&["echo", "ok"]).ok(), "ok\n", "{what}");
        let pid = world.pid();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        assert!(status.contains("Seccomp:\t2"), "{what}: {status}");
        assert_eq!(fs::read_to_string(format!("/proc/{pid}/comm")).unwrap(), "sleep\n", "{what}");
    }
}

#[test]
fn debug_tells_the_flags_of_the_filter() {
    only!(Who::Us; "crun tells none, and Debian's runc is older than these words");
    for (flags, number) in [(json!([]), 0), (json!(["SECCOMP_FILTER_FLAG_LOG"]), 2)] {
        let mut world = with("SCMP_ACT_ERRNO", &json!({}), &["true"]);
        *world.at("/linux/seccomp/flags") = flags;
        world.write();
        let ran = world.call(&["--debug", "run", &world.id]);
        assert!(ran.err.contains(&format!("seccomp filter flags: {number}")), "{}", ran.err);
    }
}
