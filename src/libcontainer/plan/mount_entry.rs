//! One entry of `mounts` as read, and the steps for it.

use std::ffi::CString;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Mount;

use super::finished::{IdMaps, Mapped, Mapper, Opening, PlannedCgroup};
use super::given::Given;
use super::labels::MountLabel;
use super::mount_options::{self, MountOptions};
use super::namespaces::{PlannedNamespaces, USER};
use super::notes::Notes;
use super::rootfs::Rootfs;
use super::step::{Last, Missing, MountChange, NewMount, Remount, Setting, Slot, Target, What};
use super::steps::Steps;
use super::values::{c_string, clean};
use crate::config::At;
use crate::host::MayMount;
use crate::sys::mount::{Attributes, Reach};
use crate::wire::Request;

/// The only paths under /proc that a mount may cover: lxcfs and similar programs provide these files.
const PROC_FILES: [&str; 10] = [
    "cpuinfo",
    "diskstats",
    "meminfo",
    "stat",
    "swaps",
    "uptime",
    "loadavg",
    "slabinfo",
    "sys/kernel/ns_last_pid",
    "sys/crypto/fips_enabled",
];

/// File systems whose superblock other mounts share: `ro` must not change the superblock, only the mount.
const SHARED_SUPERBLOCKS: [&str; 6] = ["proc", "sysfs", "cgroup", "cgroup2", "mqueue", "devpts"];

/// The values that mounts depend on.
#[derive(Clone, Copy)]
pub(super) struct MountContext<'a> {
    pub(super) given: &'a Given<'a>,
    pub(super) namespaces: &'a PlannedNamespaces,
    pub(super) root: &'a Rootfs,
    pub(super) label: &'a MountLabel,
    pub(super) cgroup: Option<&'a PlannedCgroup>,
}

/// One entry of `mounts`, as read.
pub(super) struct MountEntry<'a> {
    pub(super) mount: &'a Mount,
    pub(super) at: At,
    /// Without `.` and `..`, relative to the root.
    pub(super) destination: String,
    pub(super) options: MountOptions,
}

/// The actions for the mounts, in this order.
#[derive(Debug)]
pub(super) enum MountAction {
    /// Init enters the container's cgroup, and the new cgroup namespace if there is one.
    EnterCgroup,
    /// A new file system.
    New(NewFileSystem),
    /// A tree of the host.
    Bind(Bind),
    /// A change of the mount that is at a path already.
    Remount(Remount, At),
    /// A symbolic link.
    Symlink { to: CString, path: CString, at: At },
    /// A mount that was writable until now, and becomes read-only.
    MakeReadOnly(LateReadOnly),
}

/// A new file system, before it has slots.
#[derive(Debug)]
pub(super) struct NewFileSystem {
    pub(super) at: At,
    pub(super) mount: NewMount,
    /// The maps for its ids.
    pub(super) ids: Option<IdMaps>,
    /// The tree that is bound instead if the kernel refuses the new mount.
    pub(super) instead: Option<Opening>,
}

/// A tree of the host that is mounted.
#[derive(Debug)]
pub(super) struct Bind {
    pub(super) at: At,
    /// The property that names the tree.
    pub(super) source: At,
    pub(super) opening: Opening,
    /// Whose maps apply to its ids.
    pub(super) ids: Option<(MapsOf, Reach)>,
    pub(super) changes: Vec<MountChange>,
    pub(super) path: CString,
    /// If the mount point is missing, a file or a directory is made, like the source. Otherwise a directory is made.
    pub(super) like_source: bool,
    pub(super) last: Last,
    /// If the source is a symbolic link, a new link is made.
    pub(super) links_copied: bool,
}

/// Whose maps apply to the ids of a mount.
#[derive(Debug)]
pub(super) enum MapsOf {
    /// The user namespace in which init is spawned.
    Own,
    /// A joined one, by its file and property.
    Joined(PathBuf, At),
    /// A new one with these maps.
    Given(IdMaps),
}

