//! The rights of a restored process. They are those of the images, and config.json may give fewer.

use std::fs;

use crate::config::capability::known;
use crate::config::{At, Warning};
use crate::error::{Context, Result};
use crate::host::{Namespace, id_map};
use crate::plan::Plan;
use crate::plan::step::{CapabilitySets, What};
use crate::sys::process_status::ProcessStatus;

/// The sets of capabilities in config.json, and in /proc/PID/status.
const SETS: [(&str, &str); 5] = [
    ("bounding", "CapBnd"),
    ("effective", "CapEff"),
    ("permitted", "CapPrm"),
    ("inheritable", "CapInh"),
    ("ambient", "CapAmb"),
];

/// What `create` would give to the first process.
#[derive(Debug, Default)]
struct PlannedRights {
    uid: u32,
    gid: u32,
    capabilities: CapabilitySets,
    no_new_privs: bool,
    filter: bool,
}

/// A warning for each right that the first process has, and that the plan does not give. A process may have given up rights, or may
/// have become another user if the plan lets it begin as root.
///
/// # Errors
/// The files of the process in /proc cannot be read.
pub(super) fn beyond(plan: &Plan, pid: i32) -> Result<Vec<Warning>> {
    let read = |name: &str| {
        let path = format!("/proc/{pid}/{name}");
        fs::read_to_string(&path).with_context(|| format!("read {path}"))
    };
    // Of our own user namespace the kernel shows the ids of the one around it (user_namespaces(7)), but status has ours.
    let is_ours = Namespace::of(pid, "user").ok() == Namespace::ours("user").ok();
    let map = |name| if is_ours { Ok("0 0 4294967295".to_owned()) } else { read(name) };
    let (uids, gids) = (map("uid_map")?, map("gid_map")?);
    let status = ProcessStatus::read(pid).with_context(|| format!("read /proc/{pid}/status"))?;
    let planned = PlannedRights::of(plan);
    let ids = [
        planned.other_ids("uid", planned.uid, "Uid", &uids, &status),
        planned.other_ids("gid", planned.gid, "Gid", &gids, &status),
    ];
    Ok(planned
        .more_capabilities(&status)
        .into_iter()
        .chain(ids.into_iter().flatten())
        .chain(planned.less_confined(&status))
        .collect())
}

impl PlannedRights {
    fn of(plan: &Plan) -> PlannedRights {
        let mut rights = PlannedRights::default();
        // In a joined pid namespace, the bridge gives up the rights.
        for step in plan.bridge.iter().chain(&plan.init) {
            match &step.what {
                What::Ids { uid, gid } => (rights.uid, rights.gid) = (*uid, *gid),
                What::Capabilities(sets) => rights.capabilities = *sets,
                What::NoNewPrivs => rights.no_new_privs = true,
                What::Seccomp(_) => rights.filter = true,
                _ => {}
            }
        }
        rights
    }

    /// An execve(2) of root, or of a file with capabilities, adds those of the bounding set to the others (capabilities(7)).
    fn more_capabilities(&self, status: &ProcessStatus) -> Vec<Warning> {
        let CapabilitySets { bounding, permitted, inheritable, ambient, .. } = self.capabilities;
        let more = |(name, field): (&str, &str)| {
            let found = u64::from_str_radix(status.field(field)?, 16).ok()?;
            let given = if name == "bounding" { bounding } else { bounding | permitted | inheritable | ambient };
            let names = names(found & !given);
            (!names.is_empty())
                .then(|| warning(&format!("capabilities.{name}"), &format!("has {names} from the images")))
        };
        SETS.into_iter().filter_map(more).collect()
    }

    /// Real, effective, saved and file system id are to be that of the plan.
    fn other_ids(&self, name: &str, id: u32, field: &str, map: &str, status: &ProcessStatus) -> Option<Warning> {
        let expected = id_map::host_id(map, id);
        let found: Vec<u32> = status.field(field)?.split_whitespace().filter_map(|id| id.parse().ok()).collect();
        let other = found.into_iter().find(|found| Some(*found) != expected).filter(|_| self.uid != 0)?;
        let inside = id_map::lines(map).find_map(|line| {
            other
                .checked_sub(line.host)
                .filter(|distance| *distance < line.size)
                .map(|distance| line.container + distance)
        });
        let inside = inside.map_or_else(|| format!("{other} of the host"), |id| id.to_string());
        Some(warning(&format!("user.{name}"), &format!("has the {name} {inside} from the images, and not {id}")))
    }

    fn less_confined(&self, status: &ProcessStatus) -> Vec<Warning> {
        let is_off = |field| status.field(field) == Some("0");
        let mut all = Vec::new();
        if self.no_new_privs && is_off("NoNewPrivs") {
            all.push(warning("noNewPrivileges", "does not have no_new_privs in the images"));
        }
        if self.filter && is_off("Seccomp") {
            let said = "is not applied: the restored process has no filter in the images".to_owned();
            all.push(Warning { at: At::new("linux.seccomp"), said });
        }
        all
    }
}

fn warning(property: &str, has: &str) -> Warning {
    Warning { at: At::new("process").key(property), said: format!("is not applied: the restored process {has}") }
}

fn names(mask: u64) -> String {
    let known = known();
    let name = |bit: usize| known.get(bit).cloned().unwrap_or_else(|| format!("capability {bit}"));
    let names: Vec<_> = (0..64).filter(|bit| mask & 1 << bit != 0).map(name).collect();
    names.join(", ")
}
