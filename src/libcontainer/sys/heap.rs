//! A child of ours does not use the heap. It is a copy of one thread, and another thread may have held the lock of the
//! allocator: the child would wait for it for ever. A debug build checks this at each call of the allocator. A release build
//! checks nothing.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, Ordering};

/// True in a child. Parent and child share no memory, so the parent's stays false.
static FORBIDDEN: AtomicBool = AtomicBool::new(false);

/// From now on this process must neither allocate nor free memory.
pub(super) fn forbid() {
    if cfg!(debug_assertions) {
        FORBIDDEN.store(true, Ordering::Relaxed);
    }
}

/// The system's allocator, which ends a child that uses it. A program can name it as its `#[global_allocator]` in a debug build.
/// A release build of it checks nothing.
///
/// ```standalone_crate
/// #[cfg(debug_assertions)]
/// #[global_allocator]
/// static HEAP: libcontainer::WatchedHeap = libcontainer::WatchedHeap;
///
/// assert!(!String::from("allocated").is_empty());
/// ```
#[derive(Debug)]
pub struct WatchedHeap;

fn must_be_allowed(said: &[u8]) {
    if FORBIDDEN.load(Ordering::Relaxed) {
        // SAFETY: the bytes live through the call.
        unsafe { libc::syscall(libc::SYS_write, 2, said.as_ptr(), said.len()) };
        super::trap()
    }
}

const ALLOCATED: &[u8] = b"coracle: memory asked for after the clone\n";
const FREED: &[u8] = b"coracle: memory given back after the clone\n";

// SAFETY: every call is passed to the system's allocator unchanged, or does not return.
unsafe impl GlobalAlloc for WatchedHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        must_be_allowed(ALLOCATED);
        // SAFETY: the caller's promise, handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        must_be_allowed(ALLOCATED);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        must_be_allowed(ALLOCATED);
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        must_be_allowed(FREED);
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clone::{clone, exit};
    use rustix::process::{WaitId, WaitIdOptions};
    use std::hint::black_box;
    use std::os::fd::AsFd;

    /// The signal that ends a child which does this.
    fn ends_by(does: impl FnOnce(*mut u8, Layout)) -> Option<i32> {
        let layout = Layout::new::<u64>();
        // SAFETY: the layout is not of size zero.
        let memory = unsafe { WatchedHeap.alloc(layout) };
        let child = clone(0, None, |_| {
            does(memory, layout);
            exit(0)
        });
        // SAFETY: made above with that layout; the child has its own copy.
        unsafe { WatchedHeap.dealloc(memory, layout) };
        let (_, pidfd) = child.unwrap();
        let status = rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED).unwrap();
        status.unwrap().terminating_signal()
    }

    #[test]
    fn a_child_that_uses_the_heap_ends() {
        assert_eq!(ends_by(|_, _| {}), None);
        let asks = |_: *mut u8, layout: Layout| {
            // SAFETY: the layout is not of size zero.
            let _ = black_box(unsafe { WatchedHeap.alloc(layout) });
        };
        assert_eq!(ends_by(asks), Some(libc::SIGILL));
        // SAFETY: made with that layout.
        assert_eq!(ends_by(|memory, layout| unsafe { WatchedHeap.dealloc(memory, layout) }), Some(libc::SIGILL));
    }
}
