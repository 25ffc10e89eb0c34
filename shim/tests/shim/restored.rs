//! Images: where a checkpoint makes them, and a container that is restored from them.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::messages::google::{Any, Empty};
use crate::messages::runc::CheckpointOptions;
use crate::messages::task::*;
use crate::world::{Client, World, gone, root_is_here, world};

/// Writes images of one process that has no memory and no mounts: enough for what the shim checks before CRIU begins.
fn images(world: &World) -> String {
    let directory = world.path("images");
    fs::create_dir(&directory).expect("mkdir");
    let write = |name: &str, magic: &[u32], message: &[u8]| {
        let length = u32::try_from(message.len()).expect("a length").to_le_bytes();
        let bytes = magic.iter().flat_map(|number| number.to_le_bytes()).chain(length).chain(message.iter().copied());
        fs::write(directory.join(name), bytes.collect::<Vec<_>>()).expect("write");
    };
    // of include/image.h of CRIU: the magic numbers; of its *.proto: img_version, pid, mtype
    let common = 0x5456_4319;
    let machine = if cfg!(target_arch = "aarch64") { 3 } else { 1 };
    write("inventory.img", &[0x5831_3116], &[0x08, 2]);
    write("pstree.img", &[common, 0x5027_3030], &[0x08, 1]);
    write("core-1.img", &[common, 0x5505_3847], &[0x08, machine]);
    fs::write(directory.join("descriptors.json"), r#"["","",""]"#).expect("write");
    directory.display().to_string()
}

/// A CRIU that answers nothing, and ends when the connection is closed.
fn silent_criu(world: &World) {
    let script = "#!/bin/bash\nexec 3<&$2\necho $$ >$0.began\nwhile [ -n \"$(dd bs=65536 count=1 <&3 2>/dev/null | wc -c | grep -v '^0')\" ]; do :; done\n";
    fs::write(world.path("criu"), script).expect("write");
    fs::set_permissions(world.path("criu"), fs::Permissions::from_mode(0o755)).expect("chmod");
}

#[test]
fn a_restore_that_waits_for_criu_can_be_killed() {
    if !root_is_here() {
        return;
    }
    let world = world();
    silent_criu(&world);
    let mut client = world.start();
    let order = CreateTaskRequest { checkpoint: images(&world), ..Client::order(&world, "c1") };
    let _: CreateTaskResponse = client.call("Create", &order).expect("Create");
    let start = client.ask("Start", &StartRequest { id: "c1".into(), exec_id: String::new() });
    gone("a criu that has not begun", || !world.path("criu.began").exists());
    let kill = KillRequest { id: "c1".into(), signal: 9, ..KillRequest::default() };
    let _: Empty = client.call("Kill", &kill).expect("Kill");
    let said = client.answer::<StartResponse>(start).expect_err("Start");
    assert!(said.message.contains("OCI runtime restore failed"), "{}", said.message);
    let ended: WaitResponse = client.call("Wait", &Client::wait("c1", "")).expect("Wait");
    assert_eq!(ended.exit_status, 137);
    let criu = fs::read_to_string(world.path("criu.began")).expect("its pid");
    gone("criu", || fs::exists(format!("/proc/{}", criu.trim())).expect("/proc"));
    client.delete("c1", "").expect("Delete");
    client.shut_down();
    world.assert_empty();
}

/// containerd itself reads `CriuImagePath` only for runc; then it is a restore without a checkpoint in the request.
#[test]
fn criu_gets_the_directories_of_the_options() {
    if !root_is_here() {
        return;
    }
    let mut world = world();
    silent_criu(&world);
    world.options.criu_image_path = images(&world);
    world.options.criu_work_path = world.text("work");
    let mut client = world.start();
    let created = client.create(&world, "c1").expect("Create");
    assert_eq!(created.pid, 0, "it was not restored, but created");
    let start = client.ask("Start", &StartRequest { id: "c1".into(), exec_id: String::new() });
    gone("a criu that has not begun", || !world.path("criu.began").exists());
    let criu = fs::read_to_string(world.path("criu.began")).expect("its pid");
    // the shim has both open while CRIU works
    let shim = client.pid.expect("a shim").as_raw_pid();
    let open = |name: &str| {
        let fds = fs::read_dir(format!("/proc/{shim}/fd")).expect("descriptors").flatten();
        fds.filter_map(|fd| fs::read_link(fd.path()).ok()).any(|path| path == world.path(name))
    };
    assert!(open("work") && open("images"), "CRIU gets others");
    assert!(!world.bundles.join("c1/criu-work").exists(), "the default is used");
    let kill = KillRequest { id: "c1".into(), signal: 9, ..KillRequest::default() };
    let _: Empty = client.call("Kill", &kill).expect("Kill");
    client.answer::<StartResponse>(start).expect_err("Start");
    gone("criu", || fs::exists(format!("/proc/{}", criu.trim())).expect("/proc"));
    client.delete("c1", "").expect("Delete");
    client.shut_down();
    world.assert_empty();
}

/// The same for `image_path` of a checkpoint.
#[test]
fn images_of_a_checkpoint_are_made_where_the_caller_wants_them() {
    if !root_is_here() {
        return;
    }
    let world = world();
    fs::write(world.path("criu"), "#!/bin/sh\nexit 1\n").expect("write");
    fs::set_permissions(world.path("criu"), fs::Permissions::from_mode(0o755)).expect("chmod");
    let mut client = world.start_c1();
    let checkpoint = |client: &mut Client, path: &str, image_path: String| {
        let options = CheckpointOptions { image_path, work_path: world.text("work"), ..CheckpointOptions::default() };
        let options = Some(Any::of("containerd.runc.v1.CheckpointOptions", &options));
        let asked = CheckpointTaskRequest { id: "c1".into(), path: world.text(path), options };
        let error = client.call::<Empty>("Checkpoint", &asked).expect_err("no CRIU").message;
        assert!(error.contains("OCI runtime checkpoint failed"), "{error}");
        ["daemon", "own", "work"].map(|name| world.path(name).exists())
    };
    assert_eq!(checkpoint(&mut client, "daemon", world.text("own")), [false, true, true]);
    assert_eq!(checkpoint(&mut client, "daemon", String::new()), [true, true, true]);
    assert_eq!(client.status("c1"), status::RUNNING);
    client.end_c1();
    world.assert_empty();
}
