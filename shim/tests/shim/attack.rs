//! A container that looks at the shim's children, with integration/security/attacker.c. `write-exe` writes to the shim's own file
//! by /proc/PID/exe (CVE-2019-5736): it keeps a descriptor of every program that it sees, and opens it for writing as soon
//! as no process runs it. `joiner` reads the descriptors, directories, environment and memory of each new process
//! (CVE-2016-9962).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::messages::google::Empty;
use crate::messages::task::*;
use crate::world::{Client, SECRET, SHIM, World, gone, root_is_here, skip, world};

/// Compiles the attacker into the containers' root, or copies that of ATTACKER.
pub fn put_attacker(world: &World) -> bool {
    if let Some(attacker) = std::env::var_os("ATTACKER") {
        return fs::copy(attacker, world.path("rootfs/attacker")).is_ok();
    }
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../integration/security/attacker.c");
    let mut cc = Command::new("cc");
    cc.args(["-static", "-O1", "-pthread", "-o"]).arg(world.path("rootfs/attacker")).arg(source);
    cc.status().is_ok_and(|status| status.success())
}

/// A bundle whose program is the attacker, with all that a privileged container may do.
pub fn privileged(world: &World, id: &str, args: &[&str], pids: Option<u32>) {
    world.edit(id, |config| {
        let all = json!(["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_SYS_PTRACE"]);
        config["process"]["capabilities"] = json!({"effective": all, "permitted": all, "bounding": all});
        config["process"]["args"] = json!(args);
        if let Some(pid) = pids {
            config["linux"]["namespaces"][0]["path"] = json!(format!("/proc/{pid}/ns/pid"));
        }
    });
}

/// The attacker again, which says how it is used and ends with 2: the file is the attacker's own, which it leaves alone.
fn exec(client: &mut Client, exec: &str) {
    let mut order = Client::exec_order("c1", exec, "");
    let all = json!(["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_SYS_PTRACE"]);
    let capabilities = json!({"effective": all, "permitted": all, "bounding": all});
    let object = json!({"cwd": "/", "args": ["/attacker"], "env": [], "user": {"uid": 0, "gid": 0}, "capabilities": capabilities});
    order.spec.as_mut().expect("a process").value = object.to_string().into_bytes();
    let _: Empty = client.call("Exec", &order).expect("Exec");
    client.start("c1", exec).expect("Start");
    let ended: WaitResponse = client.call("Wait", &Client::wait("c1", exec)).expect("Wait");
    assert_eq!(ended.exit_status, 2);
    client.delete("c1", exec).expect("Delete");
}

#[test]
fn the_file_of_the_shim_cannot_be_written_by_a_container() {
    if !root_is_here() {
        return;
    }
    let mut world = world();
    if !put_attacker(&world) {
        skip("no C compiler");
        return;
    }
    fs::copy(&world.program, world.path("copy")).expect("a copy");
    world.program = world.path("copy");
    let before = fs::read(&world.program).expect("the copy");
    privileged(&world, "c1", &["/attacker", "write-exe", "/stop", "copy"], None);
    world.bundle("c2");
    let mut client = world.start();
    let first = client.create(&world, "c1").expect("Create");
    client.start("c1", "").expect("Start");
    let said = || fs::read_to_string(world.path("out")).unwrap_or_default();
    gone("the attacker's silence", || !said().contains("ready"));
    // a container that comes later into the same pid namespace, as with shareProcessNamespace. Its init waits for Start
    privileged(&world, "c2", &["/attacker"], Some(first.pid));
    client.create(&world, "c2").expect("Create");
    gone("the attacker's blindness for an init that waits", || !said().contains("holds"));
    client.delete("c2", "").expect("Delete");
    for n in 0..20 {
        exec(&mut client, &format!("e{n}"));
    }
    for _ in 0..5 {
        client.create(&world, "c2").expect("Create");
        client.start("c2", "").expect("Start");
        let ended: WaitResponse = client.call("Wait", &Client::wait("c2", "")).expect("Wait");
        assert_eq!(ended.exit_status, 2);
        client.delete("c2", "").expect("Delete");
    }
    let seen = said();
    assert!(seen.contains("holds"), "it saw no program of ours: {seen}");
    assert!(!seen.contains("wrote") && !seen.contains("could write"), "{seen}");
    // no process runs it any more
    client.kill();
    std::thread::sleep(Duration::from_millis(300));
    assert!(fs::read(&world.program).expect("the copy") == before, "written: {}", said());
    world.clear();
}

