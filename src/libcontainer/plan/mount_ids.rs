//! Mounts whose ids are mapped: `idmap`, `ridmap`, `mounts[].uidMappings` and `gidMappings`. The maps are those of a user
//! namespace (mount_setattr(2), MOUNT_ATTR_IDMAP). SPEC: config.md#posix-platform-mounts.

use oci_spec::runtime::{LinuxIdMapping, Mount};

use super::Asked;
use super::draft::{Draft, Mapped, Mapper, Opening};
use super::idmap;
use super::mount_options::Recursion;
use super::mounts::Entry;
use super::namespaces::{Kinds, USER};
use super::step::Slot;
use crate::host::Mounts;
use crate::sys::mount::Reach;

/// True when the mount is to have ids of its own.
pub(super) fn asked(entry: &Entry<'_>) -> bool {
    let given = |list: &Option<Vec<LinuxIdMapping>>| list.as_ref().is_some_and(|list| !list.is_empty());
    entry.options.idmap.is_some() || given(entry.mount.uid_mappings()) || given(entry.mount.gid_mappings())
}

/// An option with mappings in it (`idmap=uids=0-1-10`), which nobody here would look at.
pub(super) fn own_form(mount: &Mount) -> Option<usize> {
    let options = mount.options().as_deref().unwrap_or_default();
    options.iter().position(|option| option.starts_with("idmap=") || option.starts_with("ridmap="))
}

/// The ids of a bind mount. Mappings need no option; an option without mappings means those of the container.
pub(super) fn of(ask: &Asked<'_>, kinds: &Kinds, entry: &Entry<'_>, plan: &mut Draft) -> Option<Mapped> {
    if !asked(entry) {
        return None;
    }
    must_be_root(ask, entry, plan);
    let by = match own_maps(ask, entry, plan) {
        Some(slot) => Mapper::Other(slot),
        None => containers(kinds, entry, plan)?,
    };
    let reach = if entry.options.idmap == Some(Recursion::Recursive) { Reach::Tree } else { Reach::One };
    Some(Mapped { by, reach })
}

/// The ids of a new file system: those of the container are its own already, and no mapping is asked for.
pub(super) fn of_new(ask: &Asked<'_>, kinds: &Kinds, entry: &Entry<'_>, plan: &mut Draft) -> Option<Slot> {
    if !asked(entry) {
        return None;
    }
    let slot = own_maps(ask, entry, plan);
    match slot {
        Some(_) => must_be_root(ask, entry, plan),
        None => drop(containers(kinds, entry, plan)),
    }
    slot
}

/// Who maps the ids of a mount has power over the mount namespace that he calls in, over the user namespace of the file system
/// and over that of the maps (mount_setattr(2)). An ordinary user's runtime lacks the first, and init the last.
fn must_be_root(ask: &Asked<'_>, entry: &Entry<'_>, plan: &mut Draft) {
    if ask.host.me.mounts == Mounts::Inside {
        plan.fault(&entry.at, "the ids of a mount can be mapped by root alone");
    }
}

/// A user namespace with the mappings of the mount; the same one for the same mappings.
fn own_maps(ask: &Asked<'_>, entry: &Entry<'_>, plan: &mut Draft) -> Option<Slot> {
    let [uids, gids] =
        [entry.mount.uid_mappings(), entry.mount.gid_mappings()].map(|list| list.as_deref().unwrap_or_default());
    let (uid_at, gid_at) = (entry.at.key("uidMappings"), entry.at.key("gidMappings"));
    if uids.is_empty() && gids.is_empty() {
        return None;
    }
    for (list, at, other) in [(uids, &uid_at, "gidMappings"), (gids, &gid_at, "uidMappings")] {
        if list.is_empty() {
            plan.fault(at, format!("is missing beside {other}"));
        }
        idmap::lines(list, at, plan);
    }
    Some(plan.open_once(&entry.at, Opening::IdMaps(idmap::both(ask, uids, gids))))
}

/// The user namespace of the container.
fn containers(kinds: &Kinds, entry: &Entry<'_>, plan: &mut Draft) -> Option<Mapper> {
    if kinds.new.has(USER) {
        return Some(Mapper::Own);
    }
    match kinds.path_of(USER) {
        Some((path, at)) => {
            let (path, at) = (path.to_path_buf(), at.clone());
            Some(Mapper::Other(plan.open_once(&at, Opening::Namespace(path, USER))))
        }
        None => {
            let said = "idmap without uidMappings and gidMappings needs a user namespace (linux.namespaces)";
            plan.fault(&entry.at.key("options"), said);
            None
        }
    }
}
