//! The command line with existing containers: every flag that changes what is done or printed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::ordinary::root;
use crate::world::{Who, World, finish, runtime, wait_until, who};
use crate::{needs, needs_root, only};

fn sleeping() -> World {
    let world = World::running(&["sleep", "1000"]);
    world.begin();
    world.wait_for_status("running");
    world
}

#[test]
fn state_and_list_say_the_same() {
    let mut world = World::running(&["sleep", "1000"]);
    *world.at("/annotations") = json!({"org.example.a": "b=c"});
    world.begin();
    world.wait_for_status("running");
    let text = world.call(&["state", &world.id]).ok();
    let mut state: Value = serde_json::from_str(&text).unwrap();
    if who() != Who::Crun {
        // crun prints its keys in another order, and has further keys.
        let keys: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("  \"")?.split('"').next()).collect();
        let expected = ["ociVersion", "id", "pid", "status", "bundle", "rootfs", "created", "annotations", "owner"];
        assert_eq!(keys, expected);
    }
    assert_eq!(
        state["rootfs"].as_str().map(Path::new).map(|path| path.file_name()),
        Some(world.rootfs("").file_name())
    );
    let list: Value = serde_json::from_str(&world.call(&["list", "--format", "json"]).ok()).unwrap();
    assert_eq!(list.as_array().unwrap().len(), 1);
    for key in ["id", "pid", "status", "bundle", "created"] {
        assert_eq!(list[0][key], state[key], "{key}");
    }
    let owner = if root() { "root".to_owned() } else { std::env::var("USER").unwrap() };
    assert_eq!(list[0]["owner"], *owner);
    assert_eq!(world.call(&["list", "-q"]).ok().trim(), world.id);
    let table = world.call(&["list"]).ok();
    let (pid, bundle) = (state["pid"].to_string(), world.bundle().display().to_string());
    let created = state["created"].take();
    let row: Vec<_> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row, [&world.id, &pid, "running", &bundle, created.as_str().unwrap(), &owner]);
}

#[test]
fn list_names_a_container_that_its_caller_cannot_read() {
    needs_root!("the caller is another user");
    needs!(Path::new("/usr/bin/setpriv").exists(), "no setpriv");
    only!(Who::Us, Who::Runc; "crun writes no message");
    let world = sleeping();
    for directory in [world.path(""), world.path("state")] {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let program = world.path("runtime");
    finish(Command::new("cp").arg(runtime()).arg(&program)).ok();
    for mode in [0o711, 0o700] {
        fs::set_permissions(world.path("state").join(&world.id), fs::Permissions::from_mode(mode)).unwrap();
        let mut list = Command::new("/usr/bin/setpriv");
        list.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]).arg(&program);
        let said = finish(list.arg("--root").arg(world.path("state")).args(["list", "-q"]));
        assert!(said.err.contains(&format!("load container {}: ", world.id)), "{mode:o}: {said:?}");
        assert_eq!(said.out, "");
    }
}

#[test]
fn ps_shows_the_containers_processes_alone() {
    only!(Who::Us, Who::Runc; "crun's ps knows no table of ps(1)");
    let world = sleeping();
    let pid = world.pid();
    let pids: Vec<i32> = serde_json::from_str(&world.call(&["ps", "--format", "json", &world.id]).ok()).unwrap();
    assert_eq!(pids, [pid]);
    let table = world.call(&["ps", &world.id]).ok();
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines.len(), 2, "{table}");
    assert!(lines[0].starts_with("UID ") && lines[1].ends_with("sleep 1000"), "{table}");
    // The options of ps(1) come after the id.
    let own = world.call(&["ps", &world.id, "-e", "-o", "pid,comm"]).ok();
    assert_eq!(own.split_whitespace().collect::<Vec<_>>(), ["PID", "COMMAND", &pid.to_string(), "sleep"]);
    let said = world.call(&["ps", &world.id, "-e", "-o", "comm"]).fails();
    assert!(said.contains("couldn't find PID field in ps output"), "{said}");
}

