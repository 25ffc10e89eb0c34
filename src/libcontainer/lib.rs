//! An OCI container from its bundle to its cgroup. `config` is read and compared with `host`, `plan` decides what to
//! do, `launch` carries it out, and `init` becomes the container. `container` and `cgroup` keep what remains. Only
//! `sys` has unsafe code.
//!
//! The library never prints. It never changes its caller's directory, umask or environment. Every failure has its place
//! in config.json.
#![deny(unsafe_code)]

mod api;
pub mod cgroup;
pub mod config;
pub mod container;
mod criu;
mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzzed;
pub mod host;
pub mod init;
pub mod launch;
pub mod plan;
pub mod resctrl;
#[allow(unsafe_code)]
pub mod sys;
pub mod wait;
pub mod wire;

pub use api::{Began, Bundle, Create, Dump, Events, Force, Process, Protection, RestoreFrom, Stopped, protect_program};
#[doc(hidden)]
pub use api::{NOT_STARTED, exec_flags, joined, open_exec};
pub use container::{Container, Root, Status};
pub use error::{Error, FailedStep, Kind, Result};

/// The commit that this library was built from. `unknown` in a test build, or in a build of an unpacked archive.
pub const COMMIT: &str = env!("CORACLE_COMMIT");
