//! The standard streams of a process: the targets that containerd names, and the pumps to them.

use libcontainer::{Stop, in_words};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use rustix::fs::{CWD, Gid, Mode, OFlags, Uid};
use rustix::pipe::PipeFlags;
use rustix::process::Signal;

use crate::logger::{self, Logger};
use crate::owner::Owner;
use crate::pump::{Pump, Reader, Refused};

/// The streams of a request: fifos, files, or URIs. A stream without a target is empty.
#[derive(Clone, Debug, Default)]
pub struct Names {
    pub stdin: String,
    pub stdout: String,
    pub stderr: String,
    pub terminal: bool,
}

/// Open streams.
#[derive(Debug, Default)]
pub struct Streams {
    /// The ends of the process: stdin, stdout, stderr. They are closed after the process has them. None with a
    /// terminal.
    pub theirs: Vec<OwnedFd>,
    /// The pumps for its output.
    pub outputs: Vec<Pump>,
    /// The pump for its input.
    pub input: Option<Pump>,
    /// A second end of the stdin fifo. While it is open, the process's stdin does not end when a client leaves.
    pub hold: Option<OwnedFd>,
    /// The program that receives the output.
    pub logger: Option<Logger>,
}

/// Opens the streams of a process without a terminal.
///
/// # Errors
/// The stream that cannot be opened, and the reason.
pub fn open(names: &Names, owner: &Owner, stop: &Stop) -> Result<Streams, String> {
    let mut streams = Streams::default();
    let stdin = if names.stdin.is_empty() { null()? } else { streams.open_stdin(&names.stdin, owner)? };
    let (stdout, stderr) = if let Some(uri) = logger::uri(&names.stdout) {
        let (logger, stdout, stderr) = Logger::start(&uri, owner, stop)?;
        streams.logger = Some(logger);
        (stdout, stderr)
    } else {
        let (stdout, stderr) = sinks(names)?;
        (streams.output(stdout, owner)?, streams.output(stderr, owner)?)
    };
    streams.theirs = vec![stdin, stdout, stderr];
    Ok(streams)
}

/// The streams of a process with the terminal `master`.
///
/// # Errors
/// The stream that cannot be opened, and the reason.
pub fn open_terminal(master: &OwnedFd, names: &Names, owner: &Owner, stop: &Stop) -> Result<Streams, String> {
    let mut streams = Streams::default();
    let failed = |error: rustix::io::Errno| format!("terminal: {error}", error = in_words(&error));
    let flags = rustix::fs::fcntl_getfl(master).map_err(failed)?;
    rustix::fs::fcntl_setfl(master, flags | OFlags::NONBLOCK).map_err(failed)?;
    let copy = || master.try_clone().map_err(|error| format!("terminal: {error}", error = in_words(&error)));
    if !names.stdin.is_empty() {
        let (fifo, hold) = stdin_fifo(&names.stdin)?;
        // what is typed while no process has the terminal open is lost
        streams.input = Some(Pump::new(fifo, copy()?, Refused::Dropped));
        streams.hold = hold;
    }
    let output = copy()?;
    // ORDER: last, so that no failure leaves a logger
    let sink = if let Some(uri) = logger::uri(&names.stdout) {
        let (logger, stdout, _) = Logger::start(&uri, owner, stop)?;
        streams.logger = Some(logger);
        rustix::fs::fcntl_setfl(&stdout, OFlags::NONBLOCK).map_err(failed).inspect_err(|_| streams.end_logger())?;
        Sink { file: stdout, reader: Reader::Here }
    } else {
        match sinks(names)?.0 {
            Some(sink) => sink,
            None => Sink { file: null()?, reader: Reader::Here },
        }
    };
    streams.outputs.push(Pump::new(output, sink.file, Refused::Dropped).reader(sink.reader).of_terminal());
    Ok(streams)
}

impl Streams {
    /// Kills the logger of a process that was not made: nothing was written to it, and it may ignore the end of its input.
    pub fn end_logger(&self) {
        if let Some(logger) = &self.logger {
            logger.signal(Signal::KILL);
        }
    }

