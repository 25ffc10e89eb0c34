//! User and group id mappings: their syntax, and the ids that they contain.

use oci_spec::runtime::LinuxIdMapping;

use super::finished::{IdMaps, Writer};
use super::given::Given;
use super::namespaces::{PlannedNamespaces, USER};
use super::notes::Notes;
use crate::config::At;
use crate::host::IdMap;

/// The most lines that the kernel accepts in one map (user_namespaces(7), Linux 4.15).
const MAX_LINES: usize = 340;
/// The most bytes in one map: less than a page (user_namespaces(7)). On other architectures a page has up to 64 KiB.
const MAX_BYTES: usize = if cfg!(target_arch = "x86_64") { 4095 } else { 65535 };

/// The container's maps.
#[derive(Debug, Default)]
pub(super) struct Maps {
    /// The maps of the container's new user namespace.
    pub(super) own: Option<IdMaps>,
    /// The maps that config.json gives for the user namespace that the container joins.
    pub(super) joined: Option<IdMaps>,
}

/// Reads `linux.uidMappings` and `linux.gidMappings`. SPEC: config-linux.md#user-namespace-mappings.
pub(super) fn read(given: &Given<'_>, namespaces: &PlannedNamespaces, notes: &mut Notes) -> Maps {
    if !given.config.namespaces_are_known() {
        return Maps::default();
    }
    let linux = given.linux();
    let uids = linux.and_then(|linux| linux.uid_mappings().as_deref()).unwrap_or_default();
    let gids = linux.and_then(|linux| linux.gid_mappings().as_deref()).unwrap_or_default();
    let (uid_at, gid_at) = (At::new("linux.uidMappings"), At::new("linux.gidMappings"));
    for (list, at) in [(uids, &uid_at), (gids, &gid_at)] {
        if !list.is_empty() && !namespaces.private(USER) {
            notes.warn(at, "is ignored: there is no user namespace in linux.namespaces");
        }
        if list.is_empty() && namespaces.new.has(USER) {
            notes.fault(at, "is missing: a new user namespace needs it");
        }
        // a line with size 0 is a mistake of its own
        let root = list.iter().any(|map| map.container_id() == 0);
        if namespaces.new.has(USER) && !list.is_empty() && !root {
            notes.fault(at, "does not map id 0: init needs it to set up the container");
        }
        check_map(list, at, notes);
    }
    let own = namespaces.new.has(USER).then(|| with_writers(given, uids, gids));
    // containerd and podman write the maps of a pod into the config of each container that joins it.
    let joined = namespaces.joins(USER) && !(uids.is_empty() && gids.is_empty());
    Maps { own, joined: joined.then(|| with_writers(given, uids, gids)) }
}

/// An ordinary user may map only the user's own id. For more ids there are programs (user_namespaces(7)).
fn writer(list: &[LinuxIdMapping], uid: u32, own: u32) -> Writer {
    match list {
        _ if uid == 0 => Writer::Root,
        [line] if line.size() == 1 && line.host_id() == own => Writer::User,
        _ => Writer::Program,
    }
}

/// Both maps, each with a writer that the kernel accepts.
pub(super) fn with_writers(given: &Given<'_>, uids: &[LinuxIdMapping], gids: &[LinuxIdMapping]) -> IdMaps {
    let me = &given.host.me;
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

/// Checks one map: not too many lines, and no line that is empty, too large or overlaps another.
pub(super) fn check_map(list: &[LinuxIdMapping], at: &At, notes: &mut Notes) {
    if list.len() > MAX_LINES {
        notes.fault(at, format!("{} mappings: the kernel accepts at most {MAX_LINES}", list.len()));
    }
    let bytes: usize = maps(list).iter().map(|map| map.to_string().len()).sum();
    if bytes > MAX_BYTES && list.len() <= MAX_LINES {
        notes.fault(at, format!("{} mappings are {bytes} bytes: the kernel accepts at most {MAX_BYTES}", list.len()));
    }
    for (n, line) in list.iter().enumerate() {
        let at = at.index(n);
        if line.size() == 0 {
            notes.fault(&at.key("size"), "is 0");
        }
        for (name, first) in [("containerID", line.container_id()), ("hostID", line.host_id())] {
            if first.checked_add(line.size()).is_none() {
                notes.fault(&at.key(name), format!("{first} with size {} goes beyond the last id", line.size()));
            }
        }
        // This compares every pair, and a longer list is a fault already.
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
            notes.fault(&at, format!("overlaps with the mapping [{earlier}]"));
        }
    }
}

/// Which of the two maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ids {
    Users,
    Groups,
}

impl Maps {
    /// Adds a fault if no host id is mapped to `id`.
    pub(super) fn must_reach(&self, id: u32, ids: Ids, at: &At, notes: &mut Notes) {
        let Some(IdMaps { uids, gids, .. }) = &self.own else { return };
        let (list, property) = match ids {
            Ids::Users => (uids, "linux.uidMappings"),
            Ids::Groups => (gids, "linux.gidMappings"),
        };
        // No line, too many lines, and a line without ids have a fault of their own.
        if list.iter().all(|map| map.size > 0)
            && (1..=MAX_LINES).contains(&list.len())
            && !list.iter().any(|map| id.checked_sub(map.container).is_some_and(|distance| distance < map.size))
        {
            notes.fault(at, format!("{id} is not mapped in {property}"));
        }
    }

    /// True if setgroups(2) is denied for good: an ordinary user writes a gid_map that maps only the user's own gid.
    pub(super) fn deny_groups(&self) -> bool {
        self.own.as_ref().is_some_and(|maps| maps.gids_by == Writer::User)
    }
}
