//! The public API of the library, made from the other modules.

mod bundle;
mod bundle_faults;
#[cfg(feature = "checkpoint")]
mod checkpoint;
mod console;
mod container;
mod create;
mod delete;
mod events;
mod exec;
pub mod features;
mod host_notes;
#[cfg(feature = "checkpoint")]
mod images;
mod list;
mod live_mounts;
mod network;
mod notify;
mod process;
mod process_object;
mod progress;
mod protection;
#[cfg(feature = "checkpoint")]
mod restore;
mod settings;
mod signal;
pub mod stats;
mod sub_cgroups;
mod update;

pub use bundle::Bundle;
#[cfg(feature = "checkpoint")]
pub use checkpoint::Dump;
pub use console::{Console, Master};
pub use container::{Began, State, Stopped};
pub use create::Create;
pub use delete::Force;
pub use events::{Events, Happened};
pub use exec::{Exec, Paused};
#[cfg(feature = "checkpoint")]
pub use images::RestoreExplanation;
pub use live_mounts::MountList;
pub use network::Interface;
pub use notify::NotifySocket;
pub use process::Process;
pub use process_object::ProcessObject;
pub use progress::{Explanation, Progress, Ready};
pub use protection::{Protection, give_back_program_pages, protect_program};
#[cfg(feature = "checkpoint")]
pub use restore::RestoreFrom;
pub use signal::{STOP_SIGNAL, signal_by_name};
pub use update::{Schemata, Update};
