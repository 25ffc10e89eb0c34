//! rtnetlink(7): the requests about network devices that we send, and the answers and messages that we read.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
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

use crate::error::{Context, Result, bail, error};
use crate::sys::errno::{from_number, in_words, said_with, words};
use crate::wait::{self, limits};

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
fn with_index(address: &AddressMessage, index: u32) -> AddressMessage {
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
    GetAddress(AddressMessage),
    Address(AddressMessage),
    Departed(Departed),
    Other,
}

/// A device that has left a network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Departed {
    /// Its number there.
    pub index: u32,
    /// Its number in the namespace to which it was moved. None if it was removed.
    pub new_index: Option<u32>,
}

/// IFLA_NEW_IFINDEX of linux/if_link.h.
const NEW_INDEX: u16 = 49;

impl Departed {
    /// Reads the struct ifinfomsg and the attributes of RTM_DELLINK. None for another address family: it says that a port has left
    /// its bridge.
    fn parse(payload: &[u8]) -> Option<Departed> {
        const HEADER: usize = 16;
        let number = |bytes: &[u8]| Some(u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?));
        if i32::from(*payload.first()?) != libc::AF_UNSPEC {
            return None;
        }
        let index = number(payload.get(4..)?)?;
        let mut attributes = NlasIterator::new(payload.get(HEADER..)?).map_while(|attribute| attribute.ok());
        let new_index = attributes.find(|attribute| attribute.kind() == NEW_INDEX);
        Some(Departed { index, new_index: new_index.and_then(|attribute| number(attribute.value())) })
    }
}

impl NetlinkSerializable for RouteMessage {
    fn message_type(&self) -> u16 {
        match self {
            RouteMessage::Link(_) => libc::RTM_NEWLINK,
            RouteMessage::GetAddress(_) => libc::RTM_GETADDR,
            RouteMessage::Address(_) => libc::RTM_NEWADDR,
            RouteMessage::Departed(_) | RouteMessage::Other => 0,
        }
    }

    fn buffer_len(&self) -> usize {
        match self {
            RouteMessage::Link(link) => link.buffer_len(),
            RouteMessage::GetAddress(address) | RouteMessage::Address(address) => address.buffer_len(),
            RouteMessage::Departed(_) | RouteMessage::Other => 0,
        }
    }

    fn serialize(&self, buffer: &mut [u8]) {
        match self {
            RouteMessage::Link(link) => link.emit(buffer),
            RouteMessage::GetAddress(address) | RouteMessage::Address(address) => address.emit(buffer),
            RouteMessage::Departed(_) | RouteMessage::Other => {}
        }
    }
}

impl NetlinkDeserializable for RouteMessage {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<RouteMessage, DecodeError> {
        Ok(match header.message_type {
            libc::RTM_NEWADDR => RouteMessage::Address(AddressMessage::parse(payload)?),
            libc::RTM_DELLINK => Departed::parse(payload).map_or(RouteMessage::Other, RouteMessage::Departed),
            _ => RouteMessage::Other,
        })
    }
}

/// A netlink socket of the namespace in which it was opened.
#[derive(Debug)]
pub(super) struct Rtnetlink(Socket);

impl Rtnetlink {
    pub(super) fn open() -> Result<Rtnetlink> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            // An error answer has the kernel's message, and does not repeat the request.
            socket.set_cap_ack(true)?;
            socket.set_ext_ack(true)?;
            Ok(Rtnetlink(socket))
        };
        open().map_err(|error: io::Error| error!("open a netlink socket: {}", in_words(&error)))
    }

    /// Sets it up or down, and sets other attributes.
    pub(super) fn set(&self, index: u32, up: LinkFlags, attributes: &[LinkAttribute]) -> Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.header.flags = up;
        link.header.change_mask = LinkFlags::Up;
        link.attributes = attributes.to_vec();
        self.request(RouteMessage::Link(link), NLM_F_ACK).map(drop)
    }

    fn add(&self, address: AddressMessage) -> Result<()> {
        self.request(RouteMessage::Address(address), NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL).map(drop)
    }

    /// Adds the addresses, and brings the device up if `up` says so.
    pub(super) fn set_up(&self, index: u32, addresses: &[AddressMessage], up: LinkFlags) -> Result<()> {
        for address in addresses {
            self.add(with_index(address, index)).with_context(|| format!("add {}", shown(address)))?;
        }
        self.set(index, up, &[]).context("bring it up")
    }

    /// The permanent addresses of the device.
    pub(super) fn addresses(&self, index: u32) -> Result<Vec<AddressMessage>> {
        let mut query = AddressMessage::default();
        query.header.family = AddressFamily::Unspec;
        let all = self.request(RouteMessage::GetAddress(query), NLM_F_DUMP)?;
        Ok(all.into_iter().filter(|address| address.header.index == index && is_kept(address)).collect())
    }

    /// Sends one request, and receives all answers.
    fn request(&self, message: RouteMessage, flags: u16) -> Result<Vec<AddressMessage>> {
        let mut packet = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::InnerMessage(message));
        packet.header.flags = NLM_F_REQUEST | flags;
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        self.0.send(&bytes, 0).map_err(|error| error!("{}", in_words(&error)))?;
        let mut answers = Vec::new();
        loop {
            if !wait::readable(self.0.as_fd(), Some(Instant::now() + limits::ANSWER))? {
                bail!("the kernel does not answer on its netlink socket in 10 s");
            }
            let (bytes, _) = self.0.recv_from_full().map_err(|error| error!("{}", in_words(&error)))?;
            if take_addresses(&bytes, &mut answers)? {
                return Ok(answers);
            }
        }
    }
}

