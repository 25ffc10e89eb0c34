//! Making it happen: a plan becomes a process. Runs in the runtime process, which is single threaded; each value owns
//! what exists so far, and what is dropped is undone.

mod agent;
mod arm;
mod birth;
mod cause;
pub mod console;
mod descriptors;
mod failure;
pub mod foreground;
pub mod hooks;
mod host_mounts;
mod id_maps;
mod mount_ids;
mod net_devices;
pub mod new;
pub mod notify;
pub mod pidfile;
mod programs;
mod relay;
mod runc;
pub mod seal;
mod serve;
mod sources;
pub mod undo;

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::Result;

pub use arm::{Armed, arm};
#[cfg(any(test, fuzzing))]
pub(crate) use net_devices::hears as netlink_hears;

use crate::cgroup::{Cgroup, systemd};
use crate::config::{At, Warning};
use crate::plan::Plan;
use crate::plan::resources::{DEVICES, not_restricted};
use crate::resctrl::{self, Kernel};

/// What the container is called in what hooks and agents are told.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its bundle, absolute.
    pub bundle: &'a Path,
    /// `ociVersion` of its config.
    pub version: &'a str,
    /// Its annotations.
    pub annotations: &'a HashMap<String, String>,
    /// Its init, where the process in question is a further one.
    pub init: Option<i32>,
}

impl Identity<'_> {
    /// The state that hooks read (runtime.md#state), as one line of JSON.
    pub fn state(&self, status: &str, pid: i32) -> Vec<u8> {
        self.state_value(status, pid).to_string().into_bytes()
    }

    fn state_value(&self, status: &str, pid: i32) -> serde_json::Value {
        let mut state = serde_json::json!({
            "ociVersion": self.version,
            "id": self.id,
            "status": status,
            "pid": pid,
            "bundle": self.bundle,
        });
        if !self.annotations.is_empty() {
            state["annotations"] = serde_json::json!(self.annotations);
        }
        state
    }
}

/// A cgroup, and a group in resctrl, that were made for a container that is not there yet. A failure undoes them by the
/// container's note (`undo`).
#[derive(Debug)]
pub struct Housed {
    cgroup: Option<Cgroup>,
    group: Option<resctrl::Made<'static>>,
}

impl Housed {
    /// Makes the directories.
    ///
    /// # Errors
    /// What was tried, with the kernel's word; nothing stays behind.
    pub fn make(plan: &Plan) -> Result<Housed> {
        let mut housed = Housed { cgroup: None, group: None };
        if let Some((placement, writes, _)) = &plan.cgroup {
            if let Some(unit) = &placement.unit {
                systemd::available(unit.manager)?;
            }
            housed.cgroup = Some(Cgroup::create(placement, writes)?);
        }
        housed.group = plan.resctrl.as_ref().map(|group| resctrl::make(group, &Kernel)).transpose()?;
        Ok(housed)
    }

    /// Writes the limits, before anybody is in it. systemd would set them back when it takes the directory over: those of a
    /// unit are written when it has (`serve`). Returned is what could not be limited, and need not be.
    ///
    /// # Errors
    /// The property, the file and the kernel's word.
    pub fn limit(&self, plan: &Plan) -> Result<Option<Warning>> {
        let (Some(cgroup), Some((placement, writes, devices))) = (self.cgroup(), &plan.cgroup) else { return Ok(None) };
        if placement.unit.is_some() {
            return Ok(None);
        }
        cgroup.must_have_what(writes, placement)?;
        cgroup.apply(writes)?;
        Ok(cgroup.apply_devices(devices, placement.devices)?.as_deref().map(devices_not_restricted))
    }

    /// The cgroup, where there is one.
    pub fn cgroup(&self) -> Option<&Cgroup> {
        self.cgroup.as_ref()
    }

    /// The container is there: its groups stay.
    pub fn keep(mut self) {
        if let Some(group) = self.group.take() {
            group.keep();
        }
    }
}

/// Device access stays what it is, for that reason.
fn devices_not_restricted(why: &str) -> Warning {
    Warning { at: At::new(DEVICES), said: not_restricted(why) }
}