#[test]
fn exec_takes_its_command_in_every_form() {
    only!(Who::Us; "runc runs a program called --, crun has no flags of one dash");
    let world = sleeping();
    assert_eq!(world.exec(&["echo", "-n", "--help"]).ok(), "--help");
    assert_eq!(world.exec(&["--", "echo", "-v"]).ok(), "-v\n");
    let id = &world.id;
    assert_eq!(world.call(&["exec", "--cwd", "/bin", id, "pwd"]).ok(), "/bin\n");
    assert_eq!(world.call(&["exec", "-cwd=/bin", "--tty=false", id, "--", "pwd"]).ok(), "/bin\n");
    assert_eq!(world.call(&["exec", "--", id, "echo", "x"]).ok(), "x\n");
    let said = world.call(&["exec", id]);
    assert_eq!(said.code(), 255);
    assert!(said.err.contains("process args cannot be empty"), "{}", said.err);
    let said = world.exec(&["no-such-program"]);
    assert_eq!(said.code(), 255);
    assert!(said.err.contains("executable file not found in $PATH"), "{}", said.err);
}

#[test]
fn the_flags_of_exec_change_its_process() {
    only!(Who::Us, Who::Runc; "crun 1.8 has no PATH for what it runs when -e is given");
    let world = sleeping();
    let id = &world.id;
    let run = |flags: &[&str], args: &[&str]| world.call(&[&["exec"], flags, &[id], args].concat()).ok();
    assert_eq!(
        run(&["--user", "1000:1001", "--cwd", "/bin"], &["sh", "-c", "id -u; id -g; pwd"]),
        "1000\n1001\n/bin\n"
    );
    assert_eq!(run(&["-e", "A=1", "-e", "B=-2", "-e", "A=3"], &["sh", "-c", "echo $A $B $TERM"]), "3 -2 xterm\n");
    let status =
        run(&["--no-new-privs", "--cap", "CAP_NET_ADMIN"], &["grep", "-E", "CapEff|CapInh|NoNew", "/proc/self/status"]);
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    let effective = u64::from_str_radix(&field("CapEff:"), 16).unwrap();
    assert_ne!(effective & 1 << 12, 0, "{status}");
    assert_eq!(field("CapInh:"), "0000000000000000");
    assert_eq!(field("NoNewPrivs:"), "1");
    if who() == Who::Us {
        assert_eq!(run(&["-g", "7", "--additional-gids=8"], &["id", "-G"]), "0 7 8\n");
        for user in ["1000x", "", "1:2:3", "-1", "1:"] {
            let said = world.call(&["exec", "--user", user, id, "true"]);
            assert_eq!(said.status.success(), user.is_empty(), "{user}: {}", said.err);
        }
    }
}

#[test]
fn exec_detaches_and_writes_the_pid() {
    let world = sleeping();
    let file = world.path("exec.pid");
    world.call(&["exec", "-d", "--pid-file", file.to_str().unwrap(), &world.id, "sleep", "2000"]).ok();
    let pid = fs::read_to_string(&file).unwrap();
    wait_until("it runs", || fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == b"sleep\x002000\0"));
}

#[test]
fn exec_takes_a_whole_process_from_a_file() {
    let world = sleeping();
    let file = world.path("process.json");
    let process = json!({"user": {"uid": 5, "gid": 6}, "args": ["sh", "-c", "id -u; pwd; echo $X"], "env": ["PATH=/bin", "X=y"],
        "cwd": "/bin"});
    fs::write(&file, process.to_string()).unwrap();
    let ran = world.call(&["exec", "--process", file.to_str().unwrap(), &world.id]);
    assert_eq!(ran.ok(), "5\n/bin\ny\n");
    if who() == Who::Us {
        let mut wrong = process;
        wrong["cwd"] = json!("bin");
        fs::write(&file, wrong.to_string()).unwrap();
        let said = world.call(&["exec", "-p", file.to_str().unwrap(), &world.id]).fails();
        assert!(said.contains("process.json: cwd: "), "{said}");
    }
}

#[test]
fn flags_may_follow_the_id() {
    only!(Who::Us, Who::Runc; "crun has no flags of one dash");
    let world = World::running(&["sleep", "1000"]);
    world.write();
    let (bundle, pid_file) = (world.bundle(), world.path("pid"));
    let (bundle, pid_file) = (bundle.to_str().unwrap(), pid_file.to_str().unwrap());
    world
        .command(&["create", &world.id, "-bundle", bundle, "-pid-file", pid_file, "--no-pivot=false"])
        .current_dir("/");
    let mut command =
        world.command(&["create", &world.id, "-bundle", bundle, "-pid-file", pid_file, "--no-pivot=false"]);
    finish(command.current_dir("/")).ok();
    // Decimal, and without a newline.
    assert_eq!(fs::read_to_string(pid_file).unwrap(), world.pid().to_string());
}

