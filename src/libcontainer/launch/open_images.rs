//! The images of a container with a user namespace. CRIU's processes open them in that namespace. There they are not the host's
//! root, and only the host's root may search the directory. So they get the files in another directory: everybody may search it,
//! and only they see it.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::images::Directories;
use crate::error::{Context, Result, error};
use crate::sys::errno::in_words;
use crate::sys::mount::mount;

/// Options of the empty file system that gives the overlay its owner and mode.
const EMPTY: &std::ffi::CStr = c"mode=755,size=4k,nr_inodes=2";

/// Mounts the directory with another mode over itself, and opens it there. The caller is alone in its mount namespace.
///
/// # Errors
/// The kernel's error.
pub(super) fn search_by_all(path: &Path, directories: &mut Directories) -> Result<()> {
    let target = CString::new(path.as_os_str().as_bytes())?;
    let open = || File::open(path).with_context(|| format!("Images::new: open {}", path.display()));
    mount(c"tmpfs", &target, c"tmpfs", libc::MS_RDONLY, EMPTY).context("Images::new: mount a tmpfs")?;
    let empty = open()?;
    let layer = |file: &File| format!("/proc/self/fd/{}", file.as_raw_fd());
    let data = CString::new(format!("lowerdir={}:{}", layer(&empty), layer(&directories.images)))?;
    mount(c"overlay", &target, c"overlay", libc::MS_RDONLY, &data).map_err(|errno| {
        error!(
            "Images::new: mount an overlay, in which processes of a user namespace may read the images: {errno}",
            errno = in_words(&errno)
        )
    })?;
    directories.read_by_others(open()?);
    Ok(())
}
