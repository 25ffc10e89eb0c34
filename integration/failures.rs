//! A failure leaves nothing: no cgroup, mount, process, state directory or pid file, whatever has failed and whenever
//! the command was interrupted. The message names the failure once, in the words that engines match.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::life::alive;
use crate::ordinary::root;
use crate::world::{Outcome, Who, World, finish, wait_until, who};
use crate::{needs_cgroup, only};

/// Calls `create` and `run` after `change` has changed the world. Both must fail and leave nothing. Returns the
/// messages.
#[track_caller]
fn fails_cleanly(args: &[&str], change: impl Fn(&mut World)) -> String {
    let mut said = String::new();
    for verb in ["create", "run"] {
        let mut world = World::running(args);
        world.write();
        change(&mut world);
        let pid_file = world.path("pid");
        let outcome = world.call(&[verb, "--pid-file", pid_file.to_str().unwrap(), &world.id]);
        assert_ne!(outcome.code(), 0, "{verb} goes well: {}", outcome.out);
        nothing_is_left(&world);
        if who() == Who::Us {
            assert_eq!(outcome.code(), 1, "{verb}: {}", outcome.err);
            assert!(!pid_file.exists(), "{verb}: the pid file is left");
            let other = said.replace("create failed", "run failed");
            assert!(said.is_empty() || other == said_without_names(&outcome, &world), "{other}\n{}", outcome.err);
        }
        said = said_without_names(&outcome, &world);
    }
    said
}

/// The message without the parts that differ each time.
fn said_without_names(outcome: &Outcome, world: &World) -> String {
    let directory = world.path("").display().to_string();
    outcome.err.replace(&directory, "DIR/").replace(&world.id, "ID")
}

#[track_caller]
fn nothing_is_left(world: &World) {
    if who() == Who::Us {
        world.assert_clean();
    }
    let here = world.path("");
    let ours = |pid: &str| {
        let cwd = fs::read_link(format!("/proc/{pid}/root")).unwrap_or_default();
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        cwd.starts_with(&here) || String::from_utf8_lossy(&line).contains(here.to_str().unwrap())
    };
    let left: Vec<_> = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().into_string().ok())
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()) && ours(name))
        .collect();
    assert!(left.is_empty() || who() != Who::Us, "processes are left: {left:?}");
}

#[track_caller]
fn has(said: &str, words: &[&str]) {
    if who() == Who::Us {
        for words in words {
            assert!(said.contains(words), "{words:?} is not in {said:?}");
        }
        assert_eq!(said.trim_end().lines().count(), 1, "said once, in one line: {said}");
    }
}

#[test]
fn a_bundle_or_config_that_is_not_right() {
    let world = World::running(&["true"]);
    let missing = world.call(&["create", "--bundle", "/no/such/bundle", &world.id]);
    has(&missing.fails(), &["/no/such/bundle", "no such file or directory"]);
    nothing_is_left(&world);
    let none = world.call(&["create", &world.id]);
    has(&none.fails(), &["config.json", "not found"]);
    nothing_is_left(&world);
    let said = fails_cleanly(&["true"], |world| fs::write(world.bundle().join("config.json"), "{ no json").unwrap());
    has(&said, &["config.json", "line 1"]);
    let said = fails_cleanly(&["true"], |world| {
        fs::remove_file(world.bundle().join("config.json")).unwrap();
        fs::create_dir(world.bundle().join("config.json")).unwrap();
    });
    has(&said, &["config.json", "directory"]);
}

#[test]
fn a_root_that_is_missing_or_a_file() {
    let said = fails_cleanly(&["true"], |world| fs::remove_dir_all(world.rootfs("")).unwrap());
    has(&said, &["root.path", "no such file or directory"]);
    let said = fails_cleanly(&["true"], |world| {
        fs::remove_dir_all(world.rootfs("")).unwrap();
        fs::write(world.bundle().join("rootfs"), "").unwrap();
    });
    has(&said, &["root.path", "/rootfs: ", "not a directory"]);
}

