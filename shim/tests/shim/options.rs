//! The options of the runtime and of the shim: each has its effect, in each form in which containerd sends it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use nix::sched::CloneFlags;
use prost::Message;
use serde_json::json;

use crate::messages::google::{Any, Empty};
use crate::messages::runc::{Options, RuntimeOptions};
use crate::messages::task::*;
use crate::world::{Client, World, gone, root_is_here, skip, world};

const GENERIC: &str = "runtimeoptions.v1.Options";

/// Creates c1 with these options.
fn create(client: &mut Client, world: &World, options: Any) -> CreateTaskResponse {
    let order = CreateTaskRequest { options: Some(options), ..Client::order(world, "c1") };
    client.call("Create", &order).expect("Create")
}

/// The owner of a stream of a process. The runtime gives it to the process's user then, and leaves the group (as runc does).
fn owner(pid: u32, stream: u32) -> (u32, u32) {
    let stat = fs::metadata(format!("/proc/{pid}/fd/{stream}")).expect("a stream");
    (stat.uid(), stat.gid())
}

#[test]
fn streams_belong_to_the_group_that_is_named() {
    if !root_is_here() {
        return;
    }
    let mut world = world();
    world.fifo("never");
    let mut client = world.start();
    world.options = Options { io_uid: 1234, io_gid: 4321, ..Options::default() };
    let init = client.create(&world, "c1").expect("Create");
    client.start("c1", "").expect("Start");
    let order = Client::exec_order("c1", "e", "-info");
    let asked =
        ExecProcessRequest { stdin: world.text("never"), stdout: format!("file://{}", world.text("e")), ..order };
    let _: Empty = client.call("Exec", &asked).expect("Exec");
    let exec = client.start("c1", "e").expect("Start");
    for (pid, stream) in [(init.pid, 0), (init.pid, 1), (exec.pid, 0), (exec.pid, 1)] {
        assert_eq!(owner(pid, stream), (0, 4321), "stream {stream} of {pid}");
    }
    let asked = CloseIoRequest { id: "c1".into(), exec_id: "e".into(), stdin: true };
    let _: Empty = client.call("CloseIO", &asked).expect("CloseIO");
    let _: WaitResponse = client.call("Wait", &Client::wait("c1", "e")).expect("Wait");
    client.end_c1();
    world.assert_empty();
}

/// containerd 1.x passes the path of a file with TOML, containerd 2 the TOML itself.
#[test]
fn the_options_of_a_runtime_that_containerd_does_not_know_are_toml() {
    if !root_is_here() {
        return;
    }
    let world = world();
    let text =
        format!("Root = \"{}\"\nIoGid = 77\n[Other]\nRoot = \"/nonexistent\"\n", world.bundles.join("other").display());
    fs::write(world.path("options.toml"), &text).expect("a file");
    let file = RuntimeOptions { config_path: world.text("options.toml"), ..RuntimeOptions::default() };
    let body = RuntimeOptions { config_body: text.into_bytes(), ..RuntimeOptions::default() };
    for form in [file, body] {
        let any = Any::of(GENERIC, &form);
        // `start` gets them, too, in the form before containerd 2.3
        let started = world.act("start", &any.encode_to_vec());
        assert!(started.status.success(), "start: {}", String::from_utf8_lossy(&started.stderr));
        let address = String::from_utf8(started.stdout).expect("an address");
        let mut client = Client::to(&address);
        let init = create(&mut client, &world, any);
        client.start("c1", "").expect("Start");
        assert_eq!(owner(init.pid, 1).1, 77);
        assert!(world.bundles.join("other/test/c1/state.json").exists(), "Root is not used");
        client.end_c1();
        gone("the state", || world.bundles.join("other/test/c1").exists());
        gone("the socket", || PathBuf::from(address.trim_start_matches("unix://")).exists());
        world.assert_empty();
    }
    // a file that is not there is an error, and not the defaults
    let mut client = world.start();
    let none = RuntimeOptions { config_path: world.text("none"), ..RuntimeOptions::default() };
    let order = CreateTaskRequest { options: Some(Any::of(GENERIC, &none)), ..Client::order(&world, "c1") };
    let error = client.call::<CreateTaskResponse>("Create", &order).expect_err("no file");
    assert!(error.message.contains(&world.text("none")), "{}", error.message);
    client.shut_down();
    world.assert_empty();
}

