//! The container's cgroup at run time: made, entered, frozen, emptied, removed. Runs in the runtime process.

#[cfg(feature = "systemd")]
mod bus;
mod devices;
mod files;
mod freeze;
mod make;
pub mod oom;
mod owner;
mod processes;
pub mod stats;
#[cfg(feature = "systemd")]
pub mod systemd;
#[cfg(not(feature = "systemd"))]
#[path = "no_systemd.rs"]
pub mod systemd;
mod tree;
mod unit_name;
mod update;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};

use crate::error::{Context, Result, bail, error};
use crate::host::cgroups::{Cgroups, Unified, memberships};
use crate::plan::resources::{OnFailure, Placement, Refused, Write};
use crate::sys::text::keyed_number;

use files::{Refusal, event, gone, is_forbidden, must_fit, refused, remove, wait_for};

pub use crate::plan::resources::unit::Manager;
#[cfg(all(any(test, fuzzing), feature = "systemd"))]
pub(crate) use bus::hears as bus_hears;
pub use files::undone;
pub(crate) use files::{is_cgroup_file_system, put, word};
pub use unit_name::UnitName;
pub use update::{Change, Changed};

/// The message for an ordinary user who asks for more than permissions allow. Clients expect runc's words.
const NEEDS_PERMISSION: &str = "rootless needs no limits + no cgrouppath when no permission is granted for cgroups";

/// The directories of one container, by the keys of state.json's `cgroup_paths`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cgroup {
    paths: BTreeMap<String, PathBuf>,
    /// For each controller of version 1, the key of its directory.
    controllers: BTreeMap<String, String>,
    /// Where a further process goes on version 2 when the directory itself takes none any more.
    instead: Option<PathBuf>,
    /// The unit of systemd that it is.
    unit: Option<UnitName>,
    /// How often the kernel had killed for want of memory in the slice of the unit, before there was the unit.
    kills_before: Option<u64>,
}

impl Cgroup {
    /// The cgroup that a record tells of.
    pub fn open(paths: BTreeMap<String, PathBuf>, unit: Option<UnitName>) -> Cgroup {
        let controllers = paths.keys().map(|key| (key.clone(), key.clone())).collect();
        Cgroup { paths, controllers, unit, ..Cgroup::default() }
    }

    /// A record has one key for controllers that are mounted together; limits are for each of them.
    #[must_use]
    pub fn with_controllers(mut self, cgroups: &Cgroups) -> Cgroup {
        for hierarchy in &cgroups.v1 {
            let key = hierarchy.key();
            if self.paths.contains_key(&key) {
                for controller in &hierarchy.controllers {
                    self.controllers.entry(controller.clone()).or_insert_with(|| key.clone());
                }
            }
        }
        self
    }

    /// Where it is to be, before anything is made.
    pub fn at(placement: &Placement) -> Cgroup {
        let mut cgroup = Cgroup { unit: placement.unit.as_ref().map(UnitName::of), ..Cgroup::default() };
        for place in &placement.places {
            cgroup.paths.insert(place.key.clone(), place.directory.clone());
            for controller in &place.controllers {
                cgroup.controllers.insert(controller.clone(), place.key.clone());
            }
        }
        cgroup.kills_before = cgroup.kills_in_slice();
        cgroup
    }

    /// Version 2 counts in a directory what happens in all below it, those that are gone too. A slice that is not there yet has
    /// counted nothing.
    fn kills_in_slice(&self) -> Option<u64> {
        let name = Path::new(&self.unit.as_ref()?.name);
        // A container's directory may be one below its unit's
        let unit = self.paths.get("")?.ancestors().find(|above| above.file_name() == Some(name.as_os_str()))?;
        let slice = unit.parent()?;
        match fs::read_to_string(slice.join("memory.events")) {
            Err(error) if error.kind() == ErrorKind::NotFound && !slice.exists() => Some(0),
            text => keyed_number(&text.ok()?, "oom_kill"),
        }
    }

    /// Whether the kernel has killed for want of memory in the unit, whose cgroup is gone. None where its slice does not tell: version
    /// 1 counts in a directory what happens in it alone.
    pub fn unit_had_oom_kills(&self) -> Option<bool> {
        self.kills_before.zip(self.kills_in_slice()).map(|(before, now)| now > before)
    }

    /// The unit of systemd that it is, if it is one.
    pub fn unit(&self) -> Option<&UnitName> {
        self.unit.as_ref()
    }

