//! Checks that no other user can put a container into our root, or another directory at its path.

use std::path::Path;

use rustix::fs::{FileType, Mode};
use rustix::io::Errno;

use crate::error::{Result, bail, error};
use crate::sys::errno::in_words;

/// The conditions under which others may write a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writable {
    /// Never.
    Never,
    /// Only with the sticky bit (inode(7)), which prevents them from replacing our entries. Root may always write it.
    IfSticky,
    /// The same, and the group may write it, too: it is often the user's own group.
    ForGroup,
}

/// Checks that no other user can put another directory at `path`, by renaming one of the directories above.
pub(super) fn must_stay_in_place(path: &Path) -> Result<()> {
    must_be_safe(path, Writable::IfSticky)?;
    // We make a missing directory later.
    let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    real.ancestors().skip(1).try_for_each(|above| must_be_safe(above, Writable::ForGroup))
}

/// Checks that the directory at `path` fulfils `may`. A missing directory is not an error: we make it later.
pub(super) fn must_be_safe(path: &Path, may: Writable) -> Result<()> {
    let stat = match rustix::fs::lstat(path) {
        Err(Errno::NOENT) => return Ok(()),
        stat => stat.map_err(|errno| error!("{}: {errno}", path.display(), errno = in_words(&errno)))?,
    };
    let (mode, own) = (Mode::from_raw_mode(stat.st_mode), rustix::process::geteuid().as_raw());
    let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    let others = mode.intersects(if may == Writable::ForGroup { Mode::WOTH } else { Mode::WGRP | Mode::WOTH });
    let (owner, writable) = match may {
        Writable::Never if !is_directory => bail!("{} is not a directory", path.display()),
        Writable::Never => (stat.st_uid == own, others),
        // The owner of a link decides where it leads.
        Writable::IfSticky | Writable::ForGroup => (
            [own, 0].contains(&stat.st_uid) || !is_our_namespaces(stat.st_uid),
            is_directory && others && !mode.contains(Mode::SVTX),
        ),
    };
    if !owner {
        bail!("{} belongs to uid {}, and must belong to uid {own}", path.display(), stat.st_uid);
    }
    if writable {
        bail!("{} can be written by others (mode {:o})", path.display(), stat.st_mode & 0o7777);
    }
    Ok(())
}

/// False for the uid that represents all uids without a mapping in our user namespace. The host's root is one of them.
fn is_our_namespaces(uid: u32) -> bool {
    let overflow =
        std::fs::read_to_string("/proc/sys/kernel/overflowuid").ok().and_then(|text| text.trim().parse().ok());
    uid != overflow.unwrap_or(65534)
}
