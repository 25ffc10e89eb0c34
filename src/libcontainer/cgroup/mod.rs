//! The container's cgroup at run time: makes it, enters it, and writes its limits. Runs in the runtime process.

mod below;
#[cfg(feature = "systemd")]
mod bus;
#[cfg(feature = "systemd")]
mod bus_sockets;
mod devices;
mod files;
mod freeze;
mod frozen;
mod kill;
mod listing;
mod make;
pub mod oom;
mod owner;
mod processes;
mod refusal;
mod remove;
mod rights;
pub mod stats;
#[cfg(feature = "systemd")]
pub mod systemd;
#[cfg(not(feature = "systemd"))]
#[path = "no_systemd.rs"]
pub mod systemd;
mod tree;
mod unit_name;
#[cfg(feature = "systemd")]
mod unit_values;
mod update;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};

use crate::error::{Error, Result, bail, error};
use crate::host::Environment;
use crate::host::cgroups::{Cgroups, Unified};
use crate::plan::resources::{OnFailure, Placement, WithoutCgroup, Write};
use crate::sys::kernel_file::{self, keyed_number};

use files::must_fit;
use refusal::{Refusal, is_forbidden, refused};

pub use crate::plan::resources::unit::Manager;
#[cfg(all(any(test, fuzzing), feature = "systemd"))]
pub(crate) use bus::read_bytes as bus_reads;
pub(crate) use files::put;
pub use freeze::is_frozen;
pub use frozen::{frozen_by, frozen_on_version_1};
pub use processes::with_names;
pub use refusal::{never, page_sizes, undone};
pub(crate) use remove::is_cgroup_file_system;
pub use unit_name::UnitName;
pub use update::LimitChange;

/// The message for an ordinary user who requests more than the permissions allow. Clients expect runc's words.
const NEEDS_PERMISSION: &str = "rootless needs no limits + no cgrouppath when no permission is granted for cgroups";

/// The directories of one container, by the keys of state.json's `cgroup_paths`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cgroup {
    paths: BTreeMap<String, PathBuf>,
    /// For each controller of version 1: the key of its directory.
    controllers: BTreeMap<String, String>,
    /// Version 2: the directory for a new process, if the container's own directory does not accept one any more.
    instead: Option<PathBuf>,
    /// Its systemd unit.
    unit: Option<UnitName>,
    /// Where the user's systemd is.
    environment: Environment,
    /// Directories below that belong to other containers: their processes stay.
    spared: Vec<PathBuf>,
    /// The OOM kills in the unit's slice before the unit was started.
    kills_before: Option<Kills>,
}

/// The OOM kills that a slice has counted. systemd removes a slice with its last unit, and the next slice of this name
/// begins with 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kills {
    count: u64,
    /// The inode of the slice's directory. None if the directory does not exist.
    slice: Option<u64>,
}

impl Cgroup {
    /// The cgroup of a record.
    pub fn recorded(paths: BTreeMap<String, PathBuf>, unit: Option<UnitName>, environment: &Environment) -> Cgroup {
        let controllers = paths.keys().map(|key| (key.clone(), key.clone())).collect();
        Cgroup {
            paths,
            controllers,
            instead: None,
            unit,
            environment: environment.clone(),
            spared: Vec::new(),
            kills_before: None,
        }
    }

    /// A record has one key for controllers that are mounted together. Limits need one key for each.
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

    /// The cgroup that will be made.
    pub fn placed(placement: &Placement, environment: &Environment) -> Cgroup {
        let unit = placement.unit.as_ref().map(UnitName::from);
        let mut cgroup = Cgroup::recorded(BTreeMap::new(), unit, environment);
        for planned in &placement.directories {
            cgroup.paths.insert(planned.key.clone(), planned.directory.clone());
            for controller in &planned.controllers {
                cgroup.controllers.insert(controller.clone(), planned.key.clone());
            }
        }
        cgroup.kills_before = cgroup.kills_in_slice();
        cgroup
    }

    /// A directory of version 2 counts the events of all cgroups below it, also of removed ones.
    fn kills_in_slice(&self) -> Option<Kills> {
        self.unit.as_ref()?;
        let slice = self.outermost(self.paths.get("")?).parent()?;
        match fs::read_to_string(slice.join("memory.events")) {
            Err(error) if error.kind() == ErrorKind::NotFound && !slice.exists() => {
                Some(Kills { count: 0, slice: None })
            }
            text => {
                let count = keyed_number(&text.ok()?, "oom_kill")?;
                Some(Kills { count, slice: fs::metadata(slice).ok().map(|slice| slice.ino()) })
            }
        }
    }

