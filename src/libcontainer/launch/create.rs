//! `create` and `run`: a new container, all or nothing.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::child::Child;
use super::console;
use super::delete::{Leftovers, after_stop, destroy};
use super::failure::must_not_have_starved;
use super::identity::Identity;
use super::open::{Times, open_all};
use super::resources::Resources;
use super::seal::Protected;
use super::serve::Ready;
use super::streams::Streams;
use super::{host_mounts, notify, pidfile, record, undo};
use crate::cgroup::{self, Cgroup};
use crate::config::Config;
use crate::container::{Container, Lock, Note, ProcessId, Record, Reserved, Root, start_time};
use crate::error::{Context, Error, Result};
use crate::plan::resctrl::Group;
use crate::plan::{Flags, Plan};
use crate::wait;

/// What a new container is made of.
#[derive(Debug)]
pub struct New<'a> {
    /// Where containers are kept.
    pub root: &'a Root,
    /// config.json as it was read, byte for byte.
    pub text: &'a [u8],
    /// The same, understood.
    pub config: &'a Config,
    /// How we were called.
    pub flags: &'a Flags,
    /// What will be done.
    pub plan: &'a Plan,
    /// The socket that takes the terminal's master.
    pub terminal: Option<OwnedFd>,
    /// The first descriptors of its process.
    pub streams: Streams,
    /// Whether it is noted how long each step takes.
    pub times: Times,
    /// `--pid-file`.
    pub pid_file: Option<PathBuf>,
    /// Nobody in it will write our own program.
    pub protected: Protected,
    /// Whether we are ended by whoever deletes it by force while it is made.
    pub creator: Creator,
}

/// What becomes of the calling process when somebody deletes a container by force that it is making.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Creator {
    /// It lives: making the container fails, because its processes are killed.
    #[default]
    Spared,
    /// It gets a SIGTERM, and after a deadline a SIGKILL: it does nothing else.
    Ended,
}

/// A container that is there, and its process, which waits for one more word.
#[derive(Debug)]
pub struct Made<'a> {
    /// Its record and directory.
    pub container: Container,
    /// Its process.
    pub ready: Ready<'a>,
    /// Nobody else changes it before its process has had its word.
    lock: Lock,
    /// Where its pid was written.
    pid_file: Option<PathBuf>,
}

/// How far the making of a container came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reached {
    Nothing,
    /// Its process was there: poststop hooks may have something to undo.
    Process,
}

impl<'a> New<'a> {
    /// Makes it. What fails leaves nothing behind: no cgroup, mount, process, directory or pid file. What cannot be removed
    /// is told, and the container's directory stays with its note.
    ///
    /// # Errors
    /// What failed, by its place in config.json.
    pub fn make(self) -> Result<Made<'a>> {
        let (config, flags) = (self.config, self.flags);
        let mut reserved = self.root.reserve(&flags.id)?;
        if self.creator == Creator::Spared {
            reserved.spare_creator();
        }
        let annotations = config.spec.annotations().clone().unwrap_or_default();
        let identity = Identity {
            id: &flags.id,
            bundle: &flags.bundle,
            version: config.spec.version(),
            annotations: &annotations,
            init: None,
        };
        let pid_file = self.pid_file.clone();
        let mut reached = Reached::Nothing;
        match self.fill(&mut reserved, &identity, &mut reached) {
            Ok((container, ready)) => Ok(Made { container, ready, lock: reserved.made()?, pid_file }),
            Err(error) => Err(undone_with_hooks(reserved, error, reached, config, &identity)),
        }
    }

    fn fill(
        self,
        reserved: &mut Reserved,
        identity: &Identity<'_>,
        reached: &mut Reached,
    ) -> Result<(Container, Ready<'a>)> {
        reserved.take_note(|note| will_make(self.plan, note))?;
        if let Some(directory) = &self.flags.notify {
            notify::prepare(directory)?;
        }
        let mut opened = open_all(self.plan, self.root.path(), reserved.path(), self.terminal)?;
        opened.give(self.streams);
        opened.keep_times(self.times);
        let resources = Resources::make(self.plan)?;
        reserved.take_note(|note| has_made(self.plan, resources.cgroup(), note))?;
        opened.warnings.extend(resources.limit(self.plan)?);
        opened.open_cgroups(self.plan)?;
        let cgroup = resources.cgroup();
        let launched = opened.launch(self.plan, cgroup, self.protected)?;
        *reached = Reached::Process;
        // ORDER: after the clone: init has work to do meanwhile
        reserved.keep_config(self.text)?;
        if cgroup.is_none_or(|cgroup| cgroup.paths().is_empty()) {
            let pid = launched.child.pid;
            let start = start_time(pid)?;
            reserved.take_note(|note| note.init = start.map(|start| ProcessId { pid, start }))?;
        }
        let ready = launched.serve(cgroup, identity, Some(reserved.lock()?))?;
        if let Some((at, path)) = &self.plan.pidfd_receiver {
            // crun's message: a space
            console::connect(path)
                .and_then(|socket| console::send(socket.as_fd(), b" ", ready.pidfd()))
                .with_context(|| at.to_string())?;
        }
        let mut record = record::of(self.config, self.flags, self.plan, ready.pid(), cgroup)?;
        if let (Some(_), Some(own)) = (&self.plan.root_on_host, &mut record.coracle) {
            own.host_mounts = host_mounts::made(reserved.lock()?)?;
        }
        // the last moment at which all can be undone without a container having been there
        wait::check()?;
        let container = keep(reserved, record, self.pid_file.as_deref(), ready.pid())?;
        resources.keep();
        Ok((container, ready))
    }
}

