//! `delete`: all that a container was is removed.

use std::os::fd::AsFd;

use anyhow::{Context, Result, bail};
use libcontainer::container::{Container, Remains, Root, Status};
use libcontainer::launch::new::{Leftovers, destroy};
use libcontainer::resctrl;
use libcontainer::sys::signals;

use super::bundle::check_extra_fds;
use super::{Session, kill};
use crate::cli::Delete;

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
    match root.load(id) {
        Ok(container) => whole(session, container, force),
        Err(error) => match root.remains(id).filter(|_| force) {
            // its making was cut off: whatever there is, is known from the note it left
            Some(Remains { directory, cgroup, groups }) => {
                cgroup.kill(libc::SIGKILL)?;
                cgroup.delete()?;
                resctrl::remove(&groups, &resctrl::Kernel)?;
                std::fs::remove_dir_all(&directory).with_context(|| format!("remove {}", directory.display()))
            }
            // as runc: what is not there need not be forced away
            None if force && !root.path().join(id).exists() => Ok(()),
            None => Err(error),
        },
    }
}

fn whole(session: &Session<'_>, container: Container, force: bool) -> Result<()> {
    if force && let Ok(process) = container.process() {
        // before the lock: `start` may hold it, waiting for a hook that never ends, and gives up when init is gone
        let _ = signals::send(process.as_fd(), libc::SIGKILL);
    }
    let lock = match container.lock() {
        // somebody else has been quicker, and that is what was wanted
        Err(_) if force && !container.directory().exists() => return Ok(()),
        other => other?,
    };
    let leftovers = match container.status() {
        Status::Stopped => Leftovers::None,
        Status::Created => Leftovers::Killed,
        Status::Running | Status::Paused if force => Leftovers::Killed,
        status @ (Status::Running | Status::Paused) => {
            bail!("cannot delete container {} that is not stopped: {status}", container.record().id)
        }
    };
    let warnings = destroy(container, leftovers)?;
    drop(lock);
    warnings.iter().for_each(|warning| session.log.warning(&format!("{warning:#}")));
    Ok(())
}
