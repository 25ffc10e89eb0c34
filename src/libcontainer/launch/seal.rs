//! The container can never write our binary (CVE-2019-5736): a process of it that becomes /proc/self/exe, by its name or
//! as an interpreter, must find a file there that cannot be opened for writing, now or when we are long gone.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use anyhow::{Result, anyhow, bail};
use rustix::fs::{CWD, MemfdFlags, Mode, OFlags, SealFlags, StatVfsMountFlags};
use rustix::io::Errno;
use rustix::mount::OpenTreeFlags;

use crate::plan::failure::words;
use crate::sys::exec::{Strings, execveat};
use crate::sys::image;
use crate::sys::mount::{Attributes, Reach, set_attributes};

const OWN: &std::ffi::CStr = c"/proc/self/exe";

/// That it is so: what may be launched is launched with this.
#[derive(Debug)]
pub struct Protected {
    /// The mount our program was mapped from anew, which it no longer needs. The kernel takes a mount apart when its last
    /// descriptor is closed, and that waits for all CPUs (synchronize_rcu_expedited): it is closed while init is at work.
    _mount: Option<OwnedFd>,
}

/// Makes sure of it, by running from a place that is read-only: a detached mount of the same file, which our program is
/// mapped from anew, in tens of microseconds. Where that is not allowed, or we are not alone in the program, we run
/// ourselves again from there; where we may not mount, from a sealed copy in memory. Returns when that is so already.
///
/// The detached mount is in no mount namespace; to change it one needs CAP_SYS_ADMIN over the host's, and with that the
/// host's disks are open anyway. Who is confined by less never has it.
///
/// # Errors
/// Neither way works.
pub fn protect() -> Result<Protected> {
    if is_protected()? {
        return Ok(Protected { _mount: None });
    }
    let own = match read_only_mount() {
        Ok(mount) => {
            if reopened(&mount).and_then(|file| image::take_from(file.as_fd())).is_ok() && is_protected()? {
                return Ok(Protected { _mount: Some(mount) });
            }
            mount
        }
        // no CAP_SYS_ADMIN, or an old kernel
        Err(_) => sealed_copy().map_err(|errno| anyhow!("sealed copy of our own binary: {}", words(errno)))?,
    };
    let args = strings(std::env::args_os().map(OsStringExt::into_vec))?;
    let env = strings(std::env::vars_os().map(|(name, value)| {
        let mut entry = name.into_vec();
        entry.push(b'=');
        entry.extend(value.into_vec());
        entry
    }))?;
    let errno = execveat(own.as_fd(), &args, &env);
    bail!("run our own binary again, protected: {}", words(errno))
}

fn strings(list: impl Iterator<Item = Vec<u8>>) -> Result<Strings> {
    Ok(Strings::of(list.map(CString::new).collect::<Result<Vec<_>, _>>()?))
}

/// True when the file we run from is on a read-only mount, or in memory and sealed.
fn is_protected() -> Result<bool> {
    let mount = rustix::fs::statvfs(OWN).map_err(|errno| anyhow!("statvfs of our own binary: {}", words(errno)))?;
    if mount.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Ok(true);
    }
    let sealed = rustix::fs::openat(CWD, OWN, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .and_then(rustix::fs::fcntl_get_seals);
    Ok(sealed.is_ok_and(|seals| seals.intersects(SealFlags::WRITE | SealFlags::FUTURE_WRITE)))
}

fn read_only_mount() -> Result<OwnedFd, Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount = rustix::mount::open_tree(CWD, OWN, flags)?;
    let attributes =
        Attributes { set: libc::MOUNT_ATTR_RDONLY, propagation: libc::MS_PRIVATE, ..Attributes::default() };
    set_attributes(mount.as_fd(), &attributes, Reach::One)?;
    Ok(mount)
}

/// A mount that is one file cannot be mapped: its file must be opened.
fn reopened(mount: &OwnedFd) -> Result<OwnedFd, Errno> {
    rustix::fs::open(format!("/proc/self/fd/{}", mount.as_raw_fd()), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

fn sealed_copy() -> Result<OwnedFd, Errno> {
    let own = rustix::fs::openat(CWD, OWN, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let copy = rustix::fs::memfd_create(c"coracle", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    while rustix::fs::sendfile(&copy, &own, None, 1 << 24)? > 0 {}
    let seals = SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    match rustix::fs::fcntl_add_seals(&copy, SealFlags::WRITE | seals) {
        // the kernel itself is still holding a page, as it may on a busy machine; nobody has a writable mapping, and nobody
        // gets one any more
        Err(Errno::BUSY) => rustix::fs::fcntl_add_seals(&copy, SealFlags::FUTURE_WRITE | seals)?,
        other => other?,
    }
    Ok(copy)
}
