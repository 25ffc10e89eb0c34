//! In the place of `systemd`, where the library is built without it (Cargo feature `systemd`): everything is refused.

use std::path::Path;

use super::UnitName;
use crate::error::{Kind, Result, bail};
use crate::plan::resources::unit::{Manager, Property, Unit};

/// There is none.
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
pub fn start(_: &Unit, _: i32) -> Result<Starting> {
    refused()
}

/// See `systemd`.
///
/// # Errors
/// Always, where there is anything to set.
pub fn set(_: &UnitName, properties: &[Property]) -> Result<()> {
    if properties.is_empty() { Ok(()) } else { refused() }
}

/// See `systemd`.
///
/// # Errors
/// Always.
pub fn attach(_: &UnitName, _: i32) -> Result<()> {
    refused()
}

/// See `systemd`.
pub fn is_users(_: &Path) -> bool {
    false
}

/// See `systemd`.
///
/// # Errors
/// Always.
pub fn bring_in(_: i32) -> Result<()> {
    refused()
}

/// See `systemd`.
///
/// # Errors
/// Always.
pub fn stop(_: &UnitName) -> Result<()> {
    refused()
}

/// See `systemd`.
///
/// # Errors
/// Always.
pub fn available(_: Manager) -> Result<()> {
    refused()
}
