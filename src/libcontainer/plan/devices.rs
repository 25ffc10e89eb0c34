//! Device nodes: the default devices, those of config.json, and the links beside them.

use std::collections::HashMap;
use std::ffi::CStr;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};

use super::finished::Opening;
use super::given::Given;
use super::idmap::{Ids, Maps};
use super::mount_entry::MountKind;
use super::mounts::Mounts;
use super::namespaces::{MOUNT, PlannedNamespaces, USER};
use super::notes::Notes;
use super::rootfs::Rootfs;
use super::step::{DeviceNode, Last, Missing, Origin, Other, Target, What};
use super::steps::Steps;
use super::values::{c_string, clean};
use crate::config::{At, Warning};

/// The kernel keeps 12 bits of a major and 20 bits of a minor number (linux/kdev_t.h). It drops further bits silently.
const MAX_MAJOR: u32 = (1 << 12) - 1;
const MAX_MINOR: u32 = (1 << 20) - 1;
/// SPEC: config-linux.md#default-devices: path, major, minor.
const DEFAULT: [(&CStr, u32, u32); 6] = [
    (c"dev/null", 1, 3),
    (c"dev/zero", 1, 5),
    (c"dev/full", 1, 7),
    (c"dev/tty", 5, 0),
    (c"dev/random", 1, 8),
    (c"dev/urandom", 1, 9),
];
const LINKS: [(&CStr, &CStr); 4] = [
    (c"/proc/self/fd", c"dev/fd"),
    (c"/proc/self/fd/0", c"dev/stdin"),
    (c"/proc/self/fd/1", c"dev/stdout"),
    (c"/proc/self/fd/2", c"dev/stderr"),
];

/// The device nodes and links to make.
#[derive(Debug)]
pub(super) struct Devices {
    /// Each with its origin, in order.
    nodes: Vec<(DeviceNode, Origin)>,
    /// True in a user namespace: mknod(2) fails there, so the host's own nodes are bound.
    bound: bool,
    links: bool,
    ptmx: bool,
    has_kcore: bool,
}

/// Reads `linux.devices`. The mount at a path decides whether a node is made there.
pub(super) fn read(
    given: &Given<'_>,
    namespaces: &PlannedNamespaces,
    maps: &Maps,
    mounts: &Mounts,
    notes: &mut Notes,
) -> Devices {
    let list = given.linux().and_then(|linux| linux.devices().as_deref()).unwrap_or_default();
    let requested: Vec<_> = list.iter().enumerate().filter_map(|(n, device)| node(device, n, maps, notes)).collect();
    let mut first = HashMap::with_capacity(requested.len());
    for (node, at) in &requested {
        if *first.entry(&node.path).or_insert(node) != node {
            notes.fault(at, format!("a second, different device at {:?}", format!("/{}", node.path.to_string_lossy())));
        }
    }
    let bound = namespaces.private(USER) || !given.host.me.is_root();
    let mut mounted = MountsByPath::by(mounts);
    let ptmx = !mounted.shows(c"dev/ptmx");
    let default: Vec<_> = (0..).zip(DEFAULT).map(|(n, device)| default_node(n, device)).collect();
    let left_out = |path: &CStr| mounted.shows(path) || requested.iter().any(|(node, _)| node.path.as_c_str() == path);
    let default: Vec<_> = default.into_iter().filter(|(node, _)| !left_out(&node.path)).collect();
    let mut nodes = Vec::with_capacity(default.len() + requested.len());
    for (node, from) in default.into_iter().chain(requested.into_iter().map(|(node, at)| (node, Origin::At(at)))) {
        match (mounted.ours(&node.path, namespaces), &from) {
            (Ok(()), _) => {
                if bound && !is_fifo(&node) {
                    mounted.add(&node.path, MountKind::TreeOfHost);
                }
                nodes.push((node, from));
            }
            (Err(why), Origin::At(at)) => notes.warn(at, format!("is not made: {why}")),
            (Err(_), Origin::Runtime(_)) => {}
        }
    }
    let links = mounted.ours(c"dev/fd", namespaces).is_ok();
    if !links && !namespaces.private(MOUNT) {
        let said = "has no mount namespace: the default devices are not made, as the root is a directory of the host";
        notes.warn(&At::new("linux.namespaces"), said);
    }
    Devices { nodes, bound, links, ptmx, has_kcore: given.host.has_kcore }
}

fn default_node(n: u32, (path, major, minor): (&CStr, u32, u32)) -> (DeviceNode, Origin) {
    let (mode, device) = (libc::S_IFCHR | 0o666, rustix::fs::makedev(major, minor));
    let node = DeviceNode { path: path.to_owned(), mode, device, uid: 0, gid: 0, other: Other::Keep(n) };
    (node, Origin::Runtime("default device"))
}

/// The warning for a path of default device `n` where the image has another file.
pub(crate) fn kept_warning(n: u32) -> Option<Warning> {
    let (path, ..) = DEFAULT.get(n as usize)?;
    let said = format!("/{} is another file in the image: the default device is not made", path.to_string_lossy());
    Some(Warning { at: At::new("root.path"), said })
}

/// A fifo is not a device: any user may make one.
fn is_fifo(node: &DeviceNode) -> bool {
    node.mode & libc::S_IFMT == libc::S_IFIFO
}

/// The mounts of config.json by path.
struct MountsByPath {
    /// The last mount at a path: its index, and what is mounted.
    last: HashMap<Vec<u8>, (usize, MountKind)>,
    count: usize,
}

