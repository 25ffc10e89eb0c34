//! `create` and `run`: a new container is made completely, or nothing remains of it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use super::child::Child;
use super::delete::{Leftovers, destroy, run_poststop};
use super::failure::must_not_have_starved;
use super::hook_files::HookFiles;
use super::identity::Identity;
use super::open::{Times, open_all};
use super::protection::Protected;
use super::resources::KernelGroups;
use super::scm_rights;
use super::serve::SetUpProcess;
use super::streams::Streams;
use super::{host_mounts, notify, pidfile, record, undo};
use crate::cgroup::{self, Cgroup};
use crate::config::Config;
use crate::container::{Container, Lock, Note, ProcessId, Record, Reserved, Root, start_time};
use crate::error::{Context, Error, Result};
use crate::host::Environment;
use crate::plan::resctrl::ResctrlGroup;
use crate::plan::{Flags, Plan};
use crate::wait;

/// The parameters of a container that does not exist yet, for `create` and for `restore`.
#[derive(Clone, Copy, Debug)]
pub struct NewContainer<'a> {
    /// The root directory of the containers.
    pub root: &'a Root,
    /// The bytes of config.json.
    pub text: &'a [u8],
    /// The parsed config.
    pub config: &'a Config,
    /// The flags of the caller.
    pub flags: &'a Flags,
    /// The plan of `create`.
    pub plan: &'a Plan,
    /// `--pid-file`, absolute.
    pub pid_file: Option<&'a Path>,
    /// What a `delete --force` by another process does to the caller.
    pub creator: Creator,
}

/// The parameters of `create`.
#[derive(Debug)]
pub struct Creation<'a> {
    /// The container.
    pub new: NewContainer<'a>,
    /// The socket that receives the master of the terminal.
    pub terminal: Option<OwnedFd>,
    /// The first descriptors of its process.
    pub streams: Streams,
    /// Whether the time of each step is measured.
    pub times: Times,
    /// Proof that no process in the container can write our own program.
    pub protected: Protected,
}

/// What happens to the calling process if another process deletes the container by force while the caller makes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Creator {
    /// It continues. Its `create` fails, because the other process kills the container's processes.
    #[default]
    Spared,
    /// It gets SIGTERM, and SIGKILL after a deadline. For programs that do nothing else.
    Ended,
}

/// A new container, and its process, which waits for the last message.
#[derive(Debug)]
pub struct MadeContainer<'a> {
    /// Its record and directory.
    pub container: Container,
    /// Its process.
    pub ready: SetUpProcess<'a>,
    /// The lock of the container: no other process changes it before its process has got the last message.
    lock: Lock,
    /// The pid file that was written.
    pid_file: Option<&'a Path>,
}

/// How much of the container was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reached {
    Nothing,
    /// Its process existed: poststop hooks may have something to undo.
    Process,
}

