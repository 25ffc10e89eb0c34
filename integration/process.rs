//! `process`: the properties of the program, for a container's init and for exec.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;

use serde_json::{Value, json};

use crate::namespaces::with_users;
use crate::world::{Outcome, Who, World, finish, who};
use crate::{needs, needs_root, only};

/// Runs the same command as init and by exec, in two containers that `with` has changed.
#[track_caller]
fn both(args: &[&str], with: impl Fn(&mut World)) -> [Outcome; 2] {
    let mut first = World::running(args);
    with(&mut first);
    let init = first.run();
    let mut second = World::running(&["sleep", "1000"]);
    with(&mut second);
    second.begin();
    [init, exec(&second, args)]
}

/// Runs the container's own process object with other arguments. crun 1.8 reads that only from a file.
#[track_caller]
fn exec(world: &World, args: &[&str]) -> Outcome {
    if who() != Who::Crun {
        return world.exec(args);
    }
    let mut process = world.config["process"].clone();
    process["args"] = json!(args);
    let path = world.path("process.json");
    fs::write(&path, process.to_string()).unwrap();
    world.call(&["exec", "--process", path.to_str().unwrap(), &world.id])
}

/// Asserts that both print this.
#[track_caller]
pub fn both_say(expected: &str, args: &[&str], with: impl Fn(&mut World)) {
    for ran in both(args, with) {
        assert_eq!(ran.ok(), expected);
    }
}

/// Asserts that `run` fails with these words, and leaves nothing.
#[track_caller]
pub fn refused(words: &str, with: impl Fn(&mut World)) {
    let mut world = World::running(&["true"]);
    with(&mut world);
    let said = world.run().fails();
    assert!(who() != Who::Us || said.contains(words), "{words:?} is not in {said:?}");
    world.assert_clean();
}

pub fn set<'v>(pointer: &'v str, value: &'v Value) -> impl Fn(&mut World) + 'v {
    move |world| *world.at(pointer) = value.clone()
}

// --- cwd

#[test]
fn a_missing_cwd_is_made() {
    both_say("/made/below\n0\n", &["sh", "-c", "pwd; stat -c %u ."], set("/process/cwd", &json!("/made/below")));
}

#[test]
fn a_cwd_must_be_absolute() {
    only!(Who::Us, Who::Runc; "crun 1.8 takes it");
    refused("process.cwd: \"made\" is not absolute", set("/process/cwd", &json!("made")));
}

#[test]
fn a_cwd_that_is_not_a_directory_is_reported() {
    refused("process.cwd: ", set("/process/cwd", &json!("/bin/busybox")));
}

#[test]
fn a_cwd_that_the_user_may_not_enter_is_entered_as_root() {
    both_say("/private\n", &["pwd"], |world| {
        fs::create_dir(world.rootfs("private")).unwrap();
        fs::set_permissions(world.rootfs("private"), fs::Permissions::from_mode(0o700)).unwrap();
        *world.at("/process/cwd") = json!("/private");
        *world.at("/process/user") = json!({"uid": 1000, "gid": 1000});
    });
}

// --- env and HOME

#[test]
fn the_last_of_several_entries_wins_and_newlines_stay() {
    let env = json!(["PATH=/bin", "A=1", "B=x\ny", "A=2", "EMPTY="]);
    both_say("2|x\ny|\n", &["sh", "-c", "echo \"$A|$B|$EMPTY\""], set("/process/env", &env));
}

#[test]
fn nothing_of_ours_is_in_the_environment() {
    only!(Who::Us; "runc and crun put HOME elsewhere");
    both_say("PATH=/bin\nTERM=xterm\nHOME=/\n", &["env"], |_| {});
}

#[test]
fn an_entry_without_an_assignment_is_refused() {
    only!(Who::Us, Who::Runc; "crun 1.8 passes it on");
    refused("process.env[1]: \"nonsense\" is not NAME=value", set("/process/env", &json!(["PATH=/bin", "nonsense"])));
}

