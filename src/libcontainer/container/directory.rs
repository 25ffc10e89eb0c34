//! A container's directory, by its descriptor. We lock, read and remove the directory that was opened, and never
//! another one that has the same path later.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::fs::{AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::note::Note;
use crate::error::{Context, Error, Kind, Result, bail, error};
use crate::sys::errno::in_words;
use crate::wait::{self, Interrupted, limits};

/// state.json, which makes a directory a container.
pub(super) const STATE: &str = "state.json";
/// The note: what must be undone if state.json does not exist or cannot be read.
pub(super) const NOTE: &str = "undo";
/// The mode of a directory without a note, while nothing was made or all is undone.
const UNUSED: u32 = 0o700;
/// The mode of a directory that had a note: if it is empty then, another program has removed our files. A mapped root must have
/// access.
const USED: u32 = 0o711;
/// The longest file that we write.
const MOST_BYTES: u64 = 1 << 28;

/// One version of state.json: its device and inode number, and the time of its last change (`st_ctime`, `st_ctime_nsec`).
pub(super) type FileVersion = (u64, u64, i64, i64);

pub(super) fn version(stat: &Stat) -> FileVersion {
    // The integer types differ between architectures.
    #[allow(clippy::unnecessary_cast)]
    (stat.st_dev as u64, stat.st_ino as u64, stat.st_ctime as i64, stat.st_ctime_nsec as i64)
}

/// A container's directory, locked (flock(2)): only one process at a time may make, change or remove a container. Drop
/// releases the lock.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    fd: OwnedFd,
}

/// The result of an attempt to lock.
#[derive(Debug)]
pub(super) enum Attempt {
    /// We have the lock.
    Locked(Lock),
    /// The directory does not exist.
    Gone,
    /// Another process has the lock.
    Held,
}

impl Lock {
    /// Locks the directory that is at `path` at the time of the lock. Waits until `deadline`.
    pub(super) fn take(path: &Path, deadline: Instant) -> Result<Attempt> {
        let failed = |what: &str, error: &(dyn std::error::Error + 'static)| {
            error!("{what} {}: {error}", path.display(), error = in_words(error))
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        loop {
            let fd = match rustix::fs::openat(CWD, path, flags, Mode::empty()) {
                Err(Errno::NOENT) => return Ok(Attempt::Gone),
                opened => opened.map_err(|errno| failed("open", &errno))?,
            };
            match wait::lock(fd.as_fd(), deadline) {
                Ok(true) => {}
                Ok(false) => return Ok(Attempt::Held),
                Err(Interrupted::Errno(errno)) => return Err(failed("lock", &errno)),
                Err(stopped) => return Err(stopped).with_context(|| format!("lock {}", path.display())),
            }
            let lock = Lock { path: path.to_path_buf(), fd };
            // The last owner of the lock may have removed the directory, and the id may be in use again.
            if lock.is_in_place().map_err(|errno| failed("look at", &errno))? {
                return Ok(Attempt::Locked(lock));
            }
        }
    }

    /// The note of what must be undone, for a container whose state.json cannot be read. None if no note is valid.
    ///
    /// # Errors
    /// The kernel's error: there may be a note.
    pub fn note(&self) -> Result<Option<Note>> {
        match self.read(NOTE) {
            Ok(text) => Ok(Note::decode(&text)),
            Err(Unread::Absent | Unread::Damaged(_)) => Ok(None),
            Err(Unread::Failed(error)) => {
                Err(error).with_context(|| format!("read {}", self.path.join(NOTE).display()))
            }
        }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// True if the path leads to this directory.
    fn is_in_place(&self) -> Result<bool, Errno> {
        is_at(&self.fd, &self.path)
    }

    /// The names of its entries.
    pub(super) fn names(&self) -> Result<Vec<std::ffi::CString>> {
        names(&self.fd).with_context(|| format!("read {}", self.path.display()))
    }

    /// stat(2) of the file `name`.
    pub(super) fn stat(&self, name: &str) -> Result<Stat, Errno> {
        rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// The contents of a file.
    pub(super) fn read(&self, name: &str) -> Result<Vec<u8>, Unread> {
        read(&self.fd, Path::new(name)).map(|(text, _)| text)
    }

    /// Writes a file with mode 0600, completely or not at all.
    pub(super) fn write(&self, name: &str, text: &[u8]) -> Result<()> {
        let beside = format!("{name}.new");
        let written = private(&self.fd, &beside).and_then(|mut file| file.write_all(text)).and_then(|()| {
            rustix::fs::renameat(&self.fd, &beside, &self.fd, name)?;
            Ok(())
        });
        written.with_context(|| format!("write {}", self.path.join(name).display()))
    }

    /// From now on, an empty directory means that our files were removed by another program.
    pub(super) fn set_used(&self) -> Result<()> {
        self.set_mode(USED).with_context(|| format!("chmod {}", self.path.display()))
    }

    /// Whether it had a note once.
    pub(super) fn is_used(&self) -> Result<bool> {
        let stat = rustix::fs::fstat(&self.fd).with_context(|| format!("look at {}", self.path.display()))?;
        Ok(stat.st_mode & 0o7777 == USED)
    }

    fn set_mode(&self, mode: u32) -> Result<(), Errno> {
        rustix::fs::fchmod(&self.fd, Mode::from_raw_mode(mode))
    }

    /// Appends to an existing file.
    pub(super) fn append(&self, name: &str, text: &[u8]) -> Result<()> {
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.fd, name, flags, Mode::empty()).map_err(std::io::Error::from);
        let written = file.and_then(|file| File::from(file).write_all(text));
        written.with_context(|| format!("write {}", self.path.join(name).display()))
    }

    /// Removes it with all its entries. The entries `last` are removed at the end: after an interruption, they show what the
    /// directory is.
    pub(super) fn remove(&self, last: &[&str]) -> Result<()> {
        let failed = || format!("remove {}", self.path.display());
        // ORDER: before the files. After an interruption, the empty directory is unused.
        self.set_mode(UNUSED).with_context(failed)?;
        remove_entries(&self.fd, last).with_context(failed)?;
        if self.is_in_place().with_context(failed)? {
            std::fs::remove_dir(&self.path).with_context(failed)?;
        }
        Ok(())
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // close(2) alone does not release the lock: a process that was forked in the meantime has the descriptor, too.
        let _ = rustix::fs::flock(&self.fd, FlockOperation::Unlock);
    }
}

/// True if `path` leads to this directory.
pub(super) fn is_at(directory: &OwnedFd, path: &Path) -> Result<bool, Errno> {
    let there = match rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(false),
        other => other?,
    };
    let own = rustix::fs::fstat(directory)?;
    Ok((there.st_dev, there.st_ino) == (own.st_dev, own.st_ino))
}

fn names(directory: &OwnedFd) -> Result<Vec<std::ffi::CString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_owned();
        if ![c".", c".."].contains(&name.as_c_str()) {
            names.push(name);
        }
    }
    Ok(names)
}

