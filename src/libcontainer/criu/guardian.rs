//! A process that outlives a runtime that is killed. CRIU must end then, and may need some time to undo its work. If CRIU does not
//! end, the guardian kills it. Then the guardian thaws the container.

use std::io::PipeWriter;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use crate::error::{Context, Result};
use crate::sys::clone::{Alone, clone, exit};
use crate::sys::retry::retry;
use crate::sys::{fds, signals};
use crate::wait::limits;

/// The file that thaws the container, and what is written into it.
#[derive(Debug)]
pub struct Thaw {
    /// The file of the freezer.
    pub file: OwnedFd,
    /// The word.
    pub word: &'static str,
}

/// The guardian. It ends when this is dropped, and undoes nothing then.
#[derive(Debug)]
pub struct Guardian {
    pidfd: OwnedFd,
    /// The guardian reads the end of this pipe when we are gone, or a byte when it is not needed.
    needed: Option<PipeWriter>,
}

impl Guardian {
    /// Begins to watch over the CRIU with this pidfd. After our end, CRIU has the time `patience` to end.
    pub(super) fn begin(criu: BorrowedFd<'_>, thaw: Option<&Thaw>, patience: Duration) -> Result<Guardian> {
        let (ends, needed) = std::io::pipe().context("pipe")?;
        let (ends, thaw) = (ends.as_fd(), thaw.map(|thaw| (thaw.file.as_fd(), thaw.word)));
        let made = clone(0, None, |alone| {
            let _ = watch(alone, ends, criu, thaw, patience);
            exit(0)
        });
        let (_, pidfd) = made.context("clone")?;
        Ok(Guardian { pidfd, needed: Some(needed) })
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        let _ = self.needed.as_mut().map(|pipe| std::io::Write::write(pipe, &[0]));
        while waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED).is_err_and(|errno| errno == Errno::INTR)
        {
        }
    }
}

/// The guardian's work. It makes system calls only.
fn watch(
    alone: &Alone,
    ends: BorrowedFd<'_>,
    criu: BorrowedFd<'_>,
    thaw: Option<(BorrowedFd<'_>, &str)>,
    patience: Duration,
) -> Result<(), Errno> {
    // a signal of the terminal is for the runtime
    signals::block_all()?;
    rustix::process::setsid()?;
    let kept = [Some(ends), Some(criu), thaw.map(|(file, _)| file)];
    // CRIU sees the end of its socket only if no other process has the other end.
    fds::close_but(alone, 0, kept.iter().flatten().copied())?;
    let mut byte = [0u8; 1];
    if retry(|| rustix::io::read(ends, &mut byte))? > 0 {
        return Ok(());
    }
    if !ended(criu, patience)? {
        // ESRCH: it has ended since
        let _ = pidfd_send_signal(criu, Signal::KILL);
        ended(criu, limits::CRIU_END)?;
    }
    if let Some((file, word)) = thaw {
        retry(|| rustix::io::write(file, word.as_bytes()))?;
    }
    Ok(())
}

/// Whether it ends in time.
fn ended(criu: BorrowedFd<'_>, time: Duration) -> Result<bool, Errno> {
    let time = Timespec { tv_sec: time.as_secs().cast_signed(), tv_nsec: time.subsec_nanos().into() };
    retry(|| poll(&mut [PollFd::new(&criu, PollFlags::IN)], Some(&time))).map(|count| count > 0)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek};
    use std::process::Command;

    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    use super::*;

    #[test]
    fn without_its_runtime_a_criu_that_does_not_end_is_killed_and_the_container_is_thawed() {
        let mut freezer = tempfile::tempfile().unwrap();
        let mut after = |is_over: bool| {
            let mut criu = Command::new("sleep").arg("1000").spawn().unwrap();
            let pidfd = pidfd_open(Pid::from_child(&criu), PidfdFlags::empty()).unwrap();
            let thaw = Thaw { file: freezer.try_clone().unwrap().into(), word: "THAWED" };
            let mut guardian = Guardian::begin(pidfd.as_fd(), Some(&thaw), Duration::from_millis(50)).unwrap();
            if !is_over {
                // as if we had been killed
                drop(guardian.needed.take());
            }
            drop(guardian);
            let ended = criu.try_wait().unwrap();
            if ended.is_none() {
                criu.kill().unwrap();
                criu.wait().unwrap();
            }
            let mut text = String::new();
            freezer.rewind().unwrap();
            freezer.read_to_string(&mut text).unwrap();
            (ended.is_some(), text)
        };
        assert_eq!(after(true), (false, String::new()));
        assert_eq!(after(false), (true, "THAWED".to_owned()));
    }
}
