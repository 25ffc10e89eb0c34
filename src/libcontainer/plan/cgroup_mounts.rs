//! `cgroup` mounts: one file system on v2, a tmpfs full of hierarchies on v1.

use std::ffi::CString;
use std::path::{Path, PathBuf};

use super::draft::{Draft, Opening};
use super::mounts::{Entry, attach, changes, inherited_propagation, settings};
use super::namespaces::{CGROUP, Kinds, USER};
use super::process::c_string;
use super::resources::{Owner, Refused};
use super::step::{Content, Last, Missing, NewMount, Target, What};
use super::{Asked, labels, mount_ids};
use crate::host::cgroups::{Hierarchy, Layout};
use crate::sys::mount::Attributes;

pub(super) fn mount(ask: &Asked<'_>, kinds: &Kinds, entry: &Entry<'_>, plan: &mut Draft) {
    if mount_ids::asked(entry) {
        plan.fault(&entry.at, "a cgroup file system has no ids to map");
    }
    match (ask.host.cgroups.layout(), entry.mount.typ().as_deref()) {
        (Layout::Unified, _) => {
            hand_over(ask, kinds, entry, plan);
            unified(ask, entry, plan);
        }
        // asked for by its name, it is the one hierarchy of version 2 also where there are others
        (Layout::Legacy | Layout::Hybrid, Some("cgroup2")) => unified(ask, entry, plan),
        (Layout::Legacy | Layout::Hybrid, _) => legacy(ask, kinds, entry, plan),
    }
}

/// Who may write to the own cgroup at its usual place, in a cgroup namespace, is to govern what is below it: as with runc, it
/// becomes that of the user the container begins as.
fn hand_over(ask: &Asked<'_>, kinds: &Kinds, entry: &Entry<'_>, plan: &mut Draft) {
    let writable = entry.options.set & libc::MOUNT_ATTR_RDONLY == 0 && entry.destination == "sys/fs/cgroup";
    let uid = ask.config.spec.process().as_ref().map_or(0, |process| process.user().uid());
    let other = uid != 0 || kinds.private(USER);
    if let Some((placement, ..)) = plan.plan().cgroup.as_mut().filter(|_| writable && other && kinds.new.has(CGROUP)) {
        placement.owner = Some(Owner { uid, at: entry.at.clone() });
    }
}

/// A cgroup2 of its own; where that is refused, the container's directory bound there.
fn unified(ask: &Asked<'_>, entry: &Entry<'_>, plan: &mut Draft) {
    let Some(path) = c_string(&entry.destination, &entry.at.key("destination"), plan) else { return };
    let own = plan.plan().cgroup.as_ref().and_then(|(placement, ..)| placement.directory("").map(Path::to_path_buf));
    let own = own.or_else(|| ask.host.cgroups.v2.as_ref().map(|v2| v2.mount.clone()));
    let instead = ask.host.cgroups.v2.as_ref().map(|v2| at_home(&v2.mount, &v2.own)).filter(|_| may_lack(plan));
    let fallback = own.map(|own| plan.open(&entry.at, Opening::CgroupTree(own, instead)));
    fallback.iter().for_each(|slot| plan.copy(&entry.at, *slot));
    // for the fallback, which is a copy of the host's; a new mount has no peers
    let mut list = inherited_propagation(ask);
    list.extend(changes(&entry.options));
    let Some(settings) = settings(ask, entry, "cgroup2", plan) else { return };
    let mount = NewMount {
        fstype: CString::from(c"cgroup2"),
        settings,
        attributes: entry.options.set,
        changes: list,
        target: Target { path, missing: Missing::Directory, last: Last::Any },
        content: Content::Empty,
        classic: None,
        ids: None,
        label: None,
        fallback,
        pid_namespace: None,
    };
    plan.at(&entry.at, What::NewMount(mount));
}

