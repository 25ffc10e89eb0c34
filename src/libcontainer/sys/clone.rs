//! clone3(2), clone(2), _exit(2): makes processes, and ends them.

use std::convert::Infallible;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::errno::from_number;
use super::namespace::must_be_of_clone;
use super::page::FirstChildPage;
use super::shared_memory::OwnWord;
use super::{checked, heap, owned, shared_memory, trap};

/// The proof that this process is a child of `clone` or `fork`. Safe code of ours runs in one thread there (`std` cannot make
/// another one without the heap), in memory that no other process has. The child never returns to the code that made it, so no
/// owner that it has from its parent is dropped by a return.
#[derive(Debug)]
pub struct Alone(PhantomData<*mut ()>);

/// The exit status of a child that panics. Rust uses it for a program that panics.
const PANICKED: i32 = 101;

/// Ends the child when `work` panics. Without this a panic would unwind into the code of the parent, which the child has a copy
/// of, and that code would run twice.
struct EndOnPanic;

impl Drop for EndOnPanic {
    fn drop(&mut self) {
        exit(PANICKED)
    }
}

/// Runs `work` in a child that was just made.
fn run_child(work: impl FnOnce(&Alone) -> Infallible) -> ! {
    heap::forbid();
    shared_memory::is_new_process();
    let _end = EndOnPanic;
    match work(&Alone(PhantomData)) {}
}

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

/// Runs `child` in a new process, in new namespaces (`flags`: CLONE_NEW*), and in `cgroup` if one is given (cgroup v2 only).
/// Returns the child's pid in our pid namespace, and its pidfd.
///
/// The child has a copy of the calling thread alone. To it, every other thread looks like one that has stopped for ever. So
/// `child` must make system calls only: it would wait for ever for a lock that another thread held, such as the allocator's
/// (`heap`).
///
/// # Errors
/// Those of clone3(2). ENOSYS has already been tried as clone(2) when no cgroup was asked for. `INVAL` for a flag that is not
/// one of a namespace.
pub fn clone(
    flags: u64,
    cgroup: Option<BorrowedFd<'_>>,
    child: impl FnOnce(&Alone) -> Infallible,
) -> Result<(i32, OwnedFd), Errno> {
    must_be_of_clone(flags)?;
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
    // SAFETY: args is a valid clone_args of the size given, and pidfd outlives the call. No stack is passed and CLONE_VM is not
    // set (`must_be_of_clone`), so the child continues on its own copy of this stack. There it runs `child`, which never
    // returns.
    let result = checked(unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) });
    let pid = match result {
        // KERNEL(5.3): clone3; older kernels, and seccomp profiles that hide it, know clone(2)
        Err(Errno::NOSYS) if cgroup.is_none() => legacy(args.flags, args.exit_signal, &raw mut pidfd)?,
        other => other?,
    };
    if pid == 0 {
        run_child(child)
    }
    // Linux before 5.2 ignores CLONE_PIDFD in clone(2)
    // SAFETY: the kernel has just given us this descriptor, and nobody else knows it.
    let pidfd = unsafe { owned(pidfd.into()) }.map_err(|_| Errno::NOSYS)?;
    Ok((i32::try_from(pid).map_err(|_| Errno::OVERFLOW)?, pidfd))
}

/// clone(2) with the same meaning. Its pidfd comes through the parent_tid argument.
fn legacy(flags: u64, exit_signal: u64, pidfd: *mut libc::c_int) -> Result<libc::c_long, Errno> {
    // SAFETY: as for clone3: no stack, no CLONE_VM; pidfd is valid for the call. x86_64 and aarch64 both take the flags
    // first, then the stack, then parent_tid.
    checked(unsafe { libc::syscall(libc::SYS_clone, flags | exit_signal, 0usize, pidfd, 0usize, 0usize) })
}

