//! Device nodes: those every container has, those config.json asks for, and the links beside them.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};

use super::draft::{Draft, Opening};
use super::mounts::clean;
use super::namespaces::{Kinds, MOUNT, USER};
use super::step::{Last, Missing, Node, Origin, Target, What};
use super::{Asked, idmap, mounts, process};
use crate::config::At;

/// The kernel keeps 12 bits of a major and 20 of a minor number (linux/kdev_t.h), and cuts off the rest without a word.
const MAX_MAJOR: u32 = (1 << 12) - 1;
const MAX_MINOR: u32 = (1 << 20) - 1;
/// SPEC: config-linux.md#default-devices: name, major, minor.
const DEFAULT: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("tty", 5, 0), ("random", 1, 8), ("urandom", 1, 9)];
const LINKS: [(&str, &str); 4] = [
    ("/proc/self/fd", "dev/fd"),
    ("/proc/self/fd/0", "dev/stdin"),
    ("/proc/self/fd/1", "dev/stdout"),
    ("/proc/self/fd/2", "dev/stderr"),
];

pub(super) fn all(ask: &Asked<'_>, kinds: &Kinds, plan: &mut Draft) {
    let list = ask.config.spec.linux().as_ref().and_then(|linux| linux.devices().as_deref()).unwrap_or_default();
    let asked: Vec<_> = list.iter().enumerate().filter_map(|(n, device)| node(device, n, plan)).collect();
    let mut first = HashMap::with_capacity(asked.len());
    for (node, at) in &asked {
        if *first.entry(&node.path).or_insert(node) != node {
            plan.fault(at, format!("a second, different device at {:?}", format!("/{}", node.path.to_string_lossy())));
        }
    }
    let default = DEFAULT.into_iter().map(|(name, major, minor)| Node {
        path: CString::new(format!("dev/{name}")).unwrap_or_default(),
        mode: libc::S_IFCHR | 0o666,
        device: rustix::fs::makedev(major, minor),
        uid: 0,
        gid: 0,
    });
    let default = default.filter(|node| !first.contains_key(&node.path));
    let default = default.map(|node| (node, Origin::Runtime("default device")));
    let asked = asked.iter().map(|(node, at)| (node.clone(), Origin::At(at.clone())));
    let mut mounted = Mounted::default();
    for (node, from) in default.chain(asked).collect::<Vec<_>>() {
        mounted.look_at(plan);
        match (mounted.ours(&node.path, kinds), &from) {
            (Ok(()), _) => make(node, from, ask, kinds, plan),
            (Err(why), Origin::At(at)) => plan.warn(at, format!("is not made: {why}")),
            (Err(_), Origin::Runtime(_)) => {}
        }
    }
    mounted.look_at(plan);
    if mounted.ours(c"dev/fd", kinds).is_ok() {
        links(ask, plan);
    } else if !kinds.private(MOUNT) {
        let said = "has no mount namespace: the default devices are not made, as the root is a directory of the host";
        plan.warn(&At::new("linux.namespaces"), said);
    }
}

/// What is mounted where. The steps say it, and nothing else does; each is looked at once.
#[derive(Default)]
struct Mounted {
    /// The last step that mounts at a path, by its number, and whether it makes a new file system.
    last: HashMap<Vec<u8>, (usize, bool)>,
    /// How many steps have been looked at.
    seen: usize,
}

impl Mounted {
    fn look_at(&mut self, plan: &mut Draft) {
        let steps = &plan.plan().init;
        for (n, step) in steps.iter().enumerate().skip(self.seen) {
            if let Some(target) = step.what.target() {
                self.last.insert(target.path.to_bytes().to_vec(), (n, matches!(step.what, What::NewMount(_))));
            }
        }
        self.seen = steps.len();
    }

    /// Whether something may be made at `path`. What is bound is somebody else's to fill, and without a mount namespace so
    /// is the root itself: it is the host's file system.
    fn ours(&self, path: &CStr, kinds: &Kinds) -> Result<(), String> {
        let path = path.to_bytes();
        let above = (0..path.len()).filter(|n| path[*n] == b'/').map(|n| &path[..n]);
        let above = above.filter_map(|directory| self.last.get(directory).map(|(n, new)| (n, new, directory)));
        match above.max() {
            Some((_, true, _)) => Ok(()),
            Some((.., directory)) => Err(format!("/{} is bound from the host", String::from_utf8_lossy(directory))),
            None if kinds.private(MOUNT) => Ok(()),
            None => Err("there is no mount namespace".to_owned()),
        }
    }
}

