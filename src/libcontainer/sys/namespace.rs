//! unshare(2), setns(2), ioctl_ns(2): makes namespaces, moves into them, and asks about them.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::{checked, owned};

/// The flags of namespaces. Others (CLONE_VM, CLONE_FILES) change what memory and descriptors mean.
const NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWTIME) as u64;

/// Checks that `flags` are flags of namespaces alone.
///
/// # Errors
/// `INVAL` for another flag.
fn must_be_namespaces(flags: u64) -> Result<(), Errno> {
    if flags & !NAMESPACES == 0 { Ok(()) } else { Err(Errno::INVAL) }
}

/// The same for clone(2), which reads the lowest byte as the exit signal. CLONE_NEWTIME is a bit of that byte.
///
/// # Errors
/// `INVAL` for another flag, and for CLONE_NEWTIME.
pub(super) fn must_be_of_clone(flags: u64) -> Result<(), Errno> {
    if flags & libc::CLONE_NEWTIME as u64 == 0 { must_be_namespaces(flags) } else { Err(Errno::INVAL) }
}

/// unshare(2) with CLONE_NEW* flags.
///
/// # Errors
/// Those of unshare(2); `INVAL` for a flag that is not one of a namespace.
pub fn unshare(flags: u64) -> Result<(), Errno> {
    must_be_namespaces(flags)?;
    // SAFETY: only namespace flags are passed, which touch no memory and no descriptor of ours.
    checked(unsafe { libc::syscall(libc::SYS_unshare, flags) }).map(drop)
}

/// setns(2): `fd` is a namespace file, or (Linux 5.8) a pidfd with several flags.
///
/// # Errors
/// Those of setns(2).
pub fn setns(fd: BorrowedFd<'_>, flags: u64) -> Result<(), Errno> {
    // SAFETY: plain integers; changes only which namespaces this thread uses.
    checked(unsafe { libc::syscall(libc::SYS_setns, fd.as_raw_fd(), flags) }).map(drop)
}

/// The user namespace that a namespace belongs to (ioctl_ns(2), NS_GET_USERNS).
///
/// # Errors
/// EPERM when it is outside of our own user namespace.
pub fn owner_of_namespace(fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    const NS_GET_USERNS: u64 = 0xb701;
    // SAFETY: the request takes no argument and returns a new descriptor.
    let owner = checked(unsafe { libc::syscall(libc::SYS_ioctl, fd.as_raw_fd(), NS_GET_USERNS) })?;
    // SAFETY: the kernel has just made this descriptor, and nothing else owns it.
    unsafe { owned(owner) }
}

/// The namespace above a user or pid namespace (ioctl_ns(2), NS_GET_PARENT).
///
/// # Errors
/// EPERM when it is outside of our own.
pub fn parent_of_namespace(fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    const NS_GET_PARENT: u64 = 0xb702;
    // SAFETY: the request takes no argument and returns a new descriptor.
    let parent = checked(unsafe { libc::syscall(libc::SYS_ioctl, fd.as_raw_fd(), NS_GET_PARENT) })?;
    // SAFETY: the kernel has just made this descriptor, and nothing else owns it.
    unsafe { owned(parent) }
}

/// The kind of namespace (CLONE_NEW*) that a file refers to (ioctl_ns(2), NS_GET_NSTYPE).
///
/// # Errors
/// ENOTTY when the file is not one of a namespace.
pub fn namespace_kind(fd: BorrowedFd<'_>) -> Result<u64, Errno> {
    const NS_GET_NSTYPE: u64 = 0xb703;
    // SAFETY: the request takes no argument and returns a plain number.
    let kind = checked(unsafe { libc::syscall(libc::SYS_ioctl, fd.as_raw_fd(), NS_GET_NSTYPE) })?;
    u64::try_from(kind).map_err(|_| Errno::INVAL)
}
