//! What `create`, `run` and `explain` have in common: from a bundle and flags to a plan.

use std::env;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use libcontainer::config::{self, Config};
use libcontainer::host::{Host, Labels, Me, Resctrl, mountinfo};
use libcontainer::launch::console;
use libcontainer::plan::{
    self, Asked, CgroupUse, Flags, Keyring, Manager, Plan, RootChange, Rootless, Start, Terminal,
};

use oci_spec::runtime::LinuxNamespaceType;

use super::{Session, absolute};
use crate::cli::Making;

/// A bundle that was read.
pub struct Bundle {
    pub directory: PathBuf,
    pub text: Vec<u8>,
    pub config: Config,
}

impl Bundle {
    /// Reads the bundle at `directory`, or the current one.
    pub fn read(directory: Option<&Path>, file: Option<&Path>) -> Result<Bundle> {
        let directory = absolute(directory.unwrap_or(Path::new(".")))?;
        let file = match file {
            Some(file) => absolute(file)?,
            None => directory.join("config.json"),
        };
        if !directory.is_dir() {
            let word = if directory.exists() { "not a directory" } else { "no such file or directory" };
            bail!("bundle {}: {word}", directory.display());
        }
        let text = libcontainer::wait::contents(&file).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => anyhow!("JSON specification file {} not found", file.display()),
            _ => anyhow!("{}: {error}", file.display()),
        })?;
        let config = config::load(&text)?;
        Ok(Bundle { directory, text, config })
    }

    pub fn terminal(&self) -> bool {
        self.config.spec.process().as_ref().is_some_and(|process| process.terminal().unwrap_or(false))
    }

    /// Whether a security label is asked for, so that the host is looked at for it.
    fn labels(&self) -> Labels {
        let process = self.config.spec.process().as_ref();
        let asked = process.is_some_and(|p| p.apparmor_profile().is_some() || p.selinux_label().is_some())
            || self.config.spec.linux().as_ref().is_some_and(|linux| linux.mount_label().is_some());
        if asked { Labels::Asked } else { Labels::None }
    }

    fn host(&self, flags: &Flags) -> Result<Host> {
        let mut host = Host::probe(self.labels()).context("look at the host")?;
        if self.config.spec.linux().as_ref().is_some_and(|linux| linux.intel_rdt().is_some()) {
            host.resctrl = Resctrl::probe().context("look for resctrl")?;
        }
        if flags.root_change == RootChange::Move {
            let root = self.config.spec.root().as_ref().map(|root| self.directory.join(root.path()));
            let root = root.and_then(|root| root.canonicalize().ok()).unwrap_or_default();
            host.views = mountinfo::views(&mountinfo::all().context("read /proc/self/mountinfo")?, &root);
        }
        Ok(host)
    }

    /// The plan of a container made from it.
    pub fn plan(&self, flags: &Flags) -> Result<Plan> {
        let host = self.host(flags)?;
        Ok(plan::create(&Asked { config: &self.config, host: &host, flags })?)
    }

    /// The plan for whoever can carry it out: for us, or where the config has no user namespace, for root.
    pub fn plan_to_read(&self, flags: &Flags) -> Result<Plan> {
        let mut host = self.host(flags)?;
        let list = self.config.spec.linux().as_ref().and_then(|linux| linux.namespaces().as_deref());
        if !list.unwrap_or_default().iter().any(|namespace| namespace.typ() == LinuxNamespaceType::User) {
            host.me = Me { bounding: host.me.bounding, ..Me::default() };
        }
        Ok(plan::create(&Asked { config: &self.config, host: &host, flags })?)
    }

    /// The flags of a container made from it.
    pub fn flags(&self, id: &str, making: &Making, terminal: Terminal, start: Start, cgroup: CgroupUse) -> Flags {
        let listen_fds = listen_fds();
        Flags {
            id: id.to_owned(),
            bundle: self.directory.clone(),
            terminal,
            start,
            root_change: if making.no_pivot { RootChange::Move } else { RootChange::Pivot },
            keyring: if making.no_new_keyring { Keyring::Inherited } else { Keyring::fresh(id) },
            extra_fds: listen_fds + making.preserve_fds,
            listen_fds,
            notify: None,
            cgroup,
            rootless: Rootless::Auto,
            death_signal: None,
        }
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
