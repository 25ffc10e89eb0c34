//! `start`: starts the program of a created container.

use std::os::fd::AsFd;

use anyhow::Result;
use libcontainer::container::Container;
use libcontainer::launch::notify::{self, Notify};
use libcontainer::launch::start::{self, Began};

use super::bundle::check_extra_fds;
use super::{Session, manager};

pub fn run(session: &Session<'_>, id: &str) -> Result<()> {
    // For the poststart hooks.
    check_extra_fds(0)?;
    let mut container = session.root()?.load(id)?;
    let Some(manager) = manager() else { return start(session, &mut container) };
    let Some(notify) = Notify::bind(&notify::directory(container.directory()), &manager)? else {
        return start(session, &mut container);
    };
    // Opened before the start: afterwards, another process may soon have the pid.
    let process = container.process()?;
    start(session, &mut container)?;
    Ok(notify.wait_until_ready(process.as_fd(), container.record().init_process_pid)?)
}

fn start(session: &Session<'_>, container: &mut Container) -> Result<()> {
    if start::start(container)? == Began::Nothing {
        let said = "process is not set in config.json: there was nothing to start, and the container has stopped";
        session.log.error(said);
    }
    Ok(())
}
