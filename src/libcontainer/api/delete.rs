//! All that a container was is removed.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use crate::container::{Claim, Container, Root, Status, check_id, is_ending};
use crate::error::{Context, Error, Kind, Result, bail, error};
use crate::launch::delete::{Leftovers, destroy};
use crate::launch::undo::undo;
use crate::sys::signals;
use crate::wait::{self, limits};

pub use crate::launch::delete::Force;

/// How many processes a warning names.
const MOST_NAMES: usize = 8;

impl Root {
    /// Deletes the container `id`. With `Force::Kill` also one whose making was cut off, or whose state cannot be read; one
    /// that is not there is not an error then. Returned is what did not stop it, as `Container::delete` has it.
    ///
    /// # Errors
    /// `NotFound`; those of `Container::delete`.
    pub fn delete(&self, id: &str, force: Force) -> Result<Vec<Error>> {
        let error = match self.load(id) {
            Ok(container) => return container.delete(force),
            Err(error) if force == Force::None => return Err(error),
            Err(error) => error,
        };
        // SPEC: an id that is none is an error even so
        check_id(id).map_err(|_| error)?;
        match self.claim(id)? {
            Claim::Complete => self.load(id)?.delete(force),
            // its making was cut off, or its state is damaged: whatever there is, is known from the note it left
            Claim::Remains(remains) => {
                undo(&remains.note, &remains.lock).with_context(|| format!("container {id:?}"))?;
                remains.remove().map(|()| Vec::new())
            }
            // as runc: what is not there need not be forced away
            Claim::Nothing => Ok(Vec::new()),
        }
    }
}

impl Container {
    /// Removes it and all that it was, and runs its poststop hooks. Returned is what did not stop that: processes that others
    /// have put into its cgroup and that were ended, mounts that are left, hooks that failed.
    ///
    /// # Errors
    /// `State`, where it runs and that is refused; `NotFound`, where another was quicker; or something could not be
    /// removed: the container is still there then.
    pub fn delete(mut self, force: Force) -> Result<Vec<Error>> {
        match self.process() {
            // before the lock: `start` may hold it, waiting for a hook that never ends, and gives up when init is gone
            Ok(process) if force == Force::Kill => drop(signals::send(process.as_fd(), libc::SIGKILL)),
            Ok(process) if self.status()? == Status::Running => self.may_end(process.as_fd())?,
            _ => {}
        }
        let lock = match self.lock_if_there()? {
            Some(lock) => lock,
            // somebody else has been quicker, and that is what was wanted
            None if force == Force::Kill => return Ok(Vec::new()),
            None => bail!(Kind::NotFound => "container {:?}: container does not exist", self.record().id),
        };
        let leftovers = Leftovers::of(&self, force)?;
        let mut warnings = Vec::new();
        if leftovers == Leftovers::None && self.has_own_pids() {
            self.check_cgroups()?;
            let mut cgroup = self.cgroup();
            // only where it cannot be removed is anybody in it
            if !cgroup.remove_unused() {
                warnings.extend(others(&cgroup.all_processes()?));
            }
        }
        warnings.extend(destroy(self, &lock, leftovers)?);
        Ok(warnings)
    }

    /// Its streams are closed a moment before its end can be seen, and on a busy machine that moment is long.
    fn may_end(&self, process: BorrowedFd<'_>) -> Result<()> {
        let ended = wait::readable(process, Some(Instant::now() + limits::CLOSED))?;
        if !ended && is_ending(self.record().init_process_pid) {
            wait::readable(process, Some(Instant::now() + limits::KILLED))?;
        }
        Ok(())
    }
}

/// The container's own processes have ended with its pid namespace: whoever is in its cgroup was put there from outside.
fn others(pids: &[i32]) -> Option<Error> {
    let name = |pid: &i32| {
        let name = crate::sys::text::lossy(std::path::Path::new(&format!("/proc/{pid}/comm"))).unwrap_or_default();
        format!("{pid} ({})", name.trim_end())
    };
    let names: Vec<_> = pids.iter().take(MOST_NAMES).map(name).collect();
    let (names, more) = (names.join(", "), if pids.len() > MOST_NAMES { ", …" } else { "" });
    let said = || error!("processes that others have put into the container's cgroup are ended: {names}{more}");
    (!pids.is_empty()).then(said)
}
