//! A container that is made from images.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::messages::google::Empty;
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
    fs::write(directory.join("descriptors.json"), "[]").expect("write");
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
