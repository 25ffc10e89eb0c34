//! Hooks: when and in which namespaces each runs, its state, and what happens to the container when a hook fails. SPEC:
//! runtime.md#lifecycle, config.md#posix-platform-hooks.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::life::alive;
use crate::world::{Who, World, finish, wait_until, who};
use crate::{needs_cgroup, only};

const POINTS: [&str; 6] = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// A hook that runs `script` with the host's programs.
fn hook(script: &str) -> Value {
    json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin:/sbin:/usr/sbin"]})
}

/// A world whose hooks may write to /notes. It is the same directory on the host and in the container.
fn noting(args: &[&str]) -> (World, std::path::PathBuf) {
    let mut world = World::running(args);
    let notes = world.path("notes");
    fs::create_dir(&notes).unwrap();
    world.mount(json!({"destination": notes, "type": "bind", "source": notes, "options": ["rbind", "rw"]}));
    (world, notes)
}

fn read(path: &std::path::Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn all_six_run_in_order_with_the_state_they_are_to_know() {
    let (mut world, notes) = noting(&["sh", "-c", "sleep 1000"]);
    world.config["annotations"] = json!({"org.example/a": "b"});
    for point in POINTS {
        let note = |n: u32| {
            let script = format!("cat > {0}/{point}.{n}; echo {point}.{n} >> {0}/order", notes.display());
            if point == "startContainer" {
                json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin"]})
            } else {
                hook(&script)
            }
        };
        world.config["hooks"][point] = json!([note(0), note(1)]);
    }
    world.create().ok();
    let order = || read(&notes.join("order"));
    let expected = |points: &[&str]| -> String {
        points.iter().flat_map(|point| [format!("{point}.0\n"), format!("{point}.1\n")]).collect()
    };
    if who() == Who::Runc {
        assert!(order().starts_with(&expected(&POINTS[..3])), "{}", order());
    } else {
        assert_eq!(order(), expected(&POINTS[..3]));
    }
    let pid = world.pid();
    world.call(&["start", &world.id]).ok();
    match who() {
        Who::Us => assert_eq!(order(), expected(&POINTS[..5])),
        // crun does not wait for the hooks inside before it runs poststart.
        Who::Crun => wait_until("all have run", || order().lines().count() == 10),
        _ => {}
    }
    world.call(&["delete", "--force", &world.id]).ok();
    if who() == Who::Us {
        assert_eq!(order(), expected(&POINTS));
    }
    let state = |point: &str| -> Value { serde_json::from_str(&read(&notes.join(format!("{point}.1")))).unwrap() };
    for point in POINTS {
        let state = state(point);
        assert_eq!(state["id"], *world.id, "{point}");
        // crun 1.8 gives its current directory as the bundle.
        assert!(who() == Who::Crun || state["bundle"] == world.bundle().to_str().unwrap(), "{point}");
        assert_eq!(state["annotations"]["org.example/a"], "b", "{point}");
        assert!(state["ociVersion"].as_str().unwrap().starts_with("1."), "{point}");
    }
    if who() == Who::Us {
        let seen = |point: &str| (state(point)["status"].as_str().unwrap().to_owned(), state(point)["pid"].clone());
        assert_eq!(seen("prestart"), ("created".to_owned(), json!(pid)));
        assert_eq!(seen("createRuntime"), ("creating".to_owned(), json!(pid)));
        assert_eq!(seen("createContainer"), ("creating".to_owned(), json!(1)));
        assert_eq!(seen("startContainer"), ("created".to_owned(), json!(1)));
        assert_eq!(seen("poststart"), ("running".to_owned(), json!(pid)));
        assert_eq!(seen("poststop"), ("stopped".to_owned(), json!(0)));
    }
}

#[test]
fn each_runs_in_its_namespaces_and_finds_its_path_there() {
    let (mut world, notes) = noting(&["sleep", "1000"]);
    // The host does not have this file. So the hook runs in the container if it finds it.
    fs::copy("/bin/busybox", world.rootfs("bin/only-inside")).unwrap();
    let kinds = ["mnt", "uts", "ipc", "net", "pid"];
    let look = |point: &str| {
        let list = kinds.map(|kind| format!("readlink /proc/self/ns/{kind}")).join("; ");
        format!("{{ {list}; }} > {}/{point}", notes.display())
    };
    for point in POINTS {
        world.config["hooks"][point] = json!([hook(&look(point))]);
    }
    world.config["hooks"]["startContainer"] =
        json!([{"path": "/bin/only-inside", "args": ["sh", "-c", look("startContainer")], "env": ["PATH=/bin"]}]);
    world.begin();
    let links = |pid: &str| -> Vec<String> {
        kinds.map(|kind| fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap().display().to_string()).to_vec()
    };
    let (ours, theirs) = (links("self"), links(&world.pid().to_string()));
    world.call(&["delete", "--force", &world.id]).ok();
    let saw = |point: &str| -> Vec<String> { read(&notes.join(point)).lines().map(str::to_owned).collect() };
    for point in ["prestart", "createRuntime", "poststart", "poststop"] {
        assert_eq!(saw(point), ours, "{point}");
    }
    for point in ["createContainer", "startContainer"] {
        assert_eq!(saw(point), theirs, "{point}");
    }
}

#[test]
fn create_hooks_see_the_mounts_and_not_yet_the_new_root() {
    let (mut world, notes) = noting(&["true"]);
    let script = |name: &str| {
        format!(
            "grep -c {} /proc/self/mountinfo > {}/{name}; ls / > {}/{name}.root",
            world.rootfs("").display(),
            notes.display(),
            notes.display()
        )
    };
    let (runtime, container) = (hook(&script("runtime")), hook(&script("container")));
    world.config["hooks"] = json!({"createRuntime": [runtime], "createContainer": [container]});
    world.run().ok();
    let host: Vec<_> = {
        let mut names: Vec<_> =
            fs::read_dir("/").unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    for name in ["runtime", "container"] {
        let root = read(&notes.join(format!("{name}.root")));
        let mut saw: Vec<_> = root.lines().filter(|name| !name.starts_with('.')).collect();
        saw.sort_unstable();
        let host: Vec<_> = host.iter().filter(|name| !name.starts_with('.')).collect();
        assert_eq!(saw, host, "{name}");
    }
}

#[test]
fn args_and_environment_are_what_the_config_says() {
    let (mut world, notes) = noting(&["true"]);
    let note = notes.join("note");
    let script = |tag: &str| format!("echo \"{tag} $0 $1 X=$X HOME=$HOME\" >> {}", note.display());
    world.config["hooks"] = json!({
        "createRuntime": [
            {"path": "/bin/sh", "args": ["sh", "-c", script("a"), "zero", "one"], "env": ["X=1"]},
        ],
        "createContainer": [
            {"path": "/bin/sh", "args": ["sh", "-c", script("b"), "zero", "one"], "env": ["X=2"]},
        ],
    });
    world.write();
    finish(world.command(&["run", &world.id]).env("LEAK", "1")).ok();
    assert_eq!(read(&note), "a zero one X=1 HOME=\nb zero one X=2 HOME=\n");
}

#[test]
fn args_zero_is_what_was_given_and_else_the_path() {
    let (mut world, notes) = noting(&["true"]);
    let tell = notes.join("tell");
    // args[0] of a script is its path, so this must be a binary: busybox looks at its own name.
    fs::copy("/bin/busybox", &tell).unwrap();
    std::os::unix::fs::symlink(&tell, notes.join("pwd")).unwrap();
    world.config["hooks"] = json!({"createRuntime": [
        {"path": tell, "args": ["touch", notes.join("named")]},
        {"path": notes.join("pwd")},
    ], "createContainer": [
        {"path": tell, "args": ["touch", notes.join("inside")]},
        {"path": notes.join("pwd")},
    ]});
    world.run().ok();
    assert!(notes.join("named").exists() && notes.join("inside").exists());
}

#[test]
fn a_hook_without_an_environment_has_the_runtimes_or_the_processes() {
    only!(Who::Us, Who::Runc; "crun 1.8 gives a startContainer hook nothing");
    let (mut world, notes) = noting(&["true"]);
    fs::create_dir_all(world.rootfs("etc")).unwrap();
    fs::write(world.rootfs("etc/passwd"), "root:x:0:0::/home/found:/bin/sh\n").unwrap();
    world.config["process"]["env"] = json!(["PATH=/bin", "MINE=yes"]);
    let script = |point: &str| format!("echo $MINE $CALLER $HOME > {}/{point}", notes.display());
    for point in ["prestart", "createRuntime", "startContainer", "poststart", "poststop"] {
        world.config["hooks"][point] = json!([
            {"path": "/bin/sh", "args": ["sh", "-c", script(point)]},
            {"path": "/bin/sh", "args": ["sh", "-c", script(&format!("{point}.none"))], "env": []},
        ]);
    }
    world.write();
    finish(world.command(&["run", &world.id]).env("CALLER", "us").env("HOME", "/ours")).ok();
    for point in ["prestart", "createRuntime", "poststart", "poststop"] {
        assert_eq!(read(&notes.join(point)), "us /ours\n", "{point}");
    }
    assert_eq!(read(&notes.join("startContainer")), "yes /home/found\n");
    if who() == Who::Us {
        assert_eq!(read(&notes.join("startContainer.none")), "\n");
        assert_eq!(read(&notes.join("poststop.none")), "\n");
    }
}

#[test]
fn a_hook_runs_in_the_bundle_or_in_the_root() {
    only!(Who::Us; "runc since 1.2");
    let (mut world, notes) = noting(&["true"]);
    world.config["process"]["cwd"] = json!("/bin");
    for point in POINTS {
        world.config["hooks"][point] = json!([hook(&format!("pwd -P > {}/{point}", notes.display()))]);
    }
    world.config["hooks"]["startContainer"][0]["env"] = json!(["PATH=/bin"]);
    world.run().ok();
    let (bundle, root) = (world.bundle().canonicalize().unwrap(), world.rootfs("").canonicalize().unwrap());
    for point in ["prestart", "createRuntime", "poststart", "poststop"] {
        assert_eq!(read(&notes.join(point)).trim_end(), bundle.to_str().unwrap(), "{point}");
    }
    assert_eq!(read(&notes.join("createContainer")).trim_end(), root.to_str().unwrap());
    assert_eq!(read(&notes.join("startContainer")), "/\n");
}

#[test]
fn a_start_container_hook_may_do_no_more_than_the_process() {
    let show =
        "grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp)' /proc/self/status; ulimit -n; umask; pwd; mkdir new; true";
    for no_new_privileges in [true, false] {
        let (mut world, notes) = noting(&["sh", "-c", &format!("exec 2>&1; {show}")]);
        let file = notes.join("hook");
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
        let script = format!("exec >{} 2>&1; {show}", file.display());
        world.config["hooks"] = json!({"startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]});
        *world.at("/process/user") = json!({"uid": 1000, "gid": 1000, "additionalGids": [5], "umask": 0o27});
        *world.at("/process/noNewPrivileges") = json!(no_new_privileges);
        *world.at("/process/rlimits") = json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]);
        *world.at("/linux/seccomp") = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}],
        });
        let process = world.run().out;
        assert!(process.contains("Seccomp:\t2") && process.contains("No space left on device"), "{process}");
        assert_eq!(read(&file), process);
    }
}

