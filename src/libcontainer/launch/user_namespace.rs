//! A user namespace without processes, from which a mount gets its id maps (mount_setattr(2), MOUNT_ATTR_IDMAP).

use std::os::fd::OwnedFd;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;

use super::child::Child;
use super::id_maps;
use crate::config::At;
use crate::error::{Context, Result};
use crate::host::Environment;
use crate::plan::IdMaps;
use crate::sys::clone::{clone, exit};
use crate::sys::host_proc::HostProc;

const NEWUSER: u64 = libc::CLONE_NEWUSER as u64;

/// Makes a user namespace with these maps. `at` is the place of the mount in config.json.
///
/// # Errors
/// The map that the kernel refused, and its error.
pub(super) fn with_maps(proc: &HostProc, maps: &IdMaps, at: &At, environment: &Environment) -> Result<OwnedFd> {
    let child = waiting_child().with_context(|| format!("{at}: clone user"))?;
    id_maps::write(proc, child.0.pid, maps, at, environment)?;
    of_process(child.0.pid).with_context(|| at.to_string())
}

/// A child in a new user namespace, and our end of a pipe. The child ends when our end is closed. If we end, the
/// kernel closes it.
fn waiting_child() -> Result<(Child, Option<OwnedFd>), Errno> {
    let (theirs, ours) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let mut ours = Some(ours);
    let (pid, pidfd) = clone(NEWUSER, None, |_| {
        drop(ours.take());
        while rustix::io::read(&theirs, &mut [0u8; 1]) == Err(Errno::INTR) {}
        exit(0)
    })?;
    Ok((Child::new(pid, pidfd), ours))
}

/// The user namespace of a process.
pub(super) fn of_process(pid: i32) -> Result<OwnedFd> {
    let path = format!("/proc/{pid}/ns/user");
    rustix::fs::openat(CWD, &path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .with_context(|| format!("open {path}"))
}
