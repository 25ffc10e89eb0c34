//! The common part of `create`, `run` and `exec`: the terminal, inherited descriptors, and the cgroup driver.

use std::env;
use std::path::Path;

use anyhow::{Context, Result, bail};
use libcontainer::internals::Creator;
use libcontainer::{CgroupUse, Console, Create, Keyring, Manager, Master, Protection, RootChange, Rootless};

use super::session::{Session, manager};
use crate::cli::Making;

/// The number of descriptors from systemd (sd_listen_fds(3)). If LISTEN_PID is set, it must be our pid. If it is not set, all
/// descriptors must be open: otherwise the variable is a leftover in the environment.
pub fn listen_fds() -> u32 {
    let number = |name| env::var(name).ok().and_then(|text| text.parse::<u32>().ok()).filter(|n| *n < 1 << 22);
    match (number("LISTEN_FDS"), number("LISTEN_PID")) {
        (Some(count), None) if (3..count.saturating_add(3)).all(libcontainer::internals::is_inherited) => count,
        (Some(count), Some(pid)) if pid == std::process::id() => count,
        _ => 0,
    }
}

/// Hooks do not inherit other open descriptors of our caller than the first `passed_on` after the standard streams. The container's
/// process closes them in any case, so an error does not matter.
pub fn close_on_exec_behind(passed_on: u32) {
    let _ = libcontainer::internals::close_on_exec_from(passed_on.saturating_add(3));
}

/// Whether the process has a terminal (`process.terminal`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terminal {
    Yes,
    No,
}

impl From<bool> for Terminal {
    fn from(terminal: bool) -> Terminal {
        if terminal { Terminal::Yes } else { Terminal::No }
    }
}

/// The two ends for the terminal: a console socket, or our own pair if we relay the terminal, or none.
pub fn consoles(
    terminal: Terminal,
    socket: Option<&Path>,
    detached: Detached,
) -> Result<(Option<Console>, Option<Master>)> {
    match (terminal, socket, detached) {
        (Terminal::Yes, Some(path), Detached::Yes) => {
            Ok((Some(Console::connect(path).context("--console-socket")?), None))
        }
        (Terminal::Yes, None, Detached::Yes) => {
            bail!("cannot allocate tty if coracle will detach without setting console socket")
        }
        (Terminal::Yes, None, Detached::No) => {
            let (console, master) = Console::pair()?;
            Ok((Some(console), Some(master)))
        }
        (_, Some(_), _) => bail!("cannot use console socket if coracle will not detach or allocate tty"),
        (Terminal::No, None, _) => Ok((None, None)),
    }
}

/// Whether we end before the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detached {
    Yes,
    No,
}

impl Session<'_> {
    /// The container that will be made, with the flags of `create` and `run`.
    pub fn with_flags<'a>(
        &self,
        mut new: Create<'a>,
        making: &Making,
        protection: Protection,
        console: Option<Console>,
    ) -> Result<Create<'a>> {
        let listen_fds = listen_fds();
        new = new
            .protection(protection)
            .creator(Creator::Ended)
            .listen_fds(listen_fds)
            .preserve_fds(making.preserve_fds)
            .cgroup(self.cgroup_use()?)
            .rootless(self.rootless())
            .keep_times(self.times());
        if let Some(console) = console {
            new = new.console(console);
        }
        if let Some(path) = &making.pid_file {
            new = new.pid_file(path);
        }
        if making.no_pivot {
            new = new.root_change(RootChange::Move);
        }
        if making.no_new_keyring {
            new = new.keyring(Keyring::Inherited);
        }
        if manager().is_some() {
            new = new.notify();
        }
        close_on_exec_behind(listen_fds.saturating_add(making.preserve_fds));
        Ok(new)
    }

    /// The value of `--rootless`.
    pub fn rootless(&self) -> Rootless {
        match self.global.says_rootless() {
            Some(true) => Rootless::Yes,
            Some(false) => Rootless::No,
            None => Rootless::Auto,
        }
    }

    /// The flags about cgroups.
    pub fn cgroup_use(&self) -> Result<CgroupUse> {
        let named = self.global.cgroup_manager.as_deref();
        if self.global.systemd_cgroup || named == Some("systemd") {
            let root = rustix::process::geteuid().as_raw() == 0;
            return Ok(CgroupUse::Unit(if root { Manager::System } else { Manager::User }));
        }
        match named {
            None | Some("cgroupfs") => Ok(CgroupUse::Own),
            Some("disabled") => Ok(CgroupUse::Disabled),
            Some(other) => bail!("--cgroup-manager: unknown value {other:?}"),
        }
    }
}
