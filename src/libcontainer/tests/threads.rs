//! The library in a program with many threads, which allocate, lock and open files while containers are made. Nothing of the
//! program changes. Needs root and busybox; CORACLE_ROUNDS says how often (50 without it; a thousand by
//! hand).
#![allow(clippy::unwrap_used)] // in a test, that is what fails it

mod common;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use common::{BUSYBOX, bundle, may_run};
use libcontainer::{Bundle, Force, Root, Status};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Ends a child of ours that uses the heap.
#[global_allocator]
static HEAP: libcontainer::sys::heap::Watched = libcontainer::sys::heap::Watched;

/// What must be the same afterwards: masks, limits, scores, rights, namespaces, children, open files, and the file that our
/// program is.
fn state() -> Vec<String> {
    let read = |name: &str| fs::read_to_string(format!("/proc/thread-self/{name}")).unwrap();
    let kept = [
        "SigBlk",
        "SigIgn",
        "SigCgt",
        "Umask",
        "NoNewPrivs",
        "Seccomp",
        "Cpus_allowed",
        "Mems_allowed",
        "Cap",
        "Uid",
        "Gid",
        "Groups",
    ];
    let status = read("status");
    let lines = status.lines().filter(|line| kept.iter().any(|name| line.starts_with(name)));
    let mut state: Vec<String> = lines.map(str::to_owned).collect();
    state.extend(["limits", "oom_score_adj", "cgroup", "children", "personality"].map(read));
    state.extend(std::env::vars_os().map(|variable| format!("{variable:?}")));
    let links = |directory: &str| {
        let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        // a file that another thread has open for a moment
        let mut links: Vec<_> =
            entries.filter_map(|path| Some(format!("{path:?} {:?}", fs::read_link(&path).ok()?))).collect();
        links.retain(|link| !link.contains("/status") && !link.contains(&format!("{directory}\"")));
        links.retain(|link| !link.contains("/proc/"));
        links.sort();
        links
    };
    // how many of each: numbers may change
    state.push(links("/proc/self/fd").len().to_string());
    state.extend(links("/proc/self/ns"));
    let own = fs::read_link("/proc/self/exe").unwrap();
    state.push(format!(
        "{:?} {own:?} {:?}",
        std::env::current_dir().unwrap(),
        fs::read_link("/proc/self/root").unwrap()
    ));
    state.push(format!("{:?}", rustix::process::dumpable_behavior().unwrap()));
    state.push(format!("{:?}", rustix::process::child_subreaper().unwrap()));
    state.push(format!("{:?}", rustix::process::parent_process_death_signal().unwrap()));
    let map = fs::read_to_string("/proc/self/maps").unwrap();
    state.extend(map.lines().filter(|line| line.ends_with(own.to_str().unwrap())).map(str::to_owned));
    state
}

/// What other threads do.
fn is_busy(done: &AtomicBool, shared: &Mutex<Vec<String>>) {
    while !done.load(Ordering::Relaxed) {
        // without close-on-exec
        let flags = rustix::fs::OFlags::RDONLY;
        let file = rustix::fs::open("/proc/self/status", flags, rustix::fs::Mode::empty());
        let mut list = shared.lock().unwrap_or_else(PoisonError::into_inner);
        list.push(format!("{file:?}"));
        if list.len() > 100 {
            list.clear();
        }
    }
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
    std::thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| is_busy(&done, &shared));
        }
        let worked = std::panic::catch_unwind(|| {
            let before = state();
            rounds(&root, &bundle, n);
            let after = state();
            assert!(after == before, "{:?}", after.iter().zip(&before).find(|(after, before)| after != before));
        });
        done.store(true, Ordering::Relaxed);
        worked.unwrap();
    });
    assert_eq!(root.ids().unwrap(), [""; 0]);
}
