//! The name of a container's unit.

use std::ffi::OsStr;
use std::path::Path;

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

impl From<&Unit> for UnitName {
    fn from(unit: &Unit) -> UnitName {
        UnitName { name: unit.name.clone(), manager: unit.manager }
    }
}

impl UnitName {
    /// The unit's directory, if `directory` is that directory or below it. Otherwise `directory` itself.
    pub(super) fn outermost<'p>(&self, directory: &'p Path) -> &'p Path {
        let name = OsStr::new(&self.name);
        directory.ancestors().find(|above| above.file_name() == Some(name)).unwrap_or(directory)
    }

    /// A scope contains processes. A slice contains only other units.
    #[cfg(feature = "systemd")]
    pub(super) fn is_slice(&self) -> bool {
        self.name.ends_with(".slice")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_units_directory_is_the_outermost_of_its_container() {
        let outermost = |name: &str, directory: &'static str| {
            UnitName { name: name.to_owned(), manager: Manager::System }.outermost(Path::new(directory))
        };
        let unit = Path::new("/sys/fs/cgroup/a.slice/x.scope");
        assert_eq!(outermost("x.scope", "/sys/fs/cgroup/a.slice/x.scope/b/c"), unit);
        assert_eq!(outermost("x.scope", "/sys/fs/cgroup/a.slice/x.scope"), unit);
        assert_eq!(outermost("y.scope", "/sys/fs/cgroup/a.slice/x.scope"), unit);
    }
}
