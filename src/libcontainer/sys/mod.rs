//! The only unsafe code: system calls that neither `nix` nor `rustix` wraps, one file for each family of man pages. What `init`
//! calls after the clone uses no heap and no lock.
//!
//! The functions are safe: no argument makes them break memory, or close a descriptor that somebody owns. What only a child of
//! ours can do without harm takes the proof of it (`clone::Alone`). The types do not enforce these rules:
//!
//! - After `fds::close_but` the child keeps what it has opened itself, and never drops it.
//! - The child does not call `fds::close_but` after `fd_sender::begin`.
//! - The program calls `fds::take_inherited` before it makes a thread, and only for a number that its caller has named.

// clone.rs and stack.rs have assembly for two processors; programs for BPF and seccomp read the low half of a word first
#[cfg(not(all(
    any(target_arch = "x86_64", target_arch = "aarch64"),
    target_pointer_width = "64",
    target_endian = "little",
    target_os = "linux"
)))]
compile_error!("libcontainer knows Linux on x86_64 and on aarch64 (64 bits, little-endian) and no other system");

pub mod bounded;
pub mod bpf;
pub mod clone;
pub mod command_line;
pub mod cwd;
pub mod errno;
pub mod exec;
pub mod fd_sender;
pub mod fds;
#[cfg(feature = "checkpoint")]
pub mod handed;
pub mod heap;
pub mod host_proc;
pub mod kernel_file;
pub mod keyring;
pub mod landlock;
pub mod loop_device;
mod maps;
pub mod mount;
pub mod mount_id;
pub mod namespace;
pub mod net;
pub mod own_program;
pub mod page;
pub mod plain;
pub mod probe;
pub mod process_stat;
pub mod process_status;
pub mod retry;
pub mod sched;
pub mod sealed;
pub mod seccomp;
pub mod shared_memory;
pub mod signals;
pub mod stack;

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;

/// As many links as the kernel itself follows in one path: MAXSYMLINKS (linux/namei.h).
pub const MAX_LINKS: u32 = 40;

/// The result of a raw system call, as rustix gives it.
fn checked(result: libc::c_long) -> Result<libc::c_long, Errno> {
    if result >= 0 { Ok(result) } else { Err(last_error()) }
}

/// The address that mmap(2) or mremap(2) has just returned.
fn mapped(address: *mut libc::c_void) -> Result<*mut libc::c_void, Errno> {
    if address == libc::MAP_FAILED { Err(last_error()) } else { Ok(address) }
}

/// errno(3) of the C library's last call.
fn last_error() -> Errno {
    // SAFETY: errno's location is a valid, thread-local int for the life of the thread.
    errno::from_number(unsafe { *libc::__errno_location() })
}

/// Ends the process by an undefined instruction, without a system call. The kernel sends SIGILL, which kills a process that
/// ignores or blocks it too.
fn trap() -> ! {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: nothing comes after it.
    unsafe {
        std::arch::asm!("ud2", options(noreturn))
    };
    #[cfg(target_arch = "aarch64")]
    // SAFETY: nothing comes after it.
    unsafe {
        std::arch::asm!("udf #0", options(noreturn))
    };
}

/// The descriptor that a raw system call has just returned (`checked`).
///
/// # Safety
/// `result` is what a call returned that makes a new descriptor, and nothing else owns that descriptor.
///
/// # Errors
/// EBADF where the number cannot be a descriptor.
unsafe fn owned(result: libc::c_long) -> Result<OwnedFd, Errno> {
    let fd = RawFd::try_from(result).ok().filter(|fd| *fd >= 0).ok_or(Errno::BADF)?;
    // SAFETY: the caller's promise: the descriptor is new, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
