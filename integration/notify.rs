//! NOTIFY_SOCKET: the service manager gets a message when the program in the container is ready.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

use crate::namespaces::with_users;
use crate::only;
use crate::world::{Who, World, finish, wait_until, who};

/// Sends a message as a program in the container. busybox has no program for UNIX datagrams, and the test's own binary
/// would need libraries. So the test sends it from the host, through the container's root: it is the same socket.
fn say(world: &World, text: &[u8]) {
    let socket = UnixDatagram::unbound().unwrap();
    let path = format!("/proc/{}/root/run/notify/notify.sock", world.pid());
    wait_until("the socket is in the container", || socket.connect(&path).is_ok());
    socket.send(text).unwrap();
}

/// The service manager: it receives every message, and whether a descriptor came with it.
struct Manager(UnixDatagram);

impl Manager {
    fn at(path: &Path) -> Manager {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Manager(socket)
    }

    #[track_caller]
    fn hear(&self) -> (String, Option<OwnedFd>) {
        let mut buffer = [0u8; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got =
            rustix::net::recvmsg(&self.0, &mut [IoSliceMut::new(&mut buffer)], &mut control, RecvFlags::CMSG_CLOEXEC)
                .expect("the manager is told something");
        let fd = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        (String::from_utf8_lossy(&buffer[..got.bytes]).trim_end().to_owned(), fd)
    }

    fn is_quiet(&self) -> bool {
        self.0.set_nonblocking(true).unwrap();
        self.0.recv(&mut [0; 64]).is_err()
    }
}

fn world(args: &[&str]) -> (World, Manager) {
    let world = World::running(args);
    let manager = Manager::at(&world.path("manager.sock"));
    (world, manager)
}

/// A call with NOTIFY_SOCKET, in another thread.
fn with_manager(world: &World, args: &[&str]) -> std::thread::JoinHandle<crate::world::Outcome> {
    let mut command = world.command(args);
    command.env("NOTIFY_SOCKET", world.path("manager.sock"));
    std::thread::spawn(move || finish(&mut command))
}

/// Expects READY, the pid, and a barrier, and answers the barrier.
#[track_caller]
fn is_notified(world: &World, manager: &Manager) {
    assert_eq!(manager.hear().0, "READY=1");
    assert_eq!(manager.hear().0, format!("MAINPID={}", world.pid()));
    if who() == Who::Runc {
        // runc 1.1 does not send a barrier yet.
        return;
    }
    let (barrier, fd) = manager.hear();
    assert_eq!((barrier.as_str(), fd.is_some()), ("BARRIER=1", true));
}

#[test]
fn start_waits_until_the_program_is_ready() {
    only!(Who::Us, Who::Runc; "crun 1.8 knows NOTIFY_SOCKET another way: it relays in run only");
    let (world, manager) = world(&["sh", "-c", "echo $NOTIFY_SOCKET >/dev/shm/said; sleep 1000"]);
    world.write();
    with_manager(&world, &["create", &world.id]).join().unwrap().ok();
    let start = with_manager(&world, &["start", &world.id]);
    wait_until("running", || world.status() == "running");
    std::thread::sleep(Duration::from_millis(100));
    assert!(!start.is_finished(), "start does not wait");
    // Debian's runc recognizes READY=1 only as a whole message.
    say(&world, if who() == Who::Us { b"STATUS=nearly\nREADY=1\nMAINPID=1\n" } else { b"READY=1" });
    is_notified(&world, &manager);
    start.join().unwrap().ok();
    assert!(who() == Who::Runc || manager.is_quiet());
    assert_eq!(world.exec(&["cat", "/dev/shm/said"]).ok(), "/run/notify/notify.sock\n");
    let flags = world.exec(&["sh", "-c", "grep ' /run/notify ' /proc/self/mountinfo"]).ok();
    assert!(["ro", "nosuid", "nodev", "noexec"].iter().all(|flag| flags.contains(flag)), "{flags}");
}

#[test]
fn a_detached_run_waits_as_well() {
    only!(Who::Us, Who::Runc; "crun 1.8 does not wait");
    let (world, manager) = world(&["sleep", "1000"]);
    world.write();
    let run = with_manager(&world, &["run", "-d", &world.id]);
    wait_until("running", || world.call(&["state", &world.id]).status.success() && world.status() == "running");
    assert!(!run.is_finished(), "run does not wait");
    say(&world, b"READY=1");
    is_notified(&world, &manager);
    run.join().unwrap().ok();
}

#[test]
fn a_run_in_the_foreground_stays_the_main_process() {
    only!(Who::Us; "runc 1.1 names the container's process all the same, crun 1.8 forwards what it gets");
    let (world, manager) = world(&["sleep", "1000"]);
    world.write();
    let run = with_manager(&world, &["run", &world.id]);
    wait_until("running", || world.call(&["state", &world.id]).status.success() && world.status() == "running");
    say(&world, b"READY=1");
    assert_eq!(manager.hear().0, "READY=1");
    world.call(&["kill", &world.id, "KILL"]).ok();
    assert_eq!(run.join().unwrap().code(), 137);
    assert!(manager.is_quiet());
}

#[test]
fn a_container_that_ends_before_it_is_ready_ends_the_wait() {
    only!(Who::Us, Who::Runc; "crun 1.8 does not wait");
    let (world, manager) = world(&["false"]);
    world.write();
    with_manager(&world, &["create", &world.id]).join().unwrap().ok();
    with_manager(&world, &["start", &world.id]).join().unwrap().ok();
    assert!(manager.is_quiet());
}

#[test]
fn a_socket_without_a_listener_is_reported_first() {
    only!(Who::Us; "runc finds out when the container runs");
    let world = World::running(&["sleep", "1000"]);
    world.write();
    let said = with_manager(&world, &["run", "-d", &world.id]).join().unwrap().fails();
    let wanted = format!("NOTIFY_SOCKET: connect to {}: no such file", world.path("manager.sock").display());
    assert!(said.contains(&wanted), "{said}");
    world.assert_clean();
}

#[test]
fn a_mapped_root_reaches_the_socket() {
    only!(Who::Us; "Debian's runc cannot look into its own state directory as a mapped root");
    let (mut world, manager) = world(&["sleep", "1000"]);
    // The mapped root makes missing files in the root.
    with_users(&mut world);
    world.write();
    let run = with_manager(&world, &["run", "-d", &world.id]);
    wait_until("running", || world.call(&["state", &world.id]).status.success() && world.status() == "running");
    assert!(world.exec(&["stat", "-c", "%a", "/run/notify/notify.sock"]).ok().starts_with("777"));
    say(&world, b"READY=1");
    is_notified(&world, &manager);
    run.join().unwrap().ok();
}
