//! The relay between our standard streams and the container's terminal: two pumps with one buffer each. Nothing here waits;
//! a stream that is not ready is polled by `foreground`, beside the signals and the process.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use rustix::termios::{OptionalActions, OutputModes, Termios};

use libcontainer::Result;

/// How much one pump holds. A terminal's master gives no more at once (tty(4): N_TTY_BUF_SIZE).
const SIZE: usize = 4096;
/// No more than this can wait in a terminal whose program has ended: the limit of its flip buffer (64 KiB), twice.
const LAST: usize = 128 * 1024;

/// Both ways between our terminal and the container's. Dropped, our own is as it was.
#[derive(Debug)]
pub struct Relay {
    /// None once it was hung up, as nobody reads what comes from it.
    master: Option<OwnedFd>,
    /// Our terminal as it was, to be put back.
    before: Option<Termios>,
    stdin: Stream,
    stdout: Stream,
    typed: Pump,
    shown: Pump,
    /// What was typed last did not end a line.
    in_line: bool,
    input: Flow,
    output: Flow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Open,
    Ended,
}

/// Where the relay's descriptors are in the list that is polled.
#[derive(Clone, Copy, Debug, Default)]
pub struct Places {
    master: Option<usize>,
    stdin: Option<usize>,
    stdout: Option<usize>,
}

impl Relay {
    /// Takes over the terminal whose master is `master`. Must come before the program begins, which writes, and asks for the
    /// size, at once.
    ///
    /// # Errors
    /// The kernel's word.
    pub fn begin(master: OwnedFd) -> Result<Relay> {
        let flags = rustix::fs::fcntl_getfl(&master)?;
        rustix::fs::fcntl_setfl(&master, flags | OFlags::NONBLOCK)?;
        // our own terminal adds the carriage returns already
        let mut mode = rustix::termios::tcgetattr(&master)?;
        mode.output_modes.remove(OutputModes::ONLCR);
        let stdin = rustix::stdio::stdin();
        let before = rustix::termios::tcgetattr(stdin).ok();
        if let Some(before) = &before {
            rustix::termios::tcsetattr(&master, OptionalActions::Now, &mode)?;
            let mut raw = before.clone();
            raw.make_raw();
            // ... but only when it is asked to work on what is written: it alone does now
            raw.output_modes.insert(OutputModes::OPOST);
            rustix::termios::tcsetattr(stdin, OptionalActions::Now, &raw)
                .map_err(|errno| libcontainer::Error::from(errno).context("set terminal to raw mode"))?;
        }
        let relay = Relay {
            master: Some(master),
            before,
            stdin: Stream::of(stdin, OFlags::RDONLY),
            stdout: Stream::of(rustix::stdio::stdout(), OFlags::WRONLY),
            typed: Pump::default(),
            shown: Pump::default(),
            in_line: false,
            input: Flow::Open,
            output: Flow::Open,
        };
        relay.resize();
        Ok(relay)
    }

    /// The container's terminal becomes as large as ours.
    pub fn resize(&self) {
        if let Some(master) = &self.master
            && let Ok(size) = rustix::termios::tcgetwinsize(rustix::stdio::stdin())
            && size.ws_row != 0
        {
            let _ = rustix::termios::tcsetwinsize(master, size);
        }
    }

