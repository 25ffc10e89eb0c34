//! Reports when a container runs out of memory, and when it ends.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use rustix::event::{PollFd, PollFlags};

use super::Cgroup;
use super::files::put;
use crate::error::{Context, Error, Result};
use crate::sys::kernel_file::keyed_number;
use crate::wait::{self, limits};

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
    Changes(Inotify, PathBuf, Seen),
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

/// What the last look has found.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    kills: OomKills,
    /// The group whose kills are reported already.
    group: Option<GroupKill>,
}

/// The OOM killer kills all processes of a group. This is one event, which the first kill reports.
#[derive(Clone, Copy, Debug)]
struct GroupKill {
    began: Instant,
    last: Instant,
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
                let seen = Seen { kills: kills(&events).unwrap_or_default(), group: None };
                OomSource::Changes(changes, events, seen)
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
        let time = wait::timespec(time);
        match rustix::event::poll(&mut fds, Some(&time)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(Error::from(errno).context("poll")),
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
            OomSource::Changes(changes, file, seen) => {
                let _ = changes.read_events();
                let Some(now) = kills(file) else { return Ok(false) };
                Ok(seen.is_news(now, Instant::now(), || dies_whole(file)))
            }
            OomSource::None => Ok(false),
        }
    }
}

impl Seen {
    /// Notes the numbers. Returns true if they are the event that we wait for: there are kills, and not of a group that is reported.
    fn is_news(&mut self, kills: OomKills, now: Instant, dies_whole: impl FnOnce() -> bool) -> bool {
        let before = std::mem::replace(&mut self.kills, kills);
        if kills.processes <= before.processes {
            return false;
        }
        // The kernel does not say which kills belong together: those that follow each other quickly.
        let reported = self.group.filter(|group| {
            now.saturating_duration_since(group.last) < limits::OOM_NEXT
                && now.saturating_duration_since(group.began) < limits::OOM_GROUP
        });
        let is_group = reported.is_some() || kills.groups > before.groups || dies_whole();
        self.group = is_group.then(|| GroupKill { began: reported.map_or(now, |group| group.began), last: now });
        reported.is_none()
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
        let mut watch = Watch { source: OomSource::Changes(changes, events, Seen::default()) };
        // Readable, as a pidfd after the end.
        let ended = fs::File::open("/dev/null").unwrap();
        let mut next = || watch.next(ended.as_fd(), Duration::ZERO).unwrap();
        assert_eq!([next(), next()], [Happened::Oom, Happened::Ended]);
    }

    #[test]
    fn the_kills_of_one_group_are_one_event() {
        let mut seen = Seen::default();
        let begin = Instant::now();
        let mut look = |after: Duration, processes: u64, groups: u64, dies_whole: bool| {
            seen.is_news(OomKills { processes, groups }, begin + after, || dies_whole)
        };
        let moment = limits::OOM_NEXT / 2;
        // Two kills one after the other are two events.
        assert!(look(moment, 1, 0, false));
        assert!(look(moment, 2, 0, false));
        assert!(!look(moment, 2, 0, false));
        // The first kill of a group is reported at once, before the kernel says that it is a group. The others are no news.
        assert!(look(moment, 3, 0, true));
        assert!(!look(2 * moment, 4, 1, true));
        assert!(!look(3 * moment, 7, 1, true));
        // The next group.
        assert!(look(5 * moment, 8, 2, true));
        // Kills without an end are reported again.
        let again = limits::OOM_GROUP.as_millis().div_ceil(moment.as_millis());
        for (kills, n) in (9..).zip(1..=again) {
            assert_eq!(look(moment * (5 + u32::try_from(n).unwrap()), kills, 2, true), n == again);
        }
    }

    #[test]
    fn a_kill_of_a_group_is_seen_in_the_files() {
        let directory = tempfile::tempdir().unwrap();
        let below = directory.path().join("c1");
        fs::create_dir(&below).unwrap();
        let events = below.join("memory.events");
        fs::write(&events, "oom 1\noom_kill 3\noom_group_kill 1\n").unwrap();
        assert_eq!(kills(&events), Some(OomKills { processes: 3, groups: 1 }));
        for (own, above, whole) in [("0", "0", false), ("1", "0", true), ("0", "1", true)] {
            fs::write(below.join("memory.oom.group"), own).unwrap();
            fs::write(directory.path().join("memory.oom.group"), above).unwrap();
            assert_eq!(dies_whole(&events), whole, "{own}, {above}");
        }
    }
}
