//! A restored container continues in the state of the checkpoint.

use std::fs;
use std::os::unix::net::UnixListener;

use serde_json::json;

use super::{COUNTER, assert_counts_on, command, count, dump, needs_criu, restore};
use crate::needs;
use crate::world::{World, finish, wait_until};

/// The state of the first process as seen from outside, without the numbers that differ each time.
fn looks(world: &World) -> Vec<String> {
    let pid = world.pid();
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    let kept =
        ["Uid", "Gid", "Groups", "Cap", "NoNewPrivs", "Seccomp", "Umask", "SigIgn", "SigCgt", "Cpus_allowed_list"];
    let status = read("status");
    let status = status.lines().filter(|line| kept.iter().any(|name| line.starts_with(name)));
    let mountinfo = read("mountinfo");
    let mut mounts: Vec<_> =
        mountinfo.lines().map(|line| line.split(' ').skip(3).take(3).collect::<Vec<_>>().join(" ")).collect();
    mounts.sort_unstable();
    let files = ["limits", "cgroup", "oom_score_adj", "environ", "comm"];
    status.map(str::to_owned).chain(mounts).chain(files.map(read)).collect()
}

fn namespaces(world: &World) -> Vec<(String, bool)> {
    let link = |pid: &str, name: &str| fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
    let pid = world.pid().to_string();
    let kinds = ["mnt", "net", "pid", "ipc", "uts", "user", "cgroup"];
    kinds.map(|name| (name.to_owned(), link(&pid, name) == link("self", name))).to_vec()
}

#[test]
fn a_counter_continues_in_an_unchanged_container() {
    needs_criu!();
    let mut world = World::running(&["sh", "-c", COUNTER]);
    let volume = world.path("volume");
    fs::create_dir(&volume).unwrap();
    fs::write(volume.join("file"), "the host's\n").unwrap();
    world
        .mount(json!({"destination": "/data", "type": "bind", "source": volume, "options": ["rbind", "ro", "nosuid"]}));
    world.mount(
        json!({"destination": "/data/file", "type": "bind", "source": volume.join("file"), "options": ["bind"]}),
    );
    world.mount(
        json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro", "nosuid"]}),
    );
    *world.at("/process/rlimits") = json!([{"type": "RLIMIT_CORE", "soft": 7, "hard": 9}]);
    *world.at("/process/oomScoreAdj") = json!(77);
    *world.at("/linux/seccomp") = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls":
        [{"names": ["chroot"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99}]});
    *world.at("/linux/resources/pids") = json!({"limit": 50});
    *world.at("/annotations") = json!({"of": "mine"});
    world.begin();
    let (before, seen, spaces, created) =
        (count(&world), looks(&world), namespaces(&world), world.state()["created"].clone());
    dump(&world, "images", &[]).ok();
    world.assert_clean();
    let mode = |name: &str| {
        use std::os::unix::fs::PermissionsExt;
        fs::metadata(world.bundle().join(name)).unwrap().permissions().mode() & 0o777
    };
    assert_eq!((mode("images"), mode("images/descriptors.json")), (0o700, 0o600));

    restore(&world, "images", &["--pid-file", "pid"]).ok();
    assert_counts_on(&world, before);
    assert_eq!(looks(&world), seen);
    assert_eq!(namespaces(&world), spaces);
    let state = world.state();
    assert_eq!((&state["status"], &state["annotations"]["of"]), (&json!("running"), &json!("mine")));
    assert!(state["created"] != created);
    assert_eq!(fs::read_to_string(world.bundle().join("pid")).unwrap(), world.pid().to_string());
    // it is a container as any
    assert_eq!(world.exec(&["cat", "/data/file"]).ok(), "the host's\n");
    assert!(world.exec(&["ip", "addr"]).ok().contains("LOOPBACK,UP"));
    assert!(world.exec(&["touch", "/x"]).fails().contains("Read-only"));
    world.call(&["pause", &world.id]).ok();
    assert_eq!(world.status(), "paused");
    // a second time, out of a pause
    dump(&world, "again", &[]).ok();
    restore(&world, "again", &[]).ok();
    assert_counts_on(&world, before);
    world.call(&["kill", &world.id, "KILL"]).ok();
    world.wait_for_status("stopped");
    world.call(&["delete", &world.id]).ok();
    world.assert_clean();
}

