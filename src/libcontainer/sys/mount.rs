//! mount_setattr(2), mount(2), umount2(2): the mount calls that rustix lacks, and an empty tmpfs.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

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

/// Maps the ids of a detached mount by the maps of the user namespace `by`. KERNEL(5.12).
///
/// # Errors
/// Those of mount_setattr(2); EINVAL for a file system that cannot do it.
pub fn map_ids(mount: BorrowedFd<'_>, by: BorrowedFd<'_>, reach: Reach) -> Result<(), Errno> {
    let userns_fd = u64::try_from(by.as_raw_fd()).map_err(|_| Errno::BADF)?;
    set_attributes(mount, &Attributes { set: libc::MOUNT_ATTR_IDMAP, userns_fd, ..Attributes::default() }, reach)
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