#[test]
fn a_program_of_a_hook_in_the_container_is_named() {
    only!(Who::Us, Who::Runc; "crun names the hook without the kernel's word");
    let mut world = World::running(&["true"]);
    world.config["hooks"] = json!({"startContainer": [{"path": "/bin/is-missing"}]});
    world.write();
    has(&world.run().fails(), &["/bin/is-missing", "no such file or directory"]);
    let said = fails_cleanly(&["sh -c true"], |_| {});
    only!(Who::Us; "our hint");
    has(&said, &["executable file not found in $PATH: each word of a command is one element of args"]);
}

#[test]
fn an_id_in_use_is_refused_and_its_container_is_not_changed() {
    let world = World::running(&["sleep", "1000"]);
    world.begin();
    let (state, cgroups) = (world.state(), world.cgroups());
    has(&world.call(&["create", &world.id]).fails(), &["container with given ID already exists"]);
    has(&world.call(&["run", &world.id]).fails(), &["container with given ID already exists"]);
    assert_eq!((world.state(), world.cgroups()), (state, cgroups));
    assert_eq!(world.exec(&["echo", "here"]).ok(), "here\n");
}

#[test]
fn a_cgroup_in_use_is_refused_and_its_owner_is_not_changed() {
    needs_cgroup!();
    only!(Who::Us, Who::Runc; "crun lets two share");
    let mut world = World::running(&["sleep", "1000"]);
    world.begin();
    let cgroups = world.cgroups();
    world.config["process"]["args"] = json!(["true"]);
    world.write();
    let second = format!("{}-second", world.id);
    let said = world.call(&["create", &second]);
    if who() == Who::Us {
        has(&said.fails(), &["container's cgroup is not empty"]);
    }
    assert_eq!(world.cgroups(), cgroups);
    assert_eq!(world.status(), "running");
}

#[test]
fn mounts_that_cannot_be() {
    let said = fails_cleanly(&["true"], |world| {
        world.mount(json!({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "rox"]}));
        world.write();
    });
    has(&said, &["mounts[6]", "rox"]);
    assert!(who() != Who::Us || said.to_lowercase().contains("unknown parameter"), "{said}");
    let said = fails_cleanly(&["true"], |world| {
        world.mount(json!({"destination": "/mnt", "type": "none", "source": "/no/such/thing", "options": ["bind"]}));
        world.write();
    });
    has(&said, &["mounts[6]", "/no/such/thing", "no such file or directory"]);
    let said = fails_cleanly(&["true"], |world| {
        world.mount(json!({"destination": "/mnt", "type": "nofs", "source": "none"}));
        world.write();
    });
    has(&said, &["mounts[6]", "no such device"]);
}

#[test]
fn a_program_that_is_not_there_is_found_missing_at_create() {
    let said = fails_cleanly(&["nope"], |_| {});
    has(&said, &["process.args", "exec: \"nope\": executable file not found in $PATH"]);
    let said = fails_cleanly(&["/nope"], |_| {});
    has(&said, &["process.args", "/nope", "no such file or directory"]);
    let said = fails_cleanly(&["/etc"], |_| {});
    has(&said, &["process.args", "is a directory"]);
    let said = fails_cleanly(&["/etc/passwd"], |world| fs::write(world.rootfs("etc/passwd"), "").unwrap());
    has(&said, &["process.args", "permission denied"]);
    let said = fails_cleanly(&["/bin/not/a/directory"], |world| fs::write(world.rootfs("bin/not"), "").unwrap());
    has(&said, &["process.args"]);
}

#[test]
fn start_and_run_report_a_program_that_cannot_run() {
    let mut world = World::running(&["/bin/text"]);
    fs::write(world.rootfs("bin/text"), "no program").unwrap();
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(world.rootfs("bin/text"), fs::Permissions::from_mode(0o755)).unwrap();
    world.create().ok();
    let start = world.call(&["start", &world.id]);
    if who() == Who::Us {
        has(&start.fails(), &["process.args", "exec format error"]);
    }
    world.wait_for_status("stopped");
    world.call(&["delete", &world.id]).ok();
    let run = world.run();
    if who() == Who::Us {
        has(&run.fails(), &["process.args", "exec format error"]);
        world.assert_clean();
    }
    // A script whose interpreter is missing.
    fs::write(world.rootfs("bin/text"), "#!/no/interpreter\n").unwrap();
    world.config["root"]["readonly"] = json!(false);
    let run = world.run();
    if who() == Who::Us {
        has(&run.fails(), &["process.args", "no such file or directory"]);
    }
}

