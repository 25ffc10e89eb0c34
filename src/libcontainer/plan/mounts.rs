//! The mounts of config.json, in order. SPEC: config.md#mounts.

use std::ffi::CString;
use std::path::PathBuf;

use super::finished::Opening;
use super::mount_entry::{Bind, LateReadOnly, MountAction, MountContext, MountEntry, MountKind, NewFileSystem};
use super::mount_options::superblock_flag;
use super::namespaces::{CGROUP, IPC, NETWORK, PID, PlannedNamespaces, USER};
use super::notes::Notes;
use super::resources::CgroupOwner;
use super::step::{Content, Last, MountChange, Namespaces, NewMount, Remount, Slot, Target, What};
use super::steps::Steps;
use super::values::c_string;
use super::{cgroup_mounts, mount_entry, mount_id_maps};
use crate::config::At;
use crate::sys::mount::{Attributes, Reach};
use crate::wire::Request;

/// The longest value that fsconfig(2) accepts.
const MAX_SETTING: usize = 255;
/// The longest data of mount(2): a page with its NUL.
const MAX_DATA: usize = 4095;

/// All mounts.
#[derive(Debug)]
pub(super) struct Mounts {
    acts: Vec<MountAction>,
    /// Mounts that become read-only after all nodes, mount points and directories have been made.
    left_writable: Vec<LateReadOnly>,
    /// The user who owns the container's cgroup.
    pub(super) cgroup_owner: Option<CgroupOwner>,
    /// The annotation that asks for a cgroup below the container's own.
    delegated: Option<At>,
}

/// Reads `mounts`.
pub(super) fn read(context: &MountContext<'_>, notes: &mut Notes) -> Mounts {
    let list = context.given.config.spec.mounts().as_deref().unwrap_or_default();
    let delegated = context
        .cgroup
        .and_then(|cgroup| cgroup.placement.delegated.as_ref())
        .map(|delegated| delegated.owner.at.clone());
    let acts = Vec::with_capacity(list.len() + 1);
    let mut mounts = Mounts { acts, left_writable: Vec::new(), cgroup_owner: None, delegated };
    let mut in_cgroup = false;
    for (n, mount) in list.iter().enumerate() {
        let Some(entry) = mount_entry::read(mount, At::new("mounts").index(n), context.root, notes) else { continue };
        mount_id_maps::check_form(&entry, notes);
        mounts.make_read_only_before(&entry);
        // Before `bind`: `bind` beside `remount` changes the flags of the mount, and not those of the file system (mount(2)).
        if entry.options.remount {
            mounts.acts.extend(remount(&entry, notes));
        } else if entry.options.bind.is_some() {
            mounts.acts.extend(bind(context, &entry, notes).map(MountAction::Bind));
        } else if matches!(entry.mount.typ().as_deref(), Some("cgroup" | "cgroup2")) {
            if !std::mem::replace(&mut in_cgroup, true) {
                mounts.acts.push(MountAction::EnterCgroup);
            }
            let owner = cgroup_mounts::owner(context, &entry).filter(|_| mounts.delegated.is_none());
            mounts.cgroup_owner = owner.or(mounts.cgroup_owner);
            cgroup_mounts::read(context, &entry, &mut mounts.acts, notes);
        } else if let Some(mut new) = new_file_system(context, &entry, notes) {
            mounts.left_writable.extend(leave_writable(&mut new.mount, &entry));
            mounts.acts.push(MountAction::New(new));
        }
    }
    mounts.acts.extend(notify(context).map(MountAction::Bind));
    if !in_cgroup {
        mounts.acts.push(MountAction::EnterCgroup);
    }
    mounts
}

impl Mounts {
    /// Makes a writable mount read-only before another mount covers it, or a remount changes it.
    fn make_read_only_before(&mut self, entry: &MountEntry<'_>) {
        while let Some(n) =
            self.left_writable.iter().position(|left| left.path.to_bytes() == entry.destination.as_bytes())
        {
            self.acts.push(MountAction::MakeReadOnly(self.left_writable.remove(n)));
        }
    }

    /// The mount points in order, and what is mounted there.
    pub(super) fn targets(&self) -> impl Iterator<Item = (&CString, MountKind)> {
        self.acts.iter().filter_map(MountAction::target)
    }

    /// Makes all mounts. Returns those that are still writable. `pids` is the pid namespace that a proc file system
    /// shows, if that is not init's own.
    pub(super) fn steps(
        self,
        namespaces: &PlannedNamespaces,
        pids: Option<Slot>,
        steps: &mut Steps,
    ) -> Vec<LateReadOnly> {
        for act in self.acts {
            match act {
                MountAction::EnterCgroup => enter_cgroup(namespaces, self.delegated.as_ref(), steps),
                MountAction::New(new) => new.steps(pids, steps),
                MountAction::Bind(bind) => bind.steps(steps),
                MountAction::Remount(remount, at) => steps.add(&at, What::Remount(remount)),
                MountAction::Symlink { to, path, at } => steps.add(&at, What::Symlink { to, path }),
                MountAction::MakeReadOnly(late) => late.step(steps),
            }
        }
        self.left_writable
    }
}

