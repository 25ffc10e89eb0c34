//! Moves one stream from a pipe or a terminal to its reader. Neither side can block the shim.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::poll::Interest;

/// The number of bytes that are moved at once.
pub const ROOM: usize = 32 << 10;
/// The number of rounds before other streams have their turn.
const TURNS: usize = 8;

/// The condition that a pump waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Bytes to read.
    Read,
    /// Room to write.
    Write,
    /// A reader, which comes late: the stream has ended, and its client has not opened the fifo, or not read the last bytes.
    /// No descriptor reports this.
    Reader,
    /// A process that opens the terminal again and writes to it: none has it open.
    Opener,
    /// No condition: the stream has ended.
    End,
}

/// What happens to bytes that the other side refuses, for example because the disk is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// They are lost, and the container continues to write.
    Dropped,
    /// The stream ends.
    End,
}

/// Whether the target has a reader when it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// It has one, or needs none.
    Here,
    /// A fifo that no client had open. Its bytes are lost when we close it, and a client that opens it after that waits for a
    /// writer for ever (fifo(7)). So we keep it open until a client has it.
    Late,
    /// The same, and we hold only the writing end: poll(2) reports whether a client has the fifo open.
    Awaited,
}

/// Whether epoll reports the source's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// A pipe or a terminal.
    Stream,
    /// A file.
    File,
}

/// What it means that no process has the terminal open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HangUp {
    /// The program lives, and may open it again, as systemd does.
    Waits,
    /// The stream has ended.
    Ends,
}

/// Whether bytes were written to the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Nothing,
    Bytes,
}

/// A stream, with the bytes that were read and not yet written.
#[derive(Debug)]
pub struct Pump {
    from: OwnedFd,
    to: OwnedFd,
    refused: Refused,
    reader: Reader,
    hang_up: HangUp,
    source: Source,
    sent: Sent,
    pending: Vec<u8>,
    next: Next,
}

impl Pump {
    /// Both descriptors must be non-blocking, unless they are files.
    pub fn new(from: OwnedFd, to: OwnedFd, refused: Refused) -> Pump {
        let (reader, hang_up) = (Reader::Here, HangUp::Ends);
        let (source, sent) = (Source::Stream, Sent::Nothing);
        Pump { from, to, refused, reader, hang_up, source, sent, pending: Vec::new(), next: Next::Read }
    }

    /// Sets whether the target has a reader.
    #[must_use]
    pub fn reader(mut self, reader: Reader) -> Pump {
        self.reader = reader;
        self
    }

    /// The source is a terminal: its processes may close it and open it again, until the program has ended.
    #[must_use]
    pub fn of_terminal(mut self) -> Pump {
        self.hang_up = HangUp::Waits;
        self
    }

    /// The program has ended: if no process has its terminal open, the stream ends.
    pub fn program_has_ended(&mut self) {
        self.hang_up = HangUp::Ends;
    }

    /// The source is a file, whose bytes are always there: the pump waits only for room.
    pub fn reads_a_file(&mut self) {
        self.source = Source::File;
    }

    /// The condition that it waits for.
    pub fn waits(&self) -> Next {
        self.next
    }

    /// The descriptor and condition that it waits for.
    pub fn side(&self, next: Next) -> (BorrowedFd<'_>, Interest) {
        match next {
            Next::Write => (self.to.as_fd(), Interest::Write),
            Next::Read if self.source == Source::File => (self.to.as_fd(), Interest::Write),
            Next::Opener => (self.from.as_fd(), Interest::NewBytes),
            Next::Read | Next::Reader | Next::End => (self.from.as_fd(), Interest::Read),
        }
    }

    /// Moves all bytes that can be moved now, through `buffer`.
    pub fn step(&mut self, buffer: &mut [u8]) -> Next {
        for _ in 0..TURNS {
            let stopped = if self.pending.is_empty() { self.read(buffer) } else { self.write_on() };
            if let Some(next) = stopped {
                self.next = next;
                return next;
            }
        }
        self.next = if self.pending.is_empty() { Next::Read } else { Next::Write };
        self.next
    }

    fn read(&mut self, buffer: &mut [u8]) -> Option<Next> {
        match rustix::io::read(&self.from, &mut *buffer) {
            Ok(0) => Some(self.end()),
            Ok(count) => self.write(&buffer[..count]),
            Err(Errno::AGAIN) => Some(Next::Read),
            Err(Errno::INTR) => None,
            // no process has the terminal open
            Err(Errno::IO) if self.hang_up == HangUp::Waits => Some(Next::Opener),
            Err(_) => Some(self.end()),
        }
    }

