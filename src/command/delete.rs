//! `delete`: all that a container was is removed.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use libcontainer::container::{Claim, Container, Root, Status, check_id};
use libcontainer::launch::delete::{Leftovers, destroy};
use libcontainer::launch::undo::undo;
use libcontainer::sys::signals;
use libcontainer::wait;

use super::bundle::check_extra_fds;
use super::{Session, kill};
use crate::cli::Delete;

/// How long a running container may take to end that is deleted without force.
const ABOUT_TO_END: Duration = Duration::from_millis(100);

pub fn run(session: &Session<'_>, args: &Delete) -> Result<()> {
    // for the poststop hooks
    check_extra_fds(0)?;
    let root = session.root()?;
    for id in kill::named(&root, &args.id, args.regex)? {
        one(session, &root, &id, args.force)?;
    }
    Ok(())
}

fn one(session: &Session<'_>, root: &Root, id: &str, force: bool) -> Result<()> {
    let error = match root.load(id) {
        Ok(container) => return whole(session, container, force),
        Err(error) if !force => return Err(error.into()),
        Err(error) => error,
    };
    // SPEC: an id that is none is an error even so
    check_id(id).map_err(|_| error)?;
    match root.claim(id)? {
        Claim::Complete => whole(session, root.load(id)?, force),
        // its making was cut off, or its state is damaged: whatever there is, is known from the note it left
        Claim::Remains(remains) => {
            undo(&remains.note).with_context(|| format!("container {id:?}"))?;
            Ok(remains.remove()?)
        }
        // as runc: what is not there need not be forced away
        Claim::Nothing => Ok(()),
    }
}

fn whole(session: &Session<'_>, mut container: Container, force: bool) -> Result<()> {
    match container.process() {
        // before the lock: `start` may hold it, waiting for a hook that never ends, and gives up when init is gone
        Ok(process) if force => drop(signals::send(process.as_fd(), libc::SIGKILL)),
        // it may be about to end: its streams are closed a moment before its end can be seen
        Ok(process) if container.status()? == Status::Running => {
            wait::readable(process.as_fd(), Some(Instant::now() + ABOUT_TO_END))?;
        }
        _ => {}
    }
    let lock = match container.lock_if_there()? {
        Some(lock) => lock,
        // somebody else has been quicker, and that is what was wanted
        None if force => return Ok(()),
        None => bail!("container {:?}: container does not exist", container.record().id),
    };
    let leftovers = match container.status()? {
        Status::Stopped => Leftovers::None,
        Status::Created => Leftovers::Killed,
        Status::Running | Status::Paused if force => Leftovers::Killed,
        status @ (Status::Running | Status::Paused) => {
            bail!("cannot delete container {} that is not stopped: {status}", container.record().id)
        }
    };
    let warnings = destroy(container, &lock, leftovers)?;
    drop(lock);
    warnings.iter().for_each(|warning| session.log.warning(&format!("{warning:#}")));
    Ok(())
}