impl MountsByPath {
    fn by(mounts: &Mounts) -> MountsByPath {
        let mut mounted = MountsByPath { last: HashMap::new(), count: 0 };
        mounts.targets().for_each(|(path, what)| mounted.add(path, what));
        mounted
    }

    fn add(&mut self, path: &CStr, what: MountKind) {
        self.last.insert(path.to_bytes().to_vec(), (self.count, what));
        self.count += 1;
    }

    /// True if config.json mounts something at `path`. The user wants that mount, so no node replaces it.
    fn shows(&self, path: &CStr) -> bool {
        let path = path.to_bytes();
        let Some((here, _)) = self.last.get(path) else { return false };
        let mut above = (0..path.len()).filter(|n| path[*n] == b'/').filter_map(|n| self.last.get(&path[..n]));
        above.all(|(n, _)| n < here)
    }

    /// Checks that a node may be made at `path`. A bind mount is a file system of the host. The root itself is one, too, if
    /// the container has no mount namespace. No node is made in either of them.
    fn ours(&self, path: &CStr, namespaces: &PlannedNamespaces) -> Result<(), String> {
        let path = path.to_bytes();
        let above = (0..path.len()).filter(|n| path[*n] == b'/').map(|n| &path[..n]);
        let above = above.filter_map(|directory| self.last.get(directory).map(|(n, what)| (n, what, directory)));
        match above.max() {
            Some((_, MountKind::NewFileSystem, _)) => Ok(()),
            Some((.., directory)) => Err(format!("/{} is bound from the host", String::from_utf8_lossy(directory))),
            None if namespaces.private(MOUNT) => Ok(()),
            None => Err("there is no mount namespace".to_owned()),
        }
    }
}

fn node(device: &LinuxDevice, n: usize, maps: &Maps, notes: &mut Notes) -> Option<(DeviceNode, At)> {
    let at = At::new("linux.devices").index(n);
    let path = clean(device.path());
    if !device.path().is_absolute() || path == "." {
        notes.fault(&at.key("path"), format!("{:?} is not the absolute path of a node", device.path()));
        return None;
    }
    if Path::new(&path) == Path::new("dev/ptmx") {
        // This path is always the link to the container's own devpts.
        return None;
    }
    let (kind, numbered) = match device.typ() {
        LinuxDeviceType::C | LinuxDeviceType::U => (libc::S_IFCHR, true),
        LinuxDeviceType::B => (libc::S_IFBLK, true),
        LinuxDeviceType::P => (libc::S_IFIFO, false),
        LinuxDeviceType::A => {
            notes.fault(&at.key("type"), "unknown value \"a\" (expected one of b, c, u, p)");
            return None;
        }
    };
    let mut number = |name: &str, value: i64, most: u32| {
        u32::try_from(value).ok().filter(|number| !numbered || *number <= most).unwrap_or_else(|| {
            notes.fault(&at.key(name), format!("{value} is not a device number"));
            0
        })
    };
    let (major, minor) = (number("major", device.major(), MAX_MAJOR), number("minor", device.minor(), MAX_MINOR));
    let mut owner = |name: &str, id: Option<u32>| {
        // For chown(2) this value means "unchanged", and root owns a new node.
        if id == Some(u32::MAX) {
            notes.warn(&at.key(name), format!("{} is not an id: the device belongs to id 0", u32::MAX));
        }
        id.filter(|id| *id != u32::MAX).unwrap_or(0)
    };
    let (uid, gid) = (owner("uid", device.uid()), owner("gid", device.gid()));
    maps.must_reach(uid, Ids::Users, &at.key("uid"), notes);
    maps.must_reach(gid, Ids::Groups, &at.key("gid"), notes);
    let path = c_string(&path, &at.key("path"), notes)?;
    let device_number = if numbered { rustix::fs::makedev(major, minor) } else { 0 };
    let mode = kind | (device.file_mode().unwrap_or(0o666) & 0o7777);
    Some((DeviceNode { path, mode, device: device_number, uid, gid, other: Other::Refuse }, at))
}

impl Devices {
    pub(super) fn steps(self, root: &Rootfs, steps: &mut Steps) {
        for (node, from) in self.nodes {
            if !self.bound || is_fifo(&node) {
                steps.add_from(&from, What::Mknod(node));
            } else {
                bind_node(node, from, root, steps);
            }
        }
        if !self.links {
            return;
        }
        let symlink = |to: &CStr, path: &CStr| What::Symlink { to: to.to_owned(), path: path.to_owned() };
        for (to, path) in LINKS {
            steps.add_always("default link", symlink(to, path));
        }
        if self.has_kcore {
            steps.add_always("default link", symlink(c"/proc/kcore", c"dev/core"));
        }
        // SPEC: config-linux.md#default-devices: the link is there even if no devpts is mounted.
        if self.ptmx {
            steps
                .add_always("default link", What::Replace { to: c"pts/ptmx".to_owned(), path: c"dev/ptmx".to_owned() });
        }
    }
}

fn bind_node(node: DeviceNode, from: Origin, root: &Rootfs, steps: &mut Steps) {
    let at = match &from {
        Origin::At(at) => at.clone(),
        Origin::Runtime(why) => At::new(*why),
    };
    let host = PathBuf::from(format!("/{}", node.path.to_string_lossy()));
    let slot = steps.open(&at, Opening::Device(host, node.mode & libc::S_IFMT, node.device));
    steps.add_copy(&at, slot);
    let target = Target { path: node.path, missing: Missing::File, last: Last::Any };
    steps.add_from(&from, What::Bind(slot, root.inherited(), target));
}
