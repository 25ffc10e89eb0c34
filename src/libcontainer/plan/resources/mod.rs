//! `linux.resources` and `linux.cgroupsPath` as directories, files and values. This code decides everything before the runtime
//! writes anything. SPEC: config-linux.md#control-groups.

pub mod annotations;
mod both_versions;
mod devices;
mod gvariant;
mod gvariant_reader;
mod placement;
pub mod unit;
pub mod unit_properties;
pub mod update;
mod v1;
mod v2;
mod write;

use oci_spec::runtime::LinuxResources;

pub use devices::{DEVICES, DeviceAccess, DeviceList, devices, not_restricted};
pub use placement::{
    CgroupDirectory, CgroupOwner, Delegated, OnForbidden, Placement, WithoutCgroup, placement, unit_placement,
};
use write::WriteList;
pub use write::{OnFailure, Write};

use crate::config::{At, Faults, Warning};
use crate::host::cgroups::{Cgroups, Layout};

/// The writes for `linux.resources`, without device access, in order.
///
/// # Errors
/// Values that no kernel accepts, each with its place.
pub fn writes(resources: &LinuxResources, cgroups: &Cgroups) -> Result<Vec<Write>, Faults> {
    write_list(resources, cgroups).into_result()
}

/// The place of every requested limit, also of a limit that this host does not have.
///
/// # Errors
/// Values that no kernel accepts, each with its place.
pub fn places(resources: &LinuxResources, cgroups: &Cgroups) -> Result<Vec<At>, Faults> {
    let WriteList { writes, absent, faults } = write_list(resources, cgroups);
    let mut places: Vec<_> = writes.into_iter().map(|write| write.at).collect();
    // A limit whose controller is not mounted can be in both lists.
    let more: Vec<_> = absent.iter().map(|fault| fault.at.clone()).filter(|at| !places.contains(at)).collect();
    places.extend(more);
    faults.into_result(places)
}

fn write_list(resources: &LinuxResources, cgroups: &Cgroups) -> WriteList {
    let at = At::new("linux.resources");
    match cgroups.layout() {
        Layout::Unified => v2::write_list(resources, &at),
        Layout::Legacy | Layout::Hybrid => v1::write_list(resources, &at, cgroups),
    }
}

/// Properties of `linux.resources` that have no effect: those that no kernel has any more, and empty values. As with
/// runc, they are ignored with a warning.
pub fn unused(resources: &LinuxResources) -> Vec<Warning> {
    let at = At::new("linux.resources.memory");
    let memory = resources.memory().as_ref();
    let names = [
        ("kernel", memory.is_some_and(|memory| memory.kernel().is_some())),
        ("kernelTCP", memory.is_some_and(|memory| memory.kernel_tcp().is_some())),
    ];
    let gone = names
        .into_iter()
        .filter(|(_, set)| *set)
        .map(|(name, _)| (at.key(name), "the kernel no longer has this limit"));
    let unified = At::new("linux.resources.unified");
    let empty = resources.unified().iter().flatten();
    let empty = empty.filter(|(file, value)| value.trim().is_empty() && !v2::may_be_empty(file));
    let empty = empty.map(|(file, _)| (unified.key(file), "it is empty"));
    gone.chain(empty).map(|(at, why)| Warning { at, said: format!("is ignored: {why}") }).collect()
}
