//! The container's group in the resctrl file system at run time: made, joined, changed, removed. Runs in the runtime
//! process. The file system is the kernel's; tests have a directory that behaves like it.
//! KERNEL(4.10, 4.14): resctrl, and groups in it that count.

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

use crate::cgroup::{put, word};
use crate::error::{Context, Result, bail, error};
use crate::plan::resctrl::{Group, Owner, Schema};
use crate::wait::{self, limits};

const TASKS: &str = "tasks";
const SCHEMATA: &str = "schemata";

/// What is asked of the file system.
pub trait Tree: Debug {
    /// A group and its files.
    ///
    /// # Errors
    /// mkdir(2)'s.
    fn make(&self, directory: &Path) -> io::Result<()>;
    /// No group any more; its processes go to the one above.
    ///
    /// # Errors
    /// rmdir(2)'s.
    fn remove(&self, directory: &Path) -> io::Result<()>;
    /// One write(2) of all the text.
    ///
    /// # Errors
    /// What the kernel says of the text.
    fn write(&self, file: &Path, text: &str) -> io::Result<()>;
}

/// The kernel's.
#[derive(Clone, Copy, Debug)]
pub struct Kernel;

impl Tree for Kernel {
    fn make(&self, directory: &Path) -> io::Result<()> {
        fs::create_dir(directory)
    }

    fn remove(&self, directory: &Path) -> io::Result<()> {
        fs::remove_dir(directory)
    }

    fn write(&self, file: &Path, text: &str) -> io::Result<()> {
        put(file, text)
    }
}

/// The group of a container that is not there yet. Dropped, what was made for it is removed.
#[derive(Debug)]
pub struct Made<'t> {
    tree: &'t dyn Tree,
    made: Vec<(PathBuf, Owner)>,
}

/// Makes what `group` asks for, or finds it there as it should be.
///
/// # Errors
/// The property, what was tried, and the kernel's word; nothing stays behind.
pub fn make<'t>(group: &Group, tree: &'t dyn Tree) -> Result<Made<'t>> {
    let mut made = Made { tree, made: Vec::new() };
    // others may make the same group at this moment, and write its schemata next (resctrl.rst, "locking")
    let mount = File::open(&group.mount).with_context(|| format!("{}: open {}", group.at, group.mount.display()))?;
    if !wait::lock(mount.as_fd(), Instant::now() + limits::LOCK)? {
        bail!("{}: lock {}: somebody has held it for {} s", group.at, group.mount.display(), limits::LOCK.as_secs());
    }
    match group.owner {
        Owner::Container => {
            made.take(&group.directory, &group.at)?;
            write(&group.directory, &group.schemata, tree)?;
        }
        Owner::Everybody => made.share(group)?,
    }
    if let Some(monitoring) = &group.monitoring {
        if !group.directory.join("mon_groups").is_dir() {
            bail!("linux.intelRdt.enableMonitoring: nothing is counted on this machine: it has no mon_groups");
        }
        made.take(monitoring, &"linux.intelRdt.enableMonitoring")?;
    }
    Ok(made)
}

impl Made<'_> {
    /// A group without other processes: a new one, or one that a container of that name has left behind.
    fn take(&mut self, directory: &Path, at: &dyn std::fmt::Display) -> Result<()> {
        match self.tree.make(directory) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists && is_empty(directory) => {}
            Err(error) => bail!("{at}: mkdir {}: {}", directory.display(), said_by_kernel(directory, &error)),
        }
        self.made.push((directory.to_path_buf(), Owner::Container));
        Ok(())
    }

    /// A group that has a name of its own.
    fn share(&mut self, group: &Group) -> Result<()> {
        let directory = &group.directory;
        if group.schemata.is_empty() {
            return match directory.join(TASKS).exists() {
                true => Ok(()),
                false => {
                    bail!("{}: {} is missing, and config.json has no schema to make it", group.at, directory.display())
                }
            };
        }
        match self.tree.make(directory) {
            Ok(()) => {
                self.made.push((directory.clone(), Owner::Everybody));
                write(directory, &group.schemata, self.tree)
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => must_be_same(group),
            Err(error) => bail!("{}: mkdir {}: {}", group.at, directory.display(), said_by_kernel(directory, &error)),
        }
    }

    /// The container is there: its groups stay.
    pub fn keep(mut self) {
        self.made.clear();
    }
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        for (directory, owner) in self.made.iter().rev() {
            // somebody else may have joined it meanwhile
            if *owner == Owner::Container || is_empty(directory) {
                // the first failure is the one to report
                let _ = self.tree.remove(directory);
            }
        }
    }
}