impl NewContainer<'_> {
    /// Reserves the id, and calls `fill`, which makes everything and says how far it has come. After a failure nothing remains: no
    /// cgroup, mount, process, directory or pid file. If something cannot be removed, the error says so, and the container's
    /// directory remains with its note.
    ///
    /// # Errors
    /// The id cannot be reserved, or the failure of `fill`.
    pub(super) fn make<T>(
        &self,
        fill: impl FnOnce(&mut Reserved, &Identity<'_>, &mut Reached) -> Result<T>,
    ) -> Result<(T, Lock)> {
        let mut reserved = self.root.reserve(&self.flags.id)?;
        if self.creator == Creator::Spared {
            reserved.spare_creator();
        }
        let annotations = self.config.spec.annotations().clone().unwrap_or_default();
        let identity = Identity {
            id: &self.flags.id,
            bundle: &self.flags.bundle,
            version: self.config.spec.version(),
            annotations: &annotations,
            init: None,
            environment: self.root.environment(),
        };
        let mut reached = Reached::Nothing;
        let filled = reserved
            .take_note(|note| note_planned(self.plan, note, identity.environment))
            .and_then(|()| fill(&mut reserved, &identity, &mut reached));
        match filled {
            Ok(made) => Ok((made, reserved.complete()?)),
            Err(error) => Err(undone_with_hooks(reserved, error, reached, self.config, &identity)),
        }
    }

    /// Makes its cgroup and its group in resctrl, and notes them.
    ///
    /// # Errors
    /// Those of `KernelGroups::make`, or the note cannot be written.
    pub(super) fn make_groups(&self, reserved: &mut Reserved) -> Result<KernelGroups> {
        let groups = KernelGroups::make(self.plan, self.root.environment())?;
        reserved.take_note(|note| note_made(self.plan, groups.cgroup(), note))?;
        Ok(groups)
    }

    /// Writes the pid file and the record. The record comes last: from then on the container exists.
    ///
    /// # Errors
    /// One of them cannot be written. Then neither remains.
    pub(super) fn save(&self, reserved: &Reserved, record: Record) -> Result<Container> {
        let pid = record.init_process_pid;
        if let Some(path) = self.pid_file {
            pidfile::write(path, pid)?;
        }
        reserved.record(record).inspect_err(|_| {
            if let Some(path) = self.pid_file {
                pidfile::remove_own(path, pid);
            }
        })
    }
}

/// Notes init, if it is in no cgroup in which it would be found.
///
/// # Errors
/// Its start time cannot be read, or the note cannot be written.
pub(super) fn note_init(reserved: &mut Reserved, cgroup: Option<&Cgroup>, pid: i32) -> Result<()> {
    if cgroup.is_some_and(|cgroup| !cgroup.paths().is_empty()) {
        return Ok(());
    }
    let start = start_time(pid)?;
    reserved.take_note(|note| note.init = start.map(|start| ProcessId { pid, start }))
}

impl<'a> Creation<'a> {
    /// Makes the container.
    ///
    /// # Errors
    /// The failed step, by its place in config.json. Then nothing remains, as `NewContainer::make` says.
    pub fn make(self) -> Result<MadeContainer<'a>> {
        let new = self.new;
        let ((container, ready), lock) =
            new.make(|reserved, identity, reached| self.make_process(reserved, identity, reached))?;
        Ok(MadeContainer { container, ready, lock, pid_file: new.pid_file })
    }

    fn make_process(
        self,
        reserved: &mut Reserved,
        identity: &Identity<'_>,
        reached: &mut Reached,
    ) -> Result<(Container, SetUpProcess<'a>)> {
        let NewContainer { root, config, flags, plan, .. } = self.new;
        if let Some(directory) = &flags.notify {
            notify::prepare(directory)?;
        }
        HookFiles::check(plan, identity.annotations)?;
        let mut opened = open_all(plan, root.path(), reserved.path(), self.terminal, identity.environment)?;
        opened.set_streams(self.streams);
        opened.keep_times(self.times);
        let resources = self.new.make_groups(reserved)?;
        opened.warnings.extend(resources.write_limits(plan)?);
        opened.open_cgroups(plan)?;
        let cgroup = resources.cgroup();
        let launched = opened.launch(plan, cgroup, self.protected)?;
        *reached = Reached::Process;
        // ORDER: after the clone. Init works during this time.
        reserved.keep_config(self.new.text)?;
        note_init(reserved, cgroup, launched.child.pid)?;
        let ready = launched.serve(cgroup, identity, Some(reserved.lock()?))?;
        if let Some((at, path)) = &plan.pidfd_receiver {
            // crun's message: a space
            scm_rights::connect(path)
                .and_then(|socket| scm_rights::send(socket.as_fd(), b" ", ready.pidfd()))
                .with_context(|| at.to_string())?;
        }
        let mut record = record::assemble(config, flags, plan, ready.pid(), cgroup)?;
        // ORDER: now, because the program may move them. A later restore replaces them.
        record.external_descriptors = record::descriptors(ready.pid());
        if let (Some(_), Some(own)) = (&plan.root_on_host, &mut record.coracle) {
            own.host_mounts = host_mounts::of_container(reserved.lock()?)?;
        }
        if let Some(own) = &mut record.coracle {
            own.landlock = ready.files_of_ruleset()?;
        }
        // The last moment for a failure without a container.
        wait::must_not_be_interrupted()?;
        let container = self.new.save(reserved, record)?;
        resources.keep();
        Ok((container, ready))
    }
}

