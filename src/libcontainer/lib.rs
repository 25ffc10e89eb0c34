//! An OCI container from its bundle to its cgroup. `config` parses config.json, and `host` reads the facts about the
//! machine. `plan` makes a list of steps from both. `launch` makes the container with them, and `init` performs them in its first process.
//! `container` has the files on disk, and `cgroup` the cgroup. Only `sys` has unsafe code.
//!
//! The library never prints. It never changes the current directory, umask or environment of its caller. If an error comes
//! from a property of config.json, it names this property.
//!
//! `docs/embedding.md` lists the calls. What this page does not show is not part of the API.
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
mod launch;
#[doc(hidden)]
pub mod plan;
mod printable;
mod resctrl;
mod status;
mod survey;
#[allow(unsafe_code)]
mod sys;
mod wait;
#[doc(hidden)]
pub mod wire;

pub use api::features::{self, COMMIT, Features, features};
pub use api::stats::{self, Stats};
pub use api::{
    Began, Bundle, Console, Create, Events, Exec, Explanation, Force, Happened, Interface, Master, MountList,
    NotifySocket, Paused, Process, ProcessObject, Progress, Protection, Ready, STOP_SIGNAL, Schemata, State, Stopped,
    Update, give_back_program_pages, protect_program, signal_by_name,
};
#[cfg(feature = "checkpoint")]
pub use api::{Dump, RestoreExplanation, RestoreFrom};
pub use config::{At, Fault, Faults, Warning};
pub use container::{Container, Root, check_id};
pub use error::{Error, FailedStep, Kind, Result};
pub use exposure::{Exposed, Exposure, Risk};
pub use host::{Environment, ProgramEnvironment};
pub use launch::Times;
#[cfg(feature = "checkpoint")]
pub use launch::checkpoint::Afterwards;
#[cfg(feature = "checkpoint")]
pub use launch::image_check::{ImageContents, ImageFault};
#[cfg(feature = "checkpoint")]
pub use launch::images::{Allow, CgroupMode, Images, NetworkLock};
pub use plan::explain::Line;
pub use plan::{CgroupUse, Keyring, Manager, RootChange, Rootless};
pub use status::Status;
pub use survey::{Area, Finding, Fitness, survey};
pub use sys::errno::in_words;
pub use sys::heap::WatchedHeap;
pub use sys::loop_device::LoopDevice;
pub use wait::Stop;

/// What the command and the tests of this repository use of private modules. It is not part of the API.
#[doc(hidden)]
pub mod internals {
    pub use super::launch::create::Creator;
    pub use super::printable::lines;
    pub use super::sys::errno::{chain_in_words, words};
    pub use super::sys::fds::{close_on_exec_from, is_inherited, take_inherited};
    pub use super::sys::landlock::abi;
    pub use super::sys::seccomp::{Program, load};
    pub use super::sys::stack::with_room;

    pub mod signals {
        pub use super::super::sys::signals::{end_by, ended_child, reset_sigchld, send};
    }

    pub mod wait {
        pub use super::super::wait::limits;
        pub use super::super::wait::{
            asks_to_end, contents, contents_below, contents_of, heard, listen, readable, signals_end_hooks, timespec,
        };
    }
}
