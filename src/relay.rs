//! The relay between our standard streams and the container's terminal: two pumps with one buffer each. Nothing here
//! waits. `foreground` polls the streams with the signals and the process.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use rustix::termios::{OptionalActions, OutputModes, Termios};

use libcontainer::Result;

/// The size of a pump. One read(2) of a terminal's master returns at most this (tty(4): N_TTY_BUF_SIZE).
const SIZE: usize = 4096;
/// The most output that a terminal can hold after its program has ended: twice the limit of its flip buffer (64 KiB).
const LAST: usize = 128 * 1024;

/// Both directions between our terminal and the container's. Drop sets our own terminal back.
#[derive(Debug)]
pub struct Relay {
    /// None after it was hung up, because its output has no reader.
    master: Option<OwnedFd>,
    /// Ready after new output (EPOLLET), while a hangup keeps the master always ready.
    news: Epoll,
    /// The former settings of our terminal.
    before: Option<Termios>,
    stdin: Stream,
    stdout: Stream,
    typed: Pump,
    shown: Pump,
    /// The last input did not end a line.
    in_line: bool,
    input: Flow,
    output: Flow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Open,
    /// No process has the terminal open. The program may open it again, as systemd and getty do.
    Closed,
    Ended,
}

/// The positions of the relay's descriptors in the list that is polled.
#[derive(Clone, Copy, Debug, Default)]
pub struct PollIndices {
    master: Option<usize>,
    news: Option<usize>,
    stdin: Option<usize>,
    stdout: Option<usize>,
}

