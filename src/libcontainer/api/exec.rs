//! Another process in an existing container.

use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::bundle::landlock_abi;
use super::process::Process;
use super::process_object::{Object, ProcessObject, capability};
use super::progress::Explanation;
use super::settings::{Settings, settings_of_a_program, settings_of_all};
use super::sub_cgroups::sub_cgroups;
use crate::cgroup::Cgroup;
use crate::config::{self, At, Config};
use crate::container::{Container, InitThread};
use crate::error::{Context, Error, Kind, Result, bail, error};
use crate::host::{Host, Labels, Namespace};
use crate::launch::{Identity, Opened, SetUpProcess, open_all, pidfile};
use crate::plan::namespaces::{KINDS, bit};
use crate::plan::step::Namespaces;
use crate::plan::{self, Flags, Given, Joined, Joining, Keyring, Plan, Start, Terminal};
use crate::status::Status;
use crate::sys::errno::words;

/// Engines look for these words.
#[doc(hidden)]
pub const NOT_STARTED: &str = "unable to start container process";

/// Whether a process may be started in a paused container. The process waits until the container is resumed.
///
/// ```no_run
/// # fn main() -> libcontainer::Result<()> {
/// let container = libcontainer::Root::open("/run/coracle")?.load("box")?;
/// container.exec(&["/bin/true"]).paused(libcontainer::Paused::Allowed).spawn()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Paused {
    /// It is an error.
    #[default]
    Refused,
    /// It may be started.
    Allowed,
}

/// Settings of another process in a container. `spawn` makes the process.
///
/// The calling process does not change, and it may have many threads.
///
/// ```no_run
/// # fn main() -> libcontainer::Result<()> {
/// let container = libcontainer::Root::open("/run/coracle")?.load("box")?;
/// let log = std::fs::File::create("/var/log/box")?;
/// let process = container.exec(&["ls", "/"]).cwd("/tmp").env("A=b").user(65534, None).stdout(log).spawn()?;
/// println!("{}", process.wait()?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use]
pub struct Exec<'a> {
    container: &'a Container,
    object: Object<'a>,
    paused: Paused,
    sub_cgroups: &'a [String],
    settings: Settings<'a>,
}

impl Container {
    /// A program in the container. It runs like the container's own process, except for the arguments and the settings of this
    /// builder.
    pub fn exec<S: AsRef<str>>(&self, args: &[S]) -> Exec<'_> {
        Exec::new(self, Object::of_args(args))
    }

    /// A process in the container, with the settings of a process object. If the object sets `terminal`, the process needs a console. Otherwise it must have
    /// none. It has the security labels of the container's own process, unless the object has others.
    pub fn exec_process<'a>(&'a self, object: &'a ProcessObject) -> Exec<'a> {
        Exec::new(self, Object::of_whole(object))
    }
}

impl<'a> Exec<'a> {
    settings_of_all!();
    settings_of_a_program!();

