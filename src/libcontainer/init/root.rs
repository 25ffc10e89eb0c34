//! The change of root: attached where hooks look for it, and entered.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use rustix::mount::MoveMountFlags;

use super::Outcome;
use super::see::change;
use crate::plan::step::Change;
use crate::sys::mount::{Attributes, Reach, detach, set_attributes, set_propagation};

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Hooks before the pivot look for the root at its own path, so that is where it comes to lie. A directory that a mapped
/// root may not enter, or one that is not the same any more, does not matter: then it lies on `/` itself.
pub(super) fn attach(tree: BorrowedFd<'_>, path: &CStr, changes: &[Change]) -> Outcome {
    change(tree, changes)?;
    let from_fd = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    let place = rustix::fs::openat(CWD, path, DIRECTORY, Mode::empty()).ok();
    if let Some(place) = place.filter(|place| is_same(place.as_fd(), tree)) {
        return Ok(rustix::mount::move_mount(
            tree,
            c"",
            &place,
            c"",
            from_fd | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH,
        )?);
    }
    Ok(rustix::mount::move_mount(tree, c"", CWD, c"/", from_fd)?)
}

fn is_same(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> bool {
    match (rustix::fs::fstat(one), rustix::fs::fstat(other)) {
        (Ok(one), Ok(other)) => (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino),
        _ => false,
    }
}

/// Climbs from `path` to where its mount begins. What cannot be walked is left: the root will not lie there then.
pub(super) fn private_above(path: &CStr) -> Outcome {
    let Ok(mut place) = rustix::fs::openat(CWD, path, DIRECTORY, Mode::empty()) else { return Ok(()) };
    while !begins_a_mount(&place)? {
        place = rustix::fs::openat(&place, c"..", DIRECTORY, Mode::empty())?;
    }
    let attributes = Attributes { propagation: libc::MS_PRIVATE, ..Attributes::default() };
    Ok(set_attributes(place.as_fd(), &attributes, Reach::One)?)
}

fn begins_a_mount(place: &OwnedFd) -> Outcome<bool> {
    let stat = rustix::fs::statx(place, c"", AtFlags::EMPTY_PATH, StatxFlags::INO)?;
    Ok(stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

pub(super) fn pivot(root: BorrowedFd<'_>) -> Outcome {
    let old = rustix::fs::openat(CWD, c"/", DIRECTORY, Mode::empty())?;
    rustix::process::fchdir(root)?;
    // the old root goes on top of the new one (pivot_root(2), "pivot_root(".", ".")"), where it is let go of
    rustix::process::pivot_root(c".", c".")?;
    rustix::process::fchdir(&old)?;
    // ORDER: slaves first, or letting go of the mounts would let go of the host's as well
    set_propagation(c".", libc::MS_SLAVE | libc::MS_REC)?;
    detach(c".")?;
    Ok(rustix::process::chdir(c"/")?)
}

/// --no-pivot: the root is moved on top of `/`, so that nobody who looks down from there sees the host's (mount(8)).
pub(super) fn to_the_top(root: BorrowedFd<'_>) -> Outcome {
    match rustix::mount::move_mount(root, c"", CWD, c"/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH) {
        // ELOOP: it is what lies there already
        Ok(()) | Err(Errno::LOOP) => chroot(root),
        Err(other) => Err(other.into()),
    }
}

pub(super) fn chroot(root: BorrowedFd<'_>) -> Outcome {
    rustix::process::fchdir(root)?;
    rustix::process::chroot(c".")?;
    Ok(rustix::process::chdir(c"/")?)
}
