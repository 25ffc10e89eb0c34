//! The network of a container, as its own files of /proc show it: interfaces and their counters, and addresses.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use serde::Serialize;

use crate::container::Container;
use crate::host::Namespace;
use crate::status::Status;

/// As much as is read of one file. A container with CAP_NET_ADMIN makes these files as long as it likes.
const MOST: u64 = 1 << 20;

/// An interface and what it has counted, in the form of runc's `events`.
///
/// ```
/// use libcontainer::Interface;
///
/// let dropped = |all: &[Interface]| all.iter().map(|one| one.rx_dropped + one.tx_dropped).sum::<u64>();
/// assert_eq!(dropped(&[Interface { rx_dropped: 2, ..Interface::default() }]), 2);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
#[allow(missing_docs)] // the words of proc_pid_net(5)
pub struct Interface {
    pub name: String,
    pub rx_bytes: u64,
    pub rx_packets: u64,
    pub rx_errors: u64,
    pub rx_dropped: u64,
    pub tx_bytes: u64,
    pub tx_packets: u64,
    pub tx_errors: u64,
    pub tx_dropped: u64,
}

impl Container {
    /// The addresses of the network that its first process is in, except those of the loopback and of the link. They may be
    /// incomplete if there are thousands. None if the process has ended, or if that is the caller's own network.
    pub fn addresses(&self) -> Option<Vec<IpAddr>> {
        self.network(|net| {
            let mut addresses = v4(&read(&net.join("fib_trie")));
            addresses.extend(v6(&read(&net.join("if_inet6"))));
            addresses
        })
    }

    /// The interfaces of that network, except the loopback.
    pub(super) fn interfaces(&self) -> Option<Vec<Interface>> {
        self.network(|net| interfaces(&read(&net.join("dev"))))
    }

    /// Calls `look` with /proc/PID/net, unless that is the caller's own network.
    fn network<T>(&self, look: impl FnOnce(&Path) -> T) -> Option<T> {
        if self.status().ok()? == Status::Stopped {
            return None;
        }
        let pid = self.record().init_process_pid;
        if Namespace::of(pid, "net").ok()? == Namespace::ours("net").ok()? {
            return None;
        }
        let seen = look(Path::new(&format!("/proc/{pid}/net")));
        // ORDER: after the reads. The process that was read was this one if it has not ended since.
        self.process().ok().map(|_| seen)
    }
}

/// The whole lines of a file, up to `MOST` bytes. Empty where it cannot be read.
fn read(file: &Path) -> String {
    let mut bytes = Vec::new();
    let done = fs::File::open(file).and_then(|file| file.take(MOST).read_to_end(&mut bytes));
    let lines = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    // names of interfaces may be any bytes
    done.map_or_else(|_| String::new(), |_| String::from_utf8_lossy(&bytes[..lines]).into_owned())
}

/// The lines of /proc/PID/net/dev behind its two headers.
fn interfaces(text: &str) -> Vec<Interface> {
    let lines = text.lines().skip(2).filter_map(|line| {
        let (name, counters) = line.split_once(':')?;
        let counters: Vec<u64> = counters.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        let [rx_bytes, rx_packets, rx_errors, rx_dropped, _, _, _, _, tx_bytes, tx_packets, tx_errors, tx_dropped, ..] =
            counters[..]
        else {
            return None;
        };
        let name = name.trim().to_owned();
        Some(Interface {
            name,
            rx_bytes,
            rx_packets,
            rx_errors,
            rx_dropped,
            tx_bytes,
            tx_packets,
            tx_errors,
            tx_dropped,
        })
    });
    lines.filter(|interface| interface.name != "lo").collect()
}

/// Local addresses are leaves of /proc/PID/net/fib_trie: the address, and below it `/32 host LOCAL`.
fn v4(text: &str) -> Vec<IpAddr> {
    let mut found = BTreeSet::new();
    let mut last = None;
    for line in text.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse::<Ipv4Addr>().ok();
        } else if line == "/32 host LOCAL"
            && let Some(address) = last.filter(|address| !address.is_loopback())
        {
            found.insert(IpAddr::from(address));
        }
    }
    found.into_iter().collect()
}

/// The lines of /proc/PID/net/if_inet6: 32 digits, and the scope in the fourth field (0 is global).
fn v6(text: &str) -> Vec<IpAddr> {
    let lines = text.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let bits = u128::from_str_radix(fields.first()?, 16).ok()?;
        (*fields.get(3)? == "00").then(|| IpAddr::from(Ipv6Addr::from_bits(bits)))
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_have_their_counters() {
        let text = "Inter-|   Receive  |  Transmit\n face |bytes packets\n    lo:  1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n  eth0: 100 2 3 4 5 6 7 8 900 10 11 12 13 14 15 16\n";
        let found = interfaces(text);
        assert_eq!(found.len(), 1);
        let numbers = (found[0].rx_bytes, found[0].rx_dropped, found[0].tx_bytes, found[0].tx_dropped);
        assert_eq!((found[0].name.as_str(), numbers), ("eth0", (100, 4, 900, 12)));
        let json = serde_json::json!(found[0]);
        assert_eq!((&json["Name"], &json["RxBytes"], &json["TxPackets"]), (&"eth0".into(), &100.into(), &10.into()));
        assert_eq!(interfaces("a\nb\n x: 1 2\n"), []);
    }

    #[test]
    fn local_addresses_are_found_once() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.0.0.0\n        /24 link UNICAST\n     |-- 10.0.0.2\n        /32 host LOCAL\n     |-- 127.0.0.1\n        /32 host LOCAL\nLocal:\n     |-- 10.0.0.2\n        /32 host LOCAL\n";
        assert_eq!(v4(trie), [IpAddr::from([10, 0, 0, 2])]);
        let text = "00000000000000000000000000000001 01 80 10 80 lo\nfe800000000000000000000000000001 02 40 20 80 eth0\nfd000000000000000000000000000002 02 40 00 80 eth0\n";
        assert_eq!(v6(text), ["fd00::2".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn a_file_without_an_end_is_read_in_part() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let line = "0123456789abcdef\n";
        fs::write(file.path(), line.repeat(100_000)).unwrap();
        let text = read(file.path());
        assert_eq!((text.len() as u64 / 17, text.ends_with(line)), (MOST / 17, true));
        assert_eq!((read(Path::new("/nonexistent")), read(Path::new("/dev/zero"))), (String::new(), String::new()));
    }
}
