//! The standard streams of a container keep their owner: the container's user never becomes the owner of a file that
//! exists after the container. Only a pipe gets a new owner, and it must: images open /dev/stdout again as an ordinary user.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::world::{Who, World, finish, who};
use crate::{needs_root, only};

/// A process of an ordinary user that writes to its three streams.
fn world() -> World {
    let mut world = World::running(&["sh", "-c", "echo out; echo err >&2; sleep 1000"]);
    *world.at("/process/user") = json!({"uid": 1000, "gid": 1000});
    world
}

fn openpt() -> (OwnedFd, File) {
    let flags = rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY | rustix::pty::OpenptFlags::CLOEXEC;
    let master = rustix::pty::openpt(flags).unwrap();
    rustix::pty::grantpt(&master).unwrap();
    rustix::pty::unlockpt(&master).unwrap();
    let name = rustix::pty::ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    (master, File::options().read(true).write(true).open(name).unwrap())
}

/// The owner of the file afterwards, when it is given as all three streams to `create`, to `exec` and to `run` in the
/// foreground.
fn owners_after(stream: &dyn AsFd) -> [u32; 3] {
    let stdio = || Stdio::from(stream.as_fd().try_clone_to_owned().unwrap());
    let give = |command: &mut Command| command.stdin(stdio()).stdout(stdio()).stderr(stdio()).status().unwrap();
    let owner = || rustix::fs::fstat(stream.as_fd()).unwrap().st_uid;
    let mut world = world();
    world.write();
    assert!(give(&mut world.command(&["create", &world.id])).success());
    let created = owner();
    world.call(&["start", &world.id]).ok();
    assert!(give(&mut world.command(&["exec", &world.id, "true"])).success());
    let joined = owner();
    world.call(&["delete", "--force", &world.id]).ok();
    *world.at("/process/args") = json!(["true"]);
    world.write();
    assert!(give(&mut world.command(&["run", &world.id])).success());
    [created, joined, owner()]
}

#[test]
fn a_terminal_of_the_host_stays_its_owners() {
    needs_root!("the owner of a terminal");
    only!(Who::Us; "runc and crun give it to the container's user");
    let (_master, terminal) = openpt();
    assert_eq!(owners_after(&terminal), [0, 0, 0]);
}

#[test]
fn a_file_a_device_a_fifo_and_a_socket_stay_their_owners() {
    needs_root!("a device node");
    only!(Who::Us; "runc and crun give them to the container's user");
    let directory = tempfile::Builder::new().prefix("coracle-it-").tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let open = |path: &Path| File::options().read(true).write(true).open(path).unwrap();
    fs::write(at("log"), "").unwrap();
    fs::set_permissions(at("log"), fs::Permissions::from_mode(0o600)).unwrap();
    finish(Command::new("mkfifo").arg(at("fifo"))).ok();
    for name in ["log", "fifo"] {
        assert_eq!(owners_after(&open(&at(name))), [0, 0, 0], "{name}");
    }
    let device = at("zero");
    finish(Command::new("mknod").arg(&device).args(["c", "1", "5"])).ok();
    match File::options().read(true).write(true).open(&device) {
        Ok(zero) => assert_eq!(owners_after(&zero), [0, 0, 0], "a device"),
        Err(error) => eprintln!("no device is opened in {}: {error}", directory.path().display()),
    }
    let (ours, _theirs) = UnixStream::pair().unwrap();
    assert_eq!(owners_after(&ours), [0, 0, 0], "a socket");
}

/// `docker run -u 1000 nginx` and similar calls depend on this, by conmon, containerd's shim and Docker.
#[test]
fn a_pipe_is_opened_again_as_dev_stdout_by_an_ordinary_user() {
    needs_root!("another user");
    let mut world = world();
    let script = "echo one >/dev/stdout && echo two >/dev/stderr && cat </dev/stdin >/proc/self/fd/1";
    *world.at("/process/args") = json!(["sh", "-c", script]);
    world.write();
    let id = world.id.clone();
    let piped = |args: &[&str]| {
        let mut child = world.command(args);
        let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdin.take());
        let (mut out, mut err) = (String::new(), String::new());
        child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        assert!(child.wait().unwrap().success(), "{out}{err}");
        (out, err)
    };
    assert_eq!(piped(&["run", &id]), ("one\n".to_owned(), "two\n".to_owned()));
    // exec, and the streams of create, which stay open as long as it runs.
    let (mut ours, theirs) = std::io::pipe().unwrap();
    world.write();
    let status = world.command(&["create", &id]).stdin(Stdio::null()).stdout(theirs).stderr(Stdio::null()).status();
    assert!(status.unwrap().success());
    world.call(&["start", &id]).ok();
    let mut out = String::new();
    ours.read_to_string(&mut out).unwrap();
    assert_eq!(out, "one\n", "{:?}", who());
    world.call(&["delete", "--force", &id]).ok();
    *world.at("/process/args") = json!(["sleep", "1000"]);
    world.begin();
    let exec = world.command(&["exec", &id, "sh", "-c", "echo three >/dev/stdout; echo four >/dev/stderr"]).output();
    let exec = exec.unwrap();
    assert_eq!((&*exec.stdout, &*exec.stderr), (&b"three\n"[..], &b"four\n"[..]));
}