/// A mount that becomes read-only when no step has to make files in it any more.
#[derive(Debug)]
pub(super) struct LateReadOnly {
    pub(super) path: CString,
    pub(super) at: At,
}

/// What is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum MountKind {
    /// A file system of the container.
    NewFileSystem,
    /// A bind mount.
    TreeOfHost,
}

impl MountAction {
    /// Its mount point, and what is mounted there.
    pub(super) fn target(&self) -> Option<(&CString, MountKind)> {
        match self {
            MountAction::New(new) => Some((&new.mount.target.path, MountKind::NewFileSystem)),
            MountAction::Bind(bind) => Some((&bind.path, MountKind::TreeOfHost)),
            MountAction::EnterCgroup
            | MountAction::Remount(..)
            | MountAction::Symlink { .. }
            | MountAction::MakeReadOnly(_) => None,
        }
    }
}

impl NewFileSystem {
    /// `pids` is the pid namespace that a proc file system shows, if that is not init's own.
    pub(super) fn steps(self, pids: Option<Slot>, steps: &mut Steps) {
        let NewFileSystem { at, mut mount, ids, instead } = self;
        mount.ids = ids.map(|maps| steps.open_once(&at, Opening::IdMaps(maps)));
        mount.fallback = instead.map(|opening| steps.open(&at, opening));
        mount.fallback.iter().for_each(|slot| steps.add_copy(&at, *slot));
        mount.pid_namespace = pids.filter(|_| mount.fstype.as_c_str() == c"proc");
        if mount.pid_namespace.is_some() {
            // mount(2) would mount a proc of the bridge's pid namespace.
            mount.classic = None;
        }
        steps.add(&at, What::NewMount(mount));
    }
}

impl Bind {
    /// A tree whose mount point becomes a directory if it is missing.
    pub(super) fn tree(at: &At, opening: Opening, changes: Vec<MountChange>, path: CString) -> Bind {
        Bind {
            at: at.clone(),
            source: at.clone(),
            opening,
            ids: None,
            changes,
            path,
            like_source: false,
            last: Last::Any,
            links_copied: false,
        }
    }

    pub(super) fn steps(self, steps: &mut Steps) {
        let ids = self.ids.map(|(maps, reach)| Mapped { by: maps.into_mapper(&self.at, steps), reach });
        let (opening, is_sent) = match self.opening {
            Opening::Source(path, reach, _) => (Opening::Source(path, reach, ids), steps.may_mount() == MayMount::Here),
            other => (other, false),
        };
        let slot = steps.open(&self.source, opening);
        steps.add_copy(&self.at, slot);
        // KERNEL(6.8): mountinfo(5) lists mounts by their age, so a tree must not be older than the mounts before it.
        if let Some(number) = u32::try_from(slot.0).ok().filter(|_| is_sent) {
            steps.add(&self.at, What::Request(Request::Tree(number)));
        }
        let missing = if self.like_source { Missing::LikeSource(slot) } else { Missing::Directory };
        let target = Target { path: self.path, missing, last: self.last };
        let what = if self.links_copied { What::BindOrLink } else { What::Bind };
        steps.add(&self.at, what(slot, self.changes, target));
    }
}

impl MapsOf {
    fn into_mapper(self, at: &At, steps: &mut Steps) -> Mapper {
        match self {
            MapsOf::Own => Mapper::Own,
            MapsOf::Joined(path, at) => Mapper::Other(steps.open_once(&at, Opening::Namespace(path, USER))),
            MapsOf::Given(maps) => Mapper::Other(steps.open_once(at, Opening::IdMaps(maps))),
        }
    }
}

impl LateReadOnly {
    pub(super) fn step(self, steps: &mut Steps) {
        steps.add(&self.at, What::Finish { path: self.path, attributes: Attributes::read_only() });
    }
}

