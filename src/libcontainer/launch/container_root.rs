//! Look-ups below the root of a container that runs. The container's processes can mount file systems there, and can answer for
//! them (FUSE). The kernel waits for such an answer without end, and even SIGKILL does not end this wait. So a look-up goes from
//! name to name, and enters a file system only if the host has it, too, or if it never asks a process.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fmt::{self, Display, Formatter};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::sources::components;
use crate::error::{Context, Result};
use crate::host::mountinfo::{self, Mount};
use crate::sys::MAX_LINKS;
use crate::sys::errno::words;
use crate::sys::mount_id::statx;

/// File systems of the kernel, which never ask a process. An overlay is not one of them: its layers may be FUSE.
const OF_THE_KERNEL: [&str; 19] = [
    "tmpfs", "ramfs", "rootfs", "devtmpfs", "proc", "sysfs", "devpts", "mqueue", "cgroup", "cgroup2", "ext2", "ext3",
    "ext4", "xfs", "btrfs", "bcachefs", "f2fs", "erofs", "squashfs",
];

/// The root of a container that runs, and the list of its mounts.
#[derive(Debug)]
pub(super) struct ContainerRoot {
    root: OwnedFd,
    /// Its mountinfo. An open file keeps the mount namespace.
    mounts: File,
    /// The device numbers of the host's file systems, as in mountinfo.
    of_host: HashSet<String>,
}

/// What a look-up does with symbolic links. It never follows one of a proc file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Symlinks {
    /// Each one is an error.
    Refused,
    /// Each one is followed, below the root.
    Followed,
    /// As `Followed`, but the last name may be a link: then the link itself is found.
    LastItself,
}

/// A file that was found, open with O_PATH.
#[derive(Debug)]
pub(super) struct FoundFile {
    pub(super) file: OwnedFd,
    pub(super) kind: FileType,
    /// The type of its file system.
    pub(super) fstype: String,
    mount: u64,
}

/// Why nothing was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Missed {
    Errno(Errno),
    /// A file system of this type, which only the container has.
    Foreign(String),
}

impl Display for Missed {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Missed::Errno(errno) => f.write_str(&words(*errno)),
            Missed::Foreign(fstype) => {
                write!(f, "the path enters a file system of the container ({fstype}), which may never answer")
            }
        }
    }
}

impl From<Errno> for Missed {
    fn from(errno: Errno) -> Missed {
        Missed::Errno(errno)
    }
}

impl ContainerRoot {
    /// The root of process `pid`, whose mount namespace may be another one.
    ///
    /// # Errors
    /// The files of the process in /proc cannot be opened.
    pub(super) fn of(pid: i32) -> Result<ContainerRoot> {
        let path = format!("/proc/{pid}/root");
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, path.as_str(), flags, Mode::empty());
        let root = root.context(path)?;
        let path = format!("/proc/{pid}/mountinfo");
        let mounts = File::open(&path).with_context(|| format!("open {path}"))?;
        Ok(ContainerRoot::with(root, mounts, host_devices()?))
    }

    /// A directory of the host, as the root of a container that does not run yet.
    ///
    /// # Errors
    /// /proc/self/mountinfo cannot be read.
    #[cfg(feature = "checkpoint")]
    pub(super) fn on_host(root: OwnedFd) -> Result<ContainerRoot> {
        let mounts = File::open("/proc/self/mountinfo").context("open /proc/self/mountinfo")?;
        Ok(ContainerRoot::with(root, mounts, host_devices()?))
    }

    /// A root whose mounts are in the file `mounts`. `of_host` is what `host_devices` returns on the host.
    pub(super) const fn with(root: OwnedFd, mounts: File, of_host: HashSet<String>) -> ContainerRoot {
        ContainerRoot { root, mounts, of_host }
    }

    /// Its descriptor.
    #[cfg(feature = "checkpoint")]
    pub(super) fn directory(&self) -> &OwnedFd {
        &self.root
    }

    /// Looks for `path` below the root. `..` does not leave the root.
    pub(super) fn find(&self, path: &Path, links: Symlinks) -> Result<FoundFile, Missed> {
        let mut here = vec![self.checked(rustix::io::fcntl_dupfd_cloexec(&self.root, 0)?, None)?];
        let mut rest: Vec<OsString> = components(path).rev().collect();
        let mut followed = 0;
        while let Some(name) = rest.pop() {
            let Some(above) = here.last() else { return Err(Errno::NOENT.into()) };
            if name == ".." {
                must_be_directory(above)?;
                if here.len() > 1 {
                    here.pop();
                }
                continue;
            }
            // ORDER: one name below a directory that was checked. A mount on this name is crossed, but its file system is not asked.
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let next = rustix::fs::openat(&above.file, &name, flags, Mode::empty())?;
            let next = self.checked(next, Some(above))?;
            if !next.kind.is_symlink() {
                here.push(next);
                continue;
            }
            if links == Symlinks::LastItself && rest.is_empty() {
                return Ok(next);
            }
            followed += 1;
            if links == Symlinks::Refused || followed > MAX_LINKS || next.fstype == "proc" {
                return Err(Errno::LOOP.into());
            }
            let target = rustix::fs::readlinkat(&next.file, c"", Vec::new())?;
            let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
            if target.is_absolute() {
                here.truncate(1);
            }
            rest.extend(components(&target).rev());
        }
        here.pop().ok_or(Missed::Errno(Errno::NOENT))
    }

    /// Says what `file` is, without a question to its file system. `above` is the directory that it was found in.
    fn checked(&self, file: OwnedFd, above: Option<&FoundFile>) -> Result<FoundFile, Missed> {
        let stat = statx(file.as_fd(), c"")?;
        let (kind, mount) = (FileType::from_raw_mode(stat.stx_mode.into()), stat.stx_mnt_id);
        if let Some(above) = above.filter(|above| above.mount == mount) {
            return Ok(FoundFile { file, kind, fstype: above.fstype.clone(), mount });
        }
        let all = mountinfo::parse(&self.mountinfo().map_err(|_| Errno::IO)?);
        // A mount outside of the root of the process is not listed.
        let unlisted = || ("not in mountinfo".to_owned(), format!("{}:{}", stat.stx_dev_major, stat.stx_dev_minor));
        let listed = all.into_iter().find(|listed| listed.id == mount);
        let (fstype, device) = listed.map_or_else(unlisted, |Mount { fstype, device, .. }| (fstype, device));
        if !self.of_host.contains(&device) && !OF_THE_KERNEL.contains(&fstype.as_str()) {
            return Err(Missed::Foreign(fstype));
        }
        Ok(FoundFile { file, kind, fstype, mount })
    }

    /// The mounts as they are now.
    pub(super) fn mountinfo(&self) -> std::io::Result<Vec<u8>> {
        let mut text = Vec::new();
        let mut file = &self.mounts;
        file.seek(SeekFrom::Start(0))?;
        file.read_to_end(&mut text)?;
        Ok(text)
    }
}

