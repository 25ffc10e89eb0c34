//! rt_sigaction(2), rt_sigprocmask(2), pidfd_send_signal(2): dispositions, masks, and signals to other processes.

use rustix::io::Errno;

use super::checked;

/// The kernel's own struct sigaction: handler, flags, restorer, mask. Zeros mean SIG_DFL.
const DEFAULT: [u64; 4] = [0; 4];

/// Sets the disposition of every signal to its default, and unblocks all. Those of KILL and STOP never change.
///
/// # Errors
/// Those of rt_sigaction(2) and rt_sigprocmask(2).
pub fn reset() -> Result<(), Errno> {
    for signal in (1..=64).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP].contains(signal)) {
        // SAFETY: DEFAULT is a zeroed kernel sigaction (32 bytes on x86_64, of which aarch64 reads 24 and 8);
        // no handler is needed in this process any more.
        checked(unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, DEFAULT.as_ptr(), 0usize, 8usize) })?;
    }
    unblock_all()
}

/// The signals that ask a process to end.
pub const END: [i32; 4] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT];

/// From now on, each of `END` ends this process with the status 128 plus the signal's number, as a shell reports it. The kernel
/// delivers a signal to the first process of a pid namespace only if it has a handler (pid_namespaces(7)). execve(2) removes the
/// handlers.
///
/// # Errors
/// Those of rt_sigaction(2).
pub fn exit_on_end_signals() -> Result<(), Errno> {
    extern "C" fn exit(signal: libc::c_int) {
        // SAFETY: exit_group(2) takes an integer, and is async-signal-safe.
        unsafe { libc::syscall(libc::SYS_exit_group, 128 + signal) };
    }
    // SAFETY: sigaction is plain data, for which zeros are valid.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = exit as *const () as usize;
    for signal in END {
        // SAFETY: the handler makes one system call, and is in our text as long as the process runs it.
        checked(unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) }.into())?;
    }
    Ok(())
}

/// Sets SIGCHLD to its default. If it stayed ignored, as a caller may leave it, the kernel would not keep the exit status of a
/// child (wait(2), NOTES).
pub fn reset_sigchld() {
    // SAFETY: DEFAULT is a zeroed kernel sigaction, as in `reset`; no handler of ours is replaced.
    unsafe { libc::syscall(libc::SYS_rt_sigaction, libc::SIGCHLD, DEFAULT.as_ptr(), 0usize, 8usize) };
}

/// Blocks every signal for this thread, and returns the mask from before. A child that is made meanwhile does not run the
/// handlers of its parent.
///
/// # Errors
/// Those of rt_sigprocmask(2).
pub fn block_all() -> Result<u64, Errno> {
    let (all, mut before) = (u64::MAX, 0u64);
    // SAFETY: both masks are eight bytes, as the last argument says.
    checked(unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const all, &raw mut before, 8usize)
    })
    .map(|_| before)
}

/// Restores the mask that `block_all` returned.
pub fn restore_mask(before: u64) {
    // SAFETY: as above; a mask that the kernel gave is one that it takes.
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const before, 0usize, 8usize) };
}

/// Unblocks every signal.
///
/// # Errors
/// Those of rt_sigprocmask(2).
pub fn unblock_all() -> Result<(), Errno> {
    let none = 0u64;
    // SAFETY: the mask is eight bytes, as the last argument says.
    checked(unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const none, 0usize, 8usize) })
        .map(drop)
}

/// Sends any signal, also those that have no name (pidfd_send_signal(2)). KERNEL(5.1).
///
/// # Errors
/// ESRCH if the process has ended, EINVAL if the number is not a signal.
pub fn send(pidfd: std::os::fd::BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    use std::os::fd::AsRawFd;
    // SAFETY: plain integers; no siginfo is passed.
    checked(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, 0usize, 0) }).map(drop)
}

/// The pid of a child that has ended, if there is one. It is not reaped.
pub fn ended_child() -> Option<i32> {
    // SAFETY: siginfo_t is plain data, for which zeros are valid.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: info is a valid siginfo_t for the kernel to fill; no rusage is asked for.
    checked(unsafe { libc::syscall(libc::SYS_waitid, libc::P_ALL, 0, &raw mut info, options, 0usize) }).ok()?;
    // SAFETY: after waitid the pid is set, or still zero where no child had ended.
    match unsafe { info.si_pid() } {
        0 => None,
        pid => Some(pid),
    }
}

/// True if the signal is ignored, as nohup(1) leaves SIGHUP.
pub fn is_ignored(signal: i32) -> bool {
    action(signal).is_some_and(|[handler, ..]| handler == libc::SIG_IGN as u64)
}

/// False if the kernel does not keep the exit status of a child until we reap it: SIGCHLD is ignored, or has SA_NOCLDWAIT (wait(2),
/// NOTES). Then a wait for a child by its pid waits for its end, and returns an error.
pub fn keeps_exit_statuses() -> bool {
    let no_wait = u64::from(libc::SA_NOCLDWAIT.unsigned_abs());
    action(libc::SIGCHLD).is_none_or(|[handler, flags, ..]| handler != libc::SIG_IGN as u64 && flags & no_wait == 0)
}

/// The kernel's sigaction of this signal.
fn action(signal: i32) -> Option<[u64; 4]> {
    let mut action = DEFAULT;
    // SAFETY: no new action is given; the old one is a kernel sigaction, for which action has the room (see `reset`).
    let requested = unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, 0usize, action.as_mut_ptr(), 8usize) };
    (requested == 0).then_some(action)
}

/// Ends this process by `signal`, whatever its disposition was. Returns if the default action of the signal is another one.
///
/// # Errors
/// Those of rt_sigprocmask(2), pidfd_open(2) and pidfd_send_signal(2).
pub fn end_by(signal: i32) -> Result<(), Errno> {
    // SAFETY: DEFAULT is a zeroed kernel sigaction, as in `reset`.
    unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, DEFAULT.as_ptr(), 0usize, 8usize) };
    unblock_all()?;
    let own = rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty())?;
    send(std::os::fd::AsFd::as_fd(&own), signal)
}
