//! System calls with arguments that the kernel refuses before it does anything: they show whether the kernel has the call.

use rustix::io::Errno;

use super::checked;

/// A call that is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// pidfd_send_signal(2), Linux 5.1.
    PidfdSendSignal,
    /// fsconfig(2), Linux 5.2. The other calls for new mounts check a capability first.
    Fsconfig,
    /// mount_setattr(2), Linux 5.12.
    MountSetattr,
    /// clone3(2), Linux 5.3.
    Clone3,
    /// close_range(2), Linux 5.9.
    CloseRange,
    /// close_range(2) with CLOSE_RANGE_CLOEXEC, Linux 5.11.
    CloseRangeCloexec,
    /// faccessat2(2), Linux 5.8.
    Faccessat2,
    /// A seccomp filter with a listener, Linux 5.0.
    SeccompListener,
}

/// As an address: NULL. As a size: 0.
const NONE: usize = 0;
/// As a descriptor: -1. As a first number for close_range(2): the last one, which is not open.
const LAST: u32 = u32::MAX;

/// Makes the call. The error says what the kernel refused: `NOSYS` where it does not know the call, `PERM` where a filter
/// or a missing right hides it, another error where it has looked at the arguments.
///
/// # Errors
/// Those of the call.
pub fn try_call(call: Call) -> Result<i64, Errno> {
    // SAFETY: each call has a descriptor of -1, a null pointer with a size of 0, or a range of descriptors that are not open.
    // So the kernel changes nothing, and reads and writes no memory of ours.
    checked(unsafe {
        match call {
            Call::PidfdSendSignal => libc::syscall(libc::SYS_pidfd_send_signal, LAST, 0, NONE, 0),
            Call::Fsconfig => libc::syscall(libc::SYS_fsconfig, LAST, 0, NONE, NONE, 0),
            Call::MountSetattr => libc::syscall(libc::SYS_mount_setattr, LAST, NONE, 0, NONE, NONE),
            Call::Clone3 => libc::syscall(libc::SYS_clone3, NONE, NONE),
            Call::CloseRange => libc::syscall(libc::SYS_close_range, LAST, LAST, 0),
            Call::CloseRangeCloexec => libc::syscall(libc::SYS_close_range, LAST, LAST, libc::CLOSE_RANGE_CLOEXEC),
            Call::Faccessat2 => libc::syscall(libc::SYS_faccessat2, LAST, NONE, 0, libc::AT_EACCESS),
            Call::SeccompListener => libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
                NONE,
            ),
        }
    })
}

/// Whether the kernel has the call. A filter that answers EPERM hides it as well.
pub fn has(call: Call) -> bool {
    match try_call(call) {
        Err(Errno::NOSYS | Errno::PERM | Errno::OPNOTSUPP) => false,
        // an unknown flag
        Err(Errno::INVAL) => !matches!(call, Call::CloseRangeCloexec | Call::SeccompListener),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn this_kernel_has_what_coracle_requires() {
        for call in [Call::PidfdSendSignal, Call::Fsconfig, Call::MountSetattr] {
            assert!(has(call), "{call:?}: {:?}", try_call(call));
        }
    }

    #[test]
    fn a_probe_closes_no_descriptor() {
        let file = std::fs::File::open("/proc/self/stat").unwrap();
        let high = rustix::io::fcntl_dupfd_cloexec(&file, 900).unwrap();
        for call in [Call::CloseRange, Call::CloseRangeCloexec] {
            try_call(call).unwrap();
        }
        for open in [file.as_fd(), high.as_fd()] {
            rustix::fs::fstat(open).unwrap();
        }
    }
}