    fn new(container: &'a Container, object: Object<'a>) -> Exec<'a> {
        Exec { container, object, paused: Paused::default(), sub_cgroups: &[], settings: Settings::default() }
    }

    /// Whether the container may be paused.
    pub fn paused(mut self, paused: Paused) -> Self {
        self.paused = paused;
        self
    }

    /// The cgroups below the container's own in which the process starts: `PATH` or, on version 1,
    /// `CONTROLLER[,CONTROLLER...]:PATH` for each hierarchy.
    pub fn sub_cgroups(mut self, paths: &'a [String]) -> Self {
        self.sub_cgroups = paths;
        self
    }

    /// Makes the process. Returns when its program has begun.
    ///
    /// # Errors
    /// `State` if the container has stopped or is paused; `Config` with all mistakes of a process object; `Step`,
    /// `Interrupted`, or another kind with its place in the text. Nothing remains.
    pub fn spawn(self) -> Result<Process> {
        let container = self.container;
        container.must_be_ours()?;
        match container.status()? {
            status @ Status::Stopped => bail!(Kind::State(status) => "cannot exec in a stopped container"),
            status @ Status::Paused if self.paused == Paused::Refused => {
                bail!(Kind::State(status) => "cannot exec in a paused container (use Paused::Allowed to override)")
            }
            Status::Created | Status::Running | Status::Paused => {}
        }
        let config = config::load(&container.config()?)?;
        let process = self.object.process(&config, self.settings.console.as_ref())?;
        let mut host = Host::probe(Labels::Given)?;
        host.landlock = landlock_abi(&config);
        let mut flags = flags(container);
        let mut settings = self.settings;
        let (terminal, pid_file) = (settings.set_flags(Some(&process), &mut flags)?, settings.pid_file()?);
        let given = Given { config: &config, host: &host, flags: &flags };
        let thread = container.thread()?;
        let namespaces = own_namespaces(container, thread, &config)?;
        let joined_by = Joined { pid: thread.tid, namespaces };
        let joining = Joining { process: &process, at: &At::new("process"), container: joined_by };
        let mut plan = Explanation(plan::exec(&given, &joining).map_err(|faults| self.object.in_its_document(faults))?);
        plan.0.warnings.extend_from_slice(self.object.warnings());
        settings.observer.planned(&plan)?;
        let cgroup = cgroup(container, self.sub_cgroups, &host)?;
        let mut opened = open_all_of(container, thread, &plan.0, terminal)?;
        opened.set_streams(settings.streams);
        opened.keep_times(settings.times);
        let annotations = container.record().annotations();
        let identity = Identity::for_exec(container, &annotations);
        let launched = opened.launch(&plan.0, cgroup.as_ref(), settings.protection.carry_out()?)?;
        let ready = launched.serve(cgroup.as_ref(), &identity, None).context(NOT_STARTED)?;
        // ORDER: after it has joined them: the container may have changed to others in between.
        must_be_in_its_own(container, namespaces, ready.pid())
            // The container's processes may have killed it.
            .map_err(|error| ready.why_it_ended().unwrap_or(error))
            .context(NOT_STARTED)?;
        settings.observer.ready(&plan, &ready)?;
        begin(ready, pid_file.as_deref())
    }
}

/// The settings that differ from the process object, or from the container's own process.
impl Exec<'_> {
    /// Its current directory.
    pub fn cwd(mut self, path: impl Into<PathBuf>) -> Self {
        self.object.cwd = Some(path.into());
        self
    }

    /// Adds `NAME=value` to its environment.
    pub fn env(mut self, entry: impl Into<String>) -> Self {
        self.object.env.push(entry.into());
        self
    }

    /// Its user and group. Without a group, it has the group of the container's process.
    pub fn user(mut self, uid: u32, gid: Option<u32>) -> Self {
        self.object.user = Some((uid, gid));
        self
    }

    /// Adds a supplementary group.
    pub fn additional_gid(mut self, gid: u32) -> Self {
        self.object.additional_gids.push(gid);
        self
    }

    /// Adds a capability to the bounding, effective and permitted sets. The ambient set gets it only if the
    /// inheritable set has it. The inheritable set never gets it (CVE-2022-29162).
    ///
    /// # Errors
    /// The name is unknown.
    pub fn capability(mut self, name: &str) -> Result<Self> {
        self.object.capabilities.push(capability(name)?);
        Ok(self)
    }

    /// No execve(2) gives the process more privileges (PR_SET_NO_NEW_PRIVS(2const)).
    pub fn no_new_privileges(mut self) -> Self {
        self.object.no_new_privileges = true;
        self
    }

    /// Its AppArmor profile.
    pub fn apparmor_profile(mut self, name: impl Into<String>) -> Self {
        self.object.apparmor_profile = Some(name.into());
        self
    }

    /// Its SELinux label.
    pub fn selinux_label(mut self, label: impl Into<String>) -> Self {
        self.object.selinux_label = Some(label.into());
        self
    }
}

/// Writes its pid file, and starts it.
fn begin(ready: SetUpProcess<'_>, pid_file: Option<&Path>) -> Result<Process> {
    let pid = ready.pid();
    pid_file.map_or(Ok(()), |path| pidfile::write(path, pid))?;
    let child = ready.continue_init().context(NOT_STARTED).inspect_err(|_| {
        if let Some(path) = pid_file {
            pidfile::remove_own(path, pid);
        }
    });
    child.map(Process)
}

