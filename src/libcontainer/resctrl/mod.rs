//! The container's group in the resctrl file system at run time: makes, joins, changes and removes it. Runs in the
//! runtime process. The file system is the kernel's. Tests have a directory that behaves like it.
//! KERNEL(4.10, 4.14): resctrl, and monitoring groups.

mod schema;
pub mod stats;
#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::cgroup::{put, undone};
use crate::error::{Context, Result, bail, error};
use crate::plan::resctrl::{GroupOwner, ResctrlGroup, Schema};
use crate::sys::errno::in_words;
use crate::wait::{self, limits};

const TASKS: &str = "tasks";
const SCHEMATA: &str = "schemata";

/// The calls that a resctrl file system supports.
pub trait ResctrlFs: Debug {
    /// Makes a group and its files.
    ///
    /// # Errors
    /// Those of mkdir(2).
    fn mkdir(&self, directory: &Path) -> io::Result<()>;
    /// Removes a group. Its processes go to the group above.
    ///
    /// # Errors
    /// Those of rmdir(2).
    fn rmdir(&self, directory: &Path) -> io::Result<()>;
    /// Writes the whole text in one write(2).
    ///
    /// # Errors
    /// The kernel's error.
    fn write(&self, file: &Path, text: &str) -> io::Result<()>;
}

/// The kernel's resctrl.
#[derive(Clone, Copy, Debug)]
pub struct Kernel;

impl ResctrlFs for Kernel {
    fn mkdir(&self, directory: &Path) -> io::Result<()> {
        fs::create_dir(directory)
    }

    fn rmdir(&self, directory: &Path) -> io::Result<()> {
        fs::remove_dir(directory)
    }

    fn write(&self, file: &Path, text: &str) -> io::Result<()> {
        put(file, text)
    }
}

/// The group of a container that does not exist yet. Drop removes what was made for it.
#[derive(Debug)]
pub struct MadeGroup<'t> {
    resctrl: &'t dyn ResctrlFs,
    made: Vec<(PathBuf, GroupOwner)>,
}

/// Makes the group of `group`, or checks an existing one.
///
/// # Errors
/// The property, the call, and the kernel's error. Nothing remains.
pub fn make<'t>(group: &ResctrlGroup, resctrl: &'t dyn ResctrlFs) -> Result<MadeGroup<'t>> {
    let mut made = MadeGroup { resctrl, made: Vec::new() };
    // Others may make the same group at this moment, and write its schemata next (resctrl.rst, "locking").
    let mount = File::open(&group.mount).with_context(|| format!("{}: open {}", group.at, group.mount.display()))?;
    if !wait::lock(mount.as_fd(), Instant::now() + limits::LOCK)? {
        bail!(
            "{}: lock {}: another process has held it for {} s",
            group.at,
            group.mount.display(),
            limits::LOCK.as_secs()
        );
    }
    match group.owner {
        GroupOwner::Container => {
            made.make_own(&group.directory, &group.at)?;
            write_schemata(&group.directory, &group.schemata, resctrl)?;
        }
        GroupOwner::Everybody => made.make_shared(group)?,
    }
    if let Some(monitoring) = &group.monitoring {
        if !group.directory.join("mon_groups").is_dir() {
            bail!("linux.intelRdt.enableMonitoring: this machine cannot monitor: it has no mon_groups");
        }
        made.make_own(monitoring, &"linux.intelRdt.enableMonitoring")?;
    }
    Ok(made)
}

impl MadeGroup<'_> {
    /// Makes a group without processes: a new one, or one that a container with that name has left behind.
    fn make_own(&mut self, directory: &Path, at: &dyn std::fmt::Display) -> Result<()> {
        match self.resctrl.mkdir(directory) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists && is_empty(directory) => {}
            Err(error) => bail!("{at}: mkdir {}: {}", directory.display(), said_by_kernel(directory, &error)),
        }
        self.made.push((directory.to_path_buf(), GroupOwner::Container));
        Ok(())
    }

    /// Makes the group that `closID` names, or checks an existing one.
    fn make_shared(&mut self, group: &ResctrlGroup) -> Result<()> {
        let directory = &group.directory;
        if group.schemata.is_empty() {
            return match directory.join(TASKS).exists() {
                true => Ok(()),
                false => {
                    bail!("{}: {} is missing, and config.json has no schema to make it", group.at, directory.display())
                }
            };
        }
        match self.resctrl.mkdir(directory) {
            Ok(()) => {
                self.made.push((directory.clone(), GroupOwner::Everybody));
                write_schemata(directory, &group.schemata, self.resctrl)
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => must_be_same(group),
            Err(error) => bail!("{}: mkdir {}: {}", group.at, directory.display(), said_by_kernel(directory, &error)),
        }
    }

    /// The container exists: its groups stay.
    pub fn keep(mut self) {
        self.made.clear();
    }
}

