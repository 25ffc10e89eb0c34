//! Walks a cgroup and all cgroups below it, by descriptor and without recursion: a container may nest its cgroups
//! deeper than a path or our stack allows.

use std::ffi::{CStr, CString};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::plan::failure::words;

/// How long a walk may take that looks, while the container goes on, over all hierarchies.
const LOOKING: Duration = Duration::from_secs(10);
/// How long one may take that ends or removes what is there: the kernel takes 0.5 ms to remove one cgroup, and more on a busy
/// machine.
const ENDING: Duration = Duration::from_secs(120);
/// How many directories one walk looks at: their names are in our memory. Of those beyond, it looks at one in each.
const MOST: usize = 1 << 17;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A directory between the top and the current one.
struct WalkLevel {
    name: CString,
    /// Its directories that are still to be visited.
    below: Vec<CString>,
}

/// Why a walk ended before it had seen everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WalkEnd {
    /// The kernel's error.
    Refused(Errno),
    /// There are too many directories.
    TooMany,
    /// It took longer than this.
    TooLong(Duration),
}

impl From<Errno> for WalkEnd {
    fn from(errno: Errno) -> WalkEnd {
        WalkEnd::Refused(errno)
    }
}

impl fmt::Display for WalkEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WalkEnd::Refused(errno) => f.write_str(&words(*errno)),
            WalkEnd::TooMany => write!(f, "there are more than {MOST} cgroups below it"),
            WalkEnd::TooLong(time) => write!(f, "{} s are not enough for the cgroups below it", time.as_secs()),
        }
    }
}

/// A walk, or several with the same bounds: a container that may make cgroups can make them as quickly as we go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk {
    began: Instant,
    time: Duration,
    /// How many directories may still be looked at.
    left: usize,
    /// Whether there are more.
    more: bool,
}

impl Walk {
    /// One that looks.
    pub(super) fn to_look() -> Walk {
        Walk { began: Instant::now(), time: LOOKING, left: MOST, more: false }
    }

    /// One that ends or removes what is there.
    pub(super) fn to_end() -> Walk {
        Walk { time: ENDING, ..Walk::to_look() }
    }

