//! clone3(2), unshare(2), setns(2), _exit(2): making processes and moving between namespaces.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::AtomicI32;

use rustix::io::Errno;

use super::{checked, owned};

/// Which side of the clone we are on.
#[derive(Debug)]
pub enum Side {
    /// The new process.
    Child(Alone),
    /// The process that called: the child's pid in our pid namespace and, where asked for, its pidfd.
    Parent(i32, Option<OwnedFd>),
}

/// The proof that we are a process that was just made: it has one thread, and memory that nobody else has.
#[derive(Debug)]
pub struct Alone(());

/// linux/sched.h; the libc crate's constant is an int, which it does not fit.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// struct clone_args of clone3(2), version 2 (Linux 5.7).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Makes a process in new namespaces (`flags`: CLONE_NEW*), made in `cgroup` where one is given (cgroup v2 only).
///
/// The caller must be single threaded, or its child must make only syscalls: the child is a copy of this thread alone.
///
/// # Errors
/// Those of clone3(2); ENOSYS has already been tried as clone(2) when no cgroup was asked for.
pub fn clone(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> Result<Side, Errno> {
    let mut pidfd: libc::c_int = -1;
    let mut args = CloneArgs {
        flags: flags | libc::CLONE_PIDFD as u64,
        pidfd: &raw mut pidfd as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: args is a valid clone_args of the size given; no stack is passed and CLONE_VM is never set, so the child
    // continues on its own copy of this stack; pidfd outlives the call.
    let result = checked(unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) });
    let pid = match result {
        // KERNEL(5.3): clone3; older kernels, and seccomp profiles that hide it, know clone(2)
        Err(Errno::NOSYS) if cgroup.is_none() => legacy(args.flags, args.exit_signal, &raw mut pidfd)?,
        other => other?,
    };
    if pid == 0 {
        super::heap::forbid();
        return Ok(Side::Child(Alone(())));
    }
    // SAFETY: the kernel has just given us this descriptor, and nobody else knows it.
    let pidfd = unsafe { owned(pidfd.into()) }.ok();
    Ok(Side::Parent(i32::try_from(pid).unwrap_or(i32::MAX), pidfd))
}

/// clone(2) with the same meaning. Its pidfd comes through the parent_tid argument.
fn legacy(flags: u64, exit_signal: u64, pidfd: *mut libc::c_int) -> Result<libc::c_long, Errno> {
    // SAFETY: as for clone3: no stack, no CLONE_VM; pidfd is valid for the call. x86_64 and aarch64 both take the flags
    // first, then the stack, then parent_tid.
    checked(unsafe { libc::syscall(libc::SYS_clone, flags | exit_signal, 0usize, pidfd, 0usize, 0usize) })
}

/// Goes on as a new process in new namespaces (`flags`: CLONE_NEW*), a child of our parent (CLONE_PARENT); the old one ends.
/// The kernel notes the new one's pid in `noted`, as the old one counts, before the new one runs. No signal may have a
/// handler.
///
/// Without new namespaces both have the same memory (CLONE_VM), so that nothing is copied: the old one ends in the next
/// instructions, and touches none of it.
///
/// # Errors
/// Those of clone(2), in the old process.
pub fn replace_by_sibling(flags: u64, noted: &AtomicI32) -> Result<(), Errno> {
    let memory = if flags == 0 { libc::CLONE_VM as u64 } else { 0 };
    let flags = flags | memory | libc::CLONE_PARENT as u64 | libc::CLONE_PARENT_SETTID as u64;
    let result: i64;
    // SAFETY: no stack is passed, so the new process goes on with this one. The old one has a positive result, and then ends
    // by exit_group(2) without another look at the memory that they share. `noted` is a valid int for the call.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jle 2f",
            "xor edi, edi",
            "mov eax, {exit_group}",
            "syscall",
            "ud2",
            "2:",
            exit_group = const libc::SYS_exit_group,
            inlateout("rax") libc::SYS_clone => result,
            inlateout("rdi") flags => _,
            in("rsi") 0,
            in("rdx") noted.as_ptr(),
            in("r10") 0,
            in("r8") 0,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        std::arch::asm!(
            "svc 0",
            "cmp x0, 0",
            "b.le 2f",
            "mov x0, 0",
            "mov x8, {exit_group}",
            "svc 0",
            "brk 1",
            "2:",
            exit_group = const libc::SYS_exit_group,
            inlateout("x8") libc::SYS_clone => _,
            inlateout("x0") flags => result,
            in("x1") 0,
            in("x2") noted.as_ptr(),
            in("x3") 0,
            in("x4") 0,
            options(nostack),
        );
    }
    match i32::try_from(result) {
        Ok(0) => Ok(()),
        Ok(errno) => Err(Errno::from_raw_os_error(-errno)),
        Err(_) => Err(Errno::IO),
    }
}

