//! Whether a pid still refers to the same process. A pid can be used again. A pid with a start time identifies one
//! process.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};

use super::ProcessState;
use crate::error::{Context, Result};
use crate::host::Namespace;
use crate::sys::process_stat::ProcessStat;

/// The start time of `pid` in clock ticks since boot, and whether the process has ended: fields 22 and 3 of
/// /proc/PID/stat. None if the process does not exist. A file that cannot be read is an error: the process may live.
fn stat(pid: i32) -> Result<Option<(u64, char)>, Errno> {
    of_file(Path::new(&format!("/proc/{pid}/stat")))
}

fn of_file(path: &Path) -> Result<Option<(u64, char)>, Errno> {
    match ProcessStat::of(path) {
        Ok(stat) => parse(&stat).map(Some).ok_or(Errno::INVAL),
        // read(2) returns the second if the process has ended since the open.
        Err(Errno::NOENT | Errno::SRCH) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn parse(stat: &ProcessStat) -> Option<(u64, char)> {
    Some((stat.number(22)?, stat.field(3)?.chars().next()?))
}

/// The start time of a process, in clock ticks since boot. None if the process does not exist.
///
/// # Errors
/// Those of reading /proc/PID/stat.
pub fn start_time(pid: i32) -> Result<Option<u64>> {
    Ok(stat(pid).with_context(|| format!("read /proc/{pid}/stat"))?.map(|(start, _)| start))
}

/// Whether the process has executed a program since it was forked. None if it does not exist any more. A zombie still
/// has the flag.
pub fn has_executed(pid: i32) -> Option<bool> {
    /// PF_FORKNOEXEC (linux/sched.h).
    const FORK_NO_EXEC: u64 = 0x40;
    Some(flags(pid)? & FORK_NO_EXEC == 0)
}

/// Whether the process is ending: the kernel closes its files, and waits for the other processes of its pid namespace.
pub fn is_ending(pid: i32) -> bool {
    /// PF_EXITING (linux/sched.h).
    const EXITING: u64 = 0x4;
    flags(pid).is_some_and(|flags| flags & EXITING != 0)
}

fn flags(pid: i32) -> Option<u64> {
    ProcessStat::of(Path::new(&format!("/proc/{pid}/stat"))).ok()?.number(9)
}

/// The state of the process that had `pid` and began at `start`.
pub(super) fn observe(pid: i32, start: u64) -> Result<ProcessState> {
    Ok(match stat(pid).with_context(|| format!("read /proc/{pid}/stat"))? {
        Some((there, _)) if there != start => ProcessState::Gone,
        Some((_, 'Z' | 'X' | 'x')) => ProcessState::Zombie,
        Some(_) => ProcessState::Alive,
        None => ProcessState::Gone,
    })
}

/// A pidfd of exactly that process. None if it has ended.
///
/// # Errors
/// Those of pidfd_open(2), and those of reading /proc/PID/stat: the process may live.
pub fn open_process(pid: i32, start: u64) -> Result<Option<OwnedFd>> {
    let Some(number) = Pid::from_raw(pid) else { return Ok(None) };
    let fd = rustix::process::pidfd_open(number, PidfdFlags::empty());
    // Read after the open: if a process with this start time is alive now, the pidfd is of that process.
    if observe(pid, start)? != ProcessState::Alive {
        return Ok(None);
    }
    match fd {
        Ok(fd) => Ok(Some(fd)),
        // It has ended, and its parent has reaped it since the open.
        Err(Errno::SRCH) => Ok(None),
        Err(errno) => Err(errno).with_context(|| format!("open process {pid}")),
    }
}

/// `pid`, and all other visible processes in its pid namespace.
pub(super) fn with_pids_of(pid: i32) -> io::Result<Vec<i32>> {
    let namespace = |pid: i32| Namespace::of(pid, "pid").ok();
    let wanted = namespace(pid);
    let mut found = vec![pid];
    for entry in fs::read_dir("/proc")? {
        let other = entry?.file_name().to_str().and_then(|name| name.parse().ok());
        found.extend(other.filter(|other| *other != pid && wanted.is_some() && namespace(*other) == wanted));
    }
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_with_another_start_is_another_process() {
        let own = i32::try_from(std::process::id()).unwrap();
        let start = start_time(own).unwrap().unwrap();
        assert_eq!(observe(own, start).unwrap(), ProcessState::Alive);
        assert_eq!(observe(own, start + 1).unwrap(), ProcessState::Gone);
        assert!(open_process(own, start).unwrap().is_some());
        assert!(open_process(own, start + 1).unwrap().is_none());
    }

    #[test]
    fn a_process_that_cannot_be_read_counts_as_alive() {
        assert_eq!(of_file(Path::new("/proc/self/not-there")), Ok(None));
        assert_eq!(of_file(Path::new("/proc/self")), Err(Errno::ISDIR));
        assert_eq!(of_file(Path::new("/proc/self/comm")), Err(Errno::INVAL));
    }
}
