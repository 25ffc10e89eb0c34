//! The program that calls the library: no call changes its state; its streams may be closed; and it is not killed when
//! another process deletes a container that it is making. Needs root and busybox.
#![allow(clippy::unwrap_used)] // in a test, that is what fails it

mod common;

use std::fs;
use std::io::{Read, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use common::{BUSYBOX, bundle, may_run, state};
use libcontainer::{Bundle, Container, Force, Root, Stopped, Update};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};
use serde_json::{Value, json};

/// The same bundle, with another config.
fn changed(directory: &Path, change: impl FnOnce(&mut Value)) -> Bundle {
    let path = directory.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut config);
    fs::write(&path, config.to_string()).unwrap();
    Bundle::read(directory).unwrap()
}

/// A state that no call may take for its own: an umask and a limit that are unusual, a blocked signal, a directory. A backtrace leaves
/// a mapping of the program's file.
fn make_it_unusual(directory: &Path) {
    assert!(std::backtrace::Backtrace::force_capture().to_string().contains("make_it_unusual"));
    umask(Mode::from_bits_truncate(0o13));
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 140, hard).unwrap();
    let mut set = nix::sys::signal::SigSet::empty();
    set.add(nix::sys::signal::Signal::SIGUSR2);
    set.thread_block().unwrap();
    std::env::set_current_dir(directory).unwrap();
}

/// One call of the API.
type Call = fn(&Root, &Bundle, Option<Container>) -> Option<Container>;

/// Every operation, in an order that makes sense, and a failure of each kind that undoes something.
const CALLS: &[(&str, Call)] = &[
    ("create", |root, bundle, _| Some(root.create("box", bundle).create().unwrap().0)),
    ("create a second one", |root, bundle, old| {
        assert_eq!(*root.create("box", bundle).create().unwrap_err().kind(), libcontainer::Kind::Exists);
        old
    }),
    ("start", |_, _, mut container| {
        container.as_mut()?.start().unwrap();
        container
    }),
    ("load and list", |root, _, _| {
        assert_eq!(root.list().unwrap().len(), 1);
        Some(root.load("box").unwrap())
    }),
    ("exec", |_, _, container| {
        let process = container.as_ref()?.exec(&[BUSYBOX, "true"]).spawn().unwrap();
        assert!(process.wait().unwrap().success());
        container
    }),
    ("exec with wrong settings", |_, _, container| {
        let exec = || container.as_ref().unwrap().exec(&[BUSYBOX, "true"]);
        for signal in [-1, 0, 65, i32::MAX] {
            let refused = exec().death_signal(Some(signal)).spawn().unwrap_err();
            assert_eq!(*refused.kind(), libcontainer::Kind::InvalidArgument, "{refused}");
        }
        assert!(exec().pid_file("").spawn().unwrap_err().to_string().starts_with("`pid_file`: "));
        container
    }),
    ("exec what is missing", |_, _, container| {
        container.as_ref()?.exec(&["/missing"]).spawn().unwrap_err();
        container
    }),
    ("kill", |_, _, container| {
        container.as_ref()?.kill(0, Stopped::Refused).unwrap();
        let refused = container.as_ref()?.kill(999, Stopped::Refused).unwrap_err();
        assert_eq!(*refused.kind(), libcontainer::Kind::Os(libc::EINVAL), "{refused}");
        container
    }),
    ("pause and resume", |_, _, mut container| {
        container.as_mut()?.pause().unwrap();
        container.as_mut()?.resume().unwrap();
        container
    }),
    ("update", |_, _, mut container| {
        container.as_mut()?.update(&Update::read(br#"{"pids": {"limit": 100}}"#).unwrap()).unwrap();
        container
    }),
    ("stats and events", |_, _, container| {
        let stats = container.as_ref()?.stats();
        assert!(stats.cgroup.pids.current > 0 && stats.cgroup.memory.usage.usage > 0, "{stats:?}");
        drop(container.as_ref()?.events().unwrap());
        container
    }),
    #[cfg(feature = "checkpoint")]
    ("a checkpoint without criu", |root, _, container| {
        let images = libcontainer::Images::new("images").criu("/missing");
        container?.checkpoint(images).make().unwrap_err();
        Some(root.load("box").unwrap())
    }),
    ("stop", |_, _, container| {
        let mut events = container.as_ref()?.events().unwrap();
        container.as_ref()?.stop(libc::SIGKILL, Stopped::Fine, Duration::MAX).unwrap();
        assert_eq!(events.next(Duration::MAX).unwrap(), libcontainer::Happened::Ended);
        container
    }),
    ("delete", |root, _, container| {
        assert!(container?.delete(Force::Kill).unwrap().is_empty());
        assert_eq!(root.ids().unwrap(), [""; 0]);
        None
    }),
    ("a program that is missing", |root, bundle, _| {
        changed(bundle.directory(), |config| config["process"]["args"] = json!(["/missing"]));
        let bundle = Bundle::read(bundle.directory()).unwrap();
        root.create("box", &bundle).run().unwrap_err();
        None
    }),
    ("explain", |_, bundle, _| {
        assert!(!bundle.explain(libcontainer::CgroupUse::Own).unwrap().lines().is_empty());
        None
    }),
];

/// Reaps the first process of a container that is gone.
fn reap() {
    use nix::sys::wait::{WaitPidFlag, waitpid};
    while waitpid(None, Some(WaitPidFlag::WNOHANG)).is_ok_and(|status| status.pid().is_some()) {}
}

/// The three things are one test: they change their own process, and it must have no other tests in it.
#[test]
fn a_program_that_embeds_the_library_is_not_changed() {
    if !may_run() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    is_not_killed_while_it_creates(directory.path());
    no_call_changes_anything(directory.path());
    may_have_closed_its_streams(directory.path());
}

fn no_call_changes_anything(directory: &Path) {
    let path = directory.join("bundle");
    bundle(&path, &[BUSYBOX, "sleep", "600"]);
    // what is changed for a moment, if the config says so
    let bundle = changed(&path, |config| {
        config["process"]["oomScoreAdj"] = json!(100);
        config["process"]["rlimits"] = json!([{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]);
        config["process"]["user"]["umask"] = json!(0o27);
    });
    let root = Root::open(directory.join("root")).unwrap();
    make_it_unusual(directory);
    let mut container = None;
    let mut before = state::state();
    // its first process is our child
    before.remove("children");
    for (name, call) in CALLS {
        container = call(&root, &bundle, container);
        if container.is_none() {
            reap();
        }
        let mut after = state::state();
        after.remove("children");
        state::must_be_same(name, &before, &after);
    }
    std::env::set_current_dir("/").unwrap();
}

/// While a hook of a container runs that this program makes, another thread deletes the container by force.
fn is_not_killed_while_it_creates(directory: &Path) {
    let path = directory.join("spared");
    bundle(&path, &[BUSYBOX, "true"]);
    let ready = directory.join("hook-runs");
    // it ends with init
    let script = format!("echo > {}; exec sleep 1000", ready.display());
    let bundle = changed(&path, |config| {
        config["hooks"] = json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]});
    });
    let root = Root::open(directory.join("root")).unwrap();
    std::thread::scope(|scope| {
        let creating = scope.spawn(|| root.create("spared", &bundle).create().map(drop));
        let deadline = Instant::now() + Duration::from_secs(20);
        while !ready.exists() {
            assert!(Instant::now() < deadline, "the hook does not run");
            std::thread::sleep(Duration::from_millis(5));
        }
        root.delete("spared", Force::Kill).unwrap();
        let error = creating.join().unwrap().unwrap_err();
        assert!(error.to_string().contains("createRuntime") || error.to_string().contains("init"), "{error}");
    });
    assert_eq!(root.ids().unwrap(), [""; 0]);
    reap();
}

