//! `tmpcopyup`: the content of a directory copied into the tmpfs that will cover it. Everything is reached through
//! descriptors of its own directory and no link is followed, so the copy cannot be led elsewhere.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, RawDir, Stat, Uid};
use rustix::io::Errno;

use super::talk::retry;
use super::{Outcome, Trouble};

/// Deeper trees than this are refused: the copy uses the stack.
const MAX_DEPTH: u32 = 64;

/// Copies what is in `from` into `to`, which is empty: directories, files, links and nodes, with modes and owners.
pub(super) fn directory(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Outcome {
    let from = open_directory(from, c".")?;
    let to = open_directory(to, c".")?;
    own(to.as_fd(), c".", &rustix::fs::fstat(&from)?)?;
    level(from.as_fd(), to.as_fd(), 0)
}

fn open_directory(parent: BorrowedFd<'_>, name: &CStr) -> Outcome<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(parent, name, flags, Mode::empty())?)
}

fn level(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: u32) -> Outcome {
    if depth > MAX_DEPTH {
        return Err(Trouble::saying(Errno::LOOP, "tmpcopyup: the directory is too deep"));
    }
    let mut buffer = [MaybeUninit::uninit(); 2048];
    let mut entries = RawDir::new(from, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            one(from, to, name, depth)?;
        }
    }
    Ok(())
}

fn one(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, depth: u32) -> Outcome {
    let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let mode = Mode::from_raw_mode(stat.st_mode);
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            rustix::fs::mkdirat(to, name, mode)?;
            level(open_directory(from, name)?.as_fd(), open_directory(to, name)?.as_fd(), depth + 1)?;
        }
        FileType::RegularFile => file(from, to, name, mode)?,
        FileType::Symlink => {
            let mut target = [0u8; 4096];
            let length = rustix::fs::readlinkat_raw(from, name, &mut target[..4095])?;
            target[length] = 0;
            let target = CStr::from_bytes_until_nul(&target).map_err(|_| Errno::INVAL)?;
            rustix::fs::symlinkat(target, to, name)?;
        }
        kind => rustix::fs::mknodat(to, name, kind, mode, stat.st_rdev)?,
    }
    own(to, name, &stat)
}

fn file(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, mode: Mode) -> Outcome {
    let source = rustix::fs::openat(from, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let copy = rustix::fs::openat(to, name, flags, mode)?;
    while retry(|| rustix::fs::sendfile(&copy, &source, None, 1 << 20))? > 0 {}
    Ok(())
}

fn own(to: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> Outcome {
    if stat.st_uid == 0 && stat.st_gid == 0 {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    match rustix::fs::chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW) {
        // an owner that has no name in this user namespace
        Ok(()) | Err(Errno::INVAL) => {}
        Err(other) => return Err(other.into()),
    }
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink && stat.st_mode & 0o6000 != 0 {
        // a change of owner clears set-user-ID; the copy keeps what the original had
        rustix::fs::chmodat(to, name, Mode::from_raw_mode(stat.st_mode), AtFlags::empty())?;
    }
    Ok(())
}