    /// Adds what the relay waits for. A pump that is full is not filled: who writes waits, as on a terminal of his own.
    pub fn polls<'p>(&'p self, fds: &mut Vec<PollFd<'p>>) -> Places {
        let mut add = |fd: BorrowedFd<'p>, flags: PollFlags| {
            // a descriptor that has hung up is always ready: one that is not needed is not polled at all
            (!flags.is_empty()).then(|| {
                fds.push(PollFd::from_borrowed_fd(fd, flags));
                fds.len() - 1
            })
        };
        let wanted = |flag: PollFlags, wanted: bool| if wanted { flag } else { PollFlags::empty() };
        let master = self.master.as_ref().and_then(|master| {
            let reading = wanted(PollFlags::IN, self.output == Flow::Open && self.shown.is_empty());
            add(master.as_fd(), reading | wanted(PollFlags::OUT, !self.typed.is_empty()))
        });
        let stdin = wanted(PollFlags::IN, self.input == Flow::Open && self.typed.is_empty());
        let stdout = wanted(PollFlags::OUT, !self.shown.is_empty());
        Places { master, stdin: add(self.stdin.fd(), stdin), stdout: add(self.stdout.fd(), stdout) }
    }

    /// One read and one write on each way, where `ready` says that it will not block.
    pub fn turn(&mut self, places: Places, ready: &[PollFlags]) {
        let is_ready = |place: Option<usize>| place.is_some_and(|place| !ready[place].is_empty());
        if is_ready(places.stdout) {
            self.write_output();
        }
        if is_ready(places.master) && self.shown.is_empty() {
            self.read_output();
        }
        if is_ready(places.stdin) {
            self.read_input();
        }
        if !self.typed.is_empty() {
            self.write_input();
        }
    }

    fn read_input(&mut self) {
        match self.typed.fill(|buffer| self.stdin.read(buffer)) {
            Ok(0) => {
                // the end of a file is typed: what reads a terminal sees it as the end; behind half a line the first
                // one only sends the half (termios(3), VEOF)
                self.typed.set(if self.in_line { &[4, 4] } else { &[4] });
                self.input = Flow::Ended;
            }
            Ok(_) => self.in_line = self.typed.last() != Some(b'\n'),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => self.input = Flow::Ended,
        }
    }

    fn write_input(&mut self) {
        let Some(master) = &self.master else { return };
        match self.typed.pour(|bytes| rustix::io::write(master, bytes)) {
            Ok(()) | Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => {
                self.typed.clear();
                self.input = Flow::Ended;
            }
        }
    }

    /// What the container has written, as much as one read gives.
    fn read_output(&mut self) {
        let Some(master) = self.master.as_ref().filter(|_| self.output == Flow::Open) else { return };
        match self.shown.fill(|buffer| rustix::io::read(master, buffer)) {
            Err(Errno::INTR | Errno::AGAIN) => {}
            // EIO: the last process that had it open is gone
            Ok(0) | Err(_) => self.output = Flow::Ended,
            Ok(_) => {}
        }
    }

    fn write_output(&mut self) {
        match self.shown.pour(|bytes| self.stdout.write(bytes)) {
            Ok(()) | Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => self.hang_up(),
        }
    }

    /// Nobody reads our standard output any more, and nobody ever will. The container's terminal is hung up as if it had
    /// been ours (runc does the same): a program that goes on writing has EIO, and ends by itself.
    fn hang_up(&mut self) {
        self.master = None;
        self.shown.clear();
        self.typed.clear();
        self.input = Flow::Ended;
        self.output = Flow::Ended;
    }

    /// The program has ended: what it wrote last still goes out, and `wait` waits until our standard output takes more, or
    /// says that it is to be given up. Others may still have the terminal open, and write: they are not waited for.
    pub fn finish(&mut self, mut wait: impl FnMut(PollFd<'_>) -> bool) {
        self.restore();
        let mut left = LAST;
        loop {
            if self.shown.is_empty() {
                self.read_output();
                left = left.saturating_sub(self.shown.len());
            }
            if self.shown.is_empty() || left == 0 || !wait(PollFd::from_borrowed_fd(self.stdout.fd(), PollFlags::OUT)) {
                return;
            }
            self.write_output();
        }
    }

    /// Our terminal is as it was. From now on a ^C is a signal to us again.
    fn restore(&mut self) {
        if let Some(before) = self.before.take() {
            let _ = rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &before);
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.restore();
    }
}

/// What has been read and not been written yet.
#[derive(Debug, Default)]
struct Pump {
    bytes: Vec<u8>,
    /// How much of it has been written.
    written: usize,
}

