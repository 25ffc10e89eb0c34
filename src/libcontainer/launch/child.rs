//! A process that we have cloned.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus};

use crate::error::{Result, error};
use crate::wait::limits;

/// A child of ours. If it is dropped, it is killed and reaped, unless `keep` was called.
#[derive(Debug)]
pub struct Child {
    /// Its pid in our pid namespace.
    pub pid: i32,
    /// Its pidfd, which refers to this process even if the pid is used again.
    pub pidfd: OwnedFd,
    end: AtDrop,
}

/// The fate of a child that is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AtDrop {
    Killed,
    LivesOn,
}

impl Child {
    pub(super) fn new(pid: i32, pidfd: OwnedFd) -> Child {
        Child { pid, pidfd, end: AtDrop::Killed }
    }

    /// It continues to run.
    #[must_use]
    pub fn keep(mut self) -> Child {
        self.end = AtDrop::LivesOn;
        self
    }

    /// Waits for its end, and reaps it. Returns its exit status. None if another process has reaped it, or traces it and does not
    /// let us reap it.
    pub fn wait(&self) -> Option<std::process::ExitStatus> {
        let mut end = [PollFd::new(&self.pidfd, PollFlags::IN)];
        while rustix::event::poll(&mut end, None) == Err(Errno::INTR) {}
        reap(self.pidfd.as_fd()).and_then(exit_status)
    }

    /// Reaps it if it has ended, and returns its exit status. None while it runs.
    ///
    /// # Errors
    /// Those of waitid(2): another caller has reaped it.
    pub fn try_wait(&self) -> Result<Option<std::process::ExitStatus>, Errno> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let status = rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), options)?;
        Ok(status.and_then(exit_status))
    }

    /// Kills it, and reaps it if it ends in time. The second call does nothing.
    pub(super) fn kill(&mut self) {
        if std::mem::replace(&mut self.end, AtDrop::LivesOn) == AtDrop::LivesOn {
            return;
        }
        // It may have ended already.
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, rustix::process::Signal::KILL);
        // Version 1: a container can freeze a process that joins it. That process dies only when it is thawed. We do not wait
        // for this. If a tracer keeps its end, it stays a zombie until the tracer has read it. A signal or a `Stop` does not end
        // this wait: the child would stay a zombie of our caller.
        let _ = reap(self.pidfd.as_fd());
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The exit status of a process that has ended.
pub(super) fn exit_status(status: WaitIdStatus) -> Option<std::process::ExitStatus> {
    let raw = status.exit_status().map(|code| code << 8).or(status.terminating_signal())?;
    Some(std::os::unix::process::ExitStatusExt::from_raw(raw))
}

/// Whether a child of ours has ended. Its pidfd says so also if a process traces it: wait(2) returns only after the tracer has read
/// its end.
pub(super) fn has_ended(pidfd: BorrowedFd<'_>) -> bool {
    let mut end = [PollFd::new(&pidfd, PollFlags::IN)];
    rustix::event::poll(&mut end, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// The status of a program that has ended or was killed. If a process traces it, we may not be able to reap it.
pub(super) fn status_of(program: BorrowedFd<'_>) -> Result<ExitStatus> {
    let status = reap_within(program, limits::KILLED_CHILD).and_then(exit_status);
    status.ok_or_else(|| error!("it has ended, but a process that traces it has not released its exit status"))
}

/// Reaps a child of ours that has ended or ends now. If a process of the container traces it, we can reap it only after the tracer
/// (ptrace(2)), which may never happen. So we wait for a short time only. KERNEL(5.4): waitid by pidfd.
pub(super) fn reap(pidfd: BorrowedFd<'_>) -> Option<WaitIdStatus> {
    reap_within(pidfd, limits::KEPT_END)
}

/// The same. `kept` is the time that we wait for a tracer.
pub(super) fn reap_within(pidfd: BorrowedFd<'_>, kept: Duration) -> Option<WaitIdStatus> {
    let mut deadline = Instant::now() + limits::KILLED_CHILD;
    loop {
        match rustix::process::waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
            Err(Errno::INTR) => {}
            Ok(None) if Instant::now() < deadline => {
                let mut end = [PollFd::new(&pidfd, PollFlags::IN)];
                let pause = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
                if rustix::event::poll(&mut end, Some(&pause)).is_ok_and(|ready| ready > 0) {
                    // It has ended, and its tracer has not reaped it yet.
                    deadline = deadline.min(Instant::now() + kept);
                    crate::wait::pause(Duration::from_millis(1));
                }
            }
            other => return other.ok().flatten(),
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    use super::*;
    use crate::wait;

    #[test]
    fn a_killed_child_is_reaped_while_a_stop_waits() {
        let mut sleep = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = i32::try_from(sleep.id()).unwrap();
        let pidfd = pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap();
        let stop = wait::Stop::new().unwrap();
        stop.interrupt();
        stop.over(|| {
            drop(Child::new(pid, pidfd));
            assert_eq!(wait::must_not_be_interrupted(), Err(wait::Interrupted::Stop));
        });
        assert_eq!(sleep.try_wait().unwrap_err().raw_os_error(), Some(libc::ECHILD));
    }
}
