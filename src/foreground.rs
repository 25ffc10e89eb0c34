//! A foreground `run` or `exec` while its process runs: signals are forwarded, the terminal is relayed, and its exit
//! status becomes ours.

use std::time::Instant;

use libcontainer::in_words;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus, WaitOptions};

use anyhow::{Context, Result, anyhow, bail};
use libcontainer::internals::signals;
use libcontainer::internals::wait::{asks_to_end, limits, timespec};
use libcontainer::{NotifySocket, Process};

use crate::relay::Relay;

/// The processes that are reaped in addition to the process itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reap {
    /// Every orphan below us. We are the subreaper.
    All,
    /// No other.
    Child,
}

/// All signals are blocked, from before the process exists until `supervise` has forwarded them.
#[derive(Debug)]
pub struct Held(SignalFd);

/// Blocks every signal that can be forwarded. Must come before the clone, or a signal could be lost.
///
/// # Errors
/// The kernel's error.
pub fn hold_signals() -> Result<Held> {
    let mut set = SigSet::all();
    // Signals of the processor about our own faults cannot be blocked.
    for signal in [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGFPE, Signal::SIGILL, Signal::SIGTRAP, Signal::SIGABRT] {
        set.remove(signal);
    }
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None).context("sigprocmask")?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    Ok(Held(SignalFd::with_flags(&set, flags).context("signalfd")?))
}

/// Makes orphans below us our children (prctl(2), PR_SET_CHILD_SUBREAPER), so that we reap them.
///
/// # Errors
/// The kernel's error.
pub fn become_subreaper() -> Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).context("become subreaper")
}

/// The signal that we get when our parent ends. The process of the container gets the same signal when we end: the
/// caller of prctl(2) wants no process to outlive it.
pub fn death_signal() -> Option<i32> {
    rustix::process::parent_process_death_signal().ok().flatten().map(rustix::process::Signal::as_raw)
}

/// Waits for the process. Forwards signals, relays the terminal (`relay`), and forwards the ready message (`notify`):
/// we are the main process of the service. Returns the exit status as a shell does: 128 and the signal's number for a
/// killed process.
///
/// # Errors
/// The wait itself fails.
pub fn supervise(
    process: &Process,
    held: &Held,
    mut relay: Option<Relay>,
    notify: Option<&NotifySocket>,
    reap: Reap,
) -> Result<u8> {
    let mut ending = false;
    loop {
        let mut fds = vec![PollFd::new(process, PollFlags::IN), PollFd::new(&held.0, PollFlags::IN)];
        fds.extend(notify.map(|notify| PollFd::new(notify, PollFlags::IN)));
        let places = relay.as_ref().map(|relay| relay.polls(&mut fds));
        wait(&mut fds, None)?;
        let ready: Vec<_> = fds.iter().map(PollFd::revents).collect();
        if !ready[1].is_empty() {
            ending |= pass_on(process, held, relay.as_ref(), reap);
        }
        if let (Some(relay), Some(places)) = (&mut relay, places) {
            relay.turn(places, &ready);
        }
        if let Some(notify) = notify.filter(|_| !ready[2].is_empty()) {
            notify.pass_on()?;
        }
        if !ready[0].is_empty() {
            let patience = ending.then(|| Instant::now() + limits::KEPT_END);
            let status = status_of(process, held, patience)?;
            if let Some(relay) = &mut relay {
                let last_output = timespec(limits::LAST_OUTPUT);
                let patience = ending.then_some(&last_output);
                relay.finish(|stdout| is_ready_before_we_are_ended(stdout, held, patience));
            }
            return Ok(status);
        }
    }
}

/// Returns false if the time is over and nothing is ready.
fn wait(fds: &mut [PollFd<'_>], patience: Option<&Timespec>) -> Result<bool> {
    match rustix::event::poll(fds, patience) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(true),
        Err(errno) => Err(anyhow!("poll: {errno}", errno = in_words(&errno))),
    }
}

/// Waits until `stdout` is ready. Returns false if the time is over, or if a signal asks us to end: the process has
/// ended, so the signal is for us.
fn is_ready_before_we_are_ended(stdout: PollFd<'_>, held: &Held, patience: Option<&Timespec>) -> bool {
    let mut fds = [stdout, PollFd::new(&held.0, PollFlags::IN)];
    while let Ok(true) = wait(&mut fds, patience) {
        while let Ok(Some(info)) = held.0.read_signal() {
            if asks_to_end(signal_of(&info)) {
                return false;
            }
        }
        if !fds[0].revents().is_empty() {
            return true;
        }
    }
    false
}

/// The status of a process that has ended. Another process that traces it keeps the status until it has read it (ptrace(2)). A
/// signal that asks us to end also ends this wait.
fn status_of(process: &Process, held: &Held, patience: Option<Instant>) -> Result<u8> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    let soon = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
    loop {
        let status = rustix::process::waitid(WaitId::PidFd(process.pidfd()), options)
            .map_err(|errno| anyhow!("wait: {errno}", errno = in_words(&errno)))?;
        if let Some(status) = status {
            return Ok(shell_status(&status));
        }
        wait(&mut [PollFd::new(&held.0, PollFlags::IN)], Some(&soon))?;
        let mut over = patience.is_some_and(|end| Instant::now() > end);
        while let Ok(Some(info)) = held.0.read_signal() {
            over |= asks_to_end(signal_of(&info));
        }
        if over {
            bail!("the program has ended, but a process that traces it has not released its exit status");
        }
    }
}

fn shell_status(status: &WaitIdStatus) -> u8 {
    let number = status.exit_status().or(status.terminating_signal().map(|signal| 128 + signal)).unwrap_or(255);
    u8::try_from(number & 0xff).unwrap_or(255)
}

fn signal_of(info: &siginfo) -> i32 {
    i32::try_from(info.ssi_signo).unwrap_or(0)
}

/// Forwards every pending signal, except those about our own children and writes. Returns true if one asked the process
/// to end.
fn pass_on(process: &Process, held: &Held, relay: Option<&Relay>, reap: Reap) -> bool {
    let mut ending = false;
    while let Ok(Some(info)) = held.0.read_signal() {
        match signal_of(&info) {
            // Our own write found no reader. This does not concern the container.
            libc::SIGPIPE if info.ssi_pid == std::process::id() => {}
            libc::SIGCHLD if reap == Reap::All => reap_orphans(process),
            libc::SIGCHLD => {}
            libc::SIGWINCH if relay.is_some() => relay.into_iter().for_each(Relay::resize),
            // The process may have ended since. The caller finds that out.
            number => {
                ending |= asks_to_end(number);
                let _ = signals::send(process.pidfd(), number);
            }
        }
    }
    ending
}

/// Reaps orphans, but not the child itself: its status is still needed.
fn reap_orphans(process: &Process) {
    while let Some(pid) = signals::ended_child().filter(|pid| *pid != process.pid()) {
        let _ = rustix::process::waitpid(rustix::process::Pid::from_raw(pid), WaitOptions::NOHANG);
    }
}
