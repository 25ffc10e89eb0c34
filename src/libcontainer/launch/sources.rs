//! The source of a bind mount. A source in the container's root may exist only through an earlier mount of the same
//! config.json. Init opens it at its step, in the root that it has mounted. All other sources are opened before the
//! fork.
//!
//! Links of the host are followed up to the root. A link of the image inside the root is an error: config.json names
//! the source, and the image must not redirect it.

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
use crate::sys::MAX_LINKS;
use crate::sys::mount::Reach;

const PATH_ONLY: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// The source of a bind mount in the plan.
pub(super) struct BindSource<'p> {
    pub(super) path: &'p Path,
    reach: Reach,
    ids: LateIds,
}

/// The file at a path.
enum SourceFile {
    /// A file of the host.
    Host(OwnedFd),
    /// A path in the container's root.
    Inside(CString),
}

/// The end of a path, after the host's links are followed.
#[derive(Debug, PartialEq)]
enum Leads {
    /// Into the container's root: the rest of the path there.
    Inside(PathBuf),
    /// Through the root and out again by `..`: to this path, which has no links.
    Through(PathBuf),
    /// Not into the root.
    Outside,
}

impl BindSource<'_> {
    pub(super) fn from_opening(opening: &Opening) -> Option<BindSource<'_>> {
        match opening {
            Opening::Source(path, reach, ids) => {
                let ids = if ids.is_some() { LateIds::Mapped } else { LateIds::Own };
                Some(BindSource { path, reach: *reach, ids })
            }
            Opening::Found(inner) => BindSource::from_opening(inner),
            _ => None,
        }
    }

    /// The file at the path, or a placeholder that keeps the slot of a source that init opens.
    ///
    /// # Errors
    /// Those of open(2).
    pub(super) fn open(&self, slot: Slot, root: Option<&Path>, late: &mut Vec<Late>) -> Result<OwnedFd, Errno> {
        match open_source(self.path, root)? {
            SourceFile::Host(file) => Ok(file),
            SourceFile::Inside(path) => {
                late.push(Late { slot, path, reach: self.reach, ids: self.ids });
                rustix::fs::openat(CWD, root.unwrap_or(Path::new("/")), PATH_ONLY, Mode::empty())
            }
        }
    }
}

/// The container's root as a path without links. None if a source cannot lie in it. If the root is `/`, every path is
/// on the host.
pub(super) fn root_of(plan: &Plan) -> Option<PathBuf> {
    plan.openings.iter().find(|(opening, _)| BindSource::from_opening(opening).is_some() || link(opening).is_some())?;
    let (opening, _) = plan.openings.get(plan.root?.0)?;
    let root = match opening {
        Opening::Directory(path) => std::fs::canonicalize(path).ok(),
        other => std::fs::canonicalize(other.path()?).ok(),
    };
    root.filter(|root| root != Path::new("/"))
}

/// The path of a source that is a link or a proc file system. It is opened before the fork.
pub(super) fn link(opening: &Opening) -> Option<&Path> {
    match opening {
        Opening::LinkTree(path, _) | Opening::ProcTree(path) => Some(path),
        Opening::Found(inner) => link(inner),
        _ => None,
    }
}

/// The directory of a source that is a link, if it is in the container's root. No link of the image is followed.
///
/// # Errors
/// Those of openat2(2). ELOOP for a link of the image.
pub(super) fn directory_of_link(path: &Path, root: Option<&Path>) -> Result<Option<OwnedFd>, Errno> {
    let (Some(root), Some(parent)) = (root, path.parent()) else { return Ok(None) };
    let directory = match leads(parent, root) {
        Leads::Inside(rest) => root.join(rest),
        Leads::Through(to) => to,
        Leads::Outside => return Ok(None),
    };
    let flags = PATH_ONLY | OFlags::DIRECTORY;
    rustix::fs::openat2(CWD, directory, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS).map(Some)
}

/// Opens `path`, if it is not in the container's root.
///
/// # Errors
/// Those of open(2).
fn open_source(path: &Path, root: Option<&Path>) -> Result<SourceFile, Errno> {
    let open = |how| rustix::fs::openat2(CWD, path, PATH_ONLY, Mode::empty(), how);
    let Some(root) = root else { return open(ResolveFlags::empty()).map(SourceFile::Host) };
    let climbs = path.components().any(|part| part == Component::ParentDir);
    if !climbs && !path.starts_with(root) {
        // Most paths have no link, and need no further check.
        if let Ok(file) = open(ResolveFlags::NO_SYMLINKS) {
            return Ok(SourceFile::Host(file));
        }
    }
    match leads(path, root) {
        Leads::Inside(rest) => {
            Ok(SourceFile::Inside(CString::new(rest.as_os_str().as_bytes()).map_err(|_| Errno::INVAL)?))
        }
        Leads::Through(to) => {
            rustix::fs::openat2(CWD, to, PATH_ONLY, Mode::empty(), ResolveFlags::NO_SYMLINKS).map(SourceFile::Host)
        }
        Leads::Outside => open(ResolveFlags::empty()).map(SourceFile::Host),
    }
}

fn leads(path: &Path, root: &Path) -> Leads {
    followed(path, root).unwrap_or(Leads::Outside)
}

/// Follows links up to the root. None for a path with magic links or too many links: the kernel decides.
fn followed(path: &Path, root: &Path) -> Option<Leads> {
    let mut here = PathBuf::from("/");
    let mut ahead: VecDeque<OsString> = components(path).collect();
    let (mut links, mut through) = (0, false);
    while let Some(part) = ahead.pop_front() {
        if part == ".." {
            here.pop();
            continue;
        }
        here.push(&part);
        // A magic link has no text that could be followed (proc_pid_fd(5)).
        if here.starts_with("/proc") {
            return None;
        }
        if here.starts_with(root) {
            through = true;
            continue;
        }
        if let Ok(to) = std::fs::read_link(&here) {
            links += 1;
            if links > MAX_LINKS {
                return None;
            }
            here = if to.is_absolute() { PathBuf::from("/") } else { here.parent()?.to_owned() };
            components(&to).rev().for_each(|part| ahead.push_front(part));
        }
    }
    Some(match here.strip_prefix(root) {
        Ok(rest) if rest.as_os_str().is_empty() => Leads::Inside(PathBuf::from(".")),
        Ok(rest) => Leads::Inside(rest.to_owned()),
        Err(_) if through => Leads::Through(here),
        Err(_) => Leads::Outside,
    })
}

/// The names of a path, and `..`. `.` and the root are left out.
pub(super) fn components(path: &Path) -> impl DoubleEndedIterator<Item = OsString> {
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
        let inside = |path: &str| Leads::Inside(path.into());
        let table = [
            ("rootfs/mnt/x", inside("mnt/x")),
            ("rootfs/out/passwd", inside("out/passwd")),
            ("alias/out/../a", inside("a")),
            ("dangling/y", inside("mnt/x/y")),
            ("rootfs", inside(".")),
            ("rootfs/../rootfs/a", inside("a")),
            ("rootfs/../other", Leads::Through(base.join("other"))),
            ("rootfs/out/../../other", Leads::Through(base.join("other"))),
            ("rootfs2", Leads::Outside),
            ("loop", Leads::Outside),
        ];
        for (path, wanted) in table {
            assert_eq!(leads(&base.join(path), &root), wanted, "{path}");
        }
        assert_eq!(leads(Path::new("/proc/self/root"), Path::new("/proc/self/root")), Leads::Outside);
    }
}
