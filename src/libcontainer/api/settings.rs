//! The common settings of `Create`, `Exec` and `RestoreFrom`: the descriptors of the new process, its pid file, and the
//! progress callback.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::io::Errno;

use super::bundle::absolute;
use super::console::Console;
use super::progress::Observer;
use super::protection::Protection;
use crate::error::{Context, Kind, Result, bail};
use crate::launch::{Streams, Times};
use crate::plan::{Flags, Terminal};
use crate::sys::errno::words;
use crate::sys::fds::is_inherited;

/// The settings of a new process.
#[derive(Debug, Default)]
pub(super) struct Settings<'a> {
    pub(super) streams: Streams,
    pub(super) console: Option<Console>,
    /// How many of the caller's descriptors, from 3 up, the process gets with the same numbers (sd_listen_fds(3)).
    pub(super) listen_fds: u32,
    pub(super) preserve_fds: u32,
    pub(super) death_signal: Option<i32>,
    pub(super) pid_file: Option<PathBuf>,
    pub(super) protection: Protection,
    pub(super) observer: Observer<'a>,
    pub(super) times: Times,
}

impl Settings<'_> {
    /// Sets the flags for the plan. Returns the socket for the terminal.
    pub(super) fn set_flags(
        &mut self,
        process: Option<&oci_spec::runtime::Process>,
        flags: &mut Flags,
    ) -> Result<Option<OwnedFd>> {
        let socket = self.console.take().map(Console::socket);
        if socket.is_some() && process.is_none_or(|process| process.terminal() != Some(true)) {
            bail!(Kind::InvalidArgument => "a console is set, but process.terminal is not true");
        }
        flags.terminal = if socket.is_some() { Terminal::Sent } else { Terminal::None };
        if let Some(signal) = self.death_signal.filter(|signal| !(1..=64).contains(signal)) {
            bail!(Kind::InvalidArgument => "`death_signal`: unknown signal {signal}");
        }
        flags.death_signal = self.death_signal;
        flags.listen_fds = self.listen_fds;
        flags.extra_fds = self.listen_fds.saturating_add(self.preserve_fds);
        for number in 3..flags.extra_fds.saturating_add(3) {
            if !is_inherited(number) {
                let count = flags.extra_fds;
                bail!(Kind::InvalidArgument => "unable to stat preserved-fd {number} (of {count}): {}", words(Errno::BADF));
            }
        }
        let given = u32::try_from(self.streams.more.len())?;
        if given > 0 && flags.extra_fds > 0 {
            bail!(Kind::InvalidArgument => "descriptors are given and kept by number: only one of both is possible");
        }
        flags.extra_fds += given;
        Ok(socket)
    }

    /// The path of the pid file, whatever the current directory is later.
    pub(super) fn pid_file(&self) -> Result<Option<PathBuf>> {
        self.pid_file.as_deref().map(absolute).transpose().context("`pid_file`")
    }
}

/// The methods that all three have.
macro_rules! settings_of_all {
    () => {
        /// Its standard input. Default: that of the caller.
        pub fn stdin(mut self, fd: impl Into<std::os::fd::OwnedFd>) -> Self {
            self.settings.streams.standard[0] = Some(fd.into());
            self
        }

        /// Its standard output. Default: that of the caller.
        pub fn stdout(mut self, fd: impl Into<std::os::fd::OwnedFd>) -> Self {
            self.settings.streams.standard[1] = Some(fd.into());
            self
        }

        /// Its standard error. Default: that of the caller.
        pub fn stderr(mut self, fd: impl Into<std::os::fd::OwnedFd>) -> Self {
            self.settings.streams.standard[2] = Some(fd.into());
            self
        }

        /// The socket that gets the master of its terminal, if `process.terminal` is true.
        pub fn console(mut self, console: crate::api::Console) -> Self {
            self.settings.console = Some(console);
            self
        }

        /// The file for its pid. A relative path begins at the caller's current directory.
        pub fn pid_file(mut self, path: impl Into<std::path::PathBuf>) -> Self {
            self.settings.pid_file = Some(path.into());
            self
        }

        /// Calls `callback` with the progress. If it returns an error, everything is undone, and the error is returned.
        pub fn on_progress(mut self, callback: impl FnMut(crate::api::Progress<'_>) -> Result<()> + Send + 'a) -> Self {
            self.settings.observer = crate::api::progress::Observer::new(callback);
            self
        }
    };
}

/// The methods that only `Create` and `RestoreFrom` have: their container does not exist yet.
macro_rules! settings_of_a_container {
    () => {
        /// Whether the container gets its own cgroups, and whether systemd makes them.
        pub fn cgroup(mut self, cgroup: crate::plan::CgroupUse) -> Self {
            self.flags.cgroup = cgroup;
            self
        }

        /// Its session keyring. Default: a keyring with a random name.
        pub fn keyring(mut self, keyring: crate::plan::Keyring) -> Self {
            self.flags.keyring = keyring;
            self
        }

        /// Whether it is an error if the caller may not make a cgroup.
        pub fn rootless(mut self, rootless: crate::plan::Rootless) -> Self {
            self.flags.rootless = rootless;
            self
        }

        /// What a `delete --force` by another process does to the caller while the container is made.
        #[doc(hidden)]
        pub fn creator(mut self, creator: crate::launch::create::Creator) -> Self {
            self.creator = creator;
            self
        }
    };
}

/// The methods that only `Create` and `Exec` have: CRIU makes a process without them.
macro_rules! settings_of_a_program {
    () => {
        /// Its next descriptor, from 3 up.
        pub fn descriptor(mut self, fd: impl Into<std::os::fd::OwnedFd>) -> Self {
            self.settings.streams.more.push(fd.into());
            self
        }

        /// The process gets this number of the caller's descriptors, from 3 up, with the same numbers. Each must be open, without
        /// close-on-exec.
        pub fn preserve_fds(mut self, count: u32) -> Self {
            self.settings.preserve_fds = count;
            self
        }

        /// The same, before those of `preserve_fds`. The process gets their count in LISTEN_FDS (sd_listen_fds(3)).
        pub fn listen_fds(mut self, count: u32) -> Self {
            self.settings.listen_fds = count;
            self
        }

        /// Its process gets this signal when the thread that makes it ends (PR_SET_PDEATHSIG(2const)).
        pub fn death_signal(mut self, signal: Option<i32>) -> Self {
            self.settings.death_signal = signal;
            self
        }

        /// Who protects the file of the calling program, and how.
        pub fn protection(mut self, protection: crate::api::Protection) -> Self {
            self.settings.protection = protection;
            self
        }

        /// Whether the time of each step is measured, for `Ready::times`.
        pub fn keep_times(mut self, times: crate::launch::Times) -> Self {
            self.settings.times = times;
            self
        }
    };
}

pub(super) use {settings_of_a_container, settings_of_a_program, settings_of_all};
