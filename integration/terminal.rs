//! Terminals and streams: console sockets, the foreground relay, signals, descriptors, and what the program inherits.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use serde_json::json;

use crate::only;
use crate::world::{Who, World, finish, wait_until, who};

/// One message from a connection: its text and its descriptors, and then the end of the stream.
pub fn message(mut stream: UnixStream) -> (Vec<u8>, Vec<OwnedFd>) {
    let (mut text, mut space) = ([0u8; 4096], [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))]);
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut into = [std::io::IoSliceMut::new(&mut text)];
    let got = rustix::net::recvmsg(&stream, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    let mut fds = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(list) = part {
            fds.extend(list);
        }
    }
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty(), "more than one message");
    (text[..got.bytes].to_vec(), fds)
}

/// Reads a terminal's master until `until` has come, or until the end.
pub fn read_until(master: &OwnedFd, until: &str) -> String {
    let mut file = fs::File::from(master.try_clone().unwrap());
    let (mut text, mut buffer) = (String::new(), [0u8; 1024]);
    while !text.contains(until) {
        match file.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(length) => text.push_str(&String::from_utf8_lossy(&buffer[..length])),
        }
    }
    text
}

fn with_terminal(args: &[&str]) -> World {
    let mut world = World::running(args);
    world.config["process"]["terminal"] = json!(true);
    world
}

#[test]
fn a_console_socket_gets_one_message_with_the_master() {
    let script = "tty; stat -c %t:%T /dev/console; stty size; test -t 0 && test -t 1 && test -t 2 && echo all; cat";
    let mut world = with_terminal(&["sh", "-c", script]);
    world.config["process"]["consoleSize"] = json!({"height": 33, "width": 77});
    world.write();
    // A path that is longer than a socket's address may be.
    let deep = world.path(&"d".repeat(100));
    fs::create_dir(&deep).unwrap();
    for (n, path) in [world.path("console"), deep.join("console")].into_iter().enumerate() {
        if n == 1 && who() != Who::Us {
            continue;
        }
        std::env::set_current_dir(path.parent().unwrap()).unwrap();
        let listener = UnixListener::bind("console").unwrap();
        let create = world.call(&["create", "--console-socket", path.to_str().unwrap(), &world.id]);
        create.ok();
        let (text, fds) = message(listener.accept().unwrap().0);
        assert!(!text.is_empty() && text.len() < 4096 && !text.contains(&0), "{text:?}");
        assert_eq!(fds.len(), 1);
        if who() == Who::Us {
            assert_eq!(text, b"/dev/pts/ptmx");
        }
        let mut master = fs::File::from(fds[0].try_clone().unwrap());
        world.call(&["start", &world.id]).ok();
        let said = read_until(&fds[0], "all\r\n");
        assert!(said.contains("/dev/pts/0\r\n") || said.contains("/dev/console\r\n"), "{said}");
        assert!(said.contains("33 77\r\n"), "{said}");
        assert!(said.contains("88:0"), "the console is the first pty: {said}");
        master.write_all(b"hello\n").unwrap();
        assert!(read_until(&fds[0], "hello\r\nhello\r\n").contains("hello\r\nhello\r\n"));
        master.write_all(&[4]).unwrap();
        world.wait_for_status("stopped");
        world.call(&["delete", &world.id]).ok();
    }
}

