//! The environment variables that the library uses. The library never reads the environment of its process: the caller
//! passes the values.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::OnceLock;

/// Variables that the library uses. A variable that is not set has its default.
///
/// ```no_run
/// use std::env::var_os;
///
/// use libcontainer::{Environment, set_environment};
///
/// set_environment(Environment {
///     path: var_os("PATH"),
///     runtime_directory: var_os("XDG_RUNTIME_DIR").map(Into::into),
///     bus_address: var_os("DBUS_SESSION_BUS_ADDRESS"),
/// });
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// PATH: where newuidmap(1) and newgidmap(1) are searched. The default is /usr/bin.
    pub path: Option<OsString>,
    /// XDG_RUNTIME_DIR: the directory with the sockets of the user's systemd.
    pub runtime_directory: Option<PathBuf>,
    /// DBUS_SESSION_BUS_ADDRESS: the addresses of the user's bus.
    pub bus_address: Option<OsString>,
}

static SET: OnceLock<Environment> = OnceLock::new();

/// Sets the variables that the library uses, in all threads. Only the first call has an effect, and only before a
/// container is made, changed or deleted. An empty variable counts as not set.
pub fn set_environment(mut environment: Environment) {
    environment.path = environment.path.filter(|path| !path.is_empty());
    environment.runtime_directory = environment.runtime_directory.filter(|path| !path.as_os_str().is_empty());
    environment.bus_address = environment.bus_address.filter(|address| !address.is_empty());
    let _ = SET.set(environment);
}

/// The variables that were set. Without them, the default directory of the user's systemd.
pub(crate) fn environment() -> &'static Environment {
    SET.get_or_init(|| Environment {
        runtime_directory: Some(format!("/run/user/{}", rustix::process::geteuid().as_raw()).into()),
        ..Environment::default()
    })
}
