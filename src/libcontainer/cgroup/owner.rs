//! The container's cgroup in the hands of the container (cgroup-v2.rst, "Delegation"): who owns the directory and a few
//! files of it makes groups below and moves processes among them. The limits stay the host's.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::chown;
use std::path::Path;

use super::Cgroup;
use super::files::word;
use crate::error::{Result, error};
use crate::host::id_map::outside;
use crate::plan::resources::Owner;

/// The files that are handed over, where no /sys tells which they are.
const FILES: &str = "cgroup.procs\ncgroup.threads\ncgroup.subtree_control\n";

impl Cgroup {
    /// Gives the directory of version 2 to the user that process `pid` of the container knows by that id. As runc, the user
    /// alone: the group stays.
    ///
    /// # Errors
    /// The file and the kernel's word.
    pub fn hand_to(&self, owner: &Owner, pid: i32) -> Result<()> {
        let Some(directory) = self.paths.get("").filter(|_| self.is_unified()) else { return Ok(()) };
        // who joins a user namespace has its maps, which no config tells
        let file = format!("/proc/{pid}/uid_map");
        let map = fs::read_to_string(&file).map_err(|error| error!("{}: read {file}: {}", owner.at, word(&error)))?;
        let Some(uid) = outside(&map, owner.uid) else { return Ok(()) };
        let files = fs::read_to_string("/sys/kernel/cgroup/delegate").unwrap_or_else(|_| FILES.to_owned());
        give(directory, uid, owner)?;
        files.lines().try_for_each(|file| give(&directory.join(file), uid, owner))
    }
}

fn give(path: &Path, uid: u32, owner: &Owner) -> Result<()> {
    match chown(path, Some(uid), None) {
        Ok(()) => Ok(()),
        // not every group has every file: memory.oom.group needs a controller
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        // an ordinary user cannot give anything away, and config.json did not ask for it in so many words
        Err(error) if error.kind() == ErrorKind::PermissionDenied && !rustix::process::geteuid().is_root() => Ok(()),
        Err(error) => Err(error!("{}: chown {} to {uid}: {}", owner.at, path.display(), word(&error))),
    }
}
