//! A thread of ours in another namespace. The caller's threads stay where they are.

use std::fs::File;

use nix::sched::{CloneFlags, setns, unshare};

use crate::error::{Context, Result, error};
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
/// Those of `act`.
pub(super) fn by_a_thread<T: Send>(act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    wait::by_a_thread(act).map_err(|_| error!("a thread has panicked"))?
}
