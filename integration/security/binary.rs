//! Our own binary (CVE-2019-5736): no process can write to the file that a container's processes find at /proc/PID/exe.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::attacker;
use crate::mountinfo::HostMount;
use crate::world::{Who, World, finish, runtime, wait_until};
use crate::{needs, needs_root, only};

/// A descriptor as a container can get one: open for neither reading nor writing.
fn held(path: &str) -> fs::File {
    fs::OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path).unwrap()
}

/// Opens the file of the descriptor for writing.
fn written(held: &fs::File) -> std::io::Result<fs::File> {
    fs::OpenOptions::new().write(true).open(format!("/proc/self/fd/{}", held.as_raw_fd()))
}

/// /proc/PID/exe of an init that a copy of the runtime in `place` has made.
fn init_of(world: &World, place: &Path) -> String {
    world.write();
    let state = world.path("state");
    let call = |args: &[&str]| {
        finish(Command::new(place.join("coracle")).arg("--root").arg(&state).args(args).current_dir(world.bundle()))
            .ok()
    };
    call(&["create", &world.id]);
    format!("/proc/{}/exe", world.pid())
}

#[test]
fn a_binary_on_a_read_only_mount_stays_closed_when_the_mount_is_opened() {
    needs_root!("a mount on the host");
    only!(Who::Us; "it is about our binary");
    let world = World::running(&["sleep", "1000"]);
    let place = world.path("sealed");
    let mount = HostMount::of(&["-t", "tmpfs", "tmpfs"], &place);
    finish(Command::new("cp").arg(runtime()).arg(place.join("coracle"))).ok();
    finish(Command::new("mount").args(["-o", "remount,ro,bind"]).arg(&place)).ok();
    let exe = init_of(&world, &place);
    let held = held(&exe);
    finish(Command::new("mount").args(["-o", "remount,rw,bind"]).arg(&place)).ok();
    world.call(&["delete", "--force", &world.id]).ok();
    // No process runs it any more, so the host may write to it.
    wait_until("the host can write its binary", || fs::File::options().write(true).open(place.join("coracle")).is_ok());
    let errno = written(&held).expect_err("the binary can be written").raw_os_error();
    assert!(matches!(errno, Some(libc::EROFS | libc::EPERM)), "{errno:?}");
    drop(mount);
}

#[test]
fn the_mount_of_the_binary_cannot_be_changed() {
    needs_root!("a look at a process that is closed");
    only!(Who::Us; "it is about our binary");
    needs!(attacker().is_some(), "no C compiler");
    let world = World::running(&["sleep", "1000"]);
    world.create().ok();
    let tried = finish(Command::new(attacker().unwrap()).arg("unseal").arg(format!("/proc/{}/exe", world.pid())));
    assert_eq!(tried.code(), 1, "{}{}", tried.out, tried.err);
}

/// While a descriptor of the mount is open, a process with a descriptor of the file can change the mount. So the
/// runtime closes it before other processes can see it.
#[test]
fn the_mount_of_the_binary_cannot_be_changed_while_an_exec_comes_in() {
    needs_root!("capabilities of the host");
    only!(Who::Us; "it is about our binary");
    needs!(attacker().is_some(), "no C compiler");
    let mut world =
        World::running(&["sh", "-c", "/attacker unseal-next 8 >/tmp/said 2>&1; echo $? >/tmp/done; sleep 1000"]);
    *world.at("/root/readonly") = json!(false);
    for set in ["effective", "permitted", "bounding"] {
        *world.at(&format!("/process/capabilities/{set}")) = json!(["CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"]);
    }
    *world.at("/linux/resources") = json!({});
    fs::create_dir(world.rootfs("tmp")).unwrap();
    fs::copy(attacker().unwrap(), world.rootfs("attacker")).unwrap();
    world.begin();
    let said = || fs::read_to_string(world.rootfs("tmp/said")).unwrap_or_default();
    let done = || fs::read_to_string(world.rootfs("tmp/done")).unwrap_or_default();
    wait_until("the attacker is at work", || said().contains("ready") || !done().is_empty());
    while done().is_empty() {
        let _ = world.exec(&["true"]);
    }
    assert_eq!(done().trim(), "1", "{}", said());
    assert!(!said().contains("seen 0,"), "the attacker has seen nobody: {}", said());
}

/// The part of a program that is read-only after its start (elf(5), PT_GNU_RELRO): the addresses in the process, of whole pages.
fn read_only_part(program: &[u8], first_address: usize) -> std::ops::Range<usize> {
    let word = |at: usize| usize::from_ne_bytes(program[at..at + 8].try_into().unwrap());
    let half = |at: usize| usize::from(u16::from_ne_bytes([program[at], program[at + 1]]));
    // the 64-bit file header, and one program header
    let headers = (0..half(0x38)).map(|n| word(0x20) + n * half(0x36));
    let of_type = |kind: u32| headers.clone().find(|at| program[*at..at + 4] == kind.to_ne_bytes()).unwrap();
    let (loaded, sealed) = (of_type(1), of_type(0x6474_e552));
    let page = rustix::param::page_size();
    let moved = first_address.wrapping_sub(word(loaded + 0x10) & !(page - 1));
    let begin = word(sealed + 0x10).wrapping_add(moved);
    begin & !(page - 1)..(begin + word(sealed + 0x28)) & !(page - 1)
}

#[test]
fn what_is_read_only_after_the_start_is_read_only_in_init() {
    needs_root!("a look at a process that is closed");
    only!(Who::Us; "it is about our binary");
    let world = World::running(&["sleep", "1000"]);
    world.create().ok();
    let of_init = |file: &str| fs::read(format!("/proc/{}/{file}", world.pid())).unwrap();
    let maps = String::from_utf8(of_init("maps")).unwrap();
    let parts: Vec<_> = maps
        .lines()
        .map(|line| {
            let (range, rest) = line.split_once(' ').unwrap();
            let (begin, end) = range.split_once('-').unwrap();
            let address = |text: &str| usize::from_str_radix(text, 16).unwrap();
            (address(begin)..address(end), rest.starts_with("r--"))
        })
        .collect();
    let part = read_only_part(&of_init("exe"), parts[0].0.start);
    assert!(!part.is_empty());
    for at in part.clone().step_by(rustix::param::page_size()) {
        let (_, read_only) = parts.iter().find(|(range, _)| range.contains(&at)).unwrap();
        assert!(read_only, "{at:#x} of {part:#x?}: {maps}");
    }
}
