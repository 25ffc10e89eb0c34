//! Carries out a plan: makes the process of a container. Runs in the runtime process, which is single threaded. Each value owns
//! the part of the container that exists so far, and its drop undoes this part.

mod agent;
mod cause;
#[cfg(feature = "checkpoint")]
pub mod checkpoint;
mod child;
mod clone;
mod container_root;
pub mod create;
pub mod delete;
mod failure;
mod files_of_ruleset;
mod filter_cache;
#[cfg(feature = "checkpoint")]
mod foreign_mounts;
mod hook_files;
mod hooks;
mod host_mounts;
mod host_namespaces;
#[cfg(feature = "checkpoint")]
mod host_parts;
#[cfg(feature = "checkpoint")]
mod host_streams;
mod id_maps;
mod identity;
#[cfg(feature = "checkpoint")]
pub mod image_check;
#[cfg(feature = "checkpoint")]
pub mod images;
mod inside;
#[cfg(feature = "checkpoint")]
mod kept_label;
#[cfg(feature = "checkpoint")]
mod kept_rights;
mod killed;
mod launched;
pub mod live_mounts;
mod mount_id_maps;
#[cfg(feature = "checkpoint")]
mod mount_points;
mod net_devices;
mod nofile;
pub mod notify;
mod open;
#[cfg(feature = "checkpoint")]
mod open_images;
pub mod pidfile;
pub mod protection;
mod record;
mod resources;
#[cfg(feature = "checkpoint")]
pub mod restore;
mod rtnetlink;
mod runc;
pub mod scm_rights;
mod serve;
mod sources;
pub mod start;
mod streams;
mod turns;
pub mod undo;
mod user_namespace;

pub use child::Child;
pub use identity::Identity;
pub use open::{Opened, Times, open_all};
#[cfg(any(test, fuzzing))]
pub(crate) use rtnetlink::read_bytes as netlink_reads;
pub use serve::SetUpProcess;
pub use streams::Streams;
