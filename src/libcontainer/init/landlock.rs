//! The ruleset that restricts the process (landlock(7)). The runtime made it; init adds the paths, because they are
//! paths of the container.

use std::ffi::CStr;
use std::os::fd::AsFd;

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::prepared::{Outcome, Prepared, Trouble};
use super::resolve::{Way, open_in};
use crate::plan::step::{Absent, FILE_RIGHTS, Slot};
use crate::sys;

/// Allows `access` to what is at `path`, and below it. The root has changed already: `/` is the container's.
pub(super) fn allow(prepared: &Prepared<'_>, ruleset: Slot, path: &CStr, access: u64, absent: Absent) -> Outcome {
    let root = rustix::fs::openat(CWD, c"/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let file = match open_in(root.as_fd(), path, OFlags::PATH | OFlags::CLOEXEC, Way::Any) {
        Err(Trouble { errno: Errno::NOENT | Errno::NOTDIR, .. }) if absent == Absent::Skipped => return Ok(()),
        other => other?,
    };
    // landlock_add_rule(2) refuses a right of directories for a file
    let directory = FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) == FileType::Directory;
    let access = if directory { access } else { access & FILE_RIGHTS };
    if access == 0 {
        return Err(Trouble::saying(Errno::NOTDIR, "all these rights are rights of a directory"));
    }
    Ok(sys::landlock::allow_beneath(prepared.fd(ruleset)?, file.as_fd(), access)?)
}

pub(super) fn restrict(prepared: &Prepared<'_>, ruleset: Slot) -> Outcome {
    Ok(sys::landlock::restrict_self(prepared.fd(ruleset)?)?)
}
