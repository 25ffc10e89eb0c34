//! exec: a further process. It has everything that init has, except what its flags change.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::ordinary::{first, root};
use crate::world::{Outcome, Who, World, finish_with, wait_until, who};
use crate::{needs_cgroup, only};

#[test]
fn exec_runs_a_command_in_the_container_and_gives_its_status() {
    let world = World::running(&["sleep", "1000"]);
    world.begin();
    world.wait_for_status("running");
    assert_eq!(world.exec(&["cat", "/proc/1/comm"]).ok(), "sleep\n");
    assert_eq!(world.exec(&["sh", "-c", "exit 9"]).code(), 9);
    assert_eq!(world.exec(&["sh", "-c", "kill -9 $$"]).code(), 137);
    assert_eq!(world.exec(&["sh", "-c", "kill -TERM $$"]).code(), 143);
    let host = fs::read_to_string(format!("/proc/{}/comm", world.pid())).unwrap();
    assert_eq!(host, "sleep\n");
}

#[test]
fn input_and_output_are_the_callers() {
    let world = World::running(&["sleep", "1000"]);
    world.begin();
    let mut command = world.command(&["exec", &world.id, "sh", "-c", "cat; echo err >&2"]);
    let large = "x".repeat(300_000);
    let outcome = finish_with(&mut command, large.as_bytes());
    assert_eq!(outcome.err, "err\n");
    assert_eq!(outcome.ok(), large);
}

/// Calls exec with flags, which come before the id.
#[track_caller]
fn flagged(world: &World, flags: &[&str], command: &[&str]) -> Outcome {
    world.call(&[&["exec"], flags, &[world.id.as_str()], command].concat())
}

#[test]
fn a_program_that_cannot_run_gives_255_in_the_words_that_engines_match() {
    let world = World::running(&["sleep", "1000"]);
    world.begin();
    let us = who() == Who::Us;
    let failed_with = |flags: &[&str], args: &[&str]| {
        let outcome = flagged(&world, flags, args);
        assert!(!us || outcome.code() == 255, "{args:?}: {}", outcome.code());
        assert!(!us || outcome.err.contains("exec failed: "), "{}", outcome.err);
        outcome.fails()
    };
    let failed = |args: &[&str]| failed_with(&[], args);
    let said = failed(&["nope"]);
    assert!(!us || said.contains("executable file not found in $PATH"), "{said}");
    let said = failed(&["/nope"]);
    assert!(!us || said.contains("no such file or directory"), "{said}");
    let said = failed(&["/etc"]);
    assert!(!us || said.contains("is a directory"), "{said}");
    fs::write(world.rootfs("etc/plain"), "").unwrap();
    let said = failed(&["/etc/plain"]);
    assert!(!us || said.contains("permission denied"), "{said}");
    let said = failed_with(&["--cwd", "/etc/plain"], &["true"]);
    assert!(!us || said.contains("process.cwd"), "{said}");
    failed_with(&["--cwd", "relative"], &["true"]);
    failed(&[]);
    // It stays outside of the container.
    let pids: Vec<i32> = serde_json::from_str(&world.call(&["ps", "--format", "json", &world.id]).ok()).unwrap();
    assert_eq!(pids, [world.pid()]);
}

/// Prints what a process is and may do: lines of /proc/self/status, and more.
const ASK: &str = "grep -E '^(Uid|Gid|Groups|Cap...|NoNewPrivs|Seccomp|Sig(Blk|Ign)):' /proc/self/status; umask; \
                   cat /proc/self/oom_score_adj; cat /proc/self/limits | grep -E 'open files|core'; \
                   for n in mnt uts ipc net pid cgroup user; do readlink /proc/self/ns/$n; done; \
                   echo $PATH $HOME $X; pwd; cat /proc/self/cgroup";

