//! Moves network devices of the host into the container's network namespace (rtnetlink(7)). One message has the
//! namespace and the new name, so a device never has its new name on the host, or its old name in the container. A
//! moved device loses its addresses. The permanent ones are added again.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Instant;

use netlink_packet_core::{
    DecodeError, Emitable, ErrorMessage, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST,
    NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable, NlasIterator, Parseable,
    parse_string,
};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use rustix::io::Errno;

use super::inside::in_network;
use crate::error::{Context, Error, Result, bail, error};
use crate::host::Namespace;
use crate::plan::{NetDevice, Plan};
use crate::sys::errno::{said_with, words};
use crate::wait::{self, limits};

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

/// Devices that were moved into the container's network namespace. A drop moves them back: with the namespace, the kernel would
/// destroy those that are virtual.
#[derive(Debug)]
pub(super) struct MovedDevices {
    host: File,
    inside: File,
    outside: Rtnetlink,
    within: Rtnetlink,
    list: Vec<MovedDevice>,
}

/// A moved device, and how it was on the host.
#[derive(Debug)]
struct MovedDevice {
    /// Its number in the container.
    index: u32,
    name: String,
    up: LinkFlags,
    addresses: Vec<AddressMessage>,
}

/// Moves all devices into the network namespace of the process. After a failure, all are on the host, but for a device that a process
/// of a joined namespace has renamed before we have found it there: the error says so.
///
/// # Errors
/// The device, the request, and the kernel's error.
pub(super) fn move_to(pid: i32, devices: &[NetDevice]) -> Result<MovedDevices> {
    let open = |path: String| File::open(&path).with_context(|| format!("open {path}"));
    let (host, inside) = (open("/proc/self/ns/net".to_owned())?, open(format!("/proc/{pid}/ns/net"))?);
    if Namespace::of_file(&host)? == Namespace::of_file(&inside)? {
        bail!("linux.netDevices: the container is in the host's network namespace");
    }
    let outside = Rtnetlink::open()?;
    let within = in_network(&inside, || {
        if let Some(device) = devices.iter().find(|device| if_nametoindex(device.inside.as_str()).is_ok()) {
            bail!("{}.name: the container's network namespace has a device {:?} already", device.at, device.inside);
        }
        Rtnetlink::open()
    })?;
    let up = names_up()?;
    let mut moved = MovedDevices { host, inside, outside, within, list: Vec::with_capacity(devices.len()) };
    for device in devices {
        if let Err(error) = moved.take(device, &up).with_context(|| device.at.to_string()) {
            let lost = moved.back().into_iter();
            return Err(lost.fold(error, |error, lost| {
                let text = format!("{error}; and {lost}");
                error.reworded(text)
            }));
        }
    }
    Ok(moved)
}

impl MovedDevices {
    /// They stay in the container.
    pub(super) fn keep(mut self) {
        self.list.clear();
    }

    /// Moves one into the container. `up` are the names of the devices of the host that are up.
    fn take(&mut self, device: &NetDevice, up: &HashSet<String>) -> Result<()> {
        let index = index_of(&device.name).context("find the device")?;
        let up = if up.contains(&device.name) { LinkFlags::Up } else { LinkFlags::empty() };
        let addresses = self.outside.addresses(index).context("read its addresses")?;
        let to = [LinkAttribute::NetNsFd(self.inside.as_raw_fd()), LinkAttribute::IfName(device.inside.clone())];
        // The move sets it down. A device that the kernel does not move stays as it was.
        self.outside
            .set(index, LinkFlags::empty(), &to)
            .with_context(|| format!("move it, to be {:?}", device.inside))?;
        // The kernel keeps its number if that is free.
        let index = in_network(&self.inside, || index_of(&device.inside)).with_context(|| {
            format!("it stays in the container's network namespace, and no device there is {:?}", device.inside)
        })?;
        self.list.push(MovedDevice { index, name: device.name.clone(), up, addresses });
        let there = self.list.last().map_or(&[][..], |device| &device.addresses);
        self.within.dress(index, there, LinkFlags::Up)
    }

    /// Moves them to the host, as they were there. Returns what could not be done.
    fn back(&mut self) -> Vec<Error> {
        let (host, outside, within) = (&self.host, &self.outside, &self.within);
        let one = |device: MovedDevice| {
            let to = [LinkAttribute::NetNsFd(host.as_raw_fd()), LinkAttribute::IfName(device.name.clone())];
            within
                .set(device.index, LinkFlags::empty(), &to)
                .and_then(|()| outside.dress(index_of(&device.name)?, &device.addresses, device.up))
                .with_context(|| format!("move {} back", device.name))
                .err()
        };
        self.list.drain(..).rev().filter_map(one).collect()
    }
}

impl Drop for MovedDevices {
    fn drop(&mut self) {
        // The failure for which they go back is reported.
        self.back();
    }
}

