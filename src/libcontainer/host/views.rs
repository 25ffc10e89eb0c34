//! The whole proc and sysfs file systems in our mount namespace. Without pivot_root(2), they stay in the container's.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::mountinfo::{Mount, covering};

/// The mount point of a whole proc or sysfs. If a mount namespace has one, a process in a child user namespace may mount a new
/// one, without masks and flags (mount_namespaces(7)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Its path.
    pub path: PathBuf,
    /// A mount on a directory above it, so that its path does not lead to it.
    pub covered_by: Option<PathBuf>,
    /// Whether it is in the container's root.
    pub inside: bool,
}

/// Every whole proc and sysfs, the last line first. `root` is the container's, without links.
pub fn views(mounts: &[Mount], root: &Path) -> Vec<View> {
    let whole = |mount: &&Mount| matches!(&*mount.fstype, "proc" | "sysfs") && mount.root == Path::new("/");
    let points: Vec<_> = mounts.iter().map(Mount::point).collect();
    // What is mounted on the view itself can be unmounted first, by the same path.
    let above = |mount: &Mount| {
        covering(mount.point(), &points).into_iter().find(|path| *path != mount.path).map(Path::to_path_buf)
    };
    let view = |mount: &Mount| View {
        path: mount.path.clone(),
        covered_by: above(mount),
        inside: mount.path.starts_with(root),
    };
    mounts.iter().rev().filter(whole).map(view).collect()
}

/// The first of `found` that is not in `known` by its path. Each known path stands for one mount. A covered mount
/// cannot be unmounted, so it is always unknown.
pub fn first_unknown<'v>(found: &'v [View], mut known: Vec<&[u8]>) -> Option<&'v View> {
    found.iter().find(|view| {
        let position = known.iter().position(|path| *path == view.path.as_os_str().as_bytes());
        view.covered_by.is_some() || position.map(|n| known.swap_remove(n)).is_none()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::mountinfo;

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
30 24 0:9 / /mnt/x rw - tmpfs tmpfs rw
31 26 0:9 / /mnt/x rw - tmpfs tmpfs rw
32 31 0:4 / /mnt/x/proc rw - proc proc rw
33 20 0:9 / / rw - tmpfs tmpfs rw
";
        let found = views(&mountinfo::parse(text), Path::new("/b/rootfs"));
        let view = |path: &str, covered: Option<&str>, inside| View {
            path: path.into(),
            covered_by: covered.map(PathBuf::from),
            inside,
        };
        let expected = [
            // 30 is covered itself, and nothing above 32 is covered
            view("/mnt/x/proc", None, false),
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
        let first =
            |paths: &[&'static str]| first_unknown(&found, known(paths)).map(|view| view.path.to_str().unwrap());
        assert_eq!(first(&["/proc", "/proc", "/sys", "/x y"]), None);
        // A known mount that does not exist any more does not matter.
        assert_eq!(first(&["/proc", "/gone", "/proc", "/sys", "/x y"]), None);
        assert_eq!(first(&["/proc", "/proc", "/sys"]), Some("/x y"));
        // A second mount at the same path.
        assert_eq!(first(&["/proc", "/sys", "/x y"]), Some("/proc"));
        // The path leads to a mount that was added above since.
        assert!(first_unknown(&[view("/mnt/proc", Some("/mnt"))], known(&["/mnt/proc"])).is_some());
    }
}
