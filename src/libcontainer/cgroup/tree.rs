//! Walks a cgroup and all cgroups below it, by descriptor and without recursion: a container may nest its cgroups
//! deeper than a path or our stack allows.

use std::ffi::{CStr, CString};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::rights;
use crate::sys::errno::words;

/// The time limit of a walk that only reads, over all hierarchies. The container runs during this time.
const SHORT: Duration = Duration::from_secs(10);
/// The time limit of a walk that kills processes and removes directories. The kernel needs 0.5 ms to remove one cgroup, and more
/// on a busy machine.
const LONG: Duration = Duration::from_secs(120);
/// The largest number of directories in one walk, because their names need our memory. After that, it visits only one directory
/// in each.
const MOST: usize = 1 << 17;
/// The largest number of errors that a message names, and the longest part of a path.
const MOST_NAMED: usize = 4;
const LONGEST_NAME: usize = 200;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A directory between the top and the current one.
struct WalkLevel {
    name: CString,
    /// Its directories that are still to be visited.
    below: Vec<CString>,
}

/// The reason why a walk has not seen or done everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WalkEnd {
    /// The kernel has refused something. The walk has visited all other directories.
    Refused(Refusals),
    /// There are too many directories.
    TooMany,
    /// It took longer than this.
    TooLong(Duration),
}

impl fmt::Display for WalkEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WalkEnd::Refused(refusals) => refusals.fmt(f),
            WalkEnd::TooMany => write!(f, "there are more than {MOST} cgroups below it"),
            WalkEnd::TooLong(time) => write!(f, "{} s are not enough for the cgroups below it", time.as_secs()),
        }
    }
}

/// The kernel's errors, by the path below the top.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Refusals {
    /// The first of them.
    named: Vec<(String, Errno)>,
    /// How many there are in addition.
    more: usize,
}

impl Refusals {
    fn add(&mut self, levels: &[WalkLevel], name: Option<&CStr>, errno: Errno) {
        if self.named.len() == MOST_NAMED {
            self.more += 1;
            return;
        }
        // the top has no name
        let names = levels.iter().skip(1).map(|level| level.name.as_c_str()).chain(name);
        let mut path = String::new();
        for name in names.map(CStr::to_string_lossy) {
            if path.len() > LONGEST_NAME {
                path.push('…');
                break;
            }
            path.push_str(&name);
            path.push('/');
        }
        self.named.push((path.trim_end_matches('/').to_owned(), errno));
    }
}

impl fmt::Display for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (path, errno)) in self.named.iter().enumerate() {
            let (then, colon) = (if n == 0 { "" } else { "; " }, if path.is_empty() { "" } else { ": " });
            write!(f, "{then}{path}{colon}{}", words(*errno))?;
        }
        if self.more > 0 { write!(f, "; and {} more", self.more) } else { Ok(()) }
    }
}

/// A walk, or several with common limits. It needs limits, because a container that may make cgroups can make them as quickly as
/// we visit them.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    began: Instant,
    time: Duration,
    /// The number of directories that it may still visit.
    left: usize,
    /// True if there are more.
    more: bool,
    /// The directories that it leaves out, with all below them.
    spared: Vec<(u64, u64)>,
}

impl Walk {
    /// A walk that only reads.
    pub(super) fn short() -> Walk {
        Walk { began: Instant::now(), time: SHORT, left: MOST, more: false, spared: Vec::new() }
    }

    /// A walk that kills processes and removes directories.
    pub(super) fn long() -> Walk {
        Walk { time: LONG, ..Walk::short() }
    }

    /// Leaves these directories out. A missing directory is not an error.
    pub(super) fn sparing(mut self, directories: &[PathBuf]) -> Walk {
        self.spared
            .extend(directories.iter().filter_map(|path| rustix::fs::stat(path).ok()).map(|stat| identity(&stat)));
        self
    }

