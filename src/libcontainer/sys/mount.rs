//! mount_setattr(2) and umount2(2): the mount calls that rustix lacks.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Statx, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use super::checked;

/// struct mount_attr of mount_setattr(2).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// MOUNT_ATTR_* to set.
    pub set: u64,
    /// MOUNT_ATTR_* to clear, before the others are set.
    pub clear: u64,
    /// MS_PRIVATE, MS_SLAVE, MS_SHARED, MS_UNBINDABLE, or 0 to leave it.
    pub propagation: u64,
    /// The user namespace whose maps MOUNT_ATTR_IDMAP applies.
    pub userns_fd: u64,
}

impl Attributes {
    /// MOUNT_ATTR_* to set, and to clear.
    pub const fn changing(set: u64, clear: u64) -> Attributes {
        Attributes { set, clear, propagation: 0, userns_fd: 0 }
    }

    /// MOUNT_ATTR_RDONLY.
    pub const fn read_only() -> Attributes {
        Attributes::changing(libc::MOUNT_ATTR_RDONLY, 0)
    }

    /// MS_PRIVATE, MS_SLAVE, MS_SHARED or MS_UNBINDABLE.
    pub const fn propagating(propagation: u64) -> Attributes {
        Attributes { propagation, ..Attributes::changing(0, 0) }
    }
}

/// Which mounts a change reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The one mount.
    One,
    /// It and all below it.
    Tree,
}

/// Changes the mount that `fd` refers to. KERNEL(5.12).
///
/// # Errors
/// Those of mount_setattr(2).
pub fn set_attributes(fd: BorrowedFd<'_>, attributes: &Attributes, reach: Reach) -> Result<(), Errno> {
    let flags = libc::AT_EMPTY_PATH | if reach == Reach::Tree { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is empty and NUL-terminated; attributes is a mount_attr of the size given.
    checked(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attributes),
            size_of::<Attributes>(),
        )
    })
    .map(drop)
}

/// The usual cause of EINVAL from `map_ids`.
pub const CANNOT_MAP: &str = "the file system may not support id-mapped mounts";

/// Has the ids of a detached mount go through the maps of the user namespace `by`. KERNEL(5.12).
///
/// # Errors
/// Those of mount_setattr(2); EINVAL for a file system that cannot do it.
pub fn map_ids(mount: BorrowedFd<'_>, by: BorrowedFd<'_>, reach: Reach) -> Result<(), Errno> {
    let userns_fd = u64::try_from(by.as_raw_fd()).map_err(|_| Errno::BADF)?;
    set_attributes(mount, &Attributes { set: libc::MOUNT_ATTR_IDMAP, userns_fd, ..Attributes::default() }, reach)
}

/// The kernel answers statx(2) by itself, with what it knows of the file.
const UNASKED: AtFlags = AtFlags::EMPTY_PATH.union(AtFlags::NO_AUTOMOUNT).union(AtFlags::STATX_DONT_SYNC);

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

/// The id in mountinfo of the mount of what is at `path` below `place`, or of `place` itself.
///
/// # Errors
/// Those of statx(2). ENOSYS if the kernel or a filter leaves the field out: otherwise all mounts would have the same id.
pub fn mount_id(place: BorrowedFd<'_>, path: &CStr) -> Result<u64, Errno> {
    Ok(statx(place, path)?.stx_mnt_id)
}

/// A place in a mount: the mount's id in mountinfo, and the file's device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    mount: u64,
    file: (u32, u32, u64),
}

/// The place of a file. The same file in another mount is another place.
///
/// # Errors
/// Those of `mount_id`.
pub fn location_of(file: BorrowedFd<'_>) -> Result<Location, Errno> {
    let stat = statx(file, c"")?;
    Ok(Location { mount: stat.stx_mnt_id, file: (stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino) })
}