#[test]
fn a_hook_that_fails_before_the_container_is_there_undoes_everything() {
    for point in ["prestart", "createRuntime", "createContainer"] {
        let (mut world, notes) = noting(&["sleep", "1000"]);
        world.config["hooks"] = json!({
            point: [hook("true"), hook("echo so; echo why >&2; exit 3"), hook(&format!("touch {}/third", notes.display()))],
            "poststop": [hook(&format!("cat > {}/poststop", notes.display()))],
        });
        let pid_file = world.path("pid");
        world.write();
        let failed = world.call(&["create", "--pid-file", pid_file.to_str().unwrap(), &world.id]);
        // crun: 1 or 255, depending on the hook.
        assert!(if who() == Who::Crun { failed.code() != 0 } else { failed.code() == 1 }, "{point}: {}", failed.code());
        if who() == Who::Us {
            let said = &failed.err;
            for words in [&format!("hooks.{point}"), "hook #1", "exit status 3", "why", "so"] {
                assert!(said.contains(words), "{words:?} is not in {said}");
            }
            let state: Value = serde_json::from_str(&read(&notes.join("poststop"))).unwrap();
            assert_eq!((&state["status"], &state["pid"]), (&json!("stopped"), &json!(0)), "{point}");
        }
        assert!(!notes.join("third").exists());
        world.assert_clean();
        if who() == Who::Us {
            assert!(!pid_file.exists());
        }
    }
}

