//! `tmpcopyup`: copies the content of a directory into the tmpfs that will cover it. Every file is opened through the descriptor
//! of its directory, and no symbolic link is followed, so the copy cannot leave the directory.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, MemfdFlags, Mode, OFlags, RawDir, SeekFrom, Stat, Uid};
use rustix::io::Errno;

use super::prepared::{Outcome, Trouble};
use crate::sys::retry::retry;
use crate::wire::{About, WORDS_SIZE, Words};

/// Copies the contents of `from` into `to`, which is empty: directories, files, links and nodes, with modes and owners. The tree may
/// have any depth: the record of each level is in a memfd, and not on the stack or the heap.
pub(super) fn directory(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Outcome {
    let (from, to) = (open_directory(from, c".")?, open_directory(to, c".")?);
    let above = rustix::fs::memfd_create(c"tmpcopyup", MemfdFlags::CLOEXEC)?;
    let mut copy = TreeCopy { from, to, above, depth: 0, path: [0; WORDS_SIZE], length: 0 };
    while copy.down()? || copy.up()? {}
    Ok(())
}

fn open_directory(parent: BorrowedFd<'_>, name: &CStr) -> Outcome<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(parent, name, flags, Mode::empty())?)
}

/// The directory that is being copied.
struct TreeCopy {
    from: OwnedFd,
    to: OwnedFd,
    /// A `CopyLevel` for each directory above.
    above: OwnedFd,
    depth: u64,
    /// Its path, or the beginning of a longer one, and the length of the whole.
    path: [u8; WORDS_SIZE],
    length: usize,
}

/// The data that is needed to continue in a directory: the position in its list of entries, its device and inode, and the
/// length of its path.
struct CopyLevel([u64; 4]);

impl CopyLevel {
    const SIZE: usize = 32;

    fn new(directory: &OwnedFd, next: u64, length: usize) -> Outcome<CopyLevel> {
        let stat = rustix::fs::fstat(directory)?;
        Ok(CopyLevel([next, stat.st_dev, stat.st_ino, length as u64]))
    }

    fn write(&self, file: &OwnedFd, depth: u64) -> Outcome {
        let mut bytes = [0; CopyLevel::SIZE];
        bytes.chunks_exact_mut(8).zip(self.0).for_each(|(field, word)| field.copy_from_slice(&word.to_ne_bytes()));
        let written = rustix::io::pwrite(file, &bytes, depth * CopyLevel::SIZE as u64)?;
        if written == CopyLevel::SIZE { Ok(()) } else { Err(Errno::NOSPC.into()) }
    }

    fn read(file: &OwnedFd, depth: u64) -> Outcome<CopyLevel> {
        let mut bytes = [0; CopyLevel::SIZE];
        rustix::io::pread(file, &mut bytes, depth * CopyLevel::SIZE as u64)?;
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_ne_bytes(bytes.try_into().map_err(|_| Errno::INVAL)?);
        }
        Ok(CopyLevel(words))
    }
}

impl TreeCopy {
    /// Copies the entries up to the next directory, and enters that. False at the end of the list.
    fn down(&mut self) -> Outcome<bool> {
        let mut buffer = [MaybeUninit::uninit(); 2048];
        let mut entries = RawDir::new(&self.from, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(|errno| with_path(errno.into(), self.beginning(), c""))?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let below = open_pair(self.from.as_fd(), self.to.as_fd(), name);
            let Some((from, to)) = below.map_err(|trouble| with_path(trouble, self.beginning(), name))? else {
                continue;
            };
            CopyLevel::new(&self.from, entry.next_entry_cookie(), self.length)?.write(&self.above, self.depth)?;
            self.depth += 1;
            for byte in name.to_bytes().iter().chain(b"/") {
                if let Some(end) = self.path.get_mut(self.length) {
                    *end = *byte;
                }
                self.length += 1;
            }
            (self.from, self.to) = (from, to);
            return Ok(true);
        }
        Ok(false)
    }

