//! The sd_notify proxy (sd_notify(3)). A service manager listens on the host at NOTIFY_SOCKET. The container gets a
//! socket of ours instead. Only the ready message is forwarded: pids and descriptors of the container have no meaning
//! outside.

use std::fs::{self, File, Permissions};
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::event::PollFlags;
use rustix::pipe::PipeFlags;

use super::scm_rights;
use crate::error::{Context, Result};
use crate::wait::{self, limits};

/// The socket's name in its directory, which is /run/notify in the container.
const NAME: &str = "notify.sock";
/// The largest number of messages that are read at once: a program that sends without end must not block everything else.
const MOST_MESSAGES: usize = 16;

/// The socket to which a container sends that it is ready (sd_notify(3)), and a connection to the service manager.
///
/// ```no_run
/// use libcontainer::{Bundle, Root};
///
/// let (root, bundle) = (Root::open("/run/coracle")?, Bundle::read("/bundles/box")?);
/// let (mut container, process) = root.create("box", &bundle).notify().create()?;
/// let socket = root.notify_socket("box", "/run/systemd/notify")?.expect("made with `notify`");
/// container.start()?;
/// socket.wait_until_ready(process.pidfd(), process.pid())?;
/// # Ok::<(), libcontainer::Error>(())
/// ```
#[derive(Debug)]
pub struct NotifySocket {
    container: UnixDatagram,
    manager: UnixDatagram,
}

/// The directory for the socket of a container. `state` is the container's directory.
pub fn directory(state: &Path) -> PathBuf {
    state.join("notify")
}

/// Makes the directory for /run/notify of the container.
pub(super) fn prepare(directory: &Path) -> Result<()> {
    let made = fs::create_dir(directory).and_then(|()| fs::set_permissions(directory, Permissions::from_mode(0o755)));
    made.with_context(|| format!("NOTIFY_SOCKET: mkdir {}", directory.display()))
}

impl NotifySocket {
    /// Binds the container's socket in `directory`. None if the directory does not exist: the container was made
    /// without it, and can never send anything.
    ///
    /// # Errors
    /// `manager` (a path, or `@name` for an abstract one) does not listen, or the kernel's error.
    pub(crate) fn bind(directory: &Path, manager: &str) -> Result<Option<NotifySocket>> {
        let opened = match File::open(directory) {
            Ok(opened) => opened,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("NOTIFY_SOCKET: open {}", directory.display())),
        };
        let manager = connected(manager).with_context(|| format!("NOTIFY_SOCKET: connect to {manager}"))?;
        // Bound through a descriptor, because the path may be longer than an address (unix(7)).
        let path = PathBuf::from(format!("/proc/self/fd/{}/{NAME}", opened.as_raw_fd()));
        // The socket of an earlier `start`, if there was one. If it stays, bind(2) reports it.
        let _ = fs::remove_file(&path);
        let bound = UnixDatagram::bind(&path).and_then(|socket| {
            fs::set_permissions(&path, Permissions::from_mode(0o777))?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        });
        let container = bound.with_context(|| format!("NOTIFY_SOCKET: bind {NAME} in {}", directory.display()))?;
        Ok(Some(NotifySocket { container, manager }))
    }

    /// Waits until the container sends that it is ready. Tells the manager this, and that `pid` is now the main process
    /// of the service. Returns after the manager has processed it, or when the process ends (`pidfd`).
    ///
    /// # Errors
    /// The message to the manager fails.
    pub fn wait_until_ready(&self, pidfd: BorrowedFd<'_>, pid: i32) -> Result<()> {
        loop {
            let said = (self.container.as_fd(), PollFlags::IN);
            wait::ready(&[said, (pidfd, PollFlags::IN)], None).context("NOTIFY_SOCKET")?;
            let ended = wait::readable(pidfd, Some(Instant::now()))?;
            if self.pass_on()? {
                self.send_line(&format!("MAINPID={pid}"))?;
                return self.barrier();
            }
            if ended {
                return Ok(());
            }
            // A wait returns for the first ready descriptor, and a program may send without end.
            wait::must_not_be_interrupted().context("NOTIFY_SOCKET")?;
        }
    }

    /// Reads the messages in the socket, and forwards only the last one about readiness. Returns true if it says that the
    /// container is ready.
    ///
    /// # Errors
    /// The message to the manager fails.
    pub fn pass_on(&self) -> Result<bool> {
        let mut buffer = [0u8; 4096];
        let mut ready = None;
        for _ in 0..MOST_MESSAGES {
            let Ok(length) = self.container.recv(&mut buffer) else { break };
            let text = String::from_utf8_lossy(&buffer[..length]);
            ready = text.lines().rfind(|line| line.starts_with("READY=")).map(str::to_owned).or(ready);
        }
        ready.as_deref().map_or(Ok(()), |line| self.send_line(line))?;
        Ok(ready.is_some())
    }

    fn send_line(&self, line: &str) -> Result<()> {
        self.manager.send(line.as_bytes()).map(drop).with_context(|| format!("NOTIFY_SOCKET: send {line}"))
    }

    /// The manager closes the descriptor after it has read all earlier messages (sd_notify_barrier(3)).
    fn barrier(&self) -> Result<()> {
        let (ours, theirs) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).context("pipe")?;
        scm_rights::send(self.manager.as_fd(), b"BARRIER=1", theirs.as_fd())
            .context("NOTIFY_SOCKET: send BARRIER=1")?;
        drop(theirs);
        // A manager that does not know barriers, or is slow, blocks us for this time at most.
        wait::ready(&[(ours.as_fd(), PollFlags::empty())], Some(Instant::now() + limits::BARRIER))?;
        Ok(())
    }
}

