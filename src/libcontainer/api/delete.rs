//! Removes a container, and everything that belongs to it.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use crate::container::{Claim, Container, Root, check_id, is_ending};
use crate::error::{Context, Error, Kind, Result, bail};
use crate::launch::delete::{Leftovers, destroy, kill_while_locked, remove_own};
use crate::launch::undo::undo;
use crate::status::Status;
use crate::sys::signals;
use crate::wait::{self, limits};

pub use crate::launch::delete::Force;

impl Root {
    /// Deletes the container `id`. With `Force::Kill`, also one that was not completely made, or that has an unreadable
    /// state. A missing container is then not an error. Returns the warnings of `Container::delete`.
    ///
    /// # Errors
    /// `NotFound`, and those of `Container::delete`.
    pub fn delete(&self, id: &str, force: Force) -> Result<Vec<Error>> {
        let error = match self.load(id) {
            Ok(container) => return container.delete(force),
            Err(error) if force == Force::None => return Err(error),
            Err(error) => error,
        };
        // SPEC: an invalid id is an error in any case.
        check_id(id).map_err(|_| error)?;
        match self.claim(id)? {
            Claim::Complete(container) => container.delete(force),
            // It was not completely made, or its state is damaged: its note says what must be undone.
            Claim::Remains(remains) => {
                undo(&remains.note, &remains.lock, self.environment()).with_context(|| format!("container {id:?}"))?;
                remains.remove().map(|()| Vec::new())
            }
            // As with runc: with force, a missing container is not an error.
            Claim::Nothing => Ok(Vec::new()),
        }
    }
}

impl Container {
    /// Removes it with everything that belongs to it, and runs its poststop hooks. Returns warnings: processes of
    /// others in its cgroup that were killed, mounts that remain, and hooks that failed.
    ///
    /// # Errors
    /// The container then still exists, except for `NotFound`:
    ///
    /// - `State`: it runs, and `force` says that this is an error.
    /// - `NotFound`: another process has deleted it.
    /// - Processes of others are in its cgroup, and `force` does not say that they are killed.
    /// - Something could not be removed.
    pub fn delete(mut self, force: Force) -> Result<Vec<Error>> {
        self.must_be_ours()?;
        match self.process() {
            // Before the lock: a `start` may hold it, and wait for a hook that never ends. That `start` fails when init
            // has ended.
            Ok(process) if force == Force::Kill => drop(signals::send(process.as_fd(), libc::SIGKILL)),
            Ok(process) if self.status()? == Status::Running => self.may_end(process.as_fd())?,
            _ => {}
        }
        let lock = match force {
            Force::Kill => self.lock_or(kill_while_locked)?,
            Force::None => self.lock_if_there()?,
        };
        let lock = match lock {
            Some(lock) => lock,
            // Another process was faster.
            None if force == Force::Kill => return Ok(Vec::new()),
            None => bail!(Kind::NotFound => "container {:?}: container does not exist", self.record().id),
        };
        let leftovers = Leftovers::of(&self, force)?;
        destroy(self, &lock, leftovers)
    }

    /// Removes it as `delete` does, after the caller has seen the end of its first process. If another process has deleted it, or if
    /// another container has its id by now, removes nothing, and that is not an error.
    ///
    /// ```no_run
    /// use libcontainer::{Bundle, Root};
    ///
    /// let (root, bundle) = (Root::open("/run/coracle")?, Bundle::read("/bundles/box")?);
    /// let (container, process) = root.create("box", &bundle).run()?;
    /// process.wait()?;
    /// container.delete_ended()?.iter().for_each(|warning| eprintln!("{warning}"));
    /// # Ok::<(), libcontainer::Error>(())
    /// ```
    ///
    /// # Errors
    /// `State` if its first process has not ended; or something could not be removed. The container then still exists.
    pub fn delete_ended(self) -> Result<Vec<Error>> {
        if let Ok(status @ (Status::Created | Status::Running | Status::Paused)) = self.status() {
            bail!(Kind::State(status) => "cannot delete container {} that is not stopped: {status}", self.record().id);
        }
        remove_own(self, Leftovers::Own)
    }

    /// A process closes its streams a moment before its end can be seen. On a busy machine this moment is long.
    fn may_end(&self, process: BorrowedFd<'_>) -> Result<()> {
        let ended = wait::readable(process, Some(Instant::now() + limits::CLOSED))?;
        if !ended && is_ending(self.record().init_process_pid) {
            wait::readable(process, Some(Instant::now() + limits::KILLED))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `run` deletes its container while `delete --force` is between two looks at it.
    #[test]
    fn a_complete_container_may_be_deleted_by_another_process() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(directory.path()).unwrap();
        let path = directory.path().join("x");
        std::fs::create_dir(&path).unwrap();
        let state = r#"{"id":"x","init_process_pid":7,"config":{"rootfs":"/r","cgroups":{"path":"/x"}}}"#;
        std::fs::write(path.join("state.json"), state).unwrap();
        let Claim::Complete(container) = root.claim("x").unwrap() else { panic!("it is complete") };
        std::fs::remove_dir_all(&path).unwrap();
        assert_eq!(container.delete(Force::Kill).unwrap().len(), 0);
    }
}
