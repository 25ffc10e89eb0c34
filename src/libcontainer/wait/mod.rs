//! Every wait of the runtime process. A wait ends when a descriptor is ready, when its deadline has passed, or when a
//! signal asks the process to end. After a signal, the wait returns an error, and all changes are undone on the way
//! out. The signals are blocked and read from a descriptor (signalfd(2)), so no signal is lost between two waits.

mod files;
pub mod limits;
mod stop;

pub use files::{contents, contents_below, contents_of};
pub use stop::Stop;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{self, ErrorKind};
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::sys::errno::in_words;
use crate::sys::signals::{END, is_ignored};

/// True if `signal` asks a process to end.
pub fn asks_to_end(signal: i32) -> bool {
    END.contains(&signal)
}

thread_local! {
    /// The descriptor from which this thread's waits read signals. None if they do not read signals.
    static LISTENED: RefCell<Option<Arc<SignalFd>>> = const { RefCell::new(None) };
    /// Whether poststop hooks are ended by signals (`signals_end_hooks`).
    static END_HOOKS: Cell<bool> = const { Cell::new(false) };
    /// The signal that has ended a wait.
    static HEARD: Cell<Option<i32>> = const { Cell::new(None) };
}

/// Why a wait ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupted {
    /// A signal asks the process to end.
    Signal(i32),
    /// Another thread asks this one to end its work (`Stop`).
    Stop,
    /// poll(2) failed.
    Errno(Errno),
}

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Interrupted::Signal(number) => match Signal::try_from(*number) {
                Ok(signal) => write!(f, "interrupted by {signal}"),
                Err(_) => write!(f, "interrupted by signal {number}"),
            },
            Interrupted::Stop => f.write_str("interrupted by the caller"),
            Interrupted::Errno(errno) => write!(f, "poll: {errno}", errno = in_words(errno)),
        }
    }
}

impl std::error::Error for Interrupted {}

/// While this value exists, a signal ends the waits of this thread. When it is dropped, the signals have their old
/// effect again, and a signal that no wait has read is delivered.
#[derive(Debug)]
pub struct Listening {
    signals: Arc<SignalFd>,
    before: SigSet,
    outer: Option<Arc<SignalFd>>,
}

/// Starts to read the signals. A signal that the caller ignores (nohup(1)) is ignored here, too.
///
/// # Errors
/// The kernel's error.
pub fn listen() -> Result<Listening, nix::errno::Errno> {
    let mut set = SigSet::empty();
    for signal in END.into_iter().filter(|signal| !is_ignored(*signal)) {
        set.add(Signal::try_from(signal)?);
    }
    let signals = Arc::new(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?);
    let before = SigSet::thread_get_mask()?;
    set.thread_block()?;
    let outer = LISTENED.replace(Some(Arc::clone(&signals)));
    Ok(Listening { signals, before, outer })
}

/// From now on, a signal that asks this process to end also ends the poststop hook that this thread waits for. For
/// programs that are nothing but the runtime: the signals of other programs stay theirs.
pub fn signals_end_hooks() {
    END_HOOKS.set(true);
}

/// Starts to read the signals, if they end poststop hooks.
pub(crate) fn listen_for_hooks() -> Result<Option<Listening>, nix::errno::Errno> {
    END_HOOKS.get().then(listen).transpose()
}

impl Listening {
    /// Keeps the signals blocked until the process ends: the work is done, and a signal must not turn the success into
    /// a failure.
    pub fn until_the_end(self) {
        std::mem::forget(self);
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let own = LISTENED.replace(self.outer.take());
        debug_assert!(own.is_some_and(|own| Arc::ptr_eq(&own, &self.signals)), "listeners end in the reverse order");
        // The kernel returned this mask, so setting it cannot fail.
        let _ = self.before.thread_set_mask();
    }
}