#[test]
fn a_container_that_is_left_running_is_restored_beside_it() {
    needs_criu!();
    let world = World::running(&["sh", "-c", COUNTER]);
    world.begin();
    let (before, pid) = (count(&world), world.pid());
    dump(&world, "images", &["--leave-running"]).ok();
    assert_eq!((world.pid(), world.status().as_str()), (pid, "running"));
    assert_counts_on(&world, before);
    let mut other = World::running(&["sh", "-c", COUNTER]);
    other.config = world.config.clone();
    *other.at("/linux/cgroupsPath") = json!(crate::world::cgroups_path(&other.id));
    other.write();
    let images = world.bundle().join("images");
    restore(&other, images.to_str().unwrap(), &[]).ok();
    assert_counts_on(&other, before);
    assert_eq!(world.status(), "running");
}

#[test]
fn the_standard_streams_are_those_of_the_restore() {
    needs_criu!();
    let world = World::running(&["sh", "-c", "while read line; do echo got $line; done; exit 7"]);
    world.write();
    // pipes, as conmon and containerd have them, and then files
    let mut first = command(&world, &["run", "-d", &world.id]);
    let (reader, writer) = std::io::pipe().unwrap();
    let (out, err) = (world.path("out"), world.path("err"));
    let file = |path| fs::File::options().append(true).create(true).open(path).unwrap();
    assert!(first.stdin(reader).stdout(file(&out)).stderr(file(&err)).status().unwrap().success());
    let say = |mut to: &std::io::PipeWriter, text: &str| std::io::Write::write_all(&mut to, text.as_bytes()).unwrap();
    say(&writer, "one\n");
    wait_until("it answers", || fs::read_to_string(&out).unwrap() == "got one\n");
    dump(&world, "images", &[]).ok();
    drop(writer);
    // in the foreground, with other streams: the exit status is the program's
    let (reader, writer) = std::io::pipe().unwrap();
    let args = ["restore", "--image-path", "images", &world.id];
    let out = world.path("later");
    let mut again = command(&world, &args).stdin(reader).stdout(file(&out)).stderr(file(&err)).spawn().unwrap();
    say(&writer, "two\n");
    wait_until("it answers", || fs::read_to_string(&out).unwrap() == "got two\n");
    assert_eq!(world.status(), "running");
    drop(writer);
    assert_eq!(again.wait().unwrap().code(), Some(7));
    world.assert_clean();
}

#[test]
fn streams_that_the_program_has_moved_are_those_of_the_restore() {
    needs_criu!();
    let loops = "while read line; do echo out $line >&OUT; echo err $line >&ERR; done; exit 7";
    let moved = ("exec 5>&1 6>&2 >/dev/null 2>&1; ", ("5", "6"));
    let exchanged = ("exec 5>&1 1>&2 2>&5 5>&-; ", ("2", "1"));
    for (begin, (out, err)) in [moved, exchanged] {
        let script = format!("{begin}{}", loops.replace("OUT", out).replace("ERR", err));
        let world = World::running(&["sh", "-c", &script]);
        world.write();
        let file = |name: &str| fs::File::options().append(true).create(true).open(world.path(name)).unwrap();
        let text = |name: &str| fs::read_to_string(world.path(name)).unwrap_or_default();
        let say =
            |mut to: &std::io::PipeWriter, text: &str| std::io::Write::write_all(&mut to, text.as_bytes()).unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        let mut first = command(&world, &["run", "-d", &world.id]);
        assert!(first.stdin(reader).stdout(file("out")).stderr(file("err")).status().unwrap().success());
        say(&writer, "one\n");
        wait_until("it answers", || text("err") == "err one\n");
        assert_eq!(text("out"), "out one\n");
        dump(&world, "images", &[]).ok();
        drop(writer);
        let (reader, writer) = std::io::pipe().unwrap();
        let mut again = command(&world, &["restore", "--image-path", "images", &world.id]);
        let mut again = again.stdin(reader).stdout(file("out-2")).stderr(file("err-2")).spawn().unwrap();
        say(&writer, "two\n");
        wait_until("it answers", || text("err-2").contains("two"));
        assert_eq!((text("out-2"), text("err-2")), ("out two\n".to_owned(), "err two\n".to_owned()));
        drop(writer);
        assert_eq!(again.wait().unwrap().code(), Some(7));
        world.assert_clean();
    }
}

