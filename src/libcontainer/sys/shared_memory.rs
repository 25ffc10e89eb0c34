//! Memory that this process shares with its children, or hides from them (mmap(2), madvise(2)).

use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use rustix::io::Errno;

use super::{checked, mapped, trap};

/// The number of this process: 1, and one more in each child that `clone` makes. It is not shared.
static PROCESS: AtomicU32 = AtomicU32::new(1);

/// This process is a new one. What its parent has hidden from it is not there.
pub(super) fn is_new_process() {
    PROCESS.fetch_add(1, Ordering::Relaxed);
}

/// Zeros, shared with every process that is forked later (mmap(2), MAP_SHARED).
#[derive(Debug)]
pub(super) struct SharedMemory<T> {
    address: *mut T,
    /// The number of the process that has hidden it from its children; 0 if none has.
    hidden_by: AtomicU32,
}

/// What shared memory may contain: zeros are valid, and processes may write it at the same time.
///
/// # Safety
///
/// All fields are integers of `std::sync::atomic`, or arrays of them.
pub(super) unsafe trait Atomics {}

// SAFETY: the content is atomics, in a mapping that lives until it is dropped.
unsafe impl<T: Atomics> Send for SharedMemory<T> {}
// SAFETY: as above.
unsafe impl<T: Atomics> Sync for SharedMemory<T> {}

impl<T: Atomics> SharedMemory<T> {
    pub(super) fn new() -> Result<SharedMemory<T>, Errno> {
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: an anonymous mapping chosen by the kernel overlaps nothing.
        let address = unsafe { libc::mmap(std::ptr::null_mut(), size_of::<T>(), access, kind, -1, 0) };
        Ok(SharedMemory { address: mapped(address)?.cast(), hidden_by: AtomicU32::new(0) })
    }

    /// Processes that this process makes from now on do not get it (MADV_DONTFORK).
    pub(super) fn hide_from_children(&self) -> Result<(), Errno> {
        if !self.is_here() {
            return Err(Errno::FAULT);
        }
        // ORDER: before the call: a process that another thread makes meanwhile must not believe that it has the memory
        self.hidden_by.store(PROCESS.load(Ordering::Relaxed), Ordering::SeqCst);
        // SAFETY: our own mapping. It stays as it is in this process.
        let done = unsafe { libc::madvise(self.address.cast(), size_of::<T>(), libc::MADV_DONTFORK) };
        checked(done.into()).map(drop)
    }

    /// False in a process from which it is hidden. Something else may be mapped at its address there.
    fn is_here(&self) -> bool {
        let hidden_by = self.hidden_by.load(Ordering::SeqCst);
        hidden_by == 0 || hidden_by == PROCESS.load(Ordering::Relaxed)
    }

    /// The content. A process from which it is hidden ends.
    pub(super) fn get(&self) -> &T {
        if !self.is_here() {
            trap()
        }
        // SAFETY: the mapping is page-aligned, zeroed, large enough, in this process (`is_here`), and lives as long as self.
        // Others write it only as `Atomics`.
        unsafe { &*self.address }
    }
}

impl<T> Drop for SharedMemory<T> {
    fn drop(&mut self) {
        let hidden_by = *self.hidden_by.get_mut();
        if hidden_by == 0 || hidden_by == PROCESS.load(Ordering::Relaxed) {
            // SAFETY: unmaps exactly what new() mapped, which is in this process, and self is gone after this.
            unsafe { libc::munmap(self.address.cast(), size_of::<T>()) };
        }
    }
}

/// A word in memory that is hidden from the children of this process.
#[derive(Debug)]
pub struct OwnWord(SharedMemory<AtomicI32>);

// SAFETY: an atomic.
unsafe impl Atomics for AtomicI32 {}

impl OwnWord {
    /// # Errors
    /// Those of mmap(2) and madvise(2).
    pub fn new() -> Result<OwnWord, Errno> {
        let memory = SharedMemory::new()?;
        memory.hide_from_children()?;
        Ok(OwnWord(memory))
    }

    /// Its address.
    pub fn address(&self) -> u64 {
        self.0.address as u64
    }

    /// Its address, in the process that has made it.
    ///
    /// # Errors
    /// `FAULT` in another process.
    pub(super) fn pointer(&self) -> Result<*mut i32, Errno> {
        if self.0.is_here() { Ok(self.0.address.cast()) } else { Err(Errno::FAULT) }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::os::fd::AsFd;

    use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus};

    use super::*;
    use crate::sys::clone::{Alone, clone, exit, fork_once};

    fn status_of(child: impl FnOnce(&Alone) -> Infallible) -> WaitIdStatus {
        let (_, pidfd) = clone(0, None, child).unwrap();
        rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED).unwrap().unwrap()
    }

    /// Maps other memory where the parent has something hidden.
    fn map_other_at(address: *mut i32) {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: with MAP_FIXED_NOREPLACE a new mapping overlaps nothing.
        let other = unsafe { libc::mmap(address.cast(), 4096, access, flags, -1, 0) };
        if other != address.cast() {
            exit(1)
        }
    }

    #[test]
    fn hidden_memory_is_neither_used_nor_unmapped_by_a_child() {
        let hidden = || {
            let memory = SharedMemory::<AtomicI32>::new().unwrap();
            memory.hide_from_children().unwrap();
            memory
        };
        let memory = hidden();
        memory.get().store(3, Ordering::Relaxed);
        let used = status_of(|_| {
            map_other_at(memory.address.cast());
            memory.get().store(7, Ordering::Relaxed);
            exit(0)
        });
        assert_eq!(used.terminating_signal(), Some(libc::SIGILL));
        let (mut dropped, own) = (Some(hidden()), std::process::id());
        let address = memory.address as usize;
        let second = dropped.as_ref().map(|memory| memory.address as usize).unwrap_or(address);
        let status = status_of(|_| {
            map_other_at(second as *mut i32);
            drop(dropped.take());
            // SAFETY: mapped above, and not by what was dropped.
            unsafe { (second as *mut i32).write_volatile(5) };
            exit(5)
        });
        assert_eq!((status.exit_status(), std::process::id()), (Some(5), own));
        assert_eq!(memory.get().load(Ordering::Relaxed), 3);
    }

    #[test]
    fn the_kernel_does_not_write_into_a_childs_memory_for_a_word_of_the_parent() {
        let word = OwnWord::new().unwrap();
        let status = status_of(|alone| {
            map_other_at(word.0.address.cast());
            match fork_once(alone, &word, |_| exit(0)) {
                Err(Errno::FAULT) => exit(5),
                _ => exit(6),
            }
        });
        assert_eq!(status.exit_status(), Some(5));
    }
}
