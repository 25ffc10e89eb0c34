//! A container's directory with a damaged file, in every way that a file can be damaged. No command hangs, and none
//! succeeds wrongly. `delete --force` removes everything, or reports what is wrong and keeps the directory.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::exec::limited;
use crate::life::alive;
use crate::ordinary::root;
use crate::world::{Outcome, Who, World, wait_until};
use crate::{needs_root, only};

/// Damages the directory. The value is the content of state.json.
type Damage = Box<dyn Fn(&Path, Value)>;

/// Makes a file at a path.
type Make = fn(&Path);

/// How `delete --force` may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Nothing is left.
    Removed,
    /// A message, and the directory is kept.
    Kept,
}

#[test]
fn start_reports_a_fifo_that_was_replaced() {
    only!(Who::Us; "the files are ours");
    let world = World::running(&["true"]);
    world.create().ok();
    let path = world.path("state").join(&world.id).join("exec.fifo");
    let makes: [Make; 4] = [empty, fifo, link, nothing];
    for make in makes {
        fs::remove_file(&path).unwrap();
        make(&path);
        let said = world.call(&["start", &world.id]).fails();
        assert!(said.contains("does not wait on") && said.contains("exec.fifo: was it replaced?"), "{said}");
    }
    world.call(&["delete", "--force", &world.id]).ok();
    world.assert_clean();
}

fn text(text: &str) -> Damage {
    let text = text.to_owned();
    Box::new(move |directory, _| fs::write(directory.join("state.json"), &text).unwrap())
}

fn change(pointer: &str, value: Value) -> Damage {
    let pointer = pointer.to_owned();
    Box::new(move |directory, mut state| {
        *state.pointer_mut(&pointer).unwrap_or_else(|| panic!("{pointer} is not there")) = value.clone();
        fs::write(directory.join("state.json"), state.to_string()).unwrap();
    })
}

fn without(parent: &str, key: &str) -> Damage {
    let (parent, key) = (parent.to_owned(), key.to_owned());
    Box::new(move |directory, mut state| {
        state.pointer_mut(&parent).unwrap().as_object_mut().unwrap().remove(&key);
        fs::write(directory.join("state.json"), state.to_string()).unwrap();
    })
}

/// Replaces a file by another one.
fn instead(name: &str, make: Make) -> Damage {
    let name = name.to_owned();
    Box::new(move |directory, _| {
        fs::remove_file(directory.join(&name)).unwrap();
        make(&directory.join(&name));
    })
}

fn fifo(path: &Path) {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
}

fn directory(path: &Path) {
    fs::create_dir(path).unwrap();
    fs::write(path.join("something"), "").unwrap();
}

fn link(path: &Path) {
    symlink("/etc/passwd", path).unwrap();
}

fn link_to_itself(path: &Path) {
    symlink(path.file_name().unwrap(), path).unwrap();
}

fn nothing(_: &Path) {}

fn empty(path: &Path) {
    fs::write(path, "").unwrap();
}

