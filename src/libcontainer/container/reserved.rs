//! A container that is being made.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::directory::{self, Attempt, Lock, NOTE, STATE};
use super::note::{Note, ProcessId};
use super::record::Record;
use super::{CONFIG, Container};
use crate::error::{Context, Error, Kind, Result, bail, error};
use crate::host::Environment;
use crate::wait::limits;

/// The locked directory of a container that is being made. Drop removes it if nothing was made.
#[derive(Debug)]
pub struct Reserved {
    lock: Option<Lock>,
    note: Note,
    environment: Arc<Environment>,
}

impl Reserved {
    /// Locks the new `directory` of the container `id`.
    pub(super) fn new(directory: &Path, id: &str, note: Note, environment: &Arc<Environment>) -> Result<Reserved> {
        let lock = Some(Reserved::locked(directory, id)?);
        Ok(Reserved { lock, note, environment: Arc::clone(environment) })
    }

    /// Locks the new directory, and checks that it is ours: it is still at its path, and no other process has begun to make a
    /// container in it.
    fn locked(directory: &Path, id: &str) -> Result<Lock> {
        // While it is open, no other directory has its inode number.
        let own = rustix::fs::open(directory, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
        let opened = match &own {
            Err(Errno::NOENT) => Ok(Attempt::Gone),
            Err(errno) => Err(Error::from(*errno).context(format!("open {}", directory.display()))),
            Ok(own) => directory::set_unused(own)
                .with_context(|| format!("chmod {}", directory.display()))
                .and_then(|()| Lock::take(directory, Instant::now() + limits::LOCK)),
        };
        let lock = match opened {
            Ok(Attempt::Locked(lock)) => lock,
            // The process that holds it, or has removed it, may have made room for another creator: the directory at
            // the path is not ours.
            Ok(Attempt::Gone) => bail!("container {id:?} was deleted during its create"),
            Ok(Attempt::Held) => bail!("container {id:?}: {} has held its lock for 10 s", directory::holder(directory)),
            Err(error) => {
                // It cannot be locked. Remove it, even if it cannot be opened, so that no empty directory stays.
                if own.map_or(true, |own| directory::is_at(&own, directory) == Ok(true)) {
                    let _ = fs::remove_dir(directory);
                }
                return Err(error);
            }
        };
        if !matches!((lock.stat(NOTE), lock.stat(STATE)), (Err(Errno::NOENT), Err(Errno::NOENT))) {
            // If it cannot be examined, it may be empty.
            let _ = fs::remove_dir(directory);
            bail!(Kind::Exists => "container with given ID already exists: {id}");
        }
        Ok(lock)
    }

    pub(crate) fn lock(&self) -> Result<&Lock> {
        self.lock.as_ref().ok_or_else(|| error!("the container's directory is not locked"))
    }

    /// If another process deletes the container by force now, it ends only the container's processes, and not its creator.
    pub fn spare_creator(&mut self) {
        self.note.creator = ProcessId::default();
    }

    pub(crate) fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.lock.as_ref().map_or(Path::new(""), Lock::path)
    }

    /// What must be undone so far.
    pub fn note(&self) -> &Note {
        &self.note
    }

    /// Writes to the note what will be made. If we are killed now, `delete --force` finds it there.
    ///
    /// # Errors
    /// The kernel's error. `note` then has the entry nevertheless.
    pub fn take_note(&mut self, change: impl FnOnce(&mut Note)) -> Result<()> {
        change(&mut self.note);
        let (lock, text) = (self.lock()?, self.note.encode()?);
        match lock.stat(NOTE) {
            Err(Errno::NOENT) => lock.write(NOTE, &text).and_then(|()| lock.set_used()),
            // ext4 writes a file that is renamed over another to the disk at once (auto_da_alloc).
            _ => lock.append(NOTE, &text),
        }
    }

    /// Stores a copy of the config: later changes of the bundle do not affect this container.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn keep_config(&self, text: &[u8]) -> Result<()> {
        self.lock()?.write(CONFIG, text).context("keep the config")
    }

    /// Writes state.json: from now on the container exists.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn record(&self, mut record: Record) -> Result<Container> {
        record.set_seal()?;
        let (directory, environment) = (self.path().to_path_buf(), Arc::clone(&self.environment));
        let mut container = Container {
            directory,
            record,
            seen: (0, 0, 0, 0),
            owner: rustix::process::geteuid().as_raw(),
            environment,
        };
        container.save(self.lock()?)?;
        Ok(container)
    }

    /// The container is complete. No other process changes it before the lock is dropped.
    ///
    /// # Errors
    /// It was not locked.
    pub fn complete(mut self) -> Result<Lock> {
        self.lock.take().ok_or_else(|| error!("the container's directory is not locked"))
    }

    /// Everything in the note is undone: the id is free.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn free(mut self) -> Result<()> {
        self.lock.take().map_or(Ok(()), |lock| lock.remove(&[STATE, NOTE]))
    }

    /// Something remains, and is in the note: the directory stays for `delete --force`.
    pub fn keep(mut self) {
        drop(self.lock.take());
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let nothing_made = Note { creator: self.note.creator, ..Note::default() } == self.note;
        if let Some(lock) = self.lock.take().filter(|_| nothing_made) {
            // If it stays, it is an unused directory, which `delete --force` removes.
            let _ = lock.remove(&[STATE, NOTE]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Root;
    use super::*;

    #[test]
    fn an_id_is_taken_once_and_given_back() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(directory.path().join("r")).unwrap();
        let reserved = root.reserve("x").unwrap();
        assert!(root.reserve("x").unwrap_err().to_string().contains("container with given ID already exists"));
        assert!(root.load("x").unwrap_err().to_string().contains("container does not exist"));
        drop(reserved);
        assert!(root.reserve("x").is_ok());
        assert!(Root::open(Path::new("/")).is_err());
    }

    #[test]
    fn a_creator_whose_directory_was_deleted_leaves_that_of_the_next_one() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(directory.path().join("r")).unwrap();
        let gone = Reserved::locked(&root.path().join("x"), "x").unwrap_err().to_string();
        assert!(gone.contains("was deleted during its create"), "{gone}");
        let create = || match root.reserve("x") {
            Ok(mut reserved) => reserved.take_note(|note| note.init = Some(note.creator)).unwrap(),
            Err(error) => {
                let said = error.to_string();
                assert!(said.contains("already exists") || said == gone, "{error:#}");
            }
        };
        let delete = || {
            let taken = directory::Lock::take(&root.path().join("x"), Instant::now()).unwrap();
            if let Attempt::Locked(lock) = taken {
                lock.remove(&[]).unwrap();
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| (0..3000).for_each(|_| create()));
            }
            (0..6000).for_each(|_| delete());
        });
    }
}
