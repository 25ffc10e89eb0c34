//! Who is in a cgroup and below it.

use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::io::Errno;

use super::tree;
use crate::error::{Result, error};
use crate::plan::failure::words;
use crate::sys::process_status::ProcessStatus;
use crate::sys::text;

/// The processes in a directory and in those below it, each once. One that is not there has none.
///
/// # Errors
/// The kernel's word: there may be more.
pub(super) fn of(directory: &Path) -> Result<Vec<i32>> {
    let told = |errno| error!("read processes of {}: {}", directory.display(), words(errno));
    let mut all = Vec::new();
    let enter = |here: BorrowedFd<'_>| match numbers(here, "cgroup.procs", &mut all) {
        // a threaded one, which tells of threads only
        Err(Errno::OPNOTSUPP) => {
            let mut threads = Vec::new();
            numbers(here, "cgroup.threads", &mut threads)?;
            all.extend(threads.into_iter().filter_map(process_of));
            Ok(())
        }
        done => done,
    };
    tree::walk(directory, enter, |_, _| Ok(())).map_err(told)?;
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

/// `Tgid` of /proc/TID/status (proc(5)); None for a thread that has ended.
fn process_of(thread: i32) -> Option<i32> {
    ProcessStatus::of(thread).ok()?.field("Tgid")?.parse().ok()
}

fn numbers(directory: BorrowedFd<'_>, file: &str, all: &mut Vec<i32>) -> Result<(), Errno> {
    let mut list = Vec::new();
    match text::pieces_at(directory, Path::new(file), |piece| list.extend_from_slice(piece)) {
        Err(errno) if tree::is_gone(errno) => {}
        read => read?,
    }
    all.extend(String::from_utf8_lossy(&list).lines().filter_map(|line| line.parse::<i32>().ok()));
    Ok(())
}