/// A child of ours. Dropped, it is killed and reaped, unless it was kept.
#[derive(Debug)]
pub struct Child {
    /// Its pid, as we count.
    pub pid: i32,
    /// The descriptor that keeps the pid from meaning somebody else.
    pub pidfd: OwnedFd,
    end: End,
}

/// What becomes of a child that is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Killed,
    LivesOn,
}

impl Child {
    fn new(pid: i32, pidfd: OwnedFd) -> Child {
        Child { pid, pidfd, end: End::Killed }
    }

    /// It lives on without us.
    #[must_use]
    pub fn keep(mut self) -> Child {
        self.end = End::LivesOn;
        self
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.end == End::Killed {
            let _ = rustix::process::pidfd_send_signal(&self.pidfd, rustix::process::Signal::KILL);
            let _ = failure::ending(self.pidfd.as_fd());
        }
    }
}

/// A process that has been made and asks us at every turn. Dropped, it is killed.
#[derive(Debug)]
pub struct Launched<'a> {
    plan: &'a Plan,
    armed: Armed,
    talk: OwnedFd,
    child: Child,
    lodging: Lodging,
    protected: Option<seal::Protected>,
}

impl Launched<'_> {
    /// The hierarchies whose cgroups the child has not entered; it has told us something, so it is past that.
    fn still_outside(&self) -> impl Iterator<Item = &str> {
        let Lodging { by_itself, by_us } = &self.lodging;
        by_us.iter().chain(by_itself.iter().skip(self.armed.page.entered())).map(String::as_str)
    }
}

/// Where the child was not born, of the hierarchies in which it is to live.
#[derive(Debug, Default)]
struct Lodging {
    /// It goes there by itself, one after the other, before all else.
    by_itself: Vec<String>,
    /// It is moved there.
    by_us: Vec<String>,
}

/// A process that is all set up: it waits for one more word. Dropped, it is killed.
#[derive(Debug)]
pub struct Ready<'a>(Launched<'a>);

/// Whether it is noted how long each step takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// `Ready::times` has them.
    Kept,
    /// Nobody asked.
    NotKept,
}

impl Armed {
    /// Notes how long each step takes, or does not.
    pub fn keep_times(&self, times: Times) {
        if times == Times::Kept {
            self.page.keep_times();
        }
    }

    /// Gives birth to the first child, inside `cgroup` where the kernel can do that; `protected` says that nobody in the
    /// container can write our own program.
    ///
    /// # Errors
    /// The clone's, with what was asked of it.
    pub fn launch<'a>(
        self,
        plan: &'a Plan,
        cgroup: Option<&Cgroup>,
        protected: seal::Protected,
    ) -> Result<Launched<'a>> {
        birth::give(self, plan, cgroup, protected)
    }
}

impl<'a> Launched<'a> {
    /// Answers init until it is ready.
    ///
    /// # Errors
    /// What failed in init, by its step; or what we could not do for it.
    pub fn serve(mut self, cgroup: Option<&Cgroup>, identity: &Identity<'_>) -> Result<Ready<'a>> {
        serve::until_ready(&mut self, cgroup, identity)?;
        if let Some(maps) = &self.plan.joined_maps {
            self.armed.warnings.extend(id_maps::unlike(self.child.pid, maps));
        }
        Ok(Ready(self))
    }
}

impl Ready<'_> {
    /// How long each step took so far, in microseconds, by its number in the plan.
    pub fn times(&self) -> Vec<(usize, u32)> {
        self.0.armed.page.times()
    }

    /// What config.json asks for and was left out. The user is told.
    pub fn warnings(&self) -> &[Warning] {
        &self.0.armed.warnings
    }

    /// The process's pid, as we count.
    pub fn pid(&self) -> i32 {
        self.0.child.pid
    }

    /// The process's pidfd.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.0.child.pidfd.as_fd()
    }

    /// All is recorded: init goes on, to wait for `start` on its fifo, or to become the program. In the second case this
    /// returns when it has.
    ///
    /// # Errors
    /// startContainer hooks, the exec itself, or an init that is gone.
    pub fn go(self) -> Result<Child> {
        serve::go(&self.0)?;
        Ok(self.0.child.keep())
    }
}
