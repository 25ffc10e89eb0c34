//! `delete`: removes all that belongs to a container.

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

/// The longest time between the end of a program's output and the end of the program.
const ABOUT_TO_END: Duration = Duration::from_millis(100);
/// The longest time in which the kernel ends a program.
const ENDING: Duration = Duration::from_secs(10);
/// The most processes that a warning names.
const MOST_NAMES: usize = 8;

pub fn run(session: &Session<'_>, args: &Delete) -> Result<()> {
    // For the poststop hooks.
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
    // SPEC: an invalid id is an error even with --force.
    check_id(id).map_err(|_| error)?;
    match root.claim(id)? {
        Claim::Complete => whole(session, root.load(id)?, force),
        // The creation was interrupted, or the state is damaged. The note in the directory says what to remove.
        Claim::Remains(remains) => {
            undo(&remains.note, &remains.lock).with_context(|| format!("container {id:?}"))?;
            Ok(remains.remove()?)
        }
        // As with runc: --force succeeds if the container does not exist.
        Claim::Nothing => Ok(()),
    }
}

/// Waits for a program that is about to end. It closes its streams a moment before its end can be seen, and on a busy
/// machine that moment is long.
fn may_end(container: &Container, process: BorrowedFd<'_>) -> Result<()> {
    let ended = wait::readable(process, Some(Instant::now() + ABOUT_TO_END))?;
    if !ended && is_ending(container.record().init_process_pid) {
        wait::readable(process, Some(Instant::now() + ENDING))?;
    }
    Ok(())
}

/// The container's own processes have ended with its pid namespace. Processes still in its cgroup came from outside.
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
        // Before the lock: `start` may hold it while it waits for a hook that never ends. `start` gives up when init
        // has ended.
        Ok(process) if force => drop(signals::send(process.as_fd(), libc::SIGKILL)),
        Ok(process) if container.status()? == Status::Running => may_end(&container, process.as_fd())?,
        _ => {}
    }
    let lock = match container.lock_if_there()? {
        Some(lock) => lock,
        // Another process has deleted the container: --force wants exactly that.
        None if force => return Ok(()),
        None => bail!("container {:?}: container does not exist", container.record().id),
    };
    let leftovers = Leftovers::of(&container, if force { Force::Kill } else { Force::None })?;
    if leftovers == Leftovers::None && container.has_own_pids() {
        container.check_cgroups()?;
        let cgroup = container.cgroup();
        // Only a cgroup that cannot be removed has processes.
        if !cgroup.delete_main() {
            warn_of_others(session, &cgroup.processes()?);
        }
    }
    let warnings = destroy(container, &lock, leftovers)?;
    drop(lock);
    warnings.iter().for_each(|warning| session.log.warning(&format!("{warning:#}")));
    Ok(())
}
