//! A path in a container that runs, resolved without a question to a file system that may never answer. A process of the
//! container can be the server of such a file system (FUSE). Then a call of ours would wait for it in the kernel, where not
//! even SIGKILL ends it.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::error::{Context, Result, bail, error};
use crate::host::mountinfo;
use crate::sys::errno::words;
use crate::sys::host_proc::HostProc;

/// File systems that never ask a process, whoever has mounted them. An overlay is not one of them: its layers may be FUSE.
const OF_THE_KERNEL: &[&str] = &[
    "tmpfs", "ramfs", "rootfs", "devtmpfs", "proc", "sysfs", "devpts", "mqueue", "cgroup", "cgroup2", "ext2", "ext3",
    "ext4", "xfs", "btrfs", "bcachefs", "f2fs", "erofs", "squashfs",
];

/// The device numbers of all file systems in our mount namespace and in that of pid 1. Whoever has mounted them is trusted.
///
/// # Errors
/// /proc/self/mountinfo cannot be read.
pub(super) fn devices_of_host() -> Result<Vec<String>> {
    let mut all = mountinfo::all().context("read /proc/self/mountinfo")?;
    all.extend(mountinfo::parse(&std::fs::read("/proc/1/mountinfo").unwrap_or_default()));
    Ok(all.into_iter().map(|mount| mount.device).collect())
}

/// The root of the mount namespace that this thread has entered.
pub(super) struct QuietWalk<'a> {
    root: OwnedFd,
    proc: &'a HostProc,
    devices: &'a [String],
}

impl QuietWalk<'_> {
    /// Begins at the thread's root.
    ///
    /// # Errors
    /// Those of open(2).
    pub(super) fn new<'a>(proc: &'a HostProc, devices: &'a [String]) -> Result<QuietWalk<'a>> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, c"/", flags, Mode::empty()).context("open the container's root")?;
        Ok(QuietWalk { root, proc, devices })
    }

    /// The file at `path`, which has no `..`. Follows no link: one of the image could lead to the root itself, or into /proc.
    ///
    /// # Errors
    /// The path, and the kernel's error or the file system that may not answer.
    pub(super) fn to(&self, path: &CStr) -> Result<OwnedFd> {
        let said = |errno: Errno| error!("/{}: {}", path.to_string_lossy(), words(errno));
        let mut place = self.root.try_clone().context("fcntl")?;
        for part in path.to_bytes().split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
            // ORDER: before the look-up, which asks this file system
            self.must_answer(&place, path)?;
            place = below(&place, part).map_err(said)?;
        }
        self.must_answer(&place, path)?;
        Ok(place)
    }

    /// Reads the id of the mount in fdinfo, and its type in mountinfo: neither asks the file system.
    fn must_answer(&self, place: &OwnedFd, path: &CStr) -> Result<()> {
        let path = path.to_string_lossy();
        let tid = rustix::thread::gettid().as_raw_nonzero().get();
        let name = CString::new(format!("fdinfo/{}", place.as_raw_fd()))?;
        let info = self.proc.read_of(tid, &name).context("read fdinfo")?;
        let info = String::from_utf8_lossy(&info);
        let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok());
        let all = mountinfo::parse(&self.proc.read_of(tid, c"mountinfo").context("read mountinfo")?);
        let Some(mount) = all.iter().find(|mount| Some(mount.id) == id) else {
            bail!("/{path}: a mount on the way was unmounted meanwhile");
        };
        if OF_THE_KERNEL.contains(&mount.fstype.as_str()) || self.devices.contains(&mount.device) {
            return Ok(());
        }
        let (fstype, at) = (&mount.fstype, mount.path.display());
        bail!(
            "/{path}: {at} in the container is a file system of type {fstype} that the host does not have: it may never answer"
        )
    }
}

fn below(place: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    loop {
        match rustix::fs::openat2(place.as_fd(), name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), how) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
}
