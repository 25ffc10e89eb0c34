//! `linux.resources` and `linux.cgroupsPath` as directories, files and values. This code decides everything before the runtime
//! writes anything. SPEC: config-linux.md#control-groups.

pub mod annotations;
mod devices;
mod gvariant;
mod gvariant_reader;
mod placement;
mod sheet;
pub mod unit;
pub mod unit_properties;
pub mod update;
mod v1;
mod v2;

use oci_spec::runtime::LinuxResources;

pub use devices::{DEVICES, DeviceAccess, List as DeviceList, devices, not_restricted};
pub use placement::{
    CgroupDirectory, CgroupOwner, Delegated, OnForbidden, Placement, WithoutCgroup, placement, unit_placement,
};
use sheet::Sheet;
pub use sheet::{OnFailure, Write};

use crate::config::{At, Faults, Warning};
use crate::host::cgroups::{Cgroups, Layout};

/// The writes for `linux.resources`, without device access, in order.
///
/// # Errors
/// Values that no kernel accepts, each with its place.
pub fn writes(resources: &LinuxResources, cgroups: &Cgroups) -> Result<Vec<Write>, Faults> {
    sheet(resources, cgroups).into_result()
}

/// The place of every requested limit, also of a limit that this host does not have.
///
/// # Errors
/// Values that no kernel accepts, each with its place.
pub fn places(resources: &LinuxResources, cgroups: &Cgroups) -> Result<Vec<At>, Faults> {
    let Sheet { writes, absent, faults } = sheet(resources, cgroups);
    let mut places: Vec<_> = writes.into_iter().map(|write| write.at).collect();
    // A limit whose controller is not mounted can be in both lists.
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
