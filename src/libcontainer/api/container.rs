//! What can be done with a container that is there.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::PathBuf;

use serde::Serialize;

use crate::container::{Container, Status};
use crate::error::{Context, Kind, Result, bail};
use crate::launch::start;
use crate::sys::signals;
use crate::wait;

pub use crate::launch::start::Began;

/// Whether it is an error to signal a container that has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// It is not.
    Fine,
    /// It is.
    Refused,
}

impl Container {
    /// Begins the program of a container that waits for it.
    ///
    /// # Errors
    /// It does not wait for it; its startContainer hooks, its program or its poststart hooks fail.
    pub fn start(&mut self) -> Result<Began> {
        start::start(self)
    }

    /// Sends a signal to its init, or where it has no pid namespace of its own, a SIGKILL to all that is in it.
    ///
    /// # Errors
    /// The container has stopped, where that is refused, or the kernel's word.
    pub fn kill(&self, signal: i32, stopped: Stopped) -> Result<()> {
        self.check_cgroups()?;
        let cgroup = self.cgroup();
        if self.status()? == Status::Stopped {
            // what it leaves behind without a pid namespace of its own is still to be reached
            if signal == libc::SIGKILL && !cgroup.all_processes().is_ok_and(|pids| pids.is_empty()) {
                return cgroup.kill();
            }
            return if stopped == Stopped::Fine {
                Ok(())
            } else {
                bail!(Kind::State(Status::Stopped) => "container not running")
            };
        }
        if signal == libc::SIGKILL && !self.has_own_pids() && !cgroup.paths().is_empty() {
            return cgroup.kill();
        }
        let process = self.process()?;
        match signals::send(process.as_fd(), signal) {
            Ok(()) => {}
            Err(rustix::io::Errno::SRCH) => bail!(Kind::State(Status::Stopped) => "container not running"),
            Err(errno) => bail!("signal {signal}: {errno}"),
        }
        // an error from here on says that the process may live on, and that the signal is on its way all the same
        let sent = || format!("signal {signal} was sent");
        // the kernel keeps from the first process of a pid namespace what it does not handle (pid_namespaces(7)), and while it
        // waits for `start` it handles nothing: as with runc, what asks a program to end ends it
        if wait::asks_to_end(signal) && self.status().with_context(sent)? == Status::Created {
            // it may have ended meanwhile
            let _ = signals::send(process.as_fd(), libc::SIGKILL);
        }
        if signal == libc::SIGKILL {
            cgroup.thaw_all().with_context(sent)?;
        }
        Ok(())
    }

    /// Freezes it.
    ///
    /// # Errors
    /// It is paused already or has stopped, or the kernel's word.
    pub fn pause(&mut self) -> Result<()> {
        let _lock = self.lock()?;
        match self.status()? {
            Status::Created | Status::Running => self.cgroup().freeze(),
            Status::Paused => match self.cgroup().frozen_above() {
                Some(above) => {
                    bail!(Kind::State(Status::Paused) => "container paused: the cgroup {} above its own is frozen", above.display())
                }
                None => bail!(Kind::State(Status::Paused) => "container paused"),
            },
            Status::Stopped => bail!(Kind::State(Status::Stopped) => "container not running"),
        }
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// It is not paused, or the kernel's word.
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

    /// What it is and does, as runtime.md has it.
    ///
    /// # Errors
    /// Its processes cannot be looked at.
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

    /// The cgroup above its own by which it is paused, where there is one: `resume` does not reach that.
    pub fn frozen_above(&self) -> Option<PathBuf> {
        self.cgroup().frozen_above()
    }

    /// The directories of its cgroups: on version 2 one with an empty key, on version 1 one for each hierarchy.
    pub fn cgroup_paths(&self) -> BTreeMap<String, PathBuf> {
        self.cgroup().paths().clone()
    }
}

/// What a container is and does. Serialized, it is the state of the specification (runtime.md#state).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct State {
    /// The version of the specification that its config names.
    pub oci_version: String,
    /// Its id.
    pub id: String,
    /// The pid of its first process, as we count; 0 when it has ended.
    pub pid: i32,
    /// What it is doing.
    #[serde(serialize_with = "as_text")]
    pub status: Status,
    /// The bundle that it was made from.
    pub bundle: PathBuf,
    /// Its root file system.
    pub rootfs: PathBuf,
    /// When it was made, as RFC 3339 has it.
    pub created: String,
    /// The annotations of its config.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

fn as_text<S: serde::Serializer>(status: &Status, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(status)
}