fn furnished(args: &[&str]) -> World {
    let mut world = World::running(args);
    for place in ["tmp", "proc", "dev", "sys"] {
        fs::create_dir(world.rootfs(place)).unwrap();
    }
    fs::write(world.rootfs("etc/passwd"), "root:x:0:0::/root:/bin/sh\nu:x:1000:1000::/home/u:/bin/sh\n").unwrap();
    world.config["process"]["user"] = json!({"uid": 1000, "gid": 1001, "additionalGids": [7, 8], "umask": 0o27});
    world.config["process"]["cwd"] = json!("/tmp");
    world.config["process"]["env"] = json!(["PATH=/bin", "X=1"]);
    world.config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]);
    world.config["process"]["oomScoreAdj"] = json!(123);
    let capabilities = json!(["CAP_KILL", "CAP_CHOWN"]);
    for set in ["bounding", "effective", "permitted", "inheritable", "ambient"] {
        world.config["process"]["capabilities"][set] = capabilities.clone();
    }
    world.config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77}]});
    world
}

#[test]
fn a_further_process_is_all_that_init_is() {
    let script = format!("{ASK}; sleep 1000");
    for user_namespace in [false, true] {
        let mut world = furnished(&["sh", "-c", &script]);
        if user_namespace {
            world.namespace("user", None);
            let map = json!([{"containerID": 0, "hostID": first(), "size": 65536}]);
            world.config["linux"]["uidMappings"] = map.clone();
            world.config["linux"]["gidMappings"] = map;
            // This test is not about raising the score again.
            world.config["process"]["oomScoreAdj"] = json!(200);
        }
        world.write();
        let output = world.path("output");
        let mut run = world.command(&["run", "-d", &world.id]);
        // Not the null device: crun 1.8 changes the owner of standard input, if it belongs to the host, to the
        // process's user.
        fs::write(world.path("input"), "").unwrap();
        let run = run.stdin(fs::File::open(world.path("input")).unwrap()).stdout(fs::File::create(&output).unwrap());
        let ran = run.status().unwrap().success();
        if who() == Who::Crun && user_namespace && !ran {
            break; // it mounts no proc there if the host's is covered in part
        }
        assert!(ran);
        let said = || fs::read_to_string(&output).unwrap();
        wait_until("init has said it all", || {
            said().lines().any(|line| line.starts_with("1:") || line.starts_with("0:"))
        });
        let exec = world.exec(&["sh", "-c", ASK]).ok();
        let init = said();
        if who() == Who::Us {
            assert_eq!(exec, init, "user namespace: {user_namespace}");
            assert!(exec.contains("HOME") || exec.contains("/home/u"), "{exec}");
        }
        assert!(who() == Who::Crun || exec.contains("NoNewPrivs:\t1"), "{exec}");
        if who() != Who::Crun {
            // An object without a score has the container's.
            let object = world.path("object.json");
            let process = json!({"cwd": "/", "env": ["PATH=/bin"], "args": ["cat", "/proc/self/oom_score_adj"]});
            fs::write(&object, process.to_string()).unwrap();
            let score = world.call(&["exec", "--process", object.to_str().unwrap(), &world.id]).ok();
            assert_eq!(score.trim(), world.config["process"]["oomScoreAdj"].to_string());
        }
        assert!(who() == Who::Crun || exec.contains("Seccomp:\t2"), "{exec}");
        assert!(world.exec(&["mkdir", "/tmp/x"]).code() != 0, "the filter is not there");
    }
}