    /// Its directories.
    pub fn paths(&self) -> &BTreeMap<String, PathBuf> {
        &self.paths
    }

    /// Makes the directories, such that `writes` can be written there. One that is there already must be empty and not frozen.
    ///
    /// # Errors
    /// What was tried, with the kernel's word; what was made is removed again.
    pub fn create(placement: &Placement, writes: &[Write]) -> Result<Cgroup> {
        let mut cgroup = Cgroup::at(placement);
        let mut made = Vec::new();
        for place in &placement.places {
            let Err(Refusal { errno, error }) = make::make(place, writes, &mut made) else { continue };
            let forbidden = is_forbidden(errno);
            if forbidden && placement.refused == Refused::None {
                cgroup.lacks(&place.key);
                continue;
            }
            // what was there before is not ours, nor what is not empty: rmdir(2) refuses that
            made.iter().rev().for_each(|directory| drop(fs::remove_dir(directory)));
            let because = forbidden && placement.refused == Refused::Told;
            let text = format!("{error}: {NEEDS_PERMISSION}");
            return Err(if because { error.reworded(text) } else { error });
        }
        Ok(cgroup)
    }

    /// It has no directory in that hierarchy.
    fn lacks(&mut self, key: &str) {
        self.paths.remove(key);
        self.controllers.retain(|_, there| there != key);
    }

    /// Whether there is a directory for every one of `writes`: an ordinary user's container may have had to do without.
    ///
    /// # Errors
    /// The property whose limit cannot be set.
    pub fn must_have_what(&self, writes: &[Write], placement: &Placement) -> Result<()> {
        let there = |write: &&Write| {
            let key = self.controllers.get(&write.controller).unwrap_or(&write.controller);
            self.paths.contains_key(key)
        };
        match writes.iter().find(|write| !there(write)) {
            Some(write) if self.paths.len() < placement.places.len() => bail!("{}: {NEEDS_PERMISSION}", write.at),
            _ => Ok(()),
        }
    }

    /// A container with groups below its own, whose controllers it has enabled there, has no place for a process in its own
    /// (cgroups(7), "no internal processes" rule): then a new process joins the cgroup of the process `pid`.
    #[must_use]
    pub fn or_where(mut self, pid: i32, unified: Option<&Unified>) -> Cgroup {
        let groups = crate::sys::text::lossy(Path::new(&format!("/proc/{pid}/cgroup"))).unwrap_or_default();
        let group = memberships(&groups)
            .find_map(|(controllers, path)| path.strip_prefix('/').filter(|_| controllers.is_empty()));
        // `..` is outside of what our own cgroup namespace shows
        let group = group.filter(|group| !group.split('/').any(|part| part == ".."));
        self.instead = unified.zip(group).map(|(unified, group)| unified.mount.join(group));
        self
    }

