//! An OCI container from its bundle to its cgroup. `config` parses config.json, and `host` reads the facts about the
//! machine. `plan` makes a list of steps from both. `launch` makes the container with them, and `init` performs them in its first process.
//! `container` has the files on disk, and `cgroup` the cgroup. Only `sys` has unsafe code.
//!
//! The library never prints. It never changes the current directory, umask or environment of its caller. If an error comes
//! from a property of config.json, it names this property.
#![deny(unsafe_code)]
#![cfg_attr(not(test), warn(unused_crate_dependencies))]

mod api;
mod cgroup;
#[doc(hidden)]
pub mod config;
mod container;
#[cfg(feature = "checkpoint")]
mod criu;
mod error;
mod exposure;
#[cfg(any(test, fuzzing))]
pub mod fuzzed;
#[doc(hidden)]
pub mod host;
mod init;
#[doc(hidden)]
pub mod launch;
#[doc(hidden)]
pub mod plan;
#[doc(hidden)]
pub mod printable;
mod resctrl;
mod status;
mod survey;
#[allow(unsafe_code)]
#[doc(hidden)]
pub mod sys;
#[doc(hidden)]
pub mod wait;
#[doc(hidden)]
pub mod wire;

pub use api::features::{self, COMMIT, Features, features};
pub use api::stats::{self, Stats};
pub use api::{
    Began, Bundle, Console, Create, Events, Exec, Explanation, Force, Happened, Interface, Master, MountList, Paused,
    Process, ProcessObject, Progress, Protection, Ready, STOP_SIGNAL, Schemata, State, Stopped, Update,
    give_back_program_pages, protect_program, signal_by_name,
};
#[cfg(feature = "checkpoint")]
pub use api::{Dump, RestoreExplanation, RestoreFrom};
#[doc(hidden)]
pub use api::{NOT_STARTED, absolute};
pub use config::{At, Fault, Faults, Warning};
pub use container::{Container, Root, check_id};
pub use error::{Error, FailedStep, Kind, Result};
pub use exposure::{Exposed, Exposure, Risk};
pub use host::{Environment, ProgramEnvironment};
pub use launch::Times;
#[cfg(feature = "checkpoint")]
pub use launch::checkpoint::Afterwards;
#[doc(hidden)]
pub use launch::create::Creator;
#[cfg(feature = "checkpoint")]
pub use launch::image_check::{ImageContents, ImageFault};
#[cfg(feature = "checkpoint")]
pub use launch::images::{Allow, CgroupMode, Images, NetworkLock};
pub use plan::explain::Line;
pub use plan::{CgroupUse, Keyring, Manager, RootChange, Rootless};
pub use status::Status;
pub use survey::{Area, Finding, Fitness, survey};
pub use sys::errno::in_words;
pub use sys::loop_device::LoopDevice;
pub use wait::Stop;
