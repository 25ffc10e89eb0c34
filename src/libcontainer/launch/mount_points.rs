//! The mount points of a restored container. CRIU makes mounts, but no mount points. This makes the missing ones as `create` has
//! made them: in the root on the host, or in the trees that are bound there.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::error::{Context, Result, error};
use crate::plan::images::{Filled, MountPoint, containing_mount};
use crate::plan::step::Missing;
use crate::sys::errno::words;

const IN_ROOT: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

/// Makes the missing mount points in `root`.
///
/// # Errors
/// The path, and the kernel's error.
pub(super) fn make(root: &Path, points: &[MountPoint]) -> Result<()> {
    for (n, point) in points.iter().enumerate() {
        let path = PathBuf::from(std::ffi::OsStr::from_bytes(point.target.path.to_bytes()));
        let (base, rest) = match containing_mount(points, n) {
            Some(MountPoint { filled: Filled::Yes, .. }) => continue,
            Some(MountPoint { target, source: Some(source), .. }) => {
                let above = Path::new(std::ffi::OsStr::from_bytes(target.path.to_bytes()));
                (source.as_path(), path.strip_prefix(above).unwrap_or(&path))
            }
            Some(MountPoint { source: None, .. }) | None => (root, path.as_path()),
        };
        make_one(base, rest, kind(point))
            .with_context(|| format!("make the mount point /{} in {}", path.display(), base.display()))?;
    }
    Ok(())
}

/// The kind of file that is made for it: a regular file or a directory.
fn kind(point: &MountPoint) -> FileType {
    match (&point.target.missing, &point.source) {
        (Missing::File, _) => FileType::RegularFile,
        (Missing::LikeSource(_), Some(source)) if !source.is_dir() => FileType::RegularFile,
        (Missing::LikeSource(_) | Missing::Directory, _) => FileType::Directory,
    }
}

/// Makes a file of this kind at `path` below `base`, and the directories above it. A file that exists stays.
fn make_one(base: &Path, path: &Path, kind: FileType) -> Result<()> {
    let said = |errno: Errno| error!("{}", words(errno));
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let base = rustix::fs::openat(CWD, base, flags, Mode::empty()).map_err(said)?;
    let open = |path: &Path, flags| rustix::fs::openat2(&base, path, flags, Mode::empty(), IN_ROOT);
    match open(path, OFlags::PATH | OFlags::CLOEXEC) {
        Ok(_) => return Ok(()),
        Err(Errno::NOENT) => {}
        Err(errno) => return Err(said(errno)),
    }
    let mut whole = PathBuf::new();
    let mut parent: OwnedFd = open(Path::new("."), flags).map_err(said)?;
    let parts: Vec<_> = path.components().collect();
    for (n, part) in parts.iter().enumerate() {
        whole.push(part);
        let name = CString::new(part.as_os_str().as_bytes()).map_err(|_| error!("a NUL byte"))?;
        let last = n + 1 == parts.len();
        let made = if last && kind == FileType::RegularFile {
            let new = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            rustix::fs::openat(&parent, name.as_c_str(), new, Mode::from_raw_mode(0o644)).map(drop)
        } else {
            rustix::fs::mkdirat(&parent, name.as_c_str(), Mode::from_raw_mode(0o755))
        };
        match made {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(said(errno)),
        }
        if !last {
            // Resolved from the root again: a name may be a link, which is followed inside the root.
            parent = open(&whole, flags).map_err(said)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::step::{Last, Slot, Target};

    #[test]
    fn missing_directories_are_made_in_the_root_and_in_bind_mounts() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        let volume = directory.path().join("volume");
        std::fs::create_dir_all(root.join("real")).unwrap();
        std::fs::create_dir(&volume).unwrap();
        std::os::unix::fs::symlink("/real", root.join("link")).unwrap();
        std::os::unix::fs::symlink("/../../volume", root.join("out")).unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "").unwrap();
        let point = |path: &str, source: Option<&Path>, filled| MountPoint {
            target: Target {
                path: CString::new(path).unwrap(),
                missing: Missing::LikeSource(Slot(0)),
                last: Last::Any,
            },
            source: source.map(Path::to_path_buf),
            filled,
        };
        let points = [
            point("dev", None, Filled::Yes),
            point("dev/pts", None, Filled::Yes),
            point("a/data", Some(&volume), Filled::No),
            point("a/data/deep/file", Some(&file), Filled::No),
            point("link/x", Some(&volume), Filled::No),
            point("out", Some(&volume), Filled::No),
            point("etc/hosts", Some(&file), Filled::No),
        ];
        // The link leads to a missing file, or out of the root: nothing is made there.
        assert!(make(&root, &points).is_ok());
        assert!(make(&root, &points).is_ok());
        assert!(root.join("dev").is_dir() && !root.join("dev/pts").exists());
        assert!(root.join("a/data").is_dir() && !root.join("a/data/deep").exists());
        assert!(volume.join("deep/file").is_file());
        assert!(root.join("real/x").is_dir() && root.join("etc/hosts").is_file());
    }
}