impl Pump {
    fn len(&self) -> usize {
        self.bytes.len() - self.written
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn last(&self) -> Option<u8> {
        self.bytes.last().copied()
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.written = 0;
    }

    fn set(&mut self, bytes: &[u8]) {
        self.clear();
        self.bytes.extend_from_slice(bytes);
    }

    /// One read. Only an empty pump is filled.
    fn fill(&mut self, read: impl FnOnce(&mut [u8]) -> Result<usize, Errno>) -> Result<usize, Errno> {
        self.written = 0;
        self.bytes.resize(SIZE, 0);
        let length = read(&mut self.bytes);
        self.bytes.truncate(*length.as_ref().unwrap_or(&0));
        length
    }

    /// One write.
    fn pour(&mut self, write: impl FnOnce(&[u8]) -> Result<usize, Errno>) -> Result<(), Errno> {
        self.written += write(&self.bytes[self.written..])?;
        Ok(())
    }
}

/// One of our standard streams, used so that no call on it blocks. O_NONBLOCK belongs to the open file description, which
/// we share with whoever started us, and stays as it is (open(2)).
#[derive(Debug)]
enum Stream {
    /// A terminal or a pipe, opened again: this description is ours.
    Own(OwnedFd),
    /// A socket has a flag for each call.
    Socket(BorrowedFd<'static>),
    /// Anything else, and what cannot be opened again, as another user's terminal. Never written to but behind POLLOUT, and
    /// no more at once than is then sure to fit.
    Shared(BorrowedFd<'static>, usize),
}

impl Stream {
    fn of(fd: BorrowedFd<'static>, access: OFlags) -> Stream {
        // a page always fits (pipe(7), PIPE_BUF); a terminal's driver counts its room in units of 256 bytes
        let is_terminal = rustix::termios::isatty(fd);
        let shared = Stream::Shared(fd, if is_terminal { 256 } else { 4096 });
        let Ok(stat) = rustix::fs::fstat(fd) else { return shared };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Socket => Stream::Socket(fd),
            // opening a master again makes a new terminal (ptmx(4))
            FileType::CharacterDevice if !is_terminal || stat.st_rdev == rustix::fs::makedev(5, 2) => shared,
            FileType::CharacterDevice | FileType::Fifo => {
                let flags = access | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
                let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
                rustix::fs::open(path, flags, Mode::empty()).map_or(shared, Stream::Own)
            }
            _ => shared,
        }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Stream::Own(fd) => fd.as_fd(),
            Stream::Socket(fd) | Stream::Shared(fd, _) => *fd,
        }
    }

    fn read(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Stream::Socket(fd) => rustix::net::recv(fd, buffer, RecvFlags::DONTWAIT).map(|(length, _)| length),
            Stream::Own(_) | Stream::Shared(..) => rustix::io::read(self.fd(), buffer),
        }
    }

    fn write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        match self {
            Stream::Own(fd) => rustix::io::write(fd, bytes),
            Stream::Socket(fd) => rustix::net::send(fd, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
            Stream::Shared(fd, most) => rustix::io::write(fd, &bytes[..bytes.len().min(*most)]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pump_holds_what_does_not_fit() {
        let mut pump = Pump::default();
        assert_eq!(pump.fill(|buffer| Ok(buffer.len())), Ok(SIZE));
        assert_eq!(pump.pour(|bytes| Ok(bytes.len() - 1)), Ok(()));
        assert_eq!(pump.len(), 1);
        assert_eq!(pump.pour(|_| Err(Errno::AGAIN)), Err(Errno::AGAIN));
        assert_eq!(pump.pour(|bytes| Ok(bytes.len())), Ok(()));
        assert!(pump.is_empty());
        assert_eq!(pump.fill(|_| Err(Errno::IO)), Err(Errno::IO));
        assert!(pump.is_empty());
    }
}