/// ORDER: only when init is in the container's cgroup: that cgroup becomes the root of the namespace
/// (cgroup_namespaces(7)).
fn enter_cgroup(namespaces: &PlannedNamespaces, delegated: Option<&At>, steps: &mut Steps) {
    let at = At::new("linux.namespaces");
    if namespaces.new.has(CGROUP) {
        steps.add(&at, What::Request(Request::Cgroup));
        steps.add(&at, What::Unshare(Namespaces(CGROUP)));
    } else if let Some(delegated) = delegated {
        steps.add(delegated, What::Request(Request::Cgroup));
    }
    // ORDER: after the unshare: the namespace shows the container's own cgroup, and the delegated one below it.
    if let Some(delegated) = delegated {
        steps.add(delegated, What::Request(Request::Delegate));
    }
}

/// ORDER: a tmpfs becomes read-only after nodes and mount points have been made in it.
fn leave_writable(mount: &mut NewMount, entry: &MountEntry<'_>) -> Option<LateReadOnly> {
    let read_only = libc::MOUNT_ATTR_RDONLY;
    if mount.fstype.as_c_str() != c"tmpfs" || mount.attributes & read_only == 0 {
        return None;
    }
    mount.attributes &= !read_only;
    Some(LateReadOnly { path: mount.target.path.clone(), at: entry.at.key("options") })
}

fn new_file_system(context: &MountContext<'_>, entry: &MountEntry<'_>, notes: &mut Notes) -> Option<NewFileSystem> {
    if let Some(kind @ ("bind" | "rbind")) = entry.mount.typ().as_deref() {
        let said = format!("{kind:?} is not a file system: add \"bind\" or \"rbind\" to the options of a bind mount");
        notes.fault(&entry.at.key("options"), said);
        return None;
    }
    let Some(fstype) = entry.mount.typ().as_deref().filter(|fstype| !fstype.is_empty() && *fstype != "none") else {
        let is = if entry.mount.typ().as_deref() == Some("none") { "is \"none\"" } else { "is missing" };
        notes.fault(&entry.at.key("type"), format!("{is}, and the options say neither bind nor rbind"));
        return None;
    };
    let last = if ["proc", "sysfs"].contains(&fstype) { Last::Ordinary } else { Last::Any };
    let target = Target { last, ..Target::directory(entry.target_path(notes)?) };
    let settings = entry.settings(fstype, context.label, notes)?;
    let fstype_c = c_string(fstype, &entry.at.key("type"), notes)?;
    let content = match (fstype, entry.options.copy_up) {
        ("tmpfs", true) => Content::Copy,
        ("tmpfs", false) if !entry.options.data.iter().any(|(key, _)| key == "mode") => Content::EmptyWithMode,
        (_, true) => {
            notes.warn(&entry.at.key("options"), "tmpcopyup is for a tmpfs only: ignored");
            Content::Empty
        }
        _ => Content::Empty,
    };
    if fstype == "proc" {
        shows_pids(context.namespaces, entry, notes);
    }
    let classic = classic(entry, &settings, notes);
    let ids = mount_id_maps::of_new(context.given, context.namespaces, entry, notes);
    if ids.is_some() && classic.is_some() {
        let said = format!("an option of more than {MAX_SETTING} bytes cannot be combined with mapped ids");
        notes.fault(&entry.at.key("options"), said);
    }
    let mount = NewMount {
        settings,
        attributes: entry.options.set,
        changes: entry.changes(),
        content,
        classic,
        label: context.label.of_root(fstype),
        ..NewMount::new(&fstype_c, target)
    };
    Some(NewFileSystem { at: entry.at.clone(), mount, ids, instead: instead(context, fstype) })
}

/// A process can mount a proc for a pid namespace only if it has CAP_SYS_ADMIN in the user namespace that owns that pid
/// namespace. A new user namespace does not own a pid namespace that existed before.
fn shows_pids(namespaces: &PlannedNamespaces, entry: &MountEntry<'_>, notes: &mut Notes) {
    if let Some((_, joined)) = namespaces.path_of(PID).filter(|_| namespaces.new.has(USER)) {
        let said = format!(
            "a new proc shows the pid namespace of {joined}, and the new user namespace does not own it: join the user \
             namespace that owns it, or bind a proc"
        );
        notes.fault(&entry.at, said);
    }
}

/// The host's mount of the same type, which is bound if the kernel refuses a new mount. A proc shows a pid namespace, a
/// sysfs a network namespace, an mqueue an ipc namespace, and only the owner of that namespace may mount it. In
/// addition, a process may mount another proc or sysfs only if it sees one that is not covered in part
/// (mount_namespaces(7)). Those in containers are covered in part.
fn instead(context: &MountContext<'_>, fstype: &str) -> Option<Opening> {
    let (namespaces, is_root) = (context.namespaces, context.given.host.me.is_root());
    let bounded = namespaces.private(USER) || !is_root;
    match fstype {
        // With a pid namespace of its own, the container would see the wrong processes in the host's proc.
        "proc" if bounded && !namespaces.private(PID) => Some(Opening::ProcTree("/proc".into())),
        "mqueue" if bounded && !namespaces.private(IPC) => Some(Opening::Tree("/dev/mqueue".into(), Reach::One)),
        "sysfs" if bounded && !(namespaces.new.has(NETWORK) && is_root) => Some(Opening::Sysfs),
        _ => None,
    }
}

