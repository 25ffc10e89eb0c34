//! `linux.cgroupsPath`: where the container's cgroups are, and whose.

use std::path::{Path, PathBuf};

use super::unit::{self, Manager, Unit};
use crate::config::{At, Faults};
use crate::host::cgroups::{Cgroups, Hierarchy};
use crate::plan::values::inside;

/// One directory of the container in one hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupDirectory {
    /// The name that state.json keeps it under: a controller, `systemd`, or nothing for version 2.
    pub key: String,
    /// Where the hierarchy is mounted.
    pub mount: PathBuf,
    /// The container's directory in it.
    pub directory: PathBuf,
    /// The controllers of the hierarchy (version 1).
    pub controllers: Vec<String>,
}

/// Where the container is in every hierarchy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Placement {
    /// One for each hierarchy.
    pub places: Vec<CgroupDirectory>,
    /// The unit of systemd that these directories are.
    pub unit: Option<Unit>,
    /// What it means that we may not make them.
    pub refused: Refused,
    /// What it means that we may not restrict devices.
    pub devices: OnForbidden,
    /// To whom the directory of version 2 is handed.
    pub owner: Option<Owner>,
}

/// A user who gets the container's directory of version 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// As the container counts.
    pub uid: u32,
    /// The mount by which the container sees its cgroup.
    pub at: At,
}

/// What it means that a cgroup may not be made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Refused {
    /// The container fails.
    #[default]
    Fails,
    /// The same, and an ordinary user is told what needs permission.
    Told,
    /// Nobody has asked for one, and the container does without.
    None,
}

/// What it means that we may not restrict devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnForbidden {
    /// The container fails.
    #[default]
    Fail,
    /// The user is warned, and the container does without.
    Warn,
    /// The container does without: config.json has no rules.
    Ignore,
}

impl Placement {
    /// The directory under that key.
    pub fn directory(&self, key: &str) -> Option<&Path> {
        self.places.iter().find(|place| place.key == key).map(|place| place.directory.as_path())
    }

    /// What `explain` says.
    pub fn lines(&self) -> Vec<String> {
        let directories = self.places.iter().map(|place| format!("cgroup {}", place.directory.display()));
        directories.chain(self.unit.iter().flat_map(Unit::lines)).collect()
    }
}

/// Where the container's cgroups are. Absolute: below the root of every hierarchy. Relative, or none at all: below our
/// own cgroup's parent on version 2, below our own on version 1, as runc has it.
///
/// # Errors
/// A path that leads nowhere else than to the root.
pub fn place(asked: Option<&Path>, id: &str, cgroups: &Cgroups) -> Result<Placement, Faults> {
    let asked = asked.filter(|path| !path.as_os_str().is_empty());
    let wanted = inside(asked.unwrap_or(Path::new(id)));
    let absolute = asked.is_some_and(Path::is_absolute);
    if wanted.as_os_str().is_empty() {
        return Err(Faults::one(
            At::new("linux.cgroupsPath"),
            format!("{:?} is the root of the hierarchy", asked.unwrap_or(Path::new(""))),
        ));
    }
    Ok(everywhere(cgroups, |own| if absolute { wanted.clone() } else { inside(own).join(&wanted) }))
}

/// Where the container's cgroups are when it is a unit of systemd.
///
/// # Errors
/// The path names no unit.
pub fn place_unit(
    asked: Option<&Path>,
    id: &str,
    manager: Manager,
    uid: u32,
    cgroups: &Cgroups,
) -> Result<Placement, Faults> {
    let (unit, directory) = unit::unit(asked, id, manager, uid, cgroups)?;
    Ok(Placement { unit: Some(unit), ..everywhere(cgroups, |_| directory.clone()) })
}

/// A place in every hierarchy; `below` makes it from our own cgroup there, or on version 2 from its parent.
fn everywhere(cgroups: &Cgroups, below: impl Fn(&Path) -> PathBuf) -> Placement {
    let place = |key: String, mount: &Path, own: &Path, controllers: &[String]| CgroupDirectory {
        key,
        mount: mount.to_path_buf(),
        directory: mount.join(below(own)),
        controllers: controllers.to_vec(),
    };
    let mut places: Vec<_> =
        cgroups.v1.iter().map(|h| place(Hierarchy::key(h), &h.mount, &h.own, &h.controllers)).collect();
    if let Some(v2) = &cgroups.v2 {
        let parent = v2.own.parent().unwrap_or(Path::new("/"));
        places.push(place(String::new(), &v2.mount, parent, &[]));
    }
    Placement { places, ..Placement::default() }
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

    fn directories(asked: Option<&str>) -> Vec<String> {
        let placement = place(asked.map(Path::new), "id", &hybrid()).unwrap();
        placement.places.iter().map(|place| place.directory.display().to_string()).collect()
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
    fn the_root_itself_is_nobodys() {
        assert!(place(Some(Path::new("/")), "id", &hybrid()).is_err());
    }
}