#[test]
fn another_config_than_the_bundles() {
    only!(Who::Us, Who::Crun; "runc has no --config");
    let mut world = World::running(&["echo", "one"]);
    world.write();
    *world.at("/process/args") = json!(["echo", "two"]);
    fs::write(world.path("other.json"), world.config.to_string()).unwrap();
    let other = world.path("other.json");
    assert_eq!(world.call(&["run", "--config", other.to_str().unwrap(), &world.id]).ok(), "two\n");
}

#[test]
fn a_word_is_an_id_wherever_runc_would_take_it_for_one() {
    let mut world = World::running(&["echo", "hello"]);
    world.write();
    let beside = world.bundle().join(&world.id);
    fs::create_dir(&beside).unwrap();
    // A directory that is not a bundle.
    assert_eq!(world.call(&["run", &world.id]).ok(), "hello\n");
    only!(Who::Us; "the peers know no bundle in the place of the id");
    *world.at("/process/args") = json!(["echo", "another"]);
    *world.at("/root/path") = json!(world.rootfs(""));
    fs::write(beside.join("config.json"), world.config.to_string()).unwrap();
    let said = world.call(&["run", &world.id]);
    assert!(said.err.contains(&format!("./{} runs the bundle", world.id)), "{said:?}");
    assert_eq!(said.ok(), "hello\n");
    assert_eq!(world.call(&["run", &format!("./{}", world.id)]).ok(), "another\n");
    assert_eq!(world.call(&["run", "--bundle", ".", &world.id]).ok(), "hello\n");
    // Now this is the only bundle.
    fs::rename(world.bundle().join("config.json"), world.bundle().join("aside.json")).unwrap();
    assert_eq!(world.call(&["run", &world.id]).ok(), "another\n");
    assert_eq!(world.call(&["run", "--config", "aside.json", &world.id]).ok(), "hello\n");
}

#[test]
fn an_id_that_is_made_up_is_printed() {
    only!(Who::Us; "the peers know no bundle in the place of the id");
    let world = World::running(&["sleep", "1000"]);
    world.write();
    let said = world.call(&["run", "-d", &format!("{}/", world.bundle().display())]).ok();
    let id = said.trim_end();
    assert!(id.starts_with("bundle-") && !id.contains('\n'), "{said:?}");
    world.call(&["delete", "--force", id]).ok();
    assert!(world.call(&["run", "-d", &world.id]).ok().is_empty());
}

#[test]
fn run_takes_a_bundle_instead_of_an_id() {
    only!(Who::Us; "the peers take an id only");
    let mut world = World::running(&["echo", "hello"]);
    *world.at("/linux/cgroupsPath") = json!(null);
    world.write();
    let bundle = world.bundle();
    assert_eq!(finish(world.command(&["run", bundle.to_str().unwrap()]).current_dir("/")).ok(), "hello\n");
    let bundle = format!("{}/", bundle.display());
    assert_eq!(finish(world.command(&["run", &bundle]).current_dir("/")).ok(), "hello\n");
}

#[test]
fn keep_leaves_a_stopped_container() {
    only!(Who::Us; "runc 1.1 and crun 1.8 have no --keep");
    let world = World::running(&["true"]);
    world.write();
    world.call(&["run", "--keep", &world.id]).ok();
    assert_eq!(world.status(), "stopped");
    assert_eq!(world.state()["pid"], 0);
    world.call(&["delete", &world.id]).ok();
}