/// Continues as a new process in new namespaces (`flags`: CLONE_NEW*), a child of our parent (CLONE_PARENT). The old process
/// ends. Before the new process runs, the kernel writes its pid to `first_child`, as the pid namespace of the old process counts. The
/// new process does not have that memory. No signal may have a handler.
///
/// ORDER: CVE-2016-9962: the new process may be traced from its first moment on. So it shares no memory with the old one, which
/// is outside of the container's pid namespace and has one call left.
///
/// # Errors
/// Those of madvise(2) and clone(2), in the old process; `INVAL` as for `clone`.
pub fn replace_by_sibling(_alone: &Alone, flags: u64, first_child: &FirstChildPage) -> Result<(), Errno> {
    must_be_of_clone(flags)?;
    first_child.hide_from_children()?;
    let flags = flags | libc::CLONE_PARENT as u64 | libc::CLONE_PARENT_SETTID as u64;
    let noted = first_child.pid_pointer();
    let result: i64;
    // SAFETY: no stack is passed and CLONE_VM is not set, so the new process continues on its own copy of this one. The old process
    // sees a positive result, and ends by exit_group(2). `noted` is a valid int for the call. The process is a child (`Alone`), so
    // its end takes no other thread with it.
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
            in("rdx") noted,
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
            in("x2") noted,
            in("x3") 0,
            in("x4") 0,
            options(nostack),
        );
    }
    match i32::try_from(result) {
        Ok(0) => {
            shared_memory::is_new_process();
            Ok(())
        }
        Ok(errno) => Err(from_number(errno.saturating_neg())),
        Err(_) => Err(Errno::IO),
    }
}

/// Ends a child. Destructors and atexit(3) handlers do not run: they belong to the process that it was copied from. If a filter
/// denies the call, an undefined instruction ends the process, pid 1 of a pid namespace too.
pub fn exit(status: i32) -> ! {
    // SAFETY: exit_group(2) needs nothing, and returns only where a filter denies it.
    unsafe { libc::syscall(libc::SYS_exit_group, status) };
    trap()
}

/// Waits for so many seconds (ppoll(2) for nothing), or until a signal kills this process, and exits then. If a filter denies a call,
/// an undefined instruction ends the process.
pub fn exit_after(seconds: i64) -> ! {
    let time = libc::timespec { tv_sec: seconds, tv_nsec: 0 };
    // SAFETY: ppoll(2) for no descriptor, without a mask, reads `time` and writes at most there.
    unsafe { libc::syscall(libc::SYS_ppoll, 0usize, 0usize, &raw const time, 0usize, 0usize) };
    exit(0)
}

/// Runs `child` in a copy of this process (fork(2)), as `clone` does. Returns its pid.
///
/// # Errors
/// Those of clone(2).
pub fn fork(child: impl FnOnce(&Alone) -> Infallible) -> Result<i32, Errno> {
    // SAFETY: without CLONE_PIDFD the kernel writes nothing.
    unsafe { copy(FORK, std::ptr::null_mut(), child) }
}

/// The same. This process gets a pidfd of the child, as its lowest free descriptor; nobody owns it. The kernel writes the number of
/// the pidfd into `word`, and the child does not get this memory. So, with a filter that allows clone(2) only with these flags and
/// this address, the same call fails in the child (EFAULT): no other process than this one can make another.
///
/// # Errors
/// Those of clone(2). `FAULT` if another process has made `word`.
pub fn fork_once(_alone: &Alone, word: &OwnWord, child: impl FnOnce(&Alone) -> Infallible) -> Result<i32, Errno> {
    // SAFETY: the pointer is a valid int in this process.
    unsafe { copy(FORK_ONCE, word.pointer()?, child) }
}

/// The flags of clone(2) that `fork` passes.
const FORK: u64 = libc::SIGCHLD as u64;
/// Those of `fork_once`.
pub const FORK_ONCE: u64 = libc::CLONE_PIDFD as u64 | FORK;