#[test]
fn home_is_the_users_of_the_containers_own_passwd() {
    let passwd = "root:x:0:0::/root:/bin/sh\n1000:x:7:7::/wrong:\nuser:x:1000:1000::/home/user:/bin/sh\n";
    both_say("/home/user\n", &["sh", "-c", "echo $HOME"], |world| {
        fs::write(world.rootfs("etc/passwd"), passwd).unwrap();
        *world.at("/process/user") = json!({"uid": 1000, "gid": 1000});
    });
    both_say("/given\n", &["sh", "-c", "echo $HOME"], |world| {
        fs::write(world.rootfs("etc/passwd"), passwd).unwrap();
        *world.at("/process/env") = json!(["PATH=/bin", "HOME=/given"]);
    });
}

/// A home that is too long for a path is an error. Earlier versions of coracle used `/` for every home above 506 bytes.
#[test]
fn a_home_is_as_long_as_a_path_can_be() {
    only!(Who::Us; "runc and crun take any");
    let passwd = |length: usize| format!("user:x:1000:1000::/{}:/bin/sh\n", "h".repeat(length - 1));
    let mut world = World::running(&["sh", "-c", "echo ${#HOME}"]);
    world.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    fs::write(world.rootfs("etc/passwd"), passwd(4095)).unwrap();
    assert_eq!(world.run().ok(), "4095\n");
    fs::write(world.rootfs("etc/passwd"), passwd(4096)).unwrap();
    let said = world.run().fails();
    assert!(said.contains("HOME of uid 1000 from /etc/passwd: it is longer than 4095 bytes"), "{said}");
}

/// The image's /etc/passwd is a link to a file of proc that looks like a passwd file. `run` and `exec` do not read it.
#[test]
fn home_is_not_read_from_a_file_of_proc() {
    only!(Who::Us; "runc and crun read what the link names");
    let mut world = World::running(&["sleep", "1000"]);
    let parameter = "x:x:1000:1000::/from/proc:";
    *world.at("/linux/sysctl") = json!({"kernel.domainname": parameter});
    world.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    std::os::unix::fs::symlink("/proc/sys/kernel/domainname", world.rootfs("etc/passwd")).unwrap();
    world.begin();
    assert_eq!(world.exec(&["cat", "/etc/passwd"]).ok().trim(), parameter);
    assert_eq!(
        world.exec(&["sh", "-c", "echo $HOME; tr '\\0' '\\n' </proc/1/environ"]).ok().matches("HOME=/\n").count(),
        1
    );
    assert_eq!(world.exec(&["sh", "-c", "echo $HOME"]).ok(), "/\n");
}

#[test]
fn home_is_found_behind_a_megabyte_of_others() {
    let mut passwd: String = (2000..40_000).map(|n| format!("u{n}:x:{n}:{n}:some body:/home/u{n}:/bin/sh\n")).collect();
    // A line that is longer than any buffer.
    passwd.push_str(&format!("long:x:1:1:{}:/long:/bin/sh\n", "x".repeat(100_000)));
    passwd.push_str("user:x:1000:1000::/home/user:/bin/sh");
    assert!(passwd.len() > 1 << 20);
    let mut world = World::running(&["sh", "-c", "echo $HOME"]);
    world.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    fs::write(world.rootfs("etc/passwd"), passwd).unwrap();
    assert_eq!(world.run().ok(), "/home/user\n");
}

#[test]
fn a_hostile_passwd_does_no_harm() {
    only!(Who::Us; "runc and crun open it as they find it");
    let home = ["sh", "-c", "echo $HOME"];
    both_say("/\n", &home, |world| {
        let path = std::ffi::CString::new(world.rootfs("etc/passwd").to_str().unwrap()).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o666),
            0,
        )
        .unwrap();
    });
    both_say("/\n", &home, |world| fs::create_dir(world.rootfs("etc/passwd")).unwrap());
    both_say("/\n", &home, |world| symlink("passwd", world.rootfs("etc/passwd")).unwrap());
    both_say("/\n", &home, |world| symlink("x".repeat(300), world.rootfs("etc/passwd")).unwrap());
    both_say("/\n", &home, |world| drop(UnixListener::bind(world.rootfs("etc/passwd")).unwrap()));
    both_say("/\n", &home, |world| {
        let outside = world.path("outside");
        fs::write(&outside, "root:x:0:0::/outside:\n").unwrap();
        symlink(format!("../../../../../../../..{}", outside.display()), world.rootfs("etc/passwd")).unwrap();
    });
    both_say("/\n", &home, |world| fs::write(world.rootfs("etc/passwd"), vec![0xff; 200_000]).unwrap());
    both_say("/\n", &home, |world| fs::write(world.rootfs("etc/passwd"), "root:x:0:0::relative:\n").unwrap());
    // A sparse file without data.
    both_say("/\n", &home, |world| {
        fs::File::create(world.rootfs("etc/passwd")).unwrap().set_len(20 << 30).unwrap();
    });
}

