//! The mount of the resctrl file system: Documentation/filesystems/resctrl.rst.

use std::io;
use std::path::{Path, PathBuf};

use super::mountinfo;
use crate::sys::kernel_file::read_lossy;

/// Whether this machine can limit caches and memory bandwidth for groups of processes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Resctrl {
    /// The config does not use it.
    #[default]
    NotLookedFor,
    /// The kernel does not have this file system, or the CPU does not support it.
    Unknown,
    /// It is not mounted, but could be.
    NotMounted,
    /// It is mounted at this path.
    At(PathBuf),
}

impl Resctrl {
    /// Reads /proc/self/mountinfo and /proc/filesystems.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub fn probe() -> io::Result<Resctrl> {
        let read = |path: &str| read_lossy(Path::new(path));
        Ok(Resctrl::parse(&read("/proc/self/mountinfo")?, &read("/proc/filesystems")?))
    }

    /// The result for the texts of these two files (proc(5)).
    pub fn parse(mountinfo: &str, filesystems: &str) -> Resctrl {
        // A mount may show only one group. New groups cannot be made there.
        let mounted = mountinfo::lines(mountinfo.as_bytes()).find(|line| line.is_whole() && line.fstype == b"resctrl");
        match mounted {
            Some(mount) => Resctrl::At(mount.path()),
            None if filesystems.split_whitespace().any(|word| word == "resctrl") => Resctrl::NotMounted,
            None => Resctrl::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_of_the_whole_is_found() {
        let filesystems = "nodev\tsysfs\nnodev\tresctrl\n\text4\n";
        let part = "31 22 0:27 /box /part rw - resctrl resctrl rw\n";
        let whole = "32 22 0:27 / /sys/fs/resctrl rw,nosuid shared:9 - resctrl resctrl rw,mba_MBps\n";
        assert_eq!(Resctrl::parse(&format!("{part}{whole}"), filesystems), Resctrl::At("/sys/fs/resctrl".into()));
        assert_eq!(Resctrl::parse(part, filesystems), Resctrl::NotMounted);
        assert_eq!(Resctrl::parse("", "nodev\tsysfs\n"), Resctrl::Unknown);
    }
}