/// # Safety
/// `flags` are `FORK` or `FORK_ONCE`. With `FORK_ONCE`, `word` is a valid int, or the kernel has no memory there.
unsafe fn copy(flags: u64, word: *mut i32, child: impl FnOnce(&Alone) -> Infallible) -> Result<i32, Errno> {
    // SAFETY: no stack is passed and CLONE_VM is not set, so the child continues on its own copy of this stack. There it runs
    // `child`, which never returns. The caller's promise about `word`.
    let pid = checked(unsafe { libc::syscall(libc::SYS_clone, flags, 0usize, word, 0usize, 0usize) })?;
    if pid == 0 {
        run_child(child)
    }
    i32::try_from(pid).map_err(|_| Errno::OVERFLOW)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::namespace::unshare;
    use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus};
    use std::os::fd::AsFd;

    fn status_of(child: impl FnOnce(&Alone) -> Infallible) -> WaitIdStatus {
        let (_, pidfd) = clone(0, None, child).unwrap();
        rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED).unwrap().unwrap()
    }

    #[test]
    fn a_flag_that_clone_reads_as_a_signal_is_refused() {
        assert_eq!(clone(libc::CLONE_NEWTIME as u64, None, |_| exit(0)).err(), Some(Errno::INVAL));
        let page = FirstChildPage::new().unwrap();
        let status = status_of(|alone| {
            exit(match replace_by_sibling(alone, libc::CLONE_NEWTIME as u64, &page) {
                Err(Errno::INVAL) => 7,
                _ => 1,
            })
        });
        assert_eq!(status.exit_status(), Some(7));
    }

    #[test]
    fn a_panic_ends_the_child_and_does_not_come_back_to_the_parents_code() {
        assert_eq!(status_of(|_| exit(7)).exit_status(), Some(7));
        let panicking = || status_of(|_| std::panic::resume_unwind(Box::new(())));
        // the parent's own unwinding loads what the child needs for its own
        assert!(std::panic::catch_unwind(|| std::panic::resume_unwind(Box::new(()))).is_err());
        let own = std::process::id();
        let status = std::panic::catch_unwind(panicking);
        if std::process::id() != own {
            // the child is here, in the code of its parent
            exit(1)
        }
        assert_eq!(status.unwrap().exit_status(), Some(PANICKED));
        let pid = fork(|_| std::panic::resume_unwind(Box::new(()))).unwrap();
        let pid = rustix::process::Pid::from_raw(pid);
        let (_, status) = rustix::process::waitpid(pid, rustix::process::WaitOptions::empty()).unwrap().unwrap();
        assert_eq!(status.exit_status(), Some(PANICKED));
    }

    #[test]
    fn a_child_of_fork_once_makes_no_process() {
        use crate::sys::seccomp::{Allowed, allow_only};
        let status = status_of(|alone| {
            let Ok(word) = OwnWord::new().map(std::mem::ManuallyDrop::new) else { exit(2) };
            let Ok(pointer) = word.pointer() else { exit(2) };
            let allowed = rustix::thread::set_no_new_privs(true).and_then(|()| {
                allow_only(&[
                    Allowed { number: libc::SYS_clone, arguments: [Some(FORK_ONCE), None, Some(word.address())] },
                    Allowed::always(libc::SYS_wait4),
                    Allowed::always(libc::SYS_exit_group),
                ])
            });
            let forked = allowed.and_then(|()| {
                // SAFETY: the child of fork_once has no memory there.
                fork_once(alone, &word, |_| match unsafe { copy(FORK_ONCE, pointer, |_| exit(0)) } {
                    Err(Errno::FAULT) => exit(5),
                    _ => exit(3),
                })
            });
            let waited = forked.and_then(|_| rustix::process::wait(rustix::process::WaitOptions::empty()));
            exit(waited.ok().flatten().and_then(|(_, status)| status.exit_status()).unwrap_or(4))
        });
        assert_eq!(status.exit_status(), Some(5));
        // the same call with other flags, or with another address
        for (flags, beyond) in [(FORK, 0), (FORK_ONCE, 4)] {
            let status = status_of(|_| {
                let Ok(word) = OwnWord::new().map(std::mem::ManuallyDrop::new) else { exit(2) };
                let Ok(pointer) = word.pointer() else { exit(2) };
                let arguments = [Some(flags ^ FORK ^ FORK_ONCE), None, Some(word.address() + beyond)];
                let rule = Allowed { number: libc::SYS_clone, arguments };
                if rustix::thread::set_no_new_privs(true).and_then(|()| allow_only(&[rule])).is_err() {
                    exit(3)
                }
                // SAFETY: a valid int in this process.
                exit(unsafe { copy(flags, pointer, |_| exit(0)) }.map_or(4, |_| 5))
            });
            assert_eq!(status.terminating_signal(), Some(libc::SIGSYS));
        }
    }

    #[test]
    fn a_flag_that_is_not_one_of_a_namespace_is_refused() {
        for flag in [libc::CLONE_VM, libc::CLONE_FILES, libc::CLONE_THREAD, libc::CLONE_SETTLS] {
            let flag = u64::from(flag.unsigned_abs());
            assert_eq!(clone(flag, None, |_| exit(0)).err(), Some(Errno::INVAL));
            assert_eq!(unshare(flag), Err(Errno::INVAL));
            let first_child = FirstChildPage::new().unwrap();
            let refused = status_of(|alone| {
                exit(match replace_by_sibling(alone, flag, &first_child) {
                    Err(Errno::INVAL) => 5,
                    _ => 0,
                })
            });
            assert_eq!(refused.exit_status(), Some(5));
        }
    }
}
