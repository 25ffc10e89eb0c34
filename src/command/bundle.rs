//! What `create`, `run` and `explain` have in common: from a bundle and flags to a plan.

use std::env;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context, Result, bail};
use libcontainer::Bundle;
use libcontainer::launch::console;
use libcontainer::plan::{CgroupUse, Flags, Keyring, Manager, RootChange, Rootless, Start, Terminal};

use super::Session;
use crate::cli::Making;

/// What the flags decide for a container made from `bundle`.
pub fn flags(bundle: &Bundle, id: &str, making: &Making, terminal: Terminal, start: Start, cgroup: CgroupUse) -> Flags {
    let listen_fds = listen_fds();
    Flags {
        terminal,
        start,
        root_change: if making.no_pivot { RootChange::Move } else { RootChange::Pivot },
        keyring: if making.no_new_keyring { Keyring::Inherited } else { Keyring::fresh(id) },
        extra_fds: listen_fds + making.preserve_fds,
        listen_fds,
        cgroup,
        ..bundle.flags(id)
    }
}

/// How many descriptors systemd hands over (sd_listen_fds(3)); LISTEN_PID, where it is set, must be us.
pub fn listen_fds() -> u32 {
    let number = |name| env::var(name).ok().and_then(|text| text.parse::<u32>().ok()).filter(|n| *n < 1 << 22);
    match (number("LISTEN_FDS"), number("LISTEN_PID")) {
        (Some(count), None) => count,
        (Some(count), Some(pid)) if pid == std::process::id() => count,
        _ => 0,
    }
}

/// Every descriptor that is to be passed on must be there. Our own are all close-on-exec; those handed to us never are.
pub fn check_extra_fds(count: u32) -> Result<()> {
    for number in 3..count.saturating_add(3) {
        if !libcontainer::sys::fds::is_handed_down(number) {
            bail!("unable to stat preserved-fd {number} (of {count}): no such file or directory");
        }
    }
    // what else our caller left open is not for hooks either; init closes it anyway
    let _ = libcontainer::sys::fds::close_on_exec_from(count.saturating_add(3));
    Ok(())
}

/// Where the terminal's master goes: to a console socket, to us, or nowhere.
pub enum Master {
    /// Connected to the console socket.
    Socket(OwnedFd),
    /// Our end and init's.
    Relay(OwnedFd, OwnedFd),
    /// There is no terminal.
    None,
}

impl Master {
    /// What the command line and the process allow. `detached` is who will be left to relay.
    pub fn of(terminal: bool, socket: Option<&Path>, detached: Detached) -> Result<Master> {
        match (terminal, socket, detached) {
            (true, Some(path), Detached::Yes) => {
                Ok(Master::Socket(console::connect(path).context("--console-socket")?))
            }
            (true, None, Detached::Yes) => {
                bail!("cannot allocate tty if coracle will detach without setting console socket")
            }
            (true, None, Detached::No) => {
                let (ours, theirs) = console::pair()?;
                Ok(Master::Relay(ours, theirs))
            }
            (_, Some(_), _) => bail!("cannot use console socket if coracle will not detach or allocate tty"),
            (false, None, _) => Ok(Master::None),
        }
    }

    pub fn kind(&self) -> Terminal {
        match self {
            Master::None => Terminal::None,
            Master::Socket(_) | Master::Relay(..) => Terminal::Sent,
        }
    }

    /// Init's end, and ours.
    pub fn ends(self) -> (Option<OwnedFd>, Option<OwnedFd>) {
        match self {
            Master::Socket(socket) => (Some(socket), None),
            Master::Relay(ours, theirs) => (Some(theirs), Some(ours)),
            Master::None => (None, None),
        }
    }
}

/// Whether we leave the process to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detached {
    Yes,
    No,
}

impl Session<'_> {
    /// What `--rootless` says.
    pub fn rootless(&self) -> Rootless {
        match self.global.says_rootless() {
            Some(true) => Rootless::Yes,
            Some(false) => Rootless::No,
            None => Rootless::Auto,
        }
    }

    /// What the flags say about cgroups.
    pub fn cgroup_use(&self) -> Result<CgroupUse> {
        let named = self.global.cgroup_manager.as_deref();
        if self.global.systemd_cgroup || named == Some("systemd") {
            let root = rustix::process::geteuid().as_raw() == 0;
            return Ok(CgroupUse::Unit(if root { Manager::System } else { Manager::User }));
        }
        match named {
            None | Some("cgroupfs") => Ok(CgroupUse::Own),
            Some("disabled") => Ok(CgroupUse::Disabled),
            Some(other) => {
                bail!("--cgroup-manager: unknown value {other:?} (expected one of cgroupfs, systemd, disabled)")
            }
        }
    }
}
