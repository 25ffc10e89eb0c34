//! The cgroup and the resctrl group of a container that is being made (`linux.resources`, `linux.intelRdt`).

use crate::cgroup::{Cgroup, systemd};
use crate::config::{At, Warning};
use crate::error::Result;
use crate::host::Environment;
use crate::plan::resources::{DEVICES, not_restricted};
use crate::plan::{Plan, PlannedCgroup};
use crate::resctrl::{self, Kernel};

/// The cgroup and the resctrl group of a container that is being made. After a failure, the container's note says what
/// to undo (`undo`).
#[derive(Debug)]
pub struct KernelGroups {
    cgroup: Option<Cgroup>,
    group: Option<resctrl::MadeGroup<'static>>,
}

impl KernelGroups {
    /// Makes the directories.
    ///
    /// # Errors
    /// The failed call, with the kernel's error. Nothing remains.
    pub fn make(plan: &Plan, environment: &Environment) -> Result<KernelGroups> {
        let mut resources = KernelGroups { cgroup: None, group: None };
        if let Some(PlannedCgroup { placement, writes, .. }) = &plan.cgroup {
            if let Some(unit) = &placement.unit {
                systemd::must_be_reachable(unit.manager, environment)?;
            }
            resources.cgroup = Some(Cgroup::create(placement, writes, environment)?);
        }
        resources.group = plan.resctrl.as_ref().map(|group| resctrl::make(group, &Kernel)).transpose()?;
        Ok(resources)
    }

    /// Writes the limits while the cgroup is empty. systemd resets the limits when it takes over the directory of a
    /// unit: those are written afterwards (`serve`). Returns the limits that could not be set, and are optional.
    ///
    /// # Errors
    /// The property, the file, and the kernel's error.
    pub fn write_limits(&self, plan: &Plan) -> Result<Option<Warning>> {
        let (Some(cgroup), Some(PlannedCgroup { placement, writes, devices })) = (self.cgroup(), &plan.cgroup) else {
            return Ok(None);
        };
        if placement.unit.is_some() {
            return Ok(None);
        }
        cgroup.must_have_directories_for(writes, placement)?;
        cgroup.apply(writes)?;
        Ok(cgroup.apply_devices(devices, placement.on_forbidden_devices)?.as_deref().map(devices_not_restricted))
    }

    /// The cgroup, if the container has one.
    pub fn cgroup(&self) -> Option<&Cgroup> {
        self.cgroup.as_ref()
    }

    /// The container exists: its groups stay.
    pub fn keep(mut self) {
        if let Some(group) = self.group.take() {
            group.keep();
        }
    }
}

/// Device access does not change, for this reason.
pub(super) fn devices_not_restricted(why: &str) -> Warning {
    Warning { at: At::new(DEVICES), said: not_restricted(why) }
}