/// As the host has it: a directory per hierarchy, and links for controllers that share one.
fn legacy(ask: &Asked<'_>, kinds: &Kinds, entry: &Entry<'_>, plan: &mut Draft) {
    let Some(path) = c_string(&entry.destination, &entry.at.key("destination"), plan) else { return };
    let read_only = entry.options.set & libc::MOUNT_ATTR_RDONLY;
    let target = Target { path: path.clone(), missing: Missing::Directory, last: Last::Any };
    let settings = [("source", "tmpfs"), ("mode", "755"), ("size", "1m")];
    let c = |text: &str| CString::new(text).unwrap_or_default();
    let label = labels::of_mount(ask, "tmpfs", &[]).map(|label| (c("context"), Some(c(label))));
    let directory = NewMount {
        fstype: c("tmpfs"),
        settings: settings.iter().map(|(key, value)| (c(key), Some(c(value)))).chain(label).collect(),
        attributes: entry.options.set & !read_only,
        changes: changes(&entry.options),
        target,
        content: Content::Empty,
        classic: None,
        ids: None,
        label: None,
        fallback: None,
        pid_namespace: None,
    };
    plan.at(&entry.at, What::NewMount(directory));
    let hierarchies = ask.host.cgroups.v1.iter().map(|h| (h.mount.as_path(), Some(h)));
    let unified = ask.host.cgroups.v2.as_ref().map(|v2| (v2.mount.as_path(), None));
    for (mount, hierarchy) in hierarchies.chain(unified) {
        let Some(name) = mount.file_name().and_then(|name| name.to_str()) else { continue };
        let place = format!("{}/{name}", entry.destination);
        let Some(place) = c_string(&place, &entry.at, plan) else { continue };
        let target = Target { path: place, missing: Missing::Directory, last: Last::Any };
        if kinds.private(CGROUP) {
            own(entry, hierarchy, target, plan);
        } else {
            bound(ask, entry, mount, hierarchy, target, plan);
        }
        links(entry, name, hierarchy, plan);
    }
    if read_only != 0 {
        let attributes = Attributes { set: read_only, ..Attributes::default() };
        plan.at(&entry.at.key("options"), What::Finish(path, attributes));
    }
}

/// In a cgroup namespace a new mount of the hierarchy shows what is below the container's own cgroup.
fn own(entry: &Entry<'_>, hierarchy: Option<&Hierarchy>, target: Target, plan: &mut Draft) {
    let c = |text: &str| CString::new(text).unwrap_or_default();
    let mut settings = vec![(c("source"), Some(c("cgroup")))];
    for controller in hierarchy.map(|hierarchy| hierarchy.controllers.as_slice()).unwrap_or_default() {
        match controller.split_once('=') {
            Some((key, name)) => settings.extend([(c("none"), None), (c(key), Some(c(name)))]),
            None => settings.push((c(controller), None)),
        }
    }
    let mount = NewMount {
        fstype: c(if hierarchy.is_some() { "cgroup" } else { "cgroup2" }),
        settings,
        attributes: entry.options.set,
        changes: Vec::new(),
        target,
        content: Content::Empty,
        classic: None,
        ids: None,
        label: None,
        fallback: None,
        pid_namespace: None,
    };
    plan.at(&entry.at, What::NewMount(mount));
}

/// Without one, the container's directory of the host's mount.
fn bound(
    ask: &Asked<'_>,
    entry: &Entry<'_>,
    mount: &Path,
    hierarchy: Option<&Hierarchy>,
    target: Target,
    plan: &mut Draft,
) {
    let key = hierarchy.map_or(String::new(), Hierarchy::key);
    let placed = plan.plan().cgroup.as_ref().and_then(|(placement, ..)| placement.directory(&key));
    let directory = placed.unwrap_or(mount).to_path_buf();
    let own = match hierarchy {
        Some(hierarchy) => &hierarchy.own,
        None => ask.host.cgroups.v2.as_ref().map_or(Path::new("/"), |v2| v2.own.as_path()),
    };
    let instead = Some(at_home(mount, own)).filter(|_| may_lack(plan));
    let slot = plan.open(&entry.at, Opening::CgroupTree(directory, instead));
    plan.copy(&entry.at, slot);
    attach(ask, entry, slot, target, plan);
}

/// True when the container may have to do without a cgroup of its own.
fn may_lack(plan: &mut Draft) -> bool {
    plan.plan().cgroup.as_ref().is_some_and(|(placement, ..)| placement.refused == Refused::None)
}

/// Our own cgroup, as far as it can be seen from where we are.
fn at_home(mount: &Path, own: &Path) -> PathBuf {
    let below = own.strip_prefix("/").unwrap_or(own);
    if below.as_os_str().is_empty() { mount.to_path_buf() } else { mount.join(below) }
}

fn links(entry: &Entry<'_>, name: &str, hierarchy: Option<&Hierarchy>, plan: &mut Draft) {
    let controllers = hierarchy.map(|hierarchy| hierarchy.controllers.as_slice()).unwrap_or_default();
    for controller in controllers.iter().filter(|controller| *controller != name && !controller.contains('=')) {
        let path = format!("{}/{controller}", entry.destination);
        if let (Ok(to), Some(path)) = (CString::new(name), c_string(&path, &entry.at, plan)) {
            plan.at(&entry.at, What::Symlink(to, path));
        }
    }
}
