//! The remains of a container that was not completely made, or that has an unreadable state.json. `delete --force`
//! undoes them.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::fs::CWD;

use super::directory::{Attempt, Lock, NOTE, STATE, Unread, holder, read};
use super::{Container, Note, ProcessId, Root, check_id, open_process};
use crate::cgroup::{Cgroup, UnitName};
use crate::error::{Context, Result, bail, error};
use crate::host::Environment;
use crate::sys::signals;
use crate::wait::limits;

/// The note of older versions.
const OLDER_NOTE: &str = "creating.json";

/// The result of `Root::claim`.
#[derive(Debug)]
pub enum Claim {
    /// No container with this id.
    Nothing,
    /// A container that was completed in the meantime. Another process may have deleted it since.
    Complete(Box<Container>),
    /// The remains of a container.
    Remains(Box<Remains>),
}

/// The remains of a container without a state, locked.
#[derive(Debug)]
pub struct Remains {
    /// Its directory.
    pub lock: Lock,
    /// What must be undone before the directory may be removed.
    pub note: Note,
}

impl Remains {
    /// Everything is undone: the id is free.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn remove(self) -> Result<()> {
        self.lock.remove(&[STATE, NOTE])
    }
}

impl Root {
    /// Locks the directory of `id` in order to remove it. Ends the process that makes the container, if there is one.
    ///
    /// # Errors
    /// Another process still holds the lock when the time is over; or no note lists what was made, so the directory stays; or
    /// the kernel's error.
    pub fn claim(&self, id: &str) -> Result<Claim> {
        check_id(id)?;
        let path = self.path().join(id);
        let mut requested = None;
        let began = Instant::now();
        loop {
            match Lock::take(&path, Instant::now() + limits::LOOK_AT_LOCK)
                .with_context(|| format!("container {id:?}"))?
            {
                Attempt::Gone => return Ok(Claim::Nothing),
                Attempt::Locked(lock) => return self.claimed(lock, id),
                Attempt::Held if began.elapsed() > limits::LOCK_BY_FORCE => {
                    let (who, time) = (holder(&path), limits::LOCK_BY_FORCE.as_secs());
                    bail!("container {id:?}: lock {}: {who} has held it for {time} s", path.display());
                }
                Attempt::Held => match self.load(id) {
                    Ok(complete) => return Ok(Claim::Complete(Box::new(complete))),
                    Err(_) => end_creator(&path, &mut requested, self.environment()),
                },
            }
        }
    }

    fn claimed(&self, lock: Lock, id: &str) -> Result<Claim> {
        let why = match self.read(id) {
            Ok(complete) => return Ok(Claim::Complete(Box::new(complete))),
            Err(Unread::Failed(error)) => return Err(Unread::Failed(error).error(id)),
            Err(Unread::Absent) => error!("container {id:?}: state.json is missing"),
            Err(damaged) => damaged.error(id),
        };
        let unknown =
            |said: &str| error!("{why:#}; {said}: what must be undone is unknown, so {} stays", lock.path().display());
        let note = match lock.read(NOTE) {
            Ok(text) => Note::decode(&text).ok_or_else(|| unknown("its note (the file `undo`) is damaged"))?,
            Err(Unread::Absent) => match older_note(&lock)? {
                Some(note) => note,
                None => return Err(unknown("it has no note (the file `undo`)")),
            },
            Err(Unread::Damaged(said)) => return Err(unknown(&format!("its note (the file `undo`): {said}"))),
            Err(Unread::Failed(error)) => return Err(unknown(&format!("read its note (the file `undo`): {error}"))),
        };
        Ok(Claim::Remains(Box::new(Remains { lock, note })))
    }
}

/// The remains of a directory without a note. Its creator was killed before it had made anything, or it is an older
/// version's. None if it has a file that only a container has, or if it had a note.
fn older_note(lock: &Lock) -> Result<Option<Note>> {
    let ours = format!("{NOTE}.new");
    match lock.read(OLDER_NOTE) {
        Ok(text) => {
            /// Directories of the cgroup, the unit, groups in resctrl.
            type Older = (BTreeMap<String, PathBuf>, Option<UnitName>, Vec<PathBuf>);
            let decoded: Option<Older> = serde_json::from_slice(&text).ok();
            // The note was written before anything was made, so processes in the cgroup may belong to others.
            Ok(decoded.map(|(coming, unit, groups)| Note { coming, unit, groups, ..Note::default() }))
        }
        Err(Unread::Absent) => {
            let nothing = lock.names()?.iter().all(|name| name.to_bytes() == ours.as_bytes());
            Ok((nothing && !lock.is_used()?).then(Note::default))
        }
        Err(_) => Ok(None),
    }
}

/// Sends SIGTERM to the process that makes the container at `path`, so that it undoes it, and SIGKILL after a deadline.
/// If the creator is dead, its init holds the lock.
fn end_creator(path: &Path, requested: &mut Option<Instant>, environment: &Environment) {
    let Ok((text, _)) = read(CWD, &path.join(NOTE)) else { return };
    let Some(note) = Note::decode(&text) else { return };
    let ProcessId { pid, start } = note.creator;
    match open_process(pid, start) {
        // The start time proves that the process wrote the note, and /proc/locks that it holds the lock.
        Ok(Some(process)) if holder(path) == format!("process {pid}") => match *requested {
            None => {
                *requested = Some(Instant::now());
                // It may have ended. The next round sees this.
                let _ = signals::send(process.as_fd(), libc::SIGTERM);
            }
            Some(since) if since.elapsed() > limits::UNDO => drop(signals::send(process.as_fd(), libc::SIGKILL)),
            Some(_) => {}
        },
        // A process that cannot be examined may live. The next round tries again, until the deadline.
        Ok(Some(_)) | Err(_) => {}
        Ok(None) => {
            if let Some(Ok(Some(init))) = note.init.map(|init| open_process(init.pid, init.start)) {
                let _ = signals::send(init.as_fd(), libc::SIGKILL);
            }
            // The undo reports what remains.
            let _ = Cgroup::recorded(note.cgroup, None, environment).kill();
        }
    }
}