/// Whichever of 0, 1 and 2 are closed, the process has the streams that it is given, and no other.
fn may_have_closed_its_streams(directory: &Path) {
    let path = directory.join("streams");
    let script = "read a; read b <&3; echo out $a $b; echo err >&2; set -- /proc/self/fd/*; exit $#";
    let bundle = bundle(&path, &[BUSYBOX, "sh", "-c", script]);
    let root = Root::open(directory.join("root")).unwrap();
    let kept: Vec<OwnedFd> =
        [0, 1, 2].into_iter().map(|number| rustix::io::fcntl_dupfd_cloexec(stream(number), 10).unwrap()).collect();
    let mut found = Vec::new();
    for closed in 0..8 {
        for number in (0..3).filter(|number| closed & 1 << number != 0) {
            nix::unistd::close(number).unwrap();
        }
        found.push(given_streams(&root, &bundle));
        // no other thread opens files here, so the numbers are still free
        let _ = rustix::stdio::dup2_stdin(&kept[0]);
        let _ = rustix::stdio::dup2_stdout(&kept[1]);
        let _ = rustix::stdio::dup2_stderr(&kept[2]);
    }
    for (closed, found) in found.into_iter().enumerate() {
        let (out, err, status) = found.unwrap_or_else(|error| panic!("{closed:03b}: {error}"));
        assert_eq!((out.as_str(), err.as_str(), status), ("out one two\n", "err\n", Some(5)), "{closed:03b}");
    }
}

fn stream(number: i32) -> BorrowedFd<'static> {
    match number {
        0 => rustix::stdio::stdin(),
        1 => rustix::stdio::stdout(),
        _ => rustix::stdio::stderr(),
    }
}

fn given_streams(root: &Root, bundle: &Bundle) -> libcontainer::Result<(String, String, Option<i32>)> {
    let (stdin, mut ours) = std::io::pipe()?;
    let (more, mut ours_too) = std::io::pipe()?;
    let (mut output, stdout) = std::io::pipe()?;
    let (mut errors, stderr) = std::io::pipe()?;
    let create = root.create("streams", bundle).stdin(stdin).stdout(stdout).stderr(stderr).descriptor(more);
    let (container, process) = create.run()?;
    writeln!(ours, "one")?;
    writeln!(ours_too, "two")?;
    let (mut out, mut err) = (String::new(), String::new());
    output.read_to_string(&mut out)?;
    errors.read_to_string(&mut err)?;
    let status = process.wait()?.code();
    container.delete(Force::Kill)?;
    Ok((out, err, status))
}
