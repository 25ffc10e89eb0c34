//! Mounts in a container that runs. We open the source and make the mount complete in the host's mount namespace. A thread then
//! enters the container's mount namespace, where the container controls every path. There, the thread resolves the destination
//! beneath the root, and uses only its descriptor.

use std::collections::HashSet;
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags};
use rustix::path::DecInt;

use super::container_root::{ContainerRoot, FoundFile, Missed, Symlinks, host_devices};
use super::inside::in_mounts;
use super::open;
use crate::config::At;
use crate::error::{Context, Result, bail, error};
use crate::host::id_map::host_id;
use crate::host::{Namespace, mountinfo};
use crate::plan::step::Setting;
use crate::plan::{LiveMount, LiveTree};
use crate::sys::errno::words;
use crate::sys::host_proc::HostProc;
use crate::sys::mount::{Attributes, Reach, detach, set_attributes};
use crate::sys::mount_id::MountId;

/// A mount that is complete, and not attached yet.
#[derive(Debug)]
pub struct DetachedMount {
    tree: OwnedFd,
    at: At,
    destination: CString,
}

impl DetachedMount {
    /// Its identity, which does not change when it is attached.
    ///
    /// # Errors
    /// Those of statx(2).
    pub fn id(&self) -> Result<MountId> {
        MountId::of(self.tree.as_fd()).with_context(|| format!("{}: statx", self.at))
    }
}

/// The id maps of the container's user namespace, as /proc/PID/uid_map and gid_map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningIdMaps {
    /// Of user ids.
    pub uids: String,
    /// Of group ids.
    pub gids: String,
}

impl RunningIdMaps {
    /// The settings with the owner as we see it: the kernel reads `uid` and `gid` in our user namespace. Without them, the owner is
    /// the container's root.
    fn map(&self, settings: &[Setting]) -> Result<Vec<Setting>> {
        let mut mapped = settings.to_vec();
        for (key, map) in [(c"uid", &self.uids), (c"gid", &self.gids)] {
            let given = mapped.iter().rposition(|(name, _)| name.as_c_str() == key);
            let given = given.and_then(|index| mapped[index].1.clone());
            let text = given.as_deref().unwrap_or(c"0").to_string_lossy().into_owned();
            let id = text.parse().ok().and_then(|id| host_id(map, id));
            let name = key.to_string_lossy();
            let id = id.ok_or_else(|| error!("{name}={text}: the container's user namespace does not map it"))?;
            mapped.retain(|(name, _)| name.as_c_str() != key);
            mapped.push((key.to_owned(), Some(CString::new(id.to_string())?)));
        }
        Ok(mapped)
    }
}

/// Makes each mount, in our own mount namespace. `maps` are those of the container's user namespace, if it has one.
///
/// # Errors
/// The place, and the kernel's error.
pub fn detached(mounts: &[LiveMount], maps: Option<&RunningIdMaps>) -> Result<Vec<DetachedMount>> {
    mounts.iter().map(|mount| detached_mount(mount, maps)).collect()
}

fn detached_mount(mount: &LiveMount, maps: Option<&RunningIdMaps>) -> Result<DetachedMount> {
    let LiveMount { at, tree, changes, destination } = mount;
    let tree = match tree {
        LiveTree::Bind(source, reach) => {
            open::tree(source, *reach).with_context(|| format!("{at}.source: open_tree {}", source.display()))?
        }
        LiveTree::Tmpfs(settings) => {
            let mapped = maps.map(|maps| maps.map(settings)).transpose().with_context(|| format!("{at}.options"))?;
            tmpfs(mapped.as_deref().unwrap_or(settings)).with_context(|| format!("{at}: make a tmpfs"))?
        }
    };
    for change in changes {
        set_attributes(tree.as_fd(), &change.attributes, change.reach)
            .with_context(|| format!("{at}.options: mount_setattr"))?;
    }
    Ok(DetachedMount { tree, at: at.clone(), destination: destination.clone() })
}

fn tmpfs(settings: &[Setting]) -> Result<OwnedFd, Errno> {
    let fs = rustix::mount::fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in settings {
        match value {
            Some(value) => rustix::mount::fsconfig_set_string(&fs, key.as_c_str(), value.as_c_str())?,
            None => rustix::mount::fsconfig_set_flag(&fs, key.as_c_str())?,
        }
    }
    rustix::mount::fsconfig_create(&fs)?;
    rustix::mount::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
}

/// The error about a container without a mount namespace.
pub const NOT_ITS_OWN: &str = "the container has no mount namespace of its own: a mount would be one of the host";

/// The mount namespace of process `pid`. It must not be ours, and not the host's: we may be in one of our own.
///
/// # Errors
/// It is ours or the host's, or the kernel's error.
pub fn mount_namespace(pid: i32) -> Result<File> {
    let path = format!("/proc/{pid}/ns/mnt");
    let namespace = File::open(&path).with_context(|| format!("open {path}"))?;
    let found = Namespace::of_file(&namespace)?;
    // Without CAP_SYS_PTRACE, that of pid 1 cannot be seen: then the container's record decides.
    let of_host = File::open("/proc/1/ns/mnt").ok().map(|file| Namespace::of_file(&file)).transpose()?;
    if found == Namespace::ours("mnt")? || Some(found) == of_host {
        bail!("{NOT_ITS_OWN}");
    }
    Ok(namespace)
}