#[test]
fn an_exec_has_its_own_terminal() {
    let world = World::running(&["sleep", "1000"]);
    world.begin();
    let path = world.path("console");
    let listener = UnixListener::bind(&path).unwrap();
    let process = json!({"terminal": true, "user": {"uid": 5, "gid": 0}, "args": ["sh", "-c",
        "tty; stty size; stat -c %u $(readlink /proc/self/fd/0); test -e /dev/console && echo console; exit 3"],
        "env": ["PATH=/bin"], "cwd": "/", "consoleSize": {"height": 20, "width": 50}});
    fs::write(world.path("process.json"), process.to_string()).unwrap();
    let file = world.path("process.json");
    let args = [
        "exec",
        "--process",
        file.to_str().unwrap(),
        "--detach",
        "--tty",
        "--console-socket",
        path.to_str().unwrap(),
        &world.id,
    ];
    world.call(&args).ok();
    let (_, fds) = message(listener.accept().unwrap().0);
    // With crun, root owns the terminal of an exec.
    let owner = if who() == Who::Crun { "0" } else { "5" };
    let said = read_until(&fds[0], &format!("\n{owner}\r\n"));
    assert!(said.starts_with(&format!("/dev/pts/0\r\n20 50\r\n{owner}\r\n")), "{said}");
    assert!(!said.contains("console"), "{said}");
}

/// Runs a command line under a terminal of script(1), with this input.
fn scripted(world: &World, line: &str, typed: &[u8]) -> (i32, String) {
    let output = tempfile::NamedTempFile::new().unwrap();
    let mut script = Command::new("script");
    script.args(["-qec", line, "/dev/null"]).current_dir(world.bundle()).stdin(Stdio::piped());
    script.stdout(output.reopen().unwrap()).stderr(Stdio::null());
    let mut child = script.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::sleep(Duration::from_millis(700));
    stdin.write_all(typed).unwrap();
    // The input stays open: at its end, script ends.
    let mut status = None;
    wait_until(line, || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    drop(stdin);
    (status.unwrap().code().unwrap_or(-1), fs::read_to_string(output.path()).unwrap())
}

fn line(world: &World, rest: &str) -> String {
    format!("{} --root {} {rest}", crate::world::runtime().display(), world.path("state").display())
}

#[test]
fn a_foreground_terminal_relays_both_ways_and_gives_the_status() {
    let world = with_terminal(&["sh", "-c", "stty size; tty; read a; echo got $a; read b; echo $b; exit 6"]);
    world.write();
    let run = line(&world, &format!("run {}", world.id));
    let (code, said) = scripted(
        &world,
        &format!("stty rows 31 cols 91; {run}; s=$?; stty -a | grep -o ' -\\?icanon'; exit $s"),
        b"one\rtwo\r",
    );
    assert_eq!(code, 6, "{said:?}");
    // crun 1.8 sets the size a moment later.
    assert!(who() == Who::Crun || said.contains("31 91\r\n"), "{said:?}");
    assert!(said.contains("got one\r\n") && said.contains("two\r\n"), "{said:?}");
    assert!(!said.contains("\r\r\n"), "{said:?}");
    assert!(said.trim_end().ends_with(" icanon"), "the terminal is not put back: {said:?}");
}

#[test]
fn keys_are_the_containers_and_not_ours() {
    // The test types control-C into the container's terminal, and it interrupts the program there.
    let world = with_terminal(&["sh", "-c", "trap 'echo interrupted; exit 4' INT; while :; do sleep 0.05; done"]);
    world.write();
    let (code, said) = scripted(&world, &line(&world, &format!("run {}", world.id)), &[3]);
    assert_eq!(code, 4, "{said}");
    assert!(said.contains("interrupted"), "{said}");
}

#[test]
fn a_new_size_reaches_the_terminal() {
    only!(Who::Us, Who::Runc; "stty sees no size under crun 1.8");
    let world =
        // The first signal may come late, without a change of the size.
        with_terminal(&["sh", "-c", "trap 's=$(stty size); echo $s; [ \"$s\" != \"12 34\" ] || exit 0' WINCH; \
                         echo ready; while :; do sleep 0.05; done"]);
    world.write();
    let run = line(&world, &format!("run {}", world.id));
    let resize = "(sleep 1.2; stty rows 12 cols 34 < $T) &";
    let (code, said) = scripted(&world, &format!("T=$(tty); stty rows 24 cols 80; {resize} {run}"), b"");
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("12 34\r\n"), "{said}");
}