// --- args

#[test]
fn a_program_is_looked_for_in_the_containers_path() {
    both_say("found\n", &["hello"], |world| {
        fs::create_dir(world.rootfs("own")).unwrap();
        fs::write(world.rootfs("own/hello"), "#!/bin/sh\necho found\n").unwrap();
        fs::set_permissions(world.rootfs("own/hello"), fs::Permissions::from_mode(0o755)).unwrap();
        *world.at("/process/env") = json!(["PATH=/nowhere:/own:/bin"]);
    });
}

#[test]
fn a_script_without_its_interpreter_is_passed_over() {
    only!(Who::Us; "runc and crun try the first one alone");
    let scripts = |world: &mut World| {
        for (directory, interpreter) in [("first", "/nothing"), ("second", "/bin/sh")] {
            fs::create_dir(world.rootfs(directory)).unwrap();
            let file = world.rootfs(directory).join("hello");
            fs::write(&file, format!("#!{interpreter}\necho {directory}\n")).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        }
        *world.at("/process/env") = json!(["PATH=/first:/second:/bin"]);
    };
    both_say("second\n", &["hello"], scripts);
}

#[test]
fn without_path_the_usual_places_are_searched() {
    only!(Who::Us; "runc 1.1 and crun 1.8 do not search without PATH");
    both_say("x\n", &["echo", "x"], set("/process/env", &json!([])));
}

#[test]
fn create_reports_a_program_that_cannot_run_in_the_words_that_engines_match() {
    let cases = [
        ("nothing", "executable file not found in $PATH"),
        ("/bin/nothing", "no such file or directory"),
        ("/etc", "is a directory"),
        ("/etc/file", "permission denied"),
    ];
    for (program, words) in cases {
        let plain = |world: &mut World| fs::write(world.rootfs("etc/file"), "").unwrap();
        let mut world = World::running(&[program]);
        plain(&mut world);
        let said = world.create().fails();
        assert!(who() != Who::Us || said.contains(words), "{program}: {said}");
        world.assert_clean();
        let mut world = World::running(&["sleep", "1000"]);
        plain(&mut world);
        world.begin();
        let ran = world.exec(&[program]);
        assert_ne!(ran.code(), 0);
        assert!(who() != Who::Us || ran.err.contains(words), "{program}: {}", ran.err);
    }
}

#[test]
fn a_program_only_root_may_run_is_refused_to_a_user() {
    for ran in both(&["/bin/mine"], |world| {
        fs::copy("/bin/busybox", world.rootfs("bin/mine")).unwrap();
        fs::set_permissions(world.rootfs("bin/mine"), fs::Permissions::from_mode(0o700)).unwrap();
        *world.at("/process/user") = json!({"uid": 1000, "gid": 1000});
    }) {
        assert!(ran.fails().to_lowercase().contains("permission denied"));
    }
}

#[test]
fn no_arguments_are_refused() {
    refused("process.args: is empty or missing", set("/process/args", &json!([])));
    refused("process.args[0]: exec: \"\": executable file not found in $PATH", set("/process/args", &json!([""])));
}

// --- rlimits

/// Type, value, and the name of the line in /proc/PID/limits.
const LIMITS: [(&str, u64, &str); 16] = [
    ("RLIMIT_CPU", 1000, "Max cpu time"),
    ("RLIMIT_FSIZE", 1_000_000_000, "Max file size"),
    ("RLIMIT_DATA", 9_000_000_000, "Max data size"),
    ("RLIMIT_STACK", 1_048_576, "Max stack size"),
    ("RLIMIT_CORE", 0, "Max core file size"),
    ("RLIMIT_RSS", 500_000_000, "Max resident set"),
    ("RLIMIT_NPROC", 5000, "Max processes"),
    ("RLIMIT_NOFILE", 64, "Max open files"),
    ("RLIMIT_MEMLOCK", 65536, "Max locked memory"),
    ("RLIMIT_AS", 9_000_000_000, "Max address space"),
    ("RLIMIT_LOCKS", 100, "Max file locks"),
    ("RLIMIT_SIGPENDING", 100, "Max pending signals"),
    ("RLIMIT_MSGQUEUE", 8192, "Max msgqueue size"),
    ("RLIMIT_NICE", 0, "Max nice priority"),
    ("RLIMIT_RTPRIO", 0, "Max realtime priority"),
    ("RLIMIT_RTTIME", 100_000, "Max realtime timeout"),
];