/// Whether the host's root is below that of a process, in its mount namespace: whether `path` is still there without the root of
/// the container.
fn host_is_below(pid: u32, path: PathBuf) -> bool {
    let look = move || {
        let namespace = fs::File::open(format!("/proc/{pid}/ns/mnt")).expect("its mount namespace");
        nix::sched::unshare(CloneFlags::CLONE_FS).expect("unshare");
        nix::sched::setns(&namespace, CloneFlags::CLONE_NEWNS).expect("setns");
        nix::mount::umount2("/", nix::mount::MntFlags::MNT_DETACH).expect("umount");
        // again: the directories of this thread are in the tree that was just detached
        nix::sched::setns(&namespace, CloneFlags::CLONE_NEWNS).expect("setns");
        path.exists()
    };
    std::thread::spawn(look).join().expect("a look")
}

/// A root that pivot_root(2) cannot change, as that of an initramfs: it stays below that of the container.
#[test]
fn no_pivot_root_moves_the_root_over_that_of_the_host() {
    if !root_is_here() {
        return;
    }
    let mut world = world();
    for no_pivot_root in [false, true] {
        world.options.no_pivot_root = no_pivot_root;
        let mut client = world.start();
        let init = client.create(&world, "c1").expect("Create");
        client.start("c1", "").expect("Start");
        assert_eq!(client.exec(&world, "e", "-v"), 0);
        assert_eq!(host_is_below(init.pid, world.path("rootfs/shim")), no_pivot_root);
        client.kill_container("c1");
        client.finish_c1();
        world.assert_empty();
    }
    assert!(world.path("rootfs/shim").exists(), "the host lost its root");
}

#[test]
fn no_new_keyring_keeps_that_of_the_shim() {
    if !root_is_here() {
        return;
    }
    let mut world = world();
    if !world.put_shell() {
        return skip("no static busybox");
    }
    // keyrings of other tests may be visible, too
    let id = world.cgroup.clone();
    world.bundle(&id);
    let script = "while read -r key _ _ _ _ _ _ _ name _; do echo $name; done </proc/keys";
    world.edit(&id, |config| config["process"]["args"] = json!(["/sh", "-c", script]));
    let mut client = world.start();
    // ORDER: a keyring outlives its container for a while
    for (no_new_keyring, own) in [(true, false), (false, true)] {
        world.options.no_new_keyring = no_new_keyring;
        client.create(&world, &id).expect("Create");
        client.start(&id, "").expect("Start");
        let ended: WaitResponse = client.call("Wait", &Client::wait(&id, "")).expect("Wait");
        assert_eq!(ended.exit_status, 0);
        client.delete(&id, "").expect("Delete");
        let text = fs::read_to_string(world.path("out")).expect("its output");
        assert_eq!(text.contains(&format!("_ses.{id}")), own, "{text}");
        fs::remove_file(world.path("out")).expect("its output");
    }
    client.shut_down();
    world.assert_empty();
}

/// The directories of this name in all hierarchies where a process may be without more settings.
fn cgroups(name: &str) -> Vec<PathBuf> {
    let top = PathBuf::from("/sys/fs/cgroup");
    if top.join("cgroup.controllers").exists() {
        return vec![top.join(name)];
    }
    ["memory", "pids", "freezer"]
        .map(|hierarchy| top.join(hierarchy))
        .into_iter()
        .filter(|path| path.exists())
        .map(|path| path.join(name))
        .collect()
}