/// The size of the receive buffer in bytes.
const QUEUE: usize = 8 << 20;

/// A netlink socket that receives a message about each device that leaves its network namespace.
#[derive(Debug)]
pub(super) struct Departures(Socket);

impl Departures {
    /// Opens the socket in our network namespace. It receives messages from now on.
    pub(super) fn open() -> Result<Departures> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind(&SocketAddr::new(0, 1 << (libc::RTNLGRP_LINK - 1)))?;
            // More than the kernel's default, because many other devices may appear and disappear. Without CAP_NET_ADMIN, the
            // default stays.
            let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, QUEUE);
            // Other processes cannot send a message to this socket only.
            socket.connect(&SocketAddr::new(0, 0))?;
            Ok(Departures(socket))
        };
        open().map_err(|error: io::Error| error!("open a netlink socket: {}", in_words(&error)))
    }

    /// The devices that have left since the last call. The kernel sends the message before it answers the request that caused it.
    /// Processes of the network namespace can send messages, too; these are ignored.
    ///
    /// # Errors
    /// ENOBUFS: messages were lost. Or the messages do not end.
    pub(super) fn read(&self) -> Result<Vec<Departed>> {
        let mut all = Vec::new();
        let until = Instant::now() + limits::ANSWER;
        while wait::readable(self.0.as_fd(), Some(Instant::now()))? {
            let (bytes, sender) = self.0.recv_from_full().map_err(|error| error!("{}", in_words(&error)))?;
            if Instant::now() > until {
                bail!("the messages on a netlink socket do not end");
            }
            if sender.port_number() != 0 {
                continue;
            }
            let mut rest = &bytes[..];
            while let Some(payload) = next(&mut rest)? {
                if let NetlinkPayload::InnerMessage(RouteMessage::Departed(left)) = payload {
                    all.push(left);
                }
            }
        }
        Ok(all)
    }
}

/// Takes the next message from `rest`. None at the end.
fn next(rest: &mut &[u8]) -> Result<Option<NetlinkPayload<RouteMessage>>> {
    if rest.is_empty() {
        return Ok(None);
    }
    let message = NetlinkMessage::deserialize(rest)?;
    let length = usize::try_from(message.header.length)?.next_multiple_of(4);
    *rest = rest.get(length..).unwrap_or_default();
    Ok(Some(message.payload))
}

/// Takes the addresses from a packet. Returns true after the last one.
fn take_addresses(mut rest: &[u8], answers: &mut Vec<AddressMessage>) -> Result<bool> {
    while let Some(payload) = next(&mut rest)? {
        match payload {
            NetlinkPayload::InnerMessage(RouteMessage::Address(address)) => answers.push(address),
            NetlinkPayload::Error(ErrorMessage { code: Some(code), header, .. }) => {
                let errno = from_number(code.get().saturating_neg());
                bail!(extended_ack(&header).map_or(words(errno), |said| said_with(&said, errno)));
            }
            NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(true),
            _ => {}
        }
    }
    Ok(false)
}

/// Parses any bytes as an answer of the kernel: for fuzz/.
#[cfg(any(test, fuzzing))]
pub fn read_bytes(bytes: &[u8]) {
    std::hint::black_box(Departed::parse(bytes));
    let mut answers = Vec::new();
    let _ = take_addresses(bytes, &mut answers);
    for address in answers.iter().filter(|address| is_kept(address)) {
        let address = with_index(address, 7);
        std::hint::black_box((shown(&address), flags(&address)));
    }
}

/// NLMSGERR_ATTR_MSG, which follows the header of the refused request (netlink(7), NETLINK_EXT_ACK).
fn extended_ack(refused: &[u8]) -> Option<String> {
    const MESSAGE: u16 = 1;
    let attributes = NlasIterator::new(refused.get(size_of::<libc::nlmsghdr>()..)?);
    let message = attributes.map_while(Result::ok).find(|attribute| attribute.kind() == MESSAGE)?;
    parse_string(message.value()).ok()
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
        assert_eq!(extended_ack(&[&header[..], &offset, &words].concat()).as_deref(), Some("It stays"));
        for none in [&[][..], &header, &[&header[..], &offset].concat(), &[&header[..], &[0; 8]].concat()] {
            assert_eq!(extended_ack(none), None);
        }
        // A packet that was cut short.
        assert_eq!(extended_ack(&[&header[..], &words[..7]].concat()), None);
    }

    #[test]
    fn a_device_that_leaves_has_a_number_here_and_perhaps_there() {
        let header = |family: u8| [&[family, 0, 0, 0][..], &7u32.to_ne_bytes(), &[0; 8]].concat();
        let there = [&8u16.to_ne_bytes()[..], &NEW_INDEX.to_ne_bytes(), &9u32.to_ne_bytes()].concat();
        let left = |new_index| Some(Departed { index: 7, new_index });
        assert_eq!(Departed::parse(&header(0)), left(None));
        assert_eq!(Departed::parse(&[header(0), there.clone()].concat()), left(Some(9)));
        // a port of a bridge
        assert_eq!(Departed::parse(&[header(7), there].concat()), None);
        assert_eq!(Departed::parse(&header(0)[..15]), None);
    }
}