    /// Goes through `top` and all below it. `enter` gets each directory before those below it, `leave` each but the top, by
    /// its name in the one above, after those below it. What is removed meanwhile is left out. Where there are too many, as
    /// many as the bounds allow are gone through all the same.
    ///
    /// # Errors
    /// The kernel's word, or that of `enter` or `leave`; or not all was seen.
    pub(super) fn through(
        &mut self,
        top: &Path,
        mut enter: impl FnMut(BorrowedFd<'_>) -> Result<(), Errno>,
        mut leave: impl FnMut(BorrowedFd<'_>, &CStr) -> Result<(), Errno>,
    ) -> Result<(), WalkEnd> {
        let mut here = match rustix::fs::openat(CWD, top, DIRECTORY, Mode::empty()) {
            Err(errno) if is_gone(errno) => return Ok(()),
            top => top?,
        };
        enter(here.as_fd())?;
        let mut levels = vec![WalkLevel { name: CString::default(), below: self.below(&here)? }];
        while let Some(level) = levels.last_mut() {
            self.in_time()?;
            if let Some(name) = level.below.pop() {
                match rustix::fs::openat(&here, &name, DIRECTORY, Mode::empty()) {
                    Err(errno) if is_gone(errno) => continue,
                    child => here = child?,
                }
                enter(here.as_fd())?;
                levels.push(WalkLevel { name, below: self.below(&here)? });
                continue;
            }
            let done = levels.pop().map(|level| level.name).unwrap_or_default();
            if !levels.is_empty() {
                here = rustix::fs::openat(&here, c"..", DIRECTORY, Mode::empty())?;
                leave(here.as_fd(), &done)?;
            }
        }
        if self.more { Err(WalkEnd::TooMany) } else { Ok(()) }
    }

    fn in_time(&self) -> Result<(), WalkEnd> {
        if self.began.elapsed() < self.time { Ok(()) } else { Err(WalkEnd::TooLong(self.time)) }
    }

    /// The directories in one, as far as the bounds allow.
    fn below(&mut self, directory: &OwnedFd) -> Result<Vec<CString>, WalkEnd> {
        let mut names = Vec::new();
        for entry in Dir::read_from(directory)? {
            let entry = match entry {
                Err(errno) if is_gone(errno) => break,
                entry => entry?,
            };
            if entry.file_type() == FileType::Directory && ![c".", c".."].contains(&entry.file_name()) {
                self.in_time()?;
                match self.left.checked_sub(1) {
                    Some(left) => self.left = left,
                    // one of each: so a directory without any below it is reached, which can be removed
                    None if names.is_empty() => {}
                    None => {
                        self.more = true;
                        break;
                    }
                }
                names.push(entry.file_name().to_owned());
            }
        }
        Ok(names)
    }
}

/// Removes what is below `top`, as far as it is not in use. What was removed before an error stays removed.
///
/// # Errors
/// Those of `Walk::through`.
pub(super) fn remove_below(top: &Path) -> Result<(), WalkEnd> {
    Walk::to_end().through(top, |_| Ok(()), remove_unused)
}

/// Removes a directory if it is not in use.
///
/// # Errors
/// The kernel's error.
pub(super) fn remove_unused(above: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    match rustix::fs::unlinkat(above, name, AtFlags::REMOVEDIR) {
        Err(errno) if is_gone(errno) || [Errno::BUSY, Errno::NOTEMPTY].contains(&errno) => Ok(()),
        other => other,
    }
}

/// A missing directory or file, or a file of a cgroup that was removed after the file was opened.
pub(super) fn is_gone(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::NODEV)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes `depth` directories, each in the one before.
    fn nested(top: &Path, depth: usize) {
        let name = CString::new("n".repeat(200)).unwrap();
        let mut here = rustix::fs::openat(CWD, top, DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..depth {
            rustix::fs::mkdirat(&here, &name, Mode::RWXU).unwrap();
            here = rustix::fs::openat(&here, &name, DIRECTORY, Mode::empty()).unwrap();
        }
    }

    #[test]
    fn a_group_that_no_path_can_name_is_found_and_removed() {
        let top = tempfile::tempdir().unwrap();
        nested(top.path(), 30);
        std::fs::create_dir_all(top.path().join("a/b")).unwrap();
        let (mut entered, mut left) = (0, Vec::new());
        let enter = |_: BorrowedFd<'_>| {
            entered += 1;
            Ok(())
        };
        let leave = |_: BorrowedFd<'_>, name: &CStr| {
            left.push(name.to_owned());
            Ok(())
        };
        Walk::to_look().through(top.path(), enter, leave).unwrap();
        assert_eq!((entered, left.len()), (33, 32));
        let place = |wanted: &CStr| left.iter().position(|name| name.as_c_str() == wanted);
        assert!(place(c"b") < place(c"a"), "what is below comes first");
        remove_below(top.path()).unwrap();
        assert_eq!(std::fs::read_dir(top.path()).unwrap().count(), 0);
        assert_eq!(Walk::to_look().through(&top.path().join("gone"), |_| Err(Errno::IO), |_, _| Ok(())), Ok(()));
    }

    #[test]
    fn a_walk_ends_at_its_bounds_and_the_next_has_less_to_do() {
        let top = tempfile::tempdir().unwrap();
        let numbers = || ["1", "2", "3", "4"];
        for (a, b) in numbers().iter().flat_map(|a| numbers().map(|b| (*a, b))) {
            numbers().iter().for_each(|c| std::fs::create_dir_all(top.path().join(a).join(b).join(c)).unwrap());
        }
        let count = |walk: &mut Walk| {
            let mut entered = 0;
            let enter = |_: BorrowedFd<'_>| {
                entered += 1;
                Ok(())
            };
            (walk.through(top.path(), enter, |_, _| Ok(())), entered)
        };
        let mut bounds = Walk { left: 84, ..Walk::to_look() };
        assert_eq!(count(&mut bounds), (Ok(()), 85));
        // the bounds are for all that it goes through; it goes to the end of one branch all the same
        assert_eq!(count(&mut bounds), (Err(WalkEnd::TooMany), 4));
        let (end, entered) = count(&mut Walk { left: 10, ..Walk::to_look() });
        assert!(end == Err(WalkEnd::TooMany) && entered < 40, "{entered}");
        assert_eq!(
            count(&mut Walk { time: Duration::ZERO, ..Walk::to_end() }),
            (Err(WalkEnd::TooLong(Duration::ZERO)), 1)
        );
        assert_eq!(WalkEnd::TooMany.to_string(), "there are more than 131072 cgroups below it");
        let attempt = || Walk { left: 5, ..Walk::to_look() }.through(top.path(), |_| Ok(()), remove_unused);
        let attempts = (0..100).take_while(|_| attempt() != Ok(())).count();
        assert!(attempts < 85, "{attempts}");
        assert_eq!(std::fs::read_dir(top.path()).unwrap().count(), 0);
    }
}
