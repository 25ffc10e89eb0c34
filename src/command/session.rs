//! The common part of all commands: the directory of all containers, our environment, and where to print.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use libcontainer::internals::words;
use libcontainer::{Environment, Explanation, Kind, Line, ProgramEnvironment, Progress, Ready, Root, Times};

use rustix::io::Errno;

use crate::cli::Global;
use crate::log::Log;

/// The directory of all containers of root.
const SYSTEM_ROOT: &str = "/run/coracle";

/// The input of every command: the global flags, and the log.
pub struct Session<'a> {
    pub(super) global: &'a Global,
    pub(super) log: &'a Log,
    began: Instant,
}

impl<'a> Session<'a> {
    pub(super) fn new(global: &'a Global, log: &'a Log) -> Session<'a> {
        Session { global, log, began: Instant::now() }
    }

    /// The directory of all containers: --root, or /run/coracle, or for an ordinary user a directory below
    /// XDG_RUNTIME_DIR.
    pub(super) fn root(&self) -> Result<Root> {
        let root = match &self.global.root {
            Some(path) => Root::open(Path::new(path))?,
            None => default_root()?,
        };
        let root = root.with_environment(environment());
        self.log.debug(|| format!("--root {}", root.path().display()));
        Ok(root)
    }

    /// Explains a failed command, if the directory of all containers is the cause: it is a file, or this user may not use it.
    pub(super) fn because_of_the_root(&self, error: anyhow::Error) -> anyhow::Error {
        match &self.global.root {
            Some(root) if is_below_a_file(Path::new(root)) => {
                anyhow!("--root {}: {}", Path::new(root).display(), words(Errno::NOTDIR))
            }
            None if is_denied(&error) && runtime_directory().is_none() && !is_real_root() => error.context(
                "XDG_RUNTIME_DIR is not set, and only root can write /run/coracle (--root names another directory)",
            ),
            _ => error,
        }
    }

    /// Whether the time of each step is measured.
    pub(super) fn times(&self) -> Times {
        if self.log.is_debug() { Times::Kept } else { Times::NotKept }
    }

    /// Handles the progress of making a process: prints warnings and, with --debug, everything. `attend` runs before
    /// the program begins.
    pub(super) fn on_progress(
        &self,
        progress: Progress<'_>,
        attend: impl FnOnce(&Ready<'_>) -> libcontainer::Result<()>,
    ) -> libcontainer::Result<()> {
        match progress {
            Progress::Warning(warning) => self.log.warning(&warning.to_string()),
            Progress::Planned(plan) if self.log.is_debug() => self.planned(plan),
            Progress::Ready(ready) => {
                if self.log.is_debug() {
                    self.ready(&ready);
                }
                return attend(&ready);
            }
            _ => {}
        }
        Ok(())
    }

    fn planned(&self, plan: &Explanation) {
        if let Some(flags) = plan.filter_flags() {
            // runc's words.
            self.log.debug(|| format!("seccomp filter flags: {flags}"));
        }
        self.log.debug(|| format!("planned after {} µs", self.began.elapsed().as_micros()));
        for Line { process, act, from, .. } in plan.lines() {
            self.log.debug(|| format!("plan: {process}: {act} ({from})"));
        }
    }

    fn ready(&self, ready: &Ready<'_>) {
        for (Line { process, act, from, .. }, micros) in ready.times() {
            self.log.debug(|| format!("took {micros} µs: {process}: {act} ({from})"));
        }
        self.log.debug(|| format!("process {} is ready after {} µs", ready.pid(), self.began.elapsed().as_micros()));
    }
}

/// Whether the path is a file, or leads through one.
fn is_below_a_file(path: &Path) -> bool {
    match path.metadata() {
        Ok(data) => !data.is_dir(),
        Err(error) => error.kind() == std::io::ErrorKind::NotADirectory,
    }
}

/// Whether a system call failed because this user may not write the directory of all containers.
fn is_denied(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<libcontainer::Error>().map(libcontainer::Error::kind);
    matches!(kind, Some(Kind::Os(libc::EACCES | libc::EPERM | libc::EROFS)))
        && rustix::fs::access(SYSTEM_ROOT, rustix::fs::Access::WRITE_OK).is_err()
}

/// The variables of our environment that the library uses. Programs inherit all variables: a copy in our memory could be seen in a
/// process that joins a container.
pub(super) fn environment() -> Environment {
    Environment {
        path: std::env::var_os("PATH"),
        runtime_directory: runtime_directory(),
        bus_address: std::env::var_os("DBUS_SESSION_BUS_ADDRESS"),
        programs: ProgramEnvironment::Inherited,
    }
}

/// XDG_RUNTIME_DIR. podman sets it to "" if it has no directory.
fn runtime_directory() -> Option<PathBuf> {
    std::env::var_os("XDG_RUNTIME_DIR").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// The default of --root. Below XDG_RUNTIME_DIR it must be a directory that no other user can write, because hooks of
/// its containers run with our rights.
fn default_root() -> Result<Root> {
    match runtime_directory().filter(|_| !is_real_root()) {
        None => Ok(Root::open(Path::new(SYSTEM_ROOT))?),
        Some(runtime) => {
            let root = Root::open(runtime.join("coracle"))?;
            root.must_be_ours().with_context(|| format!("XDG_RUNTIME_DIR={}", runtime.display()))?;
            Ok(root)
        }
    }
}

/// True for root of the host. For root of another user namespace, /run belongs to others, unless USER is root: such a
/// user has a /run of its own.
fn is_real_root() -> bool {
    if rustix::process::geteuid().as_raw() != 0 {
        return false;
    }
    libcontainer::host::has_all_ids() || std::env::var_os("USER").is_some_and(|user| user == "root")
}

/// Writes to standard output. It is not an error if the reader has closed the pipe.
///
/// # Errors
/// The write fails.
pub fn print(text: &str) -> Result<()> {
    use std::io::{ErrorKind, Write};
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("standard output"),
        _ => Ok(()),
    }
}

/// The service manager's socket, if a manager waits for the ready message (sd_notify(3)).
pub(super) fn manager() -> Option<String> {
    std::env::var("NOTIFY_SOCKET").ok().filter(|socket| !socket.is_empty())
}
