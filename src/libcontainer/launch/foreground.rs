//! A foreground `run` or `exec`, once the process is there: signals go on to it, its terminal is relayed, its end is ours.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, anyhow};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus, WaitOptions};
use rustix::termios::{OptionalActions, OutputModes, Termios};

use super::Child;
use super::notify::Notify;

/// Who is waited for beside the process itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reap {
    /// Whatever is orphaned below us, as we are the subreaper.
    All,
    /// Nobody else.
    Child,
}

/// All signals held back, from before the process exists until `supervise` has passed them on.
#[derive(Debug)]
pub struct Held(SignalFd);

/// Holds back every signal that can be passed on. Must come before the clone, or one could be lost.
///
/// # Errors
/// The kernel's word.
pub fn hold_signals() -> Result<Held> {
    let mut set = SigSet::all();
    // what the processor says about our own mistakes cannot wait
    for signal in [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGFPE, Signal::SIGILL, Signal::SIGTRAP, Signal::SIGABRT] {
        set.remove(signal);
    }
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None).context("sigprocmask")?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    Ok(Held(SignalFd::with_flags(&set, flags).context("signalfd")?))
}

/// Makes orphans below us our children (prctl(2), PR_SET_CHILD_SUBREAPER), so that none outlives the container unseen.
///
/// # Errors
/// The kernel's word.
pub fn become_subreaper() -> Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).context("become subreaper")
}

/// The signal we get when our parent ends. A process that we stay beside gets it when we end: whoever set it wants nothing
/// to outlive him.
pub fn death_signal() -> Option<i32> {
    rustix::process::parent_process_death_signal().ok().flatten().map(rustix::process::Signal::as_raw)
}

/// Waits for the process, passing on signals and, with `relay`, its terminal, and with `notify` that it is ready: we
/// stay the service's main process then. Returns the exit status as a shell would
/// say it: 128 and the signal's number for one that was killed.
///
/// # Errors
/// Waiting itself fails.
pub fn supervise(
    child: &Child,
    held: &Held,
    mut relay: Option<Relay>,
    notify: Option<&Notify>,
    reap: Reap,
) -> Result<u8> {
    loop {
        let mut fds = vec![PollFd::new(&child.pidfd, PollFlags::IN), PollFd::new(&held.0, PollFlags::IN)];
        fds.extend(notify.map(Notify::poll));
        let others = fds.len();
        if let Some(relay) = &relay {
            relay.polls(&mut fds);
        }
        match rustix::event::poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(anyhow!("poll: {errno}")),
        }
        let ready: Vec<_> = fds.iter().map(PollFd::revents).collect();
        if !ready[1].is_empty() {
            pass_on(child, held, relay.as_ref(), reap);
        }
        if let Some(relay) = &mut relay {
            relay.turn(&ready[others..]);
        }
        if let Some(notify) = notify.filter(|_| !ready[2].is_empty()) {
            notify.pass_on()?;
        }
        if !ready[0].is_empty() {
            if let Some(relay) = &mut relay {
                relay.drain();
            }
            return status_of(child);
        }
    }
}

fn status_of(child: &Child) -> Result<u8> {
    let status = rustix::process::waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED)
        .map_err(|errno| anyhow!("wait: {errno}"))?
        .ok_or_else(|| anyhow!("wait: no status"))?;
    Ok(shell_status(&status))
}

fn shell_status(status: &WaitIdStatus) -> u8 {
    let number = status.exit_status().or(status.terminating_signal().map(|signal| 128 + signal)).unwrap_or(255);
    u8::try_from(number & 0xff).unwrap_or(255)
}

/// Every signal that waits, but those that are about us.
fn pass_on(child: &Child, held: &Held, relay: Option<&Relay>, reap: Reap) {
    while let Ok(Some(info)) = held.0.read_signal() {
        let number = i32::try_from(info.ssi_signo).unwrap_or(0);
        match number {
            libc::SIGCHLD if reap == Reap::All => reap_orphans(child),
            libc::SIGCHLD => {}
            libc::SIGWINCH if relay.is_some() => relay.into_iter().for_each(Relay::resize),
            // the process may have ended meanwhile; that is seen by the caller
            number => drop(crate::sys::signals::send(child.pidfd.as_fd(), number)),
        }
    }
}

