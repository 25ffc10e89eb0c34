//! Mounts of type `cgroup`: one file system on v2; on v1, a tmpfs with one mount per hierarchy.

use std::ffi::CString;
use std::path::{Path, PathBuf};

use super::finished::{Opening, PlannedCgroup};
use super::mount_entry::{Bind, LateReadOnly, MountAction, MountContext, MountEntry, NewFileSystem};
use super::namespaces::{CGROUP, USER};
use super::notes::Notes;
use super::resources::CgroupOwner;
use super::step::{NewMount, Target};
use super::values::c_string;
use crate::host::cgroups::{Hierarchy, Layout};

/// Reads one such mount.
pub(super) fn read(context: &MountContext<'_>, entry: &MountEntry<'_>, acts: &mut Vec<MountAction>, notes: &mut Notes) {
    if entry.maps_ids() {
        notes.fault(&entry.at, "a cgroup file system has no ids to map");
    }
    let Some(path) = entry.target_path(notes) else { return };
    match (context.given.host.cgroups.layout(), entry.mount.typ().as_deref()) {
        // The type `cgroup2` always means the hierarchy of version 2, also on a host with version 1.
        (Layout::Unified, _) | (Layout::Legacy | Layout::Hybrid, Some("cgroup2")) => {
            acts.extend(unified(context, entry, path, notes));
        }
        (Layout::Legacy | Layout::Hybrid, _) => legacy(context, entry, path, acts, notes),
    }
}

/// The user who owns the container's cgroup. As with runc: in a cgroup namespace, with a writable cgroup2 at
/// /sys/fs/cgroup, the container may manage the cgroups below its own. The user of its process becomes the owner.
pub(super) fn owner(context: &MountContext<'_>, entry: &MountEntry<'_>) -> Option<CgroupOwner> {
    let unified = context.given.host.cgroups.layout() == Layout::Unified;
    let writable = entry.options.set & libc::MOUNT_ATTR_RDONLY == 0 && entry.destination == "sys/fs/cgroup";
    let uid = context.given.config.spec.process().as_ref().map_or(0, |process| process.user().uid());
    let other = uid != 0 || context.namespaces.private(USER);
    let governs = unified && writable && other && context.namespaces.new.has(CGROUP);
    governs.then(|| CgroupOwner { uid, at: entry.at.clone() })
}

/// A new cgroup2 mount. If the kernel refuses it, the container's directory of the host's mount is bound there.
fn unified(
    context: &MountContext<'_>,
    entry: &MountEntry<'_>,
    path: CString,
    notes: &mut Notes,
) -> Option<MountAction> {
    let v2 = context.given.host.cgroups.v2.as_ref();
    let own = context.cgroup.and_then(|cgroup| cgroup.placement.directory("").map(Path::to_path_buf));
    let own = own.or_else(|| v2.map(|v2| v2.mount.clone()));
    let home = v2.map(|v2| path_of_own(&v2.mount, &v2.own)).filter(|_| may_lack(context));
    // These changes are for the directory: it is a copy of the host's mount, and has peers. A new mount has none.
    let mut changes = context.root.inherited();
    changes.extend(entry.changes());
    let mount = NewMount {
        settings: entry.settings("cgroup2", context.label, notes)?,
        attributes: entry.options.set,
        changes,
        ..NewMount::new(c"cgroup2", Target::directory(path))
    };
    let instead = own.map(|own| Opening::CgroupTree(own, home));
    Some(MountAction::New(NewFileSystem { at: entry.at.clone(), mount, ids: None, instead }))
}

