//! The processes in a cgroup and below it: finds them, kills them, and moves ourselves out.

use std::collections::BTreeSet;
use std::ffi::{CStr, OsStr};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use super::files::put;
use super::refusal::all_well;
use super::rights;
use super::tree::{self, Walk, WalkEnd};
use crate::error::{Context, Error, Result, bail, error};
use crate::sys::errno::in_words;
use crate::sys::kernel_file;
use crate::sys::process_status::ProcessStatus;

/// The processes in directories and in those below them.
#[derive(Debug, Default)]
pub(super) struct SeenProcesses {
    /// The processes of each directory. A directory that does not exist has none.
    each: Vec<BTreeSet<i32>>,
    /// The errors because of which there may be more processes.
    failed: Vec<Error>,
}

impl SeenProcesses {
    /// Reads the processes in directories and in those below them.
    pub(super) fn read<'d>(mut walk: Walk, directories: impl IntoIterator<Item = &'d PathBuf>) -> SeenProcesses {
        let mut seen = SeenProcesses::default();
        for directory in directories {
            let mut there = BTreeSet::new();
            let add = |here: BorrowedFd<'_>| pids_in(here).map(|pids| there.extend(pids));
            let done = walk.through(directory, add, |_, _| Ok(()));
            seen.failed.extend(done.err().map(|end| error!("read processes of {}: {end}", directory.display())));
            seen.each.push(there);
        }
        seen
    }

    /// Those that are in any of the directories.
    ///
    /// # Errors
    /// The kernel's error, or there are too many cgroups. In both cases there may be more processes.
    pub(super) fn all(self) -> Result<Vec<i32>> {
        all_well(self.failed)?;
        Ok(self.each.into_iter().flatten().collect::<BTreeSet<_>>().into_iter().collect())
    }

    /// Those that are in each of the directories.
    pub(super) fn in_each(&self) -> BTreeSet<i32> {
        let mut each = self.each.iter();
        let first = each.next().cloned().unwrap_or_default();
        each.fold(first, |both, one| &both & one)
    }
}

/// Kills the processes in directories and in those below them, each as soon as it is found. Removes the directories below that
/// are not in use. False if there are too many directories for one walk: the next walk has less to do.
///
/// # Errors
/// The kernel's error, or the walk takes too long. All processes that were found are killed.
pub(super) fn kill_and_remove_below<'d>(
    mut walk: Walk,
    directories: impl IntoIterator<Item = &'d PathBuf>,
) -> Result<bool> {
    let (mut all, mut failed) = (true, Vec::new());
    for directory in directories {
        let kill = |here: BorrowedFd<'_>| kill_each(pids_in(here)?);
        // The caller that deletes the container tries again, and reports the error.
        let remove = |above: BorrowedFd<'_>, name: &CStr| tree::remove_unused(above, name).or(Ok(()));
        match walk.through(directory, kill, remove) {
            Err(WalkEnd::TooMany) => all = false,
            done => failed.extend(done.err().map(|end| error!("kill processes of {}: {end}", directory.display()))),
        }
    }
    all_well(failed).map(|()| all)
}

/// Kills each of these processes, but not ourselves: a container that may write its cgroups can move us there. A process that
/// has ended is not an error.
///
/// # Errors
/// The first error. The other processes are killed nevertheless.
pub(super) fn kill_each(pids: impl IntoIterator<Item = i32>) -> Result<(), Errno> {
    let kill = |pid| match kill_process(pid, Signal::KILL) {
        Err(Errno::SRCH) => Ok(()),
        other => other,
    };
    let ourselves = rustix::process::getpid();
    pids.into_iter().filter_map(Pid::from_raw).filter(|pid| *pid != ourselves).map(kill).fold(Ok(()), Result::and)
}

/// Moves ourselves out of these directories, and out of those below them: a container that sees our pid and may write its cgroup
/// can have moved us there. We would freeze or kill ourselves.
///
/// # Errors
/// We cannot leave, or we may be in one of them, and it cannot be read.
pub(super) fn leave<'d>(walk: Walk, directories: impl IntoIterator<Item = &'d PathBuf>) -> Result<()> {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let groups = kernel_file::read_lossy(Path::new("/proc/self/cgroup")).context("read /proc/self/cgroup")?;
    let has_its_name = |directory: &&PathBuf| {
        directory.file_name().is_some_and(|name| groups.split(['/', '\n']).any(|part| OsStr::new(part) == name))
    };
    // Usually none: then nothing more is read.
    let directories: Vec<_> = directories.into_iter().filter(has_its_name).collect();
    let seen = SeenProcesses::read(walk, directories.iter().copied());
    let entered = directories.into_iter().zip(&seen.each).filter(|(_, pids)| pids.contains(&own));
    for (directory, _) in entered {
        let enter = |above: &Path| put(&above.join("cgroup.procs"), &own.to_string());
        let mut tried = directory.ancestors().skip(1).map(enter);
        // ORDER: the nearest cgroup first. On version 2 it may accept no processes.
        if let Some(Err(first)) = tried.next()
            && !tried.any(|entered| entered.is_ok())
        {
            bail!(
                "the runtime (process {own}) is in {}, and cannot leave it: {}",
                directory.display(),
                in_words(&first)
            );
        }
    }
    all_well(seen.failed)
}

/// The most processes that a message names.
const MOST_NAMES: usize = 8;

/// Processes with their names, for a message.
pub fn with_names(pids: &[i32]) -> String {
    let name = |pid: &i32| {
        let name = kernel_file::read_lossy(Path::new(&format!("/proc/{pid}/comm"))).unwrap_or_default();
        format!("{pid} ({})", name.trim_end())
    };
    let names: Vec<_> = pids.iter().take(MOST_NAMES).map(name).collect();
    format!("{}{}", names.join(", "), if pids.len() > MOST_NAMES { ", …" } else { "" })
}

/// The processes in one directory.
fn pids_in(directory: BorrowedFd<'_>) -> Result<Vec<i32>, Errno> {
    match read_pids(directory, c"cgroup.procs") {
        // A threaded cgroup lists threads only.
        Err(Errno::OPNOTSUPP) => {
            Ok(read_pids(directory, c"cgroup.threads")?.into_iter().filter_map(process_of).collect())
        }
        pids => pids,
    }
}

/// `Tgid` of /proc/TID/status (proc(5)); None for a thread that has ended.
fn process_of(thread: i32) -> Option<i32> {
    ProcessStatus::read(thread).ok()?.field("Tgid")?.parse().ok()
}

/// The name of a file as a path.
pub(super) fn as_path(file: &CStr) -> &Path {
    Path::new(OsStr::from_bytes(file.to_bytes()))
}

/// The pids or tids in a file of a cgroup. A removed cgroup has none.
fn read_pids(directory: BorrowedFd<'_>, file: &CStr) -> Result<Vec<i32>, Errno> {
    let mut list = Vec::new();
    let mut read = || kernel_file::read_pieces_at(directory, as_path(file), |piece| list.extend_from_slice(piece));
    match rights::restoring_in(directory, file, &mut read) {
        Err(errno) if tree::is_gone(errno) => {}
        read => read?,
    }
    Ok(String::from_utf8_lossy(&list).lines().filter_map(|line| line.parse().ok()).collect())
}
