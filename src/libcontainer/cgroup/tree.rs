//! A cgroup and all that is below it, by descriptor and without recursion: a container that may make cgroups can nest them
//! deeper than a path can name, and deeper than our stack is.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A directory on the way from the top to where we are.
struct Level {
    name: CString,
    /// The directories in it that are still to be visited.
    below: Vec<CString>,
}

/// Goes through `top` and all below it. `enter` gets each directory before those below it, `leave` each but the top, by its
/// name in the one above, after those below it. What is removed meanwhile is left out.
///
/// # Errors
/// The kernel's word, or that of `enter` or `leave`.
pub(super) fn walk(
    top: &Path,
    mut enter: impl FnMut(BorrowedFd<'_>) -> Result<(), Errno>,
    mut leave: impl FnMut(BorrowedFd<'_>, &CStr) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let mut here = match rustix::fs::openat(CWD, top, DIRECTORY, Mode::empty()) {
        Err(errno) if is_gone(errno) => return Ok(()),
        top => top?,
    };
    enter(here.as_fd())?;
    let mut levels = vec![Level { name: CString::default(), below: below(&here)? }];
    while let Some(level) = levels.last_mut() {
        if let Some(name) = level.below.pop() {
            match rustix::fs::openat(&here, &name, DIRECTORY, Mode::empty()) {
                Err(errno) if is_gone(errno) => continue,
                child => here = child?,
            }
            enter(here.as_fd())?;
            levels.push(Level { name, below: below(&here)? });
            continue;
        }
        let done = levels.pop().map(|level| level.name).unwrap_or_default();
        if !levels.is_empty() {
            here = rustix::fs::openat(&here, c"..", DIRECTORY, Mode::empty())?;
            leave(here.as_fd(), &done)?;
        }
    }
    Ok(())
}

/// Removes what is below `top`, as far as it is not in use.
///
/// # Errors
/// The kernel's word.
pub(super) fn remove_below(top: &Path) -> Result<(), Errno> {
    walk(
        top,
        |_| Ok(()),
        |above, name| match rustix::fs::unlinkat(above, name, AtFlags::REMOVEDIR) {
            Err(errno) if is_gone(errno) || [Errno::BUSY, Errno::NOTEMPTY].contains(&errno) => Ok(()),
            other => other,
        },
    )
}

/// A directory or file that is not there, or whose cgroup was removed after it was opened.
pub(super) fn is_gone(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::NODEV)
}

fn below(directory: &OwnedFd) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = match entry {
            Err(errno) if is_gone(errno) => break,
            entry => entry?,
        };
        if entry.file_type() == FileType::Directory && ![c".", c".."].contains(&entry.file_name()) {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `depth` directories, each in the one before.
    fn nested(top: &Path, depth: usize) {
        let name = CString::new("n".repeat(200)).unwrap();
        let mut here = rustix::fs::openat(CWD, top, DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..depth {
            rustix::fs::mkdirat(&here, &name, Mode::RWXU).unwrap();
            here = rustix::fs::openat(&here, &name, DIRECTORY, Mode::empty()).unwrap();
        }
    }

    #[test]
    fn what_no_path_can_name_is_seen_and_removed() {
        let top = tempfile::tempdir().unwrap();
        nested(top.path(), 30);
        std::fs::create_dir_all(top.path().join("a/b")).unwrap();
        let (mut entered, mut left) = (0, Vec::new());
        walk(
            top.path(),
            |_| {
                entered += 1;
                Ok(())
            },
            |_, name| {
                left.push(name.to_owned());
                Ok(())
            },
        )
        .unwrap();
        assert_eq!((entered, left.len()), (33, 32));
        let place = |wanted: &CStr| left.iter().position(|name| name.as_c_str() == wanted);
        assert!(place(c"b") < place(c"a"), "what is below comes first");
        remove_below(top.path()).unwrap();
        assert_eq!(std::fs::read_dir(top.path()).unwrap().count(), 0);
        assert_eq!(walk(&top.path().join("gone"), |_| Err(Errno::IO), |_, _| Ok(())), Ok(()));
    }
}