#[test]
fn regex_kills_and_deletes_all_that_fit() {
    only!(Who::Us, Who::Crun; "runc has no --regex");
    let mut world = World::running(&["sleep", "1000"]);
    // Each container has a cgroup with its own id.
    *world.at("/linux/cgroupsPath") = json!(null);
    world.begin();
    let others = [format!("{}-b", world.id), format!("{}-c", world.id)];
    for id in &others {
        world.call(&["run", "--detach", id]).ok();
    }
    world.call(&["kill", "--regex", &format!("^{}-", world.id), "KILL"]).ok();
    let status = |id: &str| -> Value { serde_json::from_str(&world.call(&["state", id]).ok()).unwrap() };
    for id in &others {
        wait_until("it is stopped", || status(id)["status"] == "stopped");
    }
    assert_eq!(world.status(), "running");
    if who() == Who::Us {
        // one that cannot be read does not spare the others
        let said = world.call(&["delete", "--regex", "[", &format!("^{}-", world.id), "("]).fails();
        assert!(said.contains("--regex \"[\": ") && said.contains("--regex \"(\": "), "{said}");
    } else {
        world.call(&["delete", "--regex", &format!("^{}-", world.id)]).ok();
    }
    assert_eq!(world.call(&["list", "-q"]).ok().trim(), world.id);
}

#[test]
fn signals_go_by_number_and_by_any_name() {
    only!(Who::Us, Who::Runc; "crun 1.8 sends USR1 when it is asked for usr2");
    let world = World::running(&[
        "sh",
        "-c",
        "trap 'echo usr1 >>/got' USR1; trap 'echo usr2 >>/got' USR2; trap 'echo term >>/got' TERM; echo >/ready; \
         while :; do sleep 0.02; done",
    ]);
    let mut world = world;
    *world.at("/root/readonly") = json!(false);
    world.begin();
    let (ready, got) = (world.rootfs("ready"), world.rootfs("got"));
    wait_until("it listens", || ready.exists());
    let signals = [
        (Some("USR1"), "usr1"),
        (Some("SIGUSR1"), "usr1"),
        (Some("usr2"), "usr2"),
        (Some("10"), "usr1"),
        (None, "term"),
    ];
    for (before, (signal, name)) in signals.into_iter().enumerate() {
        let words: Vec<_> = ["kill", &world.id].into_iter().chain(signal).collect();
        world.call(&words).ok();
        wait_until("it has come", || fs::read_to_string(&got).unwrap_or_default().lines().count() > before);
        assert_eq!(fs::read_to_string(&got).unwrap().lines().last(), Some(name), "{signal:?}");
    }
    let said = world.call(&["kill", &world.id, "NONSENSE"]).fails();
    assert!(who() != Who::Us || said.contains("unknown signal \"NONSENSE\""), "{said}");
}

#[test]
fn the_command_line_stays_to_be_seen() {
    only!(Who::Us; "this is about our own protection");
    // Tools that watch a node read the bundle and the pid file from the command line of the process that creates.
    let mut world = World::running(&["true"]);
    let shown = world.path("cmdline");
    let hook = world.path("hook");
    fs::write(&hook, format!("#!/bin/sh\ncat /proc/$PPID/cmdline >{}\n", shown.display())).unwrap();
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    *world.at("/hooks") = json!({"createRuntime": [{"path": hook}]});
    world.write();
    let bundle = world.bundle();
    world.call(&["create", "--bundle", bundle.to_str().unwrap(), &world.id]).ok();
    let line = fs::read_to_string(&shown).unwrap();
    let words: Vec<_> = line.split('\0').collect();
    assert!(words[0].ends_with("coracle"), "{words:?}");
    assert_eq!(words[words.len() - 5..], ["create", "--bundle", bundle.to_str().unwrap(), &world.id, ""]);
}

#[test]
fn a_failed_create_is_one_record_in_the_log() {
    let mut world = World::running(&["no-such-program"]);
    let log = world.path("log.json");
    *world.at("/process/args") = json!(["no-such-program"]);
    world.write();
    let said = world.call(&["--log", log.to_str().unwrap(), "--log-format", "json", "create", &world.id]).fails();
    let text = fs::read_to_string(&log).unwrap();
    let records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let last = records.last().unwrap();
    assert_eq!(last["level"], "error");
    if who() != Who::Crun {
        assert!(last["msg"].as_str().unwrap().contains("executable file not found in $PATH"), "{text}");
    }
    if who() == Who::Us {
        assert_eq!(records.len(), 1, "{text}");
        let msg = last["msg"].as_str().unwrap();
        assert!(msg.starts_with("coracle create failed: unable to start container process: "), "{msg}");
        assert_eq!(said, format!("{msg}\n"));
    }
}