/// Does the work in a new thread, and waits for its end. What ends the waits of this thread ends those of the new one.
///
/// # Errors
/// The kernel makes no thread, or the new thread has panicked.
pub(crate) fn by_a_thread<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let (listened, stop) = (LISTENED.with_borrow(Clone::clone), stop::of_this_thread());
    let work = move || {
        LISTENED.set(listened);
        let done = if let Some(stop) = stop { stop.over(work) } else { work() };
        (done, HEARD.get())
    };
    let (done, heard) = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, work)?;
        thread.join().map_err(|_| io::Error::other("the thread has panicked"))
    })?;
    if heard.is_some() {
        HEARD.set(heard);
    }
    Ok(done)
}

/// The signal that has ended a wait of this thread.
pub fn heard() -> Option<i32> {
    HEARD.get()
}

/// Waits until one of `fds` is ready. Returns false if the deadline has passed first.
///
/// # Errors
/// A signal asks the process to end, or poll(2) fails.
pub fn ready(fds: &[(BorrowedFd<'_>, PollFlags)], deadline: Option<Instant>) -> Result<bool, Interrupted> {
    let listened = LISTENED.with_borrow(Clone::clone);
    let mut polled: Vec<PollFd<'_>> = fds.iter().map(|(fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
    polled.extend(listened.as_deref().map(|signals| PollFd::new(signals, PollFlags::IN)));
    let stop = stop::of_this_thread();
    polled.extend(stop.as_ref().map(|stop| PollFd::new(stop, PollFlags::IN)));
    loop {
        let left = deadline.map(|deadline| timespec(deadline.saturating_duration_since(Instant::now())));
        match poll(&mut polled, left.as_ref()) {
            Ok(0) => return Ok(false),
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(Interrupted::Errno(errno)),
        }
        // ORDER: the descriptors come before the signal. If a program has begun, it gets a signal that came at the same
        // time. Otherwise the next wait reads the signal.
        if polled[..fds.len()].iter().any(|fd| !fd.revents().is_empty()) {
            return Ok(true);
        }
        if let Some(number) = listened.as_deref().and_then(taken) {
            HEARD.set(Some(number));
            return Err(Interrupted::Signal(number));
        }
        if stop.as_ref().is_some_and(Stop::taken) {
            return Err(Interrupted::Stop);
        }
    }
}

/// Waits until `fd` can be read, or until its other end is closed.
///
/// # Errors
/// Those of `ready`.
pub fn readable(fd: BorrowedFd<'_>, deadline: Option<Instant>) -> Result<bool, Interrupted> {
    ready(&[(fd, PollFlags::IN)], deadline)
}

/// Waits for this time.
///
/// # Errors
/// Those of `ready`.
pub fn sleep(time: Duration) -> Result<(), Interrupted> {
    ready(&[], Instant::now().checked_add(time)).map(drop)
}

/// Waits for this time. Neither a signal nor a `Stop` ends this wait: the next wait returns them.
/// `std::thread::sleep` panics if the kernel refuses the call.
pub fn pause(time: Duration) {
    let _ = rustix::thread::nanosleep(&timespec(time));
}

/// Returns an error if a signal has come before.
///
/// # Errors
/// Those of `ready`.
pub fn must_not_be_interrupted() -> Result<(), Interrupted> {
    if LISTENED.with_borrow(Option::is_none) && stop::of_this_thread().is_none() {
        Ok(())
    } else {
        sleep(Duration::ZERO)
    }
}

/// Takes an exclusive flock(2). It tries again after growing pauses. Returns false if the deadline has passed.
///
/// # Errors
/// A signal asks the process to end, or the kernel's error.
pub fn lock(fd: BorrowedFd<'_>, deadline: Instant) -> Result<bool, Interrupted> {
    let mut time = Duration::from_micros(100);
    loop {
        match rustix::fs::flock(fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK | Errno::INTR) => {}
            Err(errno) => return Err(Interrupted::Errno(errno)),
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        sleep(time)?;
        time = (time * 2).min(Duration::from_millis(10));
    }
}

/// A stream socket that is connected to `path`. If its backlog is full, this tries again for at most `limits::ANSWER`:
/// connect(2) itself would wait for ever. Later writes to the socket wait equally long.
///
/// # Errors
/// The kernel's error; or no process accepts; or a signal asks the process to end.
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with, sockopt};
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let (address, deadline) = (address(path)?, Instant::now() + limits::ANSWER);
    let mut time = Duration::from_micros(100);
    loop {
        match rustix::net::connect(&socket, &address) {
            Ok(()) => break,
            Err(Errno::AGAIN) if Instant::now() < deadline => sleep(time).map_err(io::Error::other)?,
            Err(Errno::AGAIN) => {
                return Err(io::Error::new(ErrorKind::TimedOut, "no process accepted the connection within 10 s"));
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        time = (time * 2).min(Duration::from_millis(50));
    }
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(limits::ANSWER))?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// A path, or a name in the abstract name space (unix(7)). Such a name begins with a NUL.
fn address(path: &Path) -> Result<rustix::net::SocketAddrUnix, Errno> {
    match path.as_os_str().as_encoded_bytes() {
        [0, name @ ..] => rustix::net::SocketAddrUnix::new_abstract_name(name),
        _ => rustix::net::SocketAddrUnix::new(path),
    }
}

/// Reads the pending signal. None if another reader has taken it.
fn taken(listened: &SignalFd) -> Option<i32> {
    let mut info = [0u8; size_of::<libc::signalfd_siginfo>()];
    match rustix::io::read(listened, &mut info) {
        // The first field is ssi_signo.
        Ok(length) if length == info.len() => {
            i32::try_from(u32::from_ne_bytes([info[0], info[1], info[2], info[3]])).ok()
        }
        _ => None,
    }
}

/// The same time, for poll(2).
pub fn timespec(time: Duration) -> Timespec {
    Timespec { tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX), tv_nsec: i64::from(time.subsec_nanos()) }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_wait_ends_with_its_descriptor_its_deadline_or_a_signal() {
        // The signal goes to a thread of its own, so that other tests do not get it.
        let waits = || {
            let (reader, writer) = rustix::pipe::pipe().unwrap();
            let soon = || Some(Instant::now() + Duration::from_millis(20));
            assert!(!readable(reader.as_fd(), soon()).unwrap());
            let before = SigSet::thread_get_mask().unwrap();
            let listening = listen().unwrap();
            assert!(!readable(reader.as_fd(), soon()).unwrap());
            must_not_be_interrupted().unwrap();
            nix::sys::signal::raise(Signal::SIGTERM).unwrap();
            assert_eq!(readable(reader.as_fd(), None), Err(Interrupted::Signal(libc::SIGTERM)));
            assert_eq!(heard(), Some(libc::SIGTERM));
            // One wait returns the signal. Later waits, which undo changes, can wait again.
            rustix::io::write(&writer, b"x").unwrap();
            assert!(readable(reader.as_fd(), None).unwrap());
            // If the signal and the descriptor come together, the next wait returns the signal.
            // (A shell starts background jobs with SIGINT and SIGQUIT ignored.)
            nix::sys::signal::raise(Signal::SIGTERM).unwrap();
            assert!(readable(reader.as_fd(), None).unwrap());
            assert_eq!(must_not_be_interrupted(), Err(Interrupted::Signal(libc::SIGTERM)));
            drop(listening);
            assert_eq!(SigSet::thread_get_mask().unwrap(), before);
        };
        std::thread::spawn(waits).join().unwrap();
    }

    #[test]
    fn the_wait_for_a_lock_ends_at_the_deadline() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let other = std::fs::File::open(file.path()).unwrap();
        let soon = || Instant::now() + Duration::from_millis(30);
        assert_eq!(lock(file.as_file().as_fd(), soon()), Ok(true));
        assert_eq!(lock(other.as_fd(), soon()), Ok(false));
        drop(file);
        assert_eq!(lock(other.as_fd(), soon()), Ok(true));
    }
}