    /// The stream has ended: what its target waits for.
    fn end(&self) -> Next {
        let had_reader = match self.reader {
            Reader::Here => true,
            Reader::Late => false,
            Reader::Awaited => has_reader(&self.to),
        };
        if had_reader || (self.sent == Sent::Bytes && !self.has_unread_bytes()) { Next::End } else { Next::Reader }
    }

    fn has_unread_bytes(&self) -> bool {
        rustix::io::ioctl_fionread(&self.to).is_ok_and(|count| count > 0)
    }

    /// True if bytes can still come, or lie in the fifo. False if only a client is missing.
    pub fn has_bytes_to_deliver(&self) -> bool {
        self.next != Next::Reader || self.has_unread_bytes()
    }

    /// Gives up the reading end of a fifo: it would count as a reader. Call it only when the target is not in epoll. If
    /// no descriptor is free, the next call does it.
    pub fn await_reader(&mut self) {
        if self.reader == Reader::Late
            // ORDER: with our reading end still open, open(2) finds a reader and does not fail
            && let Ok(end) = write_end(&self.to)
        {
            (self.to, self.reader) = (end, Reader::Awaited);
        }
    }

    /// Writes the bytes that were read, and keeps those that are not written.
    fn write(&mut self, mut bytes: &[u8]) -> Option<Next> {
        while !bytes.is_empty() {
            match rustix::io::write(&self.to, bytes) {
                Ok(count) => {
                    self.sent = Sent::Bytes;
                    bytes = &bytes[count..];
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.pending = bytes.to_vec();
                    return Some(Next::Write);
                }
                Err(_) if self.refused == Refused::Dropped => return None,
                Err(_) => return Some(Next::End),
            }
        }
        None
    }

    fn write_on(&mut self) -> Option<Next> {
        let bytes = std::mem::take(&mut self.pending);
        self.write(&bytes)
    }
}

/// A second, write-only descriptor of a fifo that is open at both ends.
fn write_end(fifo: &OwnedFd) -> Result<OwnedFd, Errno> {
    let path = format!("/proc/self/fd/{}", fifo.as_raw_fd());
    rustix::fs::open(path, OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
}

/// Whether a process has the fifo of this write-only descriptor open for reading (poll(2), POLLERR).
fn has_reader(fifo: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(fifo, PollFlags::empty())];
    let polled_fds = rustix::event::poll(&mut polled, Some(&Timespec::default()));
    polled_fds.is_ok() && !polled[0].revents().contains(PollFlags::ERR)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use rustix::pipe::PipeFlags;

    use super::*;

    fn pipe() -> (OwnedFd, OwnedFd) {
        rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).expect("pipe")
    }

    fn read_all(from: &OwnedFd, into: &mut Vec<u8>) {
        let mut room = vec![0; 1 << 20];
        while let Ok(count) = rustix::io::read(from, &mut room)
            && count > 0
        {
            into.extend_from_slice(&room[..count]);
        }
    }

    #[test]
    fn nothing_is_lost_on_the_way_to_a_reader_that_stops() {
        let ((ours, theirs), (reader, writer)) = (pipe(), pipe());
        let mut pump = Pump::new(ours, writer, Refused::Dropped);
        let (mut buffer, mut sent, mut came) = (vec![0; ROOM], Vec::new(), Vec::new());
        for round in 0..50u8 {
            while let Ok(count) = rustix::io::write(&theirs, &[round; 5000]) {
                sent.extend(std::iter::repeat_n(round, count));
            }
            while pump.step(&mut buffer) == Next::Read && round % 2 == 0 && came.len() < sent.len() {
                read_all(&reader, &mut came);
            }
            assert_ne!(pump.step(&mut buffer), Next::End);
            if round % 3 == 0 {
                read_all(&reader, &mut came);
            }
        }
        drop(theirs);
        while pump.step(&mut buffer) != Next::End {
            read_all(&reader, &mut came);
        }
        read_all(&reader, &mut came);
        assert_eq!(came.len(), sent.len());
        assert!(came == sent);
    }

    #[test]
    fn a_full_disk_does_not_stop_the_writer_and_a_closed_stdin_ends_the_stream() {
        let (ours, theirs) = pipe();
        let full = File::options().write(true).open("/dev/full").expect("/dev/full");
        let mut pump = Pump::new(ours, full.into(), Refused::Dropped);
        let mut buffer = vec![0; ROOM];
        rustix::io::write(&theirs, b"lost").expect("write");
        assert_eq!(pump.step(&mut buffer), Next::Read);
        let ((ours, theirs), (reader, writer)) = (pipe(), pipe());
        let mut pump = Pump::new(ours, writer, Refused::End);
        drop(reader);
        rustix::io::write(&theirs, b"unread").expect("write");
        assert_eq!(pump.step(&mut buffer), Next::End);
    }
}
