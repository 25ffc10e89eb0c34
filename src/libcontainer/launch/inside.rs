//! A thread of ours in another namespace. The caller's threads stay where they are.

#[cfg(feature = "checkpoint")]
use std::ffi::CStr;
use std::fs::File;

use nix::sched::{CloneFlags, setns, unshare};

use crate::error::{Context, Result};
#[cfg(feature = "checkpoint")]
use crate::sys::mount::{mount, set_propagation};
use crate::wait;

/// Calls `act` in a network namespace.
///
/// # Errors
/// The namespace cannot be entered, or those of `act`.
pub(super) fn in_network<T: Send>(namespace: &File, act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    by_a_thread(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).context("setns network")?;
        act()
    })
}

/// Calls `act` in a mount namespace. Its root and its current directory are those of the namespace.
///
/// # Errors
/// The namespace cannot be entered, or those of `act`.
pub(super) fn in_mounts<T: Send>(namespace: &File, act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    by_a_thread(move || {
        // A thread enters a mount namespace only with a root and a current directory of its own.
        unshare(CloneFlags::CLONE_FS).context("unshare")?;
        setns(namespace, CloneFlags::CLONE_NEWNS).context("setns mnt")?;
        act()
    })
}

/// Calls `act` in a new thread, and waits for its end. A signal or a `Stop` ends its waits as it would end those of this thread.
///
/// # Errors
/// The kernel makes no thread, or those of `act`.
fn by_a_thread<T: Send>(act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    wait::by_a_thread(act).context("thread")?
}

/// Calls `act` in the mount namespace of process `pid`.
///
/// # Errors
/// The namespace cannot be entered, or those of `act`.
#[cfg(feature = "checkpoint")]
pub(super) fn in_mounts_of<T: Send>(pid: i32, act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let (namespace, path) = open(pid, "mnt")?;
    in_mounts(&namespace, act).with_context(|| path)
}

/// Calls `act` in the network namespace of process `pid`.
///
/// # Errors
/// The namespace cannot be entered, or those of `act`.
#[cfg(feature = "checkpoint")]
pub(super) fn in_network_of<T: Send>(pid: i32, act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    in_network(&open(pid, "net")?.0, act)
}

/// Opens a namespace of a process, and returns its path, too.
#[cfg(feature = "checkpoint")]
fn open(pid: i32, name: &str) -> Result<(File, String)> {
    let path = format!("/proc/{pid}/ns/{name}");
    let namespace = File::open(&path).with_context(|| format!("open {path}"))?;
    Ok((namespace, path))
}

/// Calls `act` in a new mount namespace: a copy of ours with the tree at `tree` bound at `place`. The namespace exists
/// while a process or an open file of `act` needs it.
///
/// # Errors
/// The kernel's error, or those of `act`.
#[cfg(feature = "checkpoint")]
pub(super) fn with_bound<T: Send>(
    tree: &CStr,
    mount_point: &CStr,
    act: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    let enter = move || {
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS).context("unshare the mount namespace")?;
        // ORDER: these mounts must not propagate to the host.
        set_propagation(c"/", libc::MS_REC | libc::MS_SLAVE).context("make all mounts slaves")?;
        let bound = mount(tree, mount_point, c"", libc::MS_BIND | libc::MS_REC, c"");
        bound.with_context(|| format!("bind {} at {}", tree.to_string_lossy(), mount_point.to_string_lossy()))?;
        act()
    };
    by_a_thread(enter)
}
