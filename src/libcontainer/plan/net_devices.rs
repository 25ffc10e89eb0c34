//! `linux.netDevices`: network devices of the host that move into the container. SPEC: config-linux.md#network-devices.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::finished::NetDevice;
use super::given::Given;
use super::namespaces::{NETWORK, PlannedNamespaces};
use super::notes::Notes;
use super::step::What;
use super::steps::Steps;
use crate::config::At;
use crate::wire::Request;

/// The longest name that the kernel accepts (IFNAMSIZ without its NUL).
const MAX_NAME: usize = 15;

/// Reads `linux.netDevices`.
pub(super) fn read(given: &Given<'_>, namespaces: &PlannedNamespaces, notes: &mut Notes) -> Vec<NetDevice> {
    let devices = given.linux().and_then(|linux| linux.net_devices().as_ref());
    let Some(devices) = devices.filter(|devices| !devices.is_empty()) else { return Vec::new() };
    let at = At::new("linux.netDevices");
    if !namespaces.private(NETWORK) {
        notes.fault(&at, "needs a network namespace (linux.namespaces)");
    }
    if given.host.me.uid != 0 {
        notes.fault(&at, "needs root: a device of the host is moved");
    }
    let mut list: Vec<NetDevice> = Vec::with_capacity(devices.len());
    for (name, device) in devices {
        let inside = device.name().as_deref().filter(|inside| !inside.is_empty()).unwrap_or(name);
        list.push(NetDevice { name: name.clone(), inside: inside.to_owned(), at: at.key(name) });
    }
    list.sort_by(|a, b| a.name.cmp(&b.name));
    let mut places: HashMap<&str, &At> = HashMap::with_capacity(list.len());
    for device in &list {
        let place = device.at.key("name");
        check(&device.name, &device.at, notes);
        if device.name == "lo" {
            notes.fault(&device.at, "the loopback device cannot leave its network namespace");
        }
        if device.inside != device.name {
            check(&device.inside, &place, notes);
        }
        if device.inside == "lo" && device.name != "lo" {
            notes.fault(&place, "every network namespace has a \"lo\" already");
        }
        match places.entry(&device.inside) {
            Entry::Occupied(other) => {
                notes.fault(&place, format!("{:?} is the name of {} too", device.inside, other.get()));
            }
            Entry::Vacant(free) => drop(free.insert(&device.at)),
        }
    }
    list
}

/// The runtime moves the devices.
pub(super) fn steps(devices: &[NetDevice], steps: &mut Steps) {
    if !devices.is_empty() {
        steps.add(&At::new("linux.netDevices"), What::Request(Request::NetDevices));
    }
}

/// Names that the kernel gives only after the move, and refuses then: directories of /proc/sys/net have them.
const RESERVED: [&str; 2] = ["all", "default"];

/// Checks a name by the kernel's rules (dev_valid_name). For a pattern such as `eth%d`, the kernel would choose the number, and
/// the user would not know the name.
fn check(name: &str, at: &At, notes: &mut Notes) {
    let broken = name.contains(['/', ':', '%', '\0']) || name.contains(char::is_whitespace);
    if name.is_empty() || [".", ".."].contains(&name) || RESERVED.contains(&name) || broken {
        notes.fault(at, format!("{name:?} is not a name for a network device"));
    } else if name.len() > MAX_NAME {
        notes.fault(at, format!("{name:?} has {} bytes: at most {MAX_NAME} are allowed", name.len()));
    }
}
