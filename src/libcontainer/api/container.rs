//! What can be done with a container that is there.

use std::os::fd::AsFd;

use crate::cgroup::oom::{Happened, Watch};
use crate::container::{Container, Status};
use crate::error::{Context, Error, Kind, Result, bail};
use crate::launch::delete::{Leftovers, destroy};
use crate::launch::start;
use crate::sys::signals;

pub use crate::launch::delete::Force;
pub use crate::launch::start::Began;

/// The signals by which a program is asked to end.
const ENDING: [i32; 4] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT];

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
            if signal == libc::SIGKILL && !cgroup.processes()?.is_empty() {
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
        if ENDING.contains(&signal) && self.status().with_context(sent)? == Status::Created {
            // it may have ended meanwhile
            let _ = signals::send(process.as_fd(), libc::SIGKILL);
        }
        if signal == libc::SIGKILL && cgroup.is_frozen().with_context(sent)? {
            // version 1: what is frozen does not die before it thaws
            cgroup.thaw().with_context(sent)?;
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

    /// Removes it and all that it was, and runs its poststop hooks. Their failures are returned.
    ///
    /// # Errors
    /// It has not stopped, or something could not be removed: the container is still there then.
    pub fn delete(mut self, force: Force) -> Result<Vec<Error>> {
        let lock = self.lock()?;
        let leftovers = Leftovers::of(&self, force)?;
        destroy(self, &lock, leftovers)
    }

    /// What it uses, as `events --stats` has it.
    pub fn stats(&self) -> serde_json::Value {
        serde_json::json!(self.cgroup().stats())
    }

    /// Its events: that it runs out of memory, and its end.
    ///
    /// # Errors
    /// Its cgroup cannot be watched.
    pub fn events(&self) -> Result<Events> {
        Ok(Events { process: self.process()?, watch: self.cgroup().watch()? })
    }
}

/// What happens to a container.
#[derive(Debug)]
pub struct Events {
    process: std::os::fd::OwnedFd,
    watch: Watch,
}

impl Events {
    /// Waits for the next event, at most that long.
    ///
    /// # Errors
    /// Those of poll(2) and of the cgroup's files.
    pub fn next(&mut self, time: std::time::Duration) -> Result<Happened> {
        self.watch.next(self.process.as_fd(), time)
    }
}
