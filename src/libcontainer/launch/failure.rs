//! Why init failed: the message for a failed step, or for the end of init.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::process::WaitIdStatus;

use super::cause::Waiting;
use super::child::reap;
use super::clone::{NO_STREAMS, NOT_PROTECTED};
use super::launched::Launched;
use crate::cgroup::{Cgroup, frozen_by};
use crate::container::{AfterStart, Container, has_executed, is_ending};
use crate::error::{Error, FailedStep, Kind, Result, bail, error};
use crate::plan::failure::{self, StepEnd};
use crate::plan::step::{Slot, Step, What};
use crate::sys::errno::words;
use crate::wait::{self, Interrupted, limits};
use crate::wire::{Failure, Request, Up};

/// moby looks for these words.
pub(super) const TOO_LITTLE_MEMORY: &str =
    "linux.resources.memory.limit: container init was OOM-killed (memory limit too low?)";
const NEEDED: &str = "most programs need some MiB to begin";

/// The message with the memory limits of config.json.
fn too_little_memory(launched: &Launched<'_>) -> Error {
    let writes = launched.plan.cgroup.iter().flat_map(|cgroup| &cgroup.writes);
    let mut limit =
        writes.filter(|write| write.at.as_str() == "linux.resources.memory.limit").map(|write| &write.value);
    match limit.next_back() {
        Some(limit) => error!(Kind::OutOfMemory => "{TOO_LITTLE_MEMORY}: it is {limit} bytes, and {NEEDED}"),
        None => error!(Kind::OutOfMemory => TOO_LITTLE_MEMORY),
    }
}

fn step<'p>(launched: &Launched<'p>, n: usize) -> Option<&'p Step> {
    launched.plan.bridge.iter().chain(&launched.plan.init).nth(n)
}

/// True if init's end of the socket was closed by its execve(2), and not by its death.
pub(super) fn has_begun(launched: &Launched<'_>) -> bool {
    let steps = launched.plan.bridge.len() + launched.plan.init.len();
    let at_exec = usize::try_from(launched.opened.page.step()).is_ok_and(|n| n + 1 == steps);
    let denied = || launched.opened.page.failure().is_some() || has_executed(launched.child.pid) == Some(false);
    // Only a filter can deny an exec so that init cannot report it.
    at_exec && (launched.plan.filter.is_none() || !denied())
}

/// The message for a failed step: it names the property. Init waits, so that the runtime can look for the reason.
pub(super) fn of_step(launched: &Launched<'_>, failed: &Failure) -> Error {
    let step = step(launched, failed.step as usize);
    if let Some((from, What::FindProgram(exec) | What::Exec(exec))) = step.map(|step| (&step.from, &step.what)) {
        let paths = exec.candidates.iter().map(|path| OsStr::from_bytes(path.to_bytes()));
        let cause =
            Waiting::of(launched.child.pid, launched.plan.cwd()).and_then(|waiting| waiting.cause(paths, failed));
        let restricted = || launched.plan.denied_by_ruleset(failed.errno).map(str::to_owned);
        let cause = cause.or_else(restricted);
        if let Some(cause) = cause.filter(|_| denied(launched, failed).is_none()) {
            let name = exec.args.iter().next().map(|name| name.to_string_lossy()).unwrap_or_default();
            let said = failure::exec_message_with_cause(&name, failed.errno, &cause);
            return error!(kind(launched, failed) => "{from}: {said}");
        }
    }
    step_failed(launched, failed)
}

/// The failed step as a value.
fn kind(launched: &Launched<'_>, failed: &Failure) -> Kind {
    step(launched, failed.step as usize).map_or(Kind::Other, |step| {
        Kind::Step(FailedStep {
            property: step.from.to_string(),
            action: step.what.to_string(),
            errno: failed.errno.raw_os_error(),
            said: failure::detail(failed),
        })
    })
}

/// The message if the profile denies the call.
fn denied(launched: &Launched<'_>, failed: &Failure) -> Option<String> {
    launched.plan.denied(failed.step as usize, StepEnd::Errno(failed))
}

