//! How another thread ends the waits of this one.

use std::cell::RefCell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::EventfdFlags;
use rustix::io::Errno;

thread_local! {
    /// What can end the waits of this thread.
    static STOP: RefCell<Option<Stop>> = const { RefCell::new(None) };
}

/// Ends work that waits for a process of a container: the container can stop each of its processes (SIGSTOP), and the work would
/// wait until its own time limit, or for ever.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let stop = libcontainer::Stop::new()?;
/// let theirs = stop.clone();
/// let worker = std::thread::spawn(move || theirs.over(|| { /* create, start, exec */ }));
/// stop.interrupt();
/// worker.join().map_err(|_| "the worker has panicked")?;
/// assert!(stop.is_interrupted());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Stop(Arc<StopRequest>);

#[derive(Debug)]
struct StopRequest {
    event: OwnedFd,
    interrupted: AtomicBool,
}

impl Stop {
    /// One that has interrupted nothing yet.
    ///
    /// # Errors
    /// Those of eventfd(2).
    pub fn new() -> Result<Stop, Errno> {
        let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Stop(Arc::new(StopRequest { event, interrupted: AtomicBool::new(false) })))
    }

    /// One wait of the work fails. Its later waits, which undo changes, can wait again.
    pub fn interrupt(&self) {
        if !self.0.interrupted.swap(true, Ordering::SeqCst) {
            // The counter is 0, so there is room.
            let _ = rustix::io::write(&self.0.event, &1u64.to_ne_bytes());
        }
    }

    /// Whether `interrupt` was called: the work is to end.
    pub fn is_interrupted(&self) -> bool {
        self.0.interrupted.load(Ordering::SeqCst)
    }

    /// Does the work in this thread.
    pub fn over<T>(&self, work: impl FnOnce() -> T) -> T {
        let _outer = Outer(STOP.replace(Some(self.clone())));
        work()
    }

    /// Takes the request: the wait that has seen it fails, and no other.
    pub(super) fn taken(&self) -> bool {
        rustix::io::read(&self.0.event, &mut [0; 8]).is_ok()
    }
}

/// What could end the waits of this thread before. It can again when this is dropped, also because the work panics.
struct Outer(Option<Stop>);

impl Drop for Outer {
    fn drop(&mut self) {
        STOP.set(self.0.take());
    }
}

impl AsFd for Stop {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.event.as_fd()
    }
}

pub(super) fn of_this_thread() -> Option<Stop> {
    STOP.with_borrow(Clone::clone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait::{Interrupted, must_not_be_interrupted, readable};

    #[test]
    fn work_that_panics_leaves_nothing_to_the_thread() {
        let (outer, inner) = (Stop::new().unwrap(), Stop::new().unwrap());
        let panicking = || inner.over(|| std::panic::resume_unwind(Box::new(())));
        outer.over(|| {
            assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(panicking)).is_err());
            inner.interrupt();
            assert_eq!(must_not_be_interrupted(), Ok(()));
            assert!(Arc::ptr_eq(&of_this_thread().unwrap().0, &outer.0));
        });
        assert!(of_this_thread().is_none());
    }

    #[test]
    fn another_thread_ends_one_wait() {
        let stop = Stop::new().unwrap();
        let theirs = stop.clone();
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let (ended, first) = std::sync::mpsc::channel();
        let work = std::thread::spawn(move || {
            theirs.over(|| {
                ended.send(readable(reader.as_fd(), None)).unwrap();
                assert_eq!(must_not_be_interrupted(), Ok(()));
                readable(reader.as_fd(), None)
            })
        });
        stop.interrupt();
        stop.interrupt();
        assert!(stop.is_interrupted());
        assert_eq!(first.recv().unwrap(), Err(Interrupted::Stop));
        rustix::io::write(&writer, b"x").unwrap();
        assert_eq!(work.join().unwrap(), Ok(true));
    }
}
