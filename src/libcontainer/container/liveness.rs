//! Checks whether a pid still refers to the same process. The kernel can use a pid again. A pid and a start time together
//! identify one process.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};

use crate::error::{Context, Result};
use crate::host::Namespace;
use crate::status::ProcessState;
use crate::sys::errno::from_number;
use crate::sys::process_stat::ProcessStat;

/// The fields of /proc/PID/stat for a process, or of /proc/PID/task/TID/stat for a thread, that say whether it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Life {
    /// Field 22: the start time in clock ticks since boot.
    start: u64,
    /// Field 3: this thread has ended. For a process, that is its first thread.
    thread_ended: bool,
    /// Field 20: the threads of the process that are not reaped.
    threads: u64,
}

impl Life {
    /// The first thread of a process may end before the others (pthread_exit(3)). It stays a zombie until they have ended. If threads
    /// are traced, use `living_thread`: the kernel counts an ended thread until its tracer has read its end.
    fn is_last_of_process(self) -> bool {
        self.thread_ended && self.threads <= 1
    }
}

/// None if the process does not exist. A file that cannot be read is an error: the process may live.
fn stat(pid: i32) -> Result<Option<Life>, Errno> {
    life_in(&stat_of_process(pid))
}

/// Reads a file `stat`. None if the process or thread does not exist.
fn life_in(path: &Path) -> Result<Option<Life>, Errno> {
    match ProcessStat::read(path) {
        Ok(stat) => parse(&stat).map(Some).ok_or(Errno::INVAL),
        // read(2) returns the second if the process has ended since the open.
        Err(Errno::NOENT | Errno::SRCH) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn parse(stat: &ProcessStat) -> Option<Life> {
    let thread_ended = matches!(stat.field(3)?, "Z" | "X" | "x");
    Some(Life { start: stat.number(22)?, thread_ended, threads: stat.number(20)? })
}

/// The start time of a process, in clock ticks since boot. None if the process does not exist.
///
/// # Errors
/// Those of reading /proc/PID/stat.
pub fn start_time(pid: i32) -> Result<Option<u64>> {
    Ok(stat(pid).with_context(|| format!("read /proc/{pid}/stat"))?.map(|life| life.start))
}

/// Whether the process has executed a program since it was forked. None if it does not exist any more. A zombie still
/// has the flag.
pub fn has_executed(pid: i32) -> Option<bool> {
    /// PF_FORKNOEXEC (linux/sched.h).
    const FORK_NO_EXEC: u64 = 0x40;
    Some(flags(&stat_of_process(pid))? & FORK_NO_EXEC == 0)
}

/// Whether the process is ending, with all its threads: the kernel closes its files, and waits for the other processes of
/// its pid namespace.
pub fn is_ending(pid: i32) -> bool {
    /// PF_EXITING (linux/sched.h).
    const EXITING: u64 = 0x4;
    let exits = |flags: u64| flags & EXITING != 0;
    let others_exit =
        || threads(pid).is_ok_and(|mut all| all.all(|tid| flags(&stat_of_thread(pid, tid)).is_none_or(exits)));
    flags(&stat_of_process(pid)).is_some_and(exits) && others_exit()
}

fn flags(path: &Path) -> Option<u64> {
    ProcessStat::read(path).ok()?.number(9)
}

/// The path of the file.
fn stat_of_process(pid: i32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/stat"))
}

/// The same for a thread.
fn stat_of_thread(pid: i32, tid: i32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/task/{tid}/stat"))
}

/// The threads of a process.
fn threads(pid: i32) -> io::Result<impl Iterator<Item = i32>> {
    let entries = fs::read_dir(format!("/proc/{pid}/task"))?;
    // An entry that cannot be read is a thread that has ended.
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()))
}

/// A thread of a container's init.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitThread {
    /// Its thread id. /proc/TID has its namespaces and its root.
    pub tid: i32,
    start: u64,
}

/// A living thread of process `pid`: the first thread, or another one if the first has ended. The kernel shows the namespaces and
/// the root only for living threads. None if the process has ended.
pub(super) fn living_thread(pid: i32) -> Result<Option<InitThread>, Errno> {
    match stat(pid)? {
        Some(life) if !life.thread_ended => return Ok(Some(InitThread { tid: pid, start: life.start })),
        Some(_) => {}
        None => return Ok(None),
    }
    let threads = match threads(pid) {
        Ok(threads) => threads,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.raw_os_error().map_or(Errno::IO, from_number)),
    };
    for tid in threads {
        match life_in(&stat_of_thread(pid, tid))? {
            Some(life) if !life.thread_ended => return Ok(Some(InitThread { tid, start: life.start })),
            _ => {}
        }
    }
    Ok(None)
}

/// True if the thread lives, and belongs to process `pid`. Then everything that the caller has read since it found the thread
/// belongs to this thread, too.
pub(super) fn lives_on(pid: i32, thread: InitThread) -> Result<bool, Errno> {
    let there = life_in(&stat_of_thread(pid, thread.tid))?;
    Ok(there.is_some_and(|life| life.start == thread.start && !life.thread_ended))
}

/// The state of the process that had `pid` and began at `start`.
pub(super) fn observe(pid: i32, start: u64) -> Result<ProcessState> {
    let failed = || format!("read /proc/{pid}/stat");
    // Between two reads, a thread can make another thread and end, or execute a program and get the id of the first thread.
    for _ in 0..LOOKS {
        match stat(pid).with_context(failed)? {
            Some(life) if life.start != start => return Ok(ProcessState::Gone),
            Some(life) if !life.thread_ended => return Ok(ProcessState::Alive),
            Some(life) if life.is_last_of_process() => return Ok(ProcessState::Zombie),
            Some(_) if living_thread(pid).with_context(failed)?.is_none() => {}
            Some(_) => return Ok(ProcessState::Alive),
            None => return Ok(ProcessState::Gone),
        }
    }
    Ok(ProcessState::Zombie)
}

/// If this number of reads finds no living thread, the process has ended.
const LOOKS: usize = 5;

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
        // It has ended, and its parent has reaped it in the meantime.
        Err(Errno::SRCH) => Ok(None),
        Err(errno) => Err(errno).with_context(|| format!("open process {pid}")),
    }
}

/// `pid`, and all other visible processes in its pid namespace.
pub(super) fn with_pids_of(pid: i32) -> io::Result<Vec<i32>> {
    // A process that has ended, or that we may not look at, is not visible.
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
    fn a_process_lives_until_its_last_thread_has_ended() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let life = |state: &str, threads: u32| {
            let fields = format!("7 (a) {state} 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 {threads} 0 99 0\n");
            std::fs::write(file.path(), fields).unwrap();
            life_in(file.path()).unwrap().unwrap()
        };
        assert_eq!(life("S", 1).start, 99);
        assert_eq!(
            [life("S", 1), life("Z", 2), life("Z", 1), life("X", 0)].map(Life::is_last_of_process),
            [false, false, true, true]
        );
        let own = i32::try_from(std::process::id()).unwrap();
        let thread = living_thread(own).unwrap().unwrap();
        assert_eq!(thread.tid, own);
        assert!(lives_on(own, thread).unwrap() && !lives_on(own, InitThread { start: 1, ..thread }).unwrap());
        assert!(!is_ending(own));
    }

    #[test]
    fn a_process_that_cannot_be_read_counts_as_alive() {
        assert_eq!(life_in(Path::new("/proc/self/not-there")), Ok(None));
        assert_eq!(life_in(Path::new("/proc/self")), Err(Errno::ISDIR));
        assert_eq!(life_in(Path::new("/proc/self/comm")), Err(Errno::INVAL));
    }
}
