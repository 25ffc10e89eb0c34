//! A container without a mount namespace of its own: what is mounted for it is mounted on the host, where nobody takes it
//! away when its processes have ended. So it is noted, and taken away with the container.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use crate::container::MountsBelow;
use crate::host::mountinfo::{self, Mount};
use crate::plan::failure::words;

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
    pub fn made(&self) -> Result<Vec<PathBuf>> {
        let now = below(&self.root)?.into_iter();
        Ok(now.filter(|mount| !self.before.contains(&mount.id)).map(|mount| mount.path).collect())
    }
}

/// Unmounts `mounts`, the last first.
///
/// # Errors
/// The first that could not be unmounted; the others are.
pub fn take_away(mounts: &[PathBuf]) -> Result<()> {
    let mut failed = Ok(());
    for path in mounts.iter().rev() {
        match rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            // gone with one that was below it, or by somebody else's hand
            Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
            Err(errno) => failed = failed.and(Err(anyhow!("unmount {}: {}", path.display(), words(errno)))),
        }
    }
    failed
}

/// The mounts below `root`, and not one on it.
fn below(root: &Path) -> Result<Vec<Mount>> {
    let all = mountinfo::all().context("read /proc/self/mountinfo")?;
    Ok(all.into_iter().filter(|mount| mount.path != root && mount.path.starts_with(root)).collect())
}