#[test]
fn a_restored_terminal_is_sent_to_a_console_socket() {
    needs_criu!();
    let mut world = World::running(&["sh", "-c", "stty -echo; while read line; do echo got $line; done"]);
    world.config["process"]["terminal"] = json!(true);
    world.write();
    let listener = UnixListener::bind(world.path("console")).unwrap();
    let path = world.path("console");
    let path = path.to_str().unwrap();
    let master = || {
        let stream = listener.accept().unwrap().0;
        let (_, mut fds) = crate::terminal::message(stream);
        fs::File::from(fds.pop().unwrap())
    };
    finish(&mut command(&world, &["run", "-d", "--console-socket", path, &world.id])).ok();
    let said = |master: &fs::File, word: &str| {
        // the settings of the terminal come with it: no echo
        wait_until("the terminal is set", || !world.exec(&["stty", "-F", "/dev/pts/0", "-a"]).out.contains(" echo "));
        std::io::Write::write_all(&mut &*master, format!("{word}\n").as_bytes()).unwrap();
        let text = crate::terminal::read_until(&master.try_clone().unwrap().into(), "got ");
        assert!(text.contains("got"), "{text:?}");
    };
    let first = master();
    said(&first, "one");
    dump(&world, "images", &[]).ok();
    drop(first);
    let refused = restore(&world, "images", &[]).fails();
    assert!(refused.contains("cannot allocate tty"), "{refused}");
    restore(&world, "images", &["--console-socket", path]).ok();
    said(&master(), "two");
}

#[test]
fn a_network_namespace_that_is_joined_is_joined_again_and_hooks_run() {
    needs_criu!();
    let mut world = World::running(&["sh", "-c", COUNTER]);
    let mut holder = std::process::Command::new("unshare").args(["-n", "sleep", "1000"]).spawn().unwrap();
    let path = format!("/proc/{}/ns/net", holder.id());
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    wait_until("the namespace is there", || fs::read_link(&path).unwrap() != own);
    world.namespace("network", Some(&path));
    let log = world.path("hooks");
    let hook =
        |name: &str| json!([{"path": "/bin/sh", "args": ["sh", "-c", format!("echo {name} >>{}", log.display())]}]);
    let points = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
    for point in points {
        // those in the container have no such file
        if !["createContainer", "startContainer"].contains(&point) {
            world.config["hooks"][point] = hook(point);
        }
    }
    world.begin();
    let before = count(&world);
    dump(&world, "images", &[]).ok();
    restore(&world, "images", &[]).ok();
    assert_counts_on(&world, before);
    assert_eq!(fs::read_link(format!("/proc/{}/ns/net", world.pid())).unwrap(), fs::read_link(&path).unwrap());
    let log = fs::read_to_string(&log).unwrap();
    let made = "prestart\ncreateRuntime\n";
    assert_eq!(log, format!("{made}poststart\npoststop\n{made}"));
    world.call(&["delete", "--force", &world.id]).ok();
    holder.kill().unwrap();
    holder.wait().unwrap();
}

#[test]
fn checkpoints_of_runc_are_restored_and_the_reverse() {
    needs_criu!();
    let runc = std::path::Path::new("/usr/sbin/runc");
    needs!(runc.exists(), "no runc here: hack/need runc");
    let world = World::running(&["sh", "-c", COUNTER]);
    world.write();
    let runcs = |args: &[&str]| {
        let ours = command(&world, &[]);
        let mut theirs = std::process::Command::new(runc);
        for (key, value) in ours.get_envs() {
            theirs.env(key, value.unwrap());
        }
        finish(theirs.arg("--root").arg(world.path("runc")).args(args).current_dir(world.bundle()))
    };
    let null = || fs::File::options().read(true).write(true).open("/dev/null").unwrap();
    let mut run = std::process::Command::new(runc);
    run.arg("--root").arg(world.path("runc")).args(["run", "-d", &world.id]).current_dir(world.bundle());
    assert!(run.stdin(null()).stdout(null()).stderr(null()).status().unwrap().success());
    std::thread::sleep(std::time::Duration::from_millis(300));
    runcs(&["checkpoint", "--image-path", "images", &world.id]).ok();
    restore(&world, "images", &[]).ok();
    let before = count(&world);
    assert_counts_on(&world, before);
    dump(&world, "ours", &[]).ok();
    runcs(&["restore", "-d", "--image-path", "ours", &world.id]).ok();
    let state: serde_json::Value = serde_json::from_str(&runcs(&["state", &world.id]).ok()).unwrap();
    assert_eq!(state["status"], "running");
    runcs(&["delete", "--force", &world.id]).ok();
}

