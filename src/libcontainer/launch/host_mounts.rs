//! A container without a mount namespace of its own: what is mounted for it is mounted on the host, where nobody takes it
//! away when its processes have ended. So it is noted, and taken away with the container.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use crate::container::MountsBelow;
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
    Ok(all()?.into_iter().filter(|mount| mount.path != root && mount.path.starts_with(root)).collect())
}

/// A mount that we see.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mount {
    id: u64,
    /// Where it is.
    pub(super) path: PathBuf,
    /// The type of its file system.
    pub(super) fstype: String,
}

/// All that we see, in the order in which they came.
///
/// # Errors
/// /proc/self/mountinfo cannot be read.
pub(super) fn all() -> Result<Vec<Mount>> {
    let text = fs::read("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    Ok(text.split(|byte| *byte == b'\n').filter_map(mount).collect())
}

/// The first and fifth field of a line of mountinfo, and the one behind the dash (proc_pid_mountinfo(5)).
fn mount(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let path = PathBuf::from(OsString::from_vec(unescaped(fields.nth(3)?)));
    let fstype = fields.skip_while(|field| field != b"-").nth(1)?;
    Some(Mount { id, path, fstype: String::from_utf8_lossy(fstype).into_owned() })
}

/// Space, tab, newline and backslash are written as `\040` and the like.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_they_are() {
        let read = |line: &[u8]| mount(line).map(|mount| (mount.id, mount.path, mount.fstype));
        let one = b"36 35 98:0 / /a\\040b/c rw,noatime shared:1 - ext4 /dev/root rw";
        assert_eq!(read(one), Some((36, PathBuf::from("/a b/c"), "ext4".to_owned())));
        let other = b"37 35 0:5 / /x\\134 rw - proc proc rw";
        assert_eq!(read(other), Some((37, PathBuf::from("/x\\"), "proc".to_owned())));
        assert_eq!(mount(b""), None);
    }
}
