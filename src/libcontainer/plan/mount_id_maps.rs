//! Mounts whose ids are mapped: `idmap`, `ridmap`, `mounts[].uidMappings` and `gidMappings`. The maps are those of a
//! user namespace (mount_setattr(2), MOUNT_ATTR_IDMAP). SPEC: config.md#posix-platform-mounts.

use super::finished::IdMaps;
use super::given::Given;
use super::idmap;
use super::mount_entry::{MapsOf, MountEntry};
use super::namespaces::{PlannedNamespaces, USER};
use super::notes::Notes;
use crate::host::MayMount;
use crate::sys::mount::Reach;

/// crun allows mappings in the option itself (`idmap=uids=0-1-10`). Such an option is a fault: otherwise it would go to
/// the file system as an option of its own.
pub(super) fn check_form(entry: &MountEntry<'_>, notes: &mut Notes) {
    let options = entry.mount.options().as_deref().unwrap_or_default();
    let own = |option: &String| option.starts_with("idmap=") || option.starts_with("ridmap=");
    if let Some(n) = options.iter().position(own) {
        let said = "mappings in an option are an extension of crun: write them to uidMappings and gidMappings";
        notes.fault(&entry.at.key("options").index(n), said);
    }
}

/// The ids of a bind mount. Mappings need no option; an option without mappings means those of the container.
pub(super) fn of_bind(
    given: &Given<'_>,
    namespaces: &PlannedNamespaces,
    entry: &MountEntry<'_>,
    notes: &mut Notes,
) -> Option<(MapsOf, Reach)> {
    if !entry.maps_ids() {
        return None;
    }
    must_be_root(given, entry, notes);
    let maps = match own_maps(given, entry, notes) {
        Some(maps) => MapsOf::Given(maps),
        None => container_user_namespace(namespaces, entry, notes)?,
    };
    let reach = entry.options.idmap.unwrap_or(Reach::One);
    Some((maps, reach))
}

/// The id maps of a new file system. Its ids are those of the container already, so an option without mappings changes
/// nothing.
pub(super) fn of_new(
    given: &Given<'_>,
    namespaces: &PlannedNamespaces,
    entry: &MountEntry<'_>,
    notes: &mut Notes,
) -> Option<IdMaps> {
    if !entry.maps_ids() {
        return None;
    }
    let maps = own_maps(given, entry, notes);
    match maps {
        Some(_) => must_be_root(given, entry, notes),
        None => drop(container_user_namespace(namespaces, entry, notes)),
    }
    maps
}

/// To map the ids of a mount, a process needs rights over three things: its own mount namespace, the user namespace of
/// the file system, and the user namespace of the maps (mount_setattr(2)). An ordinary user's runtime lacks the first,
/// and init lacks the last.
fn must_be_root(given: &Given<'_>, entry: &MountEntry<'_>, notes: &mut Notes) {
    if given.host.me.may_mount == MayMount::Inside {
        notes.fault(&entry.at, "only root can map the ids of a mount");
    }
}

/// The mappings of the mount.
fn own_maps(given: &Given<'_>, entry: &MountEntry<'_>, notes: &mut Notes) -> Option<IdMaps> {
    let [uids, gids] =
        [entry.mount.uid_mappings(), entry.mount.gid_mappings()].map(|list| list.as_deref().unwrap_or_default());
    let (uid_at, gid_at) = (entry.at.key("uidMappings"), entry.at.key("gidMappings"));
    if uids.is_empty() && gids.is_empty() {
        return None;
    }
    for (list, at, other) in [(uids, &uid_at, "gidMappings"), (gids, &gid_at, "uidMappings")] {
        if list.is_empty() {
            notes.fault(at, format!("is missing: {other} is set"));
        }
        idmap::check_map(list, at, notes);
    }
    Some(idmap::with_writers(given, uids, gids))
}

/// The user namespace of the container.
fn container_user_namespace(
    namespaces: &PlannedNamespaces,
    entry: &MountEntry<'_>,
    notes: &mut Notes,
) -> Option<MapsOf> {
    if namespaces.new.has(USER) {
        return Some(MapsOf::Own);
    }
    let joined = namespaces.path_of(USER).map(|(path, at)| MapsOf::Joined(path.to_path_buf(), at.clone()));
    if joined.is_none() {
        let said = "idmap without uidMappings and gidMappings needs a user namespace (linux.namespaces)";
        notes.fault(&entry.at.key("options"), said);
    }
    joined
}