    fn open_stdin(&mut self, name: &str, owner: &Owner) -> Result<OwnedFd, String> {
        let (fifo, hold) = stdin_fifo(name)?;
        let (theirs, ours) = pipe()?;
        chown(&theirs, owner)?;
        blocking(&theirs)?;
        self.input = Some(Pump::new(fifo, ours, Refused::End));
        self.hold = hold;
        Ok(theirs)
    }

    /// A pipe to `sink`. Returns the end of the process.
    fn output(&mut self, sink: Option<Sink>, owner: &Owner) -> Result<OwnedFd, String> {
        let Some(sink) = sink else { return null() };
        let (ours, theirs) = pipe()?;
        chown(&theirs, owner)?;
        blocking(&theirs)?;
        self.outputs.push(Pump::new(ours, sink.file, Refused::Dropped).reader(sink.reader));
        Ok(theirs)
    }
}

/// The target of an output.
struct Sink {
    file: OwnedFd,
    reader: Reader,
}

/// The targets of stdout and stderr.
fn sinks(names: &Names) -> Result<(Option<Sink>, Option<Sink>), String> {
    if let Some(path) = names.stdout.strip_prefix("file://") {
        let path = logger::decoded(path.split('?').next().unwrap_or_default());
        let open = || match append(Path::new(&path)) {
            Ok(file) => Ok(Sink { file, reader: Reader::Here }),
            Err(error) => Err(format!("open {path}: {error}", error = in_words(&error))),
        };
        return Ok((Some(open()?), Some(open()?)));
    }
    let sink = |name: &str| {
        if name.is_empty() {
            return Ok(None);
        }
        if let Some((scheme, _)) = name.split_once("://") {
            return Err(format!("unknown STDIO scheme {scheme}"));
        }
        open_sink(Path::new(name)).map(Some).map_err(|error| format!("open {name}: {error}", error = in_words(&error)))
    };
    Ok((sink(&names.stdout)?, sink(&names.stderr)?))
}

fn append(path: &Path) -> io::Result<OwnedFd> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    // a fifo without a reader is an error, and no thread waits for a reader
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NONBLOCK;
    let mode = Mode::from_raw_mode(0o666);
    Ok(rustix::fs::openat(CWD, path, flags | OFlags::CLOEXEC | OFlags::NOCTTY, mode)?)
}

/// Opens a fifo at both ends: then it always has a reader, and open(2) does not wait for one.
fn open_sink(path: &Path) -> io::Result<Sink> {
    let open = |flags| rustix::fs::openat(CWD, path, flags | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty());
    if !fs::metadata(path)?.file_type().is_fifo() {
        // a terminal of the host that nobody reads must not stop the loop
        return Ok(Sink { file: open(OFlags::WRONLY | OFlags::APPEND | OFlags::NONBLOCK)?, reader: Reader::Here });
    }
    // ORDER: our own reading end would count as a reader. The writing end stays open until then: a client must not see an end.
    // ENXIO: no client has it open
    let client = open(OFlags::WRONLY | OFlags::NONBLOCK);
    let file = open(OFlags::RDWR | OFlags::NONBLOCK)?;
    Ok(Sink { file, reader: if client.is_ok() { Reader::Here } else { Reader::Late } })
}

/// The file to read from. For a fifo, also its other end.
fn stdin_fifo(name: &str) -> Result<(OwnedFd, Option<OwnedFd>), String> {
    let open = |flags| {
        rustix::fs::openat(CWD, name, flags | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty())
            .map_err(|error| format!("open {name}: {error}", error = in_words(&error)))
    };
    let reader = open(OFlags::RDONLY)?;
    let is_fifo = fs::metadata(name).is_ok_and(|stat| stat.file_type().is_fifo());
    // ORDER: a fifo without a reader cannot be opened for writing (fifo(7))
    let hold = is_fifo.then(|| open(OFlags::WRONLY)).transpose()?;
    Ok((reader, hold))
}

