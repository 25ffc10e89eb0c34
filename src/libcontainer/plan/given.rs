//! The input of a plan: config.json, the host, the command line. `exec` also has a process object and a container.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Linux, Process};

use super::resources::unit::Manager;
use super::step::{CallersGroups, Namespaces, Role};
use crate::config::{At, Config};
use crate::host::Host;

/// The decisions of the command line, and values that follow from them.
#[derive(Clone, Debug)]
pub struct Flags {
    /// The container's id.
    pub id: String,
    /// The bundle directory, absolute.
    pub bundle: PathBuf,
    /// Where the container's terminal is sent.
    pub terminal: Terminal,
    /// When the program begins.
    pub start: Start,
    /// How the root directory changes.
    pub root_change: RootChange,
    /// Whether the container gets a session keyring of its own.
    pub keyring: Keyring,
    /// The number of descriptors from 3 on that the program inherits: LISTEN_FDS and --preserve-fds together.
    pub extra_fds: u32,
    /// How many of these belong to LISTEN_FDS.
    pub listen_fds: u32,
    /// The host directory that is mounted at /run/notify, if the runtime serves NOTIFY_SOCKET.
    pub notify: Option<PathBuf>,
    /// Whether the container gets cgroups of its own.
    pub cgroup: CgroupUse,
    /// Whether it is an error that the runtime may not make a cgroup.
    pub rootless: Rootless,
    /// The parent-death signal of the runtime (PR_SET_PDEATHSIG), if the runtime stays the parent of the process.
    pub death_signal: Option<i32>,
}

impl Flags {
    /// The defaults.
    pub fn new(id: &str, bundle: &Path, keyring: Keyring) -> Flags {
        Flags {
            id: id.to_owned(),
            bundle: bundle.to_path_buf(),
            terminal: Terminal::Sent,
            start: Start::OnFifo,
            root_change: RootChange::Pivot,
            keyring,
            extra_fds: 0,
            listen_fds: 0,
            notify: None,
            cgroup: CgroupUse::Own,
            rootless: Rootless::Auto,
            death_signal: None,
        }
    }
}

/// The process keeps the groups of the caller.
pub const KEEP_GROUPS: &str = "run.oci.keep_original_groups";

/// Says whether an annotation is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Switch {
    On,
    Off,
}

/// Where the container's terminal is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terminal {
    /// A socket receives the master if `process.terminal` is true.
    Sent,
    /// No process receives the master: `process.terminal` must be false.
    None,
}

/// When the program begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// When `start` is called.
    OnFifo,
    /// As soon as the container is created.
    AtOnce,
}

/// How the root directory changes.
///
/// ```no_run
/// # fn main() -> libcontainer::Result<()> {
/// use libcontainer::{Bundle, Root, RootChange};
///
/// let (root, bundle) = (Root::open("/run/coracle")?, Bundle::read("/bundles/box")?);
/// root.create("box", &bundle).root_change(RootChange::Move).create()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootChange {
    /// pivot_root(2).
    Pivot,
    /// chroot(2) into the mounted root: `--no-pivot`.
    Move,
}

/// Whether the container gets a session keyring of its own.
///
/// ```no_run
/// # fn main() -> libcontainer::Result<()> {
/// use libcontainer::{Bundle, Keyring, Root};
///
/// let (root, bundle) = (Root::open("/run/coracle")?, Bundle::read("/bundles/box")?);
/// root.create("box", &bundle).keyring(Keyring::Inherited).create()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keyring {
    /// Yes, with this name. `exec` joins the keyring by the same name.
    Named(String),
    /// No, it keeps the caller's: `--no-new-keyring`.
    Inherited,
}

/// Whether the container gets cgroups of its own.
///
/// ```
/// use libcontainer::{Bundle, CgroupUse};
///
/// let plan = Bundle::read("examples/bundle")?.explain(CgroupUse::Own)?;
/// assert!(plan.lines().iter().any(|line| line.what == "cgroup"));
/// # Ok::<(), libcontainer::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupUse {
    /// Directories of its own.
    Own,
    /// The same, as a unit of systemd: `--systemd-cgroup`.
    Unit(Manager),
    /// No, it stays in the caller's cgroup: `--cgroup-manager=disabled`.
    Disabled,
}