/// Reads the mount at `at`.
pub(super) fn read<'a>(mount: &'a Mount, at: At, root: &Rootfs, notes: &mut Notes) -> Option<MountEntry<'a>> {
    let options = mount.options().as_deref().unwrap_or_default();
    let (options, warnings) = mount_options::parse(options, &at.key("options"));
    notes.warnings(warnings);
    let place = at.key("destination");
    let Some(text) = mount.destination().to_str().filter(|text| !text.is_empty() && !text.contains('\0')) else {
        notes.fault(&place, "is empty or not text");
        return None;
    };
    if !mount.destination().is_absolute() {
        // SPEC: config.md#mounts: relative destinations are deprecated and begin at the root
        notes.warn(&place, format!("{text:?} is not absolute: it begins at the root"));
    }
    let mut destination = clean(Path::new(text));
    if let Some(inside) = root.path_inside(&destination) {
        notes.warn(&place, format!("{text:?} is a path of the host in root.path: coracle uses \"/{inside}\""));
        destination = inside;
    }
    if destination == "." {
        notes.fault(&place, "a mount on the root itself is not allowed");
        return None;
    }
    let entry = MountEntry { mount, at, destination, options };
    check_proc(&entry, notes);
    Some(entry)
}

/// The file system on /proc decides where labels and limits are written (CVE-2019-16884, CVE-2019-19921).
fn check_proc(entry: &MountEntry<'_>, notes: &mut Notes) {
    let place = entry.at.key("destination");
    let procfs = entry.mount.typ().as_deref() == Some("proc") && entry.options.bind.is_none();
    // For a bind mount of the host's /proc, the check is where the source is opened.
    if entry.destination == "proc" && !procfs && entry.options.bind.is_none() && !entry.options.remount {
        notes.fault(&place, "only a proc file system may be mounted on /proc");
    }
    if let Some(below) = entry.destination.strip_prefix("proc/")
        && !PROC_FILES.contains(&below)
        && !entry.options.remount
    {
        notes.fault(&place, format!("{:?} is inside /proc", format!("/{}", entry.destination)));
    }
}

impl MountEntry<'_> {
    /// The mount point.
    pub(super) fn target_path(&self, notes: &mut Notes) -> Option<CString> {
        c_string(&self.destination, &self.at.key("destination"), notes)
    }

    /// The changes of a detached mount before it is attached.
    pub(super) fn changes(&self) -> Vec<MountChange> {
        self.options.changes()
    }

    /// A detached tree gets the propagation that a mount made inside would have, and its own flags.
    pub(super) fn changes_of_tree(&self, mut inherited: Vec<MountChange>) -> Vec<MountChange> {
        if inherited.is_empty() && self.maps_ids() {
            // A peer of the host's mount would show the container's ids on the host, and bring ids of the host into the
            // container.
            inherited.push(MountChange { attributes: Attributes::propagating(libc::MS_PRIVATE), reach: Reach::Tree });
        }
        inherited.extend(self.options.own_change());
        inherited.extend(self.changes());
        inherited
    }

    /// The keys for fsconfig(2): the source, the superblock's flags, the file system's own options.
    pub(super) fn settings(
        &self,
        fstype: &str,
        label_of_mounts: &MountLabel,
        notes: &mut Notes,
    ) -> Option<Vec<Setting>> {
        let mut settings = Vec::new();
        if let Some(source) = self.mount.source().as_ref().and_then(|source| source.to_str()).filter(|s| !s.is_empty())
        {
            settings.push((CString::from(c"source"), Some(c_string(source, &self.at.key("source"), notes)?)));
        }
        let own_superblock = !SHARED_SUPERBLOCKS.contains(&fstype) && fstype != "tmpfs";
        if own_superblock && self.options.set & libc::MOUNT_ATTR_RDONLY != 0 {
            settings.push((CString::from(c"ro"), None));
        }
        settings.extend(self.file_system_options(notes)?);
        settings.extend(label_of_mounts.context(fstype, &self.options.data));
        Some(settings)
    }

    /// The superblock's flags and the file system's own options.
    pub(super) fn file_system_options(&self, notes: &mut Notes) -> Option<Vec<Setting>> {
        notes.collect(self.options.settings(&self.at.key("options")))
    }

    /// True if the mount has its own id maps.
    pub(super) fn maps_ids(&self) -> bool {
        self.options.maps_ids(self.mount)
    }
}
