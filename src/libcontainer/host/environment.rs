//! The environment variables that the library uses. The library never reads the environment of its process: the caller
//! passes the variables.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The directories where programs are searched if no PATH is passed.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// The variables that the library itself uses, and the environment of the programs that it starts on the host. An empty
/// variable counts as not set.
///
/// The default is for a caller that passes nothing: programs get no variables but PATH, are searched in /bin and /usr/bin, and the
/// user's systemd is searched in /run/user/UID.
///
/// ```
/// # fn main() -> libcontainer::Result<()> {
/// use std::env::var_os;
///
/// use libcontainer::{Environment, ProgramEnvironment, Root};
///
/// let root = Root::open("/run/coracle")?.with_environment(Environment {
///     path: var_os("PATH"),
///     runtime_directory: var_os("XDG_RUNTIME_DIR").map(Into::into),
///     bus_address: var_os("DBUS_SESSION_BUS_ADDRESS"),
///     programs: ProgramEnvironment::Inherited,
/// });
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// PATH: where newuidmap(1), newgidmap(1) and criu(8) are searched.
    pub path: Option<OsString>,
    /// XDG_RUNTIME_DIR: the directory with the sockets of the user's systemd.
    pub runtime_directory: Option<PathBuf>,
    /// DBUS_SESSION_BUS_ADDRESS: the addresses of the user's bus.
    pub bus_address: Option<OsString>,
    /// The environment of hooks without `env`, newuidmap(1), newgidmap(1) and criu(8).
    pub programs: ProgramEnvironment,
}

/// The environment of programs that the library starts on the host.
///
/// ```
/// use libcontainer::{Environment, ProgramEnvironment, Root};
///
/// let programs = ProgramEnvironment::Given(vec![("TOKEN".into(), "secret".into())]);
/// assert_eq!(format!("{programs:?}"), r#"["TOKEN"]"#);
/// let root = Root::open("/run/coracle")?.with_environment(Environment { programs, ..Environment::default() });
/// # Ok::<(), libcontainer::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub enum ProgramEnvironment {
    /// That of our process. The library does not copy it.
    Inherited,
    /// These variables. A new process of a container has a copy of our memory, also of these, until it executes its program.
    Given(Vec<(OsString, OsString)>),
}

/// The values may be secret.
impl fmt::Debug for ProgramEnvironment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProgramEnvironment::Inherited => f.write_str("Inherited"),
            ProgramEnvironment::Given(variables) => {
                f.debug_list().entries(variables.iter().map(|(name, _)| name)).finish()
            }
        }
    }
}

impl Default for Environment {
    fn default() -> Environment {
        Environment {
            path: None,
            runtime_directory: Some(format!("/run/user/{}", rustix::process::geteuid().as_raw()).into()),
            bus_address: None,
            programs: ProgramEnvironment::Given(Vec::new()),
        }
    }
}

impl Environment {
    /// PATH.
    pub(crate) fn path(&self) -> Option<&OsStr> {
        self.path.as_deref().filter(|path| !path.is_empty())
    }

    /// XDG_RUNTIME_DIR.
    pub(crate) fn runtime_directory(&self) -> Option<PathBuf> {
        self.runtime_directory.clone().filter(|path| !path.as_os_str().is_empty())
    }

    /// DBUS_SESSION_BUS_ADDRESS.
    #[cfg(feature = "systemd")]
    pub(crate) fn bus_address(&self) -> Option<&OsStr> {
        self.bus_address.as_deref().filter(|address| !address.is_empty())
    }

    /// The command gets the environment of programs.
    pub(crate) fn give_to(&self, command: &mut Command) {
        if let ProgramEnvironment::Given(variables) = &self.programs {
            command.env_clear().envs(variables.iter().map(|(name, value)| (name, value)));
        }
    }

    /// A program: a path, or a name that is searched in PATH.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        self.give_to(&mut command);
        match self.path() {
            Some(path) => command.env("PATH", path),
            // Without PATH, the execvp(3) of musl searches in /usr/local/bin as well.
            None => command.env("PATH", DEFAULT_PATH),
        };
        command
    }

    /// The file that `command` executes for a name without a slash.
    pub(crate) fn find_program(&self, name: &str) -> Option<PathBuf> {
        let path = self.path().unwrap_or(OsStr::new(DEFAULT_PATH));
        let executable = |file: &PathBuf| file.metadata().is_ok_and(|data| data.is_file() && data.mode() & 0o111 != 0);
        std::env::split_paths(path).map(|directory| directory.join(name)).find(executable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_variable_is_not_set_and_one_that_was_not_passed_has_a_default() {
        let default = Environment::default();
        assert!(default.runtime_directory().unwrap().starts_with("/run/user"), "{default:?}");
        let empty = Environment { path: Some("".into()), runtime_directory: Some("".into()), ..default };
        assert_eq!((empty.path(), empty.runtime_directory()), (None, None));
        let secret = ProgramEnvironment::Given(vec![("NAME".into(), "secret".into())]);
        assert_eq!(format!("{secret:?}"), r#"["NAME"]"#);
    }

    #[test]
    fn a_program_is_found_only_where_the_library_executes_it() {
        let names = std::fs::read_dir("/usr/sbin").into_iter().flatten().flatten().map(|entry| entry.file_name());
        let is_in = |directory: &str, name: &OsString| Path::new(directory).join(name).exists();
        let Some(name) = names.into_iter().find(|name| !is_in("/bin", name) && !is_in("/usr/bin", name)) else {
            println!("skipped: /usr/sbin has no program that /usr/bin does not have");
            return;
        };
        assert_eq!(Environment::default().find_program(&name.to_string_lossy()), None, "{name:?}");
        assert!(Environment::default().find_program("env").is_some());
    }

    #[test]
    fn a_program_gets_what_was_passed_and_nothing_of_ours() {
        let given = |list: &[(&str, &str)], path: Option<&str>| {
            let list = list.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
            let programs = ProgramEnvironment::Given(list.collect());
            Environment { path: path.map(Into::into), programs, ..Environment::default() }
        };
        let printed = |environment: &Environment| {
            let output = environment.command(Path::new("env")).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        assert_eq!(printed(&given(&[("A", "b")], Some("/usr/bin:/bin"))), "A=b\nPATH=/usr/bin:/bin\n");
        assert_eq!(printed(&given(&[("A", "b"), ("PATH", "")], Some(""))), "A=b\nPATH=/bin:/usr/bin\n");
        // where the execvp(3) of each C library searches
        assert_eq!(printed(&Environment::default()), "PATH=/bin:/usr/bin\n");
        let inherited = Environment { programs: ProgramEnvironment::Inherited, ..Environment::default() };
        assert!(printed(&inherited).contains("CARGO_MANIFEST_DIR="));
    }
}
