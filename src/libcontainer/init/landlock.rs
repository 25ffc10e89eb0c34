//! The ruleset that restricts the process (landlock(7)). The runtime made it; init adds the paths, because they are
//! paths of the container.

use std::ffi::CStr;
use std::os::fd::AsFd;

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::prepared::{Outcome, Prepared, Trouble};
use super::resolve::{Way, open_in};
use crate::plan::step::{Absent, FILE_ID_SIZE, FILE_RIGHTS, Role, Slot};
use crate::sys;

/// The record of the files at the paths of a ruleset.
#[derive(Clone, Copy)]
pub(super) struct KnownFile {
    pub(super) files: Slot,
    pub(super) nth: usize,
    pub(super) role: Role,
}

impl KnownFile {
    /// False if a later process has found another file than the first process. While the first process lives, its ruleset keeps
    /// the inode, so no other file gets its number.
    fn holds(self, prepared: &Prepared<'_>, found: &Stat) -> Outcome<bool> {
        let (fd, offset) = (prepared.fd(self.files)?, (self.nth * FILE_ID_SIZE) as u64);
        let mut file = [0u8; FILE_ID_SIZE];
        file[..8].copy_from_slice(&found.st_dev.to_ne_bytes());
        file[8..].copy_from_slice(&found.st_ino.to_ne_bytes());
        if self.role == Role::First {
            let written = rustix::io::pwrite(fd, &file, offset)?;
            return if written == FILE_ID_SIZE { Ok(true) } else { Err(Errno::IO.into()) };
        }
        let mut known = [0u8; FILE_ID_SIZE];
        // The record is shorter if the first process has not found a file.
        Ok(rustix::io::pread(fd, &mut known, offset)? == FILE_ID_SIZE && known == file)
    }
}

/// Allows `access` to the file at `path`, or to the directory and all below it. The root has changed already: `/` is the container's.
pub(super) fn allow(
    prepared: &Prepared<'_>,
    ruleset: Slot,
    path: &CStr,
    access: u64,
    absent: Absent,
    known: KnownFile,
) -> Outcome {
    let root = rustix::fs::openat(CWD, c"/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let file = match open_in(root.as_fd(), path, OFlags::PATH | OFlags::CLOEXEC, Way::Any) {
        Err(Trouble { errno: Errno::NOENT | Errno::NOTDIR, .. }) if absent == Absent::Skipped => return Ok(()),
        other => other?,
    };
    let stat = rustix::fs::fstat(&file)?;
    if !known.holds(prepared, &stat)? {
        return match absent {
            Absent::Skipped => Ok(()),
            Absent::Refused => Err(Trouble::saying(Errno::PERM, "this is another file than at create")),
        };
    }
    let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    // landlock_add_rule(2) refuses a right of directories for a file
    let access = if directory { access } else { access & FILE_RIGHTS };
    if access == 0 {
        return Err(Trouble::saying(Errno::NOTDIR, "all these rights are rights of a directory"));
    }
    Ok(sys::landlock::allow_beneath(prepared.fd(ruleset)?, file.as_fd(), access)?)
}

pub(super) fn restrict(prepared: &Prepared<'_>, ruleset: Slot) -> Outcome {
    Ok(sys::landlock::restrict_self(prepared.fd(ruleset)?)?)
}