#[test]
fn a_terminal_without_one_of_ours_works_all_the_same() {
    // crun needs its own terminal.
    only!(Who::Us, Who::Runc; "crun wants a terminal of its own");
    let world = with_terminal(&["sh", "-c", "tty; cat; exit 2"]);
    world.write();
    if who() == Who::Us {
        let mut command = world.command(&["run", &world.id]);
        let ran = crate::world::finish_with(&mut command, b"half a line");
        assert_eq!(ran.code(), 2, "{}", ran.err);
        assert!(ran.out.contains("/dev/pts/0") && ran.out.contains("half a line"), "{}", ran.out);
    }
    let mut world = World::running(&["sleep", "1000"]);
    world.config["process"]["terminal"] = json!(false);
    world.begin();
    let said = world.call(&["exec", "-t", &world.id, "sh", "-c", "tty; exit 5"]);
    if who() == Who::Us {
        assert_eq!((said.code(), said.out.as_str()), (5, "/dev/pts/0\r\n"), "{}", said.err);
    }
    assert_eq!(world.exec(&["sh", "-c", "tty"]).out, "not a tty\n");
}

#[test]
fn an_exec_under_a_terminal_gives_its_status() {
    let world = World::running(&["sleep", "1000"]);
    world.begin();
    let exec = line(&world, &format!("exec -t {} sh -c 'stty size; read x; echo $x; exit 9'", world.id));
    let (code, said) = scripted(&world, &format!("stty rows 21 cols 61; {exec}"), b"typed\r");
    assert_eq!(code, 9, "{said}");
    assert!(who() == Who::Crun || said.contains("21 61\r\n"), "{said}");
    assert!(said.contains("typed\r\n"), "{said}");
}

#[test]
fn exec_without_a_command_is_a_shell_on_a_terminal_alone() {
    only!(Who::Us; "the peers want a command");
    let world = World::running(&["sleep", "1000"]);
    world.begin();
    world.wait_for_status("running");
    let (code, said) = scripted(&world, &line(&world, &format!("exec {}", world.id)), b"echo $((40+2)); exit 7\r");
    assert!(code == 7 && said.contains("42"), "{code}: {said}");
    let said = world.call(&["exec", &world.id]);
    assert!(said.code() == 255 && said.err.contains("process args cannot be empty"), "{}", said.err);
}

#[test]
fn top_draws_until_q() {
    only!(Who::Us; "a command of coracle's");
    let world = World::running(&["sleep", "1000"]);
    world.begin();
    world.wait_for_status("running");
    let (code, said) = scripted(&world, &line(&world, "top --interval 100ms"), b"mq");
    assert!(code == 0 && said.contains("PROCESSES") && said.contains(&world.id), "{code}: {said}");
    assert!(said.contains("\x1b[?1049l"), "the screen is not given back: {said:?}");
}

#[test]
fn much_output_comes_through_whole() {
    let world = with_terminal(&[
        "sh",
        "-c",
        "dd if=/dev/zero bs=1000 count=500 2>/dev/null | od -v | wc -l; seq() { n=0; while [ $n -lt 4000 ]; do echo line $n; n=$((n+1)); done; }; seq",
    ]);
    world.write();
    let (code, said) = scripted(&world, &line(&world, &format!("run {}", world.id)), b"");
    assert_eq!(code, 0);
    let lines: Vec<_> = said.lines().filter(|line| line.starts_with("line ")).collect();
    assert_eq!(lines.len(), 4000, "{:?}", lines.last());
}

