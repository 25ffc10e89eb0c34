//! The disk is full, or no descriptor is free: the shim refuses the request and leaves nothing, and the client can send it
//! again.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::CloneFlags;
use rustix::process::{Resource, Rlimit};

use crate::messages::google::{Empty, Status};
use crate::messages::task::*;
use crate::world::{Client, World, gone, root_is_here, world};

/// A page of tmpfs.
const PAGE: u64 = 4096;

/// Takes all of the disk but that many pages.
fn fill(directory: &Path, pages: u64) {
    let mut ballast = File::create(directory.join("ballast")).expect("ballast");
    while ballast.write_all(&[0; 4096]).is_ok() {}
    let length = ballast.metadata().expect("its length").len() / PAGE * PAGE;
    ballast.set_len(length.saturating_sub(pages * PAGE)).expect("shorter");
}

/// One life with so much room; says what stopped it.
fn life(world: &World) -> Result<(), String> {
    let out = world.start_shim();
    if !out.status.success() {
        return Err(String::from_utf8_lossy(&out.stderr).into_owned());
    }
    let mut client = Client::of(&out);
    let made = client.create(world, "c1").and_then(|_| client.start("c1", ""));
    if let Err(status) = made {
        let deleted = client.delete("c1", "").map_err(|status| status.message);
        // what was not made is not there
        assert!(deleted.is_ok() || deleted == Err("container not created".into()), "{}: {deleted:?}", status.message);
        client.shut_down();
        return Err(status.message);
    }
    client.close_stdin("c1");
    let ended: WaitResponse = client.call("Wait", &Client::wait("c1", "")).expect("Wait");
    assert_eq!(ended.exit_status, 0);
    client.delete("c1", "").expect("Delete");
    client.shut_down();
    Ok(())
}

#[test]
fn a_full_disk_is_reported_and_leaves_nothing() {
    if !root_is_here() {
        return;
    }
    let mut world = world();
    // the mount is this thread's, and ends with it
    nix::sched::unshare(CloneFlags::CLONE_NEWNS).expect("unshare");
    let nothing = None::<&str>;
    mount(nothing, "/", nothing, MsFlags::MS_PRIVATE | MsFlags::MS_REC, nothing).expect("private");
    world.bundles = world.path("small");
    fs::create_dir(&world.bundles).expect("a directory");
    mount(Some("small"), &world.bundles, Some("tmpfs"), MsFlags::empty(), Some("size=256k")).expect("mount");
    fs::remove_file(world.path("stdin-c1")).expect("stdin");
    world.bundle("c1");
    let mut stopped = Vec::new();
    for pages in 0..40 {
        fill(&world.bundles, pages);
        let lived = life(&world);
        world.assert_empty();
        for file in ["address", "options.json", "runtime", "init.pid"] {
            let _ = fs::remove_file(world.bundles.join("c1").join(file));
        }
        let _ = fs::remove_dir_all(world.bundles.join("state"));
        match lived {
            Ok(()) => break,
            Err(error) => stopped.push(error),
        }
    }
    assert!(stopped.len() > 3 && stopped.len() < 40, "{stopped:?}");
    for error in stopped {
        assert!(error.to_lowercase().contains("no space left on device"), "{error}");
    }
}

/// How many descriptors the shim may have; nothing for as many as we.
fn limit(client: &Client, current: Option<usize>) {
    let ours = rustix::process::getrlimit(Resource::Nofile);
    let current = current.map(|current| current as u64).or(ours.maximum);
    rustix::process::prlimit(client.pid, Resource::Nofile, Rlimit { current, ..ours }).expect("prlimit");
}

/// Tries it with one free descriptor more each time, until it works; nothing of what failed is left.
fn with_few(
    client: &mut Client,
    act: impl Fn(&mut Client, usize) -> Result<(), Status>,
    clear: impl Fn(&mut Client, usize),
) -> usize {
    let (before, mut last) = (client.descriptors(), String::new());
    for free in 0..80 {
        limit(client, Some(before + free));
        let done = act(client, free);
        limit(client, None);
        match done {
            Ok(()) => return free,
            Err(status) => last = status.message,
        }
        clear(client, free);
        gone("a descriptor", || client.descriptors() > before);
    }
    panic!("it never worked: {last}");
}

#[test]
fn without_descriptors_it_fails_and_nothing_is_left() {
    if !root_is_here() {
        return;
    }
    let world = world();
    world.fifo("terminal");
    let mut client = world.start();
    let state = world.bundles.join("state/test");
    let create = |client: &mut Client, _| client.create(&world, "c1").map(drop);
    let needed = with_few(&mut client, create, |_, _| {
        let left = fs::read_dir(&state).map_or(0, Iterator::count);
        assert_eq!(left, 0, "a container is left");
    });
    assert!(needed > 5, "{needed}");
    client.start("c1", "").expect("Start");
    for terminal in [false, true] {
        let name = |free: usize| format!("e{terminal}{free}");
        let exec = |client: &mut Client, free: usize| {
            let order = Client::exec_order("c1", &name(free), "-info");
            let _: Empty =
                client.call("Exec", &ExecProcessRequest { terminal, stdout: world.text("terminal"), ..order })?;
            client.start("c1", &name(free)).map(drop)
        };
        let free = with_few(&mut client, exec, |client, free| {
            client.delete("c1", &name(free)).expect("Delete");
            // one that was made, and could not be kept, is killed
            gone("a process", || {
                let pids: Result<PidsResponse, _> = client.call("Pids", &PidsRequest { id: "c1".into() });
                pids.expect("Pids").processes.len() > 1
            });
        });
        let _: Result<Empty, _> = client
            .call("Kill", &KillRequest { id: "c1".into(), exec_id: name(free), signal: 9, ..KillRequest::default() });
        let _: WaitResponse = client.call("Wait", &Client::wait("c1", &name(free))).expect("Wait");
        client.delete("c1", &name(free)).expect("Delete");
    }
    // a connection that finds none waits, and the others go on
    limit(&client, Some(client.descriptors()));
    let mut second = Client::connect(&client.path);
    let stream = second.ask("Connect", &ConnectRequest::default());
    assert_eq!(client.status("c1"), status::RUNNING);
    limit(&client, None);
    let _: ConnectResponse = second.answer(stream).expect("Connect");
    client.end_c1();
    world.assert_empty();
}