/// The peer groups of the host's mounts and of ours. None if the mounts of pid 1 cannot be read: then any group may be the host's.
fn host_groups() -> Result<Option<Vec<u64>>> {
    let own = std::fs::read("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    let Ok(of_host) = std::fs::read("/proc/1/mountinfo") else { return Ok(None) };
    Ok(Some([own, of_host].iter().flat_map(|text| mountinfo::peer_groups(text)).collect()))
}

/// Attaches all, or none.
///
/// # Errors
/// The place, and the kernel's error.
pub fn attach(namespace: &File, mounts: &[DetachedMount]) -> Result<()> {
    let proc = HostProc::open().context("open /proc")?;
    let (of_host, devices) = (host_groups()?, host_devices()?);
    in_mounts(namespace, || {
        let root = root(&proc, devices)?;
        let mut attached: Vec<&DetachedMount> = Vec::new();
        for mount in mounts {
            if let Err(error) = attach_one(mount, &root, of_host.as_deref()) {
                let back = attached.iter().rev().try_for_each(|mount| unmount(mount.tree.as_fd(), &proc));
                let left = back.err().map(|errno| format!("; umount2 of those before it: {}", words(errno)));
                bail!("{error}{}", left.unwrap_or_default());
            }
            attached.push(mount);
        }
        Ok(())
    })
}

fn attach_one(mount: &DetachedMount, root: &ContainerRoot, of_host: Option<&[u64]>) -> Result<()> {
    let at = mount.at.key("destination");
    let name = mount.destination.to_string_lossy();
    let said = |errno: Errno| error!("{at}: /{name}: {}", words(errno));
    let found = beneath(root, &mount.destination).map_err(|missed| error!("{at}: /{name}: {missed}"))?;
    if found.fstype == "proc" {
        bail!("{at}: /{name}: a link leads inside /proc");
    }
    let target = found.file;
    // ORDER: after the target is open: its path may change, but the descriptor stays in this mount.
    let here = root.mountinfo().with_context(|| format!("{at}: read mountinfo"))?;
    let id = crate::sys::mount_id::mount_id(target.as_fd(), c"").map_err(said)?;
    if mountinfo::peer_group_of(&here, id).is_some_and(|group| of_host.is_none_or(|all| all.contains(&group))) {
        bail!("{at}: /{name}: the host shares the mount there: the new mount would appear on the host");
    }
    let both = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(&mount.tree, c"", &target, c"", both).map_err(said)
}

/// Unmounts the mounts of `known` that are at these destinations. Returns their ids.
///
/// # Errors
/// A destination has no such mount: then nothing is unmounted. Or the kernel's error.
pub fn unmount_added(namespace: &File, list: &[(At, CString)], known: &[MountId]) -> Result<Vec<MountId>> {
    let (proc, devices) = (HostProc::open().context("open /proc")?, host_devices()?);
    in_mounts(namespace, || {
        let root = root(&proc, devices)?;
        let mut found = Vec::new();
        for (at, path) in list {
            let said = |errno: Errno| error!("{at}: /{}: {}", path.to_string_lossy(), words(errno));
            let target = beneath(&root, path);
            let target = target.map_err(|missed| error!("{at}: /{}: {missed}", path.to_string_lossy()))?.file;
            let id = MountId::of(target.as_fd()).map_err(said)?;
            if !known.contains(&id) {
                bail!("{at}: /{}: `mounts add` has made no mount there", path.to_string_lossy());
            }
            if found.iter().any(|(_, _, other)| *other == id) {
                bail!("{at}: /{}: this mount is in the list already", path.to_string_lossy());
            }
            found.push((at, target, id));
        }
        // The last one first, because it may be in an earlier one.
        found.iter().rev().try_for_each(|(at, target, _)| {
            unmount(target.as_fd(), &proc).map_err(|errno| error!("{at}: umount2: {}", words(errno)))
        })?;
        Ok(found.into_iter().map(|(.., id)| id).collect())
    })
}

/// The root of the mount namespace that the calling thread is in.
fn root(proc: &HostProc, of_host: HashSet<String>) -> Result<ContainerRoot> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, c"/", flags, Mode::empty()).context("open the container's root")?;
    let tid = rustix::thread::gettid().as_raw_nonzero().get();
    let mounts = proc.open_of(tid, c"mountinfo").context("open mountinfo")?;
    Ok(ContainerRoot::with(root, mounts, of_host))
}

/// Opens the path without following links: a link of the image could lead to the root itself, or into /proc.
fn beneath(root: &ContainerRoot, path: &CStr) -> Result<FoundFile, Missed> {
    root.find(Path::new(OsStr::from_bytes(path.to_bytes())), Symlinks::Refused)
}

/// Unmounts by the path of the descriptor in /proc, because umount2(2) takes a path. Mounts below a shared tree of the host stay
/// on the host.
fn unmount(mount: BorrowedFd<'_>, proc: &HostProc) -> Result<(), Errno> {
    set_attributes(mount, &Attributes::propagating(libc::MS_PRIVATE), Reach::Tree)?;
    rustix::process::fchdir(proc.own_descriptors()?)?;
    let done = detach(DecInt::from_fd(mount).as_c_str());
    rustix::process::chdir(c"/")?;
    done
}
