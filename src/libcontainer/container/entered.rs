//! The namespaces of init that another process may join. A process without any rights can make a user namespace, and then others
//! that belong to it: there, it controls every path, and no mount is read-only. So the record notes the namespaces that we have
//! made.

use std::os::fd::AsFd;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use super::Container;
use crate::error::{Context, Error, Result, bail, error};
use crate::host::Namespace;
use crate::sys::namespace::owner_of_namespace;

impl Container {
    /// Checks that `found` may be joined: `pid`'s namespace with this name in /proc/PID/ns. It belongs to the container's user
    /// namespace or to ours: whoever has made it had CAP_SYS_ADMIN there. Or it is the recorded one, and no mount namespace.
    ///
    /// # Errors
    /// The container's first process is in another namespace now.
    pub(crate) fn must_own(&self, name: &str, found: Namespace, pid: i32) -> Result<()> {
        let recorded = self.recorded_namespace(name);
        // The kernel uses the number of a namespace again after its end. So it does not identify a mount namespace that init may
        // have left. A user namespace lives as long as those below it.
        if recorded == Some(found) && name != "mnt" {
            return Ok(());
        }
        if name == "user" {
            // A record of runc, or of an older coracle, does not say.
            return if recorded.is_none() { Ok(()) } else { Err(in_other_namespace(name)) };
        }
        let path = format!("/proc/{pid}/ns/{name}");
        let file = rustix::fs::openat(CWD, &path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .with_context(|| format!("open {path}"))?;
        self.must_be_owner_of(name, file)
    }

    /// The same for a namespace that is open, without a look at the record of it.
    ///
    /// # Errors
    /// The container's first process is in another namespace now, or the kernel's error.
    pub(crate) fn must_be_owner_of(&self, name: &str, file: impl AsFd) -> Result<()> {
        let failed = |errno| Error::from(errno).context(format!("look at the container's {name} namespace"));
        let owner = match owner_of_namespace(file.as_fd()) {
            Ok(owner) => Namespace::of_file(owner).map_err(failed)?,
            // It belongs to a user namespace outside of ours, and nobody in the container has made that one.
            Err(Errno::PERM) => return Ok(()),
            Err(errno) => return Err(failed(errno)),
        };
        let users = self.recorded_namespace("user").or_else(|| self.users_without_a_record());
        if users == Some(owner) || Namespace::ours("user").ok() == Some(owner) {
            return Ok(());
        }
        bail!("{}", in_other_namespace(name))
    }

    /// For a record of runc, or of an older coracle.
    fn users_without_a_record(&self) -> Option<Namespace> {
        let record = self.record();
        let has_users = record.config.namespaces.iter().any(|namespace| namespace.kind == "NEWUSER");
        // If it cannot be read, it is unknown, and the check refuses the namespace.
        has_users.then(|| Namespace::of(record.init_process_pid, "user").ok()).flatten()
    }

    fn recorded_namespace(&self, name: &str) -> Option<Namespace> {
        let (device, inode) = *self.record().coracle.as_ref()?.namespaces.get(name)?;
        Some(Namespace::new(device, inode))
    }
}

fn in_other_namespace(name: &str) -> crate::error::Error {
    error!(
        "the container's first process is in another {name} namespace than at create, which belongs to another user namespace: \
         a process without rights may have made it"
    )
}
