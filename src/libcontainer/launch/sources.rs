//! The source of a bind mount. What lies in the container's root may be there only through an earlier mount of the same
//! config.json: init opens it when its turn comes, in the root that it has mounted. Everything else is opened before the fork.
//!
//! The image's links decide what is found inside the root, and the host's links what is found outside. So a path is followed
//! here up to the root, and init follows the rest inside: no link of the image leads out to the host.

use std::collections::VecDeque;
use std::ffi::{CString, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::init::{Late, LateIds};
use crate::plan::step::Slot;
use crate::plan::{Opening, Plan};
use crate::sys::mount::Reach;

/// As many links as the kernel itself follows.
const MAX_LINKS: u32 = 40;
const PLACE: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// The source of a bind mount, as the plan has it.
pub(super) struct Source<'p> {
    pub(super) path: &'p Path,
    reach: Reach,
    ids: LateIds,
}

/// What is at a path.
enum Found {
    /// A file of the host's.
    Host(OwnedFd),
    /// A place in the container's root.
    Inside(CString),
}

impl Source<'_> {
    pub(super) fn of(opening: &Opening) -> Option<Source<'_>> {
        match opening {
            Opening::Source(path, reach, ids) => {
                let ids = if ids.is_some() { LateIds::Mapped } else { LateIds::Own };
                Some(Source { path, reach: *reach, ids })
            }
            Opening::Found(inner) => Source::of(inner),
            _ => None,
        }
    }

    /// The file at the path, or one that keeps the number for what init opens.
    ///
    /// # Errors
    /// Those of open(2).
    pub(super) fn open(&self, slot: Slot, root: Option<&Path>, late: &mut Vec<Late>) -> Result<OwnedFd, Errno> {
        match find(self.path, root)? {
            Found::Host(file) => Ok(file),
            Found::Inside(path) => {
                late.push(Late { slot, path, reach: self.reach, ids: self.ids });
                rustix::fs::openat(CWD, root.unwrap_or(Path::new("/")), PLACE, Mode::empty())
            }
        }
    }
}

/// The container's root as a path without links; nothing where no source could lie in it.
pub(super) fn root_of(plan: &Plan) -> Option<PathBuf> {
    plan.openings.iter().find_map(|(opening, _)| Source::of(opening))?;
    let (opening, _) = plan.openings.get(plan.root?.0)?;
    match opening {
        Opening::Directory(path) => std::fs::canonicalize(path).ok(),
        other => std::fs::canonicalize(other.path()?).ok(),
    }
}

/// Opens what is at `path`, if it is not in the container's root.
///
/// # Errors
/// Those of open(2).
fn find(path: &Path, root: Option<&Path>) -> Result<Found, Errno> {
    let open = |how| rustix::fs::openat2(CWD, path, PLACE, Mode::empty(), how);
    let Some(root) = root else { return open(ResolveFlags::empty()).map(Found::Host) };
    let climbs = path.components().any(|part| part == Component::ParentDir);
    if !climbs && !path.starts_with(root) {
        // most paths have no link, and then they say where they lead
        if let Ok(file) = open(ResolveFlags::NO_SYMLINKS) {
            return Ok(Found::Host(file));
        }
    }
    match inside(path, root) {
        Some(rest) => Ok(Found::Inside(CString::new(rest.as_os_str().as_bytes()).map_err(|_| Errno::INVAL)?)),
        None => open(ResolveFlags::empty()).map(Found::Host),
    }
}

/// The rest of `path` behind the container's root, where it leads there. Links are followed up to the root.
fn inside(path: &Path, root: &Path) -> Option<PathBuf> {
    let mut at = PathBuf::from("/");
    let mut ahead: VecDeque<OsString> = parts(path).collect();
    let mut links = 0;
    while let Some(part) = ahead.pop_front() {
        if part == ".." {
            at.pop();
            continue;
        }
        at.push(&part);
        // magic links have no text that could be followed (proc_pid_fd(5))
        if at.starts_with("/proc") {
            return None;
        }
        if at.starts_with(root) {
            continue;
        }
        if let Ok(to) = std::fs::read_link(&at) {
            links += 1;
            if links > MAX_LINKS {
                return None;
            }
            at = if to.is_absolute() { PathBuf::from("/") } else { at.parent()?.to_owned() };
            parts(&to).rev().for_each(|part| ahead.push_front(part));
        }
    }
    let rest = at.strip_prefix(root).ok()?;
    Some(if rest.as_os_str().is_empty() { PathBuf::from(".") } else { rest.to_owned() })
}

fn parts(path: &Path) -> impl DoubleEndedIterator<Item = OsString> {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn the_hosts_links_are_followed_up_to_the_root_and_the_images_are_left() {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().canonicalize().unwrap();
        let root = base.join("rootfs");
        std::fs::create_dir_all(root.join("mnt")).unwrap();
        symlink("/etc", root.join("out")).unwrap();
        symlink("rootfs", base.join("alias")).unwrap();
        symlink(root.join("mnt/x"), base.join("dangling")).unwrap();
        symlink("loop", base.join("loop")).unwrap();
        let table = [
            ("rootfs/mnt/x", Some("mnt/x")),
            ("rootfs/out/passwd", Some("out/passwd")),
            ("alias/out/../a", Some("a")),
            ("dangling/y", Some("mnt/x/y")),
            ("rootfs", Some(".")),
            ("rootfs/../rootfs/a", Some("a")),
            ("rootfs/../other", None),
            ("rootfs2", None),
            ("loop", None),
        ];
        for (path, wanted) in table {
            assert_eq!(inside(&base.join(path), &root).as_deref(), wanted.map(Path::new), "{path}");
        }
        assert_eq!(inside(Path::new("/proc/self/root"), Path::new("/proc/self/root")), None);
    }
}
