//! A program that closes its terminal and opens it again, as systemd and getty do.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::{CWD, FileType, Mode, OFlags};

use crate::messages::task::*;
use crate::world::{Client, gone, root_is_here, skip, world};

const SCRIPT: &str = "echo one; exec 0<&- 1>&- 2>&-; read x </go; exec 0<>/dev/pts/0 1>&0 2>&1; echo two; \
    while read y; do echo got $y; if [ $y = typed ]; then exit 7; fi; done";

/// Reads until the output contains `text`.
fn hear(output: &mut File, heard: &mut String, text: &str) {
    gone("silence", || {
        let mut bytes = Vec::new();
        let _ = output.read_to_end(&mut bytes);
        heard.push_str(&String::from_utf8_lossy(&bytes));
        !heard.contains(text)
    });
}

#[test]
fn a_terminal_that_is_closed_for_a_moment_is_still_heard() {
    if !root_is_here() {
        return;
    }
    let world = world();
    if !world.put_shell() {
        skip("no static busybox");
        return;
    }
    world.fifo("output");
    rustix::fs::mknodat(CWD, world.path("rootfs/go"), FileType::Fifo, Mode::RWXU, 0).expect("mkfifo");
    world.edit("c1", |config| {
        config["process"]["args"] = serde_json::json!(["/sh", "-c", SCRIPT]);
        config["process"]["terminal"] = true.into();
    });
    let mut options = File::options();
    let mut output = options
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(world.path("output"))
        .expect("output");
    let mut client = world.start();
    let order = CreateTaskRequest { terminal: true, stdout: world.text("output"), ..Client::order(&world, "c1") };
    let made: CreateTaskResponse = client.call("Create", &order).expect("Create");
    let mut input = File::options().write(true).open(world.path("stdin-c1")).expect("input");
    client.start("c1", "").expect("Start");
    let mut heard = String::new();
    hear(&mut output, &mut heard, "one");
    let of_terminal = |link: std::path::PathBuf| link.to_string_lossy().contains("/pts/");
    gone("the terminal", || {
        let descriptors = fs::read_dir(format!("/proc/{}/fd", made.pid)).expect("descriptors").flatten();
        descriptors.filter_map(|entry| fs::read_link(entry.path()).ok()).any(of_terminal)
    });
    // these keys may come before the terminal is open again: then they are lost
    input.write_all(b"lost\n").expect("write");
    assert_eq!(client.status("c1"), status::RUNNING);
    fs::write(world.path("rootfs/go"), "x\n").expect("go");
    hear(&mut output, &mut heard, "two");
    input.write_all(b"typed\n").expect("write");
    hear(&mut output, &mut heard, "got typed");
    drop(input);
    assert_eq!(client.finish_c1(), 7);
    world.assert_empty();
}
