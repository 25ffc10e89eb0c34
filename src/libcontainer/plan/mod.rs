//! What we will do: (config, host, flags) become a plan. Pure: no files, no environment, no calls. This page is the
//! order of things, and the order is the security property; `tests/invariants.rs` holds it to its rules.

pub mod capabilities;
mod cgroup;
mod cgroup_mounts;
mod console;
mod devices;
mod draft;
pub mod explain;
pub mod failure;
mod hooks;
mod idmap;
mod labels;
mod mount_ids;
pub mod mount_options;
mod mounts;
pub mod namespaces;
pub mod needs;
mod net_devices;
mod paths;
mod process;
pub mod resctrl;
pub mod resources;
mod rootfs;
mod run_as;
pub mod seccomp;
pub mod step;
pub mod sysctl;

use std::path::PathBuf;

use oci_spec::runtime::Process;

use crate::config::{At, Config, Faults};
use crate::host::Host;

use draft::Draft;
pub use draft::{
    Birth, Dumpable, IdMap, IdMaps, Joined, Mapped, Mapper, NetDevice, OomScore, Opening, Plan, RuntimeHooks,
    TimeOffset, Writer,
};
pub use process::{SECCOMP_RECEIVER, candidates};
pub use resources::unit::Manager;

const SELINUX_OFF: &str = "cannot be applied: SELinux is not supported or not enabled on this host";

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

/// Where the container's terminal goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terminal {
    /// `process.terminal` is as config.json says, and a socket takes the master.
    Sent,
    /// There is nobody to take it: `process.terminal` must be false.
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

/// Whether a cgroup that we may not make is missed: `--rootless`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rootless {
    /// By root it is; an ordinary user, or root in somebody's user namespace, does without where nothing was asked.
    #[default]
    Auto,
    /// It is not, where nothing was asked.
    Yes,
    /// It is.
    No,
}

impl Keyring {
    /// A keyring for a new container. keyctl(2) joins whatever has the name, and names are everybody's: with a part that
    /// nobody can guess, nobody can have made it before.
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
pub struct Asked<'a> {
    /// What the user wrote.
    pub config: &'a Config,
    /// Where we are.
    pub host: &'a Host,
    /// How we were called.
    pub flags: &'a Flags,
}

/// The plan of a new container. Every mistake of the config is found here, before anything is made.
///
/// # Errors
/// All mistakes, each with its place.
pub fn create(ask: &Asked<'_>) -> Result<Plan, Faults> {
    let mut plan = draft(ask);
    if let Some(config) = ask.config.with_every_namespace() {
        plan.keep_faults_of(&draft(&Asked { config: &config, ..*ask }));
    }
    plan.into_plan(ask)
}

/// The order of things, whole.
fn draft(ask: &Asked<'_>) -> Draft {
    let mut plan = Draft::new(ask);
    cgroup::all(ask, &mut plan); //                  where, and how much
    resctrl::all(ask, &mut plan);
    let kinds = namespaces::of(ask, &mut plan);
    let own = process::own(ask, &kinds, &mut plan);
    labels::check(ask, &mut plan);
    process::begin(&mut plan); //                    signals, umask
    namespaces::unseen(ask, &kinds, &mut plan); //   no looking in
    process::everywhere(&mut plan);
    namespaces::enter(ask, &kinds, &mut plan); //    ids before everything they own       SPEC: config-linux.md#namespaces
    labels::of_keyring(&own, ask, &mut plan);
    process::session(ask, &mut plan); //             session and keyring
    rootfs::attach(ask, &kinds, &mut plan); //       propagation first, or mounts leak to the host
    mounts::all(ask, &kinds, &mut plan); //          in config order                      SPEC: config.md#mounts
    devices::all(ask, &kinds, &mut plan);
    namespaces::settle(ask, &kinds, &mut plan); //   hostname, sysctl, loopback: on the host's own /proc
    hooks::before_pivot(ask, &mut plan); //          ask createRuntime, run createContainer  SPEC: runtime.md#lifecycle
    labels::of_process(&own, ask, &mut plan); //      for the exec; a hook must not wear them
    rootfs::change(ask, &kinds, &mut plan);
    namespaces::into_pids(&kinds, &mut plan);
    console::attach(&own, ask, &mut plan);
    paths::hide(ask, &kinds, &mut plan); //          ORDER: after pivot, on the container's own /proc
    rootfs::finish(ask, &kinds, &mut plan); //       read-only last, when nothing has to be made any more
    process::place(&own, &mut plan); //              the working directory and HOME, as root
    process::run_as(&own, ask, &mut plan); //             scheduler, priorities, memory
    process::give_up_power(&own, &mut plan); // no_new_privs, groups, ids, capabilities
    // ORDER: others see it when nothing of the host's is in reach, and no right is left that the program has not
    namespaces::born_in_pids(&own, ask, &kinds, &mut plan);
    process::prepare(&own, ask, &mut plan); //       cwd inside the root, nothing open, program there, ready
    let answer = hooks::before_start(&own, ask, &mut plan); //          await start, startContainer
    process::go(&own, answer, &mut plan); //         seccomp, the exec
    plan
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

/// The plan of a further process in a running container: the same words, joined instead of made.
///
/// # Errors
/// All mistakes, each with its place.
pub fn exec(ask: &Asked<'_>, joining: &Joining<'_>) -> Result<Plan, Faults> {
    let mut plan = Draft::new(ask);
    let own = process::of(joining, ask, &mut plan);
    process::begin(&mut plan);
    process::unseen(&mut plan);
    run_as::before_cgroup(joining, ask, &mut plan);
    labels::of_process(&own, ask, &mut plan); //      ORDER: on the host's /proc, before the container's is all there is
    labels::of_keyring(&own, ask, &mut plan);
    namespaces::join(joining.container, ask, &mut plan);
    process::session(ask, &mut plan);
    console::attach_again(&own, ask, &mut plan);
    process::place(&own, &mut plan);
    run_as::in_cgroup(joining, ask, &mut plan); //   before the scheduler, which may look at it
    process::run_as(&own, ask, &mut plan);
    process::give_up_power(&own, &mut plan);
    namespaces::born_inside(&own, joining.container, ask, &mut plan); // ORDER: as for init
    process::prepare(&own, ask, &mut plan);
    process::go(&own, None, &mut plan);
    plan.into_plan(ask)
}
