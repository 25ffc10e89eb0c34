//! SCMP_ACT_NOTIFY: an agent receives the listener, and answers for the container.

use nix::sys::signal::Signal;
use serde_json::json;

use crate::agent::{Agent, Answer};
use crate::interrupted::{begun, ends_by};
use crate::only;
use crate::world::{Who, World, who};

fn no_directories(nr: i64) -> Answer {
    if nr == libc::SYS_mkdir { Answer::Errno(libc::ENOTSUP) } else { Answer::Continue }
}

/// A container with an agent at `socket` that answers its calls of `names`.
fn notifying(socket: &str, names: &[&str], args: &[&str]) -> World {
    let mut world = World::running(args);
    let path = world.path(socket);
    *world.at("/linux/seccomp") = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": path,
        "listenerMetadata": "some data",
        "syscalls": [{"names": names, "action": "SCMP_ACT_NOTIFY"}],
    });
    *world.at("/annotations") = json!({"org.example.a": "b"});
    world
}

const MKDIR: [&str; 3] = ["sh", "-c", "mkdir /dev/shm/x 2>&1; echo $?"];

#[test]
fn the_agent_answers_for_init() {
    for privileges in [json!(true), json!(false)] {
        let mut world = notifying("agent.sock", &["mkdir"], &MKDIR);
        *world.at("/process/noNewPrivileges") = privileges;
        let agent = Agent::at(&world.path("agent.sock"), no_directories);
        assert_eq!(world.run().ok(), "mkdir: can't create directory '/dev/shm/x': Operation not supported\n1\n");
        let message = agent.next();
        assert_eq!(message["fds"], json!(["seccompFd"]), "{message}");
        assert_eq!(message["metadata"], "some data");
        assert_eq!(message["pid"], message["state"]["pid"]);
        assert_eq!(message["state"]["id"], world.id);
        assert_eq!(message["state"]["status"], "creating");
        assert_eq!(message["state"]["bundle"], json!(world.bundle()));
        assert_eq!(message["state"]["annotations"]["org.example.a"], "b");
        // runc sends its own version of the specification, crun 0.2.0.
        assert!(who() != Who::Us || message["ociVersion"] == "1.0.2", "{message}");
    }
}

#[test]
fn the_agent_answers_for_exec_and_knows_that_the_container_runs() {
    only!(Who::Us, Who::Runc; "crun 1.8 tells the state of the container for exec as well, with other fields");
    let world = notifying("agent.sock", &["mkdir"], &["sleep", "1000"]);
    let agent = Agent::at(&world.path("agent.sock"), no_directories);
    world.begin();
    assert_eq!(agent.next()["pid"], world.pid());
    assert_eq!(world.exec(&MKDIR).ok(), "mkdir: can't create directory '/dev/shm/x': Operation not supported\n1\n");
    let message = agent.next();
    assert_eq!(message["state"]["status"], "running", "{message}");
    assert_eq!(message["state"]["pid"], world.pid());
    assert_ne!(message["pid"], message["state"]["pid"]);
}

#[test]
fn the_socket_of_the_agent_may_have_a_long_path() {
    only!(Who::Us; "an address has room for 108 bytes, and runc and crun do not go round that");
    let world = notifying(&format!("{}/agent.sock", "d".repeat(120)), &["mkdir"], &MKDIR);
    std::fs::create_dir(world.path(&"d".repeat(120))).unwrap();
    let agent = Agent::at(&world.path(&format!("{}/agent.sock", "d".repeat(120))), no_directories);
    assert!(world.run().ok().contains("not supported"));
    agent.next();
}

#[test]
fn a_filter_that_traps_the_calls_which_would_send_it_works() {
    only!(Who::Us, Who::Runc; "crun 1.8 sends the listener by a call that then waits for itself");
    let names = ["mkdir", "sendmsg", "recvmsg", "sendto", "recvfrom", "connect", "socket", "close", "read"];
    let world = notifying("agent.sock", &names, &MKDIR);
    let agent = Agent::at(&world.path("agent.sock"), no_directories);
    assert!(world.run().ok().contains("not supported"));
    agent.next();
}