/// The message for a step of an init that may have ended: nothing is looked up by its pid.
fn step_failed(launched: &Launched<'_>, failed: &Failure) -> Error {
    let Some(step) = step(launched, failed.step as usize) else {
        if failed.step == NOT_PROTECTED {
            return error!("protect our own binary in the new process: {}", words(failed.errno));
        }
        if failed.step == NO_STREAMS {
            return error!("dup3 the standard streams of the new process: {}", words(failed.errno));
        }
        return error!("init failed at step {}: {}", failed.step, words(failed.errno));
    };
    if let Some(said) = denied(launched, failed) {
        return error!(kind(launched, failed) => said);
    }
    let message = failure::message(step, failed, source_of(launched, &step.what));
    match &step.what {
        What::Hooks { output, .. } => {
            error!(Kind::Hook => "{message}, output: {:?}", output_of(launched, *output))
        }
        _ => error!(kind(launched, failed) => message),
    }
}

/// The path of the mount that the step makes.
fn source_of<'p>(launched: &Launched<'p>, what: &What) -> Option<&'p Path> {
    let slot = match what {
        What::Bind(slot, ..) | What::BindOrLink(slot, ..) | What::Copy(slot, _) => *slot,
        What::Request(Request::Tree(slot)) => Slot(*slot as usize),
        _ => return None,
    };
    launched.plan.openings.get(slot.0).and_then(|(opening, _)| opening.path())
}

/// The beginning of the output of a hook in init.
fn output_of(launched: &Launched<'_>, slot: Slot) -> String {
    let mut text = [0u8; 4096];
    let length = launched.opened.fd(slot).ok().and_then(|fd| rustix::io::pread(fd, &mut text[..], 0).ok()).unwrap_or(0);
    String::from_utf8_lossy(&text[..length]).trim_end().to_owned()
}

/// systemd removes the cgroup of an empty unit at once, and with it the count of OOM kills. On version 2, the slice has
/// counted them, too. Version 1 keeps no count. There an init counts as killed by the OOM killer if it had a memory
/// limit, was killed by SIGKILL, and was the only process of its unit. This is wrong if another process has killed it.
/// Then only the message is wrong.
fn has_starved(launched: &Launched<'_>, cgroup: &Cgroup, signal: Option<i32>) -> bool {
    let limits = |file: &str| matches!(file, "memory.max" | "memory.limit_in_bytes");
    let plan = launched.plan.cgroup.as_ref();
    let limited = plan.is_some_and(|plan| plan.writes.iter().any(|write| limits(&write.file)));
    let gone = || cgroup.unit().is_some() && !cgroup.paths().values().all(|directory| directory.exists());
    limited && signal == Some(libc::SIGKILL) && gone() && cgroup.unit_had_oom_kills().unwrap_or(true)
}

/// Returns `error`, or the reason why the cgroup of the unit is missing.
pub(super) fn starved_or(launched: &Launched<'_>, cgroup: &Cgroup, error: Error) -> Error {
    // A process that does not end in this time was not killed.
    let deadline = Instant::now() + limits::CLOSED;
    let process = launched.child.pidfd.as_fd();
    if !wait::readable(process, Some(deadline)).unwrap_or(false) {
        return error;
    }
    let signal = reap(process).and_then(|status| status.terminating_signal());
    let short_of_memory = cgroup.oom_kills().is_some_and(|kills| kills > 0);
    if short_of_memory || has_starved(launched, cgroup, signal) { too_little_memory(launched) } else { error }
}

/// The message for an interrupted wait for init. A container can freeze a process that enters it.
pub(super) fn of_wait(launched: &Launched<'_>, stopped: Interrupted) -> Error {
    let error = Error::from(stopped);
    match frozen_by(launched.child.pid) {
        Some(cgroup) => {
            let text = format!("{error}: process {} is frozen by {}", launched.child.pid, cgroup.display());
            error.reworded(text)
        }
        None => error,
    }
}

