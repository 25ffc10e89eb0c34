//! A container without a mount namespace mounts on the host. The kernel does not remove these mounts when its processes
//! end. So init records each mount by its id, and `delete` unmounts it through a descriptor: a path could lead to
//! another mount by then. Hooks, engines and other containers mount below the same root. Their mounts stay. If one of
//! them is in a mount of the container, that mount stays, too.

use std::ffi::CString;
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::container::{HostMount, Lock, MountsBelow};
use crate::error::{Context, Error, Result, bail, error};
use crate::host::mountinfo::{self, Mount};
use crate::sys::errno::{in_words, words};
use crate::sys::mount::detach;
use crate::sys::mount_id::MountId;

/// Finds the mounts that came with the container's own ones (`rbind`), and adds them to its file. This runs once: later
/// mounts belong to others.
///
/// # Errors
/// The file or /proc/self/mountinfo cannot be read.
pub(super) fn add_submounts(lock: &Lock) -> Result<()> {
    let mounted = lock.mounted()?;
    if mounted.whole || mounted.mounts.is_empty() {
        return Ok(());
    }
    let all = all()?;
    let there = |own: &MountId| all.iter().any(|mount| mount.id == own.id && is_the_same(identity_of(mount), *own));
    let own: Vec<u64> = mounted.mounts.iter().filter(|own| there(own)).map(|own| own.id).collect();
    let came = all.iter().filter(|mount| !own.contains(&mount.id) && own.iter().any(|id| is_in(mount, *id, &all)));
    lock.end_mounted(&came.map(identity_of).collect::<Vec<_>>())
}

/// The mounts of the container, with their paths.
///
/// # Errors
/// Those of `add_submounts`.
pub(super) fn of_container(lock: &Lock) -> Result<Vec<HostMount>> {
    add_submounts(lock)?;
    let (mounted, all) = (lock.mounted()?, all()?);
    let path = |id| all.iter().find(|mount| mount.id == id).map(|mount| mount.path.clone()).unwrap_or_default();
    Ok(mounted.mounts.into_iter().map(|id| HostMount::new(path(id.id), id)).collect())
}

/// Unmounts `mounts`, inner mounts first, and again those that could not be reached because another one covered them.
/// Returns those that stay: a mount that has changed since it was recorded, or that contains a mount that is not recorded.
///
/// # Errors
/// /proc/self/mountinfo cannot be read, or a mount could not be unmounted. All others are unmounted.
pub fn unmount_recorded(mounts: &[HostMount]) -> Result<Vec<Error>> {
    if mounts.is_empty() {
        return Ok(Vec::new());
    }
    let (mut failed, mut left, all) = (Ok(()), Vec::new(), all()?);
    let mut mounts: Vec<_> = mounts.iter().rev().collect();
    let depth =
        |mount: &HostMount| all.iter().find(|there| there.id == mount.id).map(|there| above(there, &all).count());
    mounts.sort_by_cached_key(|mount| std::cmp::Reverse(depth(mount)));
    loop {
        let before = mounts.len();
        left.clear();
        mounts.retain(|mount| match unmount(mount) {
            Ok(Ok(())) => false,
            Ok(Err(why)) => {
                left.push(error!("{why}"));
                true
            }
            Err(error) => {
                let first = std::mem::replace(&mut failed, Ok(()));
                failed = first.and(Err(error));
                false
            }
        });
        if left.is_empty() || mounts.len() == before {
            return failed.map(|()| left);
        }
    }
}

