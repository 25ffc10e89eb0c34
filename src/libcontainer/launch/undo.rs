//! Undoing what a container's note tells of: when its making fails, and when `delete --force` finds what was cut off.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::host_mounts::{must_have_none, take_away};
use crate::cgroup::Cgroup;
use crate::container::{HostMount, Lock, Note, ProcessId, open_process};
use crate::error::{Result, bail};
use crate::resctrl::{self, Kernel};
use crate::wait;

/// How long a process that was killed may take to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Undoes all of it that can be undone. What is not there is no error.
///
/// # Errors
/// The first that could not be undone, so that the note must stay.
pub fn undo(note: &Note, lock: &Lock) -> Result<()> {
    let init = note.init.map_or(Ok(()), end);
    let cgroup = Cgroup::open(note.cgroup.clone(), note.unit.clone());
    let cgroup = cgroup.kill().and_then(|()| cgroup.delete());
    // an init that has lost its runtime ends by itself, so these become empty when they are ours
    let coming = Cgroup::open(note.coming.clone(), None).delete();
    let groups = resctrl::remove(&note.groups, &Kernel);
    // ORDER: init mounts nothing any more
    let mounts = lock.mounted().and_then(|mounted| {
        let mounts: Vec<_> = mounted.mounts.into_iter().map(|id| HostMount::at(PathBuf::new(), id)).collect();
        take_away(&mounts)?.into_iter().next().map_or(Ok(()), Err)
    });
    let older = note.mounts.as_ref().map_or(Ok(()), must_have_none);
    init.and(cgroup).and(coming).and(groups).and(mounts).and(older)
}

/// Kills a process, and waits until it has ended.
fn end(process: ProcessId) -> Result<()> {
    let ProcessId { pid, start } = process;
    let Some(pidfd) = open_process(pid, start)? else { return Ok(()) };
    let _ = rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL);
    if !wait::readable(pidfd.as_fd(), Some(Instant::now() + PATIENCE))? {
        bail!("process {pid} does not end");
    }
    Ok(())
}