#[test]
fn a_start_container_hook_that_fails_makes_start_fail() {
    let (mut world, notes) = noting(&["sh", "-c", "touch $N/ran; sleep 1000"]);
    world.config["process"]["env"] = json!(["PATH=/bin", format!("N={}", notes.display())]);
    world.config["hooks"] = json!({"startContainer":
        [{"path": "/bin/sh", "args": ["sh", "-c", "echo why >&2; exit 4"], "env": ["PATH=/bin"]}]});
    world.create().ok();
    let failed = world.call(&["start", &world.id]);
    if who() == Who::Us {
        let said = failed.fails();
        for words in ["hooks.startContainer", "hook #0", "exit status 4"] {
            assert!(said.contains(words), "{words:?} is not in {said}");
        }
    }
    world.wait_for_status("stopped");
    assert!(!notes.join("ran").exists());
    world.call(&["delete", &world.id]).ok();
    // With `run`, nothing is left.
    let failed = world.call(&["run", &world.id]);
    if who() == Who::Us {
        assert_eq!(failed.code(), 1);
        let said = failed.fails();
        assert!(said.contains("hook #0") && said.contains("why"), "{said}");
        world.assert_clean();
    } else {
        world.call(&["delete", "--force", &world.id]).ok();
    }
}

#[test]
fn a_poststart_hook_that_fails_stops_the_container() {
    only!(Who::Us; "runc 1.1.5 runs it at create; crun deletes the container");
    let mut world = World::running(&["sleep", "1000"]);
    world.config["hooks"] = json!({"poststart": [hook("exit 5")]});
    world.create().ok();
    let said = world.call(&["start", &world.id]).fails();
    assert!(said.contains("hooks.poststart") && said.contains("exit status 5"), "{said}");
    assert_eq!(world.status(), "stopped");
    world.call(&["delete", &world.id]).ok();
    world.call(&["run", &world.id]).fails();
    world.assert_clean();
}

