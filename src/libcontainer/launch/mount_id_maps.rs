//! The id maps of a mount (mount_setattr(2), MOUNT_ATTR_IDMAP): those of a user namespace.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;

use super::launched::Launched;
use super::user_namespace::of_process;
use super::{failure, open};
use crate::error::{Result, error};
use crate::host::mountinfo::{self, Mount};
use crate::plan::step::Slot;
use crate::plan::{Mapped, Mapper};
use crate::sys::errno::{said_with, words};
use crate::sys::mount::{CANNOT_MAP, Reach, map_ids};
use crate::wire::{Failure, Words};

/// Maps the ids of a detached tree, which is a copy of the mounts at `source`.
///
/// # Errors
/// The kernel's error, and the file system that does not support mapped ids.
pub(super) fn map_tree(launched: &Launched<'_>, tree: &OwnedFd, source: &Path, mapped: Mapped) -> Result<()> {
    let inits;
    let namespace = match mapped.by {
        Mapper::Other(slot) => launched.opened.fd(slot)?,
        Mapper::Own => {
            inits = of_process(launched.child.pid)?;
            &inits
        }
    };
    map_ids(tree.as_fd(), namespace.as_fd(), mapped.reach).map_err(|errno| match errno {
        Errno::INVAL => {
            let who = who_cannot(source, namespace.as_fd(), mapped.reach);
            let who = who.map(|mount| format!(": {} on {}", mount.fstype, mount.path.display())).unwrap_or_default();
            error!(said_with(&format!("{CANNOT_MAP}{who}"), errno))
        }
        other => error!("{}", words(other)),
    })
}

/// Maps the ids of a tree whose source is in the container's root. Only init sees this source, and sends the copy.
///
/// # Errors
/// The kernel's error.
pub(super) fn map_sent_tree(launched: &Launched<'_>, mount: Option<OwnedFd>, mapped: Mapped) -> Result<()> {
    let mount = mount.ok_or_else(|| error!("init sent no mount"))?;
    // On the host its path leads elsewhere, so nothing is looked up there.
    map_tree(launched, &mount, Path::new(""), mapped)
}

/// The mount whose ids the kernel cannot map: the mount of `source` or, if the mounts below are mapped, too, one of them. This
/// tries each of them alone.
fn who_cannot(source: &Path, namespace: BorrowedFd<'_>, reach: Reach) -> Option<Mount> {
    let source = std::fs::canonicalize(source).ok()?;
    let mut mounts = mountinfo::all().ok()?;
    // The mount that covers it is the last one.
    let depth = |mount: &Mount| source.starts_with(&mount.path).then(|| mount.path.components().count());
    let (own, _) = mounts.iter().enumerate().max_by_key(|(_, mount)| depth(mount))?;
    let own = mounts.remove(own);
    let cannot = |path: &Path| {
        open::tree(path, Reach::One).is_ok_and(|one| map_ids(one.as_fd(), namespace, Reach::One) == Err(Errno::INVAL))
    };
    if cannot(&source) {
        return Some(own);
    }
    mounts.into_iter().find(|mount| reach == Reach::Tree && mount.path.starts_with(&source) && cannot(&mount.path))
}

/// Maps the ids of a new file system that init has made. The file system belongs to init's user namespace, and the maps to
/// one of ours. mount_setattr(2) accepts both only from a process with rights in a user namespace above them.
/// KERNEL(5.17) if init has a user namespace of its own.
///
/// # Errors
/// The error of init's step, which waits for this.
pub(super) fn map_new_file_system(launched: &Launched<'_>, mount: Option<OwnedFd>, namespace: Slot) -> Result<()> {
    let mount = mount.ok_or_else(|| error!("init sent no mount"))?;
    map_ids(mount.as_fd(), launched.opened.fd(namespace)?.as_fd(), Reach::One).map_err(|errno| {
        let said = if errno == Errno::INVAL { Words::of(CANNOT_MAP.as_bytes()) } else { Words::NONE };
        let step = launched.opened.page.step();
        failure::of_step(launched, &Failure { step, errno, said })
    })
}
