//! The library in a program with many threads, which allocate, lock and open files while containers are made. Nothing of the
//! program changes. Needs root and busybox; CORACLE_ROUNDS says how often.
#![allow(clippy::unwrap_used)] // in a test, that is what fails it

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use libcontainer::{Bundle, Force, Root, Status};

/// Ends a child of ours that uses the heap.
#[global_allocator]
static HEAP: libcontainer::sys::heap::Watched = libcontainer::sys::heap::Watched;

const BUSYBOX: &str = "/bin/busybox";

fn bundle(directory: &Path) -> Bundle {
    fs::create_dir_all(directory.join("rootfs/bin")).unwrap();
    fs::copy(BUSYBOX, directory.join("rootfs/bin/busybox")).unwrap();
    let config = libcontainer::config::example::spec(libcontainer::config::example::Kind::Rootful);
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    config["process"]["terminal"] = false.into();
    config["process"]["args"] = serde_json::json!(["/bin/busybox", "sleep", "600"]);
    config["root"]["readonly"] = false.into();
    fs::write(directory.join("config.json"), config.to_string()).unwrap();
    Bundle::read(directory).unwrap()
}

/// What must be the same afterwards: masks, limits, scores, who may look into us, the file that our program is.
fn state() -> String {
    let read = |name: &str| fs::read_to_string(format!("/proc/thread-self/{name}")).unwrap();
    let status = read("status");
    let kept = ["SigBlk", "SigIgn", "SigCgt", "Umask", "NoNewPrivs", "Seccomp", "Cpus_allowed"];
    let lines = status.lines().filter(|line| kept.iter().any(|name| line.starts_with(name)));
    let environment = std::env::vars_os().count();
    let (cwd, own) = (std::env::current_dir().unwrap(), fs::read_link("/proc/self/exe").unwrap());
    let dumpable = rustix::process::dumpable_behavior().unwrap();
    let map = fs::read_to_string("/proc/self/maps").unwrap();
    let program: Vec<_> = map.lines().filter(|line| line.ends_with(own.to_str().unwrap())).collect();
    format!(
        "{:?} {} {} {environment} {cwd:?} {own:?} {dumpable:?} {program:?}",
        lines.collect::<Vec<_>>(),
        read("limits"),
        read("oom_score_adj"),
    )
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

fn rounds(root: &Root, bundle: &Bundle, n: usize) {
    for round in 0..n {
        let id = format!("round-{round}");
        let mut container = root.create(&id, bundle).create().unwrap();
        container.start().unwrap();
        assert_eq!(container.status().unwrap(), Status::Running);
        // sh has its three streams, and /proc/self/fd itself
        let script = r#"cd /proc/self/fd && set -- *; test "$#" -le 4 || { echo "open: $*" >&2; exit 9; }; exit 3"#;
        let process = container.exec(&["/bin/busybox", "sh", "-c", script]).unwrap();
        assert_eq!(process.wait().unwrap().code(), Some(3));
        assert!(container.delete(Force::Kill).unwrap().is_empty());
    }
}

#[test]
fn containers_are_made_while_other_threads_are_busy_and_nothing_of_the_program_changes() {
    if !rustix::process::geteuid().is_root() || !Path::new(BUSYBOX).exists() {
        eprintln!("skipped: needs root and {BUSYBOX}");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (root, bundle) = (Root::open(directory.path().join("root")).unwrap(), bundle(&directory.path().join("bundle")));
    let n = std::env::var("CORACLE_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(10);
    let (done, shared) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| is_busy(&done, &shared));
        }
        let worked = std::panic::catch_unwind(|| {
            let before = state();
            rounds(&root, &bundle, n);
            assert_eq!(state(), before);
        });
        done.store(true, Ordering::Relaxed);
        worked.unwrap();
    });
    assert_eq!(root.ids().unwrap(), [""; 0]);
}