#[test]
fn a_poststop_hook_that_fails_is_a_warning_and_the_others_run() {
    let (mut world, notes) = noting(&["true"]);
    world.config["hooks"] = json!({"poststop":
        [hook("exit 6"), json!({"path": "/nope"}), hook(&format!("touch {}/third", notes.display()))]});
    world.create().ok();
    let deleted = world.call(&["delete", "--force", &world.id]);
    assert_eq!(deleted.code(), 0, "{}", deleted.err);
    if who() == Who::Us {
        assert!(deleted.err.contains("warning") && deleted.err.contains("exit status 6"), "{}", deleted.err);
        assert!(deleted.err.contains("/nope"), "{}", deleted.err);
    }
    assert!(who() == Who::Runc || notes.join("third").exists());
    world.assert_clean();
    // It does not change the exit status of a foreground run.
    world.config["process"]["args"] = json!(["sh", "-c", "exit 7"]);
    assert_eq!(world.run().code(), 7);
}

#[test]
fn poststop_hooks_that_cannot_be_read_are_reported() {
    only!(Who::Us; "the files and the words are ours");
    let (mut world, _notes) = noting(&["true"]);
    world.config["hooks"] = json!({"poststop": [hook("exit 6")]});
    world.create().ok();
    fs::write(world.path("state").join(&world.id).join("config.json"), "{").unwrap();
    let deleted = world.call(&["delete", "--force", &world.id]);
    assert_eq!(deleted.code(), 0, "{}", deleted.err);
    assert!(deleted.err.contains("hooks.poststop: not run"), "{}", deleted.err);
    world.assert_clean();
}

#[test]
fn time_is_up_for_a_hook_and_all_it_started() {
    only!(Who::Us, Who::Crun; "runc kills the hook alone, and then waits for what it started");
    for point in ["createRuntime", "createContainer", "startContainer"] {
        let (mut world, notes) = noting(&["true"]);
        let script = format!("sleep 66.5 & echo $! > {0}/child; sleep 66.5", notes.display());
        let path = if point == "startContainer" { "PATH=/bin" } else { "PATH=/bin:/usr/bin" };
        world.config["hooks"] =
            json!({point: [{"path": "/bin/sh", "args": ["sh", "-c", script], "env": [path], "timeout": 1}]});
        let before = Instant::now();
        let failed = world.run();
        assert!(before.elapsed() < Duration::from_secs(20), "{point}");
        if who() == Who::Us {
            let said = failed.fails();
            assert!(said.contains("hook ran past specified timeout of 1.0s"), "{point}: {said}");
        }
        if who() == Who::Us && point == "createRuntime" {
            // For other hooks, the number is a pid in the container's pid namespace, which has ended.
            let child: i32 = read(&notes.join("child")).trim().parse().unwrap();
            wait_until("the hook's child is gone", || !alive(child));
        }
        world.call(&["delete", "--force", &world.id]).ok();
    }
    // A hook that has left its process group. perl-base is part of every Debian.
    if who() == Who::Us {
        let (mut world, _notes) = noting(&["true"]);
        let script = "setpgrp(0, getpgrp(getppid())); sleep 66";
        world.config["hooks"] =
            json!({"createContainer": [{"path": "/usr/bin/perl", "args": ["perl", "-e", script], "timeout": 1}]});
        let said = world.run().fails();
        assert!(said.contains("hook ran past specified timeout of 1.0s"), "{said}");
    }
}