#[test]
fn invalid_namespaces() {
    let said = fails_cleanly(&["true"], |world| {
        world.namespace("network", Some("/no/such/ns"));
        world.write();
    });
    let place = if root() { "linux.namespaces[4].path" } else { "linux.namespaces[5].path" };
    has(&said, &[place, "/no/such/ns", "no such file or directory"]);
    let said = fails_cleanly(&["true"], |world| {
        world.namespace("network", Some("/proc/self/ns/uts"));
        world.write();
    });
    has(&said, &[place, "uts", "network"]);
    let said = fails_cleanly(&["true"], |world| {
        world.namespace("network", Some("/etc/passwd"));
        world.write();
    });
    has(&said, &[place, "not a namespace"]);
}

#[test]
fn too_little_memory_is_named() {
    needs_cgroup!();
    only!(Who::Us; "how little is too little is everybody's own");
    for _ in 0..5 {
        let mut world = World::running(&["true"]);
        world.config["linux"]["resources"]["memory"] = json!({"limit": 4096});
        let named = ["linux.resources.memory.limit", "container init was OOM-killed (memory limit too low?)"];
        let created = world.create();
        if created.code() == 0 {
            // The wait needs no more memory than the process has. The start of the program does.
            has(&world.call(&["start", &world.id]).fails(), &named);
            world.wait_for_status("stopped");
            world.call(&["delete", &world.id]).ok();
        } else {
            has(&created.fails(), &named);
        }
        nothing_is_left(&world);
        has(&world.run().fails(), &named);
        nothing_is_left(&world);
    }
}

#[test]
fn limits_and_ids_that_cannot_be() {
    let said = fails_cleanly(&["true"], |world| {
        world.config["process"]["rlimits"] =
            json!([{"type": "RLIMIT_NOFILE", "soft": 1_073_741_816_000u64, "hard": 1_073_741_816_000u64}]);
        world.write();
    });
    has(&said, &["process.rlimits[0]", "RLIMIT_NOFILE"]);
    let said = fails_cleanly(&["true"], |world| {
        world.config["process"]["cwd"] = json!("/etc/passwd");
        fs::write(world.rootfs("etc/passwd"), "").unwrap();
        world.write();
    });
    has(&said, &["process.cwd", "not a directory"]);
}

#[test]
fn places_for_files_and_sockets_that_are_not_there() {
    only!(Who::Us; "the peers only warn, or know no such flag");
    for (flag, terminal) in [("--pid-file", false), ("--pidfd-socket", false), ("--console-socket", true)] {
        let mut world = World::running(&["true"]);
        world.config["process"]["terminal"] = json!(terminal);
        world.write();
        let failed = world.call(&["create", flag, "/no/such/directory/x", &world.id]);
        has(&failed.fails(), &[flag, "/no/such/directory/x"]);
        nothing_is_left(&world);
        if !terminal {
            let failed = world.call(&["run", flag, "/no/such/directory/x", &world.id]);
            has(&failed.fails(), &[flag, "/no/such/directory/x"]);
            nothing_is_left(&world);
        }
    }
}

#[test]
fn terminals_without_a_receiver() {
    let said = {
        let mut world = World::running(&["true"]);
        world.config["process"]["terminal"] = json!(true);
        let said = world.create().fails();
        nothing_is_left(&world);
        said
    };
    if who() == Who::Us {
        has(&said, &["cannot allocate tty if", "will detach without setting console socket"]);
    }
    let world = World::running(&["true"]);
    world.write();
    let failed = world.call(&["create", "--console-socket", "/x", &world.id]);
    if who() == Who::Us {
        has(&failed.fails(), &["cannot use console socket if", "will not detach or allocate tty"]);
    }
}

