//! Device access at run time: lines of version 1, the program of version 2.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result, anyhow};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::Cgroup;
use crate::host::has_all_ids;
use crate::plan::resources::DeviceAccess;
use crate::sys::bpf;

const PLACE: &str = "linux.resources.devices";

impl Cgroup {
    /// Restricts the devices, and lets go of restrictions that were there before. Who has only a user namespace of her own
    /// cannot, and need not: the kernel gives her no device that she did not have.
    ///
    /// # Errors
    /// The kernel's word; on version 2 that of bpf(2).
    pub fn apply_devices(&self, access: &DeviceAccess) -> Result<()> {
        let done = match access {
            DeviceAccess::List(list) => self.apply_list(list),
            DeviceAccess::Program(instructions) => self.apply_program(Some(instructions)),
            DeviceAccess::Unrestricted => match self.apply_program(None) {
                // nothing that could restrict, and nothing that should
                Err(error) if forbidden(&error) => Ok(()),
                other => other,
            },
        };
        match done {
            Err(error) if forbidden(&error) && !is_root() => Ok(()),
            other => other,
        }
    }

    fn apply_list(&self, list: &crate::plan::resources::DeviceList) -> Result<()> {
        let key = self.controllers.get("devices").map_or("devices", String::as_str);
        let Some(directory) = self.paths.get(key) else {
            // an ordinary user's container that does without
            return if is_root() { Err(anyhow!("{PLACE}: no cgroup of the controller devices")) } else { Ok(()) };
        };
        let there = fs::read_to_string(directory.join("devices.list"))
            .with_context(|| format!("{PLACE}: read devices.list of {}", directory.display()))?;
        self.apply(&list.writes(&there))
    }

    /// One program instead of those that are there: attached before they are taken away, so that nobody is ever freer
    /// than both allow.
    fn apply_program(&self, instructions: Option<&Vec<u8>>) -> Result<()> {
        let Some(directory) = self.paths.get("").filter(|_| !self.controllers.contains_key("devices")) else {
            return Ok(());
        };
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let cgroup = rustix::fs::openat(CWD, directory, flags, Mode::empty())
            .map_err(io::Error::from)
            .with_context(|| format!("{PLACE}: open {}", directory.display()))?;
        let failed = |what: &'static str| {
            move |errno: Errno| anyhow!(io::Error::from(errno)).context(format!("{PLACE}: bpf: {what}"))
        };
        let old = match bpf::device_programs(cgroup.as_fd()) {
            // KERNEL(4.17): BPF_PROG_QUERY of a cgroup's device programs
            Err(Errno::INVAL) => Vec::new(),
            other => other.map_err(failed("query device programs"))?,
        };
        let Some(instructions) = instructions else {
            return detach_all(&cgroup, &old).map_err(failed("detach device program"));
        };
        let program = load(instructions)?;
        if let [one] = old.as_slice()
            && let Ok(one) = bpf::program_by_id(*one)
        {
            // KERNEL(5.6): BPF_F_REPLACE; ENOENT: somebody else has taken it away meanwhile
            match bpf::attach_device_program(cgroup.as_fd(), program.as_fd(), Some(one.as_fd())) {
                Err(Errno::INVAL | Errno::NOENT) => {}
                other => return other.map_err(failed("replace device program")),
            }
        }
        bpf::attach_device_program(cgroup.as_fd(), program.as_fd(), None).map_err(failed("attach device program"))?;
        detach_all(&cgroup, &old).map_err(failed("detach device program"))
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

/// The program in the kernel. What the verifier has against it is told.
fn load(instructions: &[u8]) -> Result<OwnedFd> {
    let first = match bpf::load_device_program(instructions, &mut []) {
        // KERNEL(5.11): before, a program counted as locked memory
        Err(Errno::PERM) => {
            let limit = getrlimit(Resource::Memlock);
            let _ = setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None });
            let again = bpf::load_device_program(instructions, &mut []);
            // the container is to inherit what we have inherited
            let _ = setrlimit(Resource::Memlock, limit);
            again
        }
        other => other,
    };
    first.map_err(|errno| {
        let mut log = vec![0u8; 1 << 16];
        let refused = matches!(errno, Errno::INVAL | Errno::ACCESS);
        let said = match refused.then(|| bpf::load_device_program(instructions, &mut log)) {
            Some(Err(_)) => {
                String::from_utf8_lossy(log.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
            }
            _ => String::new(),
        };
        let error = anyhow!(io::Error::from(errno)).context(format!("{PLACE}: bpf: load device program"));
        if said.is_empty() { error } else { error.context(format!("the verifier says {:?}", said.trim())) }
    })
}

fn forbidden(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::PermissionDenied)
}

/// Root of the initial user namespace, whose map is all of it (user_namespaces(7)).
fn is_root() -> bool {
    rustix::process::geteuid().is_root() && has_all_ids()
}
