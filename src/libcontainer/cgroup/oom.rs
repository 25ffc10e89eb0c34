//! Notices of a container that runs out of memory, and of its end.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use rustix::event::{PollFd, PollFlags, Timespec};

use super::{Cgroup, put};
use crate::error::{Context, Result, error};

/// Waits for what happens to a container's memory.
#[derive(Debug)]
pub struct Watch {
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// Version 1: an eventfd that the kernel counts up. The control file must stay open.
    Count(EventFd, #[allow(dead_code)] File, PathBuf),
    /// Version 2: memory.events changes, and `oom_kill` in it is the number.
    Changes(Inotify, PathBuf, u64),
    /// There is no memory controller.
    None,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happened {
    /// Memory ran out.
    Oom,
    /// The container's first process has ended.
    Ended,
    /// Nothing, for as long as was to be waited.
    Nothing,
}

impl Cgroup {
    /// Begins to watch.
    ///
    /// # Errors
    /// The kernel's word.
    pub fn watch(&self) -> Result<Watch> {
        let source = match (self.paths.get("memory"), self.paths.get("")) {
            (Some(directory), _) => {
                let control = File::open(directory.join("memory.oom_control")).context("open memory.oom_control")?;
                let count = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).context("eventfd")?;
                let line = format!("{} {}", count.as_raw_fd(), control.as_raw_fd());
                put(&directory.join("cgroup.event_control"), &line).context("write cgroup.event_control")?;
                Source::Count(count, control, directory.clone())
            }
            (None, Some(directory)) if directory.join("memory.events").exists() => {
                let changes = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).context("inotify_init")?;
                let events = directory.join("memory.events");
                changes.add_watch(&events, AddWatchFlags::IN_MODIFY).context("watch memory.events")?;
                Source::Changes(changes, events, self.oom_kills().unwrap_or(0))
            }
            _ => Source::None,
        };
        Ok(Watch { source })
    }
}

impl Watch {
    /// Waits until something happens to the memory, `process` (a pidfd) ends, or the time is over.
    ///
    /// # Errors
    /// The wait itself fails.
    pub fn next(&mut self, process: BorrowedFd<'_>, time: Duration) -> Result<Happened> {
        let mut fds = vec![PollFd::from_borrowed_fd(process, PollFlags::IN)];
        match &self.source {
            Source::Count(count, ..) => fds.push(PollFd::from_borrowed_fd(count.as_fd(), PollFlags::IN)),
            Source::Changes(changes, ..) => fds.push(PollFd::from_borrowed_fd(changes.as_fd(), PollFlags::IN)),
            Source::None => {}
        }
        let time = Timespec::try_from(time).map_err(|error| error!("{error}"))?;
        match rustix::event::poll(&mut fds, Some(&time)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(error!("poll: {errno}")),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        // memory first: a container that is killed for want of it ends in the same moment
        if ready.get(1) == Some(&true) && self.ran_out()? {
            return Ok(Happened::Oom);
        }
        Ok(if ready[0] { Happened::Ended } else { Happened::Nothing })
    }

    /// True when what was noticed is what we wait for. The end of the cgroup itself is noticed too.
    fn ran_out(&mut self) -> Result<bool> {
        match &mut self.source {
            Source::Count(count, _, directory) => {
                let counted = count.read().is_ok();
                Ok(counted && directory.exists())
            }
            Source::Changes(changes, file, before) => {
                let _ = changes.read_events();
                let mut text = String::new();
                if File::open(&*file).and_then(|mut file| file.read_to_string(&mut text)).is_err() {
                    return Ok(false);
                }
                let kills =
                    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0);
                let more = kills > *before;
                *before = kills;
                Ok(more)
            }
            Source::None => Ok(false),
        }
    }
}