#[test]
fn all_mistakes_of_a_config_are_reported_together() {
    only!(Who::Us; "the peers tell the first");
    let mut world = World::running(&["true"]);
    world.config["process"]["env"] = json!("PATH=/bin");
    world.config["linux"]["namespaces"][0]["type"] = json!("netwerk");
    world.config["process"]["rlimits"] = json!([{"type": "RLIMIT_NONE", "soft": 1, "hard": 1}]);
    let said = world.create().fails();
    for words in ["process.env", "linux.namespaces[0]", "netwerk", "process.rlimits[0]"] {
        assert!(said.contains(words), "{words} is not in {said}");
    }
}

/// A terminal obeys neither a name in the message nor the log.
#[test]
fn a_message_shows_control_characters() {
    only!(Who::Us; "runc and crun print them");
    let mut world = World::running(&["true"]);
    world.mount(
        json!({"destination": "/a\u{1b}[31m\ncoracle: \u{9b}b\u{202e}", "type": "bind", "source": "/no\u{1b}where\n", "options": ["bind"]}),
    );
    world.write();
    let log = world.path("log");
    for format in ["json", "text"] {
        let rest = ["--log", log.to_str().unwrap(), "--log-format", format, "create", &world.id];
        let said = finish(world.command(&[]).args(rest)).fails();
        let text = said + &fs::read_to_string(&log).unwrap();
        assert!(text.contains(r"/no\u{1b}where\n"), "{text}");
        assert!(!text.contains(|c: char| c != '\n' && c.is_control() || c == '\u{202e}'), "{text:?}");
    }
    world.assert_clean();
}

#[test]
fn a_failure_is_one_record_in_the_log_and_bare_text_beside_it() {
    let mut world = World::running(&["nope"]);
    world.config["hooks"] = json!({"poststop": [{"path": "/bin/false"}]});
    world.write();
    let log = world.path("log.json");
    let create = |format: &str| {
        let _ = fs::remove_file(&log);
        let mut command = world.command(&[]);
        let rest = ["--log", log.to_str().unwrap(), "--log-format", format, "create", &world.id];
        (finish(command.args(rest)), fs::read_to_string(&log).unwrap())
    };
    let (outcome, text) = create("json");
    // runc prints two records. The last one counts.
    let text = if who() == Who::Runc { text.lines().last().unwrap().to_owned() } else { text };
    let record: Value = serde_json::from_str(&text).expect("one object");
    assert_eq!(record["level"], "error");
    let message = record["msg"].as_str().unwrap();
    assert!(message.contains("executable file") && message.contains("not found in $PATH"), "{record}");
    let time = record["time"].as_str().unwrap();
    assert!(time.len() >= 20 && time.as_bytes()[10] == b'T', "{time}");
    if who() == Who::Us {
        assert_eq!(outcome.err.trim_end(), record["msg"]);
        assert_eq!(record.as_object().unwrap().len(), 3);
        let (_, text) = create("text");
        assert!(text.contains("level=error") && text.contains("msg=\"") && text.starts_with("time=\""), "{text}");
        assert_eq!(text.lines().count(), 1);
    }
}

#[test]
fn a_log_that_cannot_be_opened_is_an_error_before_anything_is_done() {
    let world = World::running(&["true"]);
    world.write();
    let _socket = std::os::unix::net::UnixListener::bind(world.path("socket")).unwrap();
    for (name, words) in [
        ("nosuch/log", "no such file or directory"),
        (".", "is a directory"),
        ("socket/log", "not a directory"),
        ("socket", "no such device or address"),
    ] {
        let log = world.path(name);
        for command in ["run", "create", "state", "delete"] {
            let ran = world.call(&["--log", log.to_str().unwrap(), command, &world.id]);
            assert_eq!(ran.code(), 1, "{name}: {}", ran.err);
            assert!(ran.err.to_lowercase().contains(words), "{name}: {}", ran.err);
        }
    }
    assert!(world.call(&["state", &world.id]).fails().contains("not exist") || who() == Who::Crun);
    assert_eq!(world.cgroups(), Vec::<PathBuf>::new());
}

