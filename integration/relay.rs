//! The relay of a foreground terminal under load: much output, a reader that does not read, and a reader that has
//! closed its end.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};

use rustix::fs::OFlags;
use serde_json::json;

use crate::only;
use crate::world::{Who, World, wait_until};

/// A new terminal: its master, and the end for a program.
fn terminal() -> (fs::File, OwnedFd) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    (fs::File::from(master), rustix::fs::open(name, flags, rustix::fs::Mode::empty()).unwrap())
}

/// A world with a terminal, and a directory /out that its program can write to.
fn flooding(script: &str) -> World {
    let mut world = World::running(&["sh", "-c", script]);
    world.config["process"]["terminal"] = json!(true);
    let out = world.path("out");
    fs::create_dir(&out).unwrap();
    world.mount(json!({"destination": "/out", "type": "bind", "source": out, "options": ["bind"]}));
    world.write();
    world
}

fn pipe() -> (fs::File, OwnedFd) {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    (fs::File::from(read), write)
}

fn code(child: &mut Child) -> Option<i32> {
    let mut status = None;
    wait_until("the runtime has ended", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap().code()
}

/// Waits until the pipe or the terminal is full.
fn wait_until_stuck(stdout: &OwnedFd) {
    wait_until("the output is stuck", || {
        let mut fds = [rustix::event::PollFd::new(stdout, rustix::event::PollFlags::OUT)];
        rustix::event::poll(&mut fds, Some(&rustix::event::Timespec::default())).unwrap() == 0
    });
}

#[test]
fn a_reader_who_has_gone_away_hangs_the_terminal_up() {
    only!(Who::Us; "the peers want a terminal of their own; under script(1) runc does the same");
    let world = flooding("yes; exit 7");
    let (mut read, write) = pipe();
    let mut run = world.command(&["run", &world.id]).stdin(Stdio::null()).stdout(write).spawn().unwrap();
    read.read_exact(&mut [0; 10]).unwrap();
    drop(read);
    assert_eq!(code(&mut run), Some(7));
    let world = World::running(&["sleep", "1000"]);
    world.begin();
    let (mut read, write) = pipe();
    let exec = ["exec", "-t", &world.id, "sh", "-c", "trap '' HUP; yes; exit 8"];
    let mut exec = world.command(&exec).stdin(Stdio::null()).stdout(write).spawn().unwrap();
    read.read_exact(&mut [0; 10]).unwrap();
    drop(read);
    assert_eq!(code(&mut exec), Some(8));
}

/// systemd and getty do this.
#[test]
fn a_terminal_that_is_closed_for_a_moment_is_still_heard() {
    only!(Who::Us; "the peers want a terminal of their own; under script(1) runc does the same");
    let script = "echo one; exec 0<&- 1>&- 2>&-; : >/out/closed; read x </out/go; exec 0<>/dev/pts/0 1>&0 2>&1; echo two; \
        while read y; do if [ $y = typed ]; then exit 7; fi; done";
    let world = flooding(script);
    let go = world.path("out/go");
    let mode = rustix::fs::Mode::RWXU;
    rustix::fs::mknodat(rustix::fs::CWD, &go, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let ((mut read, write), (input, keys)) = (pipe(), pipe());
    let mut keys = fs::File::from(keys);
    let mut run = world.command(&["run", &world.id]).stdin(OwnedFd::from(input)).stdout(write).spawn().unwrap();
    wait_until("the terminal is closed", || world.path("out/closed").exists());
    // these keys may come before the terminal is open again: then they are lost
    keys.write_all(b"lost\n").unwrap();
    fs::write(&go, "x\n").unwrap();
    rustix::fs::fcntl_setfl(&read, OFlags::NONBLOCK).unwrap();
    let mut heard = Vec::new();
    wait_until("the terminal is heard again", || {
        let _ = read.read_to_end(&mut heard);
        String::from_utf8_lossy(&heard).contains("two")
    });
    keys.write_all(b"typed\n").unwrap();
    assert_eq!(code(&mut run), Some(7));
}

/// The end of the input comes while no process has the terminal open: the kernel keeps it.
#[test]
fn a_terminal_that_is_closed_for_a_moment_keeps_the_end_of_the_input() {
    only!(Who::Us; "the peers want a terminal of their own; under script(1) runc does the same");
    let script = "exec 0<&- 1>&- 2>&-; : >/out/closed; read x </out/go; exec 0<>/dev/pts/0 1>&0 2>&1; echo two; \
        while read y; do :; done; exit 7";
    let world = flooding(script);
    let go = world.path("out/go");
    let mode = rustix::fs::Mode::RWXU;
    rustix::fs::mknodat(rustix::fs::CWD, &go, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let (input, keys) = pipe();
    let mut run = world.command(&["run", &world.id]).stdin(OwnedFd::from(input)).stdout(Stdio::null()).spawn().unwrap();
    wait_until("the terminal is closed", || world.path("out/closed").exists());
    // This wakes the runtime. After it has read the end, it sleeps again.
    drop(keys);
    let stat = format!("/proc/{}/stat", run.id());
    wait_until("the runtime has read the end", || fs::read_to_string(&stat).unwrap().contains(") S "));
    fs::write(&go, "x\n").unwrap();
    assert_eq!(code(&mut run), Some(7));
}

/// No key reaches the program any more, so ^C must be a signal to the runtime.
#[test]
fn a_reader_who_has_gone_away_gives_the_callers_terminal_back() {
    only!(Who::Us; "runc leaves it as it is");
    let world = flooding("trap '' HUP; trap 'exit 9' INT; yes; while :; do sleep 0.02; done");
    let (_master, slave) = terminal();
    let (mut read, write) = pipe();
    let mut run = world.command(&["run", &world.id]);
    let mut run = run.stdin(slave.try_clone().unwrap()).stdout(write).spawn().unwrap();
    let sends_signals = || {
        let modes = rustix::termios::tcgetattr(&slave).unwrap().local_modes;
        modes.contains(rustix::termios::LocalModes::ISIG)
    };
    read.read_exact(&mut [0; 10]).unwrap();
    assert!(!sends_signals());
    drop(read);
    wait_until("^C is a signal", sends_signals);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(run.id().try_into().unwrap()), nix::sys::signal::SIGINT).unwrap();
    assert_eq!(code(&mut run), Some(9));
}

#[test]
fn signals_sizes_and_keys_pass_a_reader_who_reads_nothing() {
    let script = "trap 'stty size > /out/size' WINCH; trap 'echo INT > /out/key' INT; trap 'exit 3' TERM; \
                  yes & while :; do sleep 0.02; done";
    only!(Who::Us; "the peers want a terminal of their own; and wait for the reader");
    for stuck in ["pipe", "terminal"] {
        let world = flooding(script);
        let (mut master, slave) = terminal();
        let (read, write) =
            if stuck == "pipe" { pipe() } else { (master.try_clone().unwrap(), slave.try_clone().unwrap()) };
        let mut run = world.command(&["run", &world.id]);
        let mut run = run.stdin(slave).stdout(write.try_clone().unwrap()).spawn().unwrap();
        wait_until_stuck(&write);
        // The file description is shared with the process that has started the runtime.
        assert!(!rustix::fs::fcntl_getfl(&write).unwrap().contains(OFlags::NONBLOCK));
        let size = rustix::termios::Winsize { ws_row: 12, ws_col: 34, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&master, size).unwrap();
        let pid = nix::unistd::Pid::from_raw(i32::try_from(run.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::SIGWINCH).unwrap();
        let said = |name: &str| fs::read_to_string(world.path("out").join(name)).unwrap_or_default();
        wait_until("the size is known", || said("size").ends_with("12 34\n"));
        master.write_all(&[3]).unwrap();
        wait_until("the key has come", || said("key") == "INT\n");
        nix::sys::signal::kill(pid, nix::sys::signal::SIGTERM).unwrap();
        world.wait_for_status("stopped");
        // The container was asked to end, and no process reads its last output.
        assert_eq!(code(&mut run), Some(3), "{stuck}");
        drop((write, read));
    }
}

#[test]
fn a_process_that_floods_the_terminal_does_not_block_the_end() {
    only!(Who::Us; "the peers want a terminal of their own");
    let world = World::running(&["sleep", "1000"]);
    world.begin();
    let exec = world.call(&["exec", "-t", &world.id, "sh", "-c", "trap '' HUP; yes & sleep 0.2; exit 5"]);
    assert_eq!(exec.code(), 5, "{}", exec.err);
    assert!(exec.out.starts_with("y\r\ny\r\n"));
    // The same without output.
    let exec = world.call(&["exec", "-t", &world.id, "sh", "-c", "trap '' HUP; sleep 999 & echo last; exit 6"]);
    assert_eq!((exec.code(), exec.out.as_str()), (6, "last\r\n"), "{}", exec.err);
}

#[test]
fn any_standard_input_will_do() {
    only!(Who::Us; "the peers want a terminal of their own");
    let world = World::running(&["sleep", "1000"]);
    world.begin();
    let exec = format!("exec -t {} sh -c 'cat; exit 4'", world.id);
    let exec = format!("{} --root {} {exec}", crate::world::runtime().display(), world.path("state").display());
    // A pipe whose other end stays open and sends nothing.
    let silent = world.path("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &silent, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let silent = format!("{} <>{}", exec.replace("cat;", ":;"), silent.display());
    for line in [
        format!("{exec} <&-"),
        format!("{exec} </dev/null"),
        format!("{exec} </etc/hostname"),
        format!("echo typed | {exec}"),
        format!("head -c 100000 /dev/zero | tr '\\0' '\\n' | {exec}"),
        format!("{exec} <>/dev/null"),
        silent,
    ] {
        let mut command = std::process::Command::new("bash");
        let ran = crate::world::finish(command.args(["-c", &line]));
        assert_eq!(ran.code(), 4, "{line}: {}", ran.err);
    }
}