/// Removes the entries of a directory, `last` at the end. Follows no link, and leaves mounts.
fn remove_entries(directory: &OwnedFd, last: &[&str]) -> Result<(), Errno> {
    let rank = |name: &std::ffi::CString| last.iter().position(|last| last.as_bytes() == name.to_bytes());
    let mut names = names(directory)?;
    names.sort_by_key(|name| rank(name).map_or(0, |rank| rank + 1));
    for name in names {
        match rustix::fs::unlinkat(directory, &name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR) => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                remove_entries(&rustix::fs::openat(directory, &name, flags, Mode::empty())?, &[])?;
                rustix::fs::unlinkat(directory, &name, AtFlags::REMOVEDIR)?;
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// A new file with mode 0600.
pub(super) fn private(directory: &OwnedFd, name: &str) -> std::io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::openat(directory, name, flags, Mode::RUSR | Mode::WUSR)?))
}

/// The reason why a file could not be read.
#[derive(Debug)]
pub(super) enum Unread {
    /// It does not exist.
    Absent,
    /// It exists, and is not a valid file.
    Damaged(String),
    /// The kernel's error. The next attempt may succeed.
    Failed(std::io::Error),
}

impl Unread {
    /// The error for an unreadable state.json of the container `id`.
    pub(super) fn error(self, id: &str) -> Error {
        match self {
            Unread::Absent => error!(Kind::NotFound => "container {id:?}: container does not exist"),
            Unread::Damaged(why) => error!("container {id:?}: state.json is damaged: {why}"),
            Unread::Failed(error) => Error::from(error).context(format!("container {id:?}: read its state")),
        }
    }
}

/// The contents of a file that we or root have written, and its stat(2).
pub(super) fn read(directory: impl AsFd, name: &Path) -> Result<(Vec<u8>, Stat), Unread> {
    let (text, stat) = read_of_anybody(directory, name)?;
    must_be_own(name, stat.st_uid).map_err(|error| Unread::Failed(std::io::Error::other(error.to_string())))?;
    if stat.st_nlink > 1 {
        // It may be a hard link that another user has made to a file of ours.
        return Err(Unread::Failed(std::io::Error::other(format!("{} has another name", name.display()))));
    }
    Ok((text, stat))
}