fn index_of(name: &str) -> Result<u32> {
    if_nametoindex(name).map_err(|errno| error!("{}", words(Errno::from_raw_os_error(errno as i32))))
}

/// The names of the devices of our network namespace that are up.
fn names_up() -> Result<HashSet<String>> {
    let all = getifaddrs().map_err(|errno| error!("getifaddrs: {}", words(Errno::from_raw_os_error(errno as i32))))?;
    let up = all.filter(|found| found.flags.contains(InterfaceFlags::IFF_UP));
    Ok(up.map(|found| found.interface_name).collect())
}

/// True for a permanent address of global scope. The kernel makes the others itself.
fn is_kept(address: &AddressMessage) -> bool {
    flags(address).contains(AddressFlags::Permanent) && address.header.scope == AddressScope::Universe
}

/// All flags. The header holds the first eight.
fn flags(address: &AddressMessage) -> AddressFlags {
    let all = address.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Flags(flags) => Some(*flags),
        _ => None,
    });
    all.unwrap_or_else(|| AddressFlags::from_bits_retain(address.header.flags.bits().into()))
}

/// The same address for the moved device. Attributes that describe the address stay. Attributes that the kernel
/// computes are removed.
fn again(address: &AddressMessage, index: u32) -> AddressMessage {
    let own = AddressFlags::Nodad
        | AddressFlags::Homeaddress
        | AddressFlags::Noprefixroute
        | AddressFlags::Mcautojoin
        | AddressFlags::Optimistic;
    let mut message = AddressMessage::default();
    message.header.family = address.header.family;
    message.header.prefix_len = address.header.prefix_len;
    message.header.scope = address.header.scope;
    message.header.flags = AddressHeaderFlags::empty();
    message.header.index = index;
    let kept = address.attributes.iter().filter(|attribute| {
        use AddressAttribute::{Address, Broadcast, Local, RoutePriority};
        matches!(attribute, Address(_) | Local(_) | Broadcast(_) | RoutePriority(_))
    });
    message.attributes = kept.cloned().collect();
    message.attributes.push(AddressAttribute::Flags(flags(address) & own));
    message
}

fn shown(address: &AddressMessage) -> String {
    let find = |wanted: fn(&AddressAttribute) -> Option<IpAddr>| address.attributes.iter().find_map(wanted);
    let ip = find(|attribute| if let AddressAttribute::Local(ip) = attribute { Some(*ip) } else { None });
    let ip = ip.or_else(|| find(|one| if let AddressAttribute::Address(ip) = one { Some(*ip) } else { None }));
    format!("{}/{}", ip.map_or_else(String::new, |ip| ip.to_string()), address.header.prefix_len)
}

/// The requests that we send, and the only answer that we read. The crate's own enum would link every message of
/// rtnetlink into our binary.
#[derive(Clone, Debug, PartialEq, Eq)]
enum RouteMessage {
    Link(LinkMessage),
    Addresses(AddressMessage),
    Address(AddressMessage),
    Other,
}

impl NetlinkSerializable for RouteMessage {
    fn message_type(&self) -> u16 {
        match self {
            RouteMessage::Link(_) => libc::RTM_NEWLINK,
            RouteMessage::Addresses(_) => libc::RTM_GETADDR,
            RouteMessage::Address(_) => libc::RTM_NEWADDR,
            RouteMessage::Other => 0,
        }
    }

    fn buffer_len(&self) -> usize {
        match self {
            RouteMessage::Link(link) => link.buffer_len(),
            RouteMessage::Addresses(address) | RouteMessage::Address(address) => address.buffer_len(),
            RouteMessage::Other => 0,
        }
    }

    fn serialize(&self, buffer: &mut [u8]) {
        match self {
            RouteMessage::Link(link) => link.emit(buffer),
            RouteMessage::Addresses(address) | RouteMessage::Address(address) => address.emit(buffer),
            RouteMessage::Other => {}
        }
    }
}

impl NetlinkDeserializable for RouteMessage {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<RouteMessage, DecodeError> {
        Ok(match header.message_type {
            libc::RTM_NEWADDR => RouteMessage::Address(AddressMessage::parse(payload)?),
            _ => RouteMessage::Other,
        })
    }
}

/// A netlink socket of the namespace in which it was opened.
#[derive(Debug)]
struct Rtnetlink(Socket);

