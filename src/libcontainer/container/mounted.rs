//! The host mounts of a container without a mount namespace. Init writes each mount to a file in the container's
//! directory before it attaches the mount. A mount that is not in the file may belong to others. A mount that is in the
//! file but was never attached is not found later.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use super::directory::{Lock, Unread};
use crate::error::{Context, Result, error};
use crate::sys::mount_id::MountId;

/// The file in the container's directory.
const MOUNTED: &str = "mounted";

/// The file, open for writing.
#[derive(Debug)]
pub struct MountedFile(File);

impl MountedFile {
    /// Makes the file in a container's directory.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn new(directory: &Path) -> Result<MountedFile> {
        let path = directory.join(MOUNTED);
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::fs::openat(CWD, &path, flags, Mode::RUSR | Mode::WUSR);
        Ok(MountedFile(File::from(file.with_context(|| format!("make {}", path.display()))?)))
    }

    /// Its descriptor gets a number that is not below `first`.
    ///
    /// # Errors
    /// Those of fcntl(2), F_DUPFD_CLOEXEC.
    pub fn raise(&mut self, first: RawFd) -> Result<(), Errno> {
        if self.0.as_raw_fd() < first {
            self.0 = File::from(rustix::io::fcntl_dupfd_cloexec(&self.0, first)?);
        }
        Ok(())
    }
}

impl AsFd for MountedFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The contents of the file.
#[derive(Debug, Default)]
pub struct Mounted {
    /// In the order in which they were attached. Those that came with an `rbind` are at the end.
    pub mounts: Vec<MountId>,
    /// All mounts of the container are attached, and those that came with them were added.
    pub whole: bool,
}

impl Lock {
    /// The host mounts of the container.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn mounted(&self) -> Result<Mounted> {
        let failed = |why: String| error!("read {}: {why}", self.path().join(MOUNTED).display());
        let text = match self.read(MOUNTED) {
            Ok(text) => text,
            Err(Unread::Absent) => return Ok(Mounted::default()),
            Err(Unread::Damaged(why)) => return Err(failed(why)),
            Err(Unread::Failed(error)) => return Err(failed(error.to_string())),
        };
        let end = MountId::default();
        let all = || text.chunks_exact(MountId::SIZE).filter_map(MountId::decode);
        Ok(Mounted { mounts: all().filter(|mount| *mount != end).collect(), whole: all().any(|mount| mount == end) })
    }

    /// Adds the mounts that came with the container's mounts. The file is then complete.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn end_mounted(&self, came: &[MountId]) -> Result<()> {
        let end = MountId::default();
        let list: Vec<u8> = came.iter().chain([&end]).flat_map(MountId::encode).collect();
        self.append(MOUNTED, &list)
    }
}
