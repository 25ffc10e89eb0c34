//! Makes the container's directory in one hierarchy. It gets the controllers of the levels above, and a type that
//! accepts processes.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::files::put;
use super::frozen;
use super::processes::SeenProcesses;
use super::refusal::Refusal;
use super::tree::Walk;
use crate::error::{Error, Result, bail, error};
use crate::plan::resources::{CgroupDirectory, Write};

/// The controllers that work with the threads of one process (cgroup-v2.rst, "Threads"). `cgroup` is not a controller:
/// every cgroup has its files.
const THREADED: [&str; 5] = ["cpu", "cpuset", "pids", "perf_event", "cgroup"];

/// Makes the directory, so that `writes` can be written there. An existing directory must be empty. Neither an existing
/// nor a new one may be frozen. Each new directory is added to `made`, also those above.
pub(super) fn make_directory(
    cgroup: &CgroupDirectory,
    writes: &[Write],
    made: &mut Vec<PathBuf>,
) -> Result<(), Refusal> {
    let failed = |error: io::Error| Refusal {
        errno: error.raw_os_error(),
        error: Error::from(error).context(format!("linux.cgroupsPath: mkdir {}", cgroup.directory.display())),
    };
    let mut created = fs::create_dir(&cgroup.directory);
    if created.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        make_levels_above(cgroup, made).map_err(failed)?;
        created = fs::create_dir(&cgroup.directory);
    }
    match created {
        Ok(()) => made.push(cgroup.directory.clone()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            must_be_unused(&cgroup.directory).map_err(|error| Refusal { errno: None, error })?;
        }
        Err(error) => return Err(failed(error)),
    }
    if let Some(unit) = &cgroup.unit {
        must_be_unused(unit).map_err(|error| Refusal { errno: None, error })?;
    }
    // ORDER: after mkdir(2). A new directory is frozen together with the one above it, and a process in it would never
    // begin.
    must_not_be_frozen(cgroup).map_err(|error| Refusal { errno: None, error })?;
    if cgroup.controllers.iter().any(|controller| controller == "cpuset") {
        copy_cpuset(cgroup).map_err(|error| Refusal {
            errno: error.raw_os_error(),
            error: Error::from(error)
                .context(format!("linux.cgroupsPath: set up cpuset of {}", cgroup.directory.display())),
        })?;
    }
    if cgroup.key.is_empty() {
        enable_controllers(cgroup, writes)?;
        accept_processes(cgroup, writes)?;
    }
    Ok(())
}

