//! Makes a plan from config, host and flags. Pure: it reads no file and no environment, and makes no system call. `create`
//! and `exec` give the order of the steps, and the order is the security property: `tests/invariants.rs` checks its rules.

mod affinity;
pub mod annotations;
mod capabilities;
mod cgroup;
mod cgroup_mounts;
mod covered_paths;
mod create;
mod credentials;
pub(crate) mod devices;
mod entering;
mod exec;
pub mod explain;
pub mod failure;
mod fields;
mod filter;
mod finished;
mod given;
mod hooks;
mod idmap;
#[cfg(feature = "checkpoint")]
pub mod images;
mod labels;
mod landlock;
mod limits;
mod live_mounts;
mod mount_entry;
mod mount_id_maps;
pub mod mount_options;
mod mounts;
pub mod namespaces;
pub mod needs;
mod net_devices;
mod notes;
mod process;
pub mod resctrl;
pub mod resources;
#[cfg(feature = "checkpoint")]
pub mod restore;
mod rootfs;
pub mod ruleset;
mod scheduling;
#[cfg(feature = "seccomp")]
pub mod seccomp;
#[cfg(not(feature = "seccomp"))]
#[path = "seccomp/absent.rs"]
pub mod seccomp;
mod session;
pub mod step;
mod step_arguments;
mod step_text;
mod steps;
pub mod sysctl;
mod time_offsets;
mod uts;
pub(crate) mod values;

pub use create::create;
pub use exec::exec;
pub use finished::{
    Dumpable, FirstClone, IdMaps, Mapped, Mapper, NetDevice, OomScore, Opening, Plan, PlannedCgroup, RuntimeHooks,
    TimeOffset, Writer,
};
pub use given::{CgroupUse, Flags, Given, Joined, Joining, Keyring, RootChange, Rootless, Start, Terminal};
pub use landlock::LANDLOCK;
pub use live_mounts::{LiveMount, LiveTree, live_destinations, live_mounts};
pub use process::candidates;
pub use resources::unit::Manager;