#[test]
fn every_limit_is_set() {
    let limits: Vec<_> =
        LIMITS.iter().map(|(name, value, _)| json!({"type": name, "soft": value, "hard": value})).collect();
    for ran in both(&["cat", "/proc/self/limits"], set("/process/rlimits", &json!(limits))) {
        let text = ran.ok();
        for (name, value, line) in LIMITS {
            let found = text.lines().find(|there| there.starts_with(line)).unwrap_or_default();
            let fields: Vec<_> = found[line.len()..].split_whitespace().collect();
            let value = value.to_string();
            assert_eq!(fields[..2], [&value, &value], "{name}: {found}");
        }
    }
}

#[test]
fn tiny_limits_do_not_get_in_our_way() {
    only!(Who::Us; "runc needs descriptors, memory and threads of its own in init");
    for (name, value) in
        [("NOFILE", 3), ("AS", 4 << 20), ("DATA", 1 << 20), ("NPROC", 1), ("FSIZE", 0), ("STACK", 1 << 17)]
    {
        let limit = json!([{"type": format!("RLIMIT_{name}"), "soft": value, "hard": value}]);
        for ran in both(&["/bin/busybox", "true"], set("/process/rlimits", &limit)) {
            assert_eq!(ran.code(), 0, "{name}: {}", ran.err);
        }
    }
}

#[test]
fn a_limit_twice_or_of_no_known_type_is_refused() {
    only!(Who::Us; "the others take the last");
    let twice = json!([{"type": "RLIMIT_CPU", "soft": 1, "hard": 1}, {"type": "RLIMIT_CPU", "soft": 2, "hard": 2}]);
    refused("process.rlimits[1].type: a second RLIMIT_CPU", set("/process/rlimits", &twice));
    refused(
        "process.rlimits[0].type: unknown value \"RLIMIT_X\"",
        set("/process/rlimits", &json!([{"type": "RLIMIT_X", "soft": 1, "hard": 1}])),
    );
    refused(
        "process.rlimits[0]: soft 2 is above hard 1",
        set("/process/rlimits", &json!([{"type": "RLIMIT_CPU", "soft": 2, "hard": 1}])),
    );
}

// --- capabilities

const CAPS: [&str; 3] = ["sh", "-c", "grep Cap /proc/self/status | sed 's/.*\\t//'"];

/// Inheritable, permitted, effective, bounding, ambient, in the format of /proc.
fn five(sets: [u64; 5]) -> String {
    sets.iter().map(|set| format!("{set:016x}\n")).collect()
}

#[test]
fn no_capabilities_object_drops_everything() {
    both_say(&five([0; 5]), &CAPS, |world| {
        world.at("/process").as_object_mut().unwrap().remove("capabilities");
    });
}