fn must_be_directory(found: &FoundFile) -> Result<(), Errno> {
    if found.kind.is_dir() { Ok(()) } else { Err(Errno::NOTDIR) }
}

/// The device numbers of all file systems in our mount namespace and in that of pid 1. We trust whoever has mounted them.
pub(super) fn host_devices() -> Result<HashSet<String>> {
    let mut all = mountinfo::all().context("read /proc/self/mountinfo")?;
    // an ordinary user may not read it
    all.extend(mountinfo::parse(&std::fs::read("/proc/1/mountinfo").unwrap_or_default()));
    Ok(all.into_iter().map(|mount| mount.device).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_to_places_below_the_root() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().canonicalize().unwrap();
        std::fs::create_dir_all(path.join("a/b")).unwrap();
        std::fs::write(path.join("a/file"), "").unwrap();
        for (target, link) in [("/a", "abs"), ("../../../a/b", "a/up"), ("loop", "loop"), ("/proc", "out")] {
            std::os::unix::fs::symlink(target, path.join(link)).unwrap();
        }
        let opened = |path: &Path| OwnedFd::from(File::open(path).unwrap());
        let root =
            ContainerRoot::with(opened(&path), File::open("/proc/self/mountinfo").unwrap(), host_devices().unwrap());
        let inode = |path: PathBuf| std::os::unix::fs::MetadataExt::ino(&std::fs::symlink_metadata(path).unwrap());
        let found = |name: &str, links| {
            root.find(Path::new(name), links).map(|found| statx(found.file.as_fd(), c"").unwrap().stx_ino)
        };
        let at = |below: &str| Ok(inode(path.join(below)));
        for (name, expected) in [("abs/b", "a/b"), ("/a/up", "a/b"), ("../../a/./b/..", "a"), ("/", ".")] {
            assert_eq!(found(name, Symlinks::Followed), at(expected), "{name}");
        }
        assert_eq!(found("a/up", Symlinks::LastItself), at("a/up"));
        let failed = |name, links, errno| assert_eq!(found(name, links), Err(Missed::Errno(errno)), "{name}");
        failed("abs/b", Symlinks::Refused, Errno::LOOP);
        failed("loop", Symlinks::Followed, Errno::LOOP);
        // not the host's
        failed("out", Symlinks::Followed, Errno::NOENT);
        failed("a/file/x", Symlinks::Followed, Errno::NOTDIR);
        failed("a/file/..", Symlinks::Followed, Errno::NOTDIR);
        let nothing = ContainerRoot::with(opened(&path), File::open("/dev/null").unwrap(), HashSet::new());
        let missed = nothing.find(Path::new("a"), Symlinks::Followed).map(|found| found.fstype).unwrap_err();
        assert_eq!(missed, Missed::Foreign("not in mountinfo".to_owned()));
    }
}
