//! Device access at run time: the lines of version 1, the program of version 2.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use super::Cgroup;
use super::refusal::Refusal;
use crate::error::{Error, Result, error};
use crate::plan::resources::{DEVICES, DeviceAccess, DeviceList, OnForbidden};
use crate::sys::bpf;

impl Cgroup {
    /// Restricts the devices, and removes earlier restrictions. If this is forbidden and `on_forbidden` allows it, the
    /// container has no restrictions. Then the reason is returned, for a warning.
    ///
    /// # Errors
    /// The kernel's error. On version 2 that of bpf(2).
    pub fn apply_devices(&self, access: &DeviceAccess, on_forbidden: OnForbidden) -> Result<Option<String>> {
        match self.restrict(access) {
            Ok(()) => Ok(None),
            Err(refusal) if refusal.is_forbidden() => match on_forbidden {
                OnForbidden::Fail => Err(refusal.error),
                OnForbidden::Ignore => Ok(None),
                OnForbidden::Warn => {
                    let said = format!("{:#}", refusal.error);
                    // The caller adds the place to the message.
                    Ok(Some(said.split_once(": ").map_or(said.clone(), |(_, why)| why.to_owned())))
                }
            },
            Err(refusal) => Err(refusal.error),
        }
    }

    pub(super) fn restrict(&self, access: &DeviceAccess) -> Result<(), Refusal> {
        match access {
            DeviceAccess::List(list) => self.apply_list(list),
            DeviceAccess::Program(instructions) => self.apply_program(Some(instructions)),
            DeviceAccess::Unrestricted => match self.apply_program(None) {
                // An earlier program stays. Access is then narrower than requested, but never wider.
                Err(refusal) if refusal.is_forbidden() => Ok(()),
                other => other,
            },
            DeviceAccess::Missing(what) => Err(Refusal { errno: None, error: error!("{DEVICES}: {what}") }),
        }
    }

    fn apply_list(&self, list: &DeviceList) -> Result<(), Refusal> {
        let Some(directory) = self.directory_of("devices") else {
            // The container of an ordinary user has no restrictions.
            return Err(none_there("no cgroup of the controller devices"));
        };
        let there = fs::read_to_string(directory.join("devices.list")).map_err(|error| Refusal {
            errno: error.raw_os_error(),
            error: Error::from(error).context(format!("{DEVICES}: read devices.list of {}", directory.display())),
        })?;
        self.write_all(&list.writes(&there))
    }

    /// One program replaces the attached ones. It is attached before they are detached, so access is never wider than
    /// both programs allow.
    fn apply_program(&self, instructions: Option<&Vec<u8>>) -> Result<(), Refusal> {
        let Some(directory) = self.paths.get("").filter(|_| !self.controllers.contains_key("devices")) else {
            return match instructions {
                Some(_) => Err(none_there("no cgroup of version 2")),
                // No program is attached.
                None => Ok(()),
            };
        };
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let cgroup = rustix::fs::openat(CWD, directory, flags, Mode::empty()).map_err(|errno| Refusal {
            errno: Some(errno.raw_os_error()),
            error: Error::from(errno).context(format!("{DEVICES}: open {}", directory.display())),
        })?;
        let old = match bpf::device_programs(cgroup.as_fd()) {
            // KERNEL(4.17): BPF_PROG_QUERY of a cgroup's device programs
            Err(Errno::INVAL) => Vec::new(),
            other => other.map_err(refused("query device programs"))?,
        };
        let Some(instructions) = instructions else {
            return detach_all(&cgroup, &old).map_err(refused("detach device program"));
        };
        let program = load(instructions)?;
        if let [one] = old.as_slice()
            && let Ok(one) = bpf::program_by_id(*one)
        {
            // KERNEL(5.6): BPF_F_REPLACE. ENOENT: another process has detached it in the meantime.
            match bpf::attach_device_program(cgroup.as_fd(), program.as_fd(), Some(one.as_fd())) {
                Err(Errno::INVAL | Errno::NOENT) => {}
                other => return other.map_err(refused("replace device program")),
            }
        }
        bpf::attach_device_program(cgroup.as_fd(), program.as_fd(), None).map_err(refused("attach device program"))?;
        detach_all(&cgroup, &old).map_err(refused("detach device program"))
    }
}

fn detach_all(cgroup: &OwnedFd, programs: &[u32]) -> Result<(), Errno> {
    for id in programs {
        let gone = bpf::program_by_id(*id).and_then(|old| bpf::detach_device_program(cgroup.as_fd(), old.as_fd()));
        match gone {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Loads the program. An error contains the verifier's message.
fn load(instructions: &[u8]) -> Result<OwnedFd, Refusal> {
    bpf::load_device_program(instructions, &mut []).map_err(|errno| {
        let mut log = vec![0u8; 1 << 16];
        let verified = matches!(errno, Errno::INVAL | Errno::ACCESS);
        let said = match verified.then(|| bpf::load_device_program(instructions, &mut log)) {
            Some(Err(_)) => {
                String::from_utf8_lossy(log.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
            }
            _ => String::new(),
        };
        let Refusal { errno, error } = refused("load device program")(errno);
        let error = if said.is_empty() { error } else { error!("{error}: the verifier says {:?}", said.trim()) };
        Refusal { errno, error }
    })
}

/// The error if no cgroup directory exists, because coracle could not make one.
fn none_there(what: &str) -> Refusal {
    Refusal { errno: Some(libc::EPERM), error: error!("{DEVICES}: {what}") }
}

/// The failed command of bpf(2), and the kernel's error.
fn refused(what: &'static str) -> impl FnOnce(Errno) -> Refusal {
    move |errno| Refusal {
        errno: Some(errno.raw_os_error()),
        error: Error::from(errno).context(format!("{DEVICES}: bpf: {what}")),
    }
}
