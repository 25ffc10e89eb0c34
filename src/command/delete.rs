//! `delete`: all that a container was is removed.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use libcontainer::container::{Claim, Container, Root, Status, check_id, is_ending};
use libcontainer::launch::delete::{Force, Leftovers, destroy};
use libcontainer::launch::undo::undo;
use libcontainer::sys::signals;
use libcontainer::wait;

use super::bundle::check_extra_fds;
use super::{Session, kill};
use crate::cli::Delete;

/// How long a program may take to end that has closed its output.
const ABOUT_TO_END: Duration = Duration::from_millis(100);
/// How long the kernel may take to end a program.
const ENDING: Duration = Duration::from_secs(10);
/// How many processes a warning names.
const MOST_NAMES: usize = 8;

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
            undo(&remains.note, &remains.lock).with_context(|| format!("container {id:?}"))?;
            Ok(remains.remove()?)
        }
        // as runc: what is not there need not be forced away
        Claim::Nothing => Ok(()),
    }
}

/// Its streams are closed a moment before its end can be seen, and on a busy machine that moment is long.
fn may_end(container: &Container, process: BorrowedFd<'_>) -> Result<()> {
    let ended = wait::readable(process, Some(Instant::now() + ABOUT_TO_END))?;
    if !ended && is_ending(container.record().init_process_pid) {
        wait::readable(process, Some(Instant::now() + ENDING))?;
    }
    Ok(())
}

/// The container's own processes have ended with its pid namespace: whoever is in its cgroup was put there from outside.
fn warn_of_others(session: &Session<'_>, others: &[i32]) {
    let name = |pid: &i32| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        format!("{pid} ({})", name.trim_end())
    };
    let names: Vec<_> = others.iter().take(MOST_NAMES).map(name).collect();
    let more = if others.len() > MOST_NAMES { ", …" } else { "" };
    if !others.is_empty() {
        let names = names.join(", ");
        session
            .log
            .warning(&format!("processes that others have put into the container's cgroup are ended: {names}{more}"));
    }
}

fn whole(session: &Session<'_>, mut container: Container, force: bool) -> Result<()> {
    match container.process() {
        // before the lock: `start` may hold it, waiting for a hook that never ends, and gives up when init is gone
        Ok(process) if force => drop(signals::send(process.as_fd(), libc::SIGKILL)),
        Ok(process) if container.status()? == Status::Running => may_end(&container, process.as_fd())?,
        _ => {}
    }
    let lock = match container.lock_if_there()? {
        Some(lock) => lock,
        // somebody else has been quicker, and that is what was wanted
        None if force => return Ok(()),
        None => bail!("container {:?}: container does not exist", container.record().id),
    };
    let leftovers = Leftovers::of(&container, if force { Force::Kill } else { Force::None })?;
    if leftovers == Leftovers::None && container.has_own_pids() {
        container.check_cgroups()?;
        let cgroup = container.cgroup();
        // only where it cannot be removed is anybody in it
        if !cgroup.delete_main() {
            warn_of_others(session, &cgroup.processes()?);
        }
    }
    let warnings = destroy(container, &lock, leftovers)?;
    drop(lock);
    warnings.iter().for_each(|warning| session.log.warning(&format!("{warning:#}")));
    Ok(())
}
