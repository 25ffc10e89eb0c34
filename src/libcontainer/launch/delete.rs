//! `delete`: removes the container's processes, cgroup, mounts and directory, and then runs its poststop hooks.

use std::os::fd::OwnedFd;

use oci_spec::runtime::Hook;

use super::host_mounts::unmount_recorded;
use super::identity::Identity;
use super::killed::wait_for_end;
use super::{hooks, undo};
use crate::cgroup::{Cgroup, with_names};
use crate::config::At;
use crate::container::{Container, Lock};
use crate::error::{Context, Error, Kind, Result, bail, error};
use crate::resctrl::{self, Kernel};
use crate::status::Status;
use crate::wait;

/// The processes in a container's cgroup that are killed when it is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leftovers {
    /// Those that the container has made. Without a pid namespace, they can outlive its init. On version 1, processes of others
    /// are not killed.
    Own,
    /// All.
    All,
}

/// Whether a running container is deleted.
///
/// ```no_run
/// # fn main() -> libcontainer::Result<()> {
/// let root = libcontainer::Root::open("/run/coracle")?;
/// for warning in root.delete("box", libcontainer::Force::Kill)? {
///     println!("{warning}");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Force {
    /// It is killed first.
    Kill,
    /// The deletion is refused.
    None,
}

impl Leftovers {
    /// The processes to kill, for the container's present status.
    ///
    /// # Errors
    /// It runs, and `force` is `None`.
    pub fn of(container: &Container, force: Force) -> Result<Leftovers> {
        match (container.status()?, force) {
            (Status::Stopped, Force::None) => Ok(Leftovers::Own),
            (Status::Created, _) | (_, Force::Kill) => Ok(Leftovers::All),
            (status @ (Status::Running | Status::Paused), Force::None) => {
                bail!(Kind::State(status) => "cannot delete container {} that is not stopped: {status}", container.record().id)
            }
        }
    }
}

/// Removes our own container. If another container has its id by now, removes nothing.
///
/// # Errors
/// Those of `destroy`.
pub fn remove_own(mut container: Container, leftovers: Leftovers) -> Result<Vec<Error>> {
    let process = |container: &Container| (container.record().init_process_pid, container.record().init_process_start);
    let own = process(&container);
    match container.lock_if_there()? {
        Some(lock) if process(&container) == own => destroy(container, &lock, leftovers),
        // `delete --force` was faster.
        _ => Ok(Vec::new()),
    }
}

/// Removes the container, then runs its poststop hooks. Returns the warnings: the processes of others that were killed,
/// the failures of the hooks, and the mounts on the host that remain because they have changed.
///
/// # Errors
/// Something could not be removed. The container then still exists.
pub fn destroy(container: Container, lock: &Lock, leftovers: Leftovers) -> Result<Vec<Error>> {
    let init = match leftovers {
        Leftovers::All => Some(container.process()),
        Leftovers::Own => None,
    };
    if let Some(Ok(process)) = &init {
        // It may have ended already. What does not end is reported below.
        let _ = rustix::process::pidfd_send_signal(process, rustix::process::Signal::KILL);
    }
    container.check_cgroups()?;
    let mut cgroup = container.cgroup();
    let pid = container.record().init_process_pid;
    let ended = |init: Result<OwnedFd>| match init {
        Ok(init) => wait_for_end(&init, pid, || container.without_nested(container.cgroup())),
        Err(error) => *error.kind() == Kind::State(Status::Stopped),
    };
    // With init of a pid namespace all its processes end.
    let all_ended = container.has_own_pids() && init.is_none_or(ended);
    let own = if all_ended { OwnProcesses::Ended } else { OwnProcesses::MayRun };
    let others = empty_cgroup(&container, &mut cgroup, leftovers, own)?;
    cgroup.delete()?;
    resctrl::remove(&container.record().own_groups(), &Kernel)?;
    let (hooks, unread) = match hooks::of_container(&container) {
        Ok(hooks) => (hooks, None),
        Err(error) => (None, Some(error.context("hooks.poststop: not run"))),
    };
    let (record, environment) = (container.record().clone(), container.environment().clone());
    let left = record.coracle.as_ref().map(|own| unmount_recorded(&own.host_mounts)).transpose()?.unwrap_or_default();
    // runc has written state.json again, without our own members.
    if record.coracle.is_none()
        && let Some(note) = lock.note()?
    {
        undo::undo(&note, lock, &environment)?;
    }
    container.remove(lock)?;
    let list = hooks.as_ref().and_then(|hooks| hooks.poststop().as_deref()).unwrap_or_default();
    let annotations = record.annotations();
    let warnings = others.into_iter().chain(left).chain(unread);
    Ok(warnings.chain(run_poststop(list, &Identity::of_record(&record, &annotations, &environment))).collect())
}

