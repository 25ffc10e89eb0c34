//! getcwd(2) without a buffer on the heap.

use rustix::io::Errno;

use super::checked;

/// The current directory as the kernel sees it, without the NUL. A directory outside the root begins with
/// `(unreachable)` instead of `/` (getcwd(2), Linux 2.6.36).
///
/// # Errors
/// Those of getcwd(2).
pub fn getcwd(buffer: &mut [u8]) -> Result<&[u8], Errno> {
    // SAFETY: the kernel writes at most buffer.len() bytes into the buffer.
    let length = checked(unsafe { libc::syscall(libc::SYS_getcwd, buffer.as_mut_ptr(), buffer.len()) })?;
    let length = usize::try_from(length).map_err(|_| Errno::RANGE)?;
    buffer.get(..length.saturating_sub(1)).ok_or(Errno::RANGE)
}