impl Relay {
    /// Takes over the terminal with this `master`. Must come before the program begins: it writes, and asks for the
    /// size, at once.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn begin(master: OwnedFd) -> Result<Relay> {
        let flags = rustix::fs::fcntl_getfl(&master)?;
        rustix::fs::fcntl_setfl(&master, flags | OFlags::NONBLOCK)?;
        // Our own terminal already adds the carriage returns.
        let mut mode = rustix::termios::tcgetattr(&master)?;
        mode.output_modes.remove(OutputModes::ONLCR);
        // ORDER: before our terminal is raw, because nothing sets it back until the relay exists
        let news = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        news.add(&master, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, 0))?;
        let stdin = rustix::stdio::stdin();
        let before = rustix::termios::tcgetattr(stdin).ok();
        if let Some(before) = &before {
            rustix::termios::tcsetattr(&master, OptionalActions::Now, &mode)?;
            let mut raw = before.clone();
            raw.make_raw();
            // `make_raw` switches OPOST off. Our terminal keeps it: the container's adds no carriage returns any more.
            raw.output_modes.insert(OutputModes::OPOST);
            rustix::termios::tcsetattr(stdin, OptionalActions::Now, &raw)
                .map_err(|errno| libcontainer::Error::from(errno).context("set terminal to raw mode"))?;
        }
        let relay = Relay {
            master: Some(master),
            news,
            before,
            stdin: Stream::new(stdin, OFlags::RDONLY),
            stdout: Stream::new(rustix::stdio::stdout(), OFlags::WRONLY),
            typed: Pump::default(),
            shown: Pump::default(),
            in_line: false,
            input: Flow::Open,
            output: Flow::Open,
        };
        relay.resize();
        Ok(relay)
    }

    /// Sets the size of the container's terminal to ours.
    pub fn resize(&self) {
        if let Some(master) = &self.master
            && let Ok(size) = rustix::termios::tcgetwinsize(rustix::stdio::stdin())
            && size.ws_row != 0
        {
            let _ = rustix::termios::tcsetwinsize(master, size);
        }
    }

    /// Adds the descriptors that the relay waits for. A full pump is not filled: the writer waits, as on a terminal of
    /// its own.
    pub fn polls<'p>(&'p self, fds: &mut Vec<PollFd<'p>>) -> PollIndices {
        let mut add = |fd: BorrowedFd<'p>, flags: PollFlags| {
            // A descriptor after a hangup is always ready. One that is not needed is not polled.
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
        let news = wanted(PollFlags::IN, self.output == Flow::Closed && self.shown.is_empty());
        let news = add(self.news.0.as_fd(), news);
        PollIndices { master, news, stdin: add(self.stdin.fd(), stdin), stdout: add(self.stdout.fd(), stdout) }
    }

    /// One read and one write in each direction, if `ready` says that it will not block.
    pub fn turn(&mut self, places: PollIndices, ready: &[PollFlags]) {
        let is_ready = |n: Option<usize>| n.is_some_and(|n| !ready[n].is_empty());
        if is_ready(places.stdout) {
            self.write_output();
        }
        if is_ready(places.master) && self.shown.is_empty() {
            self.read_output();
        }
        if is_ready(places.news) {
            // ORDER: an event that comes after this is for the next turn
            let _ = self.news.wait(&mut [EpollEvent::empty()], EpollTimeout::ZERO);
            self.output = Flow::Open;
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
                // The end of a file is sent as VEOF: a reader of a terminal sees it as the end. After half a line, the
                // first VEOF only sends the half (termios(3)).
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
            // Linux keeps what is typed while no process has the terminal open. If a kernel refuses it, it is lost, and so is
            // the end.
            Err(Errno::IO) => self.typed.clear(),
            Err(_) => {
                self.typed.clear();
                self.input = Flow::Ended;
            }
        }
    }

    /// Reads once from the container's output.
    fn read_output(&mut self) {
        let Some(master) = self.master.as_ref().filter(|_| self.output == Flow::Open) else { return };
        match self.shown.fill(|buffer| rustix::io::read(master, buffer)) {
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(Errno::IO) => self.output = Flow::Closed,
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

    /// Our standard output has no reader any more. The container's terminal is hung up, as runc does: a program that
    /// writes then gets EIO, and ends by itself. If it does not, ^C is a signal to us, which we forward.
    fn hang_up(&mut self) {
        self.restore();
        self.master = None;
        self.shown.clear();
        self.typed.clear();
        self.input = Flow::Ended;
        self.output = Flow::Ended;
    }

    /// The program has ended. Its last output is still written. `wait` waits until our standard output accepts more, or
    /// returns false to stop. Other processes may still have the terminal open and write: the relay does not wait for
    /// them.
    pub fn finish(&mut self, mut wait: impl FnMut(PollFd<'_>) -> bool) {
        self.restore();
        if self.output == Flow::Closed {
            self.output = Flow::Open;
        }
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

    /// Sets our terminal back. From now on ^C is a signal to us again.
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

/// Bytes that were read and not yet written.
#[derive(Debug, Default)]
struct Pump {
    bytes: Vec<u8>,
    /// The number of bytes that are written.
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

    /// One read(2). Only an empty pump is filled.
    fn fill(&mut self, read: impl FnOnce(&mut [u8]) -> Result<usize, Errno>) -> Result<usize, Errno> {
        self.written = 0;
        self.bytes.resize(SIZE, 0);
        let length = read(&mut self.bytes);
        self.bytes.truncate(*length.as_ref().unwrap_or(&0));
        length
    }

    /// One write(2).
    fn pour(&mut self, write: impl FnOnce(&[u8]) -> Result<usize, Errno>) -> Result<(), Errno> {
        self.written += write(&self.bytes[self.written..])?;
        Ok(())
    }
}

/// One of our standard streams, used so that no call on it blocks. O_NONBLOCK belongs to the open file description,
/// which we share with our caller. So we do not set it (open(2)).
#[derive(Debug)]
enum Stream {
    /// A terminal or a pipe, opened again: this file description is ours.
    Own(OwnedFd),
    /// A socket: each call has a flag.
    Socket(BorrowedFd<'static>),
    /// All others, and a stream that cannot be opened again, such as another user's terminal. It is written only after
    /// POLLOUT, and at most as many bytes as certainly fit.
    Shared(BorrowedFd<'static>, usize),
}

impl Stream {
    fn new(fd: BorrowedFd<'static>, access: OFlags) -> Stream {
        // A page always fits (pipe(7), PIPE_BUF). A terminal's driver counts its space in units of 256 bytes.
        let is_terminal = rustix::termios::isatty(fd);
        let shared = Stream::Shared(fd, if is_terminal { 256 } else { 4096 });
        let Ok(stat) = rustix::fs::fstat(fd) else { return shared };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Socket => Stream::Socket(fd),
            // To open a master again makes a new terminal (ptmx(4)).
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
