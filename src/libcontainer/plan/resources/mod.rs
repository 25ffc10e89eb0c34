//! `linux.resources` and `linux.cgroupsPath` as directories, files and values, decided before anything is written.
//! SPEC: config-linux.md#control-groups.

pub mod annotations;
mod devices;
mod gvariant;
pub mod unit;
pub mod update;
mod v1;
mod v2;

use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxResources, LinuxThrottleDevice};

pub use devices::{DEVICES, DeviceAccess, List as DeviceList, devices, not_restricted};
use unit::{Manager, Unit};

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
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Placement {
    /// One for each hierarchy.
    pub places: Vec<Place>,
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
    /// It is not written when more memory than this is in use (`checkBeforeUpdate`).
    pub unless_used: Option<u64>,
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
    /// What we may not allow is no matter.
    SkipForbidden,
    /// A file that is not there means another one, with another value.
    Instead(String, String),
    /// A value that is out of bounds (EINVAL) is tried again when the others are written, which may be the bounds.
    AfterOthers,
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
    let wanted = clean(asked.unwrap_or(Path::new(id)));
    let absolute = asked.is_some_and(Path::is_absolute);
    if wanted.as_os_str().is_empty() {
        return Err(Faults::one(
            At::new("linux.cgroupsPath"),
            format!("{:?} is the root of the hierarchy", asked.unwrap_or(Path::new(""))),
        ));
    }
    Ok(everywhere(cgroups, |own| if absolute { wanted.clone() } else { clean(own).join(&wanted) }))
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
    Placement { places, ..Placement::default() }
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
    sheet(resources, cgroups).into_result()
}

/// The place of every limit that is asked for, whether this host has it or not.
///
/// # Errors
/// Values that no kernel would take, each by its place.
pub fn places(resources: &LinuxResources, cgroups: &Cgroups) -> Result<Vec<At>, Faults> {
    let Sheet { writes, absent, faults } = sheet(resources, cgroups);
    let mut places: Vec<_> = writes.into_iter().map(|write| write.at).collect();
    // one that has a file here, whose controller is not mounted, is among both
    let more: Vec<_> = absent.iter().map(|fault| fault.at.clone()).filter(|at| !places.contains(at)).collect();
    places.extend(more);
    faults.into_result(places)
}

fn sheet(resources: &LinuxResources, cgroups: &Cgroups) -> Sheet {
    let at = At::new("linux.resources");
    match cgroups.layout() {
        Layout::Unified => v2::sheet(resources, &at),
        Layout::Legacy | Layout::Hybrid => v1::sheet(resources, &at, cgroups),
    }
}

/// What `linux.resources` asks and what has no effect: what no kernel has any more, and empty values. As runc, we go on
/// without.
pub fn unused(resources: &LinuxResources) -> Vec<Warning> {
    let at = At::new("linux.resources.memory");
    let memory = resources.memory().as_ref();
    let names = [
        ("kernel", memory.is_some_and(|memory| memory.kernel().is_some())),
        ("kernelTCP", memory.is_some_and(|memory| memory.kernel_tcp().is_some())),
    ];
    let gone = names.into_iter().filter(|(_, set)| *set).map(|(name, _)| (at.key(name), "the kernel has given it up"));
    let unified = At::new("linux.resources.unified");
    let empty = resources.unified().iter().flatten();
    let empty = empty.filter(|(file, value)| value.trim().is_empty() && !v2::may_be_empty(file));
    let empty = empty.map(|(file, _)| (unified.key(file), "it is empty"));
    gone.chain(empty).map(|(at, why)| Warning { at, said: format!("is ignored: {why}") }).collect()
}

/// Writes and mistakes while they are collected.
#[derive(Default)]
struct Sheet {
    writes: Vec<Write>,
    /// What this host has no file for.
    absent: Faults,
    faults: Faults,
}

impl Sheet {
    fn write(&mut self, controller: &str, file: &str, value: impl ToString, at: At) {
        self.add(controller, file, value.to_string(), OnFailure::Fail, at);
    }

    fn add(&mut self, controller: &str, file: &str, value: String, on_failure: OnFailure, at: At) {
        let (controller, file) = (controller.to_owned(), file.to_owned());
        self.writes.push(Write { controller, file, value, on_failure, unless_used: None, at });
    }

    fn into_result(mut self) -> Result<Vec<Write>, Faults> {
        self.faults.extend(self.absent);
        self.faults.into_result(self.writes)
    }
}

