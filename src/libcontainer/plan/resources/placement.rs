//! `linux.cgroupsPath`: the directories of the container's cgroups, and their owner.

use std::path::{Path, PathBuf};

use super::unit::{self, Manager, Unit};
use crate::config::{At, Faults};
use crate::host::cgroups::{Cgroups, Hierarchy};
use crate::plan::values::inside;

/// One directory of the container in one hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupDirectory {
    /// Its name in state.json: a controller, `systemd`, or the empty text for version 2.
    pub key: String,
    /// The mount point of the hierarchy.
    pub mount: PathBuf,
    /// The container's directory in the hierarchy.
    pub directory: PathBuf,
    /// The controllers of the hierarchy (version 1).
    pub controllers: Vec<String>,
    /// The directory of the systemd unit, if the container's directory is below it.
    pub unit: Option<PathBuf>,
}

/// The container's directories in all hierarchies.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Placement {
    /// One for each hierarchy.
    pub directories: Vec<CgroupDirectory>,
    /// The systemd unit of these directories.
    pub unit: Option<Unit>,
    /// What happens if the runtime may not make them.
    pub without_cgroup: WithoutCgroup,
    /// What happens if the runtime may not restrict devices.
    pub on_forbidden_devices: OnForbidden,
    /// The user who becomes the owner of the directory of version 2.
    pub owner: Option<CgroupOwner>,
    /// The cgroup below, where its processes begin.
    pub delegated: Option<Delegated>,
}

/// The user who becomes the owner of the container's directory of version 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupOwner {
    /// The uid in the container.
    pub uid: u32,
    /// The mount that shows the cgroup in the container.
    pub at: At,
}

/// A cgroup below the container's own, without limits of the runtime. The container manages it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delegated {
    /// Its path below the container's own cgroup.
    pub below: PathBuf,
    /// The user who becomes its owner.
    pub owner: CgroupOwner,
}

/// What happens if the runtime may not make a cgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WithoutCgroup {
    /// The container fails.
    #[default]
    Fails,
    /// The container fails, and the message tells an ordinary user what needs permission.
    FailsWithAdvice,
    /// config.json does not need a cgroup, and the container runs without one.
    Runs,
}

/// What happens if the runtime may not restrict devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnForbidden {
    /// The container fails.
    #[default]
    Fail,
    /// The runtime prints a warning, and the container runs without the rules.
    Warn,
    /// The container runs without them: config.json has no rules.
    Ignore,
}

impl Placement {
    /// The directory with that key.
    pub fn directory(&self, key: &str) -> Option<&Path> {
        self.directories.iter().find(|cgroup| cgroup.key == key).map(|cgroup| cgroup.directory.as_path())
    }

    /// The lines for `explain`.
    pub fn acts(&self) -> Vec<String> {
        let directories = self.directories.iter().map(|cgroup| format!("cgroup {}", cgroup.directory.display()));
        directories.chain(self.unit.iter().flat_map(Unit::acts)).collect()
    }
}

/// Where the container's cgroups are. An absolute path is below the root of every hierarchy. A relative path, or none,
/// is below the parent of the runtime's own cgroup on version 2, and below the runtime's own cgroup on version 1, as
/// with runc.
///
/// # Errors
/// The path leads to the root itself.
pub fn placement(requested: Option<&Path>, id: &str, cgroups: &Cgroups) -> Result<Placement, Faults> {
    let requested = requested.filter(|path| !path.as_os_str().is_empty());
    let wanted = inside(requested.unwrap_or(Path::new(id)));
    let absolute = requested.is_some_and(Path::is_absolute);
    if wanted.as_os_str().is_empty() {
        return Err(Faults::one(
            At::new("linux.cgroupsPath"),
            format!("{:?} is the root of the hierarchy", requested.unwrap_or(Path::new(""))),
        ));
    }
    Ok(in_every_hierarchy(cgroups, |own| if absolute { wanted.clone() } else { inside(own).join(&wanted) }))
}

/// Where the container's cgroups are if it is a unit of systemd.
///
/// # Errors
/// The path does not name a unit.
pub fn unit_placement(
    requested: Option<&Path>,
    id: &str,
    manager: Manager,
    uid: u32,
    cgroups: &Cgroups,
) -> Result<Placement, Faults> {
    let (unit, directory) = unit::unit(requested, id, manager, uid, cgroups)?;
    Ok(Placement { unit: Some(unit), ..in_every_hierarchy(cgroups, |_| directory.clone()) })
}

impl Placement {
    /// Moves the container's directories to `below`, a path below the directory of their unit.
    #[must_use]
    pub(crate) fn below_unit(mut self, below: &Path) -> Placement {
        for cgroup in &mut self.directories {
            cgroup.unit = Some(cgroup.directory.clone());
            cgroup.directory.push(below);
        }
        self
    }
}

/// A directory in every hierarchy. `below` makes it from the runtime's own cgroup, or on version 2 from the parent of
/// that.
fn in_every_hierarchy(cgroups: &Cgroups, below: impl Fn(&Path) -> PathBuf) -> Placement {
    let directory = |key: String, mount: &Path, own: &Path, controllers: &[String]| CgroupDirectory {
        key,
        mount: mount.to_path_buf(),
        directory: mount.join(below(own)),
        controllers: controllers.to_vec(),
        unit: None,
    };
    let mut directories: Vec<_> =
        cgroups.v1.iter().map(|h| directory(Hierarchy::key(h), &h.mount, &h.own, &h.controllers)).collect();
    if let Some(v2) = &cgroups.v2 {
        let parent = v2.own.parent().unwrap_or(Path::new("/"));
        directories.push(directory(String::new(), &v2.mount, parent, &[]));
    }
    Placement { directories, ..Placement::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::cgroups::Unified;

    fn hybrid() -> Cgroups {
        let memory =
            Hierarchy { controllers: vec!["memory".into()], mount: "/sys/fs/cgroup/memory".into(), own: "/us".into() };
        Cgroups { v1: vec![memory], v2: Some(Unified { mount: "/sys/fs/cgroup/unified".into(), own: "/a/us".into() }) }
    }

    fn directories(requested: Option<&str>) -> Vec<String> {
        let placement = placement(requested.map(Path::new), "id", &hybrid()).unwrap();
        placement.directories.iter().map(|cgroup| cgroup.directory.display().to_string()).collect()
    }

    #[test]
    fn an_absolute_path_begins_at_the_root_and_never_leaves_it() {
        assert_eq!(directories(Some("/x/y")), ["/sys/fs/cgroup/memory/x/y", "/sys/fs/cgroup/unified/x/y"]);
        assert_eq!(directories(Some("/../../x")), ["/sys/fs/cgroup/memory/x", "/sys/fs/cgroup/unified/x"]);
    }

    #[test]
    fn a_relative_path_begins_where_we_are() {
        assert_eq!(directories(Some("x")), ["/sys/fs/cgroup/memory/us/x", "/sys/fs/cgroup/unified/a/x"]);
        assert_eq!(directories(None), ["/sys/fs/cgroup/memory/us/id", "/sys/fs/cgroup/unified/a/id"]);
    }

    #[test]
    fn the_path_of_the_top_cgroup_is_refused() {
        assert!(placement(Some(Path::new("/")), "id", &hybrid()).is_err());
    }
}
