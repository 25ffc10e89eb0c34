//! The files of one cgroup: one write, one read, and the wait for a state of them.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use super::refusal::Refusal;
use super::{rights, tree};
use crate::error::{Context, Result, error};
use crate::plan::resources::Write;
use crate::sys::kernel_file;
use crate::wait::limits;

/// Refuses a limit below the current use if `checkBeforeUpdate` is set: on version 2 the kernel would kill processes.
pub(super) fn must_fit(write: &Write, limit: u64, directory: &Path) -> Result<(), Refusal> {
    let used = |file: &str| fs::read_to_string(directory.join(file)).ok()?.trim().parse::<u64>().ok();
    match used("memory.current") {
        Some(used) if used >= limit => {
            Err(Refusal { errno: None, error: error!("{}: {limit} is not above the current use: {used}", write.at) })
        }
        _ => Ok(()),
    }
}

/// Writes the whole value in one write(2), as cgroup files need it.
pub(crate) fn put(file: &Path, value: &str) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let opened = rights::restoring(file, || rustix::fs::openat(CWD, file, flags, Mode::empty()))?;
    fs::File::from(opened).write_all(value.as_bytes())
}

/// Calls `done` after growing pauses, until it returns true or the usual time is over. Returns whether it has returned true.
pub(super) fn wait_for(done: impl FnMut() -> Result<bool>) -> Result<bool> {
    wait_at_most(limits::CGROUP, done)
}

/// The same, for another time.
pub(super) fn wait_at_most(time: Duration, mut done: impl FnMut() -> Result<bool>) -> Result<bool> {
    let started = Instant::now();
    let mut pause = Duration::from_micros(200);
    loop {
        if done()? {
            return Ok(true);
        }
        if started.elapsed() > time {
            return Ok(false);
        }
        // SIGTERM and the like do not interrupt an undo or a removal. The caller reports the signal afterwards.
        let _ = crate::wait::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// The contents of a short file.
pub(super) fn value(file: &Path) -> Result<String, Errno> {
    rights::restoring(file, || kernel_file::read_value(file, &mut [0; 256]).map(str::to_owned))
}

/// True if the file has this line, such as `populated 1` in cgroup.events. False if the file does not exist.
pub(super) fn has_line(file: &Path, line: &str) -> Result<bool> {
    match value(file) {
        Ok(text) => Ok(text.lines().any(|there| there == line)),
        Err(errno) if is_missing(errno) => Ok(false),
        Err(errno) => Err(errno).with_context(|| format!("read {}", file.display())),
    }
}

/// The file does not exist, or its cgroup was removed after it was opened.
pub(super) fn is_missing(errno: Errno) -> bool {
    tree::is_gone(errno) || errno == Errno::NOTDIR
}