/// unshare(2) with CLONE_NEW* flags.
///
/// # Errors
/// Those of unshare(2).
pub fn unshare(flags: u64) -> Result<(), Errno> {
    // SAFETY: only namespace flags are passed, which touch no memory and no descriptor of ours.
    checked(unsafe { libc::syscall(libc::SYS_unshare, flags) }).map(drop)
}

/// setns(2): `fd` is a namespace file, or (Linux 5.8) a pidfd with several flags.
///
/// # Errors
/// Those of setns(2).
pub fn setns(fd: BorrowedFd<'_>, flags: u64) -> Result<(), Errno> {
    // SAFETY: plain integers; changes only which namespaces this thread uses.
    checked(unsafe { libc::syscall(libc::SYS_setns, fd.as_raw_fd(), flags) }).map(drop)
}

/// The end of a child: no destructors, no atexit handlers, which belong to the process it was copied from. Where a filter
/// denies it, the processor ends it: an instruction that is none is the end of pid 1 as well, and no call.
pub fn exit(status: i32) -> ! {
    // SAFETY: exit_group(2) needs nothing, and returns only where a filter denies it.
    unsafe { libc::syscall(libc::SYS_exit_group, status) };
    trap()
}

/// An instruction that is none, which the kernel makes a SIGILL.
pub(super) fn trap() -> ! {
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

/// A copy of this process to run one hook in (fork(2)): the pid, or 0 in the copy.
///
/// # Errors
/// Those of clone(2).
pub fn fork() -> Result<i32, Errno> {
    // SAFETY: fork semantics by raw clone; the copy makes only syscalls until it execs or exits.
    let pid = checked(unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD as u64, 0usize, 0usize, 0usize, 0usize) })?;
    if pid == 0 {
        super::heap::forbid();
    }
    Ok(i32::try_from(pid).unwrap_or(i32::MAX))
}

/// The user namespace that a namespace belongs to (ioctl_ns(2), NS_GET_USERNS).
///
/// # Errors
/// EPERM when it is outside of our own user namespace.
pub fn owner_of_namespace(fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    const NS_GET_USERNS: u64 = 0xb701;
    // SAFETY: the request takes no argument and returns a new descriptor.
    let owner = checked(unsafe { libc::syscall(libc::SYS_ioctl, fd.as_raw_fd(), NS_GET_USERNS) })?;
    // SAFETY: fresh from the kernel and known to nobody else.
    unsafe { owned(owner) }
}

/// The namespace above a user or pid namespace (ioctl_ns(2), NS_GET_PARENT).
///
/// # Errors
/// EPERM when it is outside of our own.
pub fn parent_of_namespace(fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    const NS_GET_PARENT: u64 = 0xb702;
    // SAFETY: the request takes no argument and returns a new descriptor.
    let parent = checked(unsafe { libc::syscall(libc::SYS_ioctl, fd.as_raw_fd(), NS_GET_PARENT) })?;
    // SAFETY: fresh from the kernel and known to nobody else.
    unsafe { owned(parent) }
}

/// The kind of namespace (CLONE_NEW*) that a file refers to (ioctl_ns(2), NS_GET_NSTYPE).
///
/// # Errors
/// ENOTTY when it is no namespace file at all.
pub fn namespace_kind(fd: BorrowedFd<'_>) -> Result<u64, Errno> {
    const NS_GET_NSTYPE: u64 = 0xb703;
    // SAFETY: the request takes no argument and returns a plain number.
    let kind = checked(unsafe { libc::syscall(libc::SYS_ioctl, fd.as_raw_fd(), NS_GET_NSTYPE) })?;
    Ok(u64::from(u32::try_from(kind).unwrap_or(0)))
}