/// Readable when the container has sent something.
impl AsFd for NotifySocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.container.as_fd()
    }
}

fn connected(manager: &str) -> std::io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    // A manager that reads nothing blocks us for this time at most.
    socket.set_write_timeout(Some(limits::ANSWER))?;
    match manager.strip_prefix('@') {
        Some(name) => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        None => socket.connect(manager)?,
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_readiness_is_passed_on() {
        let directory = tempfile::tempdir().unwrap();
        let deep = directory.path().join("d".repeat(110));
        prepare(&deep).unwrap();
        let name = format!("coracle-test-{}", std::process::id());
        let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let notify = NotifySocket::bind(&deep, &format!("@{name}")).unwrap().unwrap();
        let program = UnixDatagram::unbound().unwrap();
        let here = File::open(&deep).unwrap();
        program.connect(format!("/proc/self/fd/{}/{NAME}", here.as_raw_fd())).unwrap();
        program.send(b"STATUS=half way\nMAINPID=1\n").unwrap();
        assert!(!notify.pass_on().unwrap());
        program.send(b"STATUS=there\nREADY=1\n").unwrap();
        assert!(notify.pass_on().unwrap());
        let mut buffer = [0u8; 64];
        let length = manager.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"READY=1");
        manager.set_nonblocking(true).unwrap();
        assert!(manager.recv(&mut buffer).is_err());
        // Several messages in one turn become one message for the manager, which may be slow.
        for _ in 0..5 {
            program.send(b"READY=1\nREADY=1\n").unwrap();
        }
        assert!(notify.pass_on().unwrap());
        assert!(manager.recv(&mut buffer).is_ok() && manager.recv(&mut buffer).is_err());
    }

    #[test]
    fn a_container_without_the_directory_has_no_socket() {
        let directory = tempfile::tempdir().unwrap();
        assert!(NotifySocket::bind(&directory.path().join("notify"), "/nowhere").unwrap().is_none());
        let error = NotifySocket::bind(directory.path(), "/nowhere").unwrap_err();
        assert!(format!("{error:#}").contains("NOTIFY_SOCKET: connect to /nowhere: no such file"), "{error:#}");
    }
}
