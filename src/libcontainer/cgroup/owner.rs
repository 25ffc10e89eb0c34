//! Delegates the cgroup to the container (cgroup-v2.rst, "Delegation"). The owner of the directory, and of a few files
//! in it, makes cgroups below and moves processes among them. The limits stay with the host.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::chown;
use std::path::Path;

use super::Cgroup;
use crate::error::{Result, error};
use crate::host::id_map::host_id;
use crate::plan::resources::CgroupOwner;
use crate::sys::errno::in_words;

/// The files that are delegated, if /sys does not list them.
const FILES: &str = "cgroup.procs\ncgroup.threads\ncgroup.subtree_control\n";

impl Cgroup {
    /// Delegates the directory of version 2 to the user with id `uid` in the user namespace of process `pid`. As with runc,
    /// the group does not change.
    ///
    /// # Errors
    /// The file, and the kernel's error.
    pub fn delegate_to(&self, owner: &CgroupOwner, pid: i32) -> Result<()> {
        let Some(directory) = self.paths.get("").filter(|_| self.is_unified()) else { return Ok(()) };
        delegate(directory, owner, pid)
    }
}

/// The same for any directory of version 2.
pub(super) fn delegate(directory: &Path, owner: &CgroupOwner, pid: i32) -> Result<()> {
    // A container that joins a user namespace has that namespace's maps, which are not in config.json.
    let file = format!("/proc/{pid}/uid_map");
    let map = fs::read_to_string(&file).map_err(|error| error!("{}: read {file}: {}", owner.at, in_words(&error)))?;
    let Some(uid) = host_id(&map, owner.uid) else { return Ok(()) };
    let files = fs::read_to_string("/sys/kernel/cgroup/delegate").unwrap_or_else(|_| FILES.to_owned());
    change_owner(directory, uid, owner)?;
    files.lines().try_for_each(|file| change_owner(&directory.join(file), uid, owner))
}

fn change_owner(path: &Path, uid: u32, owner: &CgroupOwner) -> Result<()> {
    match chown(path, Some(uid), None) {
        Ok(()) => Ok(()),
        // Some cgroups lack a file: memory.oom.group needs a controller.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        // An ordinary user cannot change an owner, and config.json does not request it explicitly.
        Err(error) if error.kind() == ErrorKind::PermissionDenied && !rustix::process::geteuid().is_root() => Ok(()),
        Err(error) => Err(error!("{}: chown {} to {uid}: {}", owner.at, path.display(), in_words(&error))),
    }
}
