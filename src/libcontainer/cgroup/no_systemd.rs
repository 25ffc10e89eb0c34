//! Replaces `systemd` in a build without the Cargo feature `systemd`: every call is refused.

use std::path::Path;

use super::UnitName;
use crate::error::{Error, Kind, Result, bail};
use crate::host::Environment;
use crate::plan::resources::unit::{Manager, Property, Unit};

/// No value of this type exists.
#[derive(Debug)]
pub enum Starting {}

impl Starting {
    /// See `systemd`.
    ///
    /// # Errors
    /// Never called.
    pub fn wait(self) -> Result<()> {
        match self {}
    }
}

fn refused<T>() -> Result<T> {
    bail!(Kind::Systemd => "the systemd cgroup driver: this build has no systemd")
}

/// See `systemd`.
///
/// # Errors
/// Always.
pub fn start(_: &Unit, _: i32, _: &Environment) -> Result<Starting> {
    refused()
}

/// See `systemd`.
///
/// # Errors
/// Always.
pub fn must_answer(_: Manager, _: &Environment) -> Result<()> {
    refused()
}

/// See `systemd`.
///
/// # Errors
/// Always, if there are limits to set.
pub fn set_properties(
    _: &UnitName,
    requested: &[Property],
    kept: &[Property],
    _: &Environment,
) -> Result<Option<Error>> {
    if requested.is_empty() && kept.is_empty() { Ok(None) } else { refused() }
}

/// See `systemd`.
///
/// # Errors
/// Always.
pub fn attach(_: &UnitName, _: i32, _: &Environment) -> Result<()> {
    refused()
}

/// See `systemd`.
pub fn is_of_user_manager(_: &Path) -> bool {
    false
}

/// See `systemd`.
///
/// # Errors
/// Always.
pub fn move_to_user_manager(_: i32, _: &Environment) -> Result<()> {
    refused()
}

/// See `systemd`.
///
/// # Errors
/// Always.
pub fn stop(_: &UnitName, _: &Environment) -> Result<()> {
    refused()
}

/// See `systemd`.
///
/// # Errors
/// Always.
pub fn must_be_reachable(_: Manager, _: &Environment) -> Result<()> {
    refused()
}
