//! One page that the runtime process and init share: how far init has come.

use std::sync::atomic::{AtomicU32, Ordering};

use rustix::io::Errno;

/// The shared words. Init writes, the runtime reads, also after init is gone.
#[derive(Debug)]
pub struct Page(*mut Words);

#[repr(C)]
struct Words {
    step: AtomicU32,
    listener: AtomicU32,
}

// SAFETY: the words are atomics in a mapping that lives until the Page is dropped.
unsafe impl Send for Page {}
// SAFETY: as above.
unsafe impl Sync for Page {}

impl Page {
    /// A fresh page of zeros, shared with every process forked after this (mmap(2), MAP_SHARED).
    ///
    /// # Errors
    /// Those of mmap(2).
    pub fn new() -> Result<Page, Errno> {
        // SAFETY: an anonymous mapping chosen by the kernel overlaps nothing.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size_of::<Words>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(Errno::NOMEM);
        }
        Ok(Page(address.cast()))
    }

    fn words(&self) -> &Words {
        // SAFETY: the mapping is page-aligned, zeroed, large enough, and lives as long as self.
        unsafe { &*self.0 }
    }

    /// Init: "I am about to perform step `n`."
    pub fn at_step(&self, n: u32) {
        self.words().step.store(n, Ordering::Relaxed);
    }

    /// The step init was last about to perform.
    pub fn step(&self) -> u32 {
        self.words().step.load(Ordering::Relaxed)
    }

    /// Init: the number of its seccomp listener, for a runtime that must take it because init may no longer send.
    pub fn listener_is(&self, fd: u32) {
        self.words().listener.store(fd, Ordering::Release);
    }

    /// The number that `listener_is` left, or None so far. (0 is a standard stream, so it can mean "none".)
    pub fn listener(&self) -> Option<u32> {
        match self.words().listener.load(Ordering::Acquire) {
            0 => None,
            fd => Some(fd),
        }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: unmaps exactly what new() mapped, and self is gone after this.
        unsafe { libc::munmap(self.0.cast(), size_of::<Words>()) };
    }
}