#[test]
fn debug_tells_the_plan_and_how_long_each_step_took() {
    only!(Who::Us; "the peers have no plan");
    let world = World::running(&["true"]);
    world.write();
    let log = world.path("log");
    let words = ["--debug", "--log-format", "json", "--log", log.to_str().unwrap(), "run", &world.id];
    world.call(&words).ok();
    let text = fs::read_to_string(&log).unwrap();
    let said: Vec<String> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["msg"].as_str().unwrap().to_owned())
        .collect();
    let count = |part: &str| said.iter().filter(|msg| msg.starts_with(part)).count();
    assert!(count("plan: runtime: ") > 0 && count("plan: init: ") > 20, "{text}");
    assert!(count("process ") == 1, "{text}");
    // The log has the time of every step of init before it is ready, with its property.
    let pivot = said.iter().find(|msg| msg.starts_with("took ") && msg.contains("init: pivot")).expect(&text);
    assert!(pivot.ends_with("(root.path)"), "{pivot}");
    // Without --debug, only failures are logged.
    let quiet = world.path("quiet");
    world.call(&["--log", quiet.to_str().unwrap(), "run", &world.id]).ok();
    assert_eq!(fs::read_to_string(&quiet).unwrap(), "");
}

#[test]
fn check_notes_what_others_read_otherwise() {
    only!(Who::Us; "the peers have no check");
    let mut world = World::running(&["true"]);
    let entry =
        json!({"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}, "excludes": {}});
    let profile = json!({"defaultAction": "SCMP_ACT_ERRNO", "archMap": [], "syscalls": [entry, entry]});
    let cases = [
        ("/linux/seccomp", profile, "linux.seccomp: is in Docker's format: its conditions"),
        ("/linux/seccomp", json!({"defaultAction": ""}), "linux.seccomp: has neither a defaultAction nor syscalls"),
        ("/linux/seccomp", json!({}), "linux.seccomp: has neither a defaultAction nor syscalls"),
        ("/linux/resources/pids", json!({"limit": 0}), "linux.resources.pids.limit: is 0"),
        ("/process/capabilities", Value::Null, "process.capabilities: is missing"),
    ];
    let before = world.config.clone();
    for (pointer, value, note) in cases {
        world.config.clone_from(&before);
        *world.at(pointer) = value;
        world.write();
        let printed = world.call(&["check"]).ok();
        let notes: Vec<_> = printed.lines().filter(|line| line.starts_with("note: ")).collect();
        assert!(notes.len() == 1 && notes[0].contains(note), "{pointer}: {printed}");
    }
    // A flag that has no effect any more is reported together with the other mistakes.
    world.config.clone_from(&before);
    let old = json!({"name": "ptrace", "action": "SCMP_ACT_ALLOW"});
    *world.at("/linux/seccomp") = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [old, old, old]});
    *world.at("/process/capabilities") = json!(["CAP_KILL", "CAP_CHOWN"]);
    *world.at("/process/cwd") = json!("relative");
    world.at("/process").as_object_mut().unwrap().remove("user");
    world.write();
    let outcome = world.call(&["check"]);
    assert!(!outcome.out.contains("process.capabilities"), "a note on what is there in another form: {}", outcome.out);
    let printed = outcome.fails();
    let mistakes: Vec<_> = printed.lines().skip(1).map(str::trim).collect();
    assert_eq!(mistakes.len(), 3, "{printed}");
    for place in ["linux.seccomp.syscalls: 3 of the entries", "process.capabilities", "process.cwd"] {
        assert!(mistakes.iter().any(|line| line.starts_with(place)), "{place}: {printed}");
    }
}

#[test]
fn kill_waits_and_delete_takes_several() {
    only!(Who::Us; "flags of coracle's");
    let mut world = World::running(&["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"]);
    // Each container has a cgroup with its own id.
    *world.at("/linux/cgroupsPath") = json!(null);
    world.begin();
    world.wait_for_status("running");
    let (id, second) = (&world.id, format!("{}-b", world.id));
    world.call(&["run", "--detach", &second]).ok();
    assert!(world.call(&["kill", "--wait", "x", id]).fails().contains("--wait: \"x\" is not a duration"));
    world.call(&["kill", "--wait", "200ms", id]).ok();
    assert_eq!(world.status(), "stopped");
    let said = world.call(&["delete", "nobody", id, &second]);
    assert_eq!(said.code(), 1);
    assert!(said.err.contains("\"nobody\": container does not exist") && said.err.contains(&second), "{}", said.err);
    assert_eq!(world.call(&["list", "-q"]).ok().trim(), second, "one that runs stays");
    world.call(&["delete", "--force", &second]).ok();
}

