//! A container may take the rights to its own cgroups away from us: chmod(2) by the owner of a directory or a file, who may
//! be the user that runs us. As the owner, we give them back to ourselves.

use std::ffi::CStr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

/// Makes a call on `name` in `here`. Where it is not permitted, it is made again with the owner's rights to both.
///
/// # Errors
/// Those of the call.
pub(super) fn in_directory<T>(
    here: BorrowedFd<'_>,
    name: &CStr,
    mut call: impl FnMut() -> Result<T, Errno>,
) -> Result<T, Errno> {
    match call() {
        Err(Errno::ACCESS) => {
            // without the right to search it, no name in it can be looked up
            if let Some(mode) = rustix::fs::fstat(here).ok().and_then(|stat| wanted(&stat)) {
                let _ = rustix::fs::fchmod(here, mode);
            }
            let entry = rustix::fs::statat(here, name, AtFlags::SYMLINK_NOFOLLOW);
            // cgroup file systems have no links that could be followed
            if let Some(mode) = entry.ok().and_then(|stat| wanted(&stat)) {
                let _ = rustix::fs::chmodat(here, name, mode, AtFlags::empty());
            }
            call()
        }
        done => done,
    }
}

/// Opens something in a directory.
///
/// # Errors
/// Those of openat(2).
pub(super) fn open(here: BorrowedFd<'_>, name: &CStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    in_directory(here, name, || rustix::fs::openat(here, name, flags, Mode::empty()))
}

/// Makes a call on a cgroup's directory or file, by its path. Where it is not permitted, it is made again with the owner's
/// rights to this and to the directory that it is in.
///
/// # Errors
/// Those of the call.
pub(super) fn of<T>(path: &Path, mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    match call() {
        Err(Errno::ACCESS) => {
            for path in path.parent().into_iter().chain([path]) {
                let there = rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW);
                if let Some(mode) = there.ok().and_then(|stat| wanted(&stat)) {
                    let _ = rustix::fs::chmodat(CWD, path, mode, AtFlags::empty());
                }
            }
            call()
        }
        done => done,
    }
}

/// The mode with its owner's rights, if they are ours and are missing.
fn wanted(stat: &Stat) -> Option<Mode> {
    let rights = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Mode::RWXU,
        FileType::RegularFile => Mode::RUSR | Mode::WUSR,
        _ => return None,
    };
    let mode = Mode::from_raw_mode(stat.st_mode);
    let ours = stat.st_uid == rustix::process::geteuid().as_raw();
    (ours && !mode.contains(rights)).then_some(mode | rights)
}
