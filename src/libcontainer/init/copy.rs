//! `tmpcopyup`: copies the content of a directory into the tmpfs that will cover it. Every file is opened through the descriptor
//! of its directory, and no symbolic link is followed, so the copy cannot leave the directory.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, RawDir, SeekFrom, Stat, Uid};
use rustix::io::Errno;

use super::prepared::{Outcome, Trouble};
use super::protocol::retry;
use crate::wire::{COPYING, WORDS_SIZE, Words};

/// Deeper trees than this are refused: the copy uses the stack.
const MAX_DEPTH: u32 = 64;

/// Copies the content of `from` into `to`, which is empty: directories, files, links and nodes, with modes and owners.
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
            one(from, to, name, depth).map_err(|trouble| named(trouble, name))?;
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
    // by now it may be a fifo, and opening that would block
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let source = rustix::fs::openat(from, name, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&source)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Trouble::saying(Errno::STALE, "tmpcopyup: a file became something else meanwhile"));
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let copy = rustix::fs::openat(to, name, flags, mode)?;
    let size = u64::try_from(stat.st_size).map_err(|_| Errno::OVERFLOW)?;
    let mut end = 0;
    // holes stay holes: a log by uid is 200 MB long and holds a few kilobytes
    while let Some(begin) = next(&source, SeekFrom::Data(end), size)? {
        end = next(&source, SeekFrom::Hole(begin), size)?.unwrap_or(size);
        rustix::fs::seek(&copy, SeekFrom::Start(begin))?;
        let mut at = begin;
        while at < end {
            let most = usize::try_from((end - at).min(1 << 20)).map_err(|_| Errno::OVERFLOW)?;
            if retry(|| rustix::fs::sendfile(&copy, &source, Some(&mut at), most))? == 0 {
                // the file has become shorter meanwhile
                break;
            }
        }
    }
    Ok(rustix::fs::ftruncate(&copy, size)?)
}

/// Where the next data or hole begins (lseek(2), SEEK_DATA, SEEK_HOLE); None if that is not before `size`.
fn next(file: &OwnedFd, from: SeekFrom, size: u64) -> Outcome<Option<u64>> {
    match rustix::fs::seek(file, from) {
        Ok(place) if place < size => Ok(Some(place)),
        Ok(_) | Err(Errno::NXIO) => Ok(None),
        Err(other) => Err(other.into()),
    }
}

/// Adds the name of the file that could not be copied, or of a directory that contains it.
fn named(trouble: Trouble, name: &CStr) -> Trouble {
    let said = trouble.said.bytes();
    if !said.is_empty() && !said.starts_with(COPYING.as_bytes()) {
        return trouble;
    }
    let below = said.get(COPYING.len()..).unwrap_or_default();
    let slash: &[u8] = if below.is_empty() { b"" } else { b"/" };
    let mut text = [0; WORDS_SIZE];
    let mut length = 0;
    for part in [COPYING.as_bytes(), name.to_bytes(), slash, below] {
        let part = &part[..part.len().min(text.len() - length)];
        text[length..length + part.len()].copy_from_slice(part);
        length += part.len();
    }
    Trouble { errno: trouble.errno, said: Words::of(&text[..length]) }
}

fn own(to: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> Outcome {
    if stat.st_uid == 0 && stat.st_gid == 0 {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    match rustix::fs::chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW) {
        // the owner has no id in this user namespace
        Ok(()) | Err(Errno::INVAL) => {}
        Err(other) => return Err(other.into()),
    }
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink && stat.st_mode & 0o6000 != 0 {
        // a change of owner clears set-user-ID; the copy keeps what the original had
        rustix::fs::chmodat(to, name, Mode::from_raw_mode(stat.st_mode), AtFlags::empty())?;
    }
    Ok(())
}
