//! `linux.resources` and `linux.cgroupsPath` as directories, files and values, decided before anything is written.
//! SPEC: config-linux.md#control-groups.

mod devices;
mod v1;
mod v2;

use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::LinuxResources;

pub use devices::{DeviceAccess, devices};

use crate::config::{At, Faults, Warning};
use crate::host::cgroups::{Cgroups, Hierarchy, Layout};

/// One directory of the container in one hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// One for each hierarchy.
    pub places: Vec<Place>,
}

/// One value for one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The hierarchy's controller, or nothing for version 2.
    pub controller: String,
    /// The file in the container's directory.
    pub file: String,
    /// What is written.
    pub value: String,
    /// What a failure means.
    pub on_failure: OnFailure,
    /// The property.
    pub at: At,
}

/// What a failed write means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// The container fails.
    Fail,
    /// A file that is not there is no matter.
    SkipMissing,
    /// A file that is not there means another one, with another value.
    Instead(String, String),
}

impl Placement {
    /// The directory under that key.
    pub fn directory(&self, key: &str) -> Option<&Path> {
        self.places.iter().find(|place| place.key == key).map(|place| place.directory.as_path())
    }

    /// What `explain` says.
    pub fn lines(&self) -> Vec<String> {
        self.places.iter().map(|place| format!("cgroup {}", place.directory.display())).collect()
    }
}

/// Where the container's cgroups are. Absolute: below the root of every hierarchy. Relative, or none at all: below our
/// own cgroup's parent on version 2, below our own on version 1, as runc has it.
///
/// # Errors
/// None yet that a path can have; a path that leads nowhere else than to the root is one.
pub fn place(asked: Option<&Path>, id: &str, cgroups: &Cgroups) -> Result<Placement, Faults> {
    let asked = asked.filter(|path| !path.as_os_str().is_empty());
    let wanted = clean(asked.unwrap_or(Path::new(id)));
    let absolute = asked.is_some_and(Path::is_absolute);
    if wanted.as_os_str().is_empty() {
        return Err(Faults::one(
            At::new("linux.cgroupsPath"),
            format!("{:?} is the root of the hierarchy", asked.unwrap_or(Path::new(""))),
        ));
    }
    let below = |own: &Path| if absolute { wanted.clone() } else { clean(own).join(&wanted) };
    let place = |key: String, mount: &Path, own: &Path, controllers: &[String]| Place {
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
    Ok(Placement { places })
}

/// Without a root and without `..`, which cannot climb above it.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => clean.push(part),
            Component::ParentDir => drop(clean.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

/// Everything `linux.resources` asks but device access, in the order in which it is written.
///
/// # Errors
/// Values that no kernel would take, each by its place.
pub fn writes(resources: &LinuxResources, cgroups: &Cgroups) -> Result<Vec<Write>, Faults> {
    let at = At::new("linux.resources");
    match cgroups.layout() {
        Layout::Unified => v2::writes(resources, &at),
        Layout::Legacy | Layout::Hybrid => v1::writes(resources, &at, cgroups),
    }
}

/// What `linux.resources` asks and this version of cgroups has nothing for. As runc, we go on without.
pub fn unused(resources: &LinuxResources, cgroups: &Cgroups) -> Vec<Warning> {
    let at = At::new("linux.resources");
    let (memory, cpu) = (resources.memory().as_ref(), resources.cpu().as_ref());
    let block = resources.block_io().as_ref();
    let mut names = vec![
        ("memory.kernel", memory.is_some_and(|memory| memory.kernel().is_some())),
        ("memory.kernelTCP", memory.is_some_and(|memory| memory.kernel_tcp().is_some())),
    ];
    if cgroups.layout() == Layout::Unified {
        let leaf = |device: &oci_spec::runtime::LinuxWeightDevice| device.leaf_weight().is_some();
        names.extend([
            ("memory.swappiness", memory.is_some_and(|memory| memory.swappiness().is_some())),
            ("memory.disableOOMKiller", memory.is_some_and(|memory| memory.disable_oom_killer() == Some(true))),
            ("memory.useHierarchy", memory.is_some_and(|memory| memory.use_hierarchy() == Some(false))),
            ("cpu.realtimePeriod", cpu.is_some_and(|cpu| cpu.realtime_period().unwrap_or(0) != 0)),
            ("cpu.realtimeRuntime", cpu.is_some_and(|cpu| cpu.realtime_runtime().unwrap_or(0) != 0)),
            ("blockIO.leafWeight", block.is_some_and(|block| block.leaf_weight().unwrap_or(0) != 0)),
            ("blockIO.weightDevice", block.is_some_and(|b| b.weight_device().iter().flatten().any(leaf))),
            ("network", resources.network().is_some()),
        ]);
    }
    let version = if cgroups.layout() == Layout::Unified { "v2" } else { "v1" };
    let said = |name: &str| match name {
        "blockIO.weightDevice" => format!("leafWeight is not used: cgroup {version} has nothing like it"),
        name if name.starts_with("memory.kernel") => "is not used: the kernel has given it up".to_owned(),
        _ => format!("is not used: cgroup {version} has nothing like it"),
    };
    names.into_iter().filter(|(_, set)| *set).map(|(name, _)| Warning { at: at.key(name), said: said(name) }).collect()
}

/// Writes and mistakes while they are collected.
#[derive(Default)]
struct Sheet {
    writes: Vec<Write>,
    faults: Faults,
}

impl Sheet {
    fn write(&mut self, controller: &str, file: &str, value: impl ToString, at: At) {
        self.add(controller, file, value.to_string(), OnFailure::Fail, at);
    }

    fn add(&mut self, controller: &str, file: &str, value: String, on_failure: OnFailure, at: At) {
        self.writes.push(Write { controller: controller.to_owned(), file: file.to_owned(), value, on_failure, at });
    }

    fn into_result(self) -> Result<Vec<Write>, Faults> {
        self.faults.into_result(self.writes)
    }
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