fn of_state_file() -> Vec<(String, Damage)> {
    let mut all: Vec<(String, Damage)> = Vec::new();
    let mut add = |name: &str, damage| all.push((name.to_owned(), damage));
    add("empty", text(""));
    add("garbage", text("\u{0}garbage"));
    add("no UTF-8", Box::new(|directory, _| fs::write(directory.join("state.json"), b"\"\xff\"").unwrap()));
    for json in ["{}", "null", "[]", "7", "\"\""] {
        add(json, text(json));
    }
    add("deep", text(&"[".repeat(100_000)));
    add(
        "half",
        Box::new(|directory, state| {
            let text = state.to_string();
            fs::write(directory.join("state.json"), &text[..text.len() / 2]).unwrap();
        }),
    );
    add(
        "deep in what is unknown",
        Box::new(|directory, state| {
            let text = state.to_string();
            let deep = format!("{},\"x\":{}{}}}", &text[..text.len() - 1], "[".repeat(5000), "]".repeat(5000));
            fs::write(directory.join("state.json"), deep).unwrap();
        }),
    );
    add(
        "a hole of 20 GB",
        Box::new(|directory, _| {
            fs::File::options().write(true).open(directory.join("state.json")).unwrap().set_len(20 << 30).unwrap();
        }),
    );
    for (name, make) in [
        ("fifo", fifo as Make),
        ("directory", directory),
        ("link", link),
        ("link to itself", link_to_itself),
        ("missing", nothing),
    ] {
        add(name, instead("state.json", make));
    }
    for key in ["id", "init_process_pid", "init_process_start", "created", "config", "rootless", "cgroup_paths"] {
        add(&format!("without {key}"), without("", key));
        add(&format!("{key} null"), change(&format!("/{key}"), Value::Null));
        add(&format!("{key} of another type"), change(&format!("/{key}"), json!([[7]])));
    }
    for pid in [0, -1, 1, 2, i64::from(i32::MAX), 1 << 31, -(1 << 31), i64::MAX] {
        add(&format!("pid {pid}"), change("/init_process_pid", json!(pid)));
        add(&format!("start {pid}"), change("/init_process_start", json!(pid)));
    }
    for id in ["other", "../../x", ""] {
        add(&format!("id {id}"), change("/id", json!(id)));
    }
    for path in ["/sys/fs/cgroup", "/", "/tmp", "relative", "/sys/fs/cgroup/../../../etc", "/sys/fs/cgroup/nowhere"] {
        add(&format!("cgroup {path}"), change("/cgroup_paths", json!({"pids": path, "memory": path})));
    }
    for key in ["bundle", "annotations", "owner", "without_late_hooks", "after_start", "seal"] {
        add(&format!("coracle.{key} null"), change(&format!("/coracle/{key}"), Value::Null));
    }
    all
}

/// Calls commands that read, or change little: none hangs or panics. `list` shows the other containers whatever is
/// wrong with this one.
fn look(world: &World, name: &str) {
    let id = &world.id;
    let commands: [&[&str]; 9] = [
        &["state", id],
        &["list"],
        &["list", "-f", "json"],
        &["ps", id],
        &["kill", id, "0"],
        &["events", "--stats", id],
        &["exec", id, "true"],
        &["update", "--pids-limit", "9", id],
        &["start", id],
    ];
    for command in commands {
        let outcome = call(world, command);
        let fine = outcome.code() < 126 || (command[0] == "exec" && outcome.code() == 255);
        assert!(fine && !outcome.err.contains("panicked"), "{name}: {command:?}: {outcome:?}");
        if command[0] == "list" {
            assert_eq!(outcome.code(), 0, "{name}: {outcome:?}");
        }
    }
}

fn call(world: &World, command: &[&str]) -> Outcome {
    let begun = Instant::now();
    let outcome = world.call(command);
    assert!(begun.elapsed() < Duration::from_secs(6), "{command:?} took {:?}", begun.elapsed());
    outcome
}

/// Calls `delete --force`, and checks the result. A failure says what is wrong, and removes nothing.
#[track_caller]
fn deleted(world: &World, name: &str, pid: i32) -> End {
    let directory = world.path("state").join(&world.id);
    let outcome = call(world, &["delete", "--force", &world.id]);
    match outcome.code() {
        0 => {
            wait_until(&format!("{name}: init is gone"), || !alive(pid));
            let cgroups = world.cgroups();
            assert!(cgroups.is_empty(), "{name}: {cgroups:?} are left: {outcome:?}");
            assert!(fs::symlink_metadata(&directory).is_err(), "{name}: the directory is left");
            End::Removed
        }
        1 => {
            assert!(outcome.err.contains(&world.id) && directory.exists(), "{name}: {outcome:?}");
            End::Kept
        }
        _ => panic!("{name}: {outcome:?}"),
    }
}

/// Makes a container, damages it, and checks the result of `delete --force`.
fn try_one(name: &str, damage: &Damage, verb: &str, end: End) {
    let world = World::running(&["sleep", "1000"]);
    world.create().ok();
    if verb == "start" {
        world.call(&["start", &world.id]).ok();
    }
    let pid = world.pid();
    let directory = world.path("state").join(&world.id);
    let saved: Vec<(PathBuf, Vec<u8>)> = fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_file())
        .map(|entry| (entry.path(), fs::read(entry.path()).unwrap()))
        .collect();
    let state = serde_json::from_slice(&fs::read(directory.join("state.json")).unwrap()).unwrap();
    damage(&directory, state);
    look(&world, name);
    let plain = call(&world, &["delete", &world.id]);
    if plain.code() == 0 {
        // A created container can be deleted without --force.
        assert!(verb == "create", "{name}: {plain:?}");
        wait_until(&format!("{name}: init is gone"), || !alive(pid));
        assert!(world.cgroups().is_empty(), "{name}: {plain:?}");
        return;
    }
    assert_eq!(deleted(&world, name, pid), end, "{name}");
    if end == End::Kept {
        // An ordinary user's container has no cgroups.
        assert!(alive(pid) && (!root() || !world.cgroups().is_empty()), "{name}: half of it is gone");
        // After a repair of the damage, the container can be deleted.
        for (path, text) in saved {
            let _ = fs::remove_dir_all(&path);
            let _ = fs::remove_file(&path);
            fs::write(path, text).unwrap();
        }
        assert_eq!(deleted(&world, name, pid), End::Removed, "{name}");
    }
}

