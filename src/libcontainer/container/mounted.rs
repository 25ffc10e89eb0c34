//! What is mounted on the host for a container without a mount namespace: a file in its directory, to which init writes each
//! mount before it attaches it. What is not in it may be somebody else's. A mount that is in it and was never attached is
//! not found later.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use super::directory::{Lock, Unread};
use crate::error::{Context, Result, error};
use crate::sys::mount::MountId;

/// The file.
const MOUNTED: &str = "mounted";

/// The file, open to be written.
#[derive(Debug)]
pub struct MountedFile(File);

impl MountedFile {
    /// A new one in a container's directory.
    ///
    /// # Errors
    /// The kernel's word.
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

/// What the file says.
#[derive(Debug, Default)]
pub struct Mounted {
    /// In the order in which they were attached; those that came with an `rbind` at the end.
    pub mounts: Vec<MountId>,
    /// The container's mounts are all there, and it was looked which others came with them.
    pub whole: bool,
}

impl Lock {
    /// What is mounted on the host for the container.
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

    /// Adds what came with the container's mounts: now the file says all.
    ///
    /// # Errors
    /// The kernel's word.
    pub fn end_mounted(&self, came: &[MountId]) -> Result<()> {
        let end = MountId::default();
        let list: Vec<u8> = came.iter().chain([&end]).flat_map(MountId::encode).collect();
        self.append(MOUNTED, &list)
    }
}