/// Undoes a container that could not be made, and runs its poststop hooks if its process existed.
fn undone_with_hooks(
    reserved: Reserved,
    error: Error,
    reached: Reached,
    config: &Config,
    identity: &Identity<'_>,
) -> Error {
    let error = unmake(reserved, error);
    if reached == Reached::Process {
        let poststop = config.spec.hooks().as_ref().and_then(|hooks| hooks.poststop().as_deref());
        // The log gets one record: the failure of `create`.
        run_poststop(poststop.unwrap_or_default(), identity);
    }
    error
}

/// Writes to the note which directories will be made.
fn note_planned(plan: &Plan, note: &mut Note, environment: &Environment) {
    if let Some(cgroup) = &plan.cgroup {
        note.coming = Cgroup::placed(&cgroup.placement, environment).outermost_paths();
        note.coming.retain(|_, directory| !directory.exists());
    }
    note.groups = plan.resctrl.as_ref().map(ResctrlGroup::own_directories).unwrap_or_default();
    note.groups.retain(|directory| !directory.exists());
}

/// Writes to the note what exists now.
fn note_made(plan: &Plan, cgroup: Option<&Cgroup>, note: &mut Note) {
    note.coming.clear();
    note.cgroup = cgroup.map(Cgroup::outermost_paths).unwrap_or_default();
    note.unit = cgroup.and_then(|cgroup| cgroup.unit().cloned());
    note.groups = plan.resctrl.as_ref().map(ResctrlGroup::own_directories).unwrap_or_default();
}

/// Undoes what was made of a container. `delete --force` tries again what fails here.
fn unmake(reserved: Reserved, error: Error) -> Error {
    let undone = reserved.lock().and_then(|lock| {
        host_mounts::add_submounts(lock)?;
        undo::undo(reserved.note(), lock, reserved.environment())
    });
    match undone {
        Ok(()) => cgroup::undone(error, reserved.free()),
        Err(left) => {
            reserved.keep();
            let text = format!("{error}; and this could not be undone: {left} (Force::Kill tries it again)");
            error.reworded(text)
        }
    }
}

impl MadeContainer<'_> {
    /// Returns `done`. If it is an error, undoes the whole container first.
    ///
    /// # Errors
    /// Those of `done`.
    pub fn or_undo<T>(self, done: Result<T>) -> Result<(Self, T)> {
        match done {
            Ok(value) => Ok((self, value)),
            Err(error) => {
                drop(self.ready);
                Err(unwind(self.container, &self.lock, self.pid_file, error))
            }
        }
    }

    /// Sends the last message to the process. If the program does not begin, the whole container is undone.
    ///
    /// # Errors
    /// The error of a startContainer hook, or of the program's execve(2).
    pub fn continue_init(self) -> Result<(Container, Child)> {
        let done = self.ready.continue_init().and_then(|child| must_not_have_starved(&self.container).map(|()| child));
        match done {
            Ok(child) => Ok((self.container, child)),
            Err(error) => Err(unwind(self.container, &self.lock, self.pid_file, error)),
        }
    }
}

/// Removes a container with a program that did not begin.
fn unwind(container: Container, lock: &Lock, pid_file: Option<&Path>, error: Error) -> Error {
    if let Some(path) = pid_file {
        pidfile::remove_own(path, container.record().init_process_pid);
    }
    cgroup::undone(error, destroy(container, lock, Leftovers::All).map(drop))
}
