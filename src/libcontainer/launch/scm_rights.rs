//! Descriptors that are sent through sockets (SCM_RIGHTS, unix(7)): the master of a terminal, a pidfd, a seccomp listener.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use rustix::event::PollFlags;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType,
};

use crate::error::{Context, Result, bail, error};
use crate::wait::{self, limits};

/// A stream socket connected to `path`, which may be longer than the 108 bytes that an address holds (unix(7)).
///
/// # Errors
/// The path, and the kernel's error.
pub fn connect(path: &Path) -> Result<OwnedFd> {
    let act = || format!("connect to {}", path.display());
    if path.as_os_str().len() < 108 {
        return Ok(wait::connect(path).with_context(act)?.into());
    }
    let directory = path.parent().unwrap_or(Path::new("/"));
    let name = path.file_name().ok_or_else(|| error!("{} names no socket", path.display()))?;
    let directory = rustix::fs::openat(CWD, directory, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(std::io::Error::from)
        .with_context(act)?;
    let short = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
    Ok(wait::connect(&short).with_context(act)?.into())
}

/// A pair of sockets: init sends the master of its terminal to one, and we `receive` it from the other.
///
/// # Errors
/// The kernel's error.
pub fn pair() -> Result<(OwnedFd, OwnedFd)> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).context("socketpair")
}

/// Sends one descriptor with `text`, which must not be empty: a message without bytes carries no descriptor.
///
/// # Errors
/// The receiver reads nothing for `limits::ANSWER`, a signal asks the process to end, or the kernel's error.
pub fn send(socket: BorrowedFd<'_>, text: &[u8], fd: BorrowedFd<'_>) -> Result<()> {
    let fds = [fd];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(error!("no room for a descriptor"));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    let mut message = || rustix::net::sendmsg(socket, &[IoSlice::new(text)], &mut control, flags);
    let mut sent = when_read(socket, "sendmsg", &mut message)?;
    // A stream socket takes as many bytes as fit. The descriptor arrives with the first byte.
    while sent < text.len() {
        sent += when_read(socket, "send", &mut || rustix::net::send(socket, &text[sent..], flags))?;
    }
    Ok(())
}

/// Makes the `call`, which does not wait, when `socket` has room.
fn when_read(socket: BorrowedFd<'_>, name: &str, call: &mut dyn FnMut() -> Result<usize, Errno>) -> Result<usize> {
    let deadline = Instant::now() + limits::ANSWER;
    loop {
        match call() {
            Err(Errno::AGAIN) => {}
            other => return other.context(name),
        }
        if !wait::ready(&[(socket, PollFlags::OUT)], Some(deadline)).context(name)? {
            bail!("{name}: no process has read from the socket for {} s", limits::ANSWER.as_secs());
        }
    }
}

/// Receives the one descriptor of a message.
///
/// # Errors
/// The message has no descriptor.
pub fn receive(socket: BorrowedFd<'_>) -> Result<OwnedFd> {
    let mut text = [0u8; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut text)], &mut control, RecvFlags::CMSG_CLOEXEC)
        .context("recvmsg")?;
    control
        .drain()
        .find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        })
        .ok_or_else(|| error!("no terminal has been sent"))
}

/// Sends a pidfd to `--pidfd-socket`. As with runc, `name` is `standard` for init and `setns` for exec.
///
/// # Errors
/// The path, and the kernel's error.
pub fn send_pidfd(path: &Path, name: &str, pidfd: BorrowedFd<'_>) -> Result<()> {
    let socket = connect(path).context("Ready::pass_on_pidfd")?;
    send(socket.as_fd(), name.as_bytes(), pidfd).context("Ready::pass_on_pidfd")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn one_descriptor_travels_with_its_name() {
        let (ours, theirs) = pair().unwrap();
        let file = tempfile::tempfile().unwrap();
        send(theirs.as_fd(), b"x", file.as_fd()).unwrap();
        let got = receive(ours.as_fd()).unwrap();
        assert_eq!(rustix::fs::fstat(&got).unwrap().st_ino, rustix::fs::fstat(&file).unwrap().st_ino);
        drop(theirs);
        assert!(receive(ours.as_fd()).is_err());
    }

    #[test]
    fn a_long_path_is_reached_through_its_directory() {
        let directory = tempfile::tempdir().unwrap();
        let deep = directory.path().join("d".repeat(100));
        std::fs::create_dir(&deep).unwrap();
        let here = rustix::fs::openat(CWD, &deep, OFlags::PATH, Mode::empty()).unwrap();
        let short = format!("/proc/self/fd/{}/socket", here.as_raw_fd());
        let _listener = UnixListener::bind(short).unwrap();
        assert!(connect(&deep.join("socket")).is_ok());
        assert!(connect(&deep.join("nope")).is_err());
    }
}