/// Orphans, and never the child itself, whose status is still wanted.
fn reap_orphans(child: &Child) {
    while let Some(pid) = crate::sys::signals::ended_child().filter(|pid| *pid != child.pid) {
        let _ = rustix::process::waitpid(rustix::process::Pid::from_raw(pid), WaitOptions::NOHANG);
    }
}

/// Makes the container's terminal as large as ours.
fn fit(master: BorrowedFd<'_>) {
    if let Ok(size) = rustix::termios::tcgetwinsize(rustix::stdio::stdin())
        && size.ws_row != 0
    {
        let _ = rustix::termios::tcsetwinsize(master, size);
    }
}

/// Both ways between our terminal and the container's. Dropped, our own is as it was.
#[derive(Debug)]
pub struct Relay {
    master: OwnedFd,
    /// Our terminal as it was, to be put back.
    before: Option<Termios>,
    /// What has been typed and not taken yet.
    typed: Vec<u8>,
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
            rustix::termios::tcsetattr(stdin, OptionalActions::Now, &raw).context("set terminal to raw mode")?;
        }
        let relay = Relay { master, before, typed: Vec::new(), in_line: false, input: Flow::Open, output: Flow::Open };
        relay.resize();
        Ok(relay)
    }

    /// The container's terminal becomes as large as ours.
    fn resize(&self) {
        fit(self.master.as_fd());
    }

    fn polls<'p>(&'p self, fds: &mut Vec<PollFd<'p>>) {
        let mut master = PollFlags::empty();
        if self.output == Flow::Open {
            master |= PollFlags::IN;
        }
        if !self.typed.is_empty() {
            master |= PollFlags::OUT;
        }
        // a terminal that has hung up is always ready: not asked for anything, it is not asked at all
        if !master.is_empty() {
            fds.push(PollFd::new(&self.master, master));
        }
        // no more is read than can be passed on
        if self.input == Flow::Open && self.typed.is_empty() {
            fds.push(PollFd::from_borrowed_fd(rustix::stdio::stdin(), PollFlags::IN));
        }
    }

    fn turn(&mut self, ready: &[PollFlags]) {
        if ready.iter().all(|flags| flags.is_empty()) {
            return;
        }
        self.show();
        if self.input == Flow::Open && self.typed.is_empty() && ready.last().is_some_and(|flags| !flags.is_empty()) {
            self.take_input();
        }
        self.pass_input();
    }

    fn take_input(&mut self) {
        let mut poll = [PollFd::from_borrowed_fd(rustix::stdio::stdin(), PollFlags::IN)];
        if !matches!(rustix::event::poll(&mut poll, Some(&rustix::event::Timespec::default())), Ok(1)) {
            return;
        }
        let mut buffer = [0u8; 4096];
        match rustix::io::read(rustix::stdio::stdin(), &mut buffer) {
            Ok(0) => {
                // the end of a file is typed: what reads a terminal sees it as the end; behind half a line the first
                // one only sends the half (termios(3), VEOF)
                self.typed.extend_from_slice(if self.in_line { &[4, 4] } else { &[4] });
                self.input = Flow::Ended;
            }
            Ok(length) => {
                self.in_line = buffer[length - 1] != b'\n';
                self.typed.extend_from_slice(&buffer[..length]);
            }
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => self.input = Flow::Ended,
        }
    }

    fn pass_input(&mut self) {
        while !self.typed.is_empty() {
            match rustix::io::write(&self.master, &self.typed) {
                Ok(length) => drop(self.typed.drain(..length)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => {
                    self.typed.clear();
                    self.input = Flow::Ended;
                }
            }
        }
    }

    /// What the container has written so far, to our standard output.
    fn show(&mut self) {
        let mut buffer = [0u8; 16384];
        while self.output == Flow::Open {
            match rustix::io::read(&self.master, &mut buffer) {
                Ok(0) => self.output = Flow::Ended,
                Ok(length) => write_all(rustix::stdio::stdout(), &buffer[..length]),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                // EIO: the last process that had it open is gone
                Err(_) => self.output = Flow::Ended,
            }
        }
    }

    fn drain(&mut self) {
        self.show();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, before);
        }
    }
}

fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(length) => bytes = &bytes[length..],
            Err(Errno::INTR) => {}
            // somebody we share it with has made it non-blocking
            Err(Errno::AGAIN) => {
                let _ = rustix::event::poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::OUT)], None);
            }
            // nobody reads any more; the container goes on
            Err(_) => return,
        }
    }
}