#[test]
fn each_set_is_as_requested() {
    let all = json!(["CAP_CHOWN", "CAP_KILL"]);
    let sets = json!({"bounding": all, "permitted": all, "effective": ["CAP_KILL"], "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]});
    // At an exec, root gets the bounding set, whatever its effective set was (capabilities(7)).
    both_say(&five([1 << 5, 0x21, 0x21, 0x21, 1 << 5]), &CAPS, set("/process/capabilities", &sets));
}

#[test]
fn a_users_ambient_capabilities_live_on() {
    let kill = json!(["CAP_KILL"]);
    let sets = json!({"bounding": ["CAP_KILL", "CAP_CHOWN"], "permitted": ["CAP_KILL", "CAP_CHOWN"], "effective": kill, "inheritable": kill, "ambient": kill});
    both_say(&five([1 << 5, 1 << 5, 1 << 5, 0x21, 1 << 5]), &CAPS, |world| {
        *world.at("/process/capabilities") = sets.clone();
        *world.at("/process/user") = json!({"uid": 1000, "gid": 1000});
    });
    both_say(&five([0, 0, 0, 0x21, 0]), &CAPS, |world| {
        *world.at("/process/capabilities") =
            json!({"bounding": ["CAP_KILL", "CAP_CHOWN"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"]});
        *world.at("/process/user") = json!({"uid": 1000, "gid": 1000});
    });
}

#[test]
fn a_capability_that_cannot_be_given_is_a_warning() {
    only!(Who::Us; "the others say it otherwise or not at all");
    let kill = json!(["CAP_KILL", "CAP_NONSENSE"]);
    for ran in both(&CAPS, |world| {
        *world.at("/process/capabilities") =
            json!({"bounding": kill, "permitted": kill, "effective": kill, "ambient": ["CAP_KILL"]});
    }) {
        assert!(
            ran.err.contains("process.capabilities.bounding[1]: unknown capability \"CAP_NONSENSE\""),
            "{}",
            ran.err
        );
        // Engines have this in every config: it gives no warning.
        assert!(!ran.err.contains("ambient"), "{}", ran.err);
        assert_eq!(ran.ok(), five([0, 1 << 5, 1 << 5, 1 << 5, 0]));
    }
}

#[test]
fn a_capability_that_we_lack_is_a_warning() {
    needs_root!("a runtime that gives up what only root has");
    only!(Who::Us; "the others say it otherwise or not at all");
    let mut world = World::running(&CAPS);
    let both = json!(["CAP_KILL", "CAP_CHOWN"]);
    *world.at("/process/capabilities") = json!({"bounding": both, "permitted": both, "effective": both});
    world.write();
    let mut command = std::process::Command::new("setpriv");
    command.args(["--bounding-set", "-chown"]).arg(crate::world::runtime()).current_dir(world.bundle());
    let ran = finish(command.arg("--root").arg(world.path("state")).args(["run", &world.id]));
    assert!(ran.err.contains("process.capabilities.bounding: CAP_CHOWN cannot be given"), "{}", ran.err);
    assert_eq!(ran.ok(), five([0, 1 << 5, 1 << 5, 1 << 5, 0]));
}

#[test]
fn what_would_confine_the_process_is_missed_with_a_warning() {
    only!(Who::Us; "the others say nothing");
    let mut world = World::running(&CAPS);
    world.config["root"]["readOnly"] = json!(true);
    world.config["linux"]["maskedpaths"] = json!(["/proc/keys"]);
    world.config["linux"]["x-mine"] = json!({"SECCOMP": 1});
    world.config["process"].as_object_mut().unwrap().remove("capabilities");
    world.write();
    let ran = world.run();
    let said: Vec<_> = ran.err.lines().filter(|line| line.contains("warning")).collect();
    let about = ["root.readOnly: ", "linux.maskedpaths: ", "process.capabilities: is missing"];
    let found = |place: &&str| said.iter().any(|line| line.contains(*place));
    assert!(said.len() == 3 && about.iter().all(found), "{}", ran.err);
    // those names that runc ignores
    let mut world = World::running(&CAPS);
    let kill = json!(["CAP_KILL", "kill", "CHOWN", "cap_chown", "CAP_CAP_CHOWN"]);
    *world.at("/process/capabilities") = json!({"bounding": kill, "permitted": kill, "effective": kill});
    world.write();
    let ran = world.run();
    assert!(
        ran.err.contains(r#"bounding[2]: unknown capability "CHOWN", ignored: did you mean "CAP_CHOWN"?"#),
        "{}",
        ran.err
    );
    assert_eq!(ran.ok(), five([0, 1 << 5, 1 << 5, 1 << 5, 0]));
}

// --- no_new_privs and seccomp

#[test]
fn a_filter_is_loaded_with_and_without_no_new_privs_for_root_and_a_user() {
    for privileges in [json!(true), json!(false), Value::Null] {
        for uid in [0, 1000] {
            let expected = format!("{}\n2\n", u8::from(privileges == json!(true)));
            both_say(
                &expected,
                &["sh", "-c", "grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status | sed 's/.*\\t//'"],
                |world| {
                    *world.at("/process/user") = json!({"uid": uid, "gid": uid});
                    *world.at("/linux/seccomp") = json!({"defaultAction": "SCMP_ACT_ALLOW",
                    "syscalls": [{"names": ["swapon"], "action": "SCMP_ACT_ERRNO"}]});
                    let process = world.at("/process").as_object_mut().unwrap();
                    process.remove("noNewPrivileges");
                    if !privileges.is_null() {
                        process.insert("noNewPrivileges".to_owned(), privileges.clone());
                    }
                },
            );
        }
    }
}

// --- user

#[test]
fn the_user_is_the_configs_for_exec_too() {
    both_say("uid=7 gid=8 groups=20,21\n", &["id"], |world| {
        *world.at("/process/user") = json!({"uid": 7, "gid": 8, "additionalGids": [20, 21]});
    });
}

#[test]
fn the_callers_groups_are_dropped() {
    needs_root!("a runtime that gives up what only root has");
    let world = World::running(&["sh", "-c", "grep Groups /proc/self/status"]);
    world.write();
    let mut command = std::process::Command::new("setpriv");
    command.args(["--groups", "5,6"]).arg(crate::world::runtime()).current_dir(world.bundle());
    let said = finish(command.arg("--root").arg(world.path("state")).args(["run", &world.id])).ok();
    assert_eq!(said.split_whitespace().count(), 1, "{said}");
}

#[test]
fn many_groups_are_set() {
    let groups: Vec<u32> = (1..=3000).collect();
    let wanted = format!("{}\n", groups.len() + 1);
    both_say(&wanted, &["sh", "-c", "grep Groups /proc/self/status | wc -w"], |world| {
        *world.at("/process/user") = json!({"uid": 0, "gid": 0, "additionalGids": groups});
    });
}

#[test]
fn the_umask_is_0022_unless_said_otherwise() {
    both_say("0022\n", &["sh", "-c", "umask"], |_| {});
    only!(Who::Us, Who::Crun; "runc 1.1 forgets it for exec");
    both_say("0077\n", &["sh", "-c", "umask"], set("/process/user/umask", &json!(0o77)));
}

#[test]
fn a_user_without_a_mapping_is_refused() {
    only!(Who::Us; "the others tell the kernel's word only");
    let mapped = |user: Value| {
        move |world: &mut World| {
            with_users(world);
            *world.at("/linux/uidMappings/0/size") = json!(1000);
            *world.at("/linux/gidMappings/0/size") = json!(1000);
            *world.at("/process/user") = user.clone();
        }
    };
    refused("process.user.uid: ", mapped(json!({"uid": 1000, "gid": 0})));
    refused("process.user.additionalGids[0]: ", mapped(json!({"uid": 0, "gid": 0, "additionalGids": [5000]})));
    both_say("uid=999 gid=999 groups=5\n", &["id"], mapped(json!({"uid": 999, "gid": 999, "additionalGids": [5]})));
}

// --- oom_score_adj

#[test]
fn oom_score_adj_is_set_or_left_alone() {
    let show = ["cat", "/proc/self/oom_score_adj"];
    let own = fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    both_say(&own, &show, |_| {});
    both_say(&own, &show, set("/process/oomScoreAdj", &Value::Null));
    let [init, exec] = both(&show, set("/process/oomScoreAdj", &json!(900)));
    assert_eq!(init.ok(), "900\n");
    // crun 1.8 does not set it for exec.
    assert!(who() == Who::Crun || exec.ok() == "900\n");
    refused("process.oomScoreAdj: 1001 is not in -1000..1000", set("/process/oomScoreAdj", &json!(1001)));
}

#[test]
fn what_we_may_not_lower_is_an_error() {
    let resource = 1u64 << 24;
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:\t")).unwrap();
    needs!(u64::from_str_radix(effective, 16).unwrap() & resource == 0, "we have CAP_SYS_RESOURCE");
    refused(
        "process.oomScoreAdj: write -900 to oom_score_adj: permission denied",
        set("/process/oomScoreAdj", &json!(-900)),
    );
}

#[test]
fn limits_are_set_for_a_process_of_another_user() {
    both_say("100\n200\n1000\n", &["sh", "-c", "ulimit -n; ulimit -Hn; id -u"], |world| {
        *world.at("/process/user") = json!({"uid": 1000, "gid": 1000});
        *world.at("/process/rlimits") = json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]);
    });
}