/// Debian's runc, if it is installed.
fn runc() -> Option<PathBuf> {
    ["/usr/sbin/runc", "/usr/bin/runc"].iter().map(PathBuf::from).find(|path| path.exists())
}

/// The output of runc with the state directory and bundle of a test.
#[track_caller]
fn said_by(runc: &Path, world: &World, words: &[&str]) -> String {
    let mut command = Command::new(runc);
    finish(command.arg("--root").arg(world.path("state")).args(words).current_dir(world.bundle())).ok()
}

#[test]
fn containers_that_runc_made_are_ours_to_handle() {
    only!(Who::Us; "this is about taking over from runc");
    let Some(runc) = runc() else {
        needs!(false, "runc is not installed");
        return;
    };
    let world = World::running(&["sleep", "1000"]);
    world.write();
    let by_runc = |words: &[&str]| said_by(&runc, &world, words);
    by_runc(&["create", &world.id]);
    assert_eq!(world.status(), "created");
    let theirs: Value = serde_json::from_str(&by_runc(&["state", &world.id])).unwrap();
    let ours = world.state();
    for key in ["ociVersion", "id", "pid", "status", "bundle", "rootfs", "created"] {
        assert_eq!(ours[key], theirs[key], "{key}");
    }
    assert_eq!(world.call(&["list", "-q"]).ok().trim(), world.id);
    // The tables are identical.
    assert_eq!(world.call(&["list"]).ok(), by_runc(&["list"]));
    world.call(&["start", &world.id]).ok();
    world.wait_for_status("running");
    assert!(by_runc(&["list"]).contains(" running "));
    assert_eq!(world.exec(&["cat", "/proc/1/comm"]).ok(), "sleep\n");
    assert!(world.call(&["ps", &world.id]).ok().contains("sleep 1000"));
    if root() {
        world.call(&["pause", &world.id]).ok();
        assert!(by_runc(&["list"]).contains(" paused "));
        by_runc(&["resume", &world.id]);
    }
    assert_eq!(world.status(), "running");
    world.call(&["kill", &world.id, "KILL"]).ok();
    world.wait_for_status("stopped");
    world.call(&["delete", &world.id]).ok();
    assert_eq!(by_runc(&["list", "-q"]), "");
}

#[test]
fn a_container_that_runc_made_is_deleted_by_force() {
    only!(Who::Us; "this is about taking over from runc");
    let Some(runc) = runc() else {
        needs!(false, "runc is not installed");
        return;
    };
    let world = World::running(&["sleep", "1000"]);
    world.write();
    said_by(&runc, &world, &["run", "-d", &world.id]);
    let said = world.call(&["delete", &world.id]).fails();
    assert!(said.contains("that is not stopped: running"), "{said}");
    world.call(&["delete", "--force", &world.id]).ok();
    assert_eq!(world.call(&["list", "-q"]).ok(), "");
}

#[test]
fn runc_handles_a_container_of_ours() {
    only!(Who::Us; "this is about going back to runc");
    let Some(runc) = runc() else {
        needs!(false, "runc is not installed");
        return;
    };
    let world = sleeping();
    let by_runc = |words: &[&str]| said_by(&runc, &world, words);
    assert_eq!(by_runc(&["list"]), world.call(&["list"]).ok());
    by_runc(&["kill", &world.id, "KILL"]);
    world.wait_for_status("stopped");
    by_runc(&["delete", &world.id]);
    assert_eq!(world.call(&["list", "-q"]).ok(), "");
}

#[test]
fn a_gate_is_not_left_open_by_images() {
    only!(Who::Us; "the flags are ours");
    let world = World::running(&["true"]);
    world.write();
    let said = world.call(&["check", "--security", "--fail-at", "1", "--image-path", "images", "."]).fails();
    assert!(said.contains("--image-path cannot be used with --security"), "{said}");
}
