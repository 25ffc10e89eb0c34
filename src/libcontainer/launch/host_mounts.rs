//! A container without a mount namespace of its own: what is mounted for it is mounted on the host, where nobody takes it
//! away when its processes have ended. So each mount is recorded, and unmounted with the container: that mount, by a
//! descriptor, and no other that a path may lead to meanwhile.

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, Statx, StatxFlags};
use rustix::io::Errno;

use crate::container::{HostMount, MountsBelow};
use crate::error::{Context, Error, Result, error};
use crate::host::mountinfo::{self, Mount};
use crate::plan::failure::words;
use crate::sys::mount::detach;

/// statx(2), STATX_MNT_ID_UNIQUE. KERNEL(6.8): without it `stx_mnt_id` is the id of mountinfo.
const UNIQUE_ID: StatxFlags = StatxFlags::from_bits_retain(0x4000);

/// What is mounted below a container's root.
#[derive(Debug)]
pub struct HostMounts {
    root: PathBuf,
    /// The ids of those mounts that were there before.
    before: Vec<u64>,
}

impl HostMounts {
    /// Looks at what is there.
    ///
    /// # Errors
    /// The root or /proc/self/mountinfo cannot be read.
    pub fn before(root: &Path) -> Result<HostMounts> {
        let root = fs::canonicalize(root).with_context(|| format!("root.path: {}", root.display()))?;
        let before = below(&root)?.into_iter().map(|mount| mount.id).collect();
        Ok(HostMounts { root, before })
    }

    /// What was there, for the container's note.
    pub fn note(&self) -> MountsBelow {
        MountsBelow { root: self.root.clone(), before: self.before.clone() }
    }

    /// What a note says was there.
    pub fn noted(note: &MountsBelow) -> HostMounts {
        HostMounts { root: note.root.clone(), before: note.before.clone() }
    }

    /// What has come, in the order in which it came.
    ///
    /// # Errors
    /// /proc/self/mountinfo cannot be read.
    pub fn made(&self) -> Result<Vec<HostMount>> {
        let now = below(&self.root)?.into_iter();
        Ok(now.filter(|mount| !self.before.contains(&mount.id)).map(|mount| recorded(&mount)).collect())
    }
}

/// A mount that lies on top at its path has all of it; of one that is covered already only mountinfo's id is known.
fn recorded(mount: &Mount) -> HostMount {
    let found = open(&mount.path).and_then(|place| identify(place.as_fd(), mount.id));
    let (unique, file) = found.ok().flatten().unwrap_or_default();
    HostMount { path: mount.path.clone(), id: mount.id, unique, file }
}

/// Unmounts `mounts`, the last first. What is left, because it is not found as it was recorded, is returned.
///
/// # Errors
/// /proc/self/mountinfo cannot be read, or the first that could not be unmounted; the others are.
pub fn take_away(mounts: &[HostMount]) -> Result<Vec<Error>> {
    let (mut failed, mut left) = (Ok(()), Vec::new());
    for mount in mounts.iter().rev() {
        match unmount(mount) {
            Ok(Ok(())) => {}
            Ok(Err(why)) => left.push(error!("the mount at {} is left: {why}", mount.path.display())),
            Err(error) => failed = failed.and(Err(error)),
        }
    }
    failed.map(|()| left)
}

/// It may be somewhere else by now, as a directory above it has another name: mountinfo says where. What is there may be
/// another one a moment later: the descriptor is compared, and is what is unmounted.
fn unmount(mount: &HostMount) -> Result<Result<(), String>> {
    let all = mountinfo::all().context("read /proc/self/mountinfo")?;
    if mount.file == (0, 0) {
        let there = all.iter().any(|there| there.path == mount.path);
        return Ok(if there { Err("nothing but its path is recorded".to_owned()) } else { Ok(()) });
    }
    let Some(there) = all.into_iter().find(|there| there.id == mount.id) else { return Ok(Ok(())) };
    let path = there.path.display();
    let place = match open(&there.path) {
        Ok(place) => place,
        Err(errno) => return Ok(Err(format!("open {path}: {}", words(errno)))),
    };
    match identify(place.as_fd(), mount.id).map_err(|errno| error!("statx {path}: {}", words(errno)))? {
        Some((unique, file)) if unique == mount.unique && file == mount.file => {
            let fd = CString::new(format!("/proc/self/fd/{}", place.as_raw_fd()))?;
            match detach(&fd) {
                // it is gone since
                Ok(()) | Err(Errno::INVAL) => Ok(Ok(())),
                Err(errno) => Err(error!("unmount {path}: {}", words(errno))),
            }
        }
        // the id is another one's by now
        Some(_) => Ok(Ok(())),
        None => Ok(Err(format!("another one lies on {path}"))),
    }
}

/// Without a link anywhere: who can make one decides where it leads.
fn open(path: &Path) -> Result<OwnedFd, Errno> {
    let links = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(CWD, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty(), links)
}

/// What tells a mount from every other: its unique id, and device and inode of its root.
type Identity = (Option<u64>, (u64, u64));

/// Of the mount that `place` is in, if mountinfo's id of it is `id`.
fn identify(place: BorrowedFd<'_>, id: u64) -> Result<Option<Identity>, Errno> {
    let statx = |flags| rustix::fs::statx(place, c"", AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT, flags);
    let stat = statx(StatxFlags::INO | StatxFlags::MNT_ID)?;
    if stat.stx_mnt_id != id {
        return Ok(None);
    }
    let unique = statx(StatxFlags::INO | UNIQUE_ID)?;
    let has_unique = unique.stx_mask & UNIQUE_ID.bits() != 0;
    Ok(Some((has_unique.then_some(unique.stx_mnt_id), (device(&stat), stat.stx_ino))))
}

fn device(stat: &Statx) -> u64 {
    rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor)
}

/// The mounts below `root`, and not one on it.
fn below(root: &Path) -> Result<Vec<Mount>> {
    let all = mountinfo::all().context("read /proc/self/mountinfo")?;
    Ok(all.into_iter().filter(|mount| mount.path != root && mount.path.starts_with(root)).collect())
}
