//! One case: a fault at one system call, and everything that must hold afterwards.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use crate::operation::{Operation, has_status, status};
use crate::trace::{Aim, Call, Fault, Origin, Report, Seen};
use crate::worker::{Ran, Worker, reap};

/// The process that a call belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    Runtime,
    Bridge,
    Init,
    /// A copy of the runtime or of init that becomes a hook.
    Hook,
}

/// All roles, by name.
pub const ROLES: [(&str, Role); 4] =
    [("runtime", Role::Runtime), ("bridge", Role::Bridge), ("init", Role::Init), ("hook", Role::Hook)];

/// An operation on a bundle without a fault: its calls and its result.
pub struct Untouched {
    pub operation: Operation,
    pub bundle: String,
    pub calls: Vec<(Role, Seen)>,
    outcome: Vec<String>,
}

/// The result of a case.
#[derive(Debug, Default)]
pub struct Verdict {
    /// `failed`, `succeeded`, `killed` or `not reached`.
    pub end: &'static str,
    /// Kind and text of each finding.
    pub findings: Vec<(&'static str, String)>,
    pub hit: String,
}

impl Verdict {
    fn finds(&mut self, kind: &'static str, text: impl Into<String>) {
        self.findings.push((kind, text.into()));
    }
}

/// Records all calls of `operation`. It runs twice: if the two results differ, later differences would mean nothing.
pub fn untouched(worker: &Worker, operation: Operation, bundle: &str) -> Result<Untouched> {
    let mut outcomes = Vec::new();
    let mut calls = Vec::new();
    for _ in 0..2 {
        worker.clear()?;
        operation.prepare(worker, bundle)?;
        let (report, ran) = perform(worker, operation, bundle, Aim::Record)?;
        anyhow::ensure!(ran.code == 0 && ran.hung.is_none(), "untouched, it fails: {}", ran.summary());
        outcomes.push(operation.outcome(worker, &ran)?);
        worker.call(&["delete", "--force", &worker.id])?;
        calls = by_role(operation, report);
        let left = worker.left()?;
        anyhow::ensure!(left.is_empty(), "untouched, it leaves {}", left.join(", "));
    }
    let differences = difference(&outcomes[0], &outcomes[1]);
    anyhow::ensure!(differences.is_empty(), "untouched, it differs from time to time: {differences}");
    Ok(Untouched { operation, bundle: bundle.to_owned(), calls, outcome: outcomes.swap_remove(0) })
}

fn perform(worker: &Worker, operation: Operation, bundle: &str, aim: Aim) -> Result<(Report, Ran)> {
    let bundle = worker.bundle(bundle, operation.then());
    let waiting = if operation == Operation::Start {
        let state = worker.state()?.map_err(|ran| anyhow::anyhow!("state fails: {}", ran.summary()))?;
        Some(i32::try_from(state["pid"].as_i64().context("no pid")?)?)
    } else {
        None
    };
    worker.trace(&operation.arguments(&worker.id, &bundle), waiting, aim, operation.out())
}

/// These calls always succeed, by their man pages. Programs do not check them, and cannot. brk(2) of the kernel returns
/// the break, not an error.
pub const NEVER_FAIL: [&str; 10] =
    ["brk", "exit_group", "getegid", "geteuid", "getgid", "getpid", "getppid", "gettid", "getuid", "umask"];

/// std ends the process for an error that the kernel never returns in these places: the socket on which a new process
/// reports that its exec failed, the keys of hash tables, and the closing of a directory.
const STD_ENDS: [(&str, &str); 3] = [
    ("recvfrom", "the CLOEXEC pipe failed"),
    ("getrandom", "failed to generate random data"),
    ("close", "unexpected error during closedir"),
];

/// The role of the process that makes each call. Calls of the C library and of std before main are left out.
fn by_role(operation: Operation, report: Report) -> Vec<(Role, Seen)> {
    let origins = &report.origins;
    let is_bridge = |n: usize| origins.contains(&Origin::Sibling(n));
    let first = origins.iter().position(|origin| *origin == Origin::Child(0));
    let role = |n: usize| match origins[n] {
        _ if n == 0 => Role::Runtime,
        Origin::First | Origin::Sibling(_) => Role::Init,
        _ if is_bridge(n) => Role::Bridge,
        _ if Some(n) == first && operation != Operation::Start && operation != Operation::Delete => Role::Init,
        Origin::Child(_) | Origin::Spawned => Role::Hook,
    };
    // The start of std ends when it sets its handlers for SIGSEGV and SIGBUS.
    let sigbus = 7;
    let runtime = report.calls.iter().filter(|seen| seen.call.process == 0).take(60);
    let start = runtime.enumerate().filter(|(_, seen)| seen.call.name == "rt_sigaction" && seen.first == sigbus).last();
    let start = start.map_or(0, |(n, _)| n + 1);
    let mut of_runtime = 0;
    let mut calls = Vec::new();
    for seen in report.calls {
        if seen.call.process == 0 {
            of_runtime += 1;
            if of_runtime <= start || seen.call.name == "exit_group" {
                continue;
            }
        }
        calls.push((role(seen.call.process), seen));
    }
    calls
}

/// Tries one fault.
pub fn judge(worker: &Worker, untouched: &Untouched, call: &Call, fault: Fault) -> Result<Verdict> {
    let operation = untouched.operation;
    let prepared = operation.prepare(worker, &untouched.bundle);
    if prepared.is_err() {
        // The last case may have left something that shows only now.
        worker.clear()?;
        operation.prepare(worker, &untouched.bundle)?;
    }
    let (report, ran) = perform(worker, operation, &untouched.bundle, Aim::Hit(call.clone(), fault))?;
    let mut verdict = Verdict { hit: report.hit.clone().unwrap_or_default(), ..Verdict::default() };
    if let Err(error) = prepared {
        verdict.finds("id in the way", format!("{error:#}"));
    }
    if let Some(who) = &ran.hung {
        verdict.finds("hang", who.clone());
    }
    if report.hit.is_none() {
        verdict.end = "not reached";
    } else if fault == Fault::KillRuntime || fault == Fault::Kill && call.process == 0 {
        verdict.end = "killed";
        after_kill(worker, operation, &mut verdict)?;
    } else if ran.code == 0 {
        verdict.end = "succeeded";
        after_success(worker, untouched, &ran, fault, &mut verdict)?;
    } else {
        verdict.end = "failed";
        after_failure(worker, operation, &report, &ran, &mut verdict)?;
    }
    all_is_cleared(worker, &mut verdict)?;
    Ok(verdict)
}

/// In every case, `delete --force` works, and nothing is left.
fn all_is_cleared(worker: &Worker, verdict: &mut Verdict) -> Result<()> {
    let deleted = worker.call(&["delete", "--force", &worker.id])?;
    reap();
    if deleted.code != 0 || deleted.hung.is_some() {
        verdict.finds("delete fails", deleted.summary());
    }
    let left = worker.left()?;
    if !left.is_empty() {
        verdict.finds("left for good", left.join(", "));
    }
    if !left.is_empty() || deleted.code != 0 {
        worker.clear()?;
    }
    Ok(())
}

/// Whether init makes the failed call after create has ended: the read(2) of one byte from the exec fifo. Its number
/// varies.
fn waits_for_start(untouched: &Untouched, hit: &str) -> bool {
    let mut arguments = hit.trim_end_matches(')').split(", ");
    untouched.operation == Operation::Create && hit.starts_with("read(") && arguments.nth(2) == Some("1")
}

/// The command may succeed, but only if it has really done its work.
fn after_success(worker: &Worker, untouched: &Untouched, ran: &Ran, fault: Fault, verdict: &mut Verdict) -> Result<()> {
    // init can be killed after it has reported that it is ready. The container's status shows this.
    if fault == Fault::Kill
        && matches!(untouched.operation, Operation::Create | Operation::RunDetached | Operation::Start)
    {
        if let Err(error) = has_status(worker, "stopped") {
            verdict.finds("wrong success", format!("init was killed: {error:#}"));
        }
        return Ok(());
    }
    match untouched.operation.outcome(worker, ran) {
        // The container was created, and its init has ended since.
        Err(_) if waits_for_start(untouched, &verdict.hit) && has_status(worker, "stopped").is_ok() => {}
        Err(error) => verdict.finds("wrong success", format!("{error:#}; it said {:?}", ran.err.trim())),
        Ok(outcome) => {
            let differences = difference(&untouched.outcome, &outcome);
            // As with runc: a container that cannot be read is left out of the list, with a warning.
            let warned = untouched.operation == Operation::List && ran.err.contains("load container");
            if !differences.is_empty() && !warned {
                verdict.finds("wrong success", differences);
            }
        }
    }
    if matches!(untouched.operation, Operation::Run | Operation::Delete) {
        let left = worker.left()?;
        // The exit status is the program's, and a message reports the failed removal.
        let has_message = untouched.operation == Operation::Run && !ran.err.trim().is_empty();
        if !left.is_empty() && !has_message {
            verdict.finds("left after success", format!("{}; it said {:?}", left.join(", "), ran.err.trim()));
        }
    }
    Ok(())
}

/// Exactly one message. Nothing is left of a container that was not made, and an existing one has no more than before.
fn after_failure(
    worker: &Worker,
    operation: Operation,
    report: &Report,
    ran: &Ran,
    verdict: &mut Verdict,
) -> Result<()> {
    // A command that was killed at the deadline cannot undo or report anything.
    if ran.hung.is_some() {
        return Ok(());
    }
    let std_ends = |(call, word): &(&str, &str)| verdict.hit.starts_with(call) && ran.err.contains(word);
    if STD_ENDS.iter().any(std_ends) {
        return Ok(());
    }
    // This looks like a program that is killed at once: the two cannot be distinguished.
    if ran.code == 137 && verdict.hit.starts_with("execve(") {
        return Ok(());
    }
    if ran.err.contains("panicked") || report.signal.is_some() {
        verdict.finds("fell over", format!("signal {:?}, {:?}", report.signal, ran.err.trim()));
        return Ok(());
    }
    let lines: Vec<&str> =
        ran.err.lines().filter(|line| !line.trim().is_empty() && !line.contains("level=warning")).collect();
    if lines.is_empty() {
        verdict.finds("no message", ran.summary());
    } else if lines.len() > 1 {
        verdict.finds("more than one message", format!("{lines:?}"));
    }
    let ended_program = operation == Operation::Run && ran.out.ends_with("END\n");
    if operation.makes() && !ended_program {
        let left = worker.left()?;
        if !left.is_empty() {
            verdict.finds("left after failure", format!("{}; it said {:?}", left.join(", "), ran.err.trim()));
        }
        return Ok(());
    }
    if operation == Operation::Exec {
        still_runs(worker, ran, verdict)?;
    }
    Ok(())
}

/// After an `exec` that failed, the container runs, and no other process does.
fn still_runs(worker: &Worker, ran: &Ran, verdict: &mut Verdict) -> Result<()> {
    match worker.state()? {
        Err(state) => verdict.finds("state fails", state.summary()),
        Ok(state) if status(&state) != "running" => {
            verdict.finds("container lost", format!("it is {}; exec said {:?}", status(&state), ran.err.trim()));
        }
        Ok(_) => {
            let mut more = others(worker);
            for _ in 0..200 {
                if more.is_empty() {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(5));
                reap();
                more = others(worker);
            }
            if !more.is_empty() {
                verdict.finds("process left", format!("{}; it said {:?}", more.join(", "), ran.err.trim()));
            }
        }
    }
    Ok(())
}

/// All processes except the container's first.
fn others(worker: &Worker) -> Vec<String> {
    let first = worker.state().ok().and_then(Result::ok).and_then(|state| i32::try_from(state["pid"].as_i64()?).ok());
    let others = crate::watch::processes().into_iter().filter(|&pid| Some(pid) != first);
    others.map(crate::watch::description).collect()
}

/// After the runtime was killed: a container that is left can be found, and works in the state that it reports.
fn after_kill(worker: &Worker, operation: Operation, verdict: &mut Verdict) -> Result<()> {
    reap();
    let listed = worker.call(&["list"])?;
    if listed.code != 0 || listed.hung.is_some() {
        verdict.finds("list fails", listed.summary());
    }
    match worker.state()? {
        Err(state) if state.hung.is_none() && state.err.contains("does not exist") => {
            let left = worker.processes_left();
            if !left.is_empty() {
                verdict.finds("init survives", left.join(", "));
            }
        }
        Err(state) => verdict.finds("state fails", state.summary()),
        Ok(state) => {
            let works = match (operation, status(&state)) {
                (Operation::Create | Operation::Start, "created") => Some(vec!["start", &worker.id]),
                (Operation::Pause | Operation::Resume, "paused") => Some(vec!["resume", &worker.id]),
                (_, "running")
                    if operation != Operation::Kill
                        && operation != Operation::Delete
                        && operation != Operation::Run =>
                {
                    Some(vec!["exec", &worker.id, "/bin/true"])
                }
                _ => None,
            };
            if let Some(arguments) = works {
                let after = worker.call(&arguments)?;
                // The killed start may have written to the fifo before. The remains of the killed create end with it,
                // at the latest while start waits.
                let ends = ["already running", "has stopped", "was killed before its program began"];
                let went_on = arguments[0] == "start" && ends.iter().any(|word| after.err.contains(word));
                if (after.code != 0 && !went_on) || after.hung.is_some() {
                    let was = status(&state);
                    verdict.finds("of no use", format!("{was}, and {} fails: {}", arguments[0], after.summary()));
                }
            }
        }
    }
    Ok(())
}

/// Some lines that only one side has.
fn difference(one: &[String], other: &[String]) -> String {
    let mut counts: BTreeMap<&String, i32> = BTreeMap::new();
    for line in one {
        *counts.entry(line).or_default() -= 1;
    }
    for line in other {
        *counts.entry(line).or_default() += 1;
    }
    let lines: Vec<String> = counts
        .iter()
        .filter(|(_, count)| **count != 0)
        .take(8)
        .map(|(line, count)| format!("{}{line}", if *count < 0 { "-" } else { "+" }))
        .collect();
    lines.join("; ")
}
