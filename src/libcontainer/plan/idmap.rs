//! User and group id mappings: what they must be, and which ids they reach.

use oci_spec::runtime::LinuxIdMapping;

use super::Asked;
use super::draft::{Draft, IdMap, IdMaps, Writer};
use super::namespaces::{Kinds, USER};
use crate::config::At;

/// As many lines as the kernel takes in one map (user_namespaces(7), Linux 4.15).
const MAX_LINES: usize = 340;
/// And as many bytes: less than a page (user_namespaces(7)), which is this or, elsewhere, at most that.
const MAX_BYTES: usize = if cfg!(target_arch = "x86_64") { 4095 } else { 65535 };

/// Reads `linux.uidMappings` and `linux.gidMappings`. SPEC: config-linux.md#user-namespace-mappings.
pub(super) fn check(ask: &Asked<'_>, kinds: &Kinds, plan: &mut Draft) {
    let linux = ask.config.spec.linux().as_ref();
    let uids = linux.and_then(|linux| linux.uid_mappings().as_deref()).unwrap_or_default();
    let gids = linux.and_then(|linux| linux.gid_mappings().as_deref()).unwrap_or_default();
    let (uid_at, gid_at) = (At::new("linux.uidMappings"), At::new("linux.gidMappings"));
    for (list, at) in [(uids, &uid_at), (gids, &gid_at)] {
        if !list.is_empty() && !kinds.private(USER) {
            plan.warn(at, "is ignored: there is no user namespace in linux.namespaces");
        }
        if list.is_empty() && kinds.new.has(USER) {
            plan.fault(at, "is missing: a new user namespace needs it");
        }
        let root = list.iter().any(|map| map.container_id() == 0 && map.size() > 0);
        if kinds.new.has(USER) && !list.is_empty() && !root {
            plan.fault(at, "has no mapping of 0, and it is the container's root that sets it up");
        }
        lines(list, at, plan);
    }
    if kinds.new.has(USER) {
        plan.plan().id_maps = Some(both(ask, uids, gids));
    } else if kinds.joins(USER) && !(uids.is_empty() && gids.is_empty()) {
        // containerd and podman write the maps of a pod into the config of each container that joins it
        plan.plan().joined_maps = Some(both(ask, uids, gids));
    }
}

/// An ordinary user may map the own id and nothing else; for more there are programs (user_namespaces(7)).
fn writer(list: &[LinuxIdMapping], uid: u32, own: u32) -> Writer {
    match list {
        _ if uid == 0 => Writer::Root,
        [line] if line.size() == 1 && line.host_id() == own => Writer::User,
        _ => Writer::Program,
    }
}

/// Both, written by whom the kernel lets.
pub(super) fn both(ask: &Asked<'_>, uids: &[LinuxIdMapping], gids: &[LinuxIdMapping]) -> IdMaps {
    let me = &ask.host.me;
    IdMaps {
        uids: maps(uids),
        gids: maps(gids),
        uids_by: writer(uids, me.uid, me.uid),
        gids_by: writer(gids, me.uid, me.gid),
    }
}

fn maps(list: &[LinuxIdMapping]) -> Vec<IdMap> {
    list.iter().map(|m| IdMap { container: m.container_id(), host: m.host_id(), size: m.size() }).collect()
}

/// Faults of one map: too many lines, lines that overlap, that are empty or go too far.
pub(super) fn lines(list: &[LinuxIdMapping], at: &At, plan: &mut Draft) {
    if list.len() > MAX_LINES {
        plan.fault(at, format!("{} mappings, and the kernel takes at most {MAX_LINES}", list.len()));
    }
    let bytes: usize = maps(list).iter().map(|map| map.to_string().len()).sum();
    if bytes > MAX_BYTES && list.len() <= MAX_LINES {
        plan.fault(at, format!("{} mappings are {bytes} bytes, and the kernel takes at most {MAX_BYTES}", list.len()));
    }
    for (n, line) in list.iter().enumerate() {
        let at = at.index(n);
        if line.size() == 0 {
            plan.fault(&at.key("size"), "is 0");
        }
        for (name, first) in [("containerID", line.container_id()), ("hostID", line.host_id())] {
            if first.checked_add(line.size()).is_none() {
                plan.fault(&at.key(name), format!("{first} with size {} goes beyond the last id", line.size()));
            }
        }
        // every pair is compared, and a longer list is refused anyway
        if list.len() > MAX_LINES {
            continue;
        }
        let overlapping = |a: u32, b: u32, size: u32| {
            u64::from(a) < u64::from(b) + u64::from(size) && u64::from(b) < u64::from(a) + u64::from(line.size())
        };
        let earlier = list[..n].iter().position(|other| {
            overlapping(line.container_id(), other.container_id(), other.size())
                || overlapping(line.host_id(), other.host_id(), other.size())
        });
        if let Some(earlier) = earlier {
            plan.fault(&at, format!("overlaps with the mapping [{earlier}]"));
        }
    }
}

/// Which of the two maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ids {
    Users,
    Groups,
}

/// -1 is no id to the calls that take one.
pub(super) fn must_be_one(id: u32, at: &At, plan: &mut Draft) {
    if id == u32::MAX {
        plan.fault(at, format!("{id} is not an id: to the kernel it means \"unchanged\""));
    }
}

/// A fault when `id` has no name on the host.
pub(super) fn must_reach(id: u32, ids: Ids, at: &At, plan: &mut Draft) {
    let Some(IdMaps { uids, gids, .. }) = plan.plan().id_maps.as_ref() else { return };
    let (list, property) = match ids {
        Ids::Users => (uids, "linux.uidMappings"),
        Ids::Groups => (gids, "linux.gidMappings"),
    };
    // that there are none, or too many, has been told
    if (1..=MAX_LINES).contains(&list.len())
        && !list.iter().any(|map| id.checked_sub(map.container).is_some_and(|distance| distance < map.size))
    {
        plan.fault(at, format!("{id} is not mapped in {property}"));
    }
}
