//! A program that receives the output of a container (`binary://`): stdout is its descriptor 3, stderr is 4. It closes
//! 5 when it is ready.

use libcontainer::{Stop, in_words};
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::{Errno, FdFlags};
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, PidfdFlags, Signal};

use crate::owner::Owner;

/// With this argument our own program renumbers the descriptors and executes the logger.
pub const ROLE: &str = "logger";
/// The pipe of a logger's readiness carries this, and then the reason, if the logger was not executed.
const NOT_EXECUTED: &[u8] = b"\0not executed: ";

/// Waits for each logger until its time is over, and then kills it.
pub fn end_all(loggers: Vec<(Logger, Instant)>) {
    for (logger, deadline) in loggers {
        let rest = Timespec::try_from(deadline.saturating_duration_since(Instant::now())).unwrap_or_default();
        let _ = rustix::event::poll(&mut [PollFd::new(&logger.process, PollFlags::IN)], Some(&rest));
        logger.signal(Signal::KILL);
    }
}

/// The program of a `binary://` URI and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uri {
    program: String,
    args: Vec<String>,
}

/// Parses a `binary://` URI. None for another URI.
pub fn uri(name: &str) -> Option<Uri> {
    let rest = name.strip_prefix("binary://")?;
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut args = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        args.push(decoded(&key.replace('+', " ")));
        args.push(decoded(&value.replace('+', " ")));
    }
    Some(Uri { program: decoded(path), args })
}

/// Decodes the escapes of a URI.
pub fn decoded(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, others)) = rest.split_first() {
        let digits = others.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits.filter(|_| *first == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &others[2..] } else { others };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A running logger.
#[derive(Debug)]
pub struct Logger {
    process: OwnedFd,
}

impl Logger {
    /// Starts it and waits until it is ready. The process's ends for stdout and stderr come with it.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(uri: &Uri, owner: &Owner, stop: &Stop) -> Result<(Logger, OwnedFd, OwnedFd), String> {
        let failed_as = |reason: &str| format!("start the logger {}: {reason}", uri.program);
        let failed = |error: io::Error| failed_as(&in_words(&error).to_string());
        let pipe = || rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(|errno| failed(errno.into()));
        let ((stdout, stdout_end), (stderr, stderr_end), (ready, ready_end)) = (pipe()?, pipe()?, pipe()?);
        let child = Command::new("/proc/self/exe")
            .arg(ROLE)
            .arg(&uri.program)
            .args(&uri.args)
            .env_clear()
            .env("CONTAINER_ID", &owner.id)
            .env("CONTAINER_NAMESPACE", &owner.namespace)
            .stdin(Stdio::from(stdout))
            .stdout(Stdio::from(ready_end))
            .stderr(Stdio::from(stderr))
            .spawn()
            .map_err(failed)?;
        let process = rustix::process::pidfd_open(Pid::from_child(&child), PidfdFlags::empty());
        let process = process.map_err(|errno| failed(errno.into()))?;
        let logger = Logger { process };
        let ready = is_ready(&ready, stop).map_err(failed).and_then(|reason| match reason {
            None => Ok(()),
            Some(reason) => Err(failed_as(&reason)),
        });
        // it may ignore the end of its input
        ready.inspect_err(|_| logger.signal(Signal::KILL))?;
        Ok((logger, stdout_end, stderr_end))
    }

    /// Sends a signal to it. It may have ended already.
    pub fn signal(&self, signal: Signal) {
        let _ = rustix::process::pidfd_send_signal(&self.process, signal);
    }
}

/// Waits until a logger is ready: a byte comes, or the end of a program that closes the pipe or ends. Returns the reason if it
/// could not be executed.
fn is_ready(ready: &OwnedFd, stop: &Stop) -> io::Result<Option<String>> {
    let mut both = [PollFd::new(ready, PollFlags::IN), PollFd::new(stop, PollFlags::IN)];
    while let Err(errno) = rustix::event::poll(&mut both, None) {
        if errno != Errno::INTR {
            return Err(errno.into());
        }
    }
    if both[0].revents().is_empty() {
        return Ok(Some("it was killed before it was ready".to_owned()));
    }
    let mut buffer = [0; 512];
    let count = rustix::io::read(ready, &mut buffer)?;
    Ok(buffer[..count].strip_prefix(NOT_EXECUTED).map(|reason| String::from_utf8_lossy(reason).into_owned()))
}

/// Runs in our program with that argument: gives the streams the numbers that the logger expects.
pub fn become_logger(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let Some(program) = args.next() else { return ExitCode::FAILURE };
    // no other descriptor is open: each copy gets the lowest free number
    match rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 5) {
        Ok(ready) => {
            let error = streams_moved(&ready).err().unwrap_or_else(|| Command::new(program).args(args).exec());
            not_executed(&ready, &error);
        }
        Err(errno) => not_executed(rustix::stdio::stdout(), &errno.into()),
    }
    ExitCode::FAILURE
}

/// Tells the shim why the logger does not run. If the pipe only closed, the shim would take the logger for ready.
fn not_executed(ready: impl AsFd, error: &io::Error) {
    let _ = rustix::io::write(ready, &[NOT_EXECUTED, in_words(error).to_string().as_bytes()].concat());
}

/// Gives the logger its streams and `ready`, the pipe that it closes when it is ready.
fn streams_moved(ready: &OwnedFd) -> io::Result<()> {
    let stdout = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let stderr = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stderr(), 4)?;
    let null = std::fs::File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    for end in [&stdout, &stderr, ready] {
        rustix::io::fcntl_setfd(end, FdFlags::empty())?;
    }
    // they stay open for the program
    std::mem::forget((stdout, stderr));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_is_a_program_and_its_arguments() {
        let read = uri("binary:///usr/bin/log%20er?id=a+b&%2Dv&k=%41").expect("binary");
        assert_eq!(read.program, "/usr/bin/log er");
        assert_eq!(read.args, ["id", "a b", "-v", "", "k", "A"]);
        assert_eq!(uri("file:///x"), None);
        assert_eq!(decoded("100%"), "100%");
    }
}