/// The processes that the container itself has made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OwnProcesses {
    /// All have ended.
    Ended,
    /// Some may run.
    MayRun,
}

/// Another process holds the lock, and may wait for a process of the container. A frozen process of version 1 dies only after it
/// is thawed, and another process of the container can freeze it again: all of them are killed.
pub fn kill_while_locked(container: &Container) {
    let own = container.check_cgroups().and_then(|()| container.without_nested(container.cgroup()));
    // After the lock is taken, `destroy` reports what cannot be killed.
    let _ = own.and_then(|cgroup| cgroup.kill_own());
}

/// Empties the cgroup. If the container's own processes have ended, all other processes there belong to others:
/// somebody has put them there, or they belong to another container. Only `delete --force` kills a process that somebody has put
/// there. The returned warning names it, if it was not killed before (another command holds the lock, or init is kept frozen).
/// Nothing kills the processes of another container.
///
/// # Errors
/// Processes are left.
fn empty_cgroup(
    container: &Container,
    cgroup: &mut Cgroup,
    leftovers: Leftovers,
    own: OwnProcesses,
) -> Result<Option<Error>> {
    let may_be_empty = own == OwnProcesses::Ended || leftovers == Leftovers::Own;
    // rmdir(2) removes only an empty cgroup. It is the fastest way to know that no process is left.
    if may_be_empty && cgroup.remove_own_directories() {
        return Ok(None);
    }
    let nested = container.nested()?;
    let below = nested.iter().flat_map(|(_, directories)| directories.iter().cloned());
    *cgroup = std::mem::take(cgroup).sparing(below);
    if may_be_empty && nested.is_empty() && cgroup.remove_with_directories_below() {
        return Ok(None);
    }
    let mut warning = None;
    if leftovers == Leftovers::All {
        // ORDER: before we look for others.
        cgroup.leave()?;
        let others = match own {
            OwnProcesses::Ended => cgroup.staying(),
            OwnProcesses::MayRun => cgroup.strangers(),
        };
        // `kill` kills the processes that it finds in any case. If it cannot read all of the cgroup, it returns the reason.
        let others = others.unwrap_or_default();
        if !others.is_empty() {
            let names = with_names(&others);
            warning = Some(error!("processes that others have put into the container's cgroups are killed: {names}"));
        }
        cgroup.kill()?;
    } else {
        if own == OwnProcesses::MayRun {
            cgroup.kill_own()?;
        }
        cgroup.must_be_left()?;
    }
    if nested.is_empty() {
        return Ok(warning);
    }
    let ids: Vec<_> = nested.iter().map(|(id, _)| format!("{id:?}")).collect();
    bail!("the cgroups of other containers are below its own: delete these containers first: {}", ids.join(", "))
}

/// Runs poststop hooks. Their failures are returned as warnings (runtime.md#lifecycle).
pub(super) fn run_poststop(poststop: &[Hook], identity: &Identity<'_>) -> Vec<Error> {
    if poststop.is_empty() {
        return Vec::new();
    }
    // In our own program, SIGTERM and the like end the running hook. The other hooks run, because everything else is already
    // removed.
    let listening = wait::listen_for_hooks().context("listen to signals");
    let warnings = hooks::run_all(poststop, &identity.state("stopped", 0), identity, &At::new("hooks.poststop"));
    warnings.into_iter().chain(listening.err()).collect()
}