#[test]
fn without_an_agent_nothing_is_made() {
    for socket in ["nobody.sock", "nowhere/agent.sock"] {
        let world = notifying(socket, &["mkdir"], &MKDIR);
        let said = world.run().fails();
        if who() == Who::Us {
            let path = world.path(socket);
            let wanted = format!(
                "linux.seccomp.listenerPath: failed to connect with seccomp agent: connect to {}: no such file",
                path.display()
            );
            assert!(said.to_lowercase().contains(&wanted.to_lowercase()), "{said}");
        }
        world.assert_clean();
    }
}

#[test]
fn an_agent_that_reads_nothing_does_not_keep_the_runtime() {
    only!(Who::Us; "the peers wait for ever, and SIGTERM does not end them");
    // More than fits into the socket.
    let mut world = notifying("agent.sock", &["mkdir"], &MKDIR);
    *world.at("/annotations") = json!({"org.example.a": "b".repeat(1 << 20)});
    world.write();
    for signal in [None, Some(Signal::SIGTERM), Some(Signal::SIGINT)] {
        let path = world.path("agent.sock");
        let _ = std::fs::remove_file(&path);
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let Some(signal) = signal else {
            let said = world.run().fails();
            assert!(said.contains("linux.seccomp.listenerPath: send"), "{said}");
            assert!(said.contains("no process has read from the socket for 10 s"), "{said}");
            continue;
        };
        let runtime = begun(&world, &["run"]);
        let _accepted = listener.accept().unwrap();
        ends_by(runtime, signal);
        world.assert_clean();
    }
}

#[test]
fn without_its_agent_a_call_fails_with_enosys() {
    only!(Who::Us, Who::Runc; "crun 1.8 keeps the listener open in init while it waits for start");
    let world = notifying("agent.sock", &["mkdir"], &MKDIR);
    let path = world.path("agent.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    // Takes the message, and closes the listener.
    let gone = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        std::io::Read::read(&mut stream, &mut [0; 4096]).unwrap();
    });
    let ran = world.run().ok();
    gone.join().unwrap();
    assert_eq!(ran, "mkdir: can't create directory '/dev/shm/x': Function not implemented\n1\n");
}

#[test]
fn what_cannot_be_answered_is_refused() {
    only!(Who::Us; "runc 1.1 takes metadata without a path, crun 1.8 takes write");
    let mut world = notifying("agent.sock", &["write"], &["true"]);
    let _agent = Agent::at(&world.path("agent.sock"), no_directories);
    let said = world.run().fails();
    assert!(said.contains("write"), "{said}");
    *world.at("/linux/seccomp/syscalls") = json!([]);
    *world.at("/linux/seccomp/defaultAction") = json!("SCMP_ACT_NOTIFY");
    let said = world.run().fails();
    assert!(said.contains("SCMP_ACT_NOTIFY"), "{said}");
    *world.at("/linux/seccomp") = json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x"});
    let said = world.run().fails();
    assert!(said.contains("linux.seccomp.listenerMetadata: is set without listenerPath"), "{said}");
}

#[test]
fn crun_s_annotation_names_an_agent_too() {
    only!(Who::Us, Who::Crun; "the annotation is crun's");
    let mut world = notifying("agent.sock", &["mkdir"], &MKDIR);
    let seccomp = world.at("/linux/seccomp").as_object_mut().unwrap();
    seccomp.remove("listenerPath");
    seccomp.remove("listenerMetadata");
    *world.at("/annotations") = json!({"run.oci.seccomp.receiver": world.path("agent.sock")});
    let agent = Agent::at(&world.path("agent.sock"), no_directories);
    assert!(world.run().ok().contains("not supported"));
    assert_eq!(agent.next()["fds"], json!(["seccompFd"]));
}
