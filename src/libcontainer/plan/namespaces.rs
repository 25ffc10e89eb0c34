//! The container's namespaces: new ones and joined ones. SPEC: config-linux.md#namespaces.

use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxNamespaceType;

use super::given::Given;
use super::notes::Notes;
use super::step::Namespaces;
use crate::config::At;
use crate::host::MayMount;

/// CLONE_NEW* as `u64`.
pub(super) const MOUNT: u64 = libc::CLONE_NEWNS as u64;
pub(super) const CGROUP: u64 = libc::CLONE_NEWCGROUP as u64;
pub(super) const UTS: u64 = libc::CLONE_NEWUTS as u64;
pub(super) const USER: u64 = libc::CLONE_NEWUSER as u64;
pub(super) const PID: u64 = libc::CLONE_NEWPID as u64;
pub(super) const NETWORK: u64 = libc::CLONE_NEWNET as u64;
pub(super) const TIME: u64 = libc::CLONE_NEWTIME as u64;
pub(super) const IPC: u64 = libc::CLONE_NEWIPC as u64;

/// Every kind, its word in the specification, and the name of its file under /proc/PID/ns.
pub const KINDS: [(u64, &str, &str); 8] = [
    (MOUNT, "mount", "mnt"),
    (CGROUP, "cgroup", "cgroup"),
    (UTS, "uts", "uts"),
    (IPC, "ipc", "ipc"),
    (USER, "user", "user"),
    (PID, "pid", "pid"),
    (NETWORK, "network", "net"),
    (TIME, "time", "time"),
];

/// The container's namespaces.
#[derive(Clone, Debug, Default)]
pub(super) struct PlannedNamespaces {
    /// Namespaces to make.
    pub(super) new: Namespaces,
    /// Namespaces to join: kind, namespace file, property.
    pub(super) joined: Vec<(u64, PathBuf, At)>,
}

/// When the bridge spawns init.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SpawnOrder {
    /// At once. Init does all steps except those that join namespaces.
    First,
    /// After the steps that other processes must not see. The bridge does those.
    Last,
}

impl PlannedNamespaces {
    /// The namespaces that the container does not share with the host: new ones and joined ones.
    pub(super) fn all(&self) -> Namespaces {
        Namespaces(self.joined.iter().fold(self.new.0, |all, (kind, ..)| all | kind))
    }

    /// True if the container does not have the host's namespace of this kind.
    pub(super) fn private(&self, kind: u64) -> bool {
        self.all().has(kind)
    }

    /// The file of the joined namespace.
    pub(super) fn path_of(&self, kind: u64) -> Option<(&Path, &At)> {
        self.joined.iter().find(|(joined, ..)| *joined == kind).map(|(_, path, at)| (path.as_path(), at))
    }

    pub(super) fn joins(&self, kind: u64) -> bool {
        self.joined.iter().any(|(joined, ..)| *joined == kind)
    }

    /// The joined pid namespace, if the processes in it may be able to trace init, because the container does not join their
    /// user namespace.
    pub(super) fn pids_of_others(&self) -> Option<(&Path, &At)> {
        self.path_of(PID).filter(|_| !self.joins(USER))
    }

    /// In such a pid namespace, init is spawned last.
    pub(super) fn spawn_order(&self) -> SpawnOrder {
        if self.pids_of_others().is_some() { SpawnOrder::Last } else { SpawnOrder::First }
    }
}

/// The CLONE_NEW* bit of a namespace type.
pub fn bit(kind: LinuxNamespaceType) -> u64 {
    match kind {
        LinuxNamespaceType::Mount => MOUNT,
        LinuxNamespaceType::Cgroup => CGROUP,
        LinuxNamespaceType::Uts => UTS,
        LinuxNamespaceType::Ipc => IPC,
        LinuxNamespaceType::User => USER,
        LinuxNamespaceType::Pid => PID,
        LinuxNamespaceType::Network => NETWORK,
        LinuxNamespaceType::Time => TIME,
    }
}

/// Reads `linux.namespaces`.
pub(super) fn read(given: &Given<'_>, notes: &mut Notes) -> PlannedNamespaces {
    let mut namespaces = PlannedNamespaces::default();
    let list = given.linux().and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default();
    for (n, namespace) in list.iter().enumerate() {
        let at = At::new("linux.namespaces").index(n);
        let kind = bit(namespace.typ());
        if namespaces.private(kind) {
            notes.fault(&at, format!("a second {} namespace", name(kind)));
        }
        match namespace.path().as_ref().filter(|path| !path.as_os_str().is_empty()) {
            None => namespaces.new.0 |= kind,
            Some(path) if path.is_absolute() => namespaces.joined.push((kind, path.clone(), at.key("path"))),
            Some(path) => notes.fault(&at.key("path"), format!("{path:?} is not absolute")),
        }
    }
    if !given.config.namespaces_are_known() {
        // A mistake hides some namespaces of config.json. All missing ones count as new here, so that only certain
        // faults are reported.
        let missing = KINDS.iter().map(|(kind, ..)| *kind).filter(|kind| !namespaces.private(*kind)).sum::<u64>();
        namespaces.new.0 |= missing;
    }
    an_ordinary_user_needs(given, &namespaces, notes);
    namespaces
}

/// An ordinary user can make namespaces only in a user namespace, and mounts only in a mount namespace that belongs to
/// it.
fn an_ordinary_user_needs(given: &Given<'_>, namespaces: &PlannedNamespaces, notes: &mut Notes) {
    let (me, at) = (&given.host.me, At::new("linux.namespaces"));
    if me.uid != 0 && !namespaces.private(USER) {
        notes.fault(&at, format!("rootless container requires user namespaces: we are uid {} and not root", me.uid));
    } else if me.may_mount == MayMount::Inside && !namespaces.private(USER) {
        notes.fault(&at, "needs a user namespace: the caller may not mount in its own");
    } else if me.may_mount == MayMount::Inside && !namespaces.private(MOUNT) {
        notes.fault(&at, "needs a mount namespace: the caller may not mount in its own");
    }
}

/// True if config.json joins a namespace of this kind by its path.
pub(super) fn is_joined(given: &Given<'_>, kind: u64) -> bool {
    let list = given.linux().and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default();
    let mut list = list.iter().filter(|namespace| bit(namespace.typ()) == kind);
    list.any(|namespace| namespace.path().as_ref().is_some_and(|path| !path.as_os_str().is_empty()))
}

/// The specification's words for a set of namespaces.
pub(super) fn names(namespaces: Namespaces) -> impl Iterator<Item = &'static str> {
    KINDS.iter().filter(move |(kind, ..)| namespaces.has(*kind)).map(|(_, word, _)| *word)
}

/// The specification's word for a kind.
pub fn name(kind: u64) -> &'static str {
    KINDS.iter().find(|(bit, ..)| *bit == kind).map_or("unknown", |(_, word, _)| word)
}
