//! Finds the frozen cgroups, and the cgroup that freezes each.

use std::path::{Path, PathBuf};

use super::files::{has_line, is_missing, value};
use crate::error::{Context, Result};
use crate::host::cgroups::{Cgroups, memberships};
use crate::sys::kernel_file;

/// True if the processes in the directory are frozen, by its own file or by that of an ancestor.
pub(super) fn directory_is_frozen(directory: &Path) -> Result<bool> {
    let file = directory.join("freezer.state");
    match value(&file) {
        Ok(state) => Ok(matches!(state.trim(), "FROZEN" | "FREEZING")),
        Err(errno) if !is_missing(errno) => Err(errno).with_context(|| format!("read {}", file.display())),
        Err(_) => has_line(&directory.join("cgroup.events"), "frozen 1"),
    }
}

/// The nearest ancestor that is frozen by its own file. The root of a hierarchy has no such file.
pub(super) fn frozen_above(directory: &Path) -> Option<PathBuf> {
    directory.parent().and_then(frozen_from)
}

/// The directory or its nearest ancestor that is frozen by its own file.
pub(super) fn frozen_from(directory: &Path) -> Option<PathBuf> {
    let says_one = |file: &Path| kernel_file::read_value(file, &mut [0; 32]).is_ok_and(|text| text.trim() == "1");
    let frozen =
        |above: &&Path| ["cgroup.freeze", "freezer.self_freezing"].iter().any(|file| says_one(&above.join(file)));
    directory.ancestors().find(frozen).map(Path::to_path_buf)
}

/// The cgroup whose own file freezes the process `pid`. It may be a cgroup of another container.
pub fn frozen_by(pid: i32) -> Option<PathBuf> {
    let hierarchies = Cgroups::probe().ok()?;
    let unified = || frozen_in(pid, "", &hierarchies.v2.as_ref()?.mount);
    by_freezer(pid, &hierarchies).or_else(unified)
}

/// The same, by the freezer of version 1: the process does not die before this cgroup is thawed.
pub fn frozen_on_version_1(pid: i32) -> Option<PathBuf> {
    by_freezer(pid, &Cgroups::probe().ok()?)
}

fn by_freezer(pid: i32, hierarchies: &Cgroups) -> Option<PathBuf> {
    let hierarchy = hierarchies.v1.iter().find(|hierarchy| hierarchy.has("freezer"))?;
    frozen_in(pid, "freezer", &hierarchy.mount)
}

/// The cgroup that freezes `pid` in the hierarchy of `controller` at `mount`.
fn frozen_in(pid: i32, controller: &str, mount: &Path) -> Option<PathBuf> {
    frozen_from(&mount.join(path_of_process(pid, controller)?))
}

/// The path of the cgroup of process `pid`, from the root of the hierarchy that has `controller` (empty for version 2). None if
/// that cgroup is outside of our own cgroup namespace.
pub(super) fn path_of_process(pid: i32, controller: &str) -> Option<String> {
    let groups = kernel_file::read_lossy(Path::new(&format!("/proc/{pid}/cgroup"))).ok()?;
    let has = |controllers: &str| controllers.split(',').any(|one| one == controller);
    let (_, path) = memberships(&groups).find(|(controllers, _)| has(controllers))?;
    let inside = path.strip_prefix('/')?;
    (!inside.split('/').any(|part| part == "..")).then(|| inside.to_owned())
}
