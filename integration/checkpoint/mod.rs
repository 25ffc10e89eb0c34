//! Checkpoint and restore, with a CRIU that runs on this kernel (`hack/criu`).

mod confined;
mod goes_on;
mod host_mounts;
mod kept;
mod killed;
mod refused;
mod remote;
mod rights;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::world::{Outcome, World, finish, wait_until};

/// CRIU, if there is one that runs here: what CRIU names, that of `hack/criu`, or that of PATH.
pub fn criu() -> Option<&'static Path> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    let works = |path: &PathBuf| {
        let checked = Command::new(path).arg("check").output();
        checked.is_ok_and(|checked| checked.status.success())
    };
    let find = || {
        let named = std::env::var_os("CRIU").map(PathBuf::from);
        let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("hack/.cache/criu/criu");
        let usual = ["/usr/local/sbin/criu", "/usr/sbin/criu"].map(PathBuf::from);
        named.into_iter().chain([built]).chain(usual).find(works)
    };
    FOUND.get_or_init(find).as_deref()
}

/// Whether CRIU is older than this release.
fn is_older_than(release: (u32, u32)) -> bool {
    let said = finish(Command::new(criu().unwrap()).arg("--version")).ok();
    let numbers = said.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok());
    let numbers: Vec<u32> = numbers.take(2).collect();
    (numbers[0], numbers[1]) < release
}

/// Leaves the test where no CRIU runs.
macro_rules! needs_criu {
    () => {
        $crate::needs!($crate::ordinary::root(), "checkpoint and restore are root's");
        $crate::needs!($crate::checkpoint::criu().is_some(), "no criu runs on this kernel: hack/criu builds one");
    };
}
pub(crate) use needs_criu;

/// The runtime, which finds CRIU in PATH.
fn command(world: &World, args: &[&str]) -> Command {
    let mut command = world.command(args);
    let directory = criu().unwrap().parent().unwrap().display().to_string();
    command.env("PATH", format!("{directory}:/usr/sbin:/usr/bin:/sbin:/bin"));
    command
}

/// Runs it to its end.
#[track_caller]
fn call(world: &World, args: &[&str]) -> Outcome {
    finish(&mut command(world, args))
}

/// A checkpoint into `images` below the bundle.
#[track_caller]
pub fn dump(world: &World, images: &str, more: &[&str]) -> Outcome {
    call(world, &[&["checkpoint", "--image-path", images, "--work-path", "work"], more, &[&world.id]].concat())
}

/// A restore from there, detached.
#[track_caller]
fn restore(world: &World, images: &str, more: &[&str]) -> Outcome {
    call(world, &[&["restore", "-d", "--image-path", images, "--work-path", "work"], more, &[&world.id]].concat())
}

/// Counts in its memory, and writes each number into a file of a tmpfs.
const COUNTER: &str = "i=0; while :; do i=$((i+1)); echo $i >/dev/shm/n; sleep 0.05; done";

/// How far the counter is.
#[track_caller]
fn count(world: &World) -> u64 {
    let mut number = 0;
    wait_until("the counter has written a number", || {
        let text = std::fs::read_to_string(format!("/proc/{}/root/dev/shm/n", world.pid())).unwrap_or_default();
        number = text.trim().parse().unwrap_or(0);
        number > 0
    });
    number
}

/// It counts on, from `before`.
#[track_caller]
fn assert_counts_on(world: &World, before: u64) {
    wait_until("it counts on", || count(world) > before);
    assert!(count(world) < before + 400, "it has begun again: {before}, {}", count(world));
}
