//! The network of a container, as its own files of /proc show it: interfaces and their counters, and addresses.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use serde::Serialize;

use crate::container::{Container, Status};
use crate::sys::text::lossy;

/// The network namespace of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// Its interfaces, except the loopback.
    pub interfaces: Vec<Interface>,
    /// Its addresses, except those of the loopback and of the link.
    pub addresses: Vec<IpAddr>,
}

/// An interface and what it has counted, in the form of runc's `events`.
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
    /// The network that its first process is in. None if it has ended, or if that is the caller's own network.
    pub fn network(&self) -> Option<Network> {
        if self.status().ok()? == Status::Stopped {
            return None;
        }
        let proc = Path::new("/proc").join(self.record().init_process_pid.to_string());
        let of = |process: &Path| fs::read_link(process.join("ns/net")).ok();
        if of(&proc)? == of(Path::new("/proc/self"))? {
            return None;
        }
        let read = |file: &str| lossy(&proc.join("net").join(file)).unwrap_or_default();
        let mut addresses = v4(&read("fib_trie"));
        addresses.extend(v6(&read("if_inet6")));
        Some(Network { interfaces: interfaces(&read("dev")), addresses })
    }
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
    let mut found: Vec<IpAddr> = Vec::new();
    let mut last = None;
    for line in text.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse::<Ipv4Addr>().ok();
        } else if line == "/32 host LOCAL"
            && let Some(address) = last.filter(|address| !address.is_loopback())
            && !found.contains(&address.into())
        {
            found.push(address.into());
        }
    }
    found
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
}
