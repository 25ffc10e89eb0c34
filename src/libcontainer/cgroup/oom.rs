//! Reports when a container runs out of memory, and when it ends.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use rustix::event::{PollFd, PollFlags, Timespec};

use super::Cgroup;
use super::files::put;
use crate::error::{Context, Result, error};
use crate::sys::errno::in_words;
use crate::sys::kernel_file::keyed_number;
use crate::wait::limits;

/// Waits for events of a container's memory.
#[derive(Debug)]
pub struct Watch {
    source: OomSource,
}

#[derive(Debug)]
enum OomSource {
    /// Version 1: an eventfd to which the kernel adds 1. The control file must stay open.
    Count(EventFd, #[allow(dead_code)] File, PathBuf),
    /// Version 2: memory.events changes.
    Changes(Inotify, PathBuf, OomKills),
    /// The cgroup has no memory controller.
    None,
}

/// The numbers of memory.events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct OomKills {
    /// Killed processes.
    processes: u64,
    /// Killed groups. KERNEL(5.17): oom_group_kill
    groups: u64,
}

/// An event.
///
/// ```no_run
/// # fn main() -> libcontainer::Result<()> {
/// use libcontainer::Happened;
///
/// let mut events = libcontainer::Root::open("/run/coracle")?.load("box")?.events()?;
/// match events.next(std::time::Duration::from_secs(1))? {
///     Happened::Oom => println!("memory ran out"),
///     Happened::Ended => println!("the first process has ended"),
///     Happened::Nothing => {}
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happened {
    /// Memory ran out.
    Oom,
    /// The container's first process has ended.
    Ended,
    /// Nothing happened in this time.
    Nothing,
}

impl Cgroup {
    /// Starts to watch.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn watch(&self) -> Result<Watch> {
        let source = match (self.paths.get("memory"), self.paths.get("")) {
            (Some(directory), _) => {
                let control = File::open(directory.join("memory.oom_control")).context("open memory.oom_control")?;
                let count = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).context("eventfd")?;
                let line = format!("{} {}", count.as_raw_fd(), control.as_raw_fd());
                put(&directory.join("cgroup.event_control"), &line).context("write cgroup.event_control")?;
                OomSource::Count(count, control, directory.clone())
            }
            (None, Some(directory)) if directory.join("memory.events").exists() => {
                let changes = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).context("inotify_init")?;
                let events = directory.join("memory.events");
                changes.add_watch(&events, AddWatchFlags::IN_MODIFY).context("watch memory.events")?;
                let before = kills(&events).unwrap_or_default();
                OomSource::Changes(changes, events, before)
            }
            _ => OomSource::None,
        };
        Ok(Watch { source })
    }
}

impl Watch {
    /// Readable after an event of the memory.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match &self.source {
            OomSource::Count(count, ..) => Some(count.as_fd()),
            OomSource::Changes(changes, ..) => Some(changes.as_fd()),
            OomSource::None => None,
        }
    }

    /// Waits for an event of the memory, for the end of `process` (a pidfd), or until the time is over.
    ///
    /// # Errors
    /// The wait itself fails.
    pub fn next(&mut self, process: BorrowedFd<'_>, time: Duration) -> Result<Happened> {
        let all = [process].into_iter().chain(self.descriptor());
        let mut fds: Vec<_> = all.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        let time = Timespec::try_from(time).map_err(|error| error!("{error}"))?;
        match rustix::event::poll(&mut fds, Some(&time)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(error!("poll: {errno}", errno = in_words(&errno))),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        // Memory first: a container that the OOM killer kills ends at the same moment. On version 2 the kernel counts a kill before
        // it, but reports a change of memory.events up to 10 ms after the last report, when the container may have ended.
        if ready.contains(&true) && self.ran_out()? {
            return Ok(Happened::Oom);
        }
        Ok(if ready[0] { Happened::Ended } else { Happened::Nothing })
    }

    /// True for the event that we wait for. The removal of the cgroup is an event, too.
    fn ran_out(&mut self) -> Result<bool> {
        match &mut self.source {
            OomSource::Count(count, _, directory) => {
                let counted = count.read().is_ok();
                Ok(counted && directory.exists())
            }
            OomSource::Changes(changes, file, before) => {
                let _ = changes.read_events();
                let Some(mut now) = kills(file) else { return Ok(false) };
                let (more, group) = (now.processes > before.processes, now.groups > before.groups);
                if more && (group || dies_whole(file)) {
                    now = after_the_last(changes, file, now)?;
                }
                *before = now;
                Ok(more)
            }
            OomSource::None => Ok(false),
        }
    }
}

