//! Undoes what a container's note lists: after a failed `create`, and when `delete --force` finds an interrupted one.

use std::path::PathBuf;

use super::host_mounts::{add_submounts, must_have_none, unmount_recorded};
use super::killed::wait_for_end;
use crate::cgroup::{Cgroup, frozen_on_version_1};
use crate::container::{HostMount, Lock, Note, ProcessId, open_process};
use crate::error::{Result, bail};
use crate::host::Environment;
use crate::resctrl::{self, Kernel};

/// Undoes as much as possible. A missing object is not an error.
///
/// # Errors
/// The first failure. Then the note must stay.
pub fn undo(note: &Note, lock: &Lock, environment: &Environment) -> Result<()> {
    let cgroup = Cgroup::recorded(note.cgroup.clone(), note.unit.clone(), environment);
    let init = note.init.map_or(Ok(()), |init| kill_process(init, &cgroup));
    let cgroup = cgroup.kill().and_then(|()| cgroup.delete());
    // An init without its runtime ends by itself, so our own cgroups become empty.
    let coming = Cgroup::recorded(note.coming.clone(), None, environment).delete();
    let groups = resctrl::remove(&note.groups, &Kernel);
    // ORDER: after init has ended. Until then it may mount something.
    let mounts = add_submounts(lock).and_then(|()| lock.mounted()).and_then(|mounted| {
        let mounts: Vec<_> = mounted.mounts.into_iter().map(|id| HostMount::new(PathBuf::new(), id)).collect();
        unmount_recorded(&mounts)?.into_iter().next().map_or(Ok(()), Err)
    });
    let older = note.mounts.as_ref().map_or(Ok(()), must_have_none);
    init.and(cgroup).and(coming).and(groups).and(mounts).and(older)
}

/// Kills a process, and waits until it has ended.
fn kill_process(process: ProcessId, cgroup: &Cgroup) -> Result<()> {
    let ProcessId { pid, start } = process;
    let Some(pidfd) = open_process(pid, start)? else { return Ok(()) };
    // It may have ended already.
    let _ = rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL);
    if wait_for_end(&pidfd, pid, || Ok(cgroup.clone())) {
        return Ok(());
    }
    match frozen_on_version_1(pid) {
        Some(frozen) => bail!("process {pid} does not end: it is frozen by {}", frozen.display()),
        None => bail!("process {pid} does not end"),
    }
}