/// The type, device and inode of what is at `path` below `place`, or of `place` itself, and the id in mountinfo of its mount. The
/// kernel does not ask the file system: its process may never answer.
///
/// # Errors
/// Those of `mount_id`.
pub fn statx(place: BorrowedFd<'_>, path: &CStr) -> Result<Statx, Errno> {
    let stat = rustix::fs::statx(place, path, UNASKED, StatxFlags::TYPE | StatxFlags::INO | StatxFlags::MNT_ID)?;
    if stat.stx_mask & StatxFlags::MNT_ID.bits() == 0 { Err(Errno::NOSYS) } else { Ok(stat) }
}

impl MountId {
    /// The number of bytes that `encode` returns.
    pub const SIZE: usize = 32;

    /// The mount whose root is `place`.
    ///
    /// # Errors
    /// Those of statx(2). ENOSYS if it does not return the mount.
    pub fn of(place: BorrowedFd<'_>) -> Result<MountId, Errno> {
        let stat = statx(place, c"")?;
        let unique = rustix::fs::statx(place, c"", UNASKED, StatxFlags::INO | UNIQUE_ID)?;
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
        bytes.chunks_exact_mut(8).zip(words).for_each(|(place, word)| place.copy_from_slice(&word.to_ne_bytes()));
        bytes
    }

    /// Decodes what `encode` returned.
    pub fn decode(bytes: &[u8]) -> Option<MountId> {
        let word = |n: usize| Some(u64::from_ne_bytes(bytes.get(n * 8..n * 8 + 8)?.try_into().ok()?));
        Some(MountId { id: word(0)?, unique: word(1).filter(|id| *id != 0), file: (word(2)?, word(3)?) })
    }
}

/// Changes the propagation of the mount at `path`: mount(2) with MS_SHARED, MS_SLAVE, MS_PRIVATE or
/// MS_UNBINDABLE, and MS_REC.
///
/// # Errors
/// Those of mount(2).
pub fn set_propagation(path: &CStr, flags: u64) -> Result<(), Errno> {
    // SAFETY: path is NUL-terminated; the kernel ignores the other arguments for a change of propagation.
    checked(unsafe { libc::syscall(libc::SYS_mount, c"".as_ptr(), path.as_ptr(), c"".as_ptr(), flags, 0usize) })
        .map(drop)
}

/// mount(2): a new file system at `target`.
///
/// # Errors
/// Those of mount(2).
pub fn mount(source: &CStr, target: &CStr, fstype: &CStr, flags: u64, data: &CStr) -> Result<(), Errno> {
    // SAFETY: all four strings are NUL-terminated, which is all that the kernel reads.
    checked(unsafe {
        libc::syscall(libc::SYS_mount, source.as_ptr(), target.as_ptr(), fstype.as_ptr(), flags, data.as_ptr())
    })
    .map(drop)
}

/// A detached, empty and read-only tmpfs with this SELinux label.
///
/// # Errors
/// Those of fsopen(2), fsconfig(2) and fsmount(2).
pub fn empty_tmpfs(label: Option<&CStr>) -> Result<OwnedFd, Errno> {
    let fs = rustix::mount::fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in [(c"nr_blocks", c"1"), (c"nr_inodes", c"1"), (c"mode", c"755")] {
        rustix::mount::fsconfig_set_string(&fs, key, value)?;
    }
    if let Some(label) = label {
        rustix::mount::fsconfig_set_string(&fs, c"context", label)?;
    }
    // the flag of the mount alone is not enough: a process with CAP_SYS_ADMIN in a user namespace of the container could clear it
    rustix::mount::fsconfig_set_flag(&fs, c"ro")?;
    rustix::mount::fsconfig_create(&fs)?;
    rustix::mount::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY)
}

/// Unmounts the mount at `path`, even if it is busy (umount2(2), MNT_DETACH).
///
/// # Errors
/// Those of umount2(2).
pub fn detach(path: &CStr) -> Result<(), Errno> {
    // SAFETY: path is NUL-terminated.
    checked(unsafe { libc::syscall(libc::SYS_umount2, path.as_ptr(), libc::MNT_DETACH) }).map(drop)
}
