//! Descriptors by number: whole ranges of them, and those that this process was started with.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};

use super::checked;
use super::clone::Alone;

/// Without close_range(2), numbers up to this one are tried one by one, and up to RLIMIT_NOFILE if that is higher.
const LAST_FD: u32 = 65535;

/// The last number that is tried.
fn last_fd() -> u32 {
    // A filter that denies close_range(2) may deny prlimit64(2). rustix does not report that.
    let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE);
    limit.map_or(MOST_FDS, |(soft, _)| u32::try_from(soft).unwrap_or(MOST_FDS)).clamp(LAST_FD, MOST_FDS)
}

/// The highest possible limit, unless the administrator has raised fs.nr_open (proc_sys_fs(5)).
const MOST_FDS: u32 = 1 << 20;

/// Makes `number` a copy of `fd`, without close-on-exec: dup3(2). Only a child can do this: it has moved what it uses to higher
/// numbers.
///
/// # Errors
/// Those of dup3(2).
pub fn pass_as(_alone: &Alone, fd: BorrowedFd<'_>, number: RawFd) -> Result<(), Errno> {
    // SAFETY: an owner of the number still owns an open one; only the file behind it changes.
    checked(unsafe { libc::syscall(libc::SYS_dup3, fd.as_raw_fd(), number, 0) }).map(drop)
}

/// Makes the number of `fd` refer to the file of `new`: dup3(2) with close-on-exec.
///
/// # Errors
/// Those of dup3(2).
pub fn replace(_alone: &Alone, fd: BorrowedFd<'_>, new: &OwnedFd) -> Result<(), Errno> {
    // SAFETY: the number stays open all the time, and its owner does not change; only the file behind it does.
    checked(unsafe { libc::syscall(libc::SYS_dup3, new.as_raw_fd(), fd.as_raw_fd(), libc::O_CLOEXEC) }).map(drop)
}

/// Closes every descriptor from `first` up except those of `kept` (close_range(2)). Only a child can do this: it never drops what
/// it has from its parent (`Alone`), and must not drop what it has opened itself.
///
/// # Errors
/// Those of close_range(2).
pub fn close_but<'k>(
    _alone: &Alone,
    first: u32,
    kept: impl Iterator<Item = BorrowedFd<'k>> + Clone,
) -> Result<(), Errno> {
    let mut first = first;
    loop {
        // a borrowed descriptor is never negative
        let next = kept.clone().map(|fd| fd.as_raw_fd().cast_unsigned()).filter(|fd| *fd >= first).min();
        match next {
            None => return close_range(first, u32::MAX),
            Some(fd) if fd > first => close_range(first, fd - 1)?,
            Some(_) => {}
        }
        first = next.unwrap_or(first) + 1;
    }
}

/// close_range(2). KERNEL(5.9): on an older kernel, or under a profile that does not know it, one close(2) for each number.
fn close_range(first: u32, last: u32) -> Result<(), Errno> {
    // SAFETY: the caller (`close_but`) is a child, which never drops the owners of these.
    match checked(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }) {
        Err(Errno::NOSYS | Errno::PERM) => {
            for number in first..=last.min(last_fd()) {
                // SAFETY: as above; a number that is not open is EBADF.
                let _ = unsafe { libc::syscall(libc::SYS_close, number) };
            }
            Ok(())
        }
        other => other.map(drop),
    }
}

/// Sets close-on-exec on every descriptor from `first` up (close_range(2)).
///
/// # Errors
/// Those of close_range(2).
pub fn close_on_exec_from(first: u32) -> Result<(), Errno> {
    // SAFETY: only sets a flag; no descriptor is closed under its owner.
    match checked(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) }) {
        // KERNEL(5.11): CLOSE_RANGE_CLOEXEC; on an older kernel, or under a filter that does not know it (a hook's, at start),
        // one fcntl(2) for each number
        Err(Errno::NOSYS | Errno::INVAL | Errno::PERM) => {
            for number in first..=last_fd() {
                // SAFETY: only sets a flag; a number that is not open is EBADF.
                let _ = unsafe { libc::syscall(libc::SYS_fcntl, number, libc::F_SETFD, libc::FD_CLOEXEC) };
            }
            Ok(())
        }
        other => other.map(drop),
    }
}

/// Starts the program. `Command::spawn` panics if the program cannot be executed and its exit status is lost.
///
/// # Errors
/// Those of `Command::spawn`. The program was not started: the kernel would not keep its exit status, or its file is missing.
pub fn spawn(command: &mut Command) -> io::Result<Child> {
    if !super::signals::keeps_exit_statuses() {
        return Err(io::Error::other("the calling program ignores SIGCHLD, so the exit status would be lost"));
    }
    // A thread of the caller that waits for all children could take the status before `Command::spawn`: most often the file is missing.
    let program = Path::new(command.get_program());
    if program.is_absolute() {
        program.metadata()?;
    }
    command.spawn()
}

