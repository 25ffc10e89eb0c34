//! `linux.intelRdt`: the container's group in the resctrl file system. SPEC: config-linux.md#intelrdt.
//! KERNEL(4.10, 4.14): resctrl, and monitoring groups in it.

use std::path::PathBuf;

use oci_spec::runtime::LinuxIntelRdt;

use super::given::Given;
use super::notes::Notes;
use crate::config::{At, Fault};
use crate::host::Resctrl;

/// The property of the cache's schemata.
pub const L3_CACHE: &str = "linux.intelRdt.l3CacheSchema";
/// The property of the memory bandwidth's.
pub const BANDWIDTH: &str = "linux.intelRdt.memBwSchema";
/// Directories of the kernel where groups could be.
const RESERVED: [&str; 3] = ["info", "mon_groups", "mon_data"];

/// A group of processes that share caches and memory bandwidth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResctrlGroup {
    /// The mount point of the file system.
    pub mount: PathBuf,
    /// The group's directory.
    pub directory: PathBuf,
    /// Who owns the group.
    pub owner: GroupOwner,
    /// The lines for its `schemata`, in this order. An existing shared group must have them already.
    pub schemata: Vec<Schema>,
    /// The group below it that monitors only this container.
    pub monitoring: Option<PathBuf>,
    /// The property that names the group.
    pub at: At,
}

/// Who owns a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupOwner {
    /// The container alone: the group is made and removed with it.
    Container,
    /// All containers that name it: the group stays.
    Everybody,
}

/// One line for `schemata`: `L3:0=fff;1=f0`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    /// The line, without its newline.
    pub line: String,
    /// The property it comes from.
    pub at: At,
}

impl ResctrlGroup {
    /// The directories that are removed with the container, in the order in which they are made.
    pub fn own_directories(&self) -> Vec<PathBuf> {
        let control = (self.owner == GroupOwner::Container).then_some(&self.directory);
        control.into_iter().chain(&self.monitoring).cloned().collect()
    }

    /// The directories whose `tasks` contain the container's processes. ORDER: a monitoring group accepts only
    /// processes of the group that it is below.
    pub fn joined(&self) -> Vec<PathBuf> {
        [&self.directory].into_iter().chain(&self.monitoring).cloned().collect()
    }

    /// The actions of the runtime before the clone, for `explain`.
    pub(super) fn acts(&self) -> Vec<(String, String)> {
        let directory = self.directory.display();
        let first = match (self.owner, self.schemata.is_empty()) {
            (GroupOwner::Container, _) => format!("mkdir {directory}"),
            (GroupOwner::Everybody, true) => format!("find {directory}"),
            (GroupOwner::Everybody, false) => format!("mkdir {directory}, or find it with these schemata"),
        };
        let mut lines = vec![(first, self.at.to_string())];
        let write = |schema: &Schema| (format!("write schemata = {}", schema.line), schema.at.to_string());
        lines.extend(self.schemata.iter().map(write));
        let monitoring = self.monitoring.iter();
        lines.extend(
            monitoring.map(|path| (format!("mkdir {}", path.display()), "linux.intelRdt.enableMonitoring".to_owned())),
        );
        lines
    }
}

/// Reads `linux.intelRdt`.
pub(super) fn read(given: &Given<'_>, notes: &mut Notes) -> Option<ResctrlGroup> {
    let requested = given.linux().and_then(|linux| linux.intel_rdt().as_ref())?;
    let top = At::new("linux.intelRdt");
    let closid = requested.clos_id().as_deref().filter(|name| !name.is_empty());
    let at = if closid.is_some() { top.key("closID") } else { top.clone() };
    let schemata = schemata(requested, &top, notes);
    let (name, owner) = match closid {
        Some("/") => ("", GroupOwner::Everybody),
        Some(name) => (name, GroupOwner::Everybody),
        None => (given.flags.id.as_str(), GroupOwner::Container),
    };
    if let Some(problem) = name_problem(name).filter(|_| closid != Some("/")) {
        notes.fault(&at, format!("{name:?} {problem}"));
        return None;
    }
    let mount = match &given.host.resctrl {
        Resctrl::At(mount) => mount.clone(),
        Resctrl::NotMounted => {
            notes.fault(&top, "resctrl is not mounted (mount -t resctrl resctrl /sys/fs/resctrl)");
            return None;
        }
        Resctrl::Unknown | Resctrl::NotLookedFor => {
            let said = "this machine has no resctrl: the CPU or the kernel does not support it";
            notes.fault(&top, said);
            return None;
        }
    };
    // If the name is empty, the path has no slash at its end.
    let directory = if name.is_empty() { mount.clone() } else { mount.join(name) };
    let monitored = requested.enable_monitoring().unwrap_or(false);
    let monitoring = monitored.then(|| directory.join("mon_groups").join(&given.flags.id));
    Some(ResctrlGroup { mount, directory, owner, schemata, monitoring, at })
}