#[test]
fn whatever_state_json_is_delete_force_undoes_by_the_note() {
    only!(Who::Us; "the peers believe what they read, or leave what they cannot");
    let all = of_state_file();
    eprintln!("{} ways", all.len());
    assert!(all.len() > 60);
    for (n, (name, damage)) in all.iter().enumerate() {
        try_one(name, damage, if n % 3 == 0 { "create" } else { "start" }, End::Removed);
    }
}

#[test]
fn without_the_note_a_damaged_state_is_reported_and_kept() {
    only!(Who::Us; "the peers believe what they read, or leave what they cannot");
    let notes: [(&str, Make); 6] = [
        ("missing", nothing),
        ("empty", empty),
        ("fifo", fifo),
        ("directory", directory),
        ("link", link),
        ("another container's", |path| fs::write(path, "{}\n00\n").unwrap()),
    ];
    for (name, make) in notes {
        for state in [text(""), text("{}"), instead("state.json", nothing), instead("state.json", fifo)] {
            let undo = instead("undo", make);
            let both: Damage = Box::new(move |directory, read| {
                state(directory, read.clone());
                undo(directory, read);
            });
            try_one(&format!("note {name}"), &both, "start", End::Kept);
        }
        // If the state exists, the container needs no note.
        try_one(&format!("note {name} alone"), &instead("undo", make), "start", End::Removed);
    }
}

/// An empty directory belongs to a creator that was killed before it made anything. Here, it is not what it seems.
#[test]
fn a_directory_whose_files_were_all_removed_is_kept() {
    only!(Who::Us; "the peers leave the process and its cgroups");
    let emptied: Damage = Box::new(|directory, _| {
        for entry in fs::read_dir(directory).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
    });
    try_one("all files removed", &emptied, "start", End::Kept);
}

#[test]
fn fifos_and_the_config_can_be_damaged_too() {
    only!(Who::Us; "the files are ours");
    for name in ["exec.fifo", "exec.answer", "config.json"] {
        let kinds: [(&str, Make); 5] =
            [("missing", nothing), ("empty", empty), ("fifo", fifo), ("directory", directory), ("link", link)];
        for (kind, make) in kinds {
            for verb in ["create", "start"] {
                if verb == "start" && name != "config.json" {
                    continue;
                }
                try_one(&format!("{name} {kind}"), &instead(name, make), verb, End::Removed);
            }
        }
    }
}

#[test]
fn an_unreadable_state_is_reported_or_read_by_root() {
    only!(Who::Us; "the peers believe what they read, or leave what they cannot");
    let unreadable: Damage = Box::new(|directory, _| {
        fs::set_permissions(directory.join("state.json"), fs::Permissions::from_mode(0o000)).unwrap();
    });
    if crate::ordinary::root() {
        try_one("mode 0", &unreadable, "start", End::Removed);
    }
}

