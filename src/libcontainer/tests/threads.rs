//! The library in a program with many threads, which allocate, lock and open files while containers are made. Nothing of the
//! program changes. Needs root and busybox; CORACLE_ROUNDS says how often (50 without it; a thousand by
//! hand).
#![allow(clippy::unwrap_used)] // in a test, that is what fails it

mod common;

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use common::{BUSYBOX, bundle, may_run, state};
use libcontainer::{
    Bundle, Container, Create, Error, Events, Exec, Force, Process, ProcessObject, Root, Stats, Status, Update,
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Ends a child of ours that uses the heap.
#[global_allocator]
static HEAP: libcontainer::WatchedHeap = libcontainer::WatchedHeap;

/// What other threads do: allocate, lock, open files, and log.
fn is_busy(done: &AtomicBool, shared: &Mutex<Vec<String>>, log: &Mutex<std::fs::File>) {
    while !done.load(Ordering::Relaxed) {
        // without close-on-exec
        let flags = rustix::fs::OFlags::RDONLY;
        let file = rustix::fs::open("/proc/self/status", flags, rustix::fs::Mode::empty());
        let mut list = shared.lock().unwrap_or_else(PoisonError::into_inner);
        list.push(format!("{file:?}"));
        if list.len() > 100 {
            list.clear();
        }
        drop(list);
        writeln!(log.lock().unwrap_or_else(PoisonError::into_inner), "{:?}", std::time::Instant::now()).unwrap();
    }
}

/// A program with many threads keeps a bundle, passes an update or a prepared process to a worker, and tells each waiting caller the
/// same error.
#[test]
fn values_go_from_thread_to_thread() {
    fn shared<T: std::fmt::Debug + Send + Sync>() {}
    fn copied<T: Clone + Send + Sync>() {}
    fn sent<T: std::fmt::Debug + Send>() {}
    sent::<Create<'static>>();
    sent::<Exec<'static>>();
    #[cfg(feature = "checkpoint")]
    sent::<libcontainer::RestoreFrom<'static>>();
    shared::<Container>();
    shared::<Events>();
    shared::<Process>();
    shared::<Update<'static>>();
    copied::<Root>();
    copied::<Bundle>();
    copied::<ProcessObject>();
    copied::<Stats>();
    copied::<Error>();
    let error = Update::read(b"{").unwrap_err();
    assert_eq!((error.clone().to_string(), error.clone().kind()), (error.to_string(), error.kind()));
}

/// What a process has written into a pipe, and that it has nothing else of ours open.
const SCRIPT: &str = r#"
cd /proc/self/fd && set -- *; test "$#" -le 6 || { echo "open: $*" >&2; exit 9; }
read word; read more <&3; echo "$word $more $(ulimit -n)"; echo error >&2; exit 3"#;

fn rounds(root: &Root, bundle: &Bundle, n: usize) {
    for round in 0..n {
        let id = format!("round-{round}");
        let (mut container, init) = root.create(&id, bundle).create().unwrap();
        assert_eq!(container.state().unwrap().pid, init.pid());
        container.start().unwrap();
        assert_eq!(container.status().unwrap(), Status::Running);
        let (stdin, mut ours) = std::io::pipe().unwrap();
        let (more, mut ours_too) = std::io::pipe().unwrap();
        let (mut output, stdout) = std::io::pipe().unwrap();
        let (mut errors, stderr) = std::io::pipe().unwrap();
        let exec = container.exec(&["/bin/busybox", "sh", "-c", SCRIPT]);
        let process = exec.stdin(stdin).stdout(stdout).stderr(stderr).descriptor(more).spawn().unwrap();
        writeln!(ours, "hello").unwrap();
        writeln!(ours_too, "again").unwrap();
        let (mut out, mut err) = (String::new(), String::new());
        output.read_to_string(&mut out).unwrap();
        errors.read_to_string(&mut err).unwrap();
        assert_eq!((out.as_str(), err.as_str()), (format!("hello again {NOFILE}\n").as_str(), "error\n"));
        assert_eq!(process.wait().unwrap().code(), Some(3));
        assert!(init.try_wait().unwrap().is_none());
        assert!(container.delete(Force::Kill).unwrap().is_empty());
        assert_eq!(init.wait().unwrap().signal(), Some(libc::SIGKILL));
    }
}

/// Fewer descriptors than the library needs: it raises the limit while it works.
const NOFILE: u64 = 140;

#[test]
fn containers_are_made_while_other_threads_are_busy_and_nothing_of_the_program_changes() {
    if !may_run() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (root, bundle) = (
        Root::open(directory.path().join("root")).unwrap(),
        bundle(&directory.path().join("bundle"), &[BUSYBOX, "sleep", "600"]),
    );
    let n = std::env::var("CORACLE_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(50);
    let (done, shared) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, NOFILE, hard).unwrap();
    let log = Mutex::new(tempfile::tempfile().unwrap());
    std::thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| is_busy(&done, &shared, &log));
        }
        let worked = std::panic::catch_unwind(|| {
            let before = state::state();
            rounds(&root, &bundle, n);
            state::must_be_same("rounds", &before, &state::state());
        });
        done.store(true, Ordering::Relaxed);
        worked.unwrap();
    });
    assert_eq!(root.ids().unwrap(), [""; 0]);
}
