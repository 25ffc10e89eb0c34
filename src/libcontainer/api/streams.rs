//! The standard streams of a container's process, its terminal, and the descriptors that it is given.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use crate::error::{Result, bail};
use crate::launch::{Streams, console};
use crate::plan::{Flags, Terminal};
use crate::sys::fds::is_handed_down;

/// What a new process finds open.
#[derive(Debug, Default)]
pub(super) struct Open {
    pub(super) streams: Streams,
    pub(super) console: Option<Console>,
    /// How many descriptors from 3 up are ours by number, as service managers hand them over (sd_listen_fds(3)).
    pub(super) listen_fds: u32,
    pub(super) preserve_fds: u32,
}

impl Open {
    /// What the plan has to know of it, and the socket for the terminal.
    pub(super) fn decide(&mut self, terminal: bool, flags: &mut Flags) -> Result<Option<OwnedFd>> {
        let socket = self.console.take().map(Console::socket);
        if socket.is_some() && !terminal {
            bail!("process.terminal is not true: there is no terminal for the console that is given");
        }
        flags.terminal = if socket.is_some() { Terminal::Sent } else { Terminal::None };
        flags.listen_fds = self.listen_fds;
        flags.extra_fds = self.listen_fds.saturating_add(self.preserve_fds);
        for number in 3..flags.extra_fds.saturating_add(3) {
            if !is_handed_down(number) {
                let count = flags.extra_fds;
                bail!("unable to stat preserved-fd {number} (of {count}): no such file or directory");
            }
        }
        let given = u32::try_from(self.streams.more.len())?;
        if given > 0 && flags.extra_fds > 0 {
            bail!("descriptors are given and kept by number: only one of both is possible");
        }
        flags.extra_fds += given;
        Ok(socket)
    }
}

/// The methods that `Create` and `Exec` have alike.
macro_rules! open_methods {
    () => {
        /// Its standard input; without this, ours.
        pub fn stdin(mut self, fd: impl Into<std::os::fd::OwnedFd>) -> Self {
            self.open.streams.standard[0] = Some(fd.into());
            self
        }

        /// Its standard output; without this, ours.
        pub fn stdout(mut self, fd: impl Into<std::os::fd::OwnedFd>) -> Self {
            self.open.streams.standard[1] = Some(fd.into());
            self
        }

        /// Its standard error; without this, ours.
        pub fn stderr(mut self, fd: impl Into<std::os::fd::OwnedFd>) -> Self {
            self.open.streams.standard[2] = Some(fd.into());
            self
        }

        /// Its next descriptor, from 3 up.
        pub fn descriptor(mut self, fd: impl Into<std::os::fd::OwnedFd>) -> Self {
            self.open.streams.more.push(fd.into());
            self
        }

        /// Its descriptors from 3 up are so many of ours, by their numbers. Each must be open, without close-on-exec.
        pub fn preserve_fds(mut self, count: u32) -> Self {
            self.open.preserve_fds = count;
            self
        }

        /// The same, before those of `preserve_fds`; the process finds their number in LISTEN_FDS (sd_listen_fds(3)).
        pub fn listen_fds(mut self, count: u32) -> Self {
            self.open.listen_fds = count;
            self
        }

        /// Its process gets this signal when the thread that makes it ends (PR_SET_PDEATHSIG(2const)).
        pub fn death_signal(mut self, signal: Option<i32>) -> Self {
            self.death_signal = signal;
            self
        }

        /// Writes its pid there. A relative path is one of our current directory.
        pub fn pid_file(mut self, path: impl Into<std::path::PathBuf>) -> Self {
            self.pid_file = Some(path.into());
            self
        }

        /// How the calling program's file is protected.
        pub fn protection(mut self, protection: Protection) -> Self {
            self.protection = protection;
            self
        }

        /// Calls `callback` with what happens on the way. An error that it returns is the error of the whole: all is undone.
        pub fn on_progress(mut self, callback: impl FnMut(Progress<'_>) -> Result<()> + 'a) -> Self {
            self.observer = Observer::new(callback);
            self
        }

        /// Whether it is measured how long each step takes, for `Ready::times`.
        pub fn keep_times(mut self, times: Times) -> Self {
            self.times = times;
            self
        }
    };
}

pub(super) use open_methods;

/// The one who gets the master of a terminal: the other end of a stream socket.
///
/// ```no_run
/// use libcontainer::{Bundle, Console, Root};
///
/// # fn main() -> libcontainer::Result<()> {
/// let (console, master) = Console::pair()?;
/// let bundle = Bundle::read("/bundles/box")?;
/// let (container, process) = Root::open("/run/coracle")?.create("box", &bundle).console(console).create()?;
/// let terminal = master.receive()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Console(OwnedFd);

impl Console {
    /// A socket at `path`, as `--console-socket` has it: its owner receives the master with SCM_RIGHTS (unix(7)).
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn connect(path: impl AsRef<Path>) -> Result<Console> {
        console::connect(path.as_ref()).map(Console)
    }

    pub(super) fn socket(self) -> OwnedFd {
        self.0
    }

    /// One for the caller itself.
    ///
    /// # Errors
    /// Those of socketpair(2).
    pub fn pair() -> Result<(Console, Master)> {
        let (ours, theirs) = console::pair()?;
        Ok((Console(theirs), Master(ours)))
    }
}

/// A stream socket that is connected.
impl From<OwnedFd> for Console {
    fn from(socket: OwnedFd) -> Console {
        Console(socket)
    }
}

/// The caller's end of a `Console`.
#[derive(Debug)]
pub struct Master(OwnedFd);

impl Master {
    /// The master of the terminal: it is there when the process is ready (`Progress::Ready`).
    ///
    /// # Errors
    /// The process was not made.
    pub fn receive(self) -> Result<OwnedFd> {
        console::receive(self.0.as_fd())
    }
}