/// Memory and swap together, as the spec has it: the swap that is left over.
fn memory_and_swap(limit: Option<i64>, both: i64) -> Result<i64, String> {
    match limit {
        None | Some(-1) => Err(format!("{both} is memory and swap together, and needs a limit to go with it")),
        Some(limit) if both < limit => Err(format!("{both} is memory and swap together, and below the limit {limit}")),
        Some(limit) => Ok(both - limit),
    }
}

/// `cpu.idle`, before any weight: a group that idles has none, and the kernel refuses to give it one.
fn idle(cpu: &LinuxCpu, controller: &str, at: &At, sheet: &mut Sheet) {
    if let Some(idle) = cpu.idle() {
        // KERNEL(5.15): cpu.idle
        let on_failure = if idle == 0 { OnFailure::SkipMissing } else { OnFailure::Fail };
        sheet.add(controller, "cpu.idle", idle.to_string(), on_failure, at.key("idle"));
    }
}

/// The shares that are to be set.
fn shares(cpu: &LinuxCpu) -> Option<u64> {
    cpu.shares().filter(|shares| *shares != 0 && cpu.idle().unwrap_or(0) == 0)
}

/// The burst is at most the quota: which of them can be written first depends on what they were.
fn burst(cpu: &LinuxCpu, controller: &str, file: &str, at: &At, sheet: &mut Sheet) {
    if let Some(burst) = cpu.burst() {
        // KERNEL(5.14): burst
        let on_failure = if burst == 0 { OnFailure::SkipMissing } else { OnFailure::AfterOthers };
        sheet.add(controller, file, burst.to_string(), on_failure, at.key("burst"));
    }
}

/// A weight of block I/O; 0 is none. BFQ takes 1 to 1000; what is below 10 is the least where io.weight has to do.
fn block_weight(weight: Option<u16>, at: &At, sheet: &mut Sheet) -> Option<u16> {
    match weight? {
        0 => None,
        weight @ 1..=1000 => Some(weight),
        weight => {
            sheet.faults.add(at.key("weight"), format!("{weight} is not in 1..1000"));
            None
        }
    }
}

type Throttle<'a> = (&'static str, &'static str, &'a Option<Vec<LinuxThrottleDevice>>);

/// The property, the name that io.max has for it, and the devices.
fn throttles(block: &LinuxBlockIo) -> [Throttle<'_>; 4] {
    [
        ("throttleReadBpsDevice", "rbps", block.throttle_read_bps_device()),
        ("throttleWriteBpsDevice", "wbps", block.throttle_write_bps_device()),
        ("throttleReadIOPSDevice", "riops", block.throttle_read_iops_device()),
        ("throttleWriteIOPSDevice", "wiops", block.throttle_write_iops_device()),
    ]
}

/// What may be used, and what may be reserved, where the kernel counts that too.
fn huge_pages(resources: &LinuxResources, controller: &str, files: [&str; 2], at: &At, sheet: &mut Sheet) {
    for (n, limit) in resources.hugepage_limits().iter().flatten().enumerate() {
        let (at, size) = (at.key("hugepageLimits").index(n), limit.page_size());
        let number = size.strip_suffix("KB").or(size.strip_suffix("MB")).or(size.strip_suffix("GB"));
        if !number.is_some_and(|number| number.parse::<u32>().is_ok_and(|n| n.to_string() == number)) {
            sheet.faults.add(at.key("pageSize"), format!("{size:?} is not a size such as 64KB, 2MB or 1GB"));
            continue;
        }
        let [used, reserved] = files.map(|file| format!("hugetlb.{size}.{file}"));
        // KERNEL(5.7): reservations
        sheet.add(controller, &reserved, limit.limit().to_string(), OnFailure::SkipMissing, at.clone());
        sheet.write(controller, &used, limit.limit(), at);
    }
}

/// `rdma.max`, the same in both versions.
fn rdma(resources: &LinuxResources, controller: &str, at: &At, sheet: &mut Sheet) {
    let mut devices: Vec<_> = resources.rdma().iter().flatten().collect();
    devices.sort_unstable_by_key(|(device, _)| *device);
    for (device, limits) in devices {
        let at = at.key("rdma").key(device);
        let part = |key: &str, value: Option<u32>| value.map(|value| format!(" {key}={value}")).unwrap_or_default();
        let wanted = part("hca_handle", limits.hca_handles()) + &part("hca_object", limits.hca_objects());
        if wanted.is_empty() {
            sheet.faults.add(at, "sets neither hcaHandles nor hcaObjects");
            continue;
        }
        sheet.write(controller, "rdma.max", format!("{device}{wanted}"), at);
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