#[test]
fn signals_go_on_to_a_container_in_the_foreground() {
    let script = "for s in TERM USR1 INT HUP; do trap \"echo $s\" $s; done; echo ready; while :; do sleep 0.02; done";
    let world = World::running(&["sh", "-c", script]);
    world.write();
    let output = world.path("output");
    let mut run = world.command(&["run", &world.id]);
    let mut run = run.stdin(Stdio::null()).stdout(fs::File::create(&output).unwrap()).spawn().unwrap();
    let said = || fs::read_to_string(&output).unwrap();
    wait_until("ready", || said().contains("ready"));
    let pid = nix::unistd::Pid::from_raw(i32::try_from(run.id()).unwrap());
    for (signal, name) in [
        (nix::sys::signal::SIGTERM, "TERM"),
        (nix::sys::signal::SIGUSR1, "USR1"),
        (nix::sys::signal::SIGINT, "INT"),
        (nix::sys::signal::SIGHUP, "HUP"),
    ] {
        nix::sys::signal::kill(pid, signal).unwrap();
        wait_until(name, || said().lines().last() == Some(name));
    }
    world.call(&["kill", &world.id, "KILL"]).ok();
    assert_eq!(run.wait().unwrap().code(), Some(137));
}

#[test]
fn signals_that_we_ignore_or_block_are_default_in_the_container() {
    only!(Who::Us, Who::Runc; "crun leaves what is ignored ignored, and waits for ever where SIGCHLD is");
    let look = "grep -E '^Sig(Blk|Ign)' /proc/self/status";
    let world = World::running(&["sh", "-c", &format!("{look}; sleep 0.5")]);
    world.write();
    let nothing = "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n";
    let bash = |rest: &str| {
        let line = format!("trap '' HUP PIPE CHLD TERM INT QUIT USR1 TSTP; {rest}");
        let mut command = Command::new("bash");
        finish(command.args(["-c", &line]).current_dir(world.bundle()))
    };
    assert_eq!(bash(&line(&world, &format!("run {}", world.id))).ok(), nothing);
    world.call(&["run", "-d", &world.id]).ok();
    if who() == Who::Us {
        let exec = bash(&line(&world, &format!("exec {} sh -c \"{look}; exit 8\"", world.id)));
        assert_eq!((exec.code(), exec.out.as_str()), (8, nothing), "{}", exec.err);
    }
}

#[test]
fn orphans_are_reaped_while_it_runs() {
    // Without a pid namespace, orphans become children of the runtime, and must not remain as zombies.
    let script = "n=0; while [ $n -lt 30 ]; do (sh -c 'sleep 0.05 & exit 0' &); n=$((n+1)); done; sleep 1; \
                  echo $(ls -d /proc/[0-9]* | wc -l); exit 3";
    let mut world = World::running(&["sh", "-c", script]);
    world.without_namespace("pid");
    world.write();
    let mut run = world.command(&["run", &world.id]);
    let mut run = run.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(900));
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", run.id())).unwrap_or_default();
    assert!(children.split_whitespace().count() <= 2, "they pile up: {children}");
    assert_eq!(run.wait().unwrap().code(), Some(3));
}

#[test]
fn a_pidfd_socket_gets_the_pidfd() {
    only!(Who::Us; "the peers of Debian have no --pidfd-socket");
    let world = World::running(&["sleep", "1000"]);
    world.write();
    let path = world.path("pidfd");
    let listener = UnixListener::bind(&path).unwrap();
    world.call(&["create", "--pidfd-socket", path.to_str().unwrap(), &world.id]).ok();
    let (text, fds) = message(listener.accept().unwrap().0);
    assert_eq!((text.as_slice(), fds.len()), (&b"standard"[..], 1));
    let pid_of = |fd: &OwnedFd| {
        use std::os::fd::AsRawFd;
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd())).unwrap();
        info.lines().find_map(|line| line.strip_prefix("Pid:")).unwrap().trim().parse::<i32>().unwrap()
    };
    assert_eq!(pid_of(&fds[0]), world.pid());
    world.call(&["start", &world.id]).ok();
    world.call(&["exec", "-d", "--pidfd-socket", path.to_str().unwrap(), &world.id, "sleep", "555"]).ok();
    let (text, fds) = message(listener.accept().unwrap().0);
    assert_eq!((text.as_slice(), fds.len()), (&b"setns"[..], 1));
    let pid = pid_of(&fds[0]);
    assert!(fs::read(format!("/proc/{pid}/cmdline")).unwrap().starts_with(b"sleep\x00555"));
}

