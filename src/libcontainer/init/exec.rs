//! The last steps: the working directory, the descriptors, the search for the program, and the exec.

use std::ffi::CStr;
use std::os::fd::AsFd;

use rustix::fs::{Access, AtFlags, CWD, FileType};
use rustix::io::Errno;

use super::prepared::{Outcome, Prepared, Trouble};
use crate::plan::step::{Execve, Kept, Slot};
use crate::sys;
use crate::wire::About;

/// Enters the working directory with the rights of root. `chdir` tries again after the ids have changed: root may not be allowed
/// to enter, or the directory does not exist for the bridge (/proc/self, if it is not in the pid namespace). The check is made
/// here, because later a filter may forbid getcwd(2).
pub(super) fn try_chdir(prepared: &Prepared<'_>, path: &CStr) -> Outcome {
    match rustix::process::chdir(path) {
        Ok(()) => {
            prepared.results.arrived.set(true);
            must_be_inside()
        }
        Err(Errno::ACCESS | Errno::PERM | Errno::NOENT) => Ok(()),
        Err(other) => Err(other.into()),
    }
}

/// Enters the working directory with the rights of the user, unless `try_chdir` has done it.
pub(super) fn chdir(prepared: &Prepared<'_>, path: &CStr) -> Outcome {
    if prepared.results.arrived.get() {
        return Ok(());
    }
    rustix::process::chdir(path)?;
    must_be_inside()
}

/// A process could leave the container by a working directory outside the root (CVE-2024-21626). getcwd(2) returns
/// `(unreachable)` for such a directory.
fn must_be_inside() -> Outcome {
    let mut buffer = [0u8; 4096];
    match sys::cwd::getcwd(&mut buffer) {
        Ok(cwd) if cwd.starts_with(b"/") => Ok(()),
        Ok(_) | Err(Errno::NOENT) => Err(Trouble::saying(Errno::NOENT, "the directory is not inside the container")),
        Err(other) => Err(other.into()),
    }
}

/// The descriptors that are kept are close-on-exec already.
pub(super) fn close_fds(prepared: &Prepared<'_>, first: u32, kept: &Kept) -> Outcome {
    let opened = kept.slots.iter().filter_map(|slot: &Slot| prepared.fd(*slot).ok());
    let host_proc = kept.host_proc.then(|| prepared.proc.as_fd());
    let kept = opened.chain(host_proc).chain([prepared.socket.as_fd()]);
    sys::fds::close_but(prepared.alone, first, kept)?;
    if let Some((soft, hard)) = prepared.nofile {
        sys::sched::set_limit(0, libc::RLIMIT_NOFILE, soft, hard)?;
    }
    Ok(())
}

/// Reports errors at `create` that `exec` would report only at `start`.
pub(super) fn find_program(exec: &Execve) -> Outcome {
    let mut found = Trouble::from(Errno::NOENT);
    for (n, path) in exec.candidates.iter().enumerate() {
        match rustix::fs::statat(CWD, path, AtFlags::empty()) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                found = of_candidate(n, Errno::ISDIR)
            }
            Ok(_) => match rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS) {
                Ok(()) => return Ok(()),
                // KERNEL(5.8): faccessat2; if it is missing, or the filter does not know it, the exec itself reports
                // the error
                Err(Errno::NOSYS | Errno::PERM) => return Ok(()),
                Err(errno) => found = of_candidate(n, errno),
            },
            Err(errno) if is_missing(exec, errno) => {}
            Err(errno) => found = of_candidate(n, errno),
        }
    }
    Err(found)
}

/// Tries the candidates as execvp(3) does. The result is the last error that is not just "not found".
pub(super) fn exec(prepared: &Prepared<'_>, exec: &Execve) -> Outcome {
    let home = prepared.results.home.borrow();
    let home = CStr::from_bytes_until_nul(&home).ok();
    let mut error = Trouble::from(Errno::NOENT);
    for (n, path) in exec.candidates.iter().enumerate() {
        match sys::exec::execve(path, &exec.args, &exec.env, home) {
            errno if is_missing(exec, errno) => {}
            errno => error = of_candidate(n, errno),
        }
    }
    Err(error)
}

/// True if `errno` says only that the program does not exist. ENOTDIR of a single candidate is reported: its path leads below a file.
fn is_missing(exec: &Execve, errno: Errno) -> bool {
    errno == Errno::NOENT || errno == Errno::NOTDIR && exec.candidates.len() > 1
}

/// The error, and the number of the candidate. The runtime looks for the cause there only.
fn of_candidate(n: usize, errno: Errno) -> Trouble {
    u32::try_from(n).map_or(errno.into(), |n| Trouble::about(errno, About::Candidate(n)))
}
