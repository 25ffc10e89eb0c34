//! Lists the processes in a container's cgroup: its own, and those that others have put there.

use std::path::PathBuf;

use super::Cgroup;
use super::files::wait_at_most;
use super::processes::{SeenProcesses, with_names};
use super::remove::must_be_gone;
use super::tree::Walk;
use crate::error::{Context, Result, bail};
use crate::wait::limits;

impl Cgroup {
    /// Every process in it and below it.
    ///
    /// # Errors
    /// A directory that cannot be read and was not removed.
    pub fn processes(&self) -> Result<Vec<i32>> {
        let Some((_, directory)) = self.main_directory() else { return Ok(Vec::new()) };
        self.must_be_visible()?;
        SeenProcesses::read(Walk::short(), [directory]).all()
    }

    /// The processes in any of its directories. On version 1, a process may be in only one hierarchy.
    ///
    /// # Errors
    /// Those of `processes`.
    pub fn all_processes(&self) -> Result<Vec<i32>> {
        self.must_be_visible()?;
        self.seen().all()
    }

    pub(super) fn seen(&self) -> SeenProcesses {
        SeenProcesses::read(Walk::long().sparing(&self.spared), self.paths.values())
    }

    /// Leaves out these directories and all below them when it searches and kills processes: they belong to other
    /// containers.
    #[must_use]
    pub fn sparing(mut self, directories: impl IntoIterator<Item = PathBuf>) -> Cgroup {
        self.spared.extend(directories);
        self
    }

    /// Checks that its directory is not missing because the hierarchy is not mounted here: processes may exist that we cannot
    /// see.
    pub(super) fn must_be_visible(&self) -> Result<()> {
        match self.main_directory() {
            Some((key, directory)) if !directory.exists() => {
                must_be_gone(key, directory).with_context(|| format!("read processes of {}", directory.display()))
            }
            _ => Ok(()),
        }
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
            with_names(&left)
        )
    }
}
