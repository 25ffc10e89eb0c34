//! A program that receives the output of a container (`binary://`): stdout is its descriptor 3, stderr is 4. It closes
//! 5 when it is ready.

use libcontainer::in_words;
use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};

use rustix::io::FdFlags;
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, PidfdFlags, Signal};

use crate::owner::Owner;

/// With this argument our own program renumbers the descriptors and executes the logger.
pub const ROLE: &str = "logger";

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
    pub fn start(uri: &Uri, owner: &Owner) -> Result<(Logger, OwnedFd, OwnedFd), String> {
        let failed = |error: io::Error| format!("start the logger {}: {error}", uri.program, error = in_words(&error));
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
        // a byte, or the end of a program that closes it or ends
        std::fs::File::from(ready).read(&mut [0]).map_err(failed)?;
        Ok((Logger { process }, stdout_end, stderr_end))
    }

    /// Sends a signal to it. It may have ended already.
    pub fn signal(&self, signal: Signal) {
        let _ = rustix::process::pidfd_send_signal(&self.process, signal);
    }
}

/// Runs in our program with that argument: gives the streams the numbers that the logger expects.
pub fn become_logger(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let Some(program) = args.next() else { return ExitCode::FAILURE };
    match streams_moved() {
        Ok(()) => {
            // exec returns only when it fails, and the shim reads no message
            let _ = Command::new(program).args(args).exec();
            ExitCode::FAILURE
        }
        Err(_) => ExitCode::FAILURE,
    }
}

fn streams_moved() -> io::Result<()> {
    // no other descriptor is open: each copy gets the lowest free number
    let stdout = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let stderr = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stderr(), 4)?;
    let ready = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 5)?;
    let null = std::fs::File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    for end in [stdout, stderr, ready] {
        rustix::io::fcntl_setfd(&end, FdFlags::empty())?;
        // the environment of the program comes from us
        std::mem::forget(end);
    }
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