/// Checks the owner of a file in a container's directory. In a `--root` that several users may write, another user could name
/// hooks that run as us, and processes that we kill.
pub(super) fn must_be_own(name: &Path, owner: u32) -> Result<()> {
    if owner == rustix::process::geteuid().as_raw() || owner == 0 {
        return Ok(());
    }
    bail!("{} belongs to uid {owner}: only this user can use the container", name.display())
}

/// A container's directory, to read its files. A link is not followed: in a `--root` that several users may write, it could lead
/// to another container, or to a directory that is not below the root.
pub(super) fn opened(path: &Path) -> Result<OwnedFd, Unread> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let is_link = || rustix::fs::lstat(path).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_symlink());
    match rustix::fs::openat(CWD, path, flags, Mode::empty()) {
        Ok(directory) => Ok(directory),
        Err(Errno::NOTDIR | Errno::LOOP) if is_link() => {
            Err(Unread::Failed(std::io::Error::other(format!("{} is a symbolic link", path.display()))))
        }
        Err(Errno::NOENT | Errno::NOTDIR) => Err(Unread::Absent),
        Err(errno) => Err(Unread::Failed(errno.into())),
    }
}

/// The contents of a regular file, and its stat(2). Never waits: the path may lead to another kind of file.
pub(super) fn read_of_anybody(directory: impl AsFd, name: &Path) -> Result<(Vec<u8>, Stat), Unread> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(directory, name, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::NOTDIR) => return Err(Unread::Absent),
        Err(Errno::LOOP) => return Err(Unread::Damaged("it is a symbolic link".to_owned())),
        Err(Errno::NXIO) => return Err(Unread::Damaged("it is not a regular file".to_owned())),
        Err(errno) => return Err(Unread::Failed(errno.into())),
    };
    let stat = rustix::fs::fstat(&file).map_err(|errno| Unread::Failed(errno.into()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Unread::Damaged("it is not a regular file".to_owned()));
    }
    let size = stat.st_size.cast_unsigned();
    if size > MOST_BYTES {
        return Err(Unread::Damaged(format!("it has {size} bytes")));
    }
    let mut text = Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1);
    File::from(file).take(MOST_BYTES).read_to_end(&mut text).map_err(Unread::Failed)?;
    Ok((text, stat))
}

/// The lock of the container `id`. It is for callers that do not end the process that makes the container. Calls `while_held`
/// again and again while another process holds it.
///
/// # Errors
/// The lock is still held when the time is over, or the kernel's error.
pub(super) fn lock(path: &Path, id: &str, while_held: impl Fn()) -> Result<Option<Lock>> {
    let failed = || format!("container {id:?}");
    let deadline = Instant::now() + limits::LOCK;
    loop {
        match Lock::take(path, deadline.min(Instant::now() + limits::MOMENT)).with_context(failed)? {
            Attempt::Locked(lock) => return Ok(Some(lock)),
            Attempt::Gone => return Ok(None),
            Attempt::Held if Instant::now() < deadline => while_held(),
            Attempt::Held => bail!(
                "container {id:?}: lock {}: {} has held it for {} s",
                path.display(),
                holder(path),
                limits::LOCK.as_secs()
            ),
        }
    }
}

/// The process that holds the lock, from /proc/locks (proc_locks(5)).
pub(super) fn holder(path: &Path) -> String {
    use std::os::unix::fs::MetadataExt;
    let found = || {
        let inode = format!(":{}", std::fs::metadata(path).ok()?.ino());
        let text = std::fs::read_to_string("/proc/locks").ok()?;
        let mut lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        lines.find_map(|fields| match fields[..] {
            [_, "FLOCK", _, _, pid, file, ..] if file.ends_with(&inode) => Some(format!("process {pid}")),
            _ => None,
        })
    };
    found().unwrap_or_else(|| "another process".to_owned())
}

/// Sets the mode of a new directory, whatever our umask is. The path is that of the descriptor in /proc, because another
/// directory may have the real path now. (fchmod(2) does not accept an O_PATH descriptor, and without read permission we cannot
/// open another one.)
pub(super) fn set_unused(directory: &OwnedFd) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let itself = format!("/proc/self/fd/{}", directory.as_raw_fd());
    std::fs::set_permissions(itself, std::fs::Permissions::from_mode(UNUSED))
}
