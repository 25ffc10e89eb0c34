//! An OCI container from its bundle to its cgroup: read `config` against `host`, decide a `plan`, `launch` it,
//! let `init` become the container, and keep what remains in `container` and `cgroup`. Only `sys` is unsafe.
//!
//! The library never prints, never changes its caller's directory, umask or environment, and tells every failure
//! by its place in config.json.
#![deny(unsafe_code)]

mod api;
pub mod cgroup;
pub mod config;
pub mod container;
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

pub use api::{Began, Bundle, Create, Events, Force, Process, Protection, Stopped, protect_program};
#[doc(hidden)]
pub use api::{NOT_STARTED, exec_flags, joined, open_exec};
pub use container::{Container, Root, Status};
pub use error::{Error, FailedStep, Kind, Result};

/// The commit that this library was built from; `unknown` in a build for tests, or of an unpacked archive.
pub const COMMIT: &str = env!("CORACLE_COMMIT");