/// Settings that are too long for fsconfig(2) go to mount(2) as one text.
fn classic(
    entry: &MountEntry<'_>,
    settings: &[(CString, Option<CString>)],
    notes: &mut Notes,
) -> Option<(u64, CString)> {
    if settings.iter().flat_map(|(_, value)| value).all(|value| value.count_bytes() <= MAX_SETTING) {
        return None;
    }
    let mut flags = 0;
    let mut data: Vec<u8> = Vec::new();
    for (key, value) in settings.iter().filter(|(key, _)| key.as_c_str() != c"source") {
        let word = match (superblock_flag(key), value) {
            (Some(flag), None) => {
                flags |= flag;
                continue;
            }
            (None, None) => key.to_bytes().to_vec(),
            // The categories of a label have commas between them, so SELinux reads a label in quotes.
            (_, Some(value)) if key.to_bytes().ends_with(b"context") => {
                [key.to_bytes(), b"=\"", value.to_bytes(), b"\""].concat()
            }
            (_, Some(value)) => [key.to_bytes(), b"=", value.to_bytes()].concat(),
        };
        if !data.is_empty() {
            data.push(b',');
        }
        data.extend(word);
    }
    if data.len() > MAX_DATA {
        let problem = format!("{} bytes: mount(2) accepts at most {MAX_DATA}", data.len());
        notes.fault(&entry.at.key("options"), problem);
    }
    let data = CString::new(data).map_err(|_| notes.fault(&entry.at.key("options"), "has a NUL byte"));
    data.ok().map(|data| (flags, data))
}

fn remount(entry: &MountEntry<'_>, notes: &mut Notes) -> Option<MountAction> {
    if entry.maps_ids() {
        notes.fault(&entry.at, "a remount cannot map the ids of an existing mount");
    }
    let target = Target::directory(entry.target_path(notes)?);
    let settings = if entry.options.bind.is_some() { Vec::new() } else { entry.file_system_options(notes)? };
    if settings.iter().flat_map(|(_, value)| value).any(|value| value.count_bytes() > MAX_SETTING) {
        notes.fault(&entry.at.key("options"), format!("an option of a remount has at most {MAX_SETTING} bytes"));
    }
    let (set, clear) = (entry.options.set, entry.options.clear);
    let mut changes = Vec::new();
    if set | clear != 0 || settings.is_empty() {
        changes.push(MountChange { attributes: Attributes::changing(set, clear), reach: Reach::One });
    }
    changes.extend(entry.changes());
    Some(MountAction::Remount(Remount { settings, changes, target }, entry.at.clone()))
}

fn bind(context: &MountContext<'_>, entry: &MountEntry<'_>, notes: &mut Notes) -> Option<Bind> {
    let place = entry.at.key("source");
    let Some(source) = entry.mount.source().as_ref().filter(|source| !source.as_os_str().is_empty()) else {
        notes.fault(&place, "is missing, and a bind mount needs one");
        return None;
    };
    let reach = entry.options.bind.unwrap_or(Reach::One);
    let links = entry.options.links;
    let path = context.given.flags.bundle.join(source);
    let ids = mount_id_maps::of_bind(context.given, context.namespaces, entry, notes);
    let opening = if entry.destination == "proc" {
        Opening::ProcTree(path)
    } else if links.source_itself || links.copied {
        Opening::LinkTree(path, reach)
    } else {
        Opening::Source(path, reach, None)
    };
    if ids.is_some() && !matches!(opening, Opening::Source(..)) {
        notes.fault(&entry.at, "the ids of a link or of a proc file system cannot be mapped");
    }
    let inherited = context.root.inherited_beside(&entry.options.propagation);
    Some(Bind {
        source: place,
        ids,
        like_source: true,
        last: if links.destination_itself { Last::Itself } else { Last::Any },
        links_copied: links.copied,
        ..Bind::tree(&entry.at, opening, entry.changes_of_tree(inherited), entry.target_path(notes)?)
    })
}

/// The directory with the socket of the sd_notify proxy (NOTIFY_SOCKET).
fn notify(context: &MountContext<'_>) -> Option<Bind> {
    let directory = context.given.flags.notify.as_ref()?;
    let set = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_RDONLY;
    let mut changes = context.root.inherited();
    changes.push(MountChange { attributes: Attributes::changing(set, 0), reach: Reach::One });
    let opening = Opening::Tree(PathBuf::from(directory), Reach::One);
    Some(Bind::tree(&At::new("NOTIFY_SOCKET"), opening, changes, CString::from(c"run/notify")))
}