/// A container of the same pod that has a secret in its environment, and so does its exec. Both are gone at the end.
fn live_with_a_secret(client: &mut Client, world: &World) {
    let path = world.bundles.join("c2/config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&path).expect("config.json")).expect("JSON");
    // so many that some outlast what is allocated later
    let env: Vec<String> = (0..200).map(|n| format!("SECRET{n}={SECRET}")).collect();
    config["process"]["env"] = json!(env);
    fs::write(path, config.to_string()).expect("config.json");
    client.create(world, "c2").expect("Create");
    client.start("c2", "").expect("Start");
    let mut order = Client::exec_order("c2", "e", "-v");
    let object = json!({"cwd": "/", "args": ["/shim", "-v"], "env": env, "user": {"uid": 0, "gid": 0}});
    order.spec.as_mut().expect("a process").value = object.to_string().into_bytes();
    let _: Empty = client.call("Exec", &order).expect("Exec");
    client.start("c2", "e").expect("Start");
    let _: WaitResponse = client.call("Wait", &Client::wait("c2", "e")).expect("Wait");
    client.delete("c2", "e").expect("Delete");
    client.close_stdin("c2");
    let _: WaitResponse = client.call("Wait", &Client::wait("c2", "")).expect("Wait");
    client.delete("c2", "").expect("Delete");
}

#[test]
fn nothing_of_the_shim_is_in_a_process_that_a_container_sees() {
    if !root_is_here() {
        return;
    }
    let world = world();
    if !put_attacker(&world) {
        skip("no C compiler");
        return;
    }
    let mark = world.bundles.join("c1/config.json").display().to_string();
    let reversed: String = SECRET.chars().rev().collect();
    privileged(&world, "c1", &["/attacker", "joiner", "/found", "/stop", &mark, &reversed], None);
    world.bundle("c2");
    world.bundle("c3");
    let mut client = world.start();
    let first = client.create(&world, "c1").expect("Create");
    client.start("c1", "").expect("Start");
    let found = || fs::read_to_string(world.path("rootfs/found")).unwrap_or_default();
    gone("the attacker's silence", || !found().starts_with("looking"));
    live_with_a_secret(&mut client, &world);
    privileged(&world, "c3", &["/attacker"], Some(first.pid));
    let seen = || found().lines().filter(|line| line.starts_with("seen")).count();
    // on a busy machine it misses some
    for n in 0..200 {
        if seen() >= 12 {
            break;
        }
        exec(&mut client, &format!("e{n}"));
        if n % 3 == 0 {
            let before = seen();
            client.create(&world, "c3").expect("Create");
            if n == 0 {
                // the attacker looks 3,000 times at an init that waits for Start
                for _ in 0..600 {
                    if seen() > before {
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(100));
                }
                assert!(seen() > before, "the attacker does not look at it");
            }
            client.start("c3", "").expect("Start");
            let _: WaitResponse = client.call("Wait", &Client::wait("c3", "")).expect("Wait");
            client.delete("c3", "").expect("Delete");
        }
    }
    assert!(seen() >= 12, "it has seen {} processes", seen());
    fs::write(world.path("rootfs/stop"), "").expect("stop");
    let ended: WaitResponse = client.call("Wait", &Client::wait("c1", "")).expect("Wait");
    assert!(ended.exit_status == 1 && !found().contains(": "), "{}", found());
    client.delete("c1", "").expect("Delete");
    client.shut_down();
    world.assert_empty();
}

/// While a descriptor of the mount of our program is open, a process with a descriptor of the file can make the mount writable.
#[test]
fn the_mount_of_the_shims_program_cannot_be_changed_while_execs_come_in() {
    if !root_is_here() {
        return;
    }
    let world = world();
    if !put_attacker(&world) {
        skip("no C compiler");
        return;
    }
    privileged(&world, "c1", &["/attacker", "unseal-next", "6"], None);
    let mut client = world.start_c1();
    let said = || fs::read_to_string(world.path("out")).unwrap_or_default();
    gone("the attacker's silence", || !said().contains("ready"));
    let mut count = 0;
    while client.status("c1") == status::RUNNING {
        count += 1;
        let name = format!("e{count}");
        let added: Result<Empty, _> = client.call("Exec", &Client::exec_order("c1", &name, "-v"));
        // its init may end meanwhile
        if added.is_ok() && client.start("c1", &name).is_ok() {
            let _: WaitResponse = client.call("Wait", &Client::wait("c1", &name)).expect("Wait");
        }
    }
    let ended: WaitResponse = client.call("Wait", &Client::wait("c1", "")).expect("Wait");
    assert!(ended.exit_status == 1 && said().contains("not unsealed"), "{}", said());
    assert!(!said().contains("seen 0,"), "the attacker has seen nobody: {}", said());
    client.delete("c1", "").expect("Delete");
    client.shut_down();
    world.assert_empty();
}

/// What /proc shows of an init that waits for its start.
fn shown(pid: u32) -> BTreeMap<String, String> {
    let at = |name: &str| PathBuf::from(format!("/proc/{pid}/{name}"));
    let mut shown = BTreeMap::new();
    for line in fs::read_to_string(at("status")).expect("status").lines() {
        let (name, value) = line.split_once(':').expect("a line");
        let same = ["Uid", "Gid", "Groups", "NoNewPrivs", "Seccomp", "Threads", "TracerPid", "Umask"];
        if same.contains(&name) || name.starts_with("Cap") || name.starts_with("Sig") && name != "SigQ" {
            shown.insert(name.to_owned(), value.trim().to_owned());
        }
    }
    for name in ["cmdline", "environ", "limits"] {
        // the runtime overwrites what was there
        let text = fs::read_to_string(at(name)).expect("/proc");
        shown.insert(name.to_owned(), text.trim_end_matches('\0').to_owned());
    }
    // not dumpable: these belong to root of the host, and a tracer needs capabilities
    shown.insert("owner".to_owned(), fs::metadata(at("environ")).expect("environ").uid().to_string());
    let mut fds: Vec<String> = Vec::new();
    for fd in fs::read_dir(at("fd")).expect("fd").flatten() {
        let to = fs::read_link(fd.path()).expect("a link");
        let name = to.file_name().expect("a name").display().to_string();
        // the number of a socket
        fds.push(name.split(':').next().unwrap_or_default().to_owned());
    }
    fds.sort();
    shown.insert("fd".to_owned(), fds.join(", "));
    for name in ["cwd", "root"] {
        let stat = fs::metadata(at(name)).expect(name);
        shown.insert(name.to_owned(), format!("{} {}", stat.dev(), stat.ino()));
    }
    let writable = File::options().write(true).open(at("exe")).map_err(|error| error.kind());
    shown.insert("exe".to_owned(), format!("{:?}", writable.map(drop)));
    shown
}

/// An init of the shim is as hardened as that of the program, which has less memory and fewer descriptors to lose.
#[test]
fn an_init_that_waits_shows_what_that_of_the_program_shows() {
    if !root_is_here() {
        return;
    }
    let program = PathBuf::from(SHIM).with_file_name("coracle");
    if !program.exists() {
        return skip(&format!("{} is not built", program.display()));
    }
    let world = world();
    world.bundle("c2");
    let mut client = world.start();
    let order = CreateTaskRequest { stdin: String::new(), stdout: String::new(), ..Client::order(&world, "c1") };
    let ours: CreateTaskResponse = client.call("Create", &order).expect("Create");
    let by_hand = |args: &[&str]| {
        let mut command = Command::new(&program);
        command.args(["--root", &world.text("b/state/test")]).args(args).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(Stdio::null()).current_dir(world.bundles.join("c2")).status().expect("coracle")
    };
    assert!(by_hand(&["create", "--pid-file", "pid", "c2"]).success());
    let theirs = fs::read_to_string(world.bundles.join("c2/pid")).expect("a pid").trim().parse().expect("a pid");
    assert_eq!(shown(ours.pid), shown(theirs));
    assert!(by_hand(&["delete", "--force", "c2"]).success());
    client.delete("c1", "").expect("Delete");
    client.shut_down();
    world.assert_empty();
}
