//! Cgroups below others: the container's own below its unit's (`run.oci.systemd.subgroup`), and one below the container's own
//! that the container manages (`run.oci.delegate-cgroup`).

use std::fs;
use std::path::Path;

use super::files::put;
use super::{Cgroup, NEEDS_PERMISSION, make, owner};
use crate::error::{Context, Result, error};
use crate::plan::resources::{Delegated, Placement, Write};
use crate::sys::errno::in_words;

impl Cgroup {
    /// systemd has put process `pid` into the directory of the unit. If the container's directory is below it, moves the
    /// process there, and enables the controllers that the container's directory needs.
    ///
    /// # Errors
    /// The failed call, with the kernel's error.
    pub fn enter_below_unit(&self, placement: &Placement, writes: &[Write], pid: i32) -> Result<()> {
        for planned in placement.directories.iter().filter(|planned| planned.unit.is_some()) {
            let Some(directory) = self.paths.get(&planned.key) else { continue };
            let failed = |error| error!("linux.cgroupsPath: set up {}: {}", directory.display(), in_words(&error));
            // systemd removes empty directories if it first had to stop an older unit of this name.
            fs::create_dir_all(directory).map_err(failed)?;
            if planned.controllers.iter().any(|controller| controller == "cpuset") {
                make::copy_cpuset(planned).map_err(failed)?;
            }
            self.enter(&planned.key, pid)?;
            if planned.key.is_empty() {
                make::enable_in_unit(planned, writes).map_err(|refusal| refusal.error)?;
            }
        }
        Ok(())
    }

    /// Makes the cgroup below its own, moves process `pid` there, and delegates that cgroup to its owner.
    ///
    /// # Errors
    /// The failed call, with the kernel's error.
    pub fn delegate_below(&self, delegated: &Delegated, pid: i32) -> Result<()> {
        let at = &delegated.owner.at;
        let own = self.unified().ok_or_else(|| error!("{at}: {NEEDS_PERMISSION}"))?;
        let below = own.join(&delegated.below);
        fs::create_dir_all(&below).map_err(|error| error!("{at}: mkdir {}: {}", below.display(), in_words(&error)))?;
        let file = below.join("cgroup.procs");
        put(&file, &pid.to_string())
            .map_err(|error| error!("{at}: write {pid} to {}: {}", file.display(), in_words(&error)))?;
        // ORDER: after the process has left the cgroups above (cgroups(7), "no internal processes" rule).
        let above = below.ancestors().skip(1).take_while(|above| above.starts_with(own));
        let mut above: Vec<_> = above.map(Path::to_path_buf).collect();
        above.reverse();
        make::enable(&above, &[]).map_err(|refusal| refusal.error).with_context(|| at.to_string())?;
        owner::delegate(&below, &delegated.owner, pid)
    }
}