#[test]
fn other_files_in_the_root_directory_are_not_touched() {
    only!(Who::Us; "the peers remove what they find");
    let world = World::running(&["true"]);
    world.write();
    let root = world.path("state");
    fs::create_dir(&root).unwrap();
    fs::set_permissions(&root, fs::Permissions::from_mode(0o700)).unwrap();
    let outside = world.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "").unwrap();
    let at = root.join(&world.id);
    symlink(&outside, &at).unwrap();
    for odd in ["link", "file", "fifo", "full"] {
        match odd {
            "link" => {}
            "file" => empty(&at),
            "fifo" => fifo(&at),
            _ => directory(&at),
        }
        call(&world, &["list"]).ok();
        for verb in [&["state"][..], &["delete"], &["delete", "--force"], &["create"]] {
            let outcome = call(&world, &[verb, &[&world.id]].concat());
            assert_eq!(outcome.code(), 1, "{odd}: {verb:?}: {outcome:?}");
        }
        assert!(fs::symlink_metadata(&at).is_ok() && outside.join("file").exists(), "{odd}");
        if odd == "full" { fs::remove_dir_all(&at).unwrap() } else { fs::remove_file(&at).unwrap() }
    }
    // A process that was killed between its first two calls has left an empty directory.
    fs::create_dir(&at).unwrap();
    call(&world, &["delete", "--force", &world.id]).ok();
    assert!(!at.exists());
    world.run().ok();
}

#[test]
fn ids_with_a_leading_dot_are_ids() {
    only!(Who::Us; "the cache is ours");
    let mut world = World::running(&["sleep", "1000"]);
    // With a filter, the runtime makes a cache.
    world.config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]});
    world.config["linux"].as_object_mut().unwrap().remove("cgroupsPath");
    world.write();
    let ids = [".cache", ".hidden", "...", ".@cache"];
    for id in &ids[..3] {
        world.call(&["create", id]).ok();
    }
    assert!(world.call(&["create", ids[3]]).fails().contains("invalid container ID format"));
    let listed = world.call(&["list", "-q"]).ok();
    assert_eq!(listed, "...\n.cache\n.hidden\n");
    assert!(world.path("state/.@cache/seccomp").is_dir());
    for id in &ids[..3] {
        world.call(&["start", id]).ok();
        world.call(&["delete", "--force", id]).ok();
        assert!(!world.path("state").join(id).exists());
    }
    // An older version has its cache at this path.
    fs::create_dir_all(world.path("state/.cache/seccomp")).unwrap();
    assert_eq!(world.call(&["list", "-q"]).ok(), "");
    world.call(&["delete", "--force", "--regex", "."]).ok();
}

/// Runs the runtime in a mount namespace of its own, where a hook may mount something.
fn apart(world: &World, args: &[&str]) -> Outcome {
    let runtime = world.command(args);
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]).arg(runtime.get_program()).args(runtime.get_args());
    crate::world::finish(command.current_dir(world.bundle()))
}

/// A container with a mount below its cgroup: where that mount is visible, the cgroup cannot be removed (EBUSY).
fn that_stays(args: &[&str], hook_exits: i32) -> World {
    let mut world = World::running(args);
    let script = format!(
        "d=$(find /sys/fs/cgroup -type d -name {} | head -1); mkdir $d/busy && mount --bind $d/busy $d/busy; exit {hook_exits}",
        world.id
    );
    world.config["hooks"] = json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script],
        "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]}]});
    world.write();
    world
}

#[test]
fn a_cgroup_that_cannot_be_removed_keeps_its_note_and_goes_with_delete_force() {
    only!(Who::Us; "the peers lose it");
    crate::needs_cgroup!();
    if !crate::ordinary::root() {
        return crate::world::skip(&crate::world::test_name(), "only root can mount there");
    }
    let world = that_stays(&["true"], 3);
    let said = apart(&world, &["create", &world.id]).fails();
    assert!(
        said.contains("exit status 3") && said.contains("still in use") && said.contains("delete --force"),
        "{said}"
    );
    assert!(!world.cgroups().is_empty() && world.path("state").join(&world.id).join("undo").exists());
    world.call(&["delete", "--force", &world.id]).ok();
    world.assert_clean();
}

#[test]
fn the_programs_exit_code_is_runs_own_even_if_something_cannot_be_removed() {
    only!(Who::Us; "the peers lose it");
    crate::needs_cgroup!();
    if !crate::ordinary::root() {
        return crate::world::skip(&crate::world::test_name(), "only root can mount there");
    }
    let world = that_stays(&["sh", "-c", "exit 7"], 0);
    let ran = apart(&world, &["run", &world.id]);
    assert!(ran.code() == 7 && ran.err.contains("still in use"), "{ran:?}");
    assert!(!world.cgroups().is_empty());
    world.call(&["delete", "--force", &world.id]).ok();
    world.assert_clean();
}