/// The message for an init that has ended without a report: its end, and its last step.
pub(super) fn of_end(launched: &Launched<'_>, cgroup: Option<&Cgroup>) -> Error {
    // The count of OOM kills is the only sign of such a kill.
    let short_of_memory = cgroup.and_then(Cgroup::oom_kills).is_some_and(|kills| kills > 0);
    let ended = reap(launched.child.pidfd.as_fd());
    let killed_by = ended.as_ref().and_then(WaitIdStatus::terminating_signal);
    if short_of_memory || cgroup.is_some_and(|cgroup| has_starved(launched, cgroup, killed_by)) {
        return too_little_memory(launched);
    }
    // The page contains what init could not send.
    if let Some(Up::Failed(failed)) = launched.opened.page.failure().and_then(|packet| Up::decode(&packet)) {
        return step_failed(launched, &failed);
    }
    let n = launched.opened.page.step();
    let signal = ended.and_then(|status| status.terminating_signal());
    if signal == Some(libc::SIGSYS)
        && let Some(said) = launched.plan.denied(n as usize, StepEnd::Killed)
    {
        return error!(said);
    }
    let which = step(launched, n as usize).map_or_else(String::new, |step| format!(" ({}: {})", step.from, step.what));
    let how = match ended {
        Some(status) => match (status.exit_status(), status.terminating_signal()) {
            (_, Some(signal)) => format!("was killed by signal {signal}"),
            (Some(status), None) => format!("exited with status {status}"),
            (None, None) => "is gone".to_owned(),
        },
        None => "is gone".to_owned(),
    };
    error!("init {how} at step {n}{which}")
}

/// The reason why the program has not begun. A process that was reaped can no longer be examined. If the profile denies
/// every execve(2), and this was the last step, the program has not begun. If a rule for execve(2) has conditions, we cannot
/// know whether it has denied the call, because the conditions compare addresses. Then this reports a denial only while init
/// can be examined. Later, the end of init counts as the end of the program.
pub(super) fn denial(after: &[AfterStart], executed: Option<bool>) -> Option<&str> {
    let always = |step: &AfterStart| step.denied.is_some();
    if executed == Some(true) || executed.is_none() && !after.last().is_some_and(always) {
        return None;
    }
    let said = after.iter().find_map(|after| after.denied.as_ref()).map(|(_, said)| said.as_str());
    said.or(Some("container init was killed before its program began"))
}

/// An execve(2) without enough memory ends in a kill, which looks like the end of a program.
pub(super) fn must_not_have_starved(container: &Container) -> Result<()> {
    if container.cgroup().oom_kills().is_none_or(|kills| kills == 0) {
        return Ok(());
    }
    // A process was killed.
    if lives(container) { Ok(()) } else { bail!(Kind::OutOfMemory => TOO_LITTLE_MEMORY) }
}

/// Whether init runs, after it has closed its descriptors. A process closes its descriptors a moment before its end can be seen. For
/// the first process of a pid namespace this moment can be long: it waits for all others, and one of them may be frozen.
pub(super) fn lives(container: &Container) -> bool {
    let process = container.process().ok().filter(|_| !is_ending(container.record().init_process_pid));
    process.is_some_and(|process| !ends_within(&process, limits::CLOSED))
}

/// Waits for the end of a process, and reads no signal. Returns false if the time is over.
pub(super) fn ends_within(process: &OwnedFd, time: Duration) -> bool {
    let mut end = [PollFd::new(process, PollFlags::IN)];
    rustix::event::poll(&mut end, Some(&wait::timespec(time))).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denied_exec_is_reported_even_if_init_was_reaped() {
        let step = |from: &str, denied: Option<&str>| AfterStart {
            from: from.to_owned(),
            denied: denied.map(|said| (1, said.to_owned())),
            ..AfterStart::default()
        };
        let denied = [step("linux.seccomp", None), step("process.args", Some("denied"))];
        let allowed = [step("linux.seccomp", None), step("process.args", None)];
        assert_eq!(denial(&denied, None), Some("denied"));
        assert_eq!(denial(&denied, Some(false)), Some("denied"));
        assert_eq!(denial(&denied, Some(true)), None);
        assert_eq!(denial(&allowed, None), None);
        assert_eq!(denial(&allowed, Some(false)), Some("container init was killed before its program began"));
    }
}