/// Undoes a container that could not be made, and runs its poststop hooks where its process was there.
pub(super) fn undone_with_hooks(
    reserved: Reserved,
    error: Error,
    reached: Reached,
    config: &Config,
    identity: &Identity<'_>,
) -> Error {
    let error = unmake(reserved, error);
    if reached == Reached::Process {
        let poststop = config.spec.hooks().as_ref().and_then(|hooks| hooks.poststop().as_deref());
        // the failure of `create` is what is told, and nothing beside it: one record in the log
        after_stop(poststop.unwrap_or_default(), identity);
    }
    error
}

/// What is going to be made: directories that are not there yet.
pub(super) fn will_make(plan: &Plan, note: &mut Note) {
    if let Some(cgroup) = &plan.cgroup {
        note.coming = Cgroup::at(&cgroup.placement).paths().clone();
        note.coming.retain(|_, directory| !directory.exists());
    }
    note.groups = plan.resctrl.as_ref().map(Group::own_directories).unwrap_or_default();
    note.groups.retain(|directory| !directory.exists());
}

/// What is the container's own now, with whoever will be in it.
pub(super) fn has_made(plan: &Plan, cgroup: Option<&Cgroup>, note: &mut Note) {
    note.coming.clear();
    note.cgroup = cgroup.map(|cgroup| cgroup.paths().clone()).unwrap_or_default();
    note.unit = cgroup.and_then(|cgroup| cgroup.unit().cloned());
    note.groups = plan.resctrl.as_ref().map(Group::own_directories).unwrap_or_default();
}

/// Undoes what there is of a container that could not be made. What cannot be undone now, `delete --force` tries again.
fn unmake(reserved: Reserved, error: Error) -> Error {
    let undone = reserved.lock().and_then(|lock| {
        host_mounts::look(lock)?;
        undo::undo(reserved.note(), lock)
    });
    match undone {
        Ok(()) => cgroup::undone(error, reserved.give_up()),
        Err(left) => {
            reserved.leave();
            let text = format!("{error}; and not all of it is undone, which `delete --force` tries again: {left}");
            error.reworded(text)
        }
    }
}

/// Pid file and record. The record is what makes it a container, and comes last.
pub(super) fn keep(reserved: &Reserved, record: Record, pid_file: Option<&Path>, pid: i32) -> Result<Container> {
    if let Some(path) = pid_file {
        pidfile::write(path, pid)?;
    }
    reserved.record(record).inspect_err(|_| {
        if let Some(path) = pid_file {
            pidfile::forget(path, pid);
        }
    })
}

impl Made<'_> {
    /// Goes on with what had to be done meanwhile, or undoes all of the container.
    ///
    /// # Errors
    /// Those of `done`.
    pub fn unless_failed<T>(self, done: Result<T>) -> Result<(Self, T)> {
        match done {
            Ok(value) => Ok((self, value)),
            Err(error) => {
                drop(self.ready);
                Err(unwind(self.container, &self.lock, self.pid_file, error))
            }
        }
    }

    /// The last word to the process. When the program does not begin, all of the container is undone.
    ///
    /// # Errors
    /// startContainer hooks, or the program itself.
    pub fn go(self) -> Result<(Container, Child)> {
        let gone = self.ready.go().and_then(|child| must_not_have_starved(&self.container).map(|()| child));
        match gone {
            Ok(child) => Ok((self.container, child)),
            Err(error) => Err(unwind(self.container, &self.lock, self.pid_file, error)),
        }
    }
}

/// Removes a container whose program did not begin.
fn unwind(container: Container, lock: &Lock, pid_file: Option<PathBuf>, error: Error) -> Error {
    if let Some(path) = pid_file {
        pidfile::forget(&path, container.record().init_process_pid);
    }
    cgroup::undone(error, destroy(container, lock, Leftovers::Killed).map(drop))
}
