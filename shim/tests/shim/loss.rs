//! The shim, containerd, or the reader of a container's output is killed.

use std::fs::{self, File};
use std::io::Write;
use std::sync::mpsc;
use std::time::Duration;

use prost::Message;

use crate::messages::google::Any;
use crate::messages::runc;
use crate::messages::task::*;
use crate::world::{Client, gone, root_is_here, take_events, world, world_without_containerd};

#[test]
fn the_remains_of_a_killed_shim_are_removed() {
    if !root_is_here() {
        return;
    }
    let world = world();
    let mut client = world.start();
    let created = client.create(&world, "c1").expect("Create");
    client.start("c1", "").expect("Start");
    let connected: ConnectResponse = client.call("Connect", &ConnectRequest { id: "c1".into() }).expect("Connect");
    assert_eq!(connected.task_pid, created.pid);
    client.kill();
    let answer = world.clear();
    assert_eq!((answer.pid, answer.exit_status), (created.pid, 137));
    gone("the container's process", || fs::read_link(format!("/proc/{}/exe", created.pid)).is_ok());
}

#[test]
fn a_shim_that_is_killed_at_any_moment_leaves_what_can_be_cleared() {
    if !root_is_here() {
        return;
    }
    // another pod, which notices nothing
    let neighbour = crate::world::world();
    let mut other = neighbour.start();
    other.create(&neighbour, "c1").expect("Create");
    other.start("c1", "").expect("Start");
    let world = world();
    let pause = |n: u64| std::thread::sleep(Duration::from_millis(n * 3));
    for moment in 0..20 {
        let mut client = world.start();
        if moment < 10 {
            client.ask("Create", &Client::order(&world, "c1"));
            pause(moment);
        } else {
            client.create(&world, "c1").expect("Create");
            client.ask("Start", &StartRequest { id: "c1".into(), exec_id: String::new() });
            client.ask("Exec", &Client::exec_order("c1", "e", "-info"));
            client.ask("Start", &StartRequest { id: "c1".into(), exec_id: "e".into() });
            pause(moment - 10);
        }
        client.kill();
        world.clear();
    }
    assert_eq!(other.exec(&neighbour, "e", "-v"), 0);
    other.close_stdin("c1");
    let ended: WaitResponse = other.call("Wait", &Client::wait("c1", "")).expect("Wait");
    assert_eq!(ended.exit_status, 0);
    other.delete("c1", "").expect("Delete");
    other.shut_down();
    let mut came = neighbour.events_to("delete c1");
    came.retain(|event| !event.starts_with("exec"));
    assert_eq!(came, ["create c1", "start c1", "exit e 0", "exit c1 0", "delete c1"]);
    neighbour.assert_empty();
}

#[test]
fn a_shim_that_ends_is_silent_before_it_waits_for_the_lock_of_delete() {
    if !root_is_here() {
        return;
    }
    let world = world();
    let mut client = world.start();
    let directory = File::open(world.path("s")).expect("the directory of sockets");
    // `delete` has it while it asks the socket, and waits 5 s for an answer
    rustix::fs::flock(&directory, rustix::fs::FlockOperation::LockExclusive).expect("flock");
    client.shut_down();
    let path = client.path.clone();
    gone("who listens", || std::os::unix::net::UnixStream::connect(&path).is_ok());
    drop(directory);
    world.assert_empty();
}

/// The old shim waits for containerd to take its last events, and would refuse every container.
#[test]
fn a_pod_whose_shim_is_ending_gets_another_shim() {
    if !root_is_here() {
        return;
    }
    let world = world_without_containerd();
    let mut client = world.start();
    let old = client.pid;
    client.create(&world, "c1").expect("Create");
    client.start("c1", "").expect("Start");
    client.end_c1();
    let mut next = world.start();
    assert_ne!(next.pid, old);
    next.create(&world, "c1").expect("Create");
    // the old one ends now, and leaves the socket to the new one
    let old = old.expect("a shim").as_raw_pid();
    gone("the old shim", || fs::read_link(format!("/proc/{old}/exe")).is_ok());
    next.start("c1", "").expect("Start");
    assert!(next.path.exists());
    next.end_c1();
    world.assert_empty();
}

#[test]
fn a_containerd_that_is_killed_hears_all_when_it_is_back() {
    if !root_is_here() {
        return;
    }
    let world = world_without_containerd();
    let (sender, events) = mpsc::channel();
    let first = world.listen();
    let mut client = world.start();
    let killed = std::thread::spawn({
        let sender = sender.clone();
        // it dies before it has answered the second
        move || take_events(&first, &sender, 2)
    });
    client.create(&world, "c1").expect("Create");
    client.start("c1", "").expect("Start");
    killed.join().expect("the thread").expect("containerd");
    fs::remove_file(world.path("ttrpc")).expect("its socket");
    // its own connection to the shim ends as well
    let path = client.path.clone();
    let pid = client.pid.take();
    drop(client);
    let mut client = Client::connect(&path);
    client.pid = pid;
    client.close_stdin("c1");
    let ended: WaitResponse = client.call("Wait", &Client::wait("c1", "")).expect("Wait");
    assert_eq!(ended.exit_status, 0);
    let second = world.listen();
    std::thread::spawn(move || take_events(&second, &sender, usize::MAX));
    client.delete("c1", "").expect("Delete");
    client.shut_down();
    let came: Vec<String> = (0..4).map(|_| events.recv_timeout(Duration::from_secs(20)).expect("an event")).collect();
    assert_eq!(came, ["create c1", "start c1", "exit c1 0", "delete c1"]);
    world.assert_empty();
    assert!(events.try_recv().is_err(), "an event came twice");
}

#[test]
fn output_without_a_reader_stops_only_its_own_container() {
    if root_is_here() {
        output_that_nobody_takes(Reader::Gone);
        output_that_nobody_takes(Reader::Silent);
    }
}

/// Who has the reading end of a container's output.
#[derive(PartialEq)]
enum Reader {
    /// It has closed it.
    Gone,
    /// It never reads.
    Silent,
}

fn output_that_nobody_takes(kind: Reader) {
    let world = world();
    world.bundle("c2");
    world.fifo("out-c1");
    let mut client = world.start();
    let order = CreateTaskRequest { stdout: world.text("out-c1"), ..Client::order(&world, "c1") };
    let _: CreateTaskResponse = client.call("Create", &order).expect("Create");
    client.start("c1", "").expect("Start");
    let reader = File::options().read(true).write(true).open(world.path("out-c1")).expect("a reader");
    let _reader = (kind == Reader::Silent).then_some(reader);
    // it says as much as it is given
    let options = runc::Options { root: "x".repeat(1 << 20), ..runc::Options::default() };
    let mut input = File::options().write(true).open(world.path("stdin-c1")).expect("a writer");
    input.write_all(&Any::of("containerd.runc.v1.Options", &options).encode_to_vec()).expect("write");
    drop(input);
    client.close_stdin("c1");
    client.create(&world, "c2").expect("Create");
    client.start("c2", "").expect("Start");
    client.close_stdin("c2");
    let ended: WaitResponse = client.call("Wait", &Client::wait("c2", "")).expect("Wait");
    assert_eq!(ended.exit_status, 0);
    client.delete("c2", "").expect("Delete");
    assert_eq!(client.status("c1"), status::RUNNING);
    client.kill_container("c1");
    let ended: WaitResponse = client.call("Wait", &Client::wait("c1", "")).expect("Wait");
    assert_eq!(ended.exit_status, 137);
    client.delete("c1", "").expect("Delete");
    client.shut_down();
    let _: Vec<String> = world.events_to("delete c1");
    world.assert_empty();
}
