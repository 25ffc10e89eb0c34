//! The mounts of our mount namespace: /proc/self/mountinfo (proc_pid_mountinfo(5)).

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// A mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Its id. The kernel uses it again after the unmount.
    pub id: u64,
    /// The id of its parent mount.
    pub parent: u64,
    /// The device number of its file system, `MAJOR:MINOR`.
    pub device: String,
    /// The root of the mount in its file system.
    pub root: PathBuf,
    /// Its mount point.
    pub path: PathBuf,
    /// The type of its file system.
    pub fstype: String,
}

impl Mount {
    pub(super) fn point(&self) -> MountInTree<'_> {
        MountInTree { id: self.id, parent: self.parent, path: &self.path }
    }
}

/// All mounts of our mount namespace.
///
/// # Errors
/// /proc/self/mountinfo cannot be read.
pub fn all() -> io::Result<Vec<Mount>> {
    Ok(parse(&std::fs::read("/proc/self/mountinfo")?))
}

/// The mounts in the text of that file.
pub fn parse(text: &[u8]) -> Vec<Mount> {
    let mount = |line: MountinfoLine<'_>| Mount {
        id: line.id,
        parent: line.parent,
        device: String::from_utf8_lossy(line.device).into_owned(),
        root: unescaped(line.root),
        path: line.path(),
        fstype: String::from_utf8_lossy(line.fstype).into_owned(),
    };
    lines(text).map(mount).collect()
}

/// The peer groups of all mounts in the text of that file (mount_namespaces(7)).
pub fn peer_groups(text: &[u8]) -> Vec<u64> {
    lines(text).filter_map(|line| line.peer_group).collect()
}

/// The peer group of the mount `id`. None if it is in none.
pub fn peer_group_of(text: &[u8], id: u64) -> Option<u64> {
    lines(text).find(|line| line.id == id)?.peer_group
}

/// One line. Its paths are still escaped.
pub(super) struct MountinfoLine<'a> {
    id: u64,
    parent: u64,
    device: &'a [u8],
    root: &'a [u8],
    path: &'a [u8],
    /// N of the optional field `shared:N`.
    peer_group: Option<u64>,
    pub(super) fstype: &'a [u8],
    /// The options of the superblock.
    pub(super) options: &'a [u8],
}

impl<'a> MountinfoLine<'a> {
    fn parse(line: &'a [u8]) -> Option<MountinfoLine<'a>> {
        let mut fields = line.split(|byte| *byte == b' ');
        let number = |field: &[u8]| std::str::from_utf8(field).ok()?.parse().ok();
        let (id, parent) = (number(fields.next()?)?, number(fields.next()?)?);
        let (device, root, path) = (fields.next()?, fields.next()?, fields.next()?);
        let mut peer_group = None;
        // The options of the mount, then optional fields, then `-`.
        for field in fields.by_ref().skip(1).take_while(|field| *field != b"-") {
            peer_group = peer_group.or_else(|| number(field.strip_prefix(b"shared:")?));
        }
        let fstype = fields.next()?;
        let options = fields.nth(1).unwrap_or_default();
        Some(MountinfoLine { id, parent, device, root, path, peer_group, fstype, options })
    }

    /// True if the root of the mount is the root of its file system.
    pub(super) fn is_whole(&self) -> bool {
        self.root == b"/"
    }

    /// With its mount point still escaped.
    pub(super) fn point(&self) -> MountInTree<'a> {
        MountInTree { id: self.id, parent: self.parent, path: self.written_path() }
    }

    /// Its mount point, still escaped.
    pub(super) fn written_path(&self) -> &'a Path {
        Path::new(OsStr::from_bytes(self.path))
    }

    /// Its mount point.
    pub(super) fn path(&self) -> PathBuf {
        unescaped(self.path)
    }
}

/// A mount, and where it is in the tree of mounts.
#[derive(Clone, Copy)]
pub(super) struct MountInTree<'a> {
    pub(super) id: u64,
    pub(super) parent: u64,
    pub(super) path: &'a Path,
}

/// The mount points of the mounts because of which the path of `mount` leads to another file system: they are on this mount itself, or
/// on a directory above it.
pub(super) fn covering<'a>(mount: MountInTree<'a>, all: &[MountInTree<'a>]) -> Vec<&'a Path> {
    let (mut at, mut below, mut found) = (mount, mount.id, Vec::new());
    let mut path = mount.path;
    // There are at most as many steps as mounts. Without this limit, a wrong text could loop for ever.
    for _ in all {
        // A mount on the root itself covers nothing for a process whose root it is.
        let hides = |other: &&MountInTree<'_>| {
            let is_beside = other.parent == at.id && other.id != below;
            is_beside && other.path != Path::new("/") && path.starts_with(other.path)
        };
        found.extend(all.iter().filter(hides).map(|other| other.path));
        let Some(above) = all.iter().find(|other| other.id == at.parent) else { break };
        (below, path, at) = (at.id, at.path, *above);
    }
    found
}

/// The lines of the file's text.
pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = MountinfoLine<'_>> {
    text.split(|byte| *byte == b'\n').filter_map(MountinfoLine::parse)
}

/// Decodes `\040` and the like: space, tab, newline and backslash are escaped.
fn unescaped(field: &[u8]) -> PathBuf {
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
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peer_group_of_a_mount_is_its_optional_field() {
        let text = b"36 35 98:0 /a /b rw,noatime shared:7 master:1 - ext3 /dev/root rw\n37 36 0:1 / /c rw master:2 - tmpfs t shared:9\n";
        assert_eq!((peer_group_of(text, 36), peer_group_of(text, 37)), (Some(7), None));
        assert_eq!(peer_groups(text), [7]);
    }

    #[test]
    fn places_are_read_as_they_are() {
        let read = |line: &[u8]| parse(line).pop().map(|mount| (mount.id, mount.parent, mount.path, mount.fstype));
        let one = b"36 35 98:0 / /a\\040b/c rw,noatime shared:1 - ext4 /dev/root rw";
        assert_eq!(read(one), Some((36, 35, PathBuf::from("/a b/c"), "ext4".to_owned())));
        let other = b"37 35 0:5 / /x\\134 rw - proc proc rw";
        assert_eq!(read(other), Some((37, 35, PathBuf::from("/x\\"), "proc".to_owned())));
        assert_eq!(read(b""), None);
    }
}
