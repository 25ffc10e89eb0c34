//! Moves network devices of the host into the container's network namespace (rtnetlink(7)). One message has the namespace and the
//! new name, so a device never has its new name on the host. A moved device loses its addresses. The permanent ones are added again.

use std::collections::HashSet;
use std::fs::File;
use std::os::fd::AsRawFd;

use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags};
use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_indextoname, if_nametoindex};

use super::inside::in_network;
use super::rtnetlink::{Departed, Departures, Rtnetlink};
use crate::error::{Context, Error, Result, bail, error};
use crate::host::Namespace;
use crate::plan::{NetDevice, Plan};
use crate::sys::errno::in_words;

/// Checks that every device exists.
///
/// # Errors
/// The first one that does not exist.
pub(super) fn must_be_there(plan: &Plan) -> Result<()> {
    for device in &plan.net_devices {
        index_of(&device.name).with_context(|| format!("{}: find the device", device.at))?;
    }
    Ok(())
}

/// Devices that were moved into the container's network namespace. A drop moves them back, because the kernel destroys virtual
/// devices together with their namespace.
#[derive(Debug)]
pub(super) struct MovedDevices {
    host_namespace: File,
    container_namespace: File,
    host_socket: Rtnetlink,
    container_socket: Rtnetlink,
    /// The devices that leave the host's namespace, and those that leave the container's.
    from_host: Departures,
    from_container: Departures,
    list: Vec<MovedDevice>,
}

/// A moved device, and its state on the host.
#[derive(Debug)]
struct MovedDevice {
    /// Its number in the container.
    index: u32,
    name: String,
    up: LinkFlags,
    addresses: Vec<AddressMessage>,
}

/// Moves all devices into the network namespace of the process. After a failure, all devices are on the host, except those that the
/// error names.
///
/// # Errors
/// The device, the request, and the kernel's error.
pub(super) fn move_to(pid: i32, devices: &[NetDevice]) -> Result<MovedDevices> {
    let open = |path: String| File::open(&path).with_context(|| format!("open {path}"));
    let (host_namespace, container_namespace) =
        (open("/proc/self/ns/net".to_owned())?, open(format!("/proc/{pid}/ns/net"))?);
    if Namespace::of_file(&host_namespace)? == Namespace::of_file(&container_namespace)? {
        bail!("linux.netDevices: the container is in the host's network namespace");
    }
    let devices = by_own_names(devices)?;
    let (host_socket, from_host) = (Rtnetlink::open()?, Departures::open()?);
    let (container_socket, from_container) = in_network(&container_namespace, || {
        if let Some(device) = devices.iter().find(|device| if_nametoindex(device.inside.as_str()).is_ok()) {
            bail!("{}.name: the container's network namespace has a device {:?} already", device.at, device.inside);
        }
        Ok((Rtnetlink::open()?, Departures::open()?))
    })?;
    let up = names_up()?;
    let mut moved = MovedDevices {
        host_namespace,
        container_namespace,
        host_socket,
        container_socket,
        from_host,
        from_container,
        list: Vec::with_capacity(devices.len()),
    };
    for device in &devices {
        if let Err(error) = moved.move_in(device, &up).with_context(|| device.at.to_string()) {
            return Err(moved.back_after(error));
        }
    }
    Ok(moved)
}

impl MovedDevices {
    /// They stay in the container.
    pub(super) fn keep(mut self) {
        self.list.clear();
    }

    /// Moves them to the host after a failure. Returns that failure, with what could not be moved.
    pub(super) fn back_after(mut self, error: Error) -> Error {
        self.back().into_iter().fold(error, |error, stays| {
            let text = format!("{error}; and {stays}");
            error.reworded(text)
        })
    }

    /// Moves one into the container. `up` are the names of the devices of the host that are up.
    fn move_in(&mut self, device: &NetDevice, up: &HashSet<String>) -> Result<()> {
        let index = index_of(&device.name).context("find the device")?;
        let up = if up.contains(&device.name) { LinkFlags::Up } else { LinkFlags::empty() };
        let addresses = self.host_socket.addresses(index).context("read its addresses")?;
        let to = [
            LinkAttribute::NetNsFd(self.container_namespace.as_raw_fd()),
            LinkAttribute::IfName(device.inside.clone()),
        ];
        // Discards older messages. If some were lost, the first read fails, and the second read empties the queue.
        let _ = self.from_host.read().or_else(|_| self.from_host.read());
        // The move sets the device down. If the kernel does not move it, it stays as it was.
        let answer = self
            .host_socket
            .set(index, LinkFlags::empty(), &to)
            .with_context(|| format!("move it, and name it {:?}", device.inside));
        // In a joined namespace, another process can give the device's name to another device at once. So we use the device's number,
        // which only the kernel's message has.
        let departed = self.from_host.read().map(|all| all.into_iter().rfind(|departed| departed.index == index));
        if answer.is_err() && matches!(departed, Ok(None)) {
            return answer;
        }
        let index = departed.and_then(number_there).map_err(|error| match &answer {
            Err(refused) => error!("{refused}; and it may stay in the container's network namespace: {error}"),
            Ok(()) => error.context("it stays in the container's network namespace"),
        })?;
        // ORDER: before its addresses: if they fail, it moves back. The kernel also moves a device whose new name it refuses then.
        self.list.push(MovedDevice { index, name: device.name.clone(), up, addresses: addresses.clone() });
        answer?;
        self.container_socket.set_up(index, &addresses, LinkFlags::Up)
    }

