//! One case: runs the config, and checks what must always hold.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde_json::Value;

use crate::config::{self, Bases, Numbers};
use crate::sandbox;

/// The longest time of a command, on a busy machine and with a CPU quota of a thousandth.
const DEADLINE: Duration = Duration::from_secs(40);

/// The result of a command.
struct Ran {
    command: String,
    code: i32,
    /// The signal that ended it.
    signal: Option<Signal>,
    out: String,
    err: String,
    /// The error records in its log.
    errors: Vec<String>,
    hung: bool,
}

impl Ran {
    fn failed(&self) -> bool {
        self.code != 0 || self.signal.is_some()
    }

    fn summary(&self) -> String {
        let said = if self.errors.is_empty() { self.err.trim().to_owned() } else { self.errors.join(" / ") };
        format!("{}: exit {} {:?}: {said:?}", self.command, self.code, self.signal)
    }
}

/// The result of a case: a word for the count, and the findings.
#[derive(Default)]
pub struct Verdict {
    pub end: &'static str,
    /// Why the config was refused.
    pub why: String,
    pub findings: Vec<String>,
}

/// The objects that existed before the first case.
pub struct Before {
    mounts: Vec<String>,
    cgroups: Vec<PathBuf>,
}

impl Before {
    pub fn look() -> Result<Before> {
        Ok(Before { mounts: mounts()?, cgroups: cgroups() })
    }
}

/// Makes the bundle of a case, and runs it. Most cases run in the foreground. Every third case uses all commands.
pub fn judge(before: &Before, bases: &Bases, numbers: &mut Numbers) -> (Verdict, Value) {
    let all_commands = numbers.once_in(3);
    let config = config::config(bases, numbers, if all_commands { "/bin/stay" } else { "/bin/true" });
    let mut verdict = Verdict::default();
    if let Err(error) = run_case(before, bases, numbers, &config, all_commands, &mut verdict) {
        verdict.findings.push(format!("the sandbox is damaged: {error:#}"));
    }
    (verdict, config)
}

fn run_case(
    before: &Before,
    bases: &Bases,
    numbers: &mut Numbers,
    config: &Value,
    all_commands: bool,
    verdict: &mut Verdict,
) -> Result<()> {
    fs::write("/bundle/config.json", serde_json::to_vec(config)?).context("config.json")?;
    // If this fails, a mount of an earlier config without a mount namespace is there. `left` reports it.
    let _ = fs::remove_dir_all("/bundle/rootfs");
    sandbox::make_rootfs(Path::new("/bundle/rootfs")).context("rootfs")?;
    if all_commands {
        through_all_commands(verdict, bases, numbers)?;
    } else {
        run(verdict)?;
    }
    let path = config.pointer("/linux/cgroupsPath").and_then(Value::as_str).unwrap_or_default();
    remove_parents(path);
    let left = left(before)?;
    if !left.is_empty() {
        verdict.findings.push(format!("left: {}", left.join(", ")));
    }
    Ok(())
}

/// The runtime keeps the cgroups above the container's, as runc does: other cgroups may be below them.
fn remove_parents(path: &str) {
    for parent in Path::new(path.trim_matches('/')).ancestors().skip(1).filter(|path| path.components().count() > 0) {
        for entry in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let _ = fs::remove_dir(entry.path().join(parent));
        }
        let _ = fs::remove_dir(Path::new("/sys/fs/cgroup").join(parent));
    }
}

fn run(verdict: &mut Verdict) -> Result<()> {
    let ran = call(&["run", "--bundle", "/bundle", "box"], verdict)?;
    let program_ran = ran.out.contains("RAN");
    verdict.why = ran.errors.join(" / ");
    verdict.end = match (ran.code, program_ran) {
        (0, _) => "ran",
        (_, true) => "ran, and ended otherwise",
        (128.., false) => "killed",
        _ => "refused",
    };
    // If a filter or a limit kills the program at once, neither the program nor the runtime prints a message.
    let by_signal = ran.code > 128;
    if ran.failed() && !program_ran && !by_signal {
        one_error(&ran, verdict);
    }
    Ok(())
}

fn through_all_commands(verdict: &mut Verdict, bases: &Bases, numbers: &mut Numbers) -> Result<()> {
    let created = call(&["create", "--bundle", "/bundle", "box"], verdict)?;
    if created.failed() {
        verdict.end = "not created";
        verdict.why = created.errors.join(" / ");
        one_error(&created, verdict);
        return Ok(());
    }
    verdict.end = "created";
    for words in [
        &["state", "box"][..],
        &["start", "box"],
        &["exec", "box", "/bin/true"],
        &["pause", "box"],
        &["ps", "box"],
        &["exec", "box", "/bin/true"],
        &["resume", "box"],
        &["events", "--stats", "box"],
        &["list"],
    ] {
        let ran = call(words, verdict)?;
        // exec has the exit status of its program.
        if ran.failed() && !(words[0] == "exec" && (ran.code > 128 || ran.out.contains("RAN"))) {
            one_error(&ran, verdict);
        }
        if words[0] == "start" && !ran.failed() {
            verdict.end = "started";
        }
    }
    let other = config::config(bases, numbers, "/bin/true");
    if let Some(resources) = other.pointer("/linux/resources") {
        fs::write("/tmp/resources", serde_json::to_vec(resources)?)?;
        let updated = call(&["update", "--resources", "/tmp/resources", "box"], verdict)?;
        if updated.failed() {
            one_error(&updated, verdict);
        }
    }
    let deleted = call(&["delete", "--force", "box"], verdict)?;
    if deleted.failed() {
        verdict.findings.push(format!("delete fails: {}", deleted.summary()));
    }
    Ok(())
}

