//! A container may take our permissions for its cgroups away with chmod(2), if it owns the directory or file. The owner may be
//! the user that runs us. Then we restore the permissions.

use std::ffi::CStr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

/// Makes a call on `name` in `here`. If it is not permitted, adds the owner's permissions to both, and makes it again.
///
/// # Errors
/// Those of the call.
pub(super) fn restoring_in<T>(
    here: BorrowedFd<'_>,
    name: &CStr,
    mut call: impl FnMut() -> Result<T, Errno>,
) -> Result<T, Errno> {
    match call() {
        Err(Errno::ACCESS) => {
            // Without search permission for a directory, no name in it can be looked up.
            if let Some(mode) = rustix::fs::fstat(here).ok().and_then(|stat| restored(&stat)) {
                let _ = rustix::fs::fchmod(here, mode);
            }
            let entry = rustix::fs::statat(here, name, AtFlags::SYMLINK_NOFOLLOW);
            // Cgroup file systems have no links that this call could follow.
            if let Some(mode) = entry.ok().and_then(|stat| restored(&stat)) {
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
    restoring_in(here, name, || rustix::fs::openat(here, name, flags, Mode::empty()))
}

/// Makes a call on a cgroup's directory or file, by its path. If it is not permitted, adds the owner's permissions to it and to
/// its directory, and makes the call again.
///
/// # Errors
/// Those of the call.
pub(super) fn restoring<T>(path: &Path, mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    match call() {
        Err(Errno::ACCESS) => {
            for path in path.parent().into_iter().chain([path]) {
                let there = rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW);
                if let Some(mode) = there.ok().and_then(|stat| restored(&stat)) {
                    let _ = rustix::fs::chmodat(CWD, path, mode, AtFlags::empty());
                }
            }
            call()
        }
        done => done,
    }
}

/// The mode with the owner's permissions added. None if it has them, or if we are not the owner.
fn restored(stat: &Stat) -> Option<Mode> {
    let rights = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Mode::RWXU,
        FileType::RegularFile => Mode::RUSR | Mode::WUSR,
        _ => return None,
    };
    let mode = Mode::from_raw_mode(stat.st_mode);
    let ours = stat.st_uid == rustix::process::geteuid().as_raw();
    (ours && !mode.contains(rights)).then_some(mode | rights)
}