#[test]
fn every_flag_changes_what_it_says() {
    let mut world = furnished(&["sleep", "1000"]);
    world.config["process"]["noNewPrivileges"] = json!(false);
    world.begin();
    only!(Who::Us, Who::Runc; "crun 1.8 wants a PATH for each, and has one form of --env");
    let status = |args: &[&str]| flagged(&world, args, &["sh", "-c", ASK]).ok();
    let us = who() != Who::Crun;

    let plain = status(&[]);
    assert!(plain.contains("NoNewPrivs:\t0"), "{plain}");
    let other = status(&["--user", "5:6"]);
    assert!(other.contains("Uid:\t5\t5\t5\t5\nGid:\t6\t6\t6\t6"), "{other}");
    let other = status(&["-u", "5"]);
    assert!(!us || other.contains("Uid:\t5\t5\t5\t5\nGid:\t1001"), "{other}");
    if us {
        let other = status(&["-g", "33", "-g", "34"]);
        assert!(other.contains("Groups:\t7 8 33 34"), "{other}");
    }
    assert!(status(&["--cwd", "/etc"]).contains("\n/etc\n"));
    // HOME does not depend on the working directory.
    assert!(!us || status(&["--cwd", "/etc"]).contains("/bin /home/u 1"));
    let other = status(&["--env", "X=2", "--env", "HOME=/else"]);
    assert!(other.contains("/bin /else 2"), "{other}");
    // runc accepts only one of the two names at a time.
    let other = if who() == Who::Us { status(&["--env", "X=2", "-e", "X=3"]) } else { status(&["-e", "X=3"]) };
    assert!(other.contains(" 3\n"), "{other}");
    assert!(status(&["--no-new-privs"]).contains("NoNewPrivs:\t1"));
    if us {
        // Added; never to inheritable; to ambient only if inheritable had it.
        let other = status(&["--cap", "CAP_NET_ADMIN", "--cap", "CAP_NET_RAW"]);
        let bits = |name: &str| {
            let line = other.lines().find(|line| line.starts_with(name)).unwrap();
            u64::from_str_radix(line.split('\t').nth(1).unwrap(), 16).unwrap()
        };
        let (own, added) = (0b10_0001u64, 1 << 12 | 1 << 13);
        assert_eq!(bits("CapBnd"), own | added);
        assert_eq!(bits("CapInh"), own);
        assert_eq!(bits("CapAmb"), own);
    }
}

#[test]
fn users_are_numbers_and_nothing_else() {
    // CVE-2026-30892
    let world = World::running(&["sleep", "1000"]);
    world.begin();
    let bad = ["5x", "5:6x", "x", ":", "5:", ":6", "-1", "5:6:7", "+5", " 5", "4294967296", "root", "0x0"];
    for text in bad {
        let outcome = flagged(&world, &["-u", text], &["id"]);
        if who() == Who::Us {
            assert_eq!(outcome.code(), 255, "{text:?}: {}", outcome.out);
            assert!(outcome.err.contains("--user"), "{}", outcome.err);
        }
    }
    assert!(flagged(&world, &["-u", "5:6"], &["id"]).ok().contains("uid=5 gid=6"));
}