impl Rtnetlink {
    fn open() -> Result<Rtnetlink> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            // An error answer has the kernel's message, and does not repeat the request.
            socket.set_cap_ack(true)?;
            socket.set_ext_ack(true)?;
            Ok(Rtnetlink(socket))
        };
        open().map_err(|error: io::Error| error!("open a netlink socket: {}", kernel_words(&error)))
    }

    /// Sets it up or down, and sets other attributes.
    fn set(&self, index: u32, up: LinkFlags, attributes: &[LinkAttribute]) -> Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.header.flags = up;
        link.header.change_mask = LinkFlags::Up;
        link.attributes = attributes.to_vec();
        self.talk(RouteMessage::Link(link), NLM_F_ACK).map(drop)
    }

    fn add(&self, address: AddressMessage) -> Result<()> {
        self.talk(RouteMessage::Address(address), NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL).map(drop)
    }

    /// Adds the addresses, and brings it up if it shall be up.
    fn dress(&self, index: u32, addresses: &[AddressMessage], up: LinkFlags) -> Result<()> {
        for address in addresses {
            self.add(again(address, index)).with_context(|| format!("add {}", shown(address)))?;
        }
        self.set(index, up, &[]).context("bring it up")
    }

    /// The permanent addresses of the device.
    fn addresses(&self, index: u32) -> Result<Vec<AddressMessage>> {
        let mut ask = AddressMessage::default();
        ask.header.family = AddressFamily::Unspec;
        let all = self.talk(RouteMessage::Addresses(ask), NLM_F_DUMP)?;
        Ok(all.into_iter().filter(|address| address.header.index == index && is_kept(address)).collect())
    }

    /// Sends one request, and receives all answers.
    fn talk(&self, message: RouteMessage, flags: u16) -> Result<Vec<AddressMessage>> {
        let mut packet = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::InnerMessage(message));
        packet.header.flags = NLM_F_REQUEST | flags;
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        self.0.send(&bytes, 0).map_err(|error| error!("{}", kernel_words(&error)))?;
        let mut heard = Vec::new();
        loop {
            if !wait::readable(self.0.as_fd(), Some(Instant::now() + limits::ANSWER))? {
                bail!("the kernel does not answer on its netlink socket in 10 s");
            }
            let (bytes, _) = self.0.recv_from_full().map_err(|error| error!("{}", kernel_words(&error)))?;
            if all_is_said(&bytes, &mut heard)? {
                return Ok(heard);
            }
        }
    }
}

/// Takes the addresses from a packet. Returns true after the last one.
fn all_is_said(mut rest: &[u8], heard: &mut Vec<AddressMessage>) -> Result<bool> {
    while !rest.is_empty() {
        let packet = NetlinkMessage::<RouteMessage>::deserialize(rest)?;
        let length = usize::try_from(packet.header.length)?.next_multiple_of(4);
        rest = rest.get(length..).unwrap_or_default();
        match packet.payload {
            NetlinkPayload::InnerMessage(RouteMessage::Address(address)) => heard.push(address),
            NetlinkPayload::Error(ErrorMessage { code: Some(code), header, .. }) => {
                let errno = errno(code.get().checked_neg());
                bail!(kernels_words(&header).map_or(words(errno), |said| said_with(&said, errno)));
            }
            NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(true),
            _ => {}
        }
    }
    Ok(false)
}

/// Parses any bytes as an answer of the kernel: for fuzz/.
#[cfg(any(test, fuzzing))]
pub fn hears(bytes: &[u8]) {
    let mut heard = Vec::new();
    let _ = all_is_said(bytes, &mut heard);
    for address in heard.iter().filter(|address| is_kept(address)) {
        let address = again(address, 7);
        std::hint::black_box((shown(&address), flags(&address)));
    }
}

/// NLMSGERR_ATTR_MSG, which follows the header of the refused request (netlink(7), NETLINK_EXT_ACK).
fn kernels_words(refused: &[u8]) -> Option<String> {
    const MESSAGE: u16 = 1;
    let attributes = NlasIterator::new(refused.get(size_of::<libc::nlmsghdr>()..)?);
    let message = attributes.map_while(Result::ok).find(|attribute| attribute.kind() == MESSAGE)?;
    parse_string(message.value()).ok()
}

fn kernel_words(error: &io::Error) -> String {
    words(errno(error.raw_os_error()))
}

fn errno(number: Option<i32>) -> Errno {
    // rustix panics if a number is not an errno.
    let number = number.filter(|number| (1..4096).contains(number));
    Errno::from_raw_os_error(number.unwrap_or(libc::EIO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_found_behind_the_header() {
        let attribute = |kind: u16, value: &[u8]| {
            let length = u16::try_from(4 + value.len()).unwrap();
            let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
            bytes.extend_from_slice(value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes
        };
        let header = vec![7; 16];
        let offset = attribute(2, &[0; 4]);
        let words = attribute(1, b"It stays\0");
        assert_eq!(kernels_words(&[&header[..], &offset, &words].concat()).as_deref(), Some("It stays"));
        for none in [&[][..], &header, &[&header[..], &offset].concat(), &[&header[..], &[0; 8]].concat()] {
            assert_eq!(kernels_words(none), None);
        }
        // A packet that was cut short.
        assert_eq!(kernels_words(&[&header[..], &words[..7]].concat()), None);
    }
}