/// Unmounts one mount. The inner error says why it stays. The mount may have another path by now, if a directory above it was
/// renamed: mountinfo has the path. A moment later the path may lead to another mount, so the descriptor is compared, and unmounted.
fn unmount(mount: &HostMount) -> Result<Result<(), String>> {
    let all = all()?;
    let left = |path: &Path, why: String| Ok(Err(format!("the mount at {} stays: {why}", path.display())));
    if mount.file == (0, 0) {
        return match all.iter().any(|there| there.path == mount.path) {
            true => left(&mount.path, "only its path is recorded".to_owned()),
            false => Ok(Ok(())),
        };
    }
    let Some(there) = all.iter().find(|there| there.id == mount.id) else {
        return match is_in_pid_1(mount) {
            Ok(false) => Ok(Ok(())),
            Ok(true) => {
                left(&mount.path, "it is in the mount namespace of pid 1, and the runtime is in another one".to_owned())
            }
            Err(error) => left(&mount.path, format!("read /proc/1/mountinfo: {}", in_words(&error))),
        };
    };
    let path = there.path.display();
    let opened = match open(&there.path) {
        Ok(opened) => opened,
        Err(errno) => return left(&there.path, format!("open {path}: {}", words(errno))),
    };
    let found = MountId::of(opened.as_fd()).with_context(|| format!("statx {path}"))?;
    if found.id != mount.id {
        return left(&there.path, format!("another mount covers {path}"));
    }
    if !is_the_same(found, MountId { id: mount.id, unique: mount.unique, file: mount.file }) {
        // The id belongs to another mount by now.
        return Ok(Ok(()));
    }
    if let Some(inside) = all.iter().find(|other| is_in(other, there.id, &all)) {
        return left(
            &there.path,
            format!("{} is mounted in it, and config.json does not have this mount", inside.path.display()),
        );
    }
    let fd = CString::new(format!("/proc/self/fd/{}", opened.as_raw_fd()))?;
    match detach(&fd) {
        // Another process has unmounted it in the meantime.
        Ok(()) | Err(Errno::INVAL) => Ok(Ok(())),
        Err(errno) => Err(Error::from(errno).context(format!("unmount {path}"))),
    }
}

/// True if pid 1 has the mount: we may be in a mount namespace of our own. The id alone is not enough: another mount may have it
/// by now.
fn is_in_pid_1(mount: &HostMount) -> std::io::Result<bool> {
    let text = match std::fs::read("/proc/1/mountinfo") {
        Ok(text) => text,
        // an ordinary user may not read it or see pid 1, and makes no mounts there
        Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::NotFound) => return Ok(false),
        Err(error) => return Err(error),
    };
    Ok(mountinfo::parse(&text).iter().any(|there| there.id == mount.id && there.path == mount.path))
}

/// Checks the record of an older version. It has only the mounts below the root that existed before the container. For all
/// other mounts, we do not know whether they belong to the container.
///
/// # Errors
/// There are other mounts.
pub(super) fn must_have_none(noted: &MountsBelow) -> Result<()> {
    let below = |mount: &Mount| mount.path != noted.root && mount.path.starts_with(&noted.root);
    match all()?.into_iter().find(|mount| below(mount) && !noted.before.contains(&mount.id)) {
        Some(other) => bail!(
            "the mount at {} stays: an older version has not recorded whether it belongs to the container: unmount it if it does",
            other.path.display()
        ),
        None => Ok(()),
    }
}

fn all() -> Result<Vec<Mount>> {
    mountinfo::all().context("read /proc/self/mountinfo")
}

/// True if `mount` is in the mount `id`, directly or in a mount below it.
fn is_in(mount: &Mount, id: u64, all: &[Mount]) -> bool {
    above(mount, all).any(|above| above == id)
}

/// The ids of the mounts that it is in. The first mount of all is its own parent.
fn above(mount: &Mount, all: &[Mount]) -> impl Iterator<Item = u64> {
    let parent = |id: &u64| all.iter().find(|mount| mount.id == *id).map(|mount| mount.parent);
    std::iter::successors(Some(mount.parent), parent).take(all.len())
}

/// The inode of a mount that is covered: no path leads to it. No file system has a root with this number.
const COVERED: u64 = 0;

/// Its identity. Of a covered mount, only the id and the device are known.
fn identity_of(mount: &Mount) -> MountId {
    let opened = open(&mount.path).and_then(|root| MountId::of(root.as_fd()));
    match opened {
        Ok(found) if found.id == mount.id => found,
        _ => MountId { id: mount.id, unique: None, file: (device(mount), COVERED) },
    }
}

/// The device number of its file system.
fn device(mount: &Mount) -> u64 {
    let numbers = mount.device.split_once(':');
    let number = |text: &str| text.parse().unwrap_or(0);
    numbers.map_or(0, |(major, minor)| rustix::fs::makedev(number(major), number(minor)))
}

/// Whether both are the same mount, as far as both are known.
fn is_the_same(one: MountId, other: MountId) -> bool {
    let covered = one.file.1 == COVERED || other.file.1 == COVERED;
    match covered {
        true => (one.id, one.file.0) == (other.id, other.file.0),
        false => one == other,
    }
}

/// Opens it without following links: the author of a link decides where it leads.
fn open(path: &Path) -> Result<OwnedFd, Errno> {
    let links = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(CWD, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty(), links)
}
