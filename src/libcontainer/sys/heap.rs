//! The heap after a clone: a child of ours has none. It is a copy of one thread, and whatever lock another held, or std
//! assumes, is not its own. A debug build checks it at every call of the allocator; a release build has nothing of this.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, Ordering};

/// In the child it is true; the parent's stays as it was, as they share no memory.
static FORBIDDEN: AtomicBool = AtomicBool::new(false);

/// From here on this process must neither ask for memory nor give any back.
pub fn forbid() {
    if cfg!(debug_assertions) {
        FORBIDDEN.store(true, Ordering::Relaxed);
    }
}

/// The system's allocator, which ends a process that must not use it. The program names it in a debug build.
#[derive(Debug)]
pub struct Watched;

fn must_be_allowed(said: &[u8]) {
    if FORBIDDEN.load(Ordering::Relaxed) {
        // SAFETY: the bytes live through the call.
        unsafe { libc::syscall(libc::SYS_write, 2, said.as_ptr(), said.len()) };
        super::clone::trap()
    }
}

const ASKED: &[u8] = b"coracle: memory asked for after the clone\n";
const GIVEN_BACK: &[u8] = b"coracle: memory given back after the clone\n";

// SAFETY: every call goes on to the system's allocator unchanged, or does not return.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        must_be_allowed(ASKED);
        // SAFETY: the caller's promise, handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        must_be_allowed(ASKED);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        must_be_allowed(ASKED);
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        must_be_allowed(GIVEN_BACK);
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clone::{Side, clone, exit};
    use rustix::process::{WaitId, WaitIdOptions};
    use std::hint::black_box;
    use std::os::fd::AsFd;

    /// The signal that ends a child which does this.
    fn ends_by(does: impl FnOnce(*mut u8, Layout)) -> Option<i32> {
        let layout = Layout::new::<u64>();
        // SAFETY: the layout is not of size zero.
        let memory = unsafe { Watched.alloc(layout) };
        match clone(0, None).unwrap() {
            Side::Child(_) => {
                does(memory, layout);
                exit(0)
            }
            Side::Parent(_, pidfd) => {
                // SAFETY: made above with that layout; the child has its own copy.
                unsafe { Watched.dealloc(memory, layout) };
                let pidfd = pidfd.unwrap();
                let status = rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED).unwrap();
                status.unwrap().terminating_signal()
            }
        }
    }

    #[test]
    fn a_child_that_uses_the_heap_ends() {
        assert_eq!(ends_by(|_, _| {}), None);
        let asks = |_: *mut u8, layout: Layout| {
            // SAFETY: the layout is not of size zero.
            let _ = black_box(unsafe { Watched.alloc(layout) });
        };
        assert_eq!(ends_by(asks), Some(libc::SIGILL));
        // SAFETY: made with that layout.
        assert_eq!(ends_by(|memory, layout| unsafe { Watched.dealloc(memory, layout) }), Some(libc::SIGILL));
    }
}
