//! `delete`: removes the container's processes, cgroup, mounts and directory, and then runs its poststop hooks.

use oci_spec::runtime::Hook;

use super::host_mounts::take_away;
use super::identity::Identity;
use super::{hooks, undo};
use crate::config::At;
use crate::container::{Container, Lock, Status};
use crate::error::{Context, Error, Kind, Result, bail};
use crate::resctrl::{self, Kernel};
use crate::wait;

/// The processes of a container that is to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leftovers {
    /// None: its init has ended, and with its pid namespace all other processes.
    None,
    /// Any. All are killed.
    Killed,
}

/// Whether a running container is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Force {
    /// It is killed first.
    Kill,
    /// The deletion is refused.
    None,
}

impl Leftovers {
    /// The processes that a container in its state may have.
    ///
    /// # Errors
    /// It runs, and `force` says that this is refused.
    pub fn of(container: &Container, force: Force) -> Result<Leftovers> {
        match (container.status()?, force) {
            (Status::Stopped, _) => Ok(Leftovers::None),
            (Status::Created, _) | (_, Force::Kill) => Ok(Leftovers::Killed),
            (status @ (Status::Running | Status::Paused), Force::None) => {
                bail!(Kind::State(status) => "cannot delete container {} that is not stopped: {status}", container.record().id)
            }
        }
    }
}

/// Removes our own container, and not another one that has its id since.
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

/// Removes the container, then runs its poststop hooks. Returns the warnings: those of the hooks, and the mounts on the
/// host that remain because they have changed.
///
/// # Errors
/// Something could not be removed. The container then still exists.
pub fn destroy(container: Container, lock: &Lock, leftovers: Leftovers) -> Result<Vec<Error>> {
    if leftovers == Leftovers::Killed
        && let Ok(process) = container.process()
    {
        let _ = rustix::process::pidfd_send_signal(&process, rustix::process::Signal::KILL);
    }
    container.check_cgroups()?;
    let mut cgroup = container.cgroup();
    // rmdir(2) removes only an empty cgroup. It is the fastest way to know that no process is left.
    match leftovers {
        Leftovers::Killed => cgroup.kill()?,
        Leftovers::None if !cgroup.remove_unused() => cgroup.kill_left()?,
        Leftovers::None => {}
    }
    cgroup.delete()?;
    resctrl::remove(&container.record().own_groups(), &Kernel)?;
    let (hooks, unread) = match hooks::of_container(&container) {
        Ok(hooks) => (hooks, None),
        Err(error) => (None, Some(error.context("hooks.poststop: not run"))),
    };
    let (record, environment) = (container.record().clone(), container.environment().clone());
    let left = record.coracle.as_ref().map(|own| take_away(&own.host_mounts)).transpose()?.unwrap_or_default();
    // runc has written state.json again, without our own members.
    if record.coracle.is_none()
        && let Some(note) = lock.note()?
    {
        undo::undo(&note, lock, &environment)?;
    }
    container.remove(lock)?;
    let list = hooks.as_ref().and_then(|hooks| hooks.poststop().as_deref()).unwrap_or_default();
    let annotations = record.annotations();
    let warnings = left.into_iter().chain(unread);
    Ok(warnings.chain(after_stop(list, &Identity::of_record(&record, &annotations, &environment))).collect())
}

/// Runs poststop hooks. Their failures are returned as warnings (runtime.md#lifecycle).
pub(super) fn after_stop(poststop: &[Hook], identity: &Identity<'_>) -> Vec<Error> {
    if poststop.is_empty() {
        return Vec::new();
    }
    // In our own program, a signal that asks us to end ends the running hook. The other hooks run: all else is already
    // removed.
    let listening = wait::listen_for_hooks().context("listen to signals");
    let warnings = hooks::run_all(poststop, &identity.state("stopped", 0), identity, &At::new("hooks.poststop"));
    warnings.into_iter().chain(listening.err()).collect()
}