#[test]
fn a_cgroup_that_cannot_be_seen_is_not_called_removed() {
    only!(Who::Us; "the peers say nothing, or warn, and lose it");
    crate::needs_cgroup!();
    if !crate::ordinary::root() {
        return crate::world::skip(&crate::world::test_name(), "only root can unmount cgroups");
    }
    for args in [&["true"][..], &["sh", "-c", "sleep 1000 & sleep 1000"]] {
        let mut world = World::running(args);
        world.without_namespace("pid");
        world.begin();
        let mut verb = vec!["delete"];
        if args == ["true"] {
            world.wait_for_status("stopped");
        } else {
            verb.push("--force");
        }
        let runtime = world.command(&[&verb[..], &[&*world.id]].concat());
        let mut blind = std::process::Command::new("unshare");
        blind.args(["-m", "--propagation", "private", "sh", "-c", r#"umount -l /sys/fs/cgroup; exec "$@""#, "sh"]);
        let said = crate::world::finish(blind.arg(runtime.get_program()).args(runtime.get_args())).fails();
        assert!(said.contains("no cgroup file system is mounted there"), "{verb:?}: {said}");
        assert!(!world.cgroups().is_empty() && world.path("state").join(&world.id).is_dir(), "{verb:?}");
        world.call(&["delete", "--force", &world.id]).ok();
        world.assert_clean();
    }
}

#[test]
fn without_proc_the_message_names_the_file_that_cannot_be_read() {
    only!(Who::Us; "the words");
    needs_root!("a mount over /proc");
    let world = World::running(&["true"]);
    world.write();
    for words in [vec!["host"], vec!["check", world.bundle().to_str().unwrap()]] {
        let runtime = world.command(&words);
        let mut without = std::process::Command::new("unshare");
        without.args(["-m", "--propagation", "private", "sh", "-c", r#"mount -t tmpfs none /proc; exec "$@""#, "sh"]);
        let said = crate::world::finish(without.arg(runtime.get_program()).args(runtime.get_args())).fails();
        assert!(said.contains("read /proc/self/mountinfo: no such file or directory (ENOENT)"), "{words:?}: {said}");
        assert!(!said.contains("look at the host"), "{said}");
    }
}

/// A read of /proc/PID/stat fails with EIO. The container's process may live, so nothing may be removed.
#[test]
fn a_container_that_cannot_be_looked_at_has_not_stopped() {
    only!(Who::Us; "runc and crun take it for stopped");
    if !root() {
        return crate::world::skip(&crate::world::test_name(), "only root can mount there");
    }
    let world = World::running(&["sleep", "1000"]);
    world.begin();
    let (id, stat) = (world.id.as_str(), format!("/proc/{}/stat", world.pid()));
    let all = [&["state", id][..], &["delete", id], &["delete", "--force", id], &["kill", id], &["exec", id, "true"]];
    for arguments in all {
        let runtime = world.command(arguments);
        let mut command = std::process::Command::new("unshare");
        // A process has nothing mapped at the beginning of its memory.
        command.args(["--mount", "sh", "-c", "mount --bind /proc/$$/mem $0 && exec \"$@\"", &stat]);
        let said = crate::world::finish(command.arg(runtime.get_program()).args(runtime.get_args())).fails();
        assert!(said.contains(&format!("read {stat}: ")), "{arguments:?}: {said}");
    }
    assert_eq!(world.status(), "running");
}

/// With too few descriptors, no file can be opened. The runtime must not say anything about the container then.
#[test]
fn what_cannot_be_looked_at_is_not_called_gone() {
    only!(Who::Us; "runc and crun take it for gone, or need more descriptors to begin");
    let world = World::running(&["sleep", "1000"]);
    world.begin();
    world.wait_for_status("running");
    let id = world.id.as_str();
    for arguments in [&["exec", id, "true"][..], &["state", id], &["kill", id, "0"], &["ps", id], &["delete", id]] {
        let mut failed = 0;
        for limit in 3..12 {
            let outcome = limited(&world, &format!("-n {limit}"), arguments);
            let said = format!("{}{}", outcome.out, outcome.err);
            for wrong in ["not running", "stopped container", "\"stopped\"", "does not exist"] {
                assert!(!said.contains(wrong), "{arguments:?} with {limit} descriptors: {said}");
            }
            failed += u32::from(!outcome.status.success());
        }
        assert!(failed > 0, "{arguments:?}: no limit was too low");
    }
    assert_eq!(world.status(), "running");
}