    /// The directories of version 2 in which clone3(2) may make the child (CLONE_INTO_CGROUP), the best first.
    pub fn clone_targets(&self) -> impl Iterator<Item = OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        self.paths
            .get("")
            .into_iter()
            .flat_map(|own| [Some(own), self.instead.as_ref()])
            .flatten()
            .filter_map(move |path| rustix::fs::openat(CWD, path, flags, Mode::empty()).ok())
    }

    /// The file of a hierarchy of version 1 through which a new process moves itself. A process that is moved (`cgroup.procs`)
    /// makes the kernel wait for an RCU grace period, 7 to 16 ms of idle waiting. A thread that moves itself (`0` in `tasks`)
    /// does not wait, and a process that has just been cloned is one thread.
    /// KERNEL(5.5): before, it waits as well.
    ///
    /// Version 2 has none; and what cannot be opened is met again, and told, by `enter`.
    pub fn tasks_file(&self, key: &str) -> Option<OwnedFd> {
        let directory = self.paths.get(key).filter(|_| !key.is_empty())?;
        rustix::fs::openat(CWD, directory.join("tasks"), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).ok()
    }

    /// Moves process `pid` into the directory of one hierarchy.
    ///
    /// # Errors
    /// The file and the kernel's word.
    pub fn enter(&self, key: &str, pid: i32) -> Result<()> {
        let Some(directory) = self.paths.get(key) else { return Ok(()) };
        let Err(error) = self.put_into(key, directory, pid) else { return Ok(()) };
        let refused = matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM));
        let failed =
            |error: io::Error| error!("write {pid} to {}: {}", directory.join("cgroup.procs").display(), word(&error));
        match &self.unit {
            // out of a session into the tree of the user's manager only systemd can move it, and there we can
            _ if refused && key.is_empty() && systemd::is_users(directory) => {
                systemd::bring_in(pid)?;
                self.put_into(key, directory, pid).map_err(failed)
            }
            Some(unit) if refused => systemd::attach(unit, pid),
            _ => Err(failed(error)),
        }
    }

    /// Where the directory has given its processes away to others below it, to the one that we have `instead`.
    fn put_into(&self, key: &str, directory: &Path, pid: i32) -> io::Result<()> {
        let put = |directory: &Path| put(&directory.join("cgroup.procs"), &pid.to_string());
        let instead = self.instead.as_ref().filter(|_| key.is_empty());
        put(directory).or_else(|error| match instead {
            Some(instead) if error.raw_os_error() == Some(libc::EBUSY) => put(instead).map_err(|_| error),
            _ => Err(error),
        })
    }

    /// Writes limits.
    ///
    /// # Errors
    /// The property, the file and the kernel's word.
    pub fn apply(&self, writes: &[Write]) -> Result<()> {
        self.write_all(writes).map_err(|refusal| refusal.error)
    }

    fn write_all(&self, writes: &[Write]) -> Result<(), Refusal> {
        // some values limit each other: which can be written first depends on the old values
        let mut again = Vec::new();
        for write in writes {
            match self.apply_one(write) {
                Err(Refusal { errno: Some(libc::EINVAL), .. }) if write.on_failure == OnFailure::AfterOthers => {
                    again.push(write);
                }
                done => done?,
            }
        }
        again.into_iter().try_for_each(|write| self.apply_one(write))
    }

    fn apply_one(&self, write: &Write) -> Result<(), Refusal> {
        let key = self.controllers.get(&write.controller).unwrap_or(&write.controller);
        let directory = self
            .paths
            .get(key)
            .ok_or_else(|| Refusal { errno: None, error: error!("{}: no cgroup of the controller {key}", write.at) })?;
        if let Some(limit) = write.unless_used {
            must_fit(write, limit, directory)?;
        }
        let error = match put(&directory.join(&write.file), &write.value) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let missing = error.kind() == ErrorKind::NotFound;
        match &write.on_failure {
            OnFailure::SkipMissing if missing => Ok(()),
            OnFailure::SkipForbidden if error.kind() == ErrorKind::PermissionDenied => Ok(()),
            OnFailure::Instead(file, value) if missing => {
                put(&directory.join(file), value).map_err(|error| refused(write, file, value, directory, &error))
            }
            OnFailure::Fail
            | OnFailure::SkipMissing
            | OnFailure::SkipForbidden
            | OnFailure::Instead(..)
            | OnFailure::AfterOthers => Err(refused(write, &write.file, &write.value, directory, &error)),
        }
    }

    /// Every process in it and below it.
    ///
    /// # Errors
    /// A directory that cannot be read, other than one that was removed.
    pub fn processes(&self) -> Result<Vec<i32>> {
        let Some((key, directory)) = self.main() else { return Ok(Vec::new()) };
        if !directory.exists() {
            gone(key, directory).with_context(|| format!("read processes of {}", directory.display()))?;
        }
        processes::of([directory])
    }

    /// Every process in any of its directories: one that was put into a single hierarchy of version 1 is not in the others.
    ///
    /// # Errors
    /// Those of `processes`.
    pub fn all_processes(&self) -> Result<Vec<i32>> {
        processes::of(self.paths.values())
    }

    /// The directory that stands for all: what is in one is in all.
    fn main(&self) -> Option<(&String, &PathBuf)> {
        ["pids", "devices", "memory", "freezer", "systemd", ""]
            .iter()
            .find_map(|key| self.paths.get_key_value(*key))
            .or_else(|| self.paths.iter().next())
    }

    /// Removes its directories, those in which nothing is. False when something is left: a process may be in one hierarchy of
    /// version 1 and in none of the others.
    pub fn remove_unused(&mut self) -> bool {
        let mut all = true;
        self.paths.retain(|_, directory| match fs::remove_dir(directory) {
            Ok(()) => false,
            Err(error) => {
                all &= error.kind() == ErrorKind::NotFound;
                true
            }
        });
        all
    }

    /// Kills every process in it, whatever they do meanwhile.
    ///
    /// # Errors
    /// The processes are still there after a while.
    pub fn kill(&self) -> Result<()> {
        if let Some(unified) = self.paths.get("").filter(|_| self.paths.len() == 1) {
            // KERNEL(5.14): cgroup.kill
            match put(&unified.join("cgroup.kill"), "1") {
                Ok(()) => return self.wait_until_empty(),
                // ENODEV: systemd has just removed it, because it had become empty
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(()),
                // EOPNOTSUPP: a threaded one
                Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) || error.kind() == ErrorKind::NotFound => {
                }
                Err(error) => return Err(error).with_context(|| format!("kill {}", unified.display())),
            }
        }
        // Without a freezer, or where some do not stop, they are killed as they run
        let _ = self.freeze();
        let killed = wait_for(|| processes::kill(self.paths.values()));
        self.thaw_all()?;
        killed.and_then(|_| self.wait_until_empty())
    }

    fn is_empty(&self) -> Result<bool> {
        match self.paths.get("").filter(|_| self.paths.len() == 1) {
            // the kernel counts what is below as well
            Some(unified) => event(&unified.join("cgroup.events"), "populated 1").map(|populated| !populated),
            None => self.all_processes().map(|pids| pids.is_empty()),
        }
    }

    fn wait_until_empty(&self) -> Result<()> {
        // version 1: what is frozen does not die before it thaws, and only the cgroup above can do that
        let frozen = || self.paths.get("freezer").and_then(|directory| files::frozen_above(directory));
        wait_for(|| Ok(self.is_empty()? || frozen().is_some()))?;
        if self.is_empty()? {
            return Ok(());
        }
        let processes = self.all_processes()?;
        match frozen() {
            Some(above) => {
                bail!("processes are still there: {processes:?}: the cgroup {} above is frozen", above.display())
            }
            None => bail!("processes are still there: {processes:?}"),
        }
    }

    /// Removes it from every hierarchy, with what the container made below it. A missing directory is not an error.
    ///
    /// # Errors
    /// It is still in use after a while.
    pub fn delete(&self) -> Result<()> {
        let stopped = self.unit.as_ref().map_or(Ok(()), systemd::stop);
        for (key, directory) in &self.paths {
            let gone =
                wait_for(|| remove(key, directory)).with_context(|| format!("remove {}", directory.display()))?;
            if !gone {
                bail!("remove {}: it is still in use", directory.display());
            }
        }
        stopped
    }

    /// How often the kernel has killed for want of memory in it.
    pub fn oom_kills(&self) -> Option<u64> {
        let (directory, file) = match self.paths.get("memory") {
            Some(directory) => (directory, "memory.oom_control"),
            None => (self.paths.get("")?, "memory.events"),
        };
        keyed_number(&fs::read_to_string(directory.join(file)).ok()?, "oom_kill")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kills_of_a_unit_that_is_gone_are_counted_by_its_slice() {
        let top = tempfile::tempdir().unwrap();
        let slice = top.path().join("system.slice");
        let place = |key: &str| [(key.to_owned(), slice.join("coracle-x.scope/own"))].into();
        let unit = UnitName { name: "coracle-x.scope".to_owned(), manager: Manager::System };
        let mut cgroup = Cgroup::open(place(""), Some(unit.clone()));
        cgroup.kills_before = cgroup.kills_in_slice();
        assert_eq!(cgroup.kills_before, Some(0), "there is no slice yet");
        assert_eq!(cgroup.unit_had_oom_kills(), Some(false));
        fs::create_dir(&slice).unwrap();
        assert_eq!(cgroup.unit_had_oom_kills(), None, "the slice has no memory controller");
        let counts = |kills: u32| fs::write(slice.join("memory.events"), format!("oom 9\noom_kill {kills}\n")).unwrap();
        counts(3);
        cgroup.kills_before = cgroup.kills_in_slice();
        assert_eq!((cgroup.kills_before, cgroup.unit_had_oom_kills()), (Some(3), Some(false)));
        counts(4);
        assert_eq!(cgroup.unit_had_oom_kills(), Some(true));
        assert_eq!(Cgroup::open(place("memory"), Some(unit)).kills_in_slice(), None, "version 1");
        assert_eq!(Cgroup::open(place(""), None).kills_in_slice(), None, "not a unit");
    }
}
