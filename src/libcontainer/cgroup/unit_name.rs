//! The name of a container's unit.

use serde::{Deserialize, Serialize};

use crate::plan::resources::unit::{Manager, Unit};

/// The unit of a container, as state.json records it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct UnitName {
    /// `prefix-id.scope`.
    pub name: String,
    /// The manager that has the unit.
    pub manager: Manager,
}

impl UnitName {
    /// The name of a planned unit.
    pub fn of(unit: &Unit) -> UnitName {
        UnitName { name: unit.name.clone(), manager: unit.manager }
    }

    /// A scope contains processes. A slice contains only other units.
    #[cfg(feature = "systemd")]
    pub(super) fn is_slice(&self) -> bool {
        self.name.ends_with(".slice")
    }
}