fn kills(events: &Path) -> Option<OomKills> {
    let text = std::fs::read_to_string(events).ok()?;
    let number = |key: &str| keyed_number(&text, key).unwrap_or(0);
    Some(OomKills { processes: number("oom_kill"), groups: number("oom_group_kill") })
}

/// True if memory.oom.group is set in the cgroup or in an ancestor: then the OOM killer kills all its processes together
/// (cgroups(7)).
fn dies_whole(events: &Path) -> bool {
    let says = |directory: &Path| std::fs::read_to_string(directory.join("memory.oom.group"));
    let above = events.ancestors().skip(1);
    // The root of the hierarchy has no such file.
    above.map_while(|directory| says(directory).ok()).any(|said| said.trim() == "1")
}

/// Waits until all processes of a group are killed, because this is one event. Returns the numbers after it.
fn after_the_last(changes: &Inotify, events: &Path, mut now: OomKills) -> Result<OomKills> {
    let deadline = Instant::now() + limits::OOM_GROUP;
    while Instant::now() < deadline && crate::wait::readable(changes.as_fd(), Some(Instant::now() + limits::OOM_NEXT))?
    {
        let _ = changes.read_events();
        now = kills(events).unwrap_or(now);
    }
    Ok(now)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_kill_that_the_kernel_has_not_reported_yet_comes_before_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let events = directory.path().join("memory.events");
        fs::write(&events, "oom 1\noom_kill 1\n").unwrap();
        // It watches nothing, and so reports nothing.
        let changes = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).unwrap();
        let mut watch = Watch { source: OomSource::Changes(changes, events, OomKills::default()) };
        // Readable, as a pidfd after the end.
        let ended = fs::File::open("/dev/null").unwrap();
        let mut next = || watch.next(ended.as_fd(), Duration::ZERO).unwrap();
        assert_eq!([next(), next()], [Happened::Oom, Happened::Ended]);
    }

    #[test]
    fn the_kills_of_one_group_are_one_event() {
        let directory = tempfile::tempdir().unwrap();
        let events = directory.path().join("memory.events");
        // One write of the same length: the reader must never see an empty file.
        let file = fs::File::create(&events).unwrap();
        let says = |processes: u64, groups: u64| {
            let text = format!("oom 1\noom_kill {processes}\noom_group_kill {groups}\n");
            std::os::unix::fs::FileExt::write_all_at(&file, text.as_bytes(), 0).unwrap();
        };
        says(0, 0);
        let changes = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).unwrap();
        changes.add_watch(&events, AddWatchFlags::IN_MODIFY).unwrap();
        let mut watch = Watch { source: OomSource::Changes(changes, events.clone(), OomKills::default()) };
        fs::write(directory.path().join("memory.oom.group"), "0\n").unwrap();
        // Two kills one after the other are two events.
        for processes in [1, 2] {
            says(processes, 0);
            assert!(watch.ran_out().unwrap());
        }
        assert!(!watch.ran_out().unwrap());
        // The other processes of a group are killed during the wait for them.
        fs::write(directory.path().join("memory.oom.group"), "1\n").unwrap();
        says(3, 0);
        std::thread::scope(|threads| {
            threads.spawn(|| (4..8).for_each(|processes| says(processes, 1)));
            assert!(watch.ran_out().unwrap());
        });
        // The changes that the writer made after the event was reported.
        let seen = matches!(&watch.source, OomSource::Changes(.., before) if before.processes == 7);
        assert!(seen || watch.ran_out().unwrap());
        assert!(!watch.ran_out().unwrap());
    }
}
