//! The UNIX sockets of systemd: those of the system's manager, and those of a user's manager.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use super::bus::Socket;
use crate::error::{Result, bail};
use crate::host::Environment;
use crate::plan::resources::unit::Manager;

/// The sockets of the two managers, the best first. A user's are those of XDG_RUNTIME_DIR and DBUS_SESSION_BUS_ADDRESS.
pub(super) fn sockets(manager: Manager, environment: &Environment) -> Result<Vec<Socket>> {
    match manager {
        Manager::System => {
            if !Path::new("/run/systemd/system").is_dir() {
                bail!(
                    "systemd cgroup flag passed, but systemd support for managing cgroups is not available: this host was not booted with systemd"
                );
            }
            Ok(vec![
                Socket::Own(PathBuf::from("/run/systemd/private")),
                Socket::Daemon(PathBuf::from("/run/dbus/system_bus_socket")),
            ])
        }
        Manager::User => {
            let sockets = of_user(environment.runtime_directory(), environment.bus_address().map(OsStr::to_owned));
            if sockets.is_empty() {
                bail!(
                    "no user manager of systemd: neither XDG_RUNTIME_DIR nor DBUS_SESSION_BUS_ADDRESS names a socket of it"
                );
            }
            Ok(sockets)
        }
    }
}

/// systemd's own socket, then the buses of the address. Without an address: the bus in the directory.
fn of_user(runtime: Option<PathBuf>, address: Option<OsString>) -> Vec<Socket> {
    let own = runtime.iter().map(|runtime| Socket::Own(runtime.join("systemd/private")));
    let bus = || runtime.iter().map(|runtime| runtime.join("bus")).collect();
    let buses: Vec<_> = address.map_or_else(bus, |list| {
        let list = list.into_vec();
        list.split(|byte| *byte == b';').filter_map(|one| bus_socket(one, runtime.as_deref())).collect()
    });
    own.chain(buses.into_iter().map(Socket::Daemon)).collect()
}

/// The socket of `unix:path=…`, `unix:abstract=…` or `unix:runtime=yes` (D-Bus specification, "Server Addresses").
/// Other transports cannot authenticate us by our uid. A name that is not a path begins with a NUL (unix(7)).
fn bus_socket(address: &[u8], runtime: Option<&Path>) -> Option<PathBuf> {
    address.strip_prefix(b"unix:")?.split(|byte| *byte == b',').find_map(|part| {
        let equals = part.iter().position(|byte| *byte == b'=')?;
        let value = unescaped(&part[equals + 1..])?;
        match &part[..equals] {
            b"path" => Some(PathBuf::from(OsString::from_vec(value))),
            b"abstract" => Some(PathBuf::from(OsString::from_vec([&b"\0"[..], &value].concat()))),
            b"runtime" if value == b"yes" => runtime.map(|runtime| runtime.join("bus")),
            _ => None,
        }
    })
}

/// Decodes `%2f` to `/`.
fn unescaped(text: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    let mut rest = text;
    while let Some((first, more)) = rest.split_first() {
        rest = more;
        if *first != b'%' {
            plain.push(*first);
            continue;
        }
        let digits = more.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
        plain.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = &more[2..];
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::super::bus::Bus;
    use super::*;

    #[test]
    fn an_abstract_socket_of_the_bus_is_connected_to() {
        use std::io::{Read, Write};
        use std::os::linux::net::SocketAddrExt;
        use std::os::unix::net::{SocketAddr, UnixListener};
        let name = format!("/tmp/coracle test {}", std::process::id());
        let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let daemon = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"DATA\r\nOK 0123456789abcdef0123456789abcdef\r\n").unwrap();
            let mut heard = Vec::new();
            stream.read_to_end(&mut heard).unwrap();
            String::from_utf8_lossy(&heard).into_owned()
        });
        let addresses = format!("unix:path=/nowhere;unix:abstract={},guid=1", name.replace(' ', "%20"));
        let sockets = of_user(None, Some(addresses.into()));
        // It greets, and does not answer the first call.
        let said = Bus::connect(&sockets, std::time::Duration::from_millis(200)).unwrap_err().to_string();
        let heard = daemon.join().unwrap();
        assert!(heard.starts_with("\0AUTH EXTERNAL\r\n") && heard.contains("Hello"), "{heard}: {said}");
    }

    #[test]
    fn a_users_bus_is_where_the_address_says() {
        let run = Some(PathBuf::from("/run/user/7"));
        let cases: [(Option<PathBuf>, &str, &[&str]); 10] = [
            (run.clone(), "", &["own /run/user/7/systemd/private", "bus /run/user/7/bus"]),
            (None, "unix:path=/a", &["bus /a"]),
            (
                run,
                "unix:path=/a;unix:runtime=yes",
                &["own /run/user/7/systemd/private", "bus /a", "bus /run/user/7/bus"],
            ),
            (None, "unix:guid=1,path=/a%20b%2Fc", &["bus /a b/c"]),
            (None, "unix:abstract=/tmp/x,guid=1", &["bus \0/tmp/x"]),
            (None, "tcp:host=a,port=1;unix:path=/b", &["bus /b"]),
            (None, "unix:path=/a%2;unix:path=/b%+1;unix:path=/c", &["bus /c"]),
            (None, "unix:runtime=yes", &[]),
            (None, "nonsense", &[]),
            (None, "", &[]),
        ];
        for (runtime, address, expected) in cases {
            let address = Some(OsString::from(address)).filter(|address| !address.is_empty());
            let said: Vec<_> = of_user(runtime, address.clone())
                .into_iter()
                .map(|socket| match socket {
                    Socket::Own(path) => format!("own {}", path.to_str().unwrap()),
                    Socket::Daemon(path) => format!("bus {}", path.to_str().unwrap()),
                })
                .collect();
            assert_eq!(said, expected, "{address:?}");
        }
    }
}