    /// Moves them to the host, as they were there. Returns what could not be done.
    fn back(&mut self) -> Vec<Error> {
        let mut departed = Some(Vec::new());
        let list: Vec<_> = self.list.drain(..).rev().collect();
        let one =
            |device| self.one_back(&device, &mut departed).with_context(|| format!("move {} back", device.name)).err();
        list.into_iter().filter_map(one).collect()
    }

    /// Moves one to the host. A process of a joined namespace can remove it, and make another device with its number. `departed` has
    /// the numbers of all devices that have left the container. It is None if a message was lost: then we do not know them.
    fn one_back(&self, device: &MovedDevice, departed: &mut Option<Vec<u32>>) -> Result<()> {
        let mut times = || -> Result<usize> {
            let read = self.from_container.read();
            let all = departed.take().filter(|_| read.is_ok());
            let mut all = all.ok_or_else(|| error!("the kernel has dropped messages about the devices there"))?;
            all.extend(read?.into_iter().map(|departed| departed.index));
            let count = all.iter().filter(|index| **index == device.index).count();
            *departed = Some(all);
            Ok(count)
        };
        if times()? > 0 {
            bail!("a process in the container's network namespace has removed it");
        }
        let to = [LinkAttribute::NetNsFd(self.host_namespace.as_raw_fd()), LinkAttribute::IfName(device.name.clone())];
        self.container_socket.set(device.index, LinkFlags::empty(), &to)?;
        let index = index_of(&device.name)?;
        // It left once, by our own move. It is down, and has no address yet.
        if !matches!(times(), Ok(1)) {
            let back = [LinkAttribute::NetNsFd(self.container_namespace.as_raw_fd())];
            self.host_socket.set(index, LinkFlags::empty(), &back).context("return another device with its number")?;
            bail!(
                "a process in the container's network namespace has removed it and given its number to another device"
            );
        }
        self.host_socket.set_up(index, &device.addresses, device.up)
    }
}

impl Drop for MovedDevices {
    fn drop(&mut self) {
        // The caller reports another failure, so these errors are ignored.
        self.back();
    }
}

/// The device's number in the namespace to which it has moved.
fn number_there(departed: Option<Departed>) -> Result<u32> {
    departed.and_then(|departed| departed.new_index).ok_or_else(|| error!("the kernel has not reported its number"))
}

/// The same devices by their own names: the names of config.json can be alternative ones (`altname` of ip-link(8)), which a device
/// takes along when it moves.
fn by_own_names(devices: &[NetDevice]) -> Result<Vec<NetDevice>> {
    let mut list: Vec<NetDevice> = Vec::with_capacity(devices.len());
    for NetDevice { name: given, inside, at } in devices {
        let find = || name_of(index_of(given)?);
        let name = find().with_context(|| format!("{at}: find the device"))?;
        let inside = if inside == given { name.clone() } else { inside.clone() };
        if let Some(other) = list.iter().find(|other| other.name == name || other.inside == inside) {
            bail!("{at}: {} is the same device, or has the same name in the container: {inside:?}", other.at);
        }
        list.push(NetDevice { name, inside, at: at.clone() });
    }
    Ok(list)
}

fn index_of(name: &str) -> Result<u32> {
    if_nametoindex(name).map_err(|errno| error!("{}", in_words(&errno)))
}

fn name_of(index: u32) -> Result<String> {
    let name = if_indextoname(index).map_err(|errno| error!("{}", in_words(&errno)))?;
    Ok(name.to_string_lossy().into_owned())
}

/// The names of the devices of our network namespace that are up.
fn names_up() -> Result<HashSet<String>> {
    let all = getifaddrs().map_err(|errno| error!("getifaddrs: {}", in_words(&errno)))?;
    let up = all.filter(|found| found.flags.contains(InterfaceFlags::IFF_UP));
    Ok(up.map(|found| found.interface_name).collect())
}