#[test]
fn a_hook_may_ignore_its_state_and_leave_something_running() {
    only!(Who::Us, Who::Runc; "crun waits for what reads its pipe to the end");
    let mut world = World::running(&["true"]);
    let script = "exec 0<&-; (sleep 12 >/dev/null 2>&1 </dev/null &)";
    world.config["annotations"] = json!({"large": "x".repeat(200_000)});
    world.config["hooks"] = json!({"createRuntime": [hook(script)], "poststop": [hook(script)]});
    let before = Instant::now();
    world.run().ok();
    assert!(before.elapsed() < Duration::from_secs(10), "it waits for what the hook left");
}

#[test]
fn a_hook_that_is_not_there_is_a_failure() {
    for point in ["createRuntime", "createContainer", "startContainer"] {
        let mut world = World::running(&["true"]);
        world.config["hooks"] = json!({point: [{"path": "/no/such/hook"}]});
        let failed = world.run();
        if who() == Who::Us || point != "startContainer" {
            let said = failed.fails();
            assert!(who() != Who::Us || said.contains(point), "{said}");
            assert!(who() != Who::Us || said.to_lowercase().contains("no such file"), "{said}");
        }
        world.call(&["delete", "--force", &world.id]).ok();
        world.assert_clean();
    }
    let mut world = World::running(&["true"]);
    world.config["hooks"] = json!({"createRuntime": [{"path": "relative"}]});
    world.run().fails();
    world.assert_clean();
}

#[test]
fn hooks_of_the_runtime_are_outside_the_cgroup_and_hooks_of_the_container_inside() {
    needs_cgroup!();
    let (mut world, notes) = noting(&["true"]);
    let script = |name: &str| format!("cat /proc/self/cgroup > {}/{name}", notes.display());
    let (runtime, container) = (hook(&script("runtime")), hook(&script("container")));
    world.config["hooks"] = json!({"createRuntime": [runtime], "createContainer": [container]});
    world.run().ok();
    assert!(!read(&notes.join("runtime")).contains(&world.id));
    assert!(read(&notes.join("container")).contains(&world.id));
}

#[test]
fn a_hook_has_three_streams_and_nothing_of_ours() {
    only!(Who::Us, Who::Crun; "Debian's runc hands its sockets to hooks");
    let (mut world, notes) = noting(&["true"]);
    let script = |name: &str| format!("ls -l /proc/self/fd > {}/{name}", notes.display());
    let (runtime, container) = (hook(&script("runtime")), hook(&script("container")));
    world.config["hooks"] = json!({
        "createRuntime": [runtime], "createContainer": [container],
        "startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", script("start")], "env": ["PATH=/bin"]}],
    });
    world.run().ok();
    for name in ["runtime", "container", "start"] {
        let list = read(&notes.join(name));
        let fds: Vec<_> = list.lines().filter(|line| line.contains("->")).collect();
        // 0, 1, 2, and one descriptor of ls itself.
        assert!(fds.len() <= 4, "{name}: {list}");
    }
    let owner = fs::metadata(notes.join("start")).unwrap().uid();
    assert_eq!(owner, rustix::process::getuid().as_raw());
}

#[test]
fn a_create_container_hook_has_the_callers_umask_and_the_environment_of_the_process() {
    only!(Who::Us, Who::Runc; "crun's hook has the environment of the runtime");
    let (mut world, notes) = noting(&["true"]);
    let script = format!("umask > {0}/umask; echo $TERM > {0}/term", notes.display());
    world.config["hooks"] = json!({"createContainer": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]});
    world.run().ok();
    let ours = finish(std::process::Command::new("/bin/sh").args(["-c", "umask"])).ok();
    assert_eq!((read(&notes.join("umask")), read(&notes.join("term"))), (ours, "xterm\n".to_owned()));
}
