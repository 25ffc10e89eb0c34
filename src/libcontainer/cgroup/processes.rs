//! Who is in a cgroup and below it.

use std::io;
use std::path::Path;

use rustix::io::Errno;

use super::files::children;
use crate::sys::process_status::ProcessStatus;
use crate::sys::text;

/// The processes in a directory and in those below it, each once. One that is not there has none.
pub(super) fn of(directory: &Path) -> io::Result<Vec<i32>> {
    let mut all = Vec::new();
    match collect(directory, &mut all) {
        // a threaded one, which tells of threads only
        Err(Errno::OPNOTSUPP) => threads(directory, &mut all)?,
        done => done?,
    }
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

fn collect(directory: &Path, all: &mut Vec<i32>) -> Result<(), Errno> {
    match numbers(&directory.join("cgroup.procs"), all) {
        // ENODEV: removed meanwhile
        Ok(()) | Err(Errno::NOENT | Errno::NODEV) => {}
        Err(errno) => return Err(errno),
    }
    for child in children(directory) {
        match collect(&child, all) {
            // a threaded one, whose processes we have been told here
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// The processes whose threads are in a threaded cgroup or below it.
fn threads(directory: &Path, all: &mut Vec<i32>) -> Result<(), Errno> {
    let mut list = Vec::new();
    match numbers(&directory.join("cgroup.threads"), &mut list) {
        Ok(()) | Err(Errno::NOENT | Errno::NODEV) => {}
        Err(errno) => return Err(errno),
    }
    all.extend(list.into_iter().filter_map(process_of));
    children(directory).iter().try_for_each(|child| threads(child, all))
}

/// `Tgid` of /proc/TID/status (proc(5)); None for a thread that has ended.
fn process_of(thread: i32) -> Option<i32> {
    ProcessStatus::of(thread).ok()?.field("Tgid")?.parse().ok()
}

fn numbers(file: &Path, all: &mut Vec<i32>) -> Result<(), Errno> {
    let mut list = Vec::new();
    text::pieces(file, |piece| list.extend_from_slice(piece))?;
    all.extend(String::from_utf8_lossy(&list).lines().filter_map(|line| line.parse::<i32>().ok()));
    Ok(())
}
