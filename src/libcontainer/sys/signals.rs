//! rt_sigaction(2) and rt_sigprocmask(2): a payload starts with every signal at its default and none blocked.

use rustix::io::Errno;

use super::checked;

/// The kernel's own struct sigaction: handler, flags, restorer, mask. All zeros is SIG_DFL.
const DEFAULT: [u64; 4] = [0; 4];

/// Sets every signal's disposition to default and unblocks all. KILL and STOP cannot be changed and need not be.
///
/// # Errors
/// Those of rt_sigprocmask(2).
pub fn reset() -> Result<(), Errno> {
    for signal in (1..=64).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP].contains(signal)) {
        // SAFETY: DEFAULT is a zeroed kernel sigaction (32 bytes on x86_64, of which aarch64 reads 24 and 8);
        // no handler of ours is ever needed again in this process.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, DEFAULT.as_ptr(), 0usize, 8usize) };
    }
    unblock_all()
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
