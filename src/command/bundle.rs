//! What `create`, `run` and `exec` have in common: who has the terminal, which descriptors are passed on, which cgroup driver.

use std::env;
use std::path::Path;

use anyhow::{Context, Result, bail};
use libcontainer::{CgroupUse, Console, Create, Creator, Keyring, Manager, Master, Protection, RootChange, Rootless};

use super::{Session, manager};
use crate::cli::Making;

/// How many descriptors systemd hands over (sd_listen_fds(3)); LISTEN_PID, where it is set, must be us.
pub fn listen_fds() -> u32 {
    let number = |name| env::var(name).ok().and_then(|text| text.parse::<u32>().ok()).filter(|n| *n < 1 << 22);
    match (number("LISTEN_FDS"), number("LISTEN_PID")) {
        (Some(count), None) => count,
        (Some(count), Some(pid)) if pid == std::process::id() => count,
        _ => 0,
    }
}

/// What else our caller left open is not for hooks either; the container's process closes it anyway.
pub fn close_on_exec_behind(passed_on: u32) {
    let _ = libcontainer::sys::fds::close_on_exec_from(passed_on.saturating_add(3));
}

/// Who has the terminal: whoever listens at a console socket, or we, who relay it, or nobody.
pub fn consoles(
    terminal: bool,
    socket: Option<&Path>,
    detached: Detached,
) -> Result<(Option<Console>, Option<Master>)> {
    match (terminal, socket, detached) {
        (true, Some(path), Detached::Yes) => Ok((Some(Console::connect(path).context("--console-socket")?), None)),
        (true, None, Detached::Yes) => {
            bail!("cannot allocate tty if coracle will detach without setting console socket")
        }
        (true, None, Detached::No) => {
            let (console, master) = Console::pair()?;
            Ok((Some(console), Some(master)))
        }
        (_, Some(_), _) => bail!("cannot use console socket if coracle will not detach or allocate tty"),
        (false, None, _) => Ok((None, None)),
    }
}

/// Whether we leave the process to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detached {
    Yes,
    No,
}

impl Session<'_> {
    /// What the flags of `create` and `run` decide.
    pub fn decide<'a>(
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