    /// True if the OOM killer has killed a process of the unit whose cgroup was removed. None if nothing has the count: the
    /// slice was removed, too, or it is a directory of version 1, which counts only its own events.
    pub fn unit_had_oom_kills(&self) -> Option<bool> {
        let (before, now) = self.kills_before.zip(self.kills_in_slice())?;
        let earlier = if before.slice == Some(now.slice?) { before.count } else { 0 };
        Some(now.count > earlier)
    }

    /// Its systemd unit, if it has one.
    pub fn unit(&self) -> Option<&UnitName> {
        self.unit.as_ref()
    }

    /// Its directories.
    pub fn paths(&self) -> &BTreeMap<String, PathBuf> {
        &self.paths
    }

    /// The directory of its unit, if `directory` is below it: everything there belongs to the container. Otherwise `directory`.
    fn outermost<'p>(&self, directory: &'p Path) -> &'p Path {
        self.unit.as_ref().map_or(directory, |unit| unit.outermost(directory))
    }

    /// Its directories, and that of its unit instead of one below it.
    pub fn outermost_paths(&self) -> BTreeMap<String, PathBuf> {
        self.paths.iter().map(|(key, directory)| (key.clone(), self.outermost(directory).to_path_buf())).collect()
    }

    /// Makes the directories, so that `writes` can be written there. An existing directory must be empty and not
    /// frozen.
    ///
    /// # Errors
    /// The failed call, with the kernel's error. Everything that was made is removed again.
    pub fn create(placement: &Placement, writes: &[Write], environment: &Environment) -> Result<Cgroup> {
        let mut cgroup = Cgroup::placed(placement, environment);
        let mut made = Vec::new();
        for planned in &placement.directories {
            let Err(Refusal { errno, error }) = make::make_directory(planned, writes, &mut made) else { continue };
            let forbidden = is_forbidden(errno);
            if forbidden && placement.without_cgroup == WithoutCgroup::Runs {
                cgroup.forget(&planned.key);
                continue;
            }
            // A directory that existed before is not ours, and one that is not empty must stay: rmdir(2) refuses it.
            made.iter().rev().for_each(|directory| drop(fs::remove_dir(directory)));
            let because = forbidden && placement.without_cgroup == WithoutCgroup::FailsWithAdvice;
            let text = format!("{error}: {NEEDS_PERMISSION}");
            return Err(if because { error.reworded(text) } else { error });
        }
        Ok(cgroup)
    }

    /// It has no directory in that hierarchy.
    fn forget(&mut self, key: &str) {
        self.paths.remove(key);
        self.controllers.retain(|_, there| there != key);
    }

    /// Checks that each of `writes` has a directory. The container of an ordinary user may have none.
    ///
    /// # Errors
    /// The property of a limit that cannot be set.
    pub fn must_have_directories_for(&self, writes: &[Write], placement: &Placement) -> Result<()> {
        match writes.iter().find(|write| self.directory_of(&write.controller).is_none()) {
            Some(write) if self.paths.len() < placement.directories.len() => bail!("{}: {NEEDS_PERMISSION}", write.at),
            _ => Ok(()),
        }
    }

    /// If a container has enabled controllers for the cgroups below its own, its own cgroup accepts no processes
    /// (cgroups(7), "no internal processes" rule). A new process then enters the cgroup of the process `pid`.
    #[must_use]
    pub fn or_that_of(mut self, pid: i32, unified: Option<&Unified>) -> Cgroup {
        let path = frozen::path_of_process(pid, "");
        self.instead = unified.zip(path).map(|(unified, path)| unified.mount.join(path));
        self
    }

    /// The directories of version 2 into which clone3(2) may put the child (CLONE_INTO_CGROUP), the best first.
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
    /// Version 2 has no such file. If the file cannot be opened, `enter` gets and reports the same error.
    pub fn tasks_file(&self, key: &str) -> Option<OwnedFd> {
        let directory = self.paths.get(key).filter(|_| !key.is_empty())?;
        rustix::fs::openat(CWD, directory.join("tasks"), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).ok()
    }

    /// Moves process `pid` into the directory of one hierarchy.
    ///
    /// # Errors
    /// The file, and the kernel's error.
    pub fn enter(&self, key: &str, pid: i32) -> Result<()> {
        let Some(directory) = self.paths.get(key) else { return Ok(()) };
        let Err(error) = self.put_into(key, directory, pid) else { return Ok(()) };
        let refused = matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM));
        let failed = |error: io::Error| {
            Error::from(error).context(format!("write {pid} to {}", directory.join("cgroup.procs").display()))
        };
        match &self.unit {
            // Only systemd can move a process out of a session into the tree of the user's manager. There we can move
            // it further.
            _ if refused && key.is_empty() && systemd::is_of_user_manager(directory) => {
                systemd::move_to_user_manager(pid, &self.environment)?;
                self.put_into(key, directory, pid).map_err(failed)
            }
            Some(unit) if refused => systemd::attach(unit, pid, &self.environment),
            _ => Err(failed(error)),
        }
    }

    /// If the directory has enabled controllers for cgroups below it, the process enters the cgroup `instead`.
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
    /// The property, the file, and the kernel's error.
    pub fn apply(&self, writes: &[Write]) -> Result<()> {
        self.write_all(writes).map_err(|refusal| refusal.error)
    }

    fn write_all(&self, writes: &[Write]) -> Result<(), Refusal> {
        // Some values limit each other. The old values decide which can be written first.
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
        let Some(directory) = self.directory_of(&write.controller) else {
            let key = self.controllers.get(&write.controller).unwrap_or(&write.controller);
            return Err(Refusal { errno: None, error: error!("{}: no cgroup of the controller {key}", write.at) });
        };
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

    /// Its directory in the hierarchy with this controller. The name is empty for version 2.
    fn directory_of(&self, controller: &str) -> Option<&PathBuf> {
        self.paths.get(self.controllers.get(controller).map_or(controller, String::as_str))
    }

    /// Its directory, if only version 2 is mounted.
    fn unified(&self) -> Option<&PathBuf> {
        self.paths.get("").filter(|_| self.paths.len() == 1)
    }

    /// True if only version 2 is mounted.
    fn is_unified(&self) -> bool {
        self.unified().is_some()
    }

    /// The main directory: every process of the container is in it.
    fn main_directory(&self) -> Option<(&String, &PathBuf)> {
        ["pids", "devices", "memory", "freezer", "systemd", ""]
            .iter()
            .find_map(|key| self.paths.get_key_value(*key))
            .or_else(|| self.paths.iter().next())
    }

    /// The number of OOM kills in it.
    pub fn oom_kills(&self) -> Option<u64> {
        let (directory, file) = match self.paths.get("memory") {
            Some(directory) => (directory, "memory.oom_control"),
            None => (self.paths.get("")?, "memory.events"),
        };
        let file = directory.join(file);
        keyed_number(&rights::restoring(&file, || kernel_file::read_lossy(&file)).ok()?, "oom_kill")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kills_of_a_unit_that_is_gone_are_counted_by_its_slice() {
        let top = tempfile::tempdir().unwrap();
        let slice = top.path().join("system.slice");
        let paths = |key: &str| [(key.to_owned(), slice.join("coracle-x.scope/own"))].into();
        let unit = UnitName { name: "coracle-x.scope".to_owned(), manager: Manager::System };
        let open = |paths, unit| Cgroup::recorded(paths, unit, &Environment::default());
        let mut cgroup = open(paths(""), Some(unit.clone()));
        let counted = |cgroup: &Cgroup| cgroup.kills_in_slice().map(|kills| kills.count);
        cgroup.kills_before = cgroup.kills_in_slice();
        assert_eq!(counted(&cgroup), Some(0), "the slice does not exist yet");
        assert_eq!(cgroup.unit_had_oom_kills(), None, "the slice was removed");
        fs::create_dir(&slice).unwrap();
        assert_eq!(cgroup.unit_had_oom_kills(), None, "the slice has no memory controller");
        let counts = |kills: u32| fs::write(slice.join("memory.events"), format!("oom 9\noom_kill {kills}\n")).unwrap();
        counts(1);
        assert_eq!(cgroup.unit_had_oom_kills(), Some(true), "the slice is new");
        counts(3);
        cgroup.kills_before = cgroup.kills_in_slice();
        assert_eq!((counted(&cgroup), cgroup.unit_had_oom_kills()), (Some(3), Some(false)));
        counts(4);
        assert_eq!(cgroup.unit_had_oom_kills(), Some(true));
        fs::rename(&slice, top.path().join("removed")).unwrap();
        assert_eq!(cgroup.unit_had_oom_kills(), None, "it was removed with the unit");
        fs::create_dir(&slice).unwrap();
        counts(1);
        assert_eq!(cgroup.unit_had_oom_kills(), Some(true), "another slice of this name has counted one");
        assert_eq!(counted(&open(paths("memory"), Some(unit))), None, "version 1");
        assert_eq!(counted(&open(paths(""), None)), None, "not a unit");
    }
}
