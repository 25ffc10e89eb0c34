//! Open files of processes survive, and so does memory that was written earlier.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{COUNTER, assert_counts_on, count, criu, dump, needs_criu, restore};
use crate::needs;
use crate::world::{Outcome, World, finish, wait_until};

/// Whether there is a keeper: the program that KEEPER names, or keeper.c compiled here.
fn is_there() -> bool {
    std::env::var_os("KEEPER").is_some() || Command::new("cc").arg("--version").output().is_ok()
}

/// A container that has everything open, and its words about that after a checkpoint and a restore.
fn keeper(args: &[&str], flags: &[&str]) -> (World, Outcome) {
    let world = World::running(args);
    if let Some(program) = std::env::var_os("KEEPER") {
        fs::copy(program, world.rootfs("keeper")).unwrap();
    } else {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("integration/checkpoint/keeper.c");
        let compiler = ["-static", "-O1", "-Wall", "-Werror", "-pthread", "-o"];
        finish(Command::new("cc").args(compiler).arg(world.rootfs("keeper")).arg(source)).ok();
    }
    world.begin();
    wait_until("all is open", || kept(&world, "ready").is_some());
    let outcome = dump(&world, "images", flags);
    (world, outcome)
}

/// The text that the keeper has written into the file.
fn kept(world: &World, name: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/{}/root/dev/shm/{name}", world.pid())).ok()
}

#[track_caller]
fn assert_kept(world: &World, flags: &[&str], count: usize) {
    restore(world, "images", flags).ok();
    world.exec(&["touch", "/dev/shm/check"]).ok();
    wait_until("it says what is left", || kept(world, "result").is_some());
    let result = kept(world, "result").unwrap();
    assert!(!result.contains("LOST") && result.lines().count() == count, "{result}");
}

#[test]
fn whatever_is_open_survives() {
    needs_criu!();
    needs!(is_there(), "no C compiler here, and KEEPER names no program");
    let (world, dumped) = keeper(&["/keeper"], &["--file-locks"]);
    dumped.ok();
    assert_kept(&world, &["--file-locks"], 14);
}

#[test]
fn an_open_connection_survives_if_requested() {
    needs_criu!();
    needs!(is_there(), "no C compiler here, and KEEPER names no program");
    needs!(
        Path::new("/usr/sbin/iptables-restore").exists(),
        "criu holds back packets with iptables, which is not installed"
    );
    let (world, refused) = keeper(&["/keeper", "tcp"], &["--file-locks"]);
    let refused = refused.fails();
    // since Linux 6.16, TCP has no SO_PASSCRED
    needs!(
        !refused.contains("Can't get 1:16 opt"),
        "this criu is older than the kernel: it cannot dump sockets of TCP"
    );
    assert!(refused.contains("tcp") && refused.contains("criu dump: "), "{refused}");
    let flags = ["--file-locks", "--tcp-established"];
    dump(&world, "images", &flags).ok();
    assert_kept(&world, &flags, 15);
}

fn supports(feature: &str) -> bool {
    let checked = Command::new(criu().unwrap()).args(["check", "--feature", feature]).output().unwrap();
    checked.status.success()
}

#[test]
fn the_last_dump_has_only_the_pages_written_since_the_pre_dump() {
    needs_criu!();
    let world = World::running(&["sh", "-c", COUNTER]);
    world.begin();
    let before = count(&world);
    if !supports("mem_dirty_track") {
        // then it is refused, and nothing happens
        let said = dump(&world, "pre-0", &["--pre-dump"]).fails();
        assert!(said.contains("this kernel does not track which memory is written"), "{said}");
        assert_counts_on(&world, before);
        crate::world::skip(&crate::world::test_name(), "this kernel does not track which memory is written");
        return;
    }
    dump(&world, "pre-0", &["--pre-dump"]).ok();
    assert_counts_on(&world, before);
    for n in 1..5 {
        dump(&world, &format!("pre-{n}"), &["--pre-dump", "--parent-path", &format!("../pre-{}", n - 1)]).ok();
        assert_eq!(world.status(), "running");
    }
    dump(&world, "images", &["--parent-path", "../pre-4"]).ok();
    let pages =
        |images: &str| fs::metadata(world.bundle().join(images).join("pages-1.img")).map_or(0, |file| file.len());
    assert!(pages("images") < pages("pre-0"), "{} {}", pages("images"), pages("pre-0"));
    restore(&world, "images", &[]).ok();
    assert_counts_on(&world, before);
}

#[test]
fn a_stopped_process_is_stopped_after_it() {
    needs_criu!();
    // as ^Z does it
    let world =
        World::running(&["sh", "-c", &format!("sleep 1000 & echo $! >/dev/shm/child; kill -STOP $!; {COUNTER}")]);
    world.begin();
    let before = count(&world);
    let state = || {
        let child = kept(&world, "child").unwrap();
        world.exec(&["cat", &format!("/proc/{}/stat", child.trim())]).ok().rsplit(") ").next().unwrap()[..1].to_owned()
    };
    wait_until("it is stopped", || state() == "T");
    dump(&world, "images", &[]).ok();
    restore(&world, "images", &[]).ok();
    assert_counts_on(&world, before);
    assert_eq!(state(), "T");
}
