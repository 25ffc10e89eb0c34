//! The program: its environment, its working directory, and the last steps before it begins. Init and exec share this
//! file.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::CString;
use std::path::Path;

use oci_spec::runtime::Process;

use super::entering;
use super::filter::PlannedFilter;
use super::given::{Facts, Given, PlannedProcess, Start};
use super::notes::Notes;
use super::step::{Execve, Slot, What};
use super::steps::Steps;
use super::values::c_string;
use crate::config::At;
use crate::sys::exec::Strings;

/// The search path of a shell when PATH is not set.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The program to run. Parts are missing if config.json has no process, or a mistake in it.
#[derive(Debug)]
pub(super) struct PlannedProgram {
    /// The place of the process object.
    at: At,
    exec: Option<Execve>,
    cwd: Option<CString>,
    /// The user whose HOME is looked up, if HOME is not set.
    home_of: Option<u32>,
    /// None if there is no process.
    umask: Option<u32>,
}

/// Reads `args`, `env`, `cwd` and `user.umask`.
pub(super) fn read(planned: PlannedProcess<'_>, given: &Given<'_>, notes: &mut Notes) -> PlannedProgram {
    let at = planned.at.clone();
    let Some(process) = planned.process else {
        // SPEC: config.md#process: required only when start is called
        if given.flags.start == Start::AtOnce {
            notes.fault(&at, "is missing");
        }
        return PlannedProgram { at, exec: None, cwd: None, home_of: None, umask: None };
    };
    let umask = process.user().umask().unwrap_or(0o022);
    if umask > 0o777 {
        // As with runc: umask(2) uses only the permission bits.
        let said = format!("{umask} is more than 511 (0777): the bits above are ignored");
        notes.warn(&at.key("user").key("umask"), said);
    }
    let (env, has_home) = environment(process, &at, given, notes);
    let exec = execve(process, env, &at, notes);
    let cwd = directory(process, &at.key("cwd"), notes);
    let home_of = (!has_home).then(|| process.user().uid());
    PlannedProgram { at, exec, cwd, home_of, umask: Some(umask & 0o777) }
}

fn directory(process: &Process, at: &At, notes: &mut Notes) -> Option<CString> {
    let cwd = process.cwd();
    match cwd.to_str().filter(|cwd| Path::new(cwd).is_absolute()) {
        Some(cwd) => c_string(cwd, at, notes),
        None => {
            notes.fault(at, format!("{cwd:?} is not absolute"));
            None
        }
    }
}

/// The environment, and whether it has HOME. It contains no variables of the runtime. If a variable is listed twice, the last
/// one counts. SPEC: config.md#process.
fn environment(process: &Process, at: &At, given: &Given<'_>, notes: &mut Notes) -> (Option<Strings>, bool) {
    let at = at.key("env");
    let list = process.env().as_deref().unwrap_or_default();
    let mut entries: Vec<(&str, String)> = Vec::with_capacity(list.len());
    let mut indices: HashMap<&str, usize> = HashMap::with_capacity(list.len());
    for (n, entry) in list.iter().enumerate() {
        match entry.split_once('=') {
            Some((name, _)) if !name.is_empty() => match indices.entry(name) {
                Entry::Occupied(seen) => entries[*seen.get()].1.clone_from(entry),
                Entry::Vacant(new) => {
                    new.insert(entries.len());
                    entries.push((name, entry.clone()));
                }
            },
            _ => notes.fault(&at.index(n), format!("{entry:?} is not NAME=value")),
        }
    }
    if given.flags.listen_fds > 0 {
        entries.push(("LISTEN_FDS", format!("LISTEN_FDS={}", given.flags.listen_fds)));
        entries.push(("LISTEN_PID", "LISTEN_PID=1".to_owned()));
    }
    if given.flags.notify.is_some() {
        entries.push(("NOTIFY_SOCKET", "NOTIFY_SOCKET=/run/notify/notify.sock".to_owned()));
    }
    entries.retain(|(name, entry)| *name != "HOME" || entry != "HOME=");
    let has_home = entries.iter().any(|(name, _)| *name == "HOME");
    let texts: Vec<_> = entries.into_iter().map(|(_, entry)| entry).collect();
    let strings = Strings::new(&texts).map_err(|_| notes.fault(&at, "has an entry with a NUL byte")).ok();
    (strings, has_home)
}

/// The program by its path, or all its paths in the directories of the container's own PATH.
fn execve(process: &Process, env: Option<Strings>, at: &At, notes: &mut Notes) -> Option<Execve> {
    let at = at.key("args");
    let args = process.args().as_deref().unwrap_or_default();
    let Some(name) = args.first() else {
        notes.fault(&at, "is empty or missing: there is no program to run");
        return None;
    };
    if name.is_empty() {
        // podman and Docker match these words to return exit status 127.
        notes.fault(&at.index(0), "exec: \"\": executable file not found in $PATH");
        return None;
    }
    let candidates = candidates(process).into_iter().map(CString::new).collect::<Result<Vec<_>, _>>();
    let (Ok(candidates), Ok(args)) = (candidates, Strings::new(args)) else {
        notes.fault(&at, "has a NUL byte");
        return None;
    };
    Some(Execve { candidates, args, env: env? })
}