/// Writes what a process sees of itself to a file, each time that the file is missing. The first process never changes its streams.
const LOOKS: &str = r#"look() {
  grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp|Umask|SigBlk|SigIgn|SigCgt|Cpus_allowed_list|Mems_allowed_list|NStgid|NSpid)' /proc/$$/status
  cat /proc/$$/limits /proc/$$/oom_score_adj /proc/$$/uid_map /proc/$$/cgroup
  tr '\000' '\n' </proc/$$/cmdline; tr '\000' '\n' </proc/$$/environ
  while read -r a b c root place options rest; do echo "$root $place $options"; done </proc/self/mountinfo
  for file in /proc/keys /proc/timer_list /sys/firmware; do stat -c '%n %F' $file; done
  echo 1 >/proc/sys/kernel/domainname; touch /proc/x /x; chroot / true; hostname; hostname other; umask; pwd; id
  stat -c '%n %a %u %g %t %T' /dev/* /dev/shm; cat /dev/shm/kept; ip addr show lo; ulimit -a
}
echo kept >/dev/shm/kept
while :; do
  [ -e /dev/shm/look ] || { (look </dev/null >/dev/shm/new 2>&1); mv /dev/shm/new /dev/shm/look; }
  sleep 0.05
done"#;

#[test]
fn a_process_sees_the_same_before_and_after() {
    needs_criu!();
    let mut world = World::running(&["sh", "-c", LOOKS]);
    *world.at("/process/rlimits") =
        json!([{"type": "RLIMIT_CORE", "soft": 7, "hard": 9}, {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]);
    *world.at("/process/oomScoreAdj") = json!(55);
    *world.at("/process/noNewPrivileges") = json!(true);
    *world.at("/process/user") = json!({"uid": 0, "gid": 0, "additionalGids": [7, 9], "umask": 0o27});
    let set = ["CAP_KILL", "CAP_NET_BIND_SERVICE"];
    *world.at("/process/capabilities") =
        json!({"bounding": set, "permitted": set, "effective": ["CAP_KILL"], "inheritable": [], "ambient": []});
    *world.at("/linux/seccomp") = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls":
        [{"names": ["chroot", "sethostname"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99}]});
    *world.at("/linux/maskedPaths") = json!(["/proc/keys", "/proc/timer_list", "/sys/firmware"]);
    *world.at("/linux/readonlyPaths") = json!(["/proc/sys"]);
    world.begin();
    let sees = |world: &World| {
        let file = format!("/proc/{}/root/dev/shm/look", world.pid());
        let mut text = String::new();
        wait_until("it has looked", || {
            text = fs::read_to_string(&file).unwrap_or_default();
            !text.is_empty()
        });
        fs::remove_file(file).unwrap();
        // mounts may come in another order
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let before = sees(&world);
    let text = before.join("\n");
    let masked = "/proc/timer_list character special file";
    let denied = "sethostname: Cannot assign requested address"; // errno 99
    for expected in ["NoNewPrivs:\t1", "Seccomp:\t2", masked, "Read-only", denied, "kept"] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    dump(&world, "images", &[]).ok();
    restore(&world, "images", &[]).ok();
    // what was written before the checkpoint is not what is seen after it
    sees(&world);
    let after = sees(&world);
    let differ = |a: &[String], b: &[String]| a.iter().filter(|line| !b.contains(line)).cloned().collect::<Vec<_>>();
    assert_eq!((differ(&before, &after), differ(&after, &before)), (Vec::new(), Vec::new()));
}