fn is_empty(directory: &Path) -> bool {
    fs::read_to_string(directory.join(TASKS)).is_ok_and(|tasks| tasks.trim().is_empty())
}

fn write(directory: &Path, schemata: &[Schema], tree: &dyn Tree) -> Result<()> {
    let file = directory.join(SCHEMATA);
    schemata.iter().try_for_each(|Schema { line, at }| {
        tree.write(&file, &format!("{line}\n"))
            .map_err(|error| error!("{at}: write {line} to {}: {}", file.display(), said_by_kernel(directory, &error)))
    })
}

/// SPEC: a closID that is there with other schemata is an error.
fn must_be_same(group: &Group) -> Result<()> {
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

/// The kernel's word, and what it has to say beside it.
fn said_by_kernel(directory: &Path, error: &io::Error) -> String {
    let said = mount_of(directory).and_then(|mount| fs::read_to_string(mount.join("info/last_cmd_status")).ok());
    match said.as_deref().map(str::trim).filter(|said| !["", "ok"].contains(said)) {
        Some(said) => format!("{}: {said}", word(error)),
        None => word(error),
    }
}

/// Where the file system is mounted that a group is in: there is an `info` in it.
fn mount_of(directory: &Path) -> Option<&Path> {
    directory.ancestors().find(|path| path.join("info").is_dir())
}

/// Puts a process that has just been made into `groups`, one after the other; what it makes is spawned there.
///
/// # Errors
/// The file and the kernel's word.
pub fn join(groups: &[PathBuf], pid: i32, tree: &dyn Tree) -> Result<()> {
    for directory in groups {
        let file = directory.join(TASKS);
        match tree.write(&file, &pid.to_string()) {
            // it has ended; the wait for it reports how
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
            done => done.map_err(|error| {
                error!("linux.intelRdt: write {pid} to {}: {}", file.display(), said_by_kernel(directory, &error))
            })?,
        }
    }
    Ok(())
}

/// Removes groups, the last first. One that is gone is fine.
///
/// # Errors
/// The directory and the kernel's word.
pub fn remove(groups: &[PathBuf], tree: &dyn Tree) -> Result<()> {
    for directory in groups.iter().rev() {
        match tree.remove(directory) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                bail!("linux.intelRdt: rmdir {}: {}", directory.display(), said_by_kernel(directory, &error))
            }
            _ => {}
        }
    }
    Ok(())
}

/// Other schemata of a group, which can be undone.
#[derive(Debug)]
pub struct Changed {
    directory: PathBuf,
    before: Vec<Schema>,
}

/// Writes other schemata; none or all.
///
/// # Errors
/// Which could not be written, and the kernel's word.
pub fn change(directory: &Path, schemata: &[Schema], tree: &dyn Tree) -> Result<Changed> {
    let file = directory.join(SCHEMATA);
    let there = fs::read_to_string(&file).with_context(|| format!("linux.intelRdt: read {}", file.display()))?;
    let before = schemata.iter().filter_map(|Schema { line, at }| {
        let line = schema::line_of(schema::resource(line), &there)?.to_owned();
        Some(Schema { line, at: at.clone() })
    });
    let changed = Changed { directory: directory.to_path_buf(), before: before.collect() };
    match write(directory, schemata, tree) {
        Ok(()) => Ok(changed),
        Err(error) => Err(match changed.undo(tree) {
            Ok(()) => error,
            Err(more) => {
                let text = format!("{error}; and not all is as it was: {more}");
                error.reworded(text)
            }
        }),
    }
}

impl Changed {
    /// Writes what was there before.
    ///
    /// # Errors
    /// Which could not be written, and the kernel's word.
    pub fn undo(&self, tree: &dyn Tree) -> Result<()> {
        write(&self.directory, &self.before, tree)
    }
}