/// What happens when the runtime may not make a cgroup: `--rootless`.
///
/// ```no_run
/// # fn main() -> libcontainer::Result<()> {
/// use libcontainer::{Bundle, Root, Rootless};
///
/// let (root, bundle) = (Root::open("/run/coracle")?, Bundle::read("/bundles/box")?);
/// root.create("box", &bundle).rootless(Rootless::No).create()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rootless {
    /// For root, an error. For an ordinary user, or root of another user namespace, the container runs without a cgroup if
    /// config.json sets no limit.
    #[default]
    Auto,
    /// For every user, the container runs without a cgroup if config.json sets no limit.
    Yes,
    /// An error.
    No,
}

impl Keyring {
    /// A keyring for a new container. keyctl(2) joins an existing keyring of that name, and any process can make one.
    /// So a part of the name is random: no other process can have made the keyring before.
    pub fn fresh(id: &str) -> Keyring {
        // The keys of the standard library's hasher come from getrandom(2).
        let secret = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), id);
        Keyring::Named(format!("{}.{secret:016x}", Keyring::plain_name(id)))
    }

    /// The name that runc gives to the keyring.
    pub fn plain_name(id: &str) -> String {
        format!("_ses.{id}")
    }
}

/// The input of a plan.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    /// The bundle's config.json.
    pub config: &'a Config,
    /// The host, and the runtime's place in it.
    pub host: &'a Host,
    /// The command line.
    pub flags: &'a Flags,
}

/// The process of `exec`, and its container.
#[derive(Clone, Copy, Debug)]
pub struct Joining<'a> {
    /// The process object.
    pub process: &'a Process,
    /// Its place in error messages: `process`, or the name of its file.
    pub at: &'a At,
    /// The container's first process, and the namespaces that it does not share with the runtime.
    pub container: Joined,
}

/// A running container that a process joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joined {
    /// A living thread of its init: mostly the first one, whose id is the pid.
    pub pid: i32,
    /// The namespaces that it does not share with the runtime.
    pub namespaces: Namespaces,
}

/// The process that a plan is for: its object, its place, and its role. Without an object, no program runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct PlannedProcess<'a> {
    pub(super) process: Option<&'a Process>,
    pub(super) at: &'a At,
    pub(super) role: Role,
}

/// The other input of steps. Steps depend on this and on the values that were read. They do not see config.json.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts<'a> {
    pub(super) host: &'a Host,
    pub(super) flags: &'a Flags,
    /// What init does with the caller's groups in a new user namespace.
    pub(super) groups: CallersGroups,
}

impl<'a> Given<'a> {
    /// The input without config.json.
    pub(super) fn facts(&self) -> Facts<'a> {
        let kept = !self.host.me.is_root() && self.switch(KEEP_GROUPS) == Ok(Switch::On);
        let groups = if kept { CallersGroups::Kept } else { CallersGroups::Dropped };
        Facts { host: self.host, flags: self.flags, groups }
    }

    /// The value of an annotation.
    pub(super) fn annotation(&self, name: &str) -> Option<&'a str> {
        self.config.spec.annotations().as_ref()?.get(name).map(String::as_str)
    }

    /// Reads an annotation whose value is `1` or `true`, or `0` or `false`. Another value is the error.
    pub(super) fn switch(&self, name: &str) -> Result<Switch, &'a str> {
        match self.annotation(name) {
            None | Some("0" | "false") => Ok(Switch::Off),
            Some("1" | "true") => Ok(Switch::On),
            Some(other) => Err(other),
        }
    }

    /// `linux`, if config.json has it.
    pub(super) fn linux(&self) -> Option<&'a Linux> {
        self.config.spec.linux().as_ref()
    }
}
