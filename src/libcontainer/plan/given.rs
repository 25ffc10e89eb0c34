//! What a plan is made from: config.json, the host, the command line. `exec` has a process object and a container besides.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Linux, Process};

use super::resources::unit::Manager;
use super::step::Namespaces;
use crate::config::{At, Config};
use crate::host::Host;

/// What the command line decided, and what follows from it.
#[derive(Clone, Debug)]
pub struct Flags {
    /// The container's id.
    pub id: String,
    /// The bundle directory, absolute.
    pub bundle: PathBuf,
    /// Where the container's terminal goes.
    pub terminal: Terminal,
    /// When the program begins.
    pub start: Start,
    /// How the root becomes the root.
    pub root_change: RootChange,
    /// Whether the container gets a session keyring of its own.
    pub keyring: Keyring,
    /// How many descriptors from 3 up the program inherits: LISTEN_FDS and --preserve-fds together.
    pub extra_fds: u32,
    /// How many of these are LISTEN_FDS.
    pub listen_fds: u32,
    /// The host directory that is mounted at /run/notify, when NOTIFY_SOCKET is served.
    pub notify: Option<PathBuf>,
    /// Whether the container gets cgroups of its own.
    pub cgroup: CgroupUse,
    /// Whether a cgroup that we may not make is missed.
    pub rootless: Rootless,
    /// The signal we get when our parent ends (PR_SET_PDEATHSIG), when we stay the process's parent.
    pub death_signal: Option<i32>,
}

impl Flags {
    /// What is decided unless the caller decides otherwise.
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

/// Where the container's terminal goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terminal {
    /// A socket takes the master, where `process.terminal` is true.
    Sent,
    /// No process takes the master: `process.terminal` must be false.
    None,
}

/// When the program begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// When `start` says so.
    OnFifo,
    /// As soon as the container is there.
    AtOnce,
}

/// How the root becomes the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootChange {
    /// pivot_root(2).
    Pivot,
    /// chroot(2) into the mounted root: `--no-pivot`.
    Move,
}

/// Whether the container gets a session keyring of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keyring {
    /// Yes, by that name: `exec` joins it by the same.
    Named(String),
    /// It keeps the caller's: `--no-new-keyring`.
    Inherited,
}

/// Whether the container gets cgroups of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupUse {
    /// Directories of its own.
    Own,
    /// The same, as a unit of systemd: `--systemd-cgroup`.
    Unit(Manager),
    /// It stays where the caller is: `--cgroup-manager=disabled`.
    Disabled,
}

/// What happens when we may not make a cgroup: `--rootless`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rootless {
    /// For root it is an error. An ordinary user, or root of another user namespace, goes on if config.json asks for no limit.
    #[default]
    Auto,
    /// Everybody goes on if config.json asks for no limit.
    Yes,
    /// It is an error.
    No,
}

impl Keyring {
    /// A keyring for a new container. keyctl(2) joins an existing keyring of that name, and any process can make one. A part
    /// of the name is random, so no other process can have made it before.
    pub fn fresh(id: &str) -> Keyring {
        // the standard library's keys come from getrandom(2)
        let secret = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), id);
        Keyring::Named(format!("{}.{secret:016x}", Keyring::plain_name(id)))
    }

    /// What runc calls it.
    pub fn plain_name(id: &str) -> String {
        format!("_ses.{id}")
    }
}

/// Everything a plan is made from.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    /// What the user wrote.
    pub config: &'a Config,
    /// Where we are.
    pub host: &'a Host,
    /// How we were called.
    pub flags: &'a Flags,
}

/// What `exec` runs, and in which container.
#[derive(Clone, Copy, Debug)]
pub struct Joining<'a> {
    /// The process object.
    pub process: &'a Process,
    /// Its place in error messages: `process`, or the name of its file.
    pub at: &'a At,
    /// Which namespaces the container has that the runtime does not share, and its first process.
    pub container: Joined,
}

/// A running container, for those who join it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Its init.
    pub pid: i32,
    /// The namespaces it does not share with the runtime.
    pub kinds: Namespaces,
}

/// The process object that a plan is for, and its place. Without one there is nothing to run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Own<'a> {
    pub(super) process: Option<&'a Process>,
    pub(super) at: &'a At,
}

/// What steps depend on beside the values that were read: they do not see config.json.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts<'a> {
    pub(super) host: &'a Host,
    pub(super) flags: &'a Flags,
}

impl<'a> Given<'a> {
    /// All but config.json.
    pub(super) fn facts(&self) -> Facts<'a> {
        Facts { host: self.host, flags: self.flags }
    }

    /// `linux`, when there is one.
    pub(super) fn linux(&self) -> Option<&'a Linux> {
        self.config.spec.linux().as_ref()
    }
}
