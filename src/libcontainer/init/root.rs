//! The change of root: attaches the new root where hooks expect it, and enters it.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::MoveMountFlags;

use super::prepared::Outcome;
use super::resolve::begins_a_mount;
use crate::plan::step::MountChange;
use crate::sys::mount::{Attributes, Reach, detach, empty_tmpfs, set_attributes, set_propagation};
use crate::sys::mount_id::mount_id;

/// The file system type of sysfs (statfs(2)).
pub(super) const SYSFS_MAGIC: rustix::fs::FsWord = 0x6265_6572;
const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Hooks before pivot_root(2) look for the root at its own path, so it is attached there. If a mapped root may not enter the
/// directory, or it is not the same directory any more, the root is attached on `/`.
pub(super) fn attach(tree: BorrowedFd<'_>, path: &CStr, changes: &[MountChange]) -> Outcome {
    change(tree, changes)?;
    let from_fd = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    let mount_point = rustix::fs::openat(CWD, path, DIRECTORY, Mode::empty()).ok();
    if let Some(mount_point) = mount_point.filter(|mount_point| is_same(mount_point.as_fd(), tree)) {
        return Ok(rustix::mount::move_mount(
            tree,
            c"",
            &mount_point,
            c"",
            from_fd | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH,
        )?);
    }
    Ok(rustix::mount::move_mount(tree, c"", CWD, c"/", from_fd)?)
}

/// Makes the changes on a detached mount, in their order.
pub(super) fn change(mount: BorrowedFd<'_>, changes: &[MountChange]) -> Outcome {
    for change in changes {
        set_attributes(mount, &change.attributes, change.reach)?;
    }
    Ok(())
}

fn is_same(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> bool {
    match (rustix::fs::fstat(one), rustix::fs::fstat(other)) {
        (Ok(one), Ok(other)) => (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino),
        _ => false,
    }
}

/// Makes the mount private that contains `path`. If the path cannot be opened, the root is not attached there.
pub(super) fn private_above(path: &CStr) -> Outcome {
    match rustix::fs::openat(CWD, path, DIRECTORY, Mode::empty()) {
        Ok(directory) => private_around(directory),
        Err(_) => Ok(()),
    }
}

/// Makes the mount private that contains `directory`. It climbs to the root directory of that mount.
fn private_around(mut directory: OwnedFd) -> Outcome {
    while !begins_a_mount(&directory)? {
        directory = rustix::fs::openat(&directory, c"..", DIRECTORY, Mode::empty())?;
    }
    let attributes = Attributes { propagation: libc::MS_PRIVATE, ..Attributes::default() };
    Ok(set_attributes(directory.as_fd(), &attributes, Reach::One)?)
}

pub(super) fn pivot(root: BorrowedFd<'_>) -> Outcome {
    let old = rustix::fs::openat(CWD, c"/", DIRECTORY, Mode::empty())?;
    rustix::process::fchdir(root)?;
    // the old root is stacked on the new one (pivot_root(2), "pivot_root(".", ".")"), and is unmounted below
    rustix::process::pivot_root(c".", c".")?;
    rustix::process::fchdir(&old)?;
    // ORDER: before the unmount, which would otherwise propagate to the host
    set_propagation(c".", libc::MS_SLAVE | libc::MS_REC)?;
    detach(c".")?;
    rustix::process::chdir(c"/")?;
    nothing_covers(root)
}

/// Unmounts everything that still covers the new root. umount2(2) unmounts the topmost mount only. If something was mounted on the
/// old root itself (`mount --bind / /` on the host), the old root still covers the new one. Then `..` of the new root leads there,
/// even after a chroot(2).
fn nothing_covers(root: BorrowedFd<'_>) -> Outcome {
    let own = mount_id(root, c"")?;
    for _ in 0..MAX_STACKED {
        if mount_id(CWD, c"..")? == own {
            return Ok(());
        }
        detach(c"..")?;
    }
    Err(Errno::LOOP.into())
}

/// How many mounts may be stacked on one directory.
const MAX_STACKED: u32 = 100;

/// Unmounts a complete proc or sysfs of the host, in our own mount namespace, and first the mounts on top of it. It is not an error
/// if nothing is mounted there: the plan has checked that no other mount covers it.
pub(super) fn unmount(path: &CStr) -> Outcome {
    let links = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..MAX_STACKED {
        let mount_point = match rustix::fs::openat2(CWD, path, DIRECTORY, Mode::empty(), links) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            other => other?,
        };
        if !begins_a_mount(&mount_point)? {
            return Ok(());
        }
        let fs = rustix::fs::fstatfs(&mount_point)?.f_type;
        rustix::process::fchdir(&mount_point)?;
        match detach(c".") {
            Ok(()) => {}
            // locked, because it comes from a user namespace above ours (mount_namespaces(7)): cover it instead
            Err(Errno::INVAL | Errno::PERM) => {
                let empty = empty_tmpfs(None)?;
                let to = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
                return Ok(rustix::mount::move_mount(&empty, c"", &mount_point, c"", to)?);
            }
            Err(other) => return Err(other.into()),
        }
        if fs == rustix::fs::PROC_SUPER_MAGIC || fs == SYSFS_MAGIC {
            return Ok(());
        }
    }
    Err(Errno::LOOP.into())
}

/// --no-pivot: moves the root on top of `/`, which hides the host's root (mount(8)).
pub(super) fn to_the_top(root: BorrowedFd<'_>) -> Outcome {
    match rustix::mount::move_mount(root, c"", CWD, c"/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH) {
        // ELOOP: the root is mounted there already.
        Ok(()) | Err(Errno::LOOP) => chroot(root),
        Err(other) => Err(other.into()),
    }
}

pub(super) fn chroot(root: BorrowedFd<'_>) -> Outcome {
    rustix::process::fchdir(root)?;
    rustix::process::chroot(c".")?;
    Ok(rustix::process::chdir(c"/")?)
}
