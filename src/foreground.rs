//! A foreground `run` or `exec`, once the process is there: signals go on to it, its terminal is relayed, its end is ours.

use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus, WaitOptions};

use anyhow::{Context, Result, anyhow};
use libcontainer::Process;
use libcontainer::launch::notify::Notify;
use libcontainer::sys::signals;
use libcontainer::wait::{asks_to_end, limits, timespec};

use crate::relay::Relay;

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
    process: &Process,
    held: &Held,
    mut relay: Option<Relay>,
    notify: Option<&Notify>,
    reap: Reap,
) -> Result<u8> {
    let mut ending = false;
    loop {
        let mut fds = vec![PollFd::new(process, PollFlags::IN), PollFd::new(&held.0, PollFlags::IN)];
        fds.extend(notify.map(Notify::poll));
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
            let status = status_of(process)?;
            if let Some(relay) = &mut relay {
                let last_output = timespec(limits::LAST_OUTPUT);
                let patience = ending.then_some(&last_output);
                relay.finish(|stdout| is_ready_before_we_are_ended(stdout, held, patience));
            }
            return Ok(status);
        }
    }
}

/// False when the time is up and nothing is ready.
fn wait(fds: &mut [PollFd<'_>], patience: Option<&Timespec>) -> Result<bool> {
    match rustix::event::poll(fds, patience) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(true),
        Err(errno) => Err(anyhow!("poll: {errno}")),
    }
}

/// Waits until `stdout` is ready. False where a signal comes first that ends a program, as no other is left to end, or where
/// the time is up.
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

fn status_of(process: &Process) -> Result<u8> {
    let status = rustix::process::waitid(WaitId::PidFd(process.pidfd()), WaitIdOptions::EXITED)
        .map_err(|errno| anyhow!("wait: {errno}"))?
        .ok_or_else(|| anyhow!("wait: no status"))?;
    Ok(shell_status(&status))
}

fn shell_status(status: &WaitIdStatus) -> u8 {
    let number = status.exit_status().or(status.terminating_signal().map(|signal| 128 + signal)).unwrap_or(255);
    u8::try_from(number & 0xff).unwrap_or(255)
}

fn signal_of(info: &siginfo) -> i32 {
    i32::try_from(info.ssi_signo).unwrap_or(0)
}

/// Every signal that waits, but those that are about us. True when one asked the process to end.
fn pass_on(process: &Process, held: &Held, relay: Option<&Relay>, reap: Reap) -> bool {
    let mut ending = false;
    while let Ok(Some(info)) = held.0.read_signal() {
        match signal_of(&info) {
            // we wrote where nobody reads: no matter of the container's
            libc::SIGPIPE if info.ssi_pid == std::process::id() => {}
            libc::SIGCHLD if reap == Reap::All => reap_orphans(process),
            libc::SIGCHLD => {}
            libc::SIGWINCH if relay.is_some() => relay.into_iter().for_each(Relay::resize),
            // the process may have ended meanwhile; that is seen by the caller
            number => {
                ending |= asks_to_end(number);
                let _ = signals::send(process.pidfd(), number);
            }
        }
    }
    ending
}

/// Orphans, and never the child itself, whose status is still wanted.
fn reap_orphans(process: &Process) {
    while let Some(pid) = signals::ended_child().filter(|pid| *pid != process.pid()) {
        let _ = rustix::process::waitpid(rustix::process::Pid::from_raw(pid), WaitOptions::NOHANG);
    }
}
