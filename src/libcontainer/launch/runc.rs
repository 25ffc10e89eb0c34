//! `start` for a container that runc has created: a node may change from runc to coracle while containers wait. runc's
//! init waits until a process reads from the fifo, writes one byte, and continues.

use std::fs;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::container::{Container, EXEC_FIFO};
use crate::error::{Context, Error, Kind, Result, error};
use crate::status::Status;
use crate::wait::{limits, timespec};

/// True if runc made the container and it waits for `start`.
///
/// # Errors
/// Its state cannot be read.
pub(super) fn waits(container: &Container) -> Result<bool> {
    Ok(container.record().coracle.is_none() && container.status()? == Status::Created)
}

/// Lets its init continue.
///
/// # Errors
/// Init ends while it waits.
pub(super) fn start(container: &mut Container) -> Result<()> {
    let _lock = container.lock()?;
    let path = container.directory().join(EXEC_FIFO);
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let fifo = rustix::fs::openat(CWD, &path, flags, Mode::empty());
    let fifo = fifo.context("exec fifo")?;
    let mut word = [0u8; 1];
    loop {
        match rustix::io::read(&fifo, &mut word) {
            Ok(1..) => break,
            // Init has not opened its end yet.
            Ok(0) | Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => return Err(Error::from(errno).context("exec fifo")),
        }
        container
            .process()
            .map_err(|_| error!(Kind::State(Status::Stopped) => "cannot start a container that has stopped"))?;
        // After an error, this looks again.
        let _ = poll(&mut [PollFd::new(&fifo, PollFlags::IN)], Some(&timespec(limits::LOOK_AT_INIT)));
    }
    // runc's `start` and init do not need it any more. `delete` removes it.
    let _ = fs::remove_file(path);
    Ok(())
}
