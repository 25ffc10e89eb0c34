//! Replaces `seccomp` if the library is built without the Cargo feature `seccomp`: every profile is refused.

use std::fmt;
use std::path::PathBuf;

use oci_spec::runtime::LinuxSeccomp;

use crate::config::{At, Fault, Faults, Warning};

/// The longest program that the kernel accepts, in instructions.
pub const MOST_INSTRUCTIONS: usize = 4096;

/// No value of this type is ever made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {}

/// The agent that receives the descriptor for SCMP_ACT_NOTIFY rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The property that names it.
    pub at: At,
    /// A UNIX stream socket of the host.
    pub path: PathBuf,
    /// Sent unchanged.
    pub metadata: String,
}

/// How a profile denies a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// It fails with this errno.
    With(i32),
    /// SIGSYS kills the process.
    ByDeath,
}

#[allow(missing_docs, clippy::missing_errors_doc)] // as those of `seccomp`; there is no filter that they are called on
impl Filter {
    pub fn denies(&self, _: &str) -> Option<Denied> {
        match *self {}
    }

    pub fn at(&self) -> &At {
        match *self {}
    }

    pub fn flags(&self) -> u32 {
        match *self {}
    }

    pub fn listener(&self) -> Option<&Listener> {
        match *self {}
    }

    pub fn key(&self) -> String {
        match *self {}
    }

    pub fn compile(&self) -> Result<Vec<u8>, Fault> {
        match *self {}
    }
}

/// No actions.
pub fn known_actions() -> &'static [&'static str] {
    &[]
}

/// No operators.
pub fn known_operators() -> &'static [&'static str] {
    &[]
}

/// No flags.
pub fn known_flags() -> &'static [&'static str] {
    &[]
}

/// No architectures.
pub fn known_archs() -> Vec<&'static str> {
    Vec::new()
}

/// No libseccomp.
pub fn library_version() -> Option<String> {
    None
}

impl fmt::Display for Filter {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

/// A filter is never made.
///
/// # Errors
/// Always.
pub fn filter(_: &LinuxSeccomp, at: &At) -> Result<(Filter, Vec<Warning>), Faults> {
    Err(Faults::one(at.clone(), "this build has no seccomp"))
}

/// A filter is never made.
///
/// # Errors
/// Always.
pub fn given_as_data(_: &str, at: &At) -> Result<Filter, Faults> {
    Err(Faults::one(at.clone(), "this build has no seccomp"))
}

/// `filter` refuses every profile.
///
/// # Errors
/// Never.
pub fn all_known(_: &LinuxSeccomp, _: &At) -> Result<(), Faults> {
    Ok(())
}