    /// Visits `top` and all directories below it. Calls `first` for each directory, before those below it. Calls `last` for each
    /// directory but `top`, after those below it, with its parent and its name. Directories that are removed in the meantime are
    /// left out. If there are too many, visits as many as the limits allow. If the kernel refuses one, visits all others.
    ///
    /// # Errors
    /// Some directories were not visited, or the kernel has refused something, also to `first` or `last`.
    pub(super) fn through(
        &mut self,
        top: &Path,
        mut first: impl FnMut(BorrowedFd<'_>) -> Result<(), Errno>,
        mut last: impl FnMut(BorrowedFd<'_>, &CStr) -> Result<(), Errno>,
    ) -> Result<(), WalkEnd> {
        let mut refusals = Refusals::default();
        let mut levels = Vec::new();
        let opened = rights::restoring(top, || rustix::fs::openat(CWD, top, DIRECTORY, Mode::empty()));
        let mut here = match opened.and_then(|top| self.unless_spared(top)) {
            Ok(Some(top)) => top,
            Ok(None) => return Ok(()),
            Err(errno) if is_gone(errno) => return Ok(()),
            Err(errno) => {
                refusals.add(&levels, None, errno);
                return Err(WalkEnd::Refused(refusals));
            }
        };
        let below = self.visit(&here, &mut first, |errno| refusals.add(&[], None, errno));
        levels.push(WalkLevel { name: CString::default(), below });
        while let Some(level) = levels.last_mut() {
            if self.is_late() {
                return Err(WalkEnd::TooLong(self.time));
            }
            if let Some(name) = level.below.pop() {
                match self.child(&here, &name) {
                    Ok(Some(child)) => {
                        let below = self.visit(&child, &mut first, |errno| refusals.add(&levels, Some(&name), errno));
                        levels.push(WalkLevel { name, below });
                        here = child;
                    }
                    Ok(None) => {}
                    // A directory that cannot be opened can be removed nevertheless, if it is empty.
                    Err(errno) if last(here.as_fd(), &name).is_err() || exists(&here, &name) => {
                        refusals.add(&levels, Some(&name), errno);
                    }
                    Err(_) => {}
                }
                continue;
            }
            let done = levels.pop().map(|level| level.name).unwrap_or_default();
            if levels.is_empty() {
                break;
            }
            match rights::open(here.as_fd(), c"..", DIRECTORY) {
                Ok(above) => here = above,
                Err(errno) => {
                    refusals.add(&levels, None, errno);
                    break;
                }
            }
            if let Err(errno) = last(here.as_fd(), &done) {
                refusals.add(&levels, Some(&done), errno);
            }
        }
        match (self.more, refusals.named.is_empty()) {
            (true, _) => Err(WalkEnd::TooMany),
            (false, false) => Err(WalkEnd::Refused(refusals)),
            (false, true) => Ok(()),
        }
    }

    fn is_late(&self) -> bool {
        self.began.elapsed() >= self.time
    }

    /// Opens a directory. None if it was removed, or must be left out.
    fn child(&self, above: &OwnedFd, name: &CStr) -> Result<Option<OwnedFd>, Errno> {
        match rights::open(above.as_fd(), name, DIRECTORY) {
            Err(errno) if is_gone(errno) => Ok(None),
            child => self.unless_spared(child?),
        }
    }

    fn unless_spared(&self, directory: OwnedFd) -> Result<Option<OwnedFd>, Errno> {
        let spared = !self.spared.is_empty() && self.spared.contains(&identity(&rustix::fs::fstat(&directory)?));
        Ok((!spared).then_some(directory))
    }

    /// Calls `first` for a directory. Returns the names of those below it.
    fn visit(
        &mut self,
        directory: &OwnedFd,
        first: &mut impl FnMut(BorrowedFd<'_>) -> Result<(), Errno>,
        mut refused: impl FnMut(Errno),
    ) -> Vec<CString> {
        let mut names = Vec::new();
        for done in [first(directory.as_fd()), self.below(directory, &mut names)] {
            if let Some(errno) = done.err().filter(|errno| !is_gone(*errno)) {
                refused(errno);
            }
        }
        names
    }

    /// The directories in `directory`, as many as the limits allow.
    fn below(&mut self, directory: &OwnedFd, names: &mut Vec<CString>) -> Result<(), Errno> {
        let entries = rights::restoring_in(directory.as_fd(), c".", || Dir::read_from(directory))?;
        for entry in entries {
            let entry = entry?;
            if entry.file_type() == FileType::Directory && ![c".", c".."].contains(&entry.file_name()) {
                match self.left.checked_sub(1) {
                    // The caller checks the time as well.
                    _ if self.is_late() => break,
                    Some(left) => self.left = left,
                    // One directory of each level: so the walk reaches a directory that has none below it and can be removed.
                    None if names.is_empty() => {}
                    None => {
                        self.more = true;
                        break;
                    }
                }
                names.push(entry.file_name().to_owned());
            }
        }
        Ok(())
    }
}

/// The device and the inode.
// The integer types differ between processors.
#[allow(clippy::unnecessary_cast)]
fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev as u64, stat.st_ino as u64)
}

fn exists(above: &OwnedFd, name: &CStr) -> bool {
    !matches!(rustix::fs::statat(above, name, AtFlags::SYMLINK_NOFOLLOW), Err(Errno::NOENT))
}

/// Removes the directories below `top` that are not in use, but not those in `spared`. An error does not undo this.
///
/// # Errors
/// Those of `Walk::through`.
pub(super) fn remove_below(top: &Path, spared: &[PathBuf]) -> Result<(), WalkEnd> {
    Walk::long().sparing(spared).through(top, |_| Ok(()), remove_unused)
}

/// Removes a directory if it is not in use.
///
/// # Errors
/// The kernel's error.
pub(super) fn remove_unused(above: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    match rights::restoring_in(above, name, || rustix::fs::unlinkat(above, name, AtFlags::REMOVEDIR)) {
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
        Walk::short().through(top.path(), enter, leave).unwrap();
        assert_eq!((entered, left.len()), (33, 32));
        let position = |wanted: &CStr| left.iter().position(|name| name.as_c_str() == wanted);
        assert!(position(c"b") < position(c"a"), "what is below comes first");
        remove_below(top.path(), &[]).unwrap();
        assert_eq!(std::fs::read_dir(top.path()).unwrap().count(), 0);
        assert_eq!(Walk::short().through(&top.path().join("gone"), |_| Err(Errno::IO), |_, _| Ok(())), Ok(()));
    }

    #[test]
    fn what_is_refused_in_one_directory_keeps_nothing_from_the_others() {
        let top = tempfile::tempdir().unwrap();
        for n in 0..6 {
            std::fs::create_dir_all(top.path().join(format!("a/{n}"))).unwrap();
        }
        std::fs::create_dir_all(top.path().join("b/c")).unwrap();
        let mut entered = 0;
        let enter = |here: BorrowedFd<'_>| {
            entered += 1;
            let is_b = identity(&rustix::fs::fstat(here)?) == identity(&rustix::fs::stat(top.path().join("b"))?);
            if is_b { Err(Errno::IO) } else { Ok(()) }
        };
        let leave = |_: BorrowedFd<'_>, name: &CStr| {
            if name.count_bytes() == 1 && *name < *c"a" { Err(Errno::PERM) } else { Ok(()) }
        };
        let end = Walk::short().through(top.path(), enter, leave).unwrap_err();
        assert_eq!(entered, 10);
        let WalkEnd::Refused(refusals) = &end else { panic!("{end}") };
        assert_eq!(refusals.named.len() + refusals.more, 7, "{end}");
        assert!(end.to_string().contains("a/") && end.to_string().ends_with("; and 3 more"), "{end}");
        // The directory is left out, with all below it.
        let mut entered = 0;
        let enter = |_: BorrowedFd<'_>| {
            entered += 1;
            Ok(())
        };
        Walk::short().sparing(&[top.path().join("a")]).through(top.path(), enter, |_, _| Ok(())).unwrap();
        assert_eq!(entered, 3);
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
        let mut bounds = Walk { left: 84, ..Walk::short() };
        assert_eq!(count(&mut bounds), (Ok(()), 85));
        // The limits are for the whole walk. It visits one branch to its end nevertheless.
        assert_eq!(count(&mut bounds), (Err(WalkEnd::TooMany), 4));
        let (end, entered) = count(&mut Walk { left: 10, ..Walk::short() });
        assert!(end == Err(WalkEnd::TooMany) && entered < 40, "{entered}");
        assert_eq!(
            count(&mut Walk { time: Duration::ZERO, ..Walk::long() }),
            (Err(WalkEnd::TooLong(Duration::ZERO)), 1)
        );
        assert_eq!(WalkEnd::TooMany.to_string(), "there are more than 131072 cgroups below it");
        let attempt = || Walk { left: 5, ..Walk::short() }.through(top.path(), |_| Ok(()), remove_unused);
        let attempts = (0..100).take_while(|_| attempt() != Ok(())).count();
        assert!(attempts < 85, "{attempts}");
        assert_eq!(std::fs::read_dir(top.path()).unwrap().count(), 0);
    }
}