/// The same layout as on the host: a directory per hierarchy, and links for controllers that share one.
fn legacy(
    context: &MountContext<'_>,
    entry: &MountEntry<'_>,
    path: CString,
    acts: &mut Vec<MountAction>,
    notes: &mut Notes,
) {
    let read_only = entry.options.set & libc::MOUNT_ATTR_RDONLY;
    let settings = [(c"source", c"tmpfs"), (c"mode", c"755"), (c"size", c"1m")];
    let settings = settings.iter().map(|(key, value)| (CString::from(*key), Some(CString::from(*value))));
    let label = context.label.context("tmpfs", &[]);
    let directory = NewMount {
        settings: settings.chain(label).collect(),
        attributes: entry.options.set & !read_only,
        changes: entry.changes(),
        ..NewMount::new(c"tmpfs", Target::directory(path.clone()))
    };
    acts.push(MountAction::New(NewFileSystem { at: entry.at.clone(), mount: directory, ids: None, instead: None }));
    let cgroups = &context.given.host.cgroups;
    let hierarchies = cgroups.v1.iter().map(|h| (h.mount.as_path(), Some(h)));
    let unified = cgroups.v2.as_ref().map(|v2| (v2.mount.as_path(), None));
    for (mount, hierarchy) in hierarchies.chain(unified) {
        let Some(name) = mount.file_name().and_then(|name| name.to_str()) else { continue };
        let path = format!("{}/{name}", entry.destination);
        let Some(path) = c_string(&path, &entry.at, notes) else { continue };
        acts.extend(if context.namespaces.private(CGROUP) {
            own_cgroup(entry, hierarchy, path, notes)
        } else {
            Some(bound(context, entry, mount, hierarchy, path))
        });
        links(entry, name, hierarchy, acts, notes);
    }
    if read_only != 0 {
        acts.push(MountAction::MakeReadOnly(LateReadOnly { path, at: entry.at.key("options") }));
    }
}

/// In a cgroup namespace, a new mount of the hierarchy shows only the container's own cgroup and what is below.
fn own_cgroup(
    entry: &MountEntry<'_>,
    hierarchy: Option<&Hierarchy>,
    path: CString,
    notes: &mut Notes,
) -> Option<MountAction> {
    let mut settings = vec![(CString::from(c"source"), Some(CString::from(c"cgroup")))];
    for controller in hierarchy.iter().flat_map(|hierarchy| &hierarchy.controllers) {
        let mut text = |text: &str| c_string(text, &entry.at, notes);
        match controller.split_once('=') {
            Some((key, name)) => {
                settings.extend([(CString::from(c"none"), None), (text(key)?, Some(text(name)?))]);
            }
            None => settings.push((text(controller)?, None)),
        }
    }
    let fstype = if hierarchy.is_some() { c"cgroup" } else { c"cgroup2" };
    let mount = NewMount { settings, attributes: entry.options.set, ..NewMount::new(fstype, Target::directory(path)) };
    Some(MountAction::New(NewFileSystem { at: entry.at.clone(), mount, ids: None, instead: None }))
}

/// Without a cgroup namespace: binds the container's directory of the host's mount.
fn bound(
    context: &MountContext<'_>,
    entry: &MountEntry<'_>,
    mount: &Path,
    hierarchy: Option<&Hierarchy>,
    path: CString,
) -> MountAction {
    let key = hierarchy.map_or(String::new(), Hierarchy::key);
    let placed = context.cgroup.and_then(|cgroup| cgroup.placement.directory(&key));
    let directory = placed.unwrap_or(mount).to_path_buf();
    let own = match hierarchy {
        Some(hierarchy) => &hierarchy.own,
        None => context.given.host.cgroups.v2.as_ref().map_or(Path::new("/"), |v2| v2.own.as_path()),
    };
    let home = Some(path_of_own(mount, own)).filter(|_| may_lack(context));
    let changes = entry.changes_of_tree(context.root.inherited());
    let bind = Bind::tree(&entry.at, Opening::CgroupTree(directory, home), changes, path);
    MountAction::Bind(Bind { links_copied: entry.options.links.copied, ..bind })
}

fn may_lack(context: &MountContext<'_>) -> bool {
    context.cgroup.is_some_and(PlannedCgroup::may_lack)
}

/// The runtime's own cgroup, below the host's mount as the runtime sees it.
fn path_of_own(mount: &Path, own: &Path) -> PathBuf {
    let below = own.strip_prefix("/").unwrap_or(own);
    if below.as_os_str().is_empty() { mount.to_path_buf() } else { mount.join(below) }
}

fn links(
    entry: &MountEntry<'_>,
    name: &str,
    hierarchy: Option<&Hierarchy>,
    acts: &mut Vec<MountAction>,
    notes: &mut Notes,
) {
    let controllers = hierarchy.iter().flat_map(|hierarchy| &hierarchy.controllers);
    for controller in controllers.filter(|controller| *controller != name && !controller.contains('=')) {
        let path = format!("{}/{controller}", entry.destination);
        if let (Some(to), Some(path)) = (c_string(name, &entry.at, notes), c_string(&path, &entry.at, notes)) {
            acts.push(MountAction::Symlink { to, path, at: entry.at.clone() });
        }
    }
}