#[test]
fn warnings_are_in_the_log_and_not_in_the_containers_output() {
    let mut world = World::running(&["true"]);
    *world.at("/process/capabilities/bounding") = json!(["CAP_KILL", "CAP_TOMORROW"]);
    if who() == Who::Us {
        world.config["hooks"] = json!({"poststop": [{"path": "/bin/false"}]});
    }
    world.write();
    let log = world.path("log.json");
    let call = |words: &[&str]| {
        let _ = fs::remove_file(&log);
        let all = [&["--log", log.to_str().unwrap(), "--log-format", "json"], words].concat();
        let ran = world.call(&all);
        let text = fs::read_to_string(&log).unwrap_or_default();
        let records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
        assert!(records.iter().all(|record| record["time"].as_str().is_some_and(|time| time.len() >= 20)), "{text}");
        let line =
            |record: &Value| format!("{}: {}", record["level"].as_str().unwrap(), record["msg"].as_str().unwrap());
        (ran, records.iter().map(line).collect::<Vec<_>>())
    };
    // crun prints no warnings.
    let warned = |logged: &[String], words: &str| {
        who() == Who::Crun || logged.iter().any(|line| line.starts_with("warning: ") && line.contains(words))
    };
    let (ran, logged) = call(&["create", &world.id]);
    assert!(warned(&logged, "CAP_TOMORROW"), "{logged:?}");
    assert_eq!((ran.err.as_str(), ran.code()), ("", 0));
    let (ran, logged) = call(&["delete", "--force", &world.id]);
    assert_eq!((ran.err.as_str(), ran.code()), ("", 0));
    assert!(who() != Who::Us || warned(&logged, "poststop"), "{logged:?}");
    let (ran, logged) = call(&["run", &world.id]);
    assert_eq!((ran.err.as_str(), ran.code()), ("", 0));
    assert!(warned(&logged, "CAP_TOMORROW"), "{logged:?}");
    // Without --log, warnings go to standard error. --log-level removes them from the log.
    if who() == Who::Us {
        assert!(world.run().err.contains("CAP_TOMORROW"));
        let (ran, logged) = call(&["--log-level", "error", "run", &world.id]);
        assert_eq!((ran.err.as_str(), logged), ("", vec![]));
    }
}

#[test]
fn a_failure_after_a_warning_is_one_record() {
    only!(Who::Us; "runc writes both, and podman reads neither; crun warns of nothing");
    let mut world = World::running(&["nope"]);
    *world.at("/process/capabilities/bounding") = json!(["CAP_KILL", "CAP_TOMORROW"]);
    world.write();
    let log = world.path("log.json");
    for command in ["create", "run"] {
        let _ = fs::remove_file(&log);
        let ran = world.call(&["--log", log.to_str().unwrap(), "--log-format", "json", command, &world.id]);
        let record: Value = serde_json::from_str(&fs::read_to_string(&log).unwrap()).expect("one object");
        assert_eq!(record["level"], "error");
        let lines: Vec<_> = ran.err.lines().collect();
        assert!(lines[0].contains("warning: ") && lines[0].contains("CAP_TOMORROW"), "{ran:?}");
        assert_eq!(lines[1..], [record["msg"].as_str().unwrap()]);
    }
}

#[test]
fn every_command_logs_its_failure() {
    let world = World::running(&["true"]);
    world.write();
    let log = world.path("log.json");
    for args in [
        &["start", "nobody"][..],
        &["state", "nobody"],
        &["kill", "nobody", "9"],
        &["delete", "nobody"],
        &["exec", "nobody", "true"],
        &["pause", "nobody"],
        &["create", "a/b"],
    ] {
        let _ = fs::remove_file(&log);
        let mut command = world.command(&[]);
        finish(command.args(["--log", log.to_str().unwrap(), "--log-format", "json"]).args(args)).fails();
        let text = fs::read_to_string(&log).unwrap();
        let records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(records.last().unwrap()["level"], "error", "{args:?}: {text}");
        assert!(who() != Who::Us || records.len() == 1, "{args:?}: {text}");
    }
}

/// A number that differs each time, to choose a moment.
fn random(below: u64) -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish() % below
}

