//! The operations on an existing container.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::container::Container;
use crate::error::{Context, Error, Kind, Result, bail};
use crate::launch::start;
use crate::status::Status;
use crate::sys::signals;
use crate::wait;

pub use crate::launch::start::Began;

/// Whether it is an error to signal a stopped container.
///
/// ```no_run
/// let container = libcontainer::Root::open("/run/coracle")?.load("box")?;
/// container.kill(libcontainer::signal_by_name("TERM")?, libcontainer::Stopped::Fine)?;
/// # Ok::<(), libcontainer::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// It is not an error.
    Fine,
    /// It is an error.
    Refused,
}

impl Container {
    /// Starts the program of a container that waits for it.
    ///
    /// # Errors
    /// The container does not wait for `start`; or its startContainer hooks, its program or its poststart hooks fail.
    pub fn start(&mut self) -> Result<Began> {
        start::start(self)
    }

    /// Sends a signal to the container's init. If the container has no pid namespace of its own, all its
    /// processes get SIGKILL. On version 1, a process in only some of its cgroups is not its own (`Cgroup::kill_own`).
    ///
    /// # Errors
    /// `State` if the container has stopped, and `stopped` is `Refused`; or the kernel's error.
    pub fn kill(&self, signal: i32, stopped: Stopped) -> Result<()> {
        self.must_be_ours()?;
        self.check_cgroups()?;
        let cgroup = self.cgroup();
        if self.status()? == Status::Stopped {
            // Without a pid namespace of its own, processes of a stopped container may still run.
            if signal == libc::SIGKILL && !self.has_own_pids() && !cgroup.all_processes()?.is_empty() {
                let cgroup = self.without_nested(cgroup)?;
                return cgroup.kill_own().and_then(|()| cgroup.must_be_left());
            }
            return if stopped == Stopped::Fine {
                Ok(())
            } else {
                bail!(Kind::State(Status::Stopped) => "container not running")
            };
        }
        if signal == libc::SIGKILL && !self.has_own_pids() && !cgroup.paths().is_empty() {
            return self.without_nested(cgroup)?.kill_own();
        }
        let process = self.process()?;
        match signals::send(process.as_fd(), signal) {
            Ok(()) => {}
            Err(rustix::io::Errno::SRCH) => bail!(Kind::State(Status::Stopped) => "container not running"),
            Err(errno) => return Err(Error::from(errno).context(format!("signal {signal}"))),
        }
        // After this, an error means that the process may live. The signal was sent all the same.
        let sent = || format!("signal {signal} was sent");
        // While it waits for `start`, init's handlers end it (`What::ExitOnSignals`). Its profile may deny that.
        if wait::asks_to_end(signal) && self.status().with_context(sent)? == Status::Created {
            let until = Instant::now() + wait::limits::HANDLED;
            if !wait::readable(process.as_fd(), Some(until)).with_context(sent)? {
                // It may have ended since.
                let _ = signals::send(process.as_fd(), libc::SIGKILL);
            }
        }
        if signal == libc::SIGKILL {
            cgroup.thaw_all().with_context(sent)?;
        }
        Ok(())
    }

    /// Sends a signal that asks the container to end, waits, and sends SIGKILL after `time`. When it returns, the container has
    /// stopped.
    ///
    /// # Errors
    /// Those of `kill`; the caller got a signal that asks it to end; SIGKILL does not end the container within ten seconds.
    pub fn stop(&self, signal: i32, stopped: Stopped, time: Duration) -> Result<()> {
        let process = match self.process() {
            Ok(process) => Some(process),
            Err(error) if *error.kind() == Kind::State(Status::Stopped) => None,
            Err(error) => return Err(error),
        };
        self.kill(signal, stopped)?;
        let Some(process) = process else { return Ok(()) };
        if wait::readable(process.as_fd(), Instant::now().checked_add(time))? {
            return Ok(());
        }
        self.kill(libc::SIGKILL, Stopped::Fine)?;
        if wait::readable(process.as_fd(), Some(Instant::now() + wait::limits::KILLED))? {
            return Ok(());
        }
        bail!("{}: does not end by SIGKILL", self.record().id)
    }

    /// Freezes its processes.
    ///
    /// # Errors
    /// It is paused, it has stopped, or the kernel's error.
    pub fn pause(&mut self) -> Result<()> {
        let _lock = self.lock()?;
        match self.status()? {
            Status::Created | Status::Running => self.cgroup().freeze_while(|| Ok(wait::must_not_be_interrupted()?)),
            Status::Paused => match self.cgroup().frozen_above() {
                Some(above) => {
                    bail!(Kind::State(Status::Paused) => "container paused: the cgroup {} above its own is frozen", above.display())
                }
                None => bail!(Kind::State(Status::Paused) => "container paused"),
            },
            Status::Stopped => bail!(Kind::State(Status::Stopped) => "container not running"),
        }
    }

    /// Thaws its processes.
    ///
    /// # Errors
    /// It is not paused, or the kernel's error.
    pub fn resume(&mut self) -> Result<()> {
        let _lock = self.lock()?;
        match self.status()? {
            Status::Paused => {
                let cgroup = self.cgroup();
                cgroup.thaw()?;
                match cgroup.frozen_above() {
                    Some(above) => {
                        bail!("container still paused: the cgroup {} above its own is frozen", above.display())
                    }
                    None => Ok(()),
                }
            }
            Status::Created | Status::Running => bail!(Kind::State(Status::Running) => "container not paused"),
            Status::Stopped => bail!(Kind::State(Status::Stopped) => "container not running"),
        }
    }

    /// Its state (runtime.md#state).
    ///
    /// # Errors
    /// Its processes cannot be examined.
    pub fn state(&self) -> Result<State> {
        self.status().map(|status| self.state_in(status))
    }

    /// The same, with a status that was read before.
    #[doc(hidden)]
    pub fn state_in(&self, status: Status) -> State {
        let record = self.record();
        State {
            oci_version: record.version().to_owned(),
            id: record.id.clone(),
            pid: if status == Status::Stopped { 0 } else { record.init_process_pid },
            status,
            bundle: record.bundle().to_path_buf(),
            rootfs: record.config.rootfs.clone(),
            created: record.created.clone(),
            annotations: record.annotations().into_iter().collect(),
        }
    }

    /// The ancestor of its cgroup that freezes it. `resume` does not thaw that one.
    pub fn frozen_above(&self) -> Option<PathBuf> {
        self.cgroup().frozen_above()
    }

    /// The directories of its cgroups. Version 2 has one, with an empty key. Version 1 has one for each hierarchy.
    pub fn cgroup_paths(&self) -> BTreeMap<String, PathBuf> {
        self.cgroup().paths().clone()
    }
}

/// The state of a container. Serialized, it is the state of the specification (runtime.md#state).
///
/// ```no_run
/// # fn main() -> libcontainer::Result<()> {
/// let state = libcontainer::Root::open("/run/coracle")?.load("box")?.state()?;
/// println!("{} is {}, its first process is {}", state.id, state.status, state.pid);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct State {
    /// The version of the specification in its config.
    pub oci_version: String,
    /// Its id.
    pub id: String,
    /// The pid of its first process, in our pid namespace. 0 if it has ended.
    pub pid: i32,
    /// Its status.
    #[serde(serialize_with = "as_text")]
    pub status: Status,
    /// The bundle that it was made from.
    pub bundle: PathBuf,
    /// Its root file system.
    pub rootfs: PathBuf,
    /// The time of its creation (RFC 3339).
    pub created: String,
    /// The annotations of its config.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

fn as_text<S: serde::Serializer>(status: &Status, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(status)
}