    /// Completes the copy of the directory: sets its owner and mode, and goes back to the directory above. False at the top.
    fn up(&mut self) -> Outcome<bool> {
        let stat = rustix::fs::fstat(&self.from)?;
        give_owner(self.to.as_fd(), &stat).map_err(|trouble| with_path(trouble, self.beginning(), c""))?;
        let Some(depth) = self.depth.checked_sub(1) else { return Ok(false) };
        let CopyLevel([next, device, inode, length]) = CopyLevel::read(&self.above, depth)?;
        let above = open_directory(self.from.as_fd(), c"..")?;
        let stat = rustix::fs::fstat(&above)?;
        if (stat.st_dev, stat.st_ino) != (device, inode) {
            return Err(Trouble::saying(Errno::STALE, "tmpcopyup: a directory was moved during the copy"));
        }
        rustix::fs::seek(&above, SeekFrom::Start(next))?;
        let to = open_directory(self.to.as_fd(), c"..")?;
        (self.from, self.to, self.depth) = (above, to, depth);
        self.length = usize::try_from(length).map_err(|_| Errno::OVERFLOW)?;
        Ok(true)
    }

    /// The beginning of its path.
    fn beginning(&self) -> &[u8] {
        &self.path[..self.length.min(WORDS_SIZE)]
    }
}

/// Copies one entry. For a directory, makes the copy and returns both directories; owner and mode are set when the copy is complete.
fn open_pair(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> Outcome<Option<(OwnedFd, OwnedFd)>> {
    let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            rustix::fs::mkdirat(to, name, Mode::RWXU)?;
            return Ok(Some((open_directory(from, name)?, open_directory(to, name)?)));
        }
        FileType::RegularFile => file(from, to, name)?,
        FileType::Symlink => {
            link(from, to, name)?;
            change_owner(to, name, &stat)?;
        }
        kind => {
            rustix::fs::mknodat(to, name, kind, Mode::from_raw_mode(stat.st_mode), stat.st_rdev)?;
            change_owner(to, name, &stat)?;
        }
    }
    Ok(None)
}

fn link(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> Outcome {
    let mut target = [0u8; 4096];
    let length = rustix::fs::readlinkat_raw(from, name, &mut target[..4095])?;
    target[length] = 0;
    let target = CStr::from_bytes_until_nul(&target).map_err(|_| Errno::INVAL)?;
    Ok(rustix::fs::symlinkat(target, to, name)?)
}

/// Mode, owner and content are those of one descriptor: another process may exchange the name with another file.
fn file(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> Outcome {
    // by now it may be a fifo, and opening that would block
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let source = rustix::fs::openat(from, name, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&source)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Trouble::saying(Errno::STALE, "tmpcopyup: a file was replaced during the copy"));
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let copy = rustix::fs::openat(to, name, flags, Mode::RUSR | Mode::WUSR)?;
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
    rustix::fs::ftruncate(&copy, size)?;
    give_owner(copy.as_fd(), &stat)
}

/// The beginning of the next data or hole (lseek(2), SEEK_DATA, SEEK_HOLE). None if it is not before `size`.
fn next(file: &OwnedFd, from: SeekFrom, size: u64) -> Outcome<Option<u64>> {
    match rustix::fs::seek(file, from) {
        Ok(position) if position < size => Ok(Some(position)),
        Ok(_) | Err(Errno::NXIO) => Ok(None),
        Err(other) => Err(other.into()),
    }
}

/// The kernel's error, with the path of the file that could not be copied.
fn with_path(trouble: Trouble, directory: &[u8], name: &CStr) -> Trouble {
    if !trouble.said.is_empty() {
        return trouble;
    }
    let mut text = [0; WORDS_SIZE];
    let mut length = 0;
    for part in [directory, name.to_bytes()] {
        let part = &part[..part.len().min(text.len() - length)];
        text[length..length + part.len()].copy_from_slice(part);
        length += part.len();
    }
    Trouble { errno: trouble.errno, said: Words::of(&text[..length]).about(About::Copy) }
}

/// Gives a copy the owner and the mode of its original.
fn give_owner(copy: BorrowedFd<'_>, stat: &Stat) -> Outcome {
    change_owner(copy, c"", stat)?;
    // ORDER: after the owner, whose change clears set-user-ID
    Ok(rustix::fs::fchmod(copy, Mode::from_raw_mode(stat.st_mode))?)
}

fn change_owner(to: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> Outcome {
    if stat.st_uid == 0 && stat.st_gid == 0 {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
    match rustix::fs::chownat(to, name, Some(uid), Some(gid), flags) {
        // the owner has no id in this user namespace
        Ok(()) | Err(Errno::INVAL) => Ok(()),
        Err(other) => Err(other.into()),
    }
}
