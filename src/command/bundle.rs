//! What `create`, `run` and `explain` share: the way from a bundle and flags to a plan.

use std::env;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context, Result, bail};
use libcontainer::Bundle;
use libcontainer::launch::console;
use libcontainer::plan::{CgroupUse, Flags, Keyring, Manager, RootChange, Rootless, Start, Terminal};

use super::Session;
use crate::cli::Making;

/// The values that the flags set for a container of `bundle`.
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

/// The number of descriptors from systemd (sd_listen_fds(3)). LISTEN_PID, if it is set, must be our pid.
pub fn listen_fds() -> u32 {
    let number = |name| env::var(name).ok().and_then(|text| text.parse::<u32>().ok()).filter(|n| *n < 1 << 22);
    match (number("LISTEN_FDS"), number("LISTEN_PID")) {
        (Some(count), None) => count,
        (Some(count), Some(pid)) if pid == std::process::id() => count,
        _ => 0,
    }
}

/// Checks that every descriptor to pass on exists. Our own descriptors are close-on-exec, and inherited ones never are.
pub fn check_extra_fds(count: u32) -> Result<()> {
    for number in 3..count.saturating_add(3) {
        if !libcontainer::sys::fds::is_handed_down(number) {
            bail!("unable to stat preserved-fd {number} (of {count}): no such file or directory");
        }
    }
    // Hooks must not get the other descriptors that the caller left open. Init closes these anyway.
    let _ = libcontainer::sys::fds::close_on_exec_from(count.saturating_add(3));
    Ok(())
}

/// Where the terminal's master goes: to a console socket, to this process, or nowhere.
pub enum Master {
    /// Connected to the console socket.
    Socket(OwnedFd),
    /// This process's end and init's end.
    Relay(OwnedFd, OwnedFd),
    /// The process has no terminal.
    None,
}

impl Master {
    /// Chooses by the command line and the process. `detached` says whether this process can relay.
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

    /// Init's end, and this process's end.
    pub fn ends(self) -> (Option<OwnedFd>, Option<OwnedFd>) {
        match self {
            Master::Socket(socket) => (Some(socket), None),
            Master::Relay(ours, theirs) => (Some(theirs), Some(ours)),
            Master::None => (None, None),
        }
    }
}

/// Whether the command returns while the process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detached {
    Yes,
    No,
}

impl Session<'_> {
    /// The value of `--rootless`.
    pub fn rootless(&self) -> Rootless {
        match self.global.says_rootless() {
            Some(true) => Rootless::Yes,
            Some(false) => Rootless::No,
            None => Rootless::Auto,
        }
    }

    /// The cgroup flags.
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
