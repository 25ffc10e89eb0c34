//! The hooks that run in the container's namespaces: createContainer and startContainer.

use std::convert::Infallible;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};

use super::prepared::{Outcome, Prepared, Trouble};
use super::protocol;
use crate::plan::step::{EnvOf, HookCommand, Slot};
use crate::sys;
use crate::sys::retry::retry;
use crate::wire::{About, Ending, HookPoint, WORDS_SIZE, Words};

/// Runs each hook in turn. It gets the state on its standard input. The runtime can read its output.
pub(super) fn run(
    prepared: &Prepared<'_>,
    point: HookPoint,
    hooks: &[HookCommand],
    state: Slot,
    output: Slot,
) -> Outcome {
    let context = HookContext {
        root: match point {
            HookPoint::CreateContainer => Some(prepared.root()?),
            HookPoint::CreateRuntime | HookPoint::StartContainer => None,
        },
        state: prepared.fd(state)?,
        output: prepared.fd(output)?,
    };
    for (n, hook) in hooks.iter().enumerate() {
        if let Some((ending, failed)) = run_hook(prepared, hook, &context)? {
            let n = u32::try_from(n).map_err(|_| Errno::RANGE)?;
            return Err(Trouble { said: failed.said.about(About::Hook(n, ending)), ..failed });
        }
    }
    Ok(())
}

/// The values that all hooks of one point get.
struct HookContext<'a> {
    /// The container's root, as long as it is not `/`: before pivot_root(2).
    root: Option<BorrowedFd<'a>>,
    /// Their standard input.
    state: BorrowedFd<'a>,
    /// Their standard output and error.
    output: BorrowedFd<'a>,
}

/// Runs one hook. Returns None if it succeeds. Otherwise returns how it failed. If the hook has not begun, this includes the call
/// and its error.
fn run_hook(
    prepared: &Prepared<'_>,
    hook: &HookCommand,
    context: &HookContext<'_>,
) -> Outcome<Option<(Ending, Trouble)>> {
    rustix::fs::seek(context.state, rustix::fs::SeekFrom::Start(0))?;
    let pid = sys::clone::fork(|_| {
        let Err((call, errno)) = become_hook(prepared, hook, context);
        prepared.page.hook_has_not_begun(call, errno);
        sys::clone::exit(if errno == Errno::NOENT { 127 } else { 126 })
    })?;
    let pid = Pid::from_raw(pid).ok_or(Errno::SRCH)?;
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    let deadline = hook.timeout.map(|seconds| Timespec { tv_sec: seconds.into(), tv_nsec: 0 });
    let ended = retry(|| rustix::event::poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], deadline.as_ref()))?;
    if ended == 0 {
        // the hook leads its own process group, so that what it started is killed with it
        let _ = rustix::process::kill_process_group(pid, Signal::KILL);
        // it may have left its group
        let _ = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL);
        // the timeout is the failure that is reported
        let _ = reap(pidfd.as_fd());
        return Ok(Some((Ending::Late(hook.timeout.unwrap_or(0)), Errno::TIMEDOUT.into())));
    }
    let status = reap(pidfd.as_fd())?;
    if let Some((call, errno)) = prepared.page.hook_failure() {
        let (mut said, call) = ([0; WORDS_SIZE], CALLS[call]);
        let text = [call.as_bytes(), b" ", hook.path.to_bytes()].into_iter().flatten();
        let length = said.iter_mut().zip(text).map(|(into, byte)| *into = *byte).count();
        let said = Words::of(&said[..length]);
        return Ok(Some((Ending::Call, Trouble { said, ..errno.into() })));
    }
    Ok(status.and_then(|status| match (status.exit_status(), status.terminating_signal()) {
        (Some(0), _) => None,
        (_, Some(signal)) => Some((Ending::Signal(signal), Errno::CANCELED.into())),
        (status, None) => Some((Ending::Status(status.unwrap_or(1)), Errno::CANCELED.into())),
    }))
}

/// The status of a hook that has ended or was killed. A process that traces it can keep its end.
fn reap(hook: BorrowedFd<'_>) -> Outcome<Option<rustix::process::WaitIdStatus>> {
    let moment = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
    let end = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    for _ in 0..200 {
        if let Some(status) = retry(|| rustix::process::waitid(WaitId::PidFd(hook), end))? {
            return Ok(Some(status));
        }
        retry(|| rustix::event::poll(&mut [], Some(&moment)))?;
    }
    Err(Trouble::saying(Errno::TIMEDOUT, "a process that traces the hook has not released its exit status"))
}

/// The calls of a hook's process before the hook begins. The index is the number in the shared page.
const CALLS: [&str; 5] = ["chdir", "its standard streams", "close_range", "seccomp", "execve"];

/// Returns only if a call fails: its number, and the error.
fn become_hook(
    prepared: &Prepared<'_>,
    hook: &HookCommand,
    context: &HookContext<'_>,
) -> Result<Infallible, (u16, Errno)> {
    // a new child of ours does not lead a session, so this cannot fail (setpgid(2))
    let _ = rustix::process::setpgid(None, None);
    // until pivot_root(2) we work with umask 0, and a hook has the caller's, as the hooks of the runtime
    if let Some(mask) = context.root.and_then(|_| prepared.results.umask.get()) {
        rustix::process::umask(mask);
    }
    // a hook runs in the container's root, as with runc
    context.root.map_or_else(|| rustix::process::chdir(c"/"), rustix::process::fchdir).map_err(|errno| (0, errno))?;
    dup2_stdin(context.state)
        .and_then(|()| dup2_stdout(context.output))
        .and_then(|()| dup2_stderr(context.output))
        .map_err(|errno| (1, errno))?;
    // ORDER: before the exec: a hook gets its three streams and no descriptor of ours (CVE-2024-21626)
    sys::fds::close_on_exec_from(3).map_err(|errno| (2, errno))?;
    if let Some(flags) = hook.filter {
        protocol::load_filter(prepared, flags).map_err(|trouble| (3, trouble.errno))?;
    }
    let home = prepared.results.home.borrow();
    let home = CStr::from_bytes_until_nul(&home).ok().filter(|_| hook.env_of == EnvOf::Process);
    Err((4, sys::exec::execve(&hook.path, &hook.args, &hook.env, home)))
}
