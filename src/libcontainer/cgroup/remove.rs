//! Removes a container's cgroup, with the cgroups that the container has made below it.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::files::wait_for;
use super::refusal::all_well;
use super::tree::{self, WalkEnd};
use super::{Cgroup, systemd};
use crate::error::{Context, Result, bail, error};
use crate::host::cgroups;
use crate::sys::kernel_file;

impl Cgroup {
    /// Removes its empty directories. False if one of them is not empty: on version 1, a process may be in only one hierarchy.
    pub fn remove_own_directories(&mut self) -> bool {
        let own = self.clone();
        let removed = |key: &str, directory: &Path| match fs::remove_dir(directory) {
            Err(error) => error.kind() == ErrorKind::NotFound && must_be_gone(key, directory).is_ok(),
            Ok(()) => true,
        };
        self.remove_each(|key, directory| {
            let outermost = own.outermost(directory);
            directory.ancestors().take_while(|level| level.starts_with(outermost)).all(|level| removed(key, level))
        })
    }

    /// The same, and also removes the empty directories that the container has made below.
    pub fn remove_with_directories_below(&mut self) -> bool {
        let own = self.clone();
        self.remove_each(|key, directory| remove(key, own.outermost(directory), &own.spared).unwrap_or(false))
    }

    /// If one of its directories stays, keeps all of them: a process of the container is in each of them.
    fn remove_each(&mut self, remove: impl Fn(&str, &Path) -> bool) -> bool {
        let each: Vec<_> = self.paths.iter().map(|(key, directory)| remove(key, directory)).collect();
        let all = each.into_iter().all(|removed| removed);
        if all {
            self.paths.clear();
        }
        all
    }

    /// Removes it from every hierarchy, with the cgroups that the container made below it. A missing directory is not
    /// an error. If one directory cannot be removed, all others are removed nevertheless.
    ///
    /// # Errors
    /// The directories that are still in use when the time is over, and those that the kernel refuses to remove.
    pub fn delete(&self) -> Result<()> {
        let stopped = self.unit.as_ref().map_or(Ok(()), |unit| systemd::stop(unit, &self.environment));
        // Each has the kernel's error, unless it is only in use.
        let outermost = self.paths.iter().map(|(key, directory)| (key, self.outermost(directory)));
        let mut left: Vec<_> = outermost.map(|directory| (directory, None)).collect();
        wait_for(|| {
            left.retain_mut(|((key, directory), refused)| match remove(key, directory, &self.spared) {
                Ok(removed) => !removed,
                Err(error) => {
                    *refused = Some(error);
                    true
                }
            });
            Ok(left.iter().all(|(_, refused)| refused.is_some()))
        })?;
        let named = left.into_iter().map(|((_, directory), refused)| {
            refused.unwrap_or_else(|| error!("it is still in use")).context(format!("remove {}", directory.display()))
        });
        all_well(named.collect()).and(stopped)
    }
}

/// Checks that a missing cgroup directory was removed: its hierarchy is mounted, or the kernel does not have the hierarchy
/// (any more). Otherwise the directory may exist, and we cannot see it.
///
/// # Errors
/// The kernel has the hierarchy, but the mount at that place is not a cgroup file system.
pub(super) fn must_be_gone(key: &str, directory: &Path) -> Result<()> {
    let above = directory.ancestors().find(|above| above.exists());
    if matches!(above.map(rustix::fs::statfs), Some(Ok(there)) if is_cgroup_file_system(&there)) {
        return Ok(());
    }
    let ours = kernel_file::read_lossy(Path::new("/proc/self/cgroup")).context("/proc/self/cgroup")?;
    if cgroups::has_hierarchy(&ours, key) {
        bail!("no cgroup file system is mounted there, so its processes cannot be seen");
    }
    Ok(())
}

/// True if statfs(2) returns the type of cgroup v1 or v2.
// The integer type differs between C libraries.
#[allow(clippy::unnecessary_cast, clippy::cast_sign_loss)]
pub(crate) fn is_cgroup_file_system(there: &rustix::fs::StatFs) -> bool {
    [libc::CGROUP_SUPER_MAGIC as u64, libc::CGROUP2_SUPER_MAGIC as u64].contains(&(there.f_type as u64))
}

/// Returns true if it is removed, false if it is still in use. The levels below are removed only if rmdir(2) fails,
/// and those in `spared` never.
fn remove(key: &str, directory: &Path, spared: &[PathBuf]) -> Result<bool> {
    match fs::remove_dir(directory) {
        Ok(()) => Ok(true),
        Err(error) => match error.raw_os_error() {
            Some(libc::ENOENT) => must_be_gone(key, directory).map(|()| true),
            // rmdir(2) returns this error before it looks up the name. So the directory may not exist, because it could not be
            // made there.
            Some(libc::EROFS) if !directory.exists() => Ok(true),
            Some(libc::EBUSY | libc::ENOTEMPTY) => {
                match tree::remove_below(directory, spared) {
                    // The next attempt has less to do.
                    Err(WalkEnd::TooMany) => Ok(false),
                    done => done.map(|()| fs::remove_dir(directory).is_ok()).map_err(|end| error!("{end}")),
                }
            }
            _ => Err(error.into()),
        },
    }
}
