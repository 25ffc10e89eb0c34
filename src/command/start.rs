//! `start`: starts the program of a created container.

use std::os::fd::AsFd;

use anyhow::Result;
use libcontainer::{Began, Container};

use super::making::close_on_exec_behind;
use super::session::{Session, manager};

pub fn run(session: &Session<'_>, id: &str) -> Result<()> {
    // For the poststart hooks.
    close_on_exec_behind(0);
    let root = session.root()?;
    let mut container = root.load(id)?;
    let Some(manager) = manager() else { return start(session, &mut container) };
    let Some(notify) = root.notify_socket(id, &manager)? else {
        return start(session, &mut container);
    };
    // Opened before the start: afterwards its pid may soon belong to another process.
    let process = container.process()?;
    start(session, &mut container)?;
    Ok(notify.wait_until_ready(process.as_fd(), container.record().init_process_pid)?)
}

fn start(session: &Session<'_>, container: &mut Container) -> Result<()> {
    if container.start()? == Began::Nothing {
        let said = "process is not set in config.json: there was nothing to start, and the container has stopped";
        session.log.error(said);
    }
    Ok(())
}
