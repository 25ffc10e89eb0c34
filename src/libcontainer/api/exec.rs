//! A further process in a container.

use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitStatus;

use super::protection::Protection;
use crate::cgroup::Cgroup;
use crate::config::{self, At, Config};
use crate::container::{Container, Status};
use crate::error::{Context, Kind, Result, bail, error};
use crate::host::{Host, Labels};
use crate::launch::{Child, Identity, Opened, open_all};
use crate::plan::namespaces::{KINDS, bit};
use crate::plan::step::Namespaces;
use crate::plan::{self, Flags, Given, Joined, Joining, Keyring, Plan, Start, Terminal};

/// Words that engines know.
#[doc(hidden)]
pub const NOT_STARTED: &str = "unable to start container process";

/// A process in a container, whose parent we are. Dropped, it lives on.
///
/// ```no_run
/// # fn main() -> libcontainer::Result<()> {
/// let container = libcontainer::Root::open("/run/coracle")?.load("box")?;
/// let status = container.exec(&["sh", "-c", "exit 3"])?.wait()?;
/// assert_eq!(status.code(), Some(3));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Process(pub(super) Child);

impl Process {
    /// Its pid, as we count.
    pub fn pid(&self) -> i32 {
        self.0.pid
    }

    /// Readable when it has ended (pidfd_open(2)).
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.0.pidfd.as_fd()
    }

    /// Waits for its end. It can be waited for once.
    ///
    /// # Errors
    /// Somebody else has waited for it, or the caller ignores SIGCHLD.
    pub fn wait(self) -> Result<ExitStatus> {
        self.0.status().ok_or_else(|| error!("process {}: somebody else has waited for it", self.0.pid))
    }
}

impl Container {
    /// Runs a program in it, as its own process is run but for the arguments, without a terminal. Our standard streams are
    /// the program's. Nothing of the calling process is changed, and it may have many threads.
    ///
    /// # Errors
    /// The container has stopped or is paused, or what failed, by its place.
    pub fn exec(&self, args: &[&str]) -> Result<Process> {
        let config = config::load(&self.config()?)?;
        let process = config.spec.process().clone();
        let mut process = process.ok_or_else(|| error!("the container's config has no process"))?;
        process.set_args(Some(args.iter().map(|arg| (*arg).to_owned()).collect()));
        process.set_terminal(Some(false));
        self.exec_process(&config, &process, Protection::default())
    }

    /// The same, with a process object of the specification, and another protection of the calling program.
    ///
    /// # Errors
    /// Those of `exec`.
    pub fn exec_with(&self, object: &[u8], protection: Protection) -> Result<Process> {
        let config = config::load(&self.config()?)?;
        let (process, _) = config::load_process(object, &At::new("process"))?;
        self.exec_process(&config, &process, protection)
    }

    fn exec_process(
        &self,
        config: &Config,
        process: &oci_spec::runtime::Process,
        protection: Protection,
    ) -> Result<Process> {
        let status = self.status()?;
        match status {
            Status::Stopped => bail!(Kind::State(status) => "cannot exec in a stopped container"),
            Status::Paused => bail!(Kind::State(status) => "cannot exec in a paused container"),
            Status::Created | Status::Running => {}
        }
        let host = Host::probe(Labels::Given).context("look at the host")?;
        let (record, flags, at) = (self.record(), exec_flags(self), At::new("process"));
        let asked = Given { config, host: &host, flags: &flags };
        let plan = plan::exec(&asked, &Joining { process, at: &at, container: joined(self, config)? })?;
        let own = self.cgroup();
        let paths = own.paths().clone();
        let cgroup =
            Cgroup::open(paths, own.unit().cloned()).or_where(record.init_process_pid, host.cgroups.v2.as_ref());
        let cgroup = Some(cgroup).filter(|cgroup| !cgroup.paths().is_empty());
        let opened = open_exec(self, &plan, None)?;
        let annotations = record.annotations();
        let launched = opened.launch(&plan, cgroup.as_ref(), protection.made()?)?;
        let identity = Identity::of_joined(record, &annotations);
        let started = launched.serve(cgroup.as_ref(), &identity, None).and_then(crate::launch::Ready::go);
        Ok(Process(started.context(NOT_STARTED)?))
    }
}

/// What is decided for a further process unless the caller decides otherwise.
#[doc(hidden)]
pub fn exec_flags(container: &Container) -> Flags {
    let record = container.record();
    let flags = Flags::new(&record.id, record.bundle(), keyring(container));
    Flags { terminal: Terminal::None, start: Start::AtOnce, ..flags }
}

/// Opens what a further process needs.
///
/// # Errors
/// What cannot be opened, or the container has ended.
#[doc(hidden)]
pub fn open_exec(container: &Container, plan: &Plan, terminal: Option<OwnedFd>) -> Result<Opened> {
    let root = container.directory().parent().unwrap_or(Path::new("/"));
    let mut opened = open_all(plan, root, container.directory(), terminal)?;
    // where somebody has removed one, its processes are elsewhere too
    opened.join_groups(container.record().groups().into_iter().filter(|group| group.is_dir()).collect());
    // the pid may be somebody else's by now: what was opened by it must still be the container's
    container.process()?;
    Ok(opened)
}

/// What a further process joins.
///
/// # Errors
/// Its namespaces cannot be looked at.
#[doc(hidden)]
pub fn joined(container: &Container, config: &Config) -> Result<Joined> {
    Ok(Joined { pid: container.record().init_process_pid, kinds: kinds(container, config)? })
}

/// The session keyring that the container's init made.
fn keyring(container: &Container) -> Keyring {
    let record = container.record();
    if record.config.no_new_keyring {
        return Keyring::Inherited;
    }
    let own = record.coracle.as_ref().and_then(|own| own.keyring.clone());
    Keyring::Named(own.unwrap_or_else(|| Keyring::plain_name(&record.id)))
}

/// The namespaces of the container that are not ours: those of its config, seen as they are.
fn kinds(container: &Container, config: &Config) -> Result<Namespaces> {
    let pid = container.record().init_process_pid;
    let list = config.spec.linux().as_ref().and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default();
    let mut kinds = Namespaces::NONE;
    for namespace in list {
        let kind = bit(namespace.typ());
        let name = KINDS.iter().find(|(bit, ..)| *bit == kind).map_or("", |(_, _, file)| *file);
        let inode = |process: &str| fs::metadata(format!("/proc/{process}/ns/{name}")).map(|file| file.ino());
        let theirs = inode(&pid.to_string()).map_err(|error| match error.kind() {
            // it is closed to all but root, who could see in it what is the host's (CVE-2016-9962)
            ErrorKind::PermissionDenied if container.status().ok() == Some(Status::Created) => {
                error!("cannot exec in a container that is not started: until then only root may look at its init")
            }
            _ => error!("look at the container's {name} namespace: {error}"),
        })?;
        // one of our own that cannot be seen is joined: setns(2) has the last word
        if inode("self").ok() != Some(theirs) {
            kinds.0 |= kind;
        }
    }
    Ok(kinds)
}
