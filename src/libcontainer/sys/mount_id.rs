//! Which mount is it? statx(2) tells, also of a mount that is not attached.

use std::ffi::CStr;
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, Statx, StatxFlags};
use rustix::io::Errno;

/// The kernel answers statx(2) by itself, with what it knows of the file.
const DONT_SYNC: AtFlags = AtFlags::EMPTY_PATH.union(AtFlags::NO_AUTOMOUNT).union(AtFlags::STATX_DONT_SYNC);

/// statx(2), STATX_MNT_ID_UNIQUE. KERNEL(6.8): without it `stx_mnt_id` is the id of mountinfo.
const UNIQUE_ID: StatxFlags = StatxFlags::from_bits_retain(0x4000);

/// Identifies a mount, attached or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MountId {
    /// Its id in mountinfo. The kernel uses it again after the mount is gone.
    pub id: u64,
    /// Its id that the kernel never uses again. It is never 0. None if the kernel has no such ids.
    pub unique: Option<u64>,
    /// Device and inode of its root.
    pub file: (u64, u64),
}

impl MountId {
    /// The number of bytes that `encode` returns.
    pub const SIZE: usize = 32;

    /// The mount whose root is `file`.
    ///
    /// # Errors
    /// Those of statx(2). ENOSYS if it does not return the mount.
    pub fn of(file: BorrowedFd<'_>) -> Result<MountId, Errno> {
        let stat = statx(file, c"")?;
        let unique = rustix::fs::statx(file, c"", DONT_SYNC, StatxFlags::INO | UNIQUE_ID)?;
        let has_unique = unique.stx_mask & UNIQUE_ID.bits() != 0;
        let device = rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor);
        Ok(MountId {
            id: stat.stx_mnt_id,
            unique: has_unique.then_some(unique.stx_mnt_id),
            file: (device, stat.stx_ino),
        })
    }

    /// Encodes it.
    pub fn encode(&self) -> [u8; MountId::SIZE] {
        let mut bytes = [0; MountId::SIZE];
        let words = [self.id, self.unique.unwrap_or(0), self.file.0, self.file.1];
        bytes.chunks_exact_mut(8).zip(words).for_each(|(field, word)| field.copy_from_slice(&word.to_ne_bytes()));
        bytes
    }

    /// Decodes what `encode` returned.
    pub fn decode(bytes: &[u8]) -> Option<MountId> {
        let word = |n: usize| Some(u64::from_ne_bytes(bytes.get(n * 8..n * 8 + 8)?.try_into().ok()?));
        Some(MountId { id: word(0)?, unique: word(1).filter(|id| *id != 0), file: (word(2)?, word(3)?) })
    }
}

/// The id in mountinfo of the mount of what is at `path` below `file`, or of `file` itself.
///
/// # Errors
/// Those of statx(2). ENOSYS if the kernel or a filter leaves the field out: otherwise all mounts would have the same id.
pub fn mount_id(file: BorrowedFd<'_>, path: &CStr) -> Result<u64, Errno> {
    Ok(statx(file, path)?.stx_mnt_id)
}

/// A file in a mount: the mount's id in mountinfo, and the file's device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    mount: u64,
    file: (u32, u32, u64),
}

/// The location of a file. The same file in another mount has another location.
///
/// # Errors
/// Those of `mount_id`.
pub fn location_of(file: BorrowedFd<'_>) -> Result<Location, Errno> {
    let stat = statx(file, c"")?;
    Ok(Location { mount: stat.stx_mnt_id, file: (stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino) })
}

/// The type, device and inode of what is at `path` below `file`, or of `file` itself, and the id in mountinfo of its mount. The
/// kernel does not ask the file system: its process may never answer.
///
/// # Errors
/// Those of `mount_id`.
pub fn statx(file: BorrowedFd<'_>, path: &CStr) -> Result<Statx, Errno> {
    let stat = rustix::fs::statx(file, path, DONT_SYNC, StatxFlags::TYPE | StatxFlags::INO | StatxFlags::MNT_ID)?;
    if stat.stx_mask & StatxFlags::MNT_ID.bits() == 0 { Err(Errno::NOSYS) } else { Ok(stat) }
}