#[test]
fn killed_at_any_instant_it_can_be_deleted_and_made_again() {
    only!(Who::Us; "the peers leave what delete does not find");
    let mut world = World::running(&["sleep", "1000"]);
    if root() {
        world.config["linux"]["resources"]["pids"] = json!({"limit": 20});
    }
    world.config["hooks"] =
        json!({"createContainer": [{"path": "/bin/true"}], "createRuntime": [{"path": "/bin/true"}]});
    world.write();
    let pid_file = world.path("pid");
    let mut done = 0;
    for round in 0..60 {
        let mut command = world.command(&["create", "--pid-file", pid_file.to_str().unwrap(), &world.id]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let mut create = command.spawn().unwrap();
        std::thread::sleep(Duration::from_micros(random(if round % 2 == 0 { 15_000 } else { 40_000 })));
        let _ = create.kill();
        done += usize::from(create.wait().unwrap().success());
        let pid = world.path("state").join(&world.id).join("state.json");
        let pid = fs::read(pid).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok());
        let pid = pid.and_then(|state| i32::try_from(state["init_process_pid"].as_i64()?).ok());
        // No command hangs after the interruption.
        world.call(&["list"]);
        let deleted = world.call(&["delete", "--force", &world.id]);
        assert_eq!(deleted.code(), 0, "round {round}: {}", deleted.err);
        world.assert_clean();
        if let Some(pid) = pid {
            wait_until("init is gone", || !alive(pid));
        }
        let leftovers = || processes_in(&world);
        wait_until("nobody is left", || leftovers().is_empty());
        assert!(!world.path("state").join(&world.id).exists());
        let _ = fs::remove_file(&pid_file);
        world.call(&["create", "--pid-file", pid_file.to_str().unwrap(), &world.id]).ok();
        assert_eq!(world.status(), "created");
        world.call(&["delete", &world.id]).ok();
        let _ = fs::remove_file(&pid_file);
    }
    eprintln!("{done} of 60 had been done before they were killed");
    nothing_is_left(&world);
}

/// Processes whose command line names this world: the runtime, and an init that has not started its program yet.
fn processes_in(world: &World) -> Vec<PathBuf> {
    let here = world.path("state").display().to_string();
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| fs::read(path.join("cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).contains(&here)))
        .collect()
}

#[test]
fn a_killed_start_leaves_a_container_with_a_status() {
    only!(Who::Us; "when theirs is over is their own");
    for _ in 0..15 {
        let world = World::running(&["sleep", "1000"]);
        world.create().ok();
        let mut start = world.command(&["start", &world.id]).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(random(5_000)));
        let _ = start.kill();
        let _ = start.wait();
        let begun = Instant::now();
        let status = world.status();
        assert!(status == "created" || status == "running", "{status}");
        if status == "created" {
            // The killed command may have written to the fifo just before.
            let again = world.call(&["start", &world.id]);
            assert!(again.status.success() || again.err.contains("an already running container"), "{again:?}");
        }
        assert_eq!(world.status(), "running");
        assert!(begun.elapsed() < Duration::from_secs(10));
        world.call(&["delete", "--force", &world.id]).ok();
    }
}

/// Wherever a `create` runs out of descriptors, its directory is not left: the id could not be used again.
#[test]
fn a_create_that_has_no_descriptor_left_leaves_nothing() {
    only!(Who::Us; "about our own descriptors");
    let world = World::running(&["true"]);
    world.write();
    let mut failed = 0;
    for limit in 3..16 {
        let create = world.command(&["create", &world.id]);
        let mut limited = std::process::Command::new("sh");
        limited.args(["-c", &format!("ulimit -n {limit}; exec \"$@\""), "sh"]).arg(create.get_program());
        let outcome = finish(limited.args(create.get_args()).current_dir(world.bundle()));
        if outcome.code() == 0 {
            break;
        }
        failed += 1;
        let left = fs::read_dir(world.path("state")).map_or(0, Iterator::count);
        assert_eq!(left, 0, "with {limit} descriptors: {}", outcome.err);
    }
    assert!(failed > 3, "{failed}");
    world.call(&["delete", "--force", &world.id]).ok();
}