/// In a user namespace nodes cannot be made: the host's own is bound there.
fn make(node: Node, from: Origin, ask: &Asked<'_>, kinds: &Kinds, plan: &mut Draft) {
    // a fifo is no device
    let made = !kinds.private(USER) && ask.host.me.is_root();
    if made || node.mode & libc::S_IFMT == libc::S_IFIFO {
        plan.because(&from, What::Mknod(node));
        return;
    }
    let at = match &from {
        Origin::At(at) => at.clone(),
        Origin::Runtime(why) => At::new(*why),
    };
    let host = PathBuf::from(format!("/{}", node.path.to_string_lossy()));
    let slot = plan.open(&at, Opening::Device(host, node.mode & libc::S_IFMT, node.device));
    plan.copy(&at, slot);
    let target = Target { path: node.path, missing: Missing::File, last: Last::Any };
    plan.because(&from, What::Bind(slot, mounts::inherited_propagation(ask), target));
}

fn node(device: &LinuxDevice, n: usize, plan: &mut Draft) -> Option<(Node, At)> {
    let at = At::new("linux.devices").index(n);
    let path = clean(device.path());
    if !device.path().is_absolute() || path == "." {
        plan.fault(&at.key("path"), format!("{:?} is not the absolute path of a node", device.path()));
        return None;
    }
    if Path::new(&path) == Path::new("dev/ptmx") {
        // always the link to the container's own devpts
        return None;
    }
    let (kind, numbered) = match device.typ() {
        LinuxDeviceType::C | LinuxDeviceType::U => (libc::S_IFCHR, true),
        LinuxDeviceType::B => (libc::S_IFBLK, true),
        LinuxDeviceType::P => (libc::S_IFIFO, false),
        LinuxDeviceType::A => {
            plan.fault(&at.key("type"), "unknown value \"a\" (expected one of b, c, u, p)");
            return None;
        }
    };
    let mut number = |name: &str, value: i64, most: u32| {
        u32::try_from(value).ok().filter(|number| !numbered || *number <= most).unwrap_or_else(|| {
            plan.fault(&at.key(name), format!("{value} is not a device number"));
            0
        })
    };
    let (major, minor) = (number("major", device.major(), MAX_MAJOR), number("minor", device.minor(), MAX_MINOR));
    let mut owner = |name: &str, id: Option<u32>| {
        // for chown(2) it means "unchanged", and a new node is root's
        if id == Some(u32::MAX) {
            plan.warn(&at.key(name), format!("{} is not an id: the device is that of 0", u32::MAX));
        }
        id.filter(|id| *id != u32::MAX).unwrap_or(0)
    };
    let (uid, gid) = (owner("uid", device.uid()), owner("gid", device.gid()));
    idmap::must_reach(uid, idmap::Ids::Users, &at.key("uid"), plan);
    idmap::must_reach(gid, idmap::Ids::Groups, &at.key("gid"), plan);
    let path = process::c_string(&path, &at.key("path"), plan)?;
    let device_number = if numbered { rustix::fs::makedev(major, minor) } else { 0 };
    let mode = kind | (device.file_mode().unwrap_or(0o666) & 0o7777);
    Some((Node { path, mode, device: device_number, uid, gid }, at))
}

fn links(ask: &Asked<'_>, plan: &mut Draft) {
    let c = |text: &str| CString::new(text).unwrap_or_default();
    for (to, path) in LINKS {
        plan.always("default link", What::Symlink(c(to), c(path)));
    }
    if ask.host.has_kcore {
        plan.always("default link", What::Symlink(c("/proc/kcore"), c("dev/core")));
    }
    // SPEC: config-linux.md#default-devices: it is there also when no devpts is mounted
    plan.always("default link", What::Replace(c("pts/ptmx"), c("dev/ptmx")));
}
