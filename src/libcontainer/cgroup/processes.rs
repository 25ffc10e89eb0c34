//! The processes in a cgroup and below it.

use std::ffi::CStr;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use super::tree::{self, Walk, WalkEnd};
use crate::error::{Result, error};
use crate::sys::process_status::ProcessStatus;
use crate::sys::text;

/// The processes in directories and in those below them, each once. A directory that does not exist has none.
///
/// # Errors
/// The kernel's word, or there are too many cgroups: there may be more processes.
pub(super) fn collect<'d>(mut walk: Walk, directories: impl IntoIterator<Item = &'d PathBuf>) -> Result<Vec<i32>> {
    let mut all = Vec::new();
    for directory in directories {
        let enter = |here: BorrowedFd<'_>| in_one(here).map(|pids| all.extend(pids));
        walk.through(directory, enter, |_, _| Ok(()))
            .map_err(|end| error!("read processes of {}: {end}", directory.display()))?;
    }
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

/// Kills the processes in directories and in those below them, each as soon as it is seen. Below, it removes the directories
/// that are not in use. False where there are too many for one walk: the next one has less to do.
///
/// # Errors
/// The kernel's word, or it takes too long; those that were seen are killed.
pub(super) fn kill<'d>(directories: impl IntoIterator<Item = &'d PathBuf>) -> Result<bool> {
    let (mut walk, mut all) = (Walk::to_end(), true);
    for directory in directories {
        let enter = |here: BorrowedFd<'_>| {
            let pids = in_one(here)?;
            pids.into_iter().filter_map(Pid::from_raw).try_for_each(|pid| match kill_process(pid, Signal::KILL) {
                Err(Errno::SRCH) => Ok(()),
                other => other,
            })
        };
        // whoever deletes the container tries again, and tells why
        let leave = |above: BorrowedFd<'_>, name: &CStr| tree::remove_unused(above, name).or(Ok(()));
        match walk.through(directory, enter, leave) {
            Err(WalkEnd::TooMany) => all = false,
            done => done.map_err(|end| error!("kill processes of {}: {end}", directory.display()))?,
        }
    }
    Ok(all)
}

/// The most processes that a message names.
const MOST_NAMES: usize = 8;

/// Processes with their names, for a message.
pub fn names(pids: &[i32]) -> String {
    let name = |pid: &i32| {
        let name = text::lossy(Path::new(&format!("/proc/{pid}/comm"))).unwrap_or_default();
        format!("{pid} ({})", name.trim_end())
    };
    let names: Vec<_> = pids.iter().take(MOST_NAMES).map(name).collect();
    format!("{}{}", names.join(", "), if pids.len() > MOST_NAMES { ", …" } else { "" })
}

/// The processes in one directory.
fn in_one(directory: BorrowedFd<'_>) -> Result<Vec<i32>, Errno> {
    match numbers(directory, "cgroup.procs") {
        // a threaded one, which lists threads only
        Err(Errno::OPNOTSUPP) => Ok(numbers(directory, "cgroup.threads")?.into_iter().filter_map(process_of).collect()),
        pids => pids,
    }
}

/// `Tgid` of /proc/TID/status (proc(5)); None for a thread that has ended.
fn process_of(thread: i32) -> Option<i32> {
    ProcessStatus::of(thread).ok()?.field("Tgid")?.parse().ok()
}

fn numbers(directory: BorrowedFd<'_>, file: &str) -> Result<Vec<i32>, Errno> {
    let mut list = Vec::new();
    match text::pieces_at(directory, Path::new(file), |piece| list.extend_from_slice(piece)) {
        Err(errno) if tree::is_gone(errno) => {}
        read => read?,
    }
    Ok(String::from_utf8_lossy(&list).lines().filter_map(|line| line.parse().ok()).collect())
}