/// The paths at which the program may be. If PATH is listed twice, the last one counts, as in `environment`.
pub fn candidates(process: &Process) -> Vec<String> {
    let Some(name) = process.args().as_deref().and_then(<[_]>::first) else { return Vec::new() };
    if name.contains('/') {
        return vec![name.to_owned()];
    }
    let entries = process.env().as_deref().unwrap_or_default();
    let path = entries.iter().rev().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    path.split(':').map(|part| format!("{}/{name}", if part.is_empty() { "." } else { part })).collect()
}

impl PlannedProgram {
    /// Its environment, with a free place for HOME.
    pub(super) fn env(&self) -> Option<&Strings> {
        self.exec.as_ref().map(|exec| &exec.env)
    }

    /// Makes the working directory if it is missing.
    pub(super) fn make_cwd(&self, steps: &mut Steps) {
        let Some(cwd) = &self.cwd else { return };
        let below = cwd.to_bytes().iter().position(|byte| *byte != b'/').map(|n| &cwd.as_c_str()[n..]);
        if let Some(path) = below {
            steps.add(&self.at.key("cwd"), What::MakeCwd(path.to_owned()));
        }
    }

    /// Enters the working directory and sets HOME, while the process is still root. The directory was made before the
    /// root became read-only.
    pub(super) fn enter_cwd(&self, steps: &mut Steps) {
        if let Some(cwd) = &self.cwd {
            steps.add(&self.at.key("cwd"), What::TryChdir(cwd.clone()));
        }
        if let Some(uid) = self.home_of {
            steps.add_always("HOME is not set", What::Home(uid));
        }
    }

    /// The last checks, with the ids of the program: working directory, descriptors, program. Then init reports that it
    /// is ready.
    pub(super) fn prepare(&self, filter: Option<&PlannedFilter>, facts: &Facts<'_>, steps: &mut Steps) {
        if let Some(cwd) = &self.cwd {
            steps.add(&self.at.key("cwd"), What::Chdir(cwd.clone()));
        }
        if let Some(umask) = self.umask {
            steps.add(&self.at.key("user").key("umask"), What::Umask(umask));
        }
        // ORDER: after Chdir: the descriptor of a directory must never become the working directory (CVE-2024-21626).
        steps.add_always("the program gets only its own descriptors", entering::close_fds(facts));
        if let Some(exec) = &self.exec {
            steps.add(&self.at.key("args"), What::FindProgram(exec.clone()));
        }
        // ORDER: before Ready: from there on, a created container does not end with the runtime.
        match facts.flags.death_signal.filter(|_| self.umask.is_some()) {
            Some(signal) => steps.add_always("our own parent-death signal", What::DeathSignal(signal)),
            None => steps.add_always("it now runs without the runtime", What::DeathSignal(0)),
        }
        if facts.flags.start == Start::OnFifo {
            // SPEC: runtime.md#kill. Without a handler, the kernel does not deliver signals to the first process of a pid namespace.
            // ORDER: before the filter, which may deny this call, and before others know the pid.
            steps.add_always("a signal ends it while it waits for `start`", What::ExitOnSignals);
        }
        if let Some(filter) = filter {
            filter.before_ready(steps);
        }
        steps.add_always("the runtime records it first", What::Ready);
    }

    /// ORDER: the filter is loaded last before the exec, because it may deny every other call. So every message is sent
    /// before it.
    pub(super) fn exec(self, filter: Option<&PlannedFilter>, answer: Option<Slot>, steps: &mut Steps) {
        let Some(exec) = self.exec else { return };
        if let Some(answer) = answer {
            steps.add_always("before the filter, which may deny it", What::AboutToExec(answer));
        }
        if let Some((flags, filter)) = filter.and_then(|filter| Some((filter.flags_at_exec()?, filter))) {
            steps.add(filter.at(), What::Seccomp(flags));
        }
        steps.add(&self.at.key("args"), What::Exec(exec));
    }
}

/// The first steps: after them, no signal is lost or inherited, and umask(2) does not change modes.
pub(super) fn begin(steps: &mut Steps) {
    steps.add_always("the program starts with default signals", What::Signals);
    steps.add_always("exact modes during the set-up", What::Umask(0));
}

/// Allows every CPU. The runtime's own affinity does not apply to the container: its cpuset decides.
pub(super) fn all_cpus(steps: &mut Steps) {
    steps.add_always("any CPU of its cpuset", What::AllCpus);
}
