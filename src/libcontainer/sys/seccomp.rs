//! seccomp(2): loading a filter that was compiled before the fork.

use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::{checked, owned};

/// One BPF instruction (struct sock_filter of linux/filter.h).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SockFilter {
    code: u16,
    jump_true: u8,
    jump_false: u8,
    k: u32,
}

/// A filter as the kernel takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program(Vec<SockFilter>);

impl Program {
    /// The instructions in `bytes`, eight bytes each in the machine's own order.
    ///
    /// # Errors
    /// `INVAL` when the last one is not whole.
    pub fn from_bytes(bytes: &[u8]) -> Result<Program, Errno> {
        let instructions = bytes.chunks_exact(8);
        if !instructions.remainder().is_empty() {
            return Err(Errno::INVAL);
        }
        Ok(Program(
            instructions
                .map(|b| SockFilter {
                    code: u16::from_ne_bytes([b[0], b[1]]),
                    jump_true: b[2],
                    jump_false: b[3],
                    k: u32::from_ne_bytes([b[4], b[5], b[6], b[7]]),
                })
                .collect(),
        ))
    }

    /// How many instructions it has.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True for a program without instructions, which the kernel refuses.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// struct sock_fprog.
#[repr(C)]
struct SockFprog {
    length: u16,
    instructions: *const SockFilter,
}

/// Loads `program` for this process and all it becomes. With SECCOMP_FILTER_FLAG_NEW_LISTENER in `flags` the listener
/// is returned, close-on-exec.
///
/// # Errors
/// Those of seccomp(2): EACCES without no_new_privs and CAP_SYS_ADMIN, EINVAL for a flag the kernel does not know.
pub fn load(program: &Program, flags: u32) -> Result<Option<OwnedFd>, Errno> {
    let filter = SockFprog {
        length: u16::try_from(program.len()).map_err(|_| Errno::TOOBIG)?,
        instructions: program.0.as_ptr(),
    };
    // SAFETY: filter points to `length` instructions that live through the call; the kernel copies them.
    let result =
        checked(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const filter) })?;
    // SAFETY: with NEW_LISTENER the result is a new descriptor, and nothing else owns it.
    has_listener(flags).then(|| unsafe { owned(result) }).transpose()
}

/// True if loading a filter with these flags returns a listener.
pub fn has_listener(flags: u32) -> bool {
    u64::from(flags) & libc::SECCOMP_FILTER_FLAG_NEW_LISTENER != 0
}

/// True when this kernel knows the flag of that name, for example `SECCOMP_FILTER_FLAG_LOG`. No filter is loaded.
pub fn takes_flag(name: &str) -> bool {
    let flag = match name.strip_prefix("SECCOMP_FILTER_FLAG_") {
        Some("TSYNC") => libc::SECCOMP_FILTER_FLAG_TSYNC,
        Some("LOG") => libc::SECCOMP_FILTER_FLAG_LOG,
        Some("SPEC_ALLOW") => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
        // the kernel takes it together with a listener only
        Some("WAIT_KILLABLE_RECV") => {
            libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV | libc::SECCOMP_FILTER_FLAG_NEW_LISTENER
        }
        _ => return false,
    };
    let nothing = std::ptr::null::<SockFprog>();
    // SAFETY: the kernel checks the flags first, and then returns EFAULT, because there is no filter at address 0.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flag, nothing) };
    checked(result) == Err(Errno::FAULT)
}

#[cfg(test)]
mod tests {
    #[test]
    fn half_an_instruction_is_refused() {
        let returns = [6, 0, 0, 0, 0, 0, 0xff, 0x7f];
        assert_eq!(super::Program::from_bytes(&returns).unwrap().len(), 1);
        assert_eq!(super::Program::from_bytes(&returns[..7]), Err(rustix::io::Errno::INVAL));
    }

    #[test]
    fn an_unknown_flag_is_not_accepted() {
        assert!(super::takes_flag("SECCOMP_FILTER_FLAG_TSYNC"));
        assert!(!super::takes_flag("SECCOMP_FILTER_FLAG_NONSENSE"));
    }
}
