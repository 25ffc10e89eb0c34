//! A container without a mount namespace of its own: what is mounted for it is mounted on the host, where nobody takes it
//! away when its processes have ended. So init notes each mount by its id, and it is unmounted with the container: that mount,
//! by a descriptor, and no other that a path may lead to meanwhile. Others mount below the same root: hooks, engines, other
//! containers. What is theirs is left, and also one of ours that has one of theirs in it.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::container::{HostMount, Lock, MountsBelow};
use crate::error::{Context, Error, Result, bail, error};
use crate::host::mountinfo::{self, Mount};
use crate::plan::failure::words;
use crate::sys::mount::{MountId, detach};

/// Looks which mounts have come with the container's own, inside an `rbind`, and adds them to its file. Once: what comes later
/// is somebody else's.
///
/// # Errors
/// The file or /proc/self/mountinfo cannot be read.
pub(super) fn look(lock: &Lock) -> Result<()> {
    let mounted = lock.mounted()?;
    if mounted.whole || mounted.mounts.is_empty() {
        return Ok(());
    }
    let all = all()?;
    let there = |own: &MountId| all.iter().any(|mount| mount.id == own.id && id_at(mount) == Ok(Some(*own)));
    let own: Vec<u64> = mounted.mounts.iter().filter(|own| there(own)).map(|own| own.id).collect();
    let came = all.iter().filter(|mount| !own.contains(&mount.id) && own.iter().any(|id| is_in(mount, *id, &all)));
    lock.end_mounted(&came.filter_map(|mount| id_at(mount).ok()?).collect::<Vec<_>>())
}

/// What is mounted for the container, with its paths.
///
/// # Errors
/// Those of `look`.
pub(super) fn made(lock: &Lock) -> Result<Vec<HostMount>> {
    look(lock)?;
    let (mounted, all) = (lock.mounted()?, all()?);
    let path = |id| all.iter().find(|mount| mount.id == id).map(|mount| mount.path.clone()).unwrap_or_default();
    Ok(mounted.mounts.into_iter().map(|id| HostMount::at(path(id.id), id)).collect())
}

/// Unmounts `mounts`, what is in another first. What is left, because it is not found as it was recorded, or has one in it
/// that is not recorded, is returned.
///
/// # Errors
/// /proc/self/mountinfo cannot be read, or the first that could not be unmounted; the others are.
pub fn take_away(mounts: &[HostMount]) -> Result<Vec<Error>> {
    if mounts.is_empty() {
        return Ok(Vec::new());
    }
    let (mut failed, mut left, all) = (Ok(()), Vec::new(), all()?);
    let mut mounts: Vec<_> = mounts.iter().rev().collect();
    let above =
        |mount: &HostMount| all.iter().find(|there| there.id == mount.id).map(|there| above(there, &all).count());
    mounts.sort_by_cached_key(|mount| std::cmp::Reverse(above(mount)));
    for mount in mounts {
        match unmount(mount) {
            Ok(Ok(())) => {}
            Ok(Err(why)) => left.push(error!("{why}")),
            Err(error) => failed = failed.and(Err(error)),
        }
    }
    failed.map(|()| left)
}

/// It may be somewhere else by now, as a directory above it has another name: mountinfo says where. What is there may be
/// another one a moment later: the descriptor is compared, and is what is unmounted.
fn unmount(mount: &HostMount) -> Result<Result<(), String>> {
    let all = all()?;
    let left = |path: &Path, why: String| Ok(Err(format!("the mount at {} is left: {why}", path.display())));
    if mount.file == (0, 0) {
        return match all.iter().any(|there| there.path == mount.path) {
            true => left(&mount.path, "nothing but its path is recorded".to_owned()),
            false => Ok(Ok(())),
        };
    }
    let Some(there) = all.iter().find(|there| there.id == mount.id) else { return Ok(Ok(())) };
    let path = there.path.display();
    let place = match open(&there.path) {
        Ok(place) => place,
        Err(errno) => return left(&there.path, format!("open {path}: {}", words(errno))),
    };
    let found = MountId::of(place.as_fd()).map_err(|errno| error!("statx {path}: {}", words(errno)))?;
    if found.id != mount.id {
        return left(&there.path, format!("another one lies on {path}"));
    }
    if (found.unique, found.file) != (mount.unique, mount.file) {
        // the id is another one's by now
        return Ok(Ok(()));
    }
    if let Some(inside) = all.iter().find(|other| is_in(other, there.id, &all)) {
        return left(
            &there.path,
            format!("{} is mounted in it, and not by the container's config", inside.path.display()),
        );
    }
    let fd = CString::new(format!("/proc/self/fd/{}", place.as_raw_fd()))?;
    match detach(&fd) {
        // it is gone since
        Ok(()) | Err(Errno::INVAL) => Ok(Ok(())),
        Err(errno) => Err(error!("unmount {path}: {}", words(errno))),
    }
}

/// An older version has noted what was mounted below the root before it began: nobody knows which of the others are the
/// container's.
///
/// # Errors
/// There are others.
pub(super) fn must_have_none(noted: &MountsBelow) -> Result<()> {
    let below = |mount: &Mount| mount.path != noted.root && mount.path.starts_with(&noted.root);
    match all()?.into_iter().find(|mount| below(mount) && !noted.before.contains(&mount.id)) {
        Some(other) => bail!(
            "the mount at {} is left: an older version has not noted whether it is the container's: unmount what is",
            other.path.display()
        ),
        None => Ok(()),
    }
}

fn all() -> Result<Vec<Mount>> {
    mountinfo::all().context("read /proc/self/mountinfo")
}

/// Whether it is mounted in the mount `id`, or in one that is.
fn is_in(mount: &Mount, id: u64, all: &[Mount]) -> bool {
    above(mount, all).any(|above| above == id)
}

/// The ids of the mounts that it is in. (The first of all is its own parent.)
fn above(mount: &Mount, all: &[Mount]) -> impl Iterator<Item = u64> {
    let parent = |id: &u64| all.iter().find(|mount| mount.id == *id).map(|mount| mount.parent);
    std::iter::successors(Some(mount.parent), parent).take(all.len())
}

/// The id of the mount on top at its path, if that is this one.
fn id_at(mount: &Mount) -> Result<Option<MountId>, Errno> {
    let found = MountId::of(open(&mount.path)?.as_fd())?;
    Ok((found.id == mount.id).then_some(found))
}

/// Without a link anywhere: who can make one decides where it leads.
fn open(path: &Path) -> Result<OwnedFd, Errno> {
    let links = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(CWD, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty(), links)
}