/// The default flags.
fn flags(container: &Container) -> Flags {
    let record = container.record();
    let flags = Flags::new(&record.id, record.bundle(), keyring(container));
    Flags { terminal: Terminal::None, start: Start::AtOnce, ..flags }
}

/// Opens what another process needs.
fn open_all_of(container: &Container, thread: InitThread, plan: &Plan, terminal: Option<OwnedFd>) -> Result<Opened> {
    let root = container.directory().parent().unwrap_or(Path::new("/"));
    let mut opened = open_all(plan, root, container.directory(), terminal, container.environment())?;
    opened.write_files_of_ruleset(container.record().coracle.as_ref().map_or(&[], |own| &own.landlock), plan)?;
    // If a group was removed, its processes are elsewhere, too.
    opened.join_resctrl_groups(container.record().groups().into_iter().filter(|group| group.is_dir()).collect());
    // Another process may have this number now: the files that were opened by it must be the container's.
    container.must_have(thread)?;
    Ok(opened)
}

/// The container's cgroup, or the named ones below it.
fn cgroup(container: &Container, named: &[String], host: &Host) -> Result<Option<Cgroup>> {
    let own = container.cgroup();
    let mut paths = own.paths().clone();
    for (key, below) in sub_cgroups(named, &paths, &host.cgroups)? {
        let Some(path) = paths.get_mut(&key) else { continue };
        path.push(below.trim_matches('/'));
        if !path.is_dir() {
            bail!("Exec::sub_cgroups: {}: {}", path.display(), words(Errno::NOENT));
        }
    }
    if paths.is_empty() {
        return Ok(None);
    }
    let cgroup = Cgroup::recorded(paths, own.unit().cloned(), container.environment());
    let pid = container.record().init_process_pid;
    // If a cgroup was named, only that one is used.
    Ok(Some(if named.is_empty() { cgroup.or_that_of(pid, host.cgroups.v2.as_ref()) } else { cgroup }))
}

/// The session keyring that the container's init has made.
fn keyring(container: &Container) -> Keyring {
    let record = container.record();
    if record.config.no_new_keyring {
        return Keyring::Inherited;
    }
    let own = record.coracle.as_ref().and_then(|own| own.keyring.clone());
    Keyring::Named(own.unwrap_or_else(|| Keyring::plain_name(&record.id)))
}

/// Checks the namespaces in which paths and ids are looked up, before the program begins.
fn must_be_in_its_own(container: &Container, namespaces: Namespaces, pid: i32) -> Result<()> {
    for (.., name) in KINDS.iter().filter(|(kind, _, name)| namespaces.has(*kind) && matches!(*name, "mnt" | "user")) {
        match Namespace::of(pid, name) {
            Ok(found) => container.must_own(name, found, pid)?,
            // An ordinary user may not look at it, and has no rights that the container could take.
            Err(error) if error.kind() == ErrorKind::PermissionDenied && !rustix::process::geteuid().is_root() => {}
            Err(error) => {
                return Err(Error::from(error).context(format!("look at the {name} namespace of the process")));
            }
        }
    }
    Ok(())
}

/// The namespaces of the container that are not ours: those of its config, checked on a thread of its init.
fn own_namespaces(container: &Container, thread: InitThread, config: &Config) -> Result<Namespaces> {
    let list = config.spec.linux().as_ref().and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default();
    let mut namespaces = Namespaces::NONE;
    for namespace in list {
        let kind = bit(namespace.typ());
        let name = KINDS.iter().find(|(bit, ..)| *bit == kind).map_or("", |(_, _, file)| *file);
        let theirs = Namespace::of(thread.tid, name).map_err(|error| match error.kind() {
            // Only root may examine it: it still has files of the host (CVE-2016-9962).
            ErrorKind::PermissionDenied if container.status().ok() == Some(Status::Created) => {
                error!("cannot exec in a container that is not started: until then only root may look at its init")
            }
            _ => Error::from(error).context(format!("look at the container's {name} namespace")),
        })?;
        // If we may not examine the namespace, we join it. setns(2) decides.
        if Namespace::ours(name).ok() != Some(theirs) {
            container.must_own(name, theirs, thread.tid)?;
            namespaces.0 |= kind;
        }
    }
    Ok(namespaces)
}