/// A failed command has exactly one error record.
fn one_error(ran: &Ran, verdict: &mut Verdict) {
    if ran.errors.len() != 1 && !ran.hung {
        verdict.findings.push(format!("{} records of an error: {}", ran.errors.len(), ran.summary()));
    }
}

/// Runs a command of the runtime, and checks the rules for every command.
fn call(words: &[&str], verdict: &mut Verdict) -> Result<Ran> {
    let _ = fs::remove_file("/tmp/log");
    let child = Command::new("/bin/coracle")
        .args(["--root", "/state", "--log", "/tmp/log", "--log-format", "json"])
        .args(words)
        .current_dir("/bundle")
        .env_clear()
        .env("PATH", "/bin")
        .stdin(Stdio::null())
        .stdout(File::create("/tmp/out").context("/tmp/out")?)
        .stderr(File::create("/tmp/err")?)
        .spawn()
        .context("/bin/coracle")?;
    let (status, hung) = wait(Pid::from_raw(i32::try_from(child.id())?));
    let read = |path: &str| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
    let log = read("/tmp/log");
    let records: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap_or_default()).collect();
    let errors = records.iter().filter(|record| record["level"] == "error");
    let ran = Ran {
        command: words[0].to_owned(),
        code: if let WaitStatus::Exited(_, code) = status { code } else { 0 },
        signal: if let WaitStatus::Signaled(_, signal, _) = status { Some(signal) } else { None },
        out: read("/tmp/out"),
        err: read("/tmp/err"),
        errors: errors.map(|record| record["msg"].as_str().unwrap_or_default().to_owned()).collect(),
        hung: hung.is_some(),
    };
    if let Some(who) = hung {
        verdict.findings.push(format!("{}: not at its end after {} s: {who}", words[0], DEADLINE.as_secs()));
    } else if ran.signal.is_some() {
        verdict.findings.push(format!("the runtime is killed: {}", ran.summary()));
    }
    let fell =
        [&log, &ran.err].into_iter().any(|text| text.contains("panicked") || text.contains("overflowed its stack"));
    if fell {
        verdict.findings.push(format!("panicked: {} {log}", ran.summary()));
    }
    if records.iter().any(Value::is_null) {
        verdict.findings.push(format!("the log is not JSON: {log}"));
    }
    Ok(ran)
}

/// Waits for the process, and reaps all others, because this is the first process of the pid namespace. At the
/// deadline, it kills all processes and returns their descriptions.
fn wait(pid: Pid) -> (WaitStatus, Option<String>) {
    let until = Instant::now() + DEADLINE;
    let mut hung = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL)) {
            Ok(status) if status.pid() == Some(pid) => return (status, hung),
            Ok(WaitStatus::StillAlive) => std::thread::sleep(Duration::from_micros(500)),
            Ok(_) => {}
            Err(_) => return (WaitStatus::StillAlive, hung),
        }
        if hung.is_none() && Instant::now() > until {
            hung = Some(processes().into_iter().map(description).collect::<Vec<_>>().join("; "));
            thaw();
            // All processes of this pid namespace.
            let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
        }
    }
}

/// A frozen process cannot be killed.
fn thaw() {
    for cgroup in cgroups() {
        for (name, word) in [("freezer.state", "THAWED"), ("cgroup.freeze", "0")] {
            let file = cgroup.join(name);
            if file.exists() {
                let _ = fs::write(file, word);
            }
        }
    }
}

/// The objects that are left and did not exist before. It waits a moment, because the end of a process takes time.
fn left(before: &Before) -> Result<Vec<String>> {
    let until = Instant::now() + Duration::from_secs(3);
    loop {
        while waitpid(None, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL))
            .is_ok_and(|status| status != WaitStatus::StillAlive)
        {}
        let left = left_now(before)?;
        if left.is_empty() || Instant::now() > until {
            return Ok(left);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn left_now(before: &Before) -> Result<Vec<String>> {
    let mut left = Vec::new();
    for entry in fs::read_dir("/state").context("/state")? {
        let name = entry?.file_name();
        // The cache of compiled filters.
        if name != ".@cache" {
            left.push(format!("state directory {}", name.display()));
        }
    }
    left.extend(processes().into_iter().map(|pid| format!("process {}", description(pid))));
    left.extend(
        mounts()?.into_iter().filter(|mount| !before.mounts.contains(mount)).map(|mount| format!("mount {mount}")),
    );
    let now = cgroups().into_iter().filter(|cgroup| !before.cgroups.contains(cgroup));
    left.extend(now.map(|cgroup| format!("cgroup {}", cgroup.display())));
    Ok(left)
}

/// All processes except this one.
fn processes() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).filter(|pid| *pid != 1).collect()
}

/// The program of a process, and what it waits for.
fn description(pid: i32) -> String {
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let command: String = read("cmdline").replace('\0', " ").chars().take(80).collect();
    format!("{pid} {command:?} {:?} {:?}", read("wchan"), read("syscall").split(' ').next())
}

fn mounts() -> Result<Vec<String>> {
    Ok(fs::read_to_string("/proc/self/mountinfo").context("mountinfo")?.lines().map(str::to_owned).collect())
}

fn cgroups() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push(entry.path());
                found.push(entry.path());
            }
        }
    }
    found.sort();
    found
}
