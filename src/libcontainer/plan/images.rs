//! The parts of a container that belong to the host, and so are not in the images of a checkpoint: bind mounts of the
//! host, and joined namespaces. CRIU receives each with a name, which is the same at the checkpoint and at the restore.
//! The names are those that runc gives.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::finished::{Opening, Plan};
use super::namespaces::{CGROUP, KINDS, MOUNT, NETWORK, PID, USER};
use super::step::{Last, NewMount, Slot, Target, What};
use crate::config::{At, Fault};

/// The mounts that cover masked files.
const NULL: &str = "/dev/null";

/// A mount that is bound from the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostBind {
    /// Its path, relative to the root.
    pub path: CString,
    /// Whether the last name of the path may be a link.
    pub last: Last,
    /// The file of the host that is bound there.
    pub source: PathBuf,
    /// Its name in the images.
    pub named: Named,
}

/// The name of a mount in the images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// By its path.
    Path,
    /// `/dev/null`, as all masked files.
    Null,
}

/// A path on which something is mounted. They are in the order of the mounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountPoint {
    /// The path.
    pub target: Target,
    /// The file that is bound there.
    pub source: Option<PathBuf>,
    /// Says whether this is a new file system that CRIU fills. Then the images contain the mount points below it.
    pub filled: Filled,
}

/// The last mount before `points[n]` that contains its path.
pub fn containing_mount(points: &[MountPoint], n: usize) -> Option<&MountPoint> {
    let path = |point: &MountPoint| PathBuf::from(OsStr::from_bytes(point.target.path.to_bytes()));
    let below = path(points.get(n)?);
    points.get(..n)?.iter().rev().find(|other| below != path(other) && below.starts_with(path(other)))
}

/// Says whether CRIU restores the contents of a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// It is a tmpfs, or a file system without contents.
    Yes,
    /// It is the host's.
    No,
}

/// A namespace that the container has joined by its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedNamespace {
    /// CLONE_NEW*.
    pub kind: u64,
    /// CRIU's name of it: `net`.
    pub name: &'static str,
    /// Its file.
    pub path: PathBuf,
}

impl Plan {
    /// All that is bound from the host.
    pub fn host_binds(&self) -> Vec<HostBind> {
        let mut all = Vec::new();
        for step in self.bridge.iter().chain(&self.init) {
            let (path, last, slot, named) = match &step.what {
                What::Bind(slot, _, target) | What::BindOrLink(slot, _, target) => {
                    (&target.path, target.last, *slot, Named::Path)
                }
                What::Mask { path, null, .. } => (path, Last::Any, *null, Named::Null),
                _ => continue,
            };
            let Some(source) = self.source(slot) else { continue };
            all.push(HostBind { path: path.clone(), last, source, named });
        }
        all
    }

    /// Where something is mounted, in order.
    pub fn mount_points(&self) -> Vec<MountPoint> {
        let point = |what: &What| match what {
            What::NewMount(NewMount { target, .. }) => {
                Some(MountPoint { target: target.clone(), source: None, filled: Filled::Yes })
            }
            What::Bind(slot, _, target) | What::BindOrLink(slot, _, target) => {
                Some(MountPoint { target: target.clone(), source: self.source(*slot), filled: Filled::No })
            }
            _ => None,
        };
        self.bridge.iter().chain(&self.init).filter_map(|step| point(&step.what)).collect()
    }

    /// The namespaces that are joined by their path.
    pub fn joined_namespaces(&self) -> Vec<JoinedNamespace> {
        let mut all: Vec<JoinedNamespace> = Vec::new();
        for step in self.bridge.iter().chain(&self.init) {
            let What::Join(slot, namespaces) = &step.what else { continue };
            let Some((Opening::Namespace(path, kind), _)) = self.openings.get(slot.0) else { continue };
            let name = KINDS.iter().find(|(bit, ..)| bit == kind).map_or("", |(_, _, file)| *file);
            if namespaces.has(*kind) && !all.iter().any(|there| there.kind == *kind) {
                all.push(JoinedNamespace { kind: *kind, name, path: path.clone() });
            }
        }
        all
    }

    /// The reason why CRIU cannot restore a container of this plan. None if it can.
    pub fn not_restorable(&self) -> Option<Fault> {
        let refused = |joined: &&JoinedNamespace| [MOUNT, USER, CGROUP].contains(&joined.kind);
        if let Some(JoinedNamespace { name, path, .. }) = self.joined_namespaces().iter().find(refused) {
            let problem = format!("criu cannot join a {name} namespace by its path ({})", path.display());
            return Some(Fault { at: At::new("linux.namespaces"), problem });
        }
        let (_, at) = self.openings.iter().find(|(opening, _)| maps_ids(opening))?;
        Some(Fault { at: at.clone(), problem: "criu does not map the ids of a mount again".to_owned() })
    }

    /// The path on the host of the mount in a slot.
    fn source(&self, slot: Slot) -> Option<PathBuf> {
        fn host_source(opening: &Opening) -> Option<PathBuf> {
            match opening {
                Opening::Null => Some(PathBuf::from(NULL)),
                Opening::Sysfs => Some(PathBuf::from("/sys")),
                Opening::Found(inner) => host_source(inner),
                other => other.path().map(PathBuf::from),
            }
        }
        self.openings.get(slot.0).and_then(|(opening, _)| host_source(opening))
    }
}

/// True for a source whose ids go through maps.
fn maps_ids(opening: &Opening) -> bool {
    match opening {
        Opening::Source(.., mapped) => mapped.is_some(),
        Opening::Found(inner) => maps_ids(inner),
        _ => false,
    }
}

impl HostBind {
    /// Its name in the images. `path` is its path after all links are followed.
    pub fn name(&self, path: &str) -> String {
        match self.named {
            Named::Path => path.to_owned(),
            Named::Null => NULL.to_owned(),
        }
    }

    /// Its path as it is written.
    pub fn written_path(&self) -> String {
        format!("/{}", self.path.to_string_lossy())
    }
}

impl JoinedNamespace {
    /// A restore gives CRIU the namespace under this name. None if CRIU joins it by its path.
    pub fn key(&self) -> Option<&'static str> {
        match self.kind {
            NETWORK => Some("extRootNetNS"),
            PID => Some("extRootPidNS"),
            _ => None,
        }
    }
}
