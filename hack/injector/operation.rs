//! The operations: what each needs before, its command, and its result when it succeeds.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use serde_json::Value;

use crate::bundle::Then;
use crate::worker::{Ran, Worker};

/// A command of the runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    Run,
    RunDetached,
    Create,
    Start,
    Exec,
    Kill,
    Pause,
    Resume,
    Update,
    Delete,
    State,
    Ps,
    List,
}

/// All operations, by name.
pub const OPERATIONS: [(&str, Operation); 13] = [
    ("run", Operation::Run),
    ("run-d", Operation::RunDetached),
    ("create", Operation::Create),
    ("start", Operation::Start),
    ("exec", Operation::Exec),
    ("kill", Operation::Kill),
    ("pause", Operation::Pause),
    ("resume", Operation::Resume),
    ("update", Operation::Update),
    ("delete", Operation::Delete),
    ("state", Operation::State),
    ("ps", Operation::Ps),
    ("list", Operation::List),
];

impl Operation {
    /// True if it makes a container. If it fails, it removes all that it has made.
    pub fn makes(self) -> bool {
        matches!(self, Operation::Run | Operation::RunDetached | Operation::Create)
    }

    /// Makes what the operation needs: nothing, or a container that is created, running or paused.
    pub fn prepare(self, worker: &Worker, bundle: &str) -> Result<()> {
        if self.makes() {
            return Ok(());
        }
        let bundle = worker.bundle(bundle, Then::Stays);
        expect(&worker.run(&["create", "--bundle", &bundle, &worker.id])?, "create")?;
        if self != Operation::Start {
            expect(&worker.call(&["start", &worker.id])?, "start")?;
        }
        if self == Operation::Resume {
            expect(&worker.call(&["pause", &worker.id])?, "pause")?;
        }
        Ok(())
    }

    pub fn arguments<'a>(self, id: &'a str, bundle: &'a str) -> Vec<&'a str> {
        match self {
            Operation::Run => vec!["run", "--bundle", bundle, id],
            Operation::RunDetached => vec!["run", "-d", "--bundle", bundle, id],
            Operation::Create => vec!["create", "--bundle", bundle, id],
            Operation::Start => vec!["start", id],
            Operation::Exec => vec!["exec", id, "/bin/print"],
            Operation::Kill => vec!["kill", id, "KILL"],
            Operation::Pause => vec!["pause", id],
            Operation::Resume => vec!["resume", id],
            Operation::Update => {
                vec!["update", "--memory", "100003840", "--pids-limit", "77", "--cpu-share", "512", id]
            }
            Operation::Delete => vec!["delete", "--force", id],
            Operation::State => vec!["state", id],
            Operation::Ps => vec!["ps", id],
            Operation::List => vec!["list"],
        }
    }

    pub fn then(self) -> Then {
        if self == Operation::Run { Then::Ends } else { Then::Stays }
    }

    /// The file for the command's own output. `start` has none, and the container's output must stay.
    pub fn out(self) -> &'static str {
        match self {
            Operation::Exec => "exec",
            _ if self.makes() => "out",
            _ => "answer",
        }
    }

    /// The values to compare with the operation without a fault, after the command has succeeded. An error is a
    /// finding.
    pub fn outcome(self, worker: &Worker, ran: &Ran) -> Result<Vec<String>> {
        match self {
            Operation::Run => Ok(fingerprint(&printed(worker)?)),
            Operation::Exec => {
                ensure!(ran.out.ends_with("END\n"), "the program has not run; it printed {:?}", ran.out);
                Ok(fingerprint(&ran.out))
            }
            Operation::RunDetached | Operation::Start => {
                has_status(worker, "running")?;
                Ok(fingerprint(&printed(worker)?))
            }
            Operation::Create => {
                has_status(worker, "created")?;
                // Its output goes to the same file as that of create.
                expect(&worker.call(&["start", &worker.id])?, "start")?;
                Ok(fingerprint(&printed(worker)?))
            }
            Operation::Kill => has_status(worker, "stopped").map(|()| Vec::new()),
            Operation::Pause => has_status(worker, "paused").map(|()| Vec::new()),
            Operation::Resume => has_status(worker, "running").map(|()| Vec::new()),
            Operation::Update => Ok(limits(worker)),
            Operation::Delete => Ok(Vec::new()),
            Operation::State | Operation::Ps => Ok(ran.out.lines().map(without_numbers).collect()),
            // An owner whose name cannot be read is shown as a number, as with runc.
            Operation::List => Ok(ran.out.lines().map(|line| without_numbers(line).replace(" #N", " root")).collect()),
        }
    }
}

/// Fails unless the command has succeeded.
pub fn expect(ran: &Ran, what: &str) -> Result<()> {
    ensure!(ran.code == 0 && ran.hung.is_none(), "{what} fails: {}", ran.summary());
    Ok(())
}

/// Fails unless the container gets this status within three seconds.
pub fn has_status(worker: &Worker, status: &str) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(3);
    loop {
        crate::worker::reap();
        let now = match worker.state()? {
            Ok(state) => state["status"].as_str().unwrap_or_default().to_owned(),
            Err(ran) => bail!("state fails: {}", ran.summary()),
        };
        if now == status {
            return Ok(());
        }
        ensure!(Instant::now() < until, "it is {now}, not {status}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The complete output of the program.
fn printed(worker: &Worker) -> Result<String> {
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        let printed = worker.printed();
        if printed.ends_with("END\n") {
            return Ok(printed);
        }
        ensure!(Instant::now() < until, "the program does not run; it printed {printed:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The output in a form that can be compared: for each namespace, whether it is the host's.
fn fingerprint(printed: &str) -> Vec<String> {
    let host: BTreeMap<String, ()> = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"]
        .iter()
        .filter_map(|kind| fs::read_link(format!("/proc/self/ns/{kind}")).ok())
        .map(|link| (link.display().to_string(), ()))
        .collect();
    let line = |line: &str| match line.strip_prefix("namespace ") {
        Some(link) => {
            let kind = link.split(':').next().unwrap_or_default();
            let whose = if host.contains_key(link) { "the host's" } else { "its own" };
            format!("namespace {kind} {whose}")
        }
        None => line.to_owned(),
    };
    printed.lines().map(line).collect()
}

/// The limits that `update` changes, on version 1 and 2.
fn limits(worker: &Worker) -> Vec<String> {
    let mut limits = Vec::new();
    for cgroup in worker.cgroups() {
        for name in ["memory.limit_in_bytes", "pids.max", "cpu.shares", "memory.max", "cpu.weight", "devices.list"] {
            if let Ok(text) = fs::read_to_string(cgroup.join(name)) {
                limits.push(format!("{} {}", cgroup.join(name).display(), text.trim()));
            }
        }
    }
    limits
}

/// Replaces numbers: pids and times differ each time.
fn without_numbers(line: &str) -> String {
    let mut text = String::new();
    for c in line.chars() {
        match c {
            '0'..='9' if text.ends_with('N') => {}
            '0'..='9' => text.push('N'),
            ' ' if text.ends_with(' ') => {}
            c => text.push(c),
        }
    }
    text
}

/// The status of an existing container.
pub fn status(state: &Value) -> &str {
    state["status"].as_str().unwrap_or_default()
}
