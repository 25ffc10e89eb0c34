//! mmap(2): a stack of our own, if RLIMIT_STACK (setrlimit(2)) makes the first one too small.

use std::process::ExitCode;

use nix::sys::resource::{Resource, getrlimit};

/// The size that is enough for all that we do.
const ENOUGH: u64 = 1 << 20;

/// The size of our own stack. Pages that are not touched cost nothing.
const SIZE: usize = 8 << 20;

/// The function on the new stack, and its end.
struct Work {
    work: fn() -> ExitCode,
    done: ExitCode,
}

/// Runs `work` on a stack that is large enough. The limit itself stays as it is: the program in the container gets it.
pub fn with_room(work: fn() -> ExitCode) -> ExitCode {
    // if getrlimit(2) fails: the first stack is mostly large enough
    if getrlimit(Resource::RLIMIT_STACK).map_or(true, |(limit, _)| limit >= ENOUGH) {
        return work();
    }
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK;
    // SAFETY: an anonymous mapping chosen by the kernel overlaps nothing.
    let stack = unsafe { libc::mmap(std::ptr::null_mut(), SIZE, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    if stack == libc::MAP_FAILED {
        // the first stack may be large enough
        return work();
    }
    // SAFETY: the lowest page of our own mapping. It is a guard page: an overflow of the stack must not reach other memory. If the
    // call fails, an overflow most likely reaches an unmapped page.
    unsafe { libc::mprotect(stack, 4096, libc::PROT_NONE) };
    let mut work = Work { work, done: ExitCode::FAILURE };
    // SAFETY: SIZE bytes are mapped there, and the end is aligned to a page. The mapping is never given back.
    unsafe { call_on(stack.cast::<u8>().add(SIZE), &raw mut work) };
    work.done
}

extern "C" fn run(work: *mut Work) {
    // SAFETY: `with_room` owns it, and waits for our return.
    let work = unsafe { &mut *work };
    work.done = (work.work)();
}

/// Calls `run` with the stack that ends at `top`.
///
/// # Safety
/// `top` is the end of a stack that nothing else uses, and is aligned to 16.
unsafe fn call_on(top: *mut u8, work: *mut Work) {
    // SAFETY: r12 keeps its value over a call, so the old stack is there again afterwards; `run` does not unwind, as a panic
    // in an `extern "C"` function aborts.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!(
            "mov r12, rsp",
            "mov rsp, {top}",
            "call {run}",
            "mov rsp, r12",
            top = in(reg) top,
            run = sym run,
            in("rdi") work,
            out("r12") _,
            clobber_abi("C"),
        );
    }
    // SAFETY: as above, with x20.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        std::arch::asm!(
            "mov x20, sp",
            "mov sp, {top}",
            "bl {run}",
            "mov sp, x20",
            top = in(reg) top,
            run = sym run,
            in("x0") work,
            out("x20") _,
            clobber_abi("C"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_on_the_other_stack_has_its_room_and_comes_back() {
        let mut stack = vec![0u128; 1 << 16];
        let work = || {
            let far = [7u8; 1 << 17];
            if std::hint::black_box(&far).iter().all(|byte| *byte == 7) { ExitCode::from(3) } else { ExitCode::FAILURE }
        };
        let mut work = Work { work, done: ExitCode::FAILURE };
        // SAFETY: a megabyte of our own, aligned to 16.
        unsafe { call_on(stack.as_mut_ptr().add(stack.len()).cast(), &raw mut work) };
        assert_eq!(work.done, ExitCode::from(3));
        assert_eq!(with_room(|| ExitCode::from(4)), ExitCode::from(4));
    }
}