fn null() -> Result<OwnedFd, String> {
    let null = rustix::fs::openat(CWD, "/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    null.map_err(|error| format!("open /dev/null: {error}", error = in_words(&error)))
}

/// A pipe with both ends non-blocking.
fn pipe() -> Result<(OwnedFd, OwnedFd), String> {
    rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
        .map_err(|error| format!("pipe: {error}", error = in_words(&error)))
}

/// The process's end blocks, as programs expect. Each end of a pipe has separate flags.
fn blocking(end: &OwnedFd) -> Result<(), String> {
    rustix::fs::fcntl_setfl(end, OFlags::empty()).map_err(|error| format!("fcntl: {error}", error = in_words(&error)))
}

/// The process may open its streams again through /proc/self/fd.
fn chown(end: &OwnedFd, owner: &Owner) -> Result<(), String> {
    if owner.uid == 0 && owner.gid == 0 {
        return Ok(());
    }
    let done = rustix::fs::fchown(end, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)));
    done.map_err(|error| format!("fchown: {error}", error = in_words(&error)))
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn owner() -> Owner {
        Owner { namespace: "n".into(), id: "c".into(), uid: 0, gid: 0 }
    }

    #[test]
    fn a_fifo_without_a_client_opens_at_once_and_a_client_that_leaves_ends_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name).to_str().expect("UTF-8").to_owned();
        for name in ["in", "out"] {
            rustix::fs::mknodat(CWD, path(name), rustix::fs::FileType::Fifo, Mode::RWXU, 0).expect("mkfifo");
        }
        let names = Names { stdin: path("in"), stdout: path("out"), ..Names::default() };
        let mut streams = open(&names, &owner(), &Stop::new().expect("eventfd")).expect("open");
        assert_eq!((streams.theirs.len(), streams.outputs.len()), (3, 1));
        let mut buffer = vec![0; 64];
        let input = streams.input.as_mut().expect("an input");
        let client = File::options().write(true).open(path("in")).expect("a client");
        rustix::io::write(&client, b"x").expect("write");
        drop(client);
        assert_eq!(input.step(&mut buffer), crate::pump::Next::Read);
        drop(streams.hold.take());
        assert_eq!(input.step(&mut buffer), crate::pump::Next::End);
    }

    #[test]
    fn a_terminal_that_nobody_reads_does_not_stop_the_pump() {
        let master =
            rustix::pty::openpt(rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY).expect("openpt");
        rustix::pty::unlockpt(&master).expect("unlockpt");
        let name = rustix::pty::ptsname(&master, Vec::new()).expect("ptsname").into_string().expect("UTF-8");
        let slave = rustix::fs::open(&name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).expect("the terminal");
        let names = Names { stdout: name, ..Names::default() };
        let mut streams = open(&names, &owner(), &Stop::new().expect("eventfd")).expect("open");
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut next = crate::pump::Next::Read;
            while next != crate::pump::Next::Write {
                rustix::io::write(&streams.theirs[1], &[b'x'; 4096]).expect("write");
                next = streams.outputs[0].step(&mut [0; 4096]);
            }
            sender.send(next)
        });
        let next = receiver.recv_timeout(std::time::Duration::from_secs(20)).expect("the pump waits for a reader");
        assert_eq!(next, crate::pump::Next::Write);
        drop((master, slave));
    }

    #[test]
    fn a_file_takes_both_outputs() {
        let directory = tempfile::tempdir().expect("a directory");
        let uri = format!("file://{}/new/a%20log", directory.path().display());
        let names = Names { stdout: uri, ..Names::default() };
        let mut streams = open(&names, &owner(), &Stop::new().expect("eventfd")).expect("open");
        for (end, text) in [(1, "out"), (2, "err")] {
            rustix::io::write(&streams.theirs[end], text.as_bytes()).expect("write");
            streams.outputs[end - 1].step(&mut [0; 64]);
        }
        assert_eq!(fs::read_to_string(directory.path().join("new/a log")).expect("the log"), "outerr");
        let names = Names { stdout: "ftp://x".into(), ..Names::default() };
        assert_eq!(
            open(&names, &owner(), &Stop::new().expect("eventfd")).err(),
            Some("unknown STDIO scheme ftp".into())
        );
        let fifo = directory.path().join("fifo");
        rustix::fs::mknodat(CWD, &fifo, rustix::fs::FileType::Fifo, Mode::RWXU, 0).expect("mkfifo");
        let names = Names { stdout: format!("file://{}", fifo.display()), ..Names::default() };
        let error = open(&names, &owner(), &Stop::new().expect("eventfd")).expect_err("nobody reads it");
        assert!(error.ends_with("no such device or address (ENXIO)"), "{error}");
    }
}
