//! Kills the processes in a container's cgroup.

use std::io::ErrorKind;
use std::path::PathBuf;

use super::Cgroup;
use super::files::{has_line, put, wait_for};
use super::frozen::{frozen_above, frozen_on_version_1};
use super::processes;
use super::refusal::all_well;
use super::tree::Walk;
use crate::error::{Context, Result, bail};

impl Cgroup {
    /// Kills every process in it, and those that are made during this time.
    ///
    /// # Errors
    /// Some processes still exist when the time is over.
    pub fn kill(&self) -> Result<()> {
        self.leave()?;
        if let Some(unified) = self.unified().filter(|_| self.spared.is_empty()) {
            // KERNEL(5.14): cgroup.kill
            match put(&unified.join("cgroup.kill"), "1") {
                Ok(()) => return self.wait_until_empty(),
                // ENODEV: it was empty, and systemd has just removed it.
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(()),
                // EOPNOTSUPP: a threaded cgroup.
                Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) || error.kind() == ErrorKind::NotFound => {
                }
                Err(error) => return Err(error).with_context(|| format!("kill {}", unified.display())),
            }
        }
        self.while_frozen(|| {
            processes::kill_and_remove_below(Walk::long().sparing(&self.spared), self.paths.values())
        })?;
        self.wait_until_empty()
    }

    /// Kills the container's own processes: those that are in each of its directories. A process in only some hierarchies of
    /// version 1 is not killed: a container that may write to its cgroups can move any process of the host there, and we must
    /// not kill that process.
    ///
    /// # Errors
    /// Some of them still exist when the time is over.
    pub fn kill_own(&self) -> Result<()> {
        if self.is_unified() {
            return self.kill();
        }
        self.leave()?;
        self.while_frozen(|| {
            let killed = processes::kill_each(self.seen().in_each());
            killed.map(|()| true).context("kill processes")
        })?;
        let mut left = Vec::new();
        wait_for(|| {
            left = self.seen().in_each().into_iter().collect();
            Ok(left.is_empty() || self.frozen_for_good().is_some())
        })?;
        if left.is_empty() { Ok(()) } else { self.still_there(&left) }
    }

    /// Moves ourselves out of it: a container that sees our pid and may write its cgroup can have moved us there.
    ///
    /// # Errors
    /// We cannot leave.
    pub fn leave(&self) -> Result<()> {
        processes::leave(Walk::long().sparing(&self.spared), self.paths.values())
    }

    /// Calls `kill` until it returns true.
    fn while_frozen(&self, kill: impl FnMut() -> Result<bool>) -> Result<()> {
        // A freezer also freezes the cgroups below, and other containers there must continue. Without a freezer, or if some processes
        // do not freeze, they are killed while they run.
        if self.spared.is_empty() {
            let _ = self.freeze();
        }
        let killed = wait_for(kill).map(drop);
        all_well([killed, self.thaw_all()].into_iter().filter_map(Result::err).collect())
    }

    /// Version 1: the frozen cgroup above its own, which prevents its killed processes from ending.
    pub fn frozen_for_good(&self) -> Option<PathBuf> {
        self.paths.get("freezer").and_then(|directory| frozen_above(directory))
    }

    fn still_there(&self, left: &[i32]) -> Result<()> {
        if let Some(above) = self.frozen_for_good() {
            bail!("processes are still there: {left:?}: the cgroup {} above is frozen", above.display());
        }
        // Another container can move a process of this one into a cgroup of its own.
        match left.iter().find_map(|pid| Some((pid, frozen_on_version_1(*pid)?))) {
            Some((pid, frozen)) => {
                bail!("processes are still there: {left:?}: process {pid} is frozen by {}", frozen.display())
            }
            None => bail!("processes are still there: {left:?}"),
        }
    }

    fn has_no_process(&self) -> Result<bool> {
        match self.unified().filter(|_| self.spared.is_empty()) {
            // The kernel also counts the processes in the cgroups below.
            Some(unified) => {
                self.must_be_visible()?;
                has_line(&unified.join("cgroup.events"), "populated 1").map(|populated| !populated)
            }
            None => self.all_processes().map(|pids| pids.is_empty()),
        }
    }

    fn wait_until_empty(&self) -> Result<()> {
        // A frozen process of version 1 dies only after it is thawed.
        wait_for(|| Ok(self.has_no_process()? || self.frozen_for_good().is_some()))?;
        if self.has_no_process()? { Ok(()) } else { self.still_there(&self.all_processes()?) }
    }
}