/// Makes the missing directories above. Another create may make them at the same time.
fn make_levels_above(cgroup: &CgroupDirectory, made: &mut Vec<PathBuf>) -> io::Result<()> {
    let missing: Vec<_> = cgroup.directory.ancestors().skip(1).take_while(|level| !level.exists()).collect();
    for level in missing.into_iter().rev() {
        match fs::create_dir(level) {
            Ok(()) => made.push(level.to_path_buf()),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The levels from the hierarchy's root down to the container's own directory, without the root.
fn levels(cgroup: &CgroupDirectory) -> Vec<PathBuf> {
    let below = cgroup.directory.strip_prefix(&cgroup.mount).unwrap_or(Path::new(""));
    let mut path = cgroup.mount.clone();
    below
        .components()
        .map(|part| {
            path.push(part);
            path.clone()
        })
        .collect()
}

/// A new cpuset has no CPUs and no memory nodes, and accepts no process. Each level gets the values of the level above.
pub(super) fn copy_cpuset(cgroup: &CgroupDirectory) -> io::Result<()> {
    for level in levels(cgroup) {
        let above = level.parent().unwrap_or(&cgroup.mount);
        for name in ["cpus", "mems"] {
            // With the mount option `noprefix`, the files of cpuset have these names.
            let file =
                if level.join(format!("cpuset.{name}")).exists() { format!("cpuset.{name}") } else { name.into() };
            if fs::read_to_string(level.join(&file))?.trim().is_empty() {
                put(&level.join(&file), fs::read_to_string(above.join(&file))?.trim())?;
            }
        }
    }
    Ok(())
}

/// The hierarchy's root, and the levels down to the directory above the container's own.
fn levels_above(cgroup: &CgroupDirectory) -> Vec<PathBuf> {
    let mut levels = levels(cgroup);
    levels.pop();
    levels.insert(0, cgroup.mount.clone());
    levels
}

/// Version 2: enables the controllers on every level. A unit's directory and those below it come later
/// (`enable_in_unit`): if a cgroup has enabled controllers, systemd cannot put a process there.
fn enable_controllers(cgroup: &CgroupDirectory, writes: &[Write]) -> Result<(), Refusal> {
    let mut levels = levels_above(cgroup);
    levels.retain(|level| cgroup.unit.as_ref().is_none_or(|unit| !level.starts_with(unit)));
    enable(&levels, writes)
}

/// Version 2: enables the controllers in the unit's directory, after its process has left it, and on the levels below.
pub(super) fn enable_in_unit(cgroup: &CgroupDirectory, writes: &[Write]) -> Result<(), Refusal> {
    let mut levels = levels_above(cgroup);
    levels.retain(|level| cgroup.unit.as_ref().is_some_and(|unit| level.starts_with(unit)));
    enable(&levels, writes)
}

/// Enables all controllers for the cgroups below each level. A controller may be missing (it is mounted as version 1). Only
/// a limit that needs it then fails, with its own message.
pub(super) fn enable(levels: &[PathBuf], writes: &[Write]) -> Result<(), Refusal> {
    for level in levels {
        let available = fs::read_to_string(level.join("cgroup.controllers")).unwrap_or_default();
        let enabled = fs::read_to_string(level.join("cgroup.subtree_control")).unwrap_or_default();
        let enabled: Vec<_> = enabled.split_whitespace().collect();
        let missing = available.split_whitespace().filter(|controller| !enabled.contains(controller));
        let (threaded, domain): (Vec<_>, Vec<_>) = missing.partition(|one| THREADED.contains(one));
        let try_enable = |controller: &str| put(&level.join("cgroup.subtree_control"), &format!("+{controller}"));
        let busy = |error: io::Error| error.raw_os_error() == Some(libc::EBUSY);
        // This level has processes, so it cannot enable these controllers. It can enable the others only if all cgroups
        // below it become threaded.
        let populated = domain.into_iter().fold(false, |so_far, one| so_far | try_enable(one).is_err_and(busy));
        if let Some(write) = domain_limit(writes).filter(|_| populated) {
            let (at, level) = (&write.at, level.display());
            let error =
                error!("{at}: controller {:?} not available: {level} has processes of its own", controller(write));
            return Err(Refusal { errno: None, error });
        }
        let helps = |one: &str| writes.iter().any(|write| controller(write) == one);
        threaded.into_iter().filter(|one| !populated || helps(one)).for_each(|one| drop(try_enable(one)));
    }
    Ok(())
}

fn controller(write: &Write) -> &str {
    write.file.split('.').next().unwrap_or_default()
}

/// A limit that a threaded cgroup cannot have.
fn domain_limit(writes: &[Write]) -> Option<&Write> {
    writes.iter().find(|write| write.controller.is_empty() && !THREADED.contains(&controller(write)))
}

/// Below a threaded cgroup, or one that has processes and has enabled controllers, a new cgroup accepts no process
/// until it becomes threaded as well (cgroup-v2.rst, "Threads"). As runc does, it becomes threaded, if all requested
/// limits work there.
fn accept_processes(cgroup: &CgroupDirectory, writes: &[Write]) -> Result<(), Refusal> {
    let kind = cgroup_type(&cgroup.directory);
    if !matches!(kind.as_str(), "threaded" | "domain invalid") {
        return Ok(());
    }
    if let Some(write) = domain_limit(writes) {
        let (at, controller, directory) = (&write.at, controller(write), cgroup.directory.display());
        let error = error!(
            "{at}: controller {controller:?} is for whole processes, and {directory} can only be threaded ({kind:?}), like a cgroup above it"
        );
        return Err(Refusal { errno: None, error });
    }
    if kind == "threaded" {
        return Ok(());
    }
    for level in levels(cgroup).iter().filter(|level| cgroup_type(level) == "domain invalid") {
        put(&level.join("cgroup.type"), "threaded").map_err(|error| Refusal {
            errno: error.raw_os_error(),
            error: Error::from(error).context(format!("linux.cgroupsPath: make {} threaded", level.display())),
        })?;
    }
    enable_controllers(cgroup, writes)
}

/// The contents of cgroup.type. The root has no such file.
fn cgroup_type(directory: &Path) -> String {
    fs::read_to_string(directory.join("cgroup.type")).unwrap_or_default().trim().to_owned()
}

fn must_not_be_frozen(cgroup: &CgroupDirectory) -> Result<()> {
    let has_freezer = cgroup.key.is_empty() || cgroup.controllers.iter().any(|controller| controller == "freezer");
    if !has_freezer || !frozen::directory_is_frozen(&cgroup.directory)? {
        return Ok(());
    }
    let by = frozen::frozen_above(&cgroup.directory).unwrap_or_else(|| cgroup.directory.clone());
    bail!("linux.cgroupsPath: container's cgroup unexpectedly frozen: {}", by.display())
}

fn must_be_unused(directory: &PathBuf) -> Result<()> {
    let there = SeenProcesses::read(Walk::short(), [directory]).all()?;
    if !there.is_empty() {
        let (directory, count) = (directory.display(), there.len());
        bail!("linux.cgroupsPath: container's cgroup is not empty: {count} process(es) found in {directory}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::Cgroup;
    use crate::host::Environment;
    use crate::plan::resources::{OnForbidden, Placement, WithoutCgroup};

    #[test]
    fn levels_that_we_made_are_removed_and_others_stay() {
        let hierarchy = tempfile::tempdir().unwrap();
        fs::create_dir(hierarchy.path().join("there")).unwrap();
        fs::write(hierarchy.path().join("file"), "").unwrap();
        let cgroup = |below: &str| CgroupDirectory {
            key: String::new(),
            mount: hierarchy.path().to_path_buf(),
            directory: hierarchy.path().join(below),
            controllers: Vec::new(),
            unit: None,
        };
        let placement = |places: &[&str]| {
            let directories = places.iter().map(|below| cgroup(below)).collect();
            Placement {
                directories,
                unit: None,
                without_cgroup: WithoutCgroup::Fails,
                on_forbidden_devices: OnForbidden::Fail,
                ..Placement::default()
            }
        };
        let create = |places: &[&str]| Cgroup::create(&placement(places), &[], &Environment::default());
        let said = create(&["there/a/b", "file/c"]).err().unwrap().to_string();
        assert!(said.contains("not a directory"), "{said}");
        assert!(!hierarchy.path().join("there/a").exists() && hierarchy.path().join("there").exists());
        create(&["there/a/b"]).unwrap();
        assert!(hierarchy.path().join("there/a/b").exists());
    }
}
