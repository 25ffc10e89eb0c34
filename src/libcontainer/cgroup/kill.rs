//! The processes in a container's cgroup: finds them, kills them, and removes the cgroup.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::files::{self, all_well, event, gone, put, remove, wait_at_most, wait_for};
use super::processes::{self, SeenProcesses};
use super::tree::Walk;
use super::{Cgroup, frozen_on_version_1, systemd};
use crate::error::{Context, Result, bail, error};
use crate::wait::limits;

impl Cgroup {
    /// Every process in it and below it.
    ///
    /// # Errors
    /// A directory that cannot be read and was not removed.
    pub fn processes(&self) -> Result<Vec<i32>> {
        let Some((_, directory)) = self.main() else { return Ok(Vec::new()) };
        self.is_visible()?;
        SeenProcesses::of(Walk::to_look(), [directory]).all()
    }

    /// The processes in any of its directories. On version 1, a process may be in only one hierarchy.
    ///
    /// # Errors
    /// Those of `processes`.
    pub fn all_processes(&self) -> Result<Vec<i32>> {
        self.is_visible()?;
        self.seen().all()
    }

    fn seen(&self) -> SeenProcesses {
        SeenProcesses::of(Walk::to_end().sparing(&self.spared), self.paths.values())
    }

    /// Leaves out these directories and all below them when it searches and kills processes: they belong to other
    /// containers.
    #[must_use]
    pub fn sparing(mut self, directories: impl IntoIterator<Item = PathBuf>) -> Cgroup {
        self.spared.extend(directories);
        self
    }

    /// Returns an error if its directory is missing because the hierarchy is not mounted here: processes may exist that we cannot
    /// see.
    fn is_visible(&self) -> Result<()> {
        match self.main() {
            Some((key, directory)) if !directory.exists() => {
                gone(key, directory).with_context(|| format!("read processes of {}", directory.display()))
            }
            _ => Ok(()),
        }
    }

    /// Removes its empty directories. False if one of them is not empty: on version 1, a process may be in only one hierarchy.
    pub fn remove_unused(&mut self) -> bool {
        let own = self.clone();
        let removed = |key: &str, directory: &Path| match fs::remove_dir(directory) {
            Err(error) => error.kind() == ErrorKind::NotFound && gone(key, directory).is_ok(),
            Ok(()) => true,
        };
        self.remove_each(|key, directory| {
            let outermost = own.outermost(directory);
            directory.ancestors().take_while(|level| level.starts_with(outermost)).all(|level| removed(key, level))
        })
    }

    /// The same, and also removes the empty directories that the container has made below.
    pub fn remove_empty(&mut self) -> bool {
        let own = self.clone();
        self.remove_each(|key, directory| remove(key, own.outermost(directory), &own.spared).unwrap_or(false))
    }

    /// If one of its directories stays, keeps all of them: a process of the container is in each of them.
    fn remove_each(&mut self, remove: impl Fn(&str, &Path) -> bool) -> bool {
        let each: Vec<_> = self.paths.iter().map(|(key, directory)| remove(key, directory)).collect();
        let all = each.into_iter().all(|removed| removed);
        if all {
            self.paths.clear();
        }
        all
    }

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
        self.while_frozen(|| processes::kill(Walk::to_end().sparing(&self.spared), self.paths.values()))?;
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
            killed.map(|()| true).map_err(|errno| error!("kill processes: {}", crate::sys::errno::words(errno)))
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
        processes::leave(Walk::to_end().sparing(&self.spared), self.paths.values())
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

    /// The processes that are in only some hierarchies of version 1: others have put them there.
    ///
    /// # Errors
    /// Those of `processes`.
    pub fn strangers(&self) -> Result<Vec<i32>> {
        let look = || -> Result<Vec<i32>> {
            let seen = self.seen();
            let own = seen.in_each();
            Ok(seen.all()?.into_iter().filter(|pid| !own.contains(pid)).collect())
        };
        let mut strangers = look()?;
        if !strangers.is_empty() {
            // A process that ends between two reads is in only some of the lists.
            let still = look()?;
            strangers.retain(|pid| still.contains(pid));
        }
        Ok(strangers)
    }

    /// The processes that are in any of its directories and stay there. This waits a moment: an `exec` that finds no container
    /// any more leaves the cgroup in this time.
    ///
    /// # Errors
    /// Those of `processes`.
    pub fn staying(&self) -> Result<Vec<i32>> {
        let mut left = Vec::new();
        wait_at_most(limits::LEAVING, || {
            left = self.all_processes()?;
            Ok(left.is_empty())
        })?;
        Ok(left)
    }

    /// Checks that no processes of others are in it.
    ///
    /// # Errors
    /// Their names.
    pub fn must_be_left(&self) -> Result<()> {
        let left = self.staying()?;
        if left.is_empty() {
            return Ok(());
        }
        bail!(
            "processes that others have put into the container's cgroups are still there: {}: Force::Kill kills them",
            processes::names(&left)
        )
    }

    /// Version 1: the frozen cgroup above its own, which prevents its killed processes from ending.
    pub fn frozen_for_good(&self) -> Option<PathBuf> {
        self.paths.get("freezer").and_then(|directory| files::frozen_above(directory))
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
                self.is_visible()?;
                event(&unified.join("cgroup.events"), "populated 1").map(|populated| !populated)
            }
            None => self.all_processes().map(|pids| pids.is_empty()),
        }
    }

    fn wait_until_empty(&self) -> Result<()> {
        // A frozen process of version 1 dies only after it is thawed.
        wait_for(|| Ok(self.has_no_process()? || self.frozen_for_good().is_some()))?;
        if self.has_no_process()? { Ok(()) } else { self.still_there(&self.all_processes()?) }
    }

    /// Removes it from every hierarchy, with the cgroups that the container made below it. A missing directory is not
    /// an error. If one directory cannot be removed, all others are removed nevertheless.
    ///
    /// # Errors
    /// The directories that are still in use when the time is over, and those that the kernel refuses to remove.
    pub fn delete(&self) -> Result<()> {
        let stopped = self.unit.as_ref().map_or(Ok(()), |unit| systemd::stop(unit, &self.environment));
        // Each has the kernel's error, unless it is only in use.
        let outermost = self.paths.iter().map(|(key, directory)| (key, self.outermost(directory)));
        let mut left: Vec<_> = outermost.map(|place| (place, None)).collect();
        wait_for(|| {
            left.retain_mut(|((key, directory), refused)| match remove(key, directory, &self.spared) {
                Ok(removed) => !removed,
                Err(error) => {
                    *refused = Some(error);
                    true
                }
            });
            Ok(left.iter().all(|(_, refused)| refused.is_some()))
        })?;
        let named = left.into_iter().map(|((_, directory), refused)| {
            refused.unwrap_or_else(|| error!("it is still in use")).context(format!("remove {}", directory.display()))
        });
        all_well(named.collect()).and(stopped)
    }
}