fn name_problem(name: &str) -> Option<&'static str> {
    if RESERVED.contains(&name) {
        Some("is a name that the kernel uses in resctrl: a group cannot have it")
    } else if [".", ".."].contains(&name) || name.contains(['/', '\n', '\0']) || name.len() > 255 {
        Some("is not a directory name")
    } else {
        None
    }
}

/// In the order of the specification: a later line overrides an earlier one.
fn schemata(requested: &LinuxIntelRdt, top: &At, notes: &mut Notes) -> Vec<Schema> {
    let mut all = Vec::new();
    if let Some(text) = requested.l3_cache_schema() {
        all.extend(l3_cache(text, &At::new(L3_CACHE), notes));
    }
    if let Some(text) = requested.mem_bw_schema().as_ref().filter(|text| !text.is_empty()) {
        let at = At::new(BANDWIDTH);
        match memory_bandwidth(text) {
            Ok(line) => all.push(Schema { line, at }),
            Err(problem) => notes.fault(&at, problem),
        }
    }
    for (n, text) in requested.schemata().iter().flatten().enumerate() {
        let at = top.key("schemata").index(n);
        if text.contains('\n') {
            notes.fault(&at, format!("{text:?} is more than one line"));
        } else {
            all.push(Schema { line: text.clone(), at });
        }
    }
    all
}

/// In older versions of the specification, this property contained the memory bandwidth, too. Now there is a separate
/// property.
fn l3_cache(text: &str, at: &At, notes: &mut Notes) -> Vec<Schema> {
    if text.lines().any(is_bandwidth) {
        notes.warn(at, "its line MB: is ignored, as the specification demands: use memBwSchema");
    }
    cache_schemata(text, at)
}

/// The lines for caches.
fn cache_schemata(text: &str, at: &At) -> Vec<Schema> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !is_bandwidth(line));
    lines.map(|line| Schema { line: line.to_owned(), at: at.clone() }).collect()
}

fn is_bandwidth(line: &str) -> bool {
    line.trim_start().starts_with("MB:")
}

fn memory_bandwidth(text: &str) -> Result<String, String> {
    if text.starts_with("MB:") && !text.contains('\n') {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is not one line that begins with \"MB:\""))
    }
}

/// The schemata that an existing group gets: the cache's and the bandwidth's.
///
/// # Errors
/// The mistake, with its property.
pub fn updated_schemata(l3_cache: Option<&str>, bandwidth: Option<&str>) -> Result<Vec<Schema>, Fault> {
    let mut all = l3_cache.map_or(Vec::new(), |text| cache_schemata(text, &At::new(L3_CACHE)));
    if let Some(text) = bandwidth {
        let at = At::new(BANDWIDTH);
        match memory_bandwidth(text) {
            Ok(line) => all.push(Schema { line, at }),
            Err(problem) => return Err(Fault { at, problem }),
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_reads_the_lines_for_caches_as_create_does() {
        let updated = updated_schemata(Some("  L3:0=f\n\n MB:0=9\n"), None).unwrap();
        let lines: Vec<_> = updated.iter().map(|schema| schema.line.as_str()).collect();
        assert_eq!(lines, ["L3:0=f"]);
    }
}