impl Drop for MadeGroup<'_> {
    fn drop(&mut self) {
        for (directory, owner) in self.made.iter().rev() {
            // Another process may have joined it since.
            if *owner == GroupOwner::Container || is_empty(directory) {
                // The first failure is reported.
                let _ = self.resctrl.rmdir(directory);
            }
        }
    }
}

fn is_empty(directory: &Path) -> bool {
    fs::read_to_string(directory.join(TASKS)).is_ok_and(|tasks| tasks.trim().is_empty())
}

/// Writes each of the schemata.
fn write_schemata(directory: &Path, schemata: &[Schema], resctrl: &dyn ResctrlFs) -> Result<()> {
    let file = directory.join(SCHEMATA);
    schemata.iter().try_for_each(|Schema { line, at }| {
        resctrl
            .write(&file, &format!("{line}\n"))
            .map_err(|error| error!("{at}: write {line} to {}: {}", file.display(), said_by_kernel(directory, &error)))
    })
}

/// SPEC: an existing closID with other schemata is an error.
fn must_be_same(group: &ResctrlGroup) -> Result<()> {
    let file = group.directory.join(SCHEMATA);
    let there = fs::read_to_string(&file).with_context(|| format!("{}: read {}", group.at, file.display()))?;
    let granularity = fs::read_to_string(group.mount.join("info/MB/bandwidth_gran")).unwrap_or_default();
    let lines: Vec<_> = group.schemata.iter().map(|schema| schema.line.as_str()).collect();
    match schema::first_difference(&lines, &there, granularity.trim().parse().ok()) {
        None => Ok(()),
        Some(n) => {
            let Schema { line, at } = &group.schemata[n];
            let has = schema::line_of(schema::resource(line), &there).unwrap_or("nothing of that kind");
            bail!("{at}: {line} is requested, but {} has the schemata {has}", group.directory.display())
        }
    }
}

/// The kernel's error, and the text of last_cmd_status.
fn said_by_kernel(directory: &Path, error: &io::Error) -> String {
    let said = mount_of(directory).and_then(|mount| fs::read_to_string(mount.join("info/last_cmd_status")).ok());
    match said.as_deref().map(str::trim).filter(|said| !["", "ok"].contains(said)) {
        Some(said) => format!("{}: {said}", in_words(error)),
        None => in_words(error),
    }
}

/// The mount of the file system that contains a group. Its root has an `info`.
fn mount_of(directory: &Path) -> Option<&Path> {
    directory.ancestors().find(|path| path.join("info").is_dir())
}

/// Puts a new process into `groups`, one after the other. Its children are then made there.
///
/// # Errors
/// The file, and the kernel's error.
pub fn join(groups: &[PathBuf], pid: i32, resctrl: &dyn ResctrlFs) -> Result<()> {
    for directory in groups {
        let file = directory.join(TASKS);
        match resctrl.write(&file, &pid.to_string()) {
            // The process has ended. The wait for it reports how.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
            done => done.map_err(|error| {
                error!("linux.intelRdt: write {pid} to {}: {}", file.display(), said_by_kernel(directory, &error))
            })?,
        }
    }
    Ok(())
}

/// Removes groups, the last first. A missing one is not an error.
///
/// # Errors
/// The directory, and the kernel's error.
pub fn remove(groups: &[PathBuf], resctrl: &dyn ResctrlFs) -> Result<()> {
    for directory in groups.iter().rev() {
        match resctrl.rmdir(directory) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                bail!("linux.intelRdt: rmdir {}: {}", directory.display(), said_by_kernel(directory, &error))
            }
            _ => {}
        }
    }
    Ok(())
}

/// New schemata of a group, which can be undone.
#[derive(Debug)]
pub struct ChangedSchemata {
    directory: PathBuf,
    before: Vec<Schema>,
}

/// Writes the new schemata: all or none.
///
/// # Errors
/// The schemata that could not be written, and the kernel's error.
pub fn change(directory: &Path, schemata: &[Schema], resctrl: &dyn ResctrlFs) -> Result<ChangedSchemata> {
    let file = directory.join(SCHEMATA);
    let there = fs::read_to_string(&file).with_context(|| format!("linux.intelRdt: read {}", file.display()))?;
    let before = schemata.iter().filter_map(|Schema { line, at }| {
        let line = schema::line_of(schema::resource(line), &there)?.to_owned();
        Some(Schema { line, at: at.clone() })
    });
    let changed = ChangedSchemata { directory: directory.to_path_buf(), before: before.collect() };
    match write_schemata(directory, schemata, resctrl) {
        Ok(()) => Ok(changed),
        Err(error) => Err(undone(error, changed.undo(resctrl))),
    }
}

impl ChangedSchemata {
    /// Writes the former schemata.
    ///
    /// # Errors
    /// The schemata that could not be written, and the kernel's error.
    pub fn undo(&self, resctrl: &dyn ResctrlFs) -> Result<()> {
        write_schemata(&self.directory, &self.before, resctrl)
    }
}