/// A pidfd of a program that we have started. Without one, nothing would wait for the program: it and its process group end.
///
/// # Errors
/// Those of pidfd_open(2).
pub fn pidfd_of(child: &mut Child) -> Result<OwnedFd, Errno> {
    let pid = Pid::from_child(child);
    rustix::process::pidfd_open(pid, PidfdFlags::empty()).inspect_err(|_| {
        let _ = rustix::process::kill_process_group(pid, Signal::KILL);
        let _ = child.kill().and_then(|()| child.wait());
    })
}

/// The program that `command` starts gets its three streams and nothing else of ours: no descriptor and no blocked
/// signal. It ends when we end, so that a hook does not continue for a container that has been deleted meanwhile.
pub fn keep_only_stdio(command: &mut Command) {
    let start = || {
        super::heap::forbid();
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        super::signals::unblock_all()?;
        Ok(close_on_exec_from(3)?)
    };
    // SAFETY: after the fork the closure makes three system calls. It touches its own stack, and one flag of its own process.
    unsafe { command.pre_exec(start) };
}

/// True when descriptor `number` is open and without close-on-exec: our caller has passed it to us.
pub fn is_inherited(number: u32) -> bool {
    // SAFETY: only reads a flag; a number that is not open is EBADF.
    checked(unsafe { libc::syscall(libc::SYS_fcntl, number, libc::F_GETFD) }).is_ok_and(|flags| flags == 0)
}

/// The file of descriptor `number`, which our caller has passed to us. From then on the number refers to another file, with
/// close-on-exec. So the result is our only descriptor of the file, and programs that we start do not inherit it. None if the
/// number is not open, has close-on-exec, or is a standard stream.
pub fn take_inherited(number: u32) -> Option<OwnedFd> {
    if number < 3 || !is_inherited(number) {
        return None;
    }
    // SAFETY: fcntl(2) makes a new descriptor of an open one, and does not change the owner of the old one.
    let copy = unsafe { libc::syscall(libc::SYS_fcntl, number, libc::F_DUPFD_CLOEXEC, 3) };
    let copy = RawFd::try_from(checked(copy).ok()?).ok()?;
    // SAFETY: the kernel has just made this descriptor, and nothing else owns it.
    let copy = unsafe { OwnedFd::from_raw_fd(copy) };
    let other = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).ok()?;
    // SAFETY: the number stays open all the time, and its owner does not change; only the file behind it does.
    checked(unsafe { libc::syscall(libc::SYS_dup3, other.as_raw_fd(), number, libc::O_CLOEXEC) }).ok()?;
    Some(copy)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::sys::clone::{clone, exit};
    use crate::sys::seccomp::{failing, load};
    use rustix::process::{WaitId, WaitIdOptions};

    #[test]
    fn descriptors_are_closed_with_and_without_close_range() {
        let program = failing(libc::SYS_close_range, Errno::NOSYS);
        let file = std::fs::File::open("/dev/null").unwrap();
        let copies = [10, 11, 40, 300].map(|least| rustix::io::fcntl_dupfd_cloexec(&file, least).unwrap());
        copies.iter().for_each(|copy| rustix::io::fcntl_setfd(copy, rustix::io::FdFlags::empty()).unwrap());
        for old in [false, true] {
            let (_, child) = clone(0, None, |alone| {
                let hide = || rustix::thread::set_no_new_privs(true).and_then(|()| load(&program, 0).map(drop));
                if old && (hide().is_err() || close_range(0, 0) != Ok(())) {
                    exit(1)
                }
                let flag = |copy: &OwnedFd| rustix::io::fcntl_getfd(copy).map(|flags| flags.bits());
                if close_on_exec_from(11) != Ok(())
                    || copies.iter().any(|copy| flag(copy) != Ok(u32::from(copy.as_raw_fd() > 10)))
                {
                    exit(2)
                }
                let kept = [copies[1].as_fd(), copies[3].as_fd()];
                let closed = close_but(alone, 0, kept.into_iter());
                let open = copies.each_ref().map(|copy| flag(copy).is_ok());
                exit(if closed.is_ok() && open == [false, true, false, true] { 7 } else { 3 })
            })
            .unwrap();
            let status = rustix::process::waitid(WaitId::PidFd(child.as_fd()), WaitIdOptions::EXITED).unwrap();
            assert_eq!(status.unwrap().exit_status(), Some(7), "without close_range: {old}");
        }
    }
}
