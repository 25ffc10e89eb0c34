//! `start`: the program of a created container begins.

use std::os::fd::AsFd;

use anyhow::Result;
use libcontainer::launch::new;
use libcontainer::launch::notify::{self, Notify};

use super::bundle::check_extra_fds;
use super::{Session, manager};

pub fn run(session: &Session<'_>, id: &str) -> Result<()> {
    // for the poststart hooks
    check_extra_fds(0)?;
    let container = session.root()?.load(id)?;
    let Some(manager) = manager() else { return new::start(&container) };
    let Some(notify) = Notify::bind(&notify::directory(container.directory()), &manager)? else {
        return new::start(&container);
    };
    // opened before: afterwards its pid may soon be somebody else's
    let process = container.process()?;
    new::start(&container)?;
    notify.wait_until_ready(process.as_fd(), container.record().init_process_pid)
}