/// Writes a process.json for a shell that runs `script`.
fn process(world: &World, script: &str, change: impl Fn(&mut Value)) -> String {
    let mut process = json!({"terminal": false, "user": {"uid": 3, "gid": 4}, "args": ["sh", "-c", script],
        "env": ["PATH=/bin", "Y=yes"], "cwd": "/etc"});
    change(&mut process);
    let path = world.path("process.json");
    fs::write(&path, process.to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_process_file_is_all_there_is() {
    let world = furnished(&["sleep", "1000"]);
    world.begin();
    let file = process(&world, ASK, |_| {});
    let said = world.call(&["exec", "--process", &file, &world.id]).ok();
    assert!(said.contains("Uid:\t3\t3\t3\t3\nGid:\t4\t4\t4\t4"), "{said}");
    assert!(said.contains("\n/etc\n"), "{said}");
    if who() == Who::Us {
        for nothing in ["NoNewPrivs:\t0", "Seccomp:\t2"] {
            assert!(said.contains(nothing), "{nothing} is not in {said}");
        }
        assert!(said.contains("/bin /\n"), "HOME of uid 3, and no X: {said}");
    }
    for change in [json!({"args": []}), json!({"cwd": ""}), json!({"cwd": "relative"}), json!({"args": 5})] {
        let file = process(&world, "true", |process| {
            for (key, value) in change.as_object().unwrap() {
                process[key] = value.clone();
            }
        });
        let failed = world.call(&["exec", "--process", &file, &world.id]);
        assert!(who() == Who::Crun || failed.code() == 255, "{change}: {}", failed.err);
    }
    let failed = world.call(&["exec", "--process", "/no/such/file", &world.id]);
    assert!(failed.code() != 0 && failed.err.to_lowercase().contains("no such file"), "{}", failed.err);
}

#[test]
fn detached_it_writes_its_pid_and_leaves() {
    let mut world = World::running(&["sleep", "1000"]);
    world.config["root"]["readonly"] = json!(false);
    fs::create_dir(world.rootfs("tmp")).unwrap();
    world.begin();
    let pid_file = world.path("pid");
    let file = process(&world, "touch /tmp/began; sleep 555", |process| process["user"] = json!({"uid": 0, "gid": 0}));
    let pid_path = pid_file.to_str().unwrap();
    world.call(&["exec", "--process", &file, "--detach", "--pid-file", pid_path, &world.id]).ok();
    let text = fs::read_to_string(&pid_file).unwrap();
    let pid: i32 = text.parse().expect("a number and no newline");
    wait_until("it runs", || world.rootfs("tmp/began").exists());
    let pids: Vec<i32> = serde_json::from_str(&world.call(&["ps", "--format", "json", &world.id]).ok()).unwrap();
    assert!(pids.contains(&pid) && pids.contains(&world.pid()), "{pids:?}");
    // An exec that fails leaves no pid file.
    let bad = world.path("bad");
    let failed = world.call(&["exec", "-d", "--pid-file", bad.to_str().unwrap(), &world.id, "nope"]);
    failed.fails();
    assert!(who() == Who::Crun || !bad.exists());
    if who() == Who::Us {
        let failed = world.call(&["exec", "-d", "--pid-file", "/no/such/dir/pid", &world.id, "sleep", "444"]);
        assert!(failed.fails().contains("--pid-file"));
        let now: Vec<i32> = serde_json::from_str(&world.call(&["ps", "--format", "json", &world.id]).ok()).unwrap();
        assert!(now.iter().all(|pid| pids.contains(pid)), "sleep 444 is there");
    }
}

#[test]
fn twenty_at_once() {
    let world = World::running(&["sleep", "1000"]);
    world.begin();
    std::thread::scope(|scope| {
        let execs: Vec<_> = (0..20)
            .map(|n: i32| (n, scope.spawn(move || n)))
            .map(|(n, _)| {
                let world = &world;
                scope.spawn(move || (n, world.exec(&["sh", "-c", &format!("echo {n}; exit {n}")])))
            })
            .collect();
        for exec in execs {
            let (n, outcome) = exec.join().unwrap();
            assert_eq!((outcome.code(), outcome.out), (n, format!("{n}\n")), "{}", outcome.err);
        }
    });
    assert_eq!(world.status(), "running");
    let pids: Vec<i32> = serde_json::from_str(&world.call(&["ps", "--format", "json", &world.id]).ok()).unwrap();
    assert_eq!(pids, [world.pid()]);
}

#[test]
fn into_containers_that_share_namespaces() {
    for without in [&["pid"][..], &["network"], &["ipc", "uts"], &["pid", "network", "ipc", "uts"]] {
        let mut world = World::running(&["sleep", "1000"]);
        for kind in without {
            world.without_namespace(kind);
        }
        if !root() {
            // The host's mqueue belongs to the host's root, and there may be none to bind.
            world.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "mqueue");
        }
        if without.contains(&"uts") {
            world.config.as_object_mut().unwrap().remove("hostname");
        }
        world.begin();
        let script = "for n in mnt uts ipc net pid; do readlink /proc/self/ns/$n; done";
        let said = world.exec(&["sh", "-c", script]).ok();
        let pid = world.pid();
        let init: String = ["mnt", "uts", "ipc", "net", "pid"]
            .iter()
            .map(|kind| format!("{}\n", fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap().display()))
            .collect();
        assert_eq!(said, init, "without {without:?}");
    }
}

#[test]
fn into_the_pid_namespace_of_another_container() {
    let pod = World::running(&["sleep", "1000"]);
    pod.begin();
    let mut world = World::running(&["sleep", "1000"]);
    for (kind, file) in [("pid", "pid"), ("network", "net"), ("ipc", "ipc")] {
        world.namespace(kind, Some(&format!("/proc/{}/ns/{file}", pod.pid())));
    }
    if !root() {
        world.in_users_of(&format!("/proc/{}/ns/user", pod.pid()));
    }
    world.begin();
    for _ in 0..10 {
        let own = fs::read_link(format!("/proc/{}/ns/pid", pod.pid())).unwrap();
        assert_eq!(world.exec(&["readlink", "/proc/self/ns/pid"]).ok().trim(), own.to_str().unwrap());
    }
    world.call(&["kill", &world.id, "KILL"]).ok();
    world.wait_for_status("stopped");
    world.call(&["delete", &world.id]).ok();
    assert_eq!(pod.status(), "running");
}

#[test]
fn a_time_namespace_is_joined() {
    only!(Who::Us; "Debian's runc knows none, and crun 1.8 joins none");
    let mut world = World::running(&["sleep", "1000"]);
    world.namespace("time", None);
    world.config["linux"]["timeOffsets"] = json!({"monotonic": {"secs": 86400}, "boottime": {"secs": 1_000_000}});
    world.begin();
    let said = world.exec(&["sh", "-c", "readlink /proc/self/ns/time; cat /proc/uptime"]).ok();
    let pid = world.pid();
    let init = fs::read_link(format!("/proc/{pid}/ns/time")).unwrap();
    assert_eq!(said.lines().next(), init.to_str());
    let uptime: f64 = said.lines().nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(uptime > 1_000_000.0, "{said}");
}

#[test]
fn below_its_cgroup_and_never_above() {
    needs_cgroup!();
    only!(Who::Us, Who::Runc; "crun has one way for it");
    let world = World::running(&["sleep", "1000"]);
    world.begin();
    let cgroups = world.cgroups();
    for cgroup in &cgroups {
        fs::create_dir(cgroup.join("below")).unwrap();
        for file in ["cpuset.cpus", "cpuset.mems"] {
            // Version 2 does not need these, and has them only if they are delegated.
            if cgroup.join("below").join(file).exists() {
                fs::write(cgroup.join("below").join(file), fs::read(cgroup.join(file)).unwrap()).unwrap();
            }
        }
    }
    let said = flagged(&world, &["--cgroup", "below"], &["cat", "/proc/self/cgroup"]).ok();
    assert!(said.contains(&format!("/{}/below\n", world.group())), "{said}");
    let said = world.exec(&["cat", "/proc/self/cgroup"]).ok();
    assert!(!said.contains("below"), "{said}");
    flagged(&world, &["--cgroup", "nope"], &["true"]).fails();
    let said = flagged(&world, &["--cgroup", ".."], &["true"]).fails();
    assert!(said.contains(" .. is not a sub cgroup path"), "{said}");
    flagged(&world, &["--cgroup", "../.."], &["true"]).fails();
    world.call(&["delete", "--force", &world.id]).ok();
    world.assert_clean();
}

#[test]
fn a_sub_cgroup_that_is_not_there_is_refused() {
    needs_cgroup!();
    only!(Who::Us; "runc 1.1 takes an empty prefix, and crun has one way for it");
    let world = World::running(&["sleep", "1000"]);
    world.begin();
    for wrong in [
        &["nonsense:/"][..],
        &[":/"],
        &["pids,:/"],
        &["pid:/"],
        &["pids:/", "pids:/"],
        &["pids:/", "/"],
        &["pids:/nope"],
        &["name=nonsense:/"],
    ] {
        let flags: Vec<_> = wrong.iter().flat_map(|word| ["--cgroup", *word]).collect();
        let said = flagged(&world, &flags, &["true"]);
        assert!(!said.status.success(), "{wrong:?}: {said:?}");
    }
    if Path::new("/sys/fs/cgroup/systemd/cgroup.procs").exists() {
        flagged(&world, &["--cgroup", "name=systemd:/"], &["true"]).ok();
    }
}

#[test]
fn exec_into_a_paused_container_if_requested() {
    needs_cgroup!();
    only!(Who::Us, Who::Runc; "crun has no --ignore-paused");
    let world = World::running(&["sleep", "1000"]);
    world.begin();
    world.call(&["pause", &world.id]).ok();
    std::thread::scope(|scope| {
        let exec = scope.spawn(|| flagged(&world, &["--ignore-paused"], &["echo", "later"]));
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert_eq!(world.status(), "paused");
        world.call(&["resume", &world.id]).ok();
        assert_eq!(exec.join().unwrap().ok(), "later\n");
    });
}

#[test]
fn an_exec_that_comes_as_the_container_ends_never_hangs() {
    for round in 0..15u64 {
        let world = World::running(&["sleep", "0.15"]);
        world.begin();
        std::thread::sleep(std::time::Duration::from_millis(110 + 5 * round));
        let outcome = world.exec(&["true"]);
        let fine = [0, 255, 137, 1];
        assert!(fine.contains(&outcome.code()), "{}: {}", outcome.code(), outcome.err);
    }
}

#[test]
fn descriptors_and_listen_fds_are_passed_and_no_others() {
    let world = World::running(&["sleep", "1000"]);
    world.begin();
    assert!(Path::new("/bin/bash").exists());
    let script = |rest: &str| format!("exec 3</etc/hostname 4</etc/hostname 7</etc/hostname; {rest}");
    let runtime = crate::world::runtime().display().to_string();
    let exec = format!("{runtime} --root {} exec", world.path("state").display());
    let list = "ls /proc/self/fd";
    let call = |rest: String| {
        let mut command = std::process::Command::new("bash");
        crate::world::finish(command.args(["-c", &script(&rest)]).current_dir(world.bundle()))
    };
    let said = call(format!("{exec} --preserve-fds 2 {} {list}", world.id)).ok();
    // One more descriptor is ls's own.
    assert_eq!(said.lines().collect::<Vec<_>>(), ["0", "1", "2", "3", "4", "5"], "{said}");
    let said = call(format!("{exec} {} {list}", world.id)).ok();
    assert_eq!(said.lines().collect::<Vec<_>>(), ["0", "1", "2", "3"], "{said}");
    let failed = call(format!("{exec} --preserve-fds 3 {} {list}", world.id));
    assert!(who() != Who::Us || failed.fails().contains("preserved-fd"), "a gap");
}

/// Runs the runtime with a limit that the shell sets before: `-n 8`.
pub fn limited(world: &World, limit: &str, args: &[&str]) -> Outcome {
    let inner = world.command(args);
    let mut command = std::process::Command::new("bash");
    command.args(["-c", &format!("ulimit {limit}; exec \"$@\""), "bash"]).arg(inner.get_program());
    finish_with(command.args(inner.get_args()).current_dir(world.bundle()), b"")
}

#[test]
fn a_small_stack_is_the_programs_and_not_ours() {
    only!(Who::Us, Who::Runc; "crun was not measured");
    let mut world = World::running(&["sh", "-c", "ulimit -s"]);
    world.config["process"].as_object_mut().unwrap().remove("rlimits");
    world.write();
    assert_eq!(limited(&world, "-s 48", &["run", &world.id]).ok(), "48\n");
    *world.at("/process/args") = json!(["sleep", "1000"]);
    world.begin();
    assert_eq!(limited(&world, "-s 48", &["exec", &world.id, "sh", "-c", "ulimit -s"]).ok(), "48\n");
}

/// SPEC: config.md#linux-process: for a further process as for the first.
#[test]
fn a_capability_of_a_process_file_that_the_kernel_lacks_is_warned_about() {
    only!(Who::Us; "the wording is ours");
    let world = World::running(&["sleep", "1000"]);
    world.begin();
    let process = json!({
        "args": ["true"], "cwd": "/", "user": {"uid": 0, "gid": 0},
        "capabilities": {"bounding": ["CAP_KILL", "CAP_NOPE"]}
    });
    let file = world.path("process.json");
    std::fs::write(&file, process.to_string()).unwrap();
    let outcome = world.call(&["exec", "--process", file.to_str().unwrap(), &world.id]);
    assert_eq!(outcome.code(), 0, "{}", outcome.err);
    let warning = "process.capabilities.bounding[1]: unknown capability \"CAP_NOPE\", ignored";
    assert!(outcome.err.contains(warning), "{}", outcome.err);
}

#[test]
fn a_process_object_without_capabilities_has_those_of_the_containers_process() {
    let world = World::running(&["sh", "-c", "sleep 1000"]);
    world.begin();
    let object = |more: &str| format!(r#"{{"cwd": "/", "args": ["/bin/grep", "CapEff", "/proc/self/status"]{more}}}"#);
    let (file, none) = (world.path("plain.json"), world.path("none.json"));
    fs::write(&file, object("")).unwrap();
    fs::write(&none, object(r#", "capabilities": {}"#)).unwrap();
    let exec = |file: &std::path::Path| world.call(&["exec", "--process", file.to_str().unwrap(), &world.id]).ok();
    let own = world.exec(&["grep", "CapEff", "/proc/self/status"]).ok();
    assert_eq!(exec(&file), own);
    assert_eq!(exec(&none), "CapEff:\t0000000000000000\n");
    assert_ne!(own, exec(&none));
}

#[test]
fn an_unknown_capability_of_a_flag_is_a_warning() {
    let mut world = World::running(&["sleep", "1000"]);
    let set = json!(["CAP_KILL"]);
    *world.at("/process/capabilities") = json!({"bounding": set, "effective": set, "permitted": set});
    world.begin();
    for name in ["CAP_NOPE", "ALL", ""] {
        let outcome = world.call(&[
            "exec",
            "--cap",
            name,
            "--cap",
            "CAP_CHOWN",
            &world.id,
            "grep",
            "CapPrm",
            "/proc/self/status",
        ]);
        let given = u64::from_str_radix(outcome.out.trim().trim_start_matches("CapPrm:\t"), 16).unwrap();
        // crun gives the capabilities of the flags, and not those of the container's process beside them.
        assert!(outcome.code() == 0 && given & 1 == 1, "{name}: {}{}", outcome.out, outcome.err);
        if who() == Who::Us {
            assert_eq!(given, 0b10_0001);
            assert!(outcome.err.contains(&format!("--cap: unknown capability {name:?}, ignored")), "{}", outcome.err);
        }
    }
}

#[test]
fn a_mistake_in_a_process_file_is_reported_with_the_name_of_the_file() {
    let world = World::running(&["sleep", "1000"]);
    world.begin();
    let file = world.path("bundle/process.json");
    for (text, reason) in [
        (r#"{"args": ["true"]}"#, "process.json: cwd: is missing"),
        ("{}", "process.json: cwd: is missing"),
        (r#"{"cwd": "/"}"#, "process.json: args: is empty or missing"),
        (r#"{"cwd": "x", "args": ["true"]}"#, "process.json: cwd: \"x\" is not absolute"),
        (r#"{"cwd": "/", "args": "true"}"#, "process.json: args: expected an array"),
        ("[]", "process.json: expected an object, got an array"),
        ("{", "process.json: is not JSON"),
        ("", "process.json: is empty"),
    ] {
        fs::write(&file, text).unwrap();
        let said = world.call(&["exec", "--process", "process.json", &world.id]).fails();
        if who() == Who::Us {
            assert!(said.contains(reason) && !said.contains("config.json") && !said.contains("user"), "{text}: {said}");
        }
    }
    if who() == Who::Us {
        fs::write(&file, r#"{"ociVersion": "1.0.0", "process": {}}"#).unwrap();
        let said = world.call(&["exec", "--process", "process.json", &world.id]).fails();
        assert!(said.contains("--process process.json: is a config.json: pass only its object `process`"), "{said}");
        for (flag, value, reason) in
            [("--cwd", "x", "--cwd: \"x\" is not"), ("--env", "A", "--env: \"A\" is not NAME=value")]
        {
            let said = world.call(&["exec", flag, value, &world.id, "true"]).fails();
            assert!(said.contains(reason) && !said.contains("config.json"), "{said}");
        }
    }
}
