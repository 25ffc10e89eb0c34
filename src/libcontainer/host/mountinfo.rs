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

/// The mount point of a whole proc or sysfs. While a mount namespace has one, a child user namespace may mount another,
/// without the masks and flags of the first (mount_namespaces(7)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Its path.
    pub path: PathBuf,
    /// A mount on a directory above it, so that its path does not lead to it.
    pub covered_by: Option<PathBuf>,
    /// Whether it is in the container's root.
    pub inside: bool,
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
    text.split(|byte| *byte == b'\n').filter_map(peer_group).map(|(_, group)| group).collect()
}

/// The peer group of the mount `id`. None if it is in none.
pub fn peer_group_of(text: &[u8], id: u64) -> Option<u64> {
    text.split(|byte| *byte == b'\n').filter_map(peer_group).find(|(mount, _)| *mount == id).map(|(_, group)| group)
}

/// The id in a line, and the number of its field `shared:N`.
fn peer_group(line: &[u8]) -> Option<(u64, u64)> {
    let fields = || line.split(|byte| *byte == b' ');
    let number = |field: &[u8]| std::str::from_utf8(field).ok()?.parse().ok();
    let group = fields().skip(6).take_while(|field| *field != b"-").find_map(|field| field.strip_prefix(b"shared:"))?;
    Some((number(fields().next()?)?, number(group)?))
}

/// Every whole proc and sysfs, the last line first. `root` is the container's, without links.
pub fn views(mounts: &[Mount], root: &Path) -> Vec<View> {
    let whole = |mount: &&Mount| matches!(&*mount.fstype, "proc" | "sysfs") && mount.root == Path::new("/");
    let view = |mount: &Mount| View {
        path: mount.path.clone(),
        covered_by: covered_by(mount, mounts),
        inside: mount.path.starts_with(root),
    };
    mounts.iter().rev().filter(whole).map(view).collect()
}

/// The first of `found` that is not in `known` by its path. Each known path stands for one mount. A covered mount
/// cannot be unmounted, so it is always unknown.
pub fn unknown<'v>(found: &'v [View], mut known: Vec<&[u8]>) -> Option<&'v View> {
    found.iter().find(|view| {
        let place = known.iter().position(|path| *path == view.path.as_os_str().as_bytes());
        view.covered_by.is_some() || place.map(|n| known.swap_remove(n)).is_none()
    })
}

/// A mount that covers a directory above `mount`.
fn covered_by(mount: &Mount, mounts: &[Mount]) -> Option<PathBuf> {
    let mut below = Vec::new();
    let mut next = mount.parent;
    while let Some(parent) = mounts.iter().find(|other| other.id == next && !below.contains(&other.id)) {
        below.push(parent.id);
        next = parent.parent;
    }
    let above = |other: &&Mount| other.path != mount.path && mount.path.starts_with(&other.path);
    mounts.iter().filter(above).find(|other| !below.contains(&other.id)).map(|other| other.path.clone())
}

/// One line. Its paths are still escaped.
pub(super) struct MountinfoLine<'a> {
    pub(super) id: u64,
    pub(super) parent: u64,
    device: &'a [u8],
    root: &'a [u8],
    path: &'a [u8],
    pub(super) fstype: &'a [u8],
    /// The options of the superblock.
    pub(super) options: &'a [u8],
}

impl<'a> MountinfoLine<'a> {
    pub(super) fn of(line: &'a [u8]) -> Option<MountinfoLine<'a>> {
        let mut fields = line.split(|byte| *byte == b' ');
        let number = |field: &[u8]| std::str::from_utf8(field).ok()?.parse().ok();
        let (id, parent) = (number(fields.next()?)?, number(fields.next()?)?);
        let (device, root, path) = (fields.next()?, fields.next()?, fields.next()?);
        let mut after = fields.skip_while(|field| *field != b"-");
        let (fstype, options) = (after.nth(1)?, after.nth(1).unwrap_or_default());
        Some(MountinfoLine { id, parent, device, root, path, fstype, options })
    }

    /// True if the root of the mount is the root of its file system.
    pub(super) fn is_whole(&self) -> bool {
        self.root == b"/"
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

/// The lines of the file's text.
pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = MountinfoLine<'_>> {
    text.split(|byte| *byte == b'\n').filter_map(MountinfoLine::of)
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

    #[test]
    fn views_are_whole_and_known_to_be_covered() {
        let text = b"20 1 8:1 / / rw - ext4 /dev/root rw
21 20 0:4 / /proc rw - proc proc rw
22 20 0:5 / /sys rw - sysfs sysfs rw
23 21 0:4 /sys /proc/sys ro - proc proc rw
24 20 8:2 / /mnt rw - ext4 /dev/b rw
25 24 0:4 / /mnt/proc rw - proc proc rw
26 24 0:9 / /mnt rw - tmpfs tmpfs rw
27 20 0:4 / /b/rootfs/proc rw - proc proc rw
28 21 0:9 / /proc rw - tmpfs tmpfs rw
";
        let found = views(&parse(text), Path::new("/b/rootfs"));
        let view = |path: &str, covered: Option<&str>, inside| View {
            path: path.into(),
            covered_by: covered.map(PathBuf::from),
            inside,
        };
        let expected = [
            view("/b/rootfs/proc", None, true),
            view("/mnt/proc", Some("/mnt"), false),
            view("/sys", None, false),
            view("/proc", None, false),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_view_that_the_plan_does_not_unmount_is_found() {
        let view = |path: &str, covered: Option<&str>| View {
            path: path.into(),
            covered_by: covered.map(PathBuf::from),
            inside: false,
        };
        let found = [view("/sys", None), view("/proc", None), view("/x y", None), view("/proc", None)];
        let known = |paths: &[&'static str]| paths.iter().map(|path| path.as_bytes()).collect::<Vec<_>>();
        let first = |paths: &[&'static str]| unknown(&found, known(paths)).map(|view| view.path.to_str().unwrap());
        assert_eq!(first(&["/proc", "/proc", "/sys", "/x y"]), None);
        // A known mount that does not exist any more does not matter.
        assert_eq!(first(&["/proc", "/gone", "/proc", "/sys", "/x y"]), None);
        assert_eq!(first(&["/proc", "/proc", "/sys"]), Some("/x y"));
        // A second mount at the same path.
        assert_eq!(first(&["/proc", "/sys", "/x y"]), Some("/proc"));
        // The path leads to a mount that was added above since.
        assert!(unknown(&[view("/mnt/proc", Some("/mnt"))], known(&["/mnt/proc"])).is_some());
    }
}