#[test]
fn the_shim_is_in_the_cgroup_that_is_named() {
    if !root_is_here() {
        return;
    }
    let mut world = world();
    let name = format!("{}/own", world.cgroup);
    world.options.shim_cgroup = format!("/{name}");
    // a cgroup that does not exist: no shim is left
    let failed = world.start_shim();
    let text = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(!failed.status.success() && text.contains("failed to join cgroup /"), "{text}");
    world.assert_empty();
    let directories = cgroups(&name);
    for directory in &directories {
        fs::create_dir_all(directory).expect("a cgroup");
    }
    // in both forms of `start`
    for form in ["new", "old"] {
        let mut client = match form {
            "new" => world.start(),
            _ => {
                let any = Any::of("containerd.runc.v1.Options", &world.options());
                let started = world.act("start", &any.encode_to_vec());
                Client::to(&String::from_utf8(started.stdout).expect("an address"))
            }
        };
        let pid = client.pid.expect("a shim").as_raw_pid();
        for directory in &directories {
            let inside = fs::read_to_string(directory.join("cgroup.procs")).expect("cgroup.procs");
            assert!(inside.lines().any(|line| line == pid.to_string()), "{form}: {}", directory.display());
        }
        // its containers are elsewhere
        let init = client.create(&world, "c1").expect("Create");
        client.start("c1", "").expect("Start");
        let theirs = fs::read_to_string(format!("/proc/{}/cgroup", init.pid)).expect("its cgroups");
        assert!(!theirs.lines().any(|line| line.ends_with("/own")), "{theirs}");
        client.end_c1();
    }
    for directory in directories {
        gone("the shim", || fs::remove_dir(&directory).is_err());
    }
    world.assert_empty();
}

#[test]
fn the_shim_and_its_containers_have_a_core_scheduling_cookie() {
    if !root_is_here() {
        return;
    }
    let cookie = |pid: u32| {
        let pid = rustix::process::Pid::from_raw(pid.cast_signed()).expect("a pid");
        rustix::thread::core_scheduling_cookie(pid, rustix::thread::CoreSchedulingScope::Thread)
    };
    if let Err(errno) = cookie(std::process::id()) {
        return skip(&format!("no core scheduling in this kernel ({errno})"));
    }
    let mut world = world();
    world.variables.push(("SCHED_CORE", "1".into()));
    let started = world.start_shim();
    let text = String::from_utf8_lossy(&started.stderr).into_owned();
    if text.contains("enable core scheduling: ") {
        return skip(&format!("no core scheduling on this machine ({text})"));
    }
    let mut client = Client::of(&started);
    let init = client.create(&world, "c1").expect("Create");
    client.start("c1", "").expect("Start");
    let of_shim = cookie(client.pid.expect("a shim").as_raw_pid().cast_unsigned()).expect("a cookie");
    assert_ne!(of_shim, 0);
    assert_ne!(of_shim, cookie(std::process::id()).expect("ours"));
    assert_eq!(cookie(init.pid), Ok(of_shim));
    client.end_c1();
    world.assert_empty();
}

#[test]
fn a_unit_of_systemd_or_the_reason_why_not() {
    if !root_is_here() {
        return;
    }
    let mut world = world();
    world.options.systemd_cgroup = true;
    let name = world.cgroup.clone();
    world.edit("c1", |config| config["linux"]["cgroupsPath"] = json!(format!("system.slice:shim:{name}")));
    let mut client = world.start();
    let created = client.create(&world, "c1");
    if !PathBuf::from("/run/systemd/system").exists() {
        let error = created.expect_err("no systemd");
        assert!(error.message.contains("systemd"), "{}", error.message);
        client.shut_down();
        return world.assert_empty();
    }
    let init = created.expect("Create");
    client.start("c1", "").expect("Start");
    let groups = fs::read_to_string(format!("/proc/{}/cgroup", init.pid)).expect("its cgroups");
    assert!(groups.lines().any(|line| line.ends_with(&format!("/system.slice/shim-{name}.scope"))), "{groups}");
    let pids: PidsResponse = client.call("Pids", &PidsRequest { id: "c1".into() }).expect("Pids");
    assert_eq!(pids.processes[0].pid, init.pid);
    client.end_c1();
    world.assert_empty();
}