#[test]
fn listen_fds_and_preserved_ones_are_passed_and_no_others() {
    let world = World::running(&["sh", "-c", "ls /proc/self/fd; echo $LISTEN_FDS $LISTEN_PID"]);
    world.write();
    let open = "exec 3</etc/hostname 4</etc/hostname 5</etc/hostname 8</etc/hostname 200</etc/hostname;";
    let call = |rest: String| {
        let mut command = Command::new("bash");
        finish(command.args(["-c", &format!("{open} {rest}")]).current_dir(world.bundle()))
    };
    let words = |text: String| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ");
    let run = |flags: &str| line(&world, &format!("run {flags} {}", world.id));
    // One more descriptor is ls's own.
    assert_eq!(words(call(run("")).ok()), "0 1 2 3");
    assert_eq!(words(call(run("--preserve-fds 3")).ok()), "0 1 2 3 4 5 6");
    if who() == Who::Us {
        let listening = format!("LISTEN_FDS=1 exec {}", run("--preserve-fds 1"));
        assert_eq!(words(call(listening).ok()), "0 1 2 3 4 5 1 1");
        // The sixth is not open: the variable is a leftover.
        assert_eq!(words(call(format!("LISTEN_FDS=4 exec {}", run(""))).ok()), "0 1 2 3");
        // These are for another process.
        assert_eq!(words(call(format!("LISTEN_FDS=1 LISTEN_PID=1 exec {}", run(""))).ok()), "0 1 2 3");
        let log = world.path("log");
        let failed = call(line(&world, &format!("--log {} run --preserve-fds 4 {}", log.display(), world.id)));
        assert!(failed.fails().contains("unable to stat preserved-fd 6"));
        world.assert_clean();
    }
}

#[test]
fn the_pid_file_is_a_number_and_nothing_else() {
    let world = World::running(&["sleep", "1000"]);
    world.write();
    let path = world.path("pid");
    fs::write(&path, "old").unwrap();
    let args = ["create", "--pid-file", path.to_str().unwrap(), &world.id];
    world.call(&args).ok();
    assert_eq!(fs::read_to_string(&path).unwrap(), world.pid().to_string());
    let beside: Vec<_> = fs::read_dir(world.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(beside.len(), 3, "{beside:?}");
}

#[test]
fn a_container_is_its_callers_child_once_we_are_gone() {
    // conmon and containerd's shim depend on this: they are the subreaper, and read the exit status.
    let world = World::running(&["sleep", "1000"]);
    world.write();
    let pid_file = world.path("pid");
    let line = format!(
        "{}; {}; sleep 0.3; echo $(( $(cat /proc/$(cat {})/stat | cut -d' ' -f 4) == $$ ))",
        line(&world, &format!("create --pid-file {} {} </dev/null >/dev/null 2>&1", pid_file.display(), world.id)),
        line(&world, &format!("start {}", world.id)),
        pid_file.display(),
    );
    // perl sets the subreaper flag, PR_SET_CHILD_SUBREAPER, and becomes the shell.
    let mut command = Command::new("perl");
    let perl = ["-e", "syscall(157, 36, 1, 0, 0, 0); exec @ARGV", "bash", "-c", &line];
    let said = finish(command.args(perl).current_dir(world.bundle()));
    assert_eq!(said.out.lines().last(), Some("1"), "{said:?}");
}

#[test]
fn streams_belong_to_the_user_of_the_process() {
    let null = fs::metadata("/dev/null").unwrap().uid();
    let mut world = World::running(&["sh", "-c", "echo out > /proc/self/fd/1; echo err > /proc/self/fd/2"]);
    world.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    world.write();
    let mut run = world.command(&["run", &world.id]);
    let run = run.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let output = run.wait_with_output().unwrap();
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
    assert!(output.status.success());
    // The owner of the null device does not change.
    assert_eq!(fs::metadata("/dev/null").unwrap().uid(), null);
}
