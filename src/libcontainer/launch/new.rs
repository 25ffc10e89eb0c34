//! A new container, all or nothing, and the end of one: what `create`, `run`, `start` and `delete` have in common.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use oci_spec::runtime::{Hook, Linux};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::cause::Place;
use super::failure::TOO_LITTLE_MEMORY;
use super::host_mounts::{HostMounts, take_away};
use super::seal::Protected;
use super::{Child, Housed, Identity, Ready, Times, arm, hooks, notify, pidfile, runc, undo};
use crate::cgroup::{self, Cgroup};
use crate::config::{self, At, Config};
use crate::container::{
    AfterStart, Container, EXEC_ANSWER, EXEC_FIFO, Lock, Note, OwnRecord, ProcessId, Record, RecordedCgroup,
    RecordedConfig, RecordedNamespace, RecordedRdt, Reserved, Root, Status, has_executed, start_time,
};
use crate::plan::failure::{self, words};
use crate::plan::namespaces::{KINDS, bit};
use crate::plan::resctrl::Group;
use crate::plan::step::What;
use crate::plan::{self, Flags, Keyring, Plan};
use crate::resctrl::{self, Kernel};
use crate::sys::signals;
use crate::wait;
use crate::wire::{Failure, GO, UP_SIZE, Up};

/// What a new container is made of.
#[derive(Debug)]
pub struct New<'a> {
    /// Where containers are kept.
    pub root: &'a Root,
    /// config.json as it was read, byte for byte.
    pub text: &'a [u8],
    /// The same, understood.
    pub config: &'a Config,
    /// How we were called.
    pub flags: &'a Flags,
    /// What will be done.
    pub plan: &'a Plan,
    /// The socket that takes the terminal's master.
    pub terminal: Option<OwnedFd>,
    /// Whether it is noted how long each step takes.
    pub times: Times,
    /// `--pid-file`.
    pub pid_file: Option<PathBuf>,
    /// Nobody in it will write our own program.
    pub protected: Protected,
}

/// A container that is there, and its process, which waits for one more word.
#[derive(Debug)]
pub struct Made<'a> {
    /// Its record and directory.
    pub container: Container,
    /// Its process.
    pub ready: Ready<'a>,
    /// Nobody else changes it before its process has had its word.
    lock: Lock,
    /// Where its pid was written.
    pid_file: Option<PathBuf>,
}

/// How far the making of a container came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reached {
    Nothing,
    /// Its process was there: poststop hooks may have something to undo.
    Process,
}

impl<'a> New<'a> {
    /// Makes it. What fails leaves nothing behind: no cgroup, mount, process, directory or pid file. What cannot be removed
    /// is told, and the container's directory stays with its note.
    ///
    /// # Errors
    /// What failed, by its place in config.json.
    pub fn make(self) -> Result<Made<'a>> {
        let (config, flags) = (self.config, self.flags);
        let mut reserved = self.root.reserve(&flags.id)?;
        let annotations = config.spec.annotations().clone().unwrap_or_default();
        let identity = Identity {
            id: &flags.id,
            bundle: &flags.bundle,
            version: config.spec.version(),
            annotations: &annotations,
            init: None,
        };
        let pid_file = self.pid_file.clone();
        let mut reached = Reached::Nothing;
        match self.fill(&mut reserved, &identity, &mut reached) {
            Ok((container, ready)) => Ok(Made { container, ready, lock: reserved.made()?, pid_file }),
            Err(error) => {
                let error = unmake(reserved, error);
                if reached == Reached::Process {
                    let poststop = config.spec.hooks().as_ref().and_then(|hooks| hooks.poststop().as_deref());
                    after_stop(poststop.unwrap_or_default(), &identity);
                }
                Err(error)
            }
        }
    }

    fn fill(
        self,
        reserved: &mut Reserved,
        identity: &Identity<'_>,
        reached: &mut Reached,
    ) -> Result<(Container, Ready<'a>)> {
        let host_mounts = self.plan.root_on_host.as_deref().map(HostMounts::before).transpose()?;
        reserved.take_note(|note| will_make(self.plan, host_mounts.as_ref(), note))?;
        if let Some(directory) = &self.flags.notify {
            notify::prepare(directory)?;
        }
        let mut armed = arm(self.plan, self.root.path(), reserved.path(), self.terminal)?;
        armed.keep_times(self.times);
        let housed = Housed::make(self.plan)?;
        reserved.take_note(|note| has_made(self.plan, housed.cgroup(), note))?;
        armed.warnings.extend(housed.limit(self.plan)?);
        armed.open_cgroups(self.plan)?;
        let cgroup = housed.cgroup();
        let launched = armed.launch(self.plan, cgroup, self.protected)?;
        *reached = Reached::Process;
        // ORDER: after the clone: init has work to do meanwhile
        reserved.keep_config(self.text)?;
        if cgroup.is_none_or(|cgroup| cgroup.paths().is_empty()) {
            let pid = launched.child.pid;
            let start = start_time(pid)?;
            reserved.take_note(|note| note.init = start.map(|start| ProcessId { pid, start }))?;
        }
        let ready = launched.serve(cgroup, identity)?;
        let mut record = record(self.config, self.flags, self.plan, &ready, cgroup)?;
        if let (Some(mounts), Some(own)) = (&host_mounts, &mut record.coracle) {
            own.host_mounts = mounts.made()?;
        }
        // the last moment at which all can be undone without a container having been there
        wait::check()?;
        let container = keep(reserved, record, self.pid_file.as_deref(), ready.pid())?;
        housed.keep();
        Ok((container, ready))
    }
}

/// What is going to be made: directories that are not there yet.
fn will_make(plan: &Plan, host_mounts: Option<&HostMounts>, note: &mut Note) {
    note.mounts = host_mounts.map(HostMounts::note);
    if let Some((placement, ..)) = &plan.cgroup {
        note.coming = Cgroup::at(placement).paths().clone();
        note.coming.retain(|_, directory| !directory.exists());
    }
    note.groups = plan.resctrl.as_ref().map(Group::own_directories).unwrap_or_default();
    note.groups.retain(|directory| !directory.exists());
}

/// What is the container's own now, with whoever will be in it.
fn has_made(plan: &Plan, cgroup: Option<&Cgroup>, note: &mut Note) {
    note.coming.clear();
    note.cgroup = cgroup.map(|cgroup| cgroup.paths().clone()).unwrap_or_default();
    note.unit = cgroup.and_then(|cgroup| cgroup.unit().cloned());
    note.groups = plan.resctrl.as_ref().map(Group::own_directories).unwrap_or_default();
}

/// Undoes what there is of a container that could not be made. What cannot be undone now, `delete --force` tries again.
fn unmake(reserved: Reserved, error: anyhow::Error) -> anyhow::Error {
    match undo::undo(reserved.note()) {
        Ok(()) => cgroup::undone(error, reserved.give_up()),
        Err(left) => {
            reserved.leave();
            anyhow!("{error:#}; and not all of it is undone, which `delete --force` tries again: {left:#}")
        }
    }
}

/// Pid file and record. The record is what makes it a container, and comes last.
fn keep(reserved: &Reserved, record: Record, pid_file: Option<&Path>, pid: i32) -> Result<Container> {
    if let Some(path) = pid_file {
        pidfile::write(path, pid)?;
    }
    reserved.record(record).inspect_err(|_| {
        if let Some(path) = pid_file {
            pidfile::forget(path, pid);
        }
    })
}

fn record(config: &Config, flags: &Flags, plan: &Plan, ready: &Ready<'_>, cgroup: Option<&Cgroup>) -> Result<Record> {
    let pid = ready.pid();
    let spec = &config.spec;
    let linux = spec.linux().as_ref();
    let list = linux.and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default();
    let namespaces = list.iter().map(|namespace| RecordedNamespace {
        kind: runc_name(bit(namespace.typ())),
        path: namespace.path().as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
    });
    let annotations = spec.annotations().clone().unwrap_or_default();
    let labels = annotations
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .chain([format!("bundle={}", flags.bundle.display())]);
    Ok(Record {
        id: flags.id.clone(),
        init_process_pid: pid,
        init_process_start: start_time(pid)?.ok_or_else(|| anyhow!("container init is gone"))?,
        created: jiff::Timestamp::now().to_string(),
        config: RecordedConfig {
            rootfs: flags.bundle.join(spec.root().as_ref().map_or(Path::new(""), |root| root.path())),
            labels: labels.collect(),
            namespaces: namespaces.collect(),
            hostname: spec.hostname().clone().unwrap_or_default(),
            cgroups: RecordedCgroup {
                name: flags.id.clone(),
                path: linux.and_then(cgroups_path).unwrap_or_default(),
                ..RecordedCgroup::default()
            },
            no_new_keyring: flags.keyring == Keyring::Inherited,
            version: spec.version().clone(),
            intel_rdt: linux.and_then(|linux| linux.intel_rdt().as_ref()).map(RecordedRdt::of),
        },
        rootless: rustix::process::geteuid().as_raw() != 0,
        cgroup_paths: cgroup.map(|cgroup| cgroup.paths().clone()).unwrap_or_default(),
        namespace_paths: KINDS
            .iter()
            .map(|(kind, _, file)| (runc_name(*kind), format!("/proc/{pid}/ns/{file}")))
            .collect(),
        external_descriptors: Vec::new(),
        intel_rdt_path: plan.resctrl.as_ref().map(|group| group.directory.clone()).unwrap_or_default(),
        intel_rdt_mon_path: plan.resctrl.as_ref().and_then(|group| group.monitoring.clone()).unwrap_or_default(),
        resources_in_force: None,
        coracle: Some(OwnRecord {
            oci_version: spec.version().clone(),
            bundle: flags.bundle.clone(),
            annotations,
            owner: rustix::process::geteuid().as_raw(),
            without_late_hooks: spec.hooks().as_ref().is_none_or(|hooks| {
                let some = |list: &Option<Vec<Hook>>| list.as_ref().is_some_and(|list| !list.is_empty());
                !some(hooks.poststart()) && !some(hooks.poststop())
            }),
            host_mounts: Vec::new(),
            keyring: match &flags.keyring {
                Keyring::Named(name) => Some(name.clone()),
                Keyring::Inherited => None,
            },
            unit: cgroup.and_then(|cgroup| cgroup.unit().cloned()),
            after_start: after_start(plan),
            seal: String::new(),
        }),
    })
}

fn cgroups_path(linux: &Linux) -> Option<String> {
    linux.cgroups_path().as_ref().map(|path| path.display().to_string())
}

/// runc's name of a kind: `NEWPID`.
fn runc_name(kind: u64) -> String {
    let file = KINDS.iter().find(|(bit, ..)| *bit == kind).map_or("", |(_, _, file)| *file);
    match file {
        "mnt" => "NEWNS".to_owned(),
        other => format!("NEW{}", other.to_uppercase()),
    }
}

/// What `start` must know to tell a failure that comes when the plan is long gone.
fn after_start(plan: &Plan) -> Vec<AfterStart> {
    let steps = plan.bridge.iter().chain(&plan.init).enumerate();
    steps
        .skip_while(|(_, step)| !matches!(step.what, What::AwaitStart(..)))
        .filter_map(|(n, step)| {
            let name = match &step.what {
                What::Exec(exec) => exec.args.iter().next().map(|name| name.to_string_lossy().into_owned())?,
                What::Hooks(point, ..) => failure::hook_name(*point).to_owned(),
                What::Seccomp(_) => step.what.to_string(),
                _ => return None,
            };
            let denied = plan.denied_always(n);
            Some(AfterStart { step: u32::try_from(n).ok()?, from: step.from.to_string(), name, denied })
        })
        .collect()
}

impl Made<'_> {
    /// Goes on with what had to be done meanwhile, or undoes all of the container.
    ///
    /// # Errors
    /// Those of `done`.
    pub fn unless_failed<T>(self, done: Result<T>) -> Result<(Self, T)> {
        match done {
            Ok(value) => Ok((self, value)),
            Err(error) => {
                drop(self.ready);
                Err(unwind(self.container, &self.lock, self.pid_file, error))
            }
        }
    }

    /// The last word to the process. When the program does not begin, all of the container is undone.
    ///
    /// # Errors
    /// startContainer hooks, or the program itself.
    pub fn go(self) -> Result<(Container, Child)> {
        let gone = self.ready.go().and_then(|child| must_not_have_starved(&self.container).map(|()| child));
        match gone {
            Ok(child) => Ok((self.container, child)),
            Err(error) => Err(unwind(self.container, &self.lock, self.pid_file, error)),
        }
    }
}

/// An exec for which there is not enough memory ends in a kill, and that looks like a program that has begun.
fn must_not_have_starved(container: &Container) -> Result<()> {
    if container.cgroup().oom_kills().is_none_or(|kills| kills == 0) {
        return Ok(());
    }
    // somebody was killed
    if lives(container) { Ok(()) } else { bail!("{TOO_LITTLE_MEMORY}") }
}

/// Whether init, which has closed what it had, goes on: that is a moment before an end can be seen.
fn lives(container: &Container) -> bool {
    container.process().is_ok_and(|process| !ends_within(&process, 0, 100_000_000))
}

/// Waits for the end of a process.
fn ends_within(process: &OwnedFd, seconds: i64, nanoseconds: i64) -> bool {
    let patience = rustix::event::Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let mut poll = [rustix::event::PollFd::new(process, rustix::event::PollFlags::IN)];
    rustix::event::poll(&mut poll, Some(&patience)).is_ok_and(|ready| ready > 0)
}

/// Removes a container whose program did not begin.
fn unwind(container: Container, lock: &Lock, pid_file: Option<PathBuf>, error: anyhow::Error) -> anyhow::Error {
    if let Some(path) = pid_file {
        pidfile::forget(&path, container.record().init_process_pid);
    }
    cgroup::undone(error, destroy(container, lock, Leftovers::Killed).map(drop))
}

/// What `start` has started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Began {
    /// The program.
    Program,
    /// Nothing: `process` is not set. The container has stopped.
    Nothing,
}

/// Gives the word to a container that waits for it, and returns when its program runs.
///
/// # Errors
/// It does not wait for anything; its startContainer hooks or its program fail; a poststart hook fails, after which the
/// container is stopped.
pub fn start(container: &mut Container) -> Result<Began> {
    if runc::waits(container)? {
        runc::start(container)?;
        return began(container).map(|()| Began::Program);
    }
    give_word_once(container)?;
    // ORDER: without the lock: a hook that takes its time, or never ends, must not hold up `delete --force`
    if has_no_process(container) {
        return Ok(Began::Nothing);
    }
    began(container).map(|()| Began::Program)
}

fn has_no_process(container: &Container) -> bool {
    container.record().coracle.is_some()
        && after_its_start(container).iter().all(|after| !after.from.starts_with("process"))
}

fn give_word_once(container: &mut Container) -> Result<()> {
    let _lock = container.lock()?;
    match container.status()? {
        Status::Created => {}
        Status::Running => bail!(why_running(container)),
        Status::Paused => bail!("cannot start a container in the paused state"),
        Status::Stopped => bail!("cannot start a container that has stopped"),
    }
    let directory = container.directory();
    let (told, cause) = give_word(container).context("exec fifo")?;
    for name in [EXEC_FIFO, EXEC_ANSWER] {
        let _ = fs::remove_file(directory.join(name));
    }
    match told {
        None if has_no_process(container) => Ok(()),
        None => {
            must_not_be_denied(container)?;
            must_not_have_starved(container)?;
            // another `start` gave the word, heard that all was done, and was killed before the program began
            if lives(container) { Ok(()) } else { bail!("container init was killed before its program began") }
        }
        Some(Up::Ready) => {
            must_not_be_denied(container)?;
            must_not_have_starved(container)
        }
        Some(Up::Failed(failed)) => {
            let step = after_its_start(container).iter().find(|after| after.step == failed.step);
            let AfterStart { from, name, denied, .. } = step.cloned().unwrap_or_default();
            match denied {
                Some((errno, said)) if errno == failed.errno.raw_os_error() => bail!(said),
                _ if is_exec(container, &failed) => {
                    let because = |cause: String| failure::program_because(&name, failed.errno, &cause);
                    bail!("{from}: {}", cause.map_or_else(|| failure::program(&name, failed.errno), because))
                }
                _ if failed.said.is_empty() => bail!("{from}: {name}: {}", words(failed.errno)),
                _ => bail!(failure::hook(&from, &name, &failed.said.text(), failed.errno)),
            }
        }
        Some(Up::Ask(_)) => bail!("init said something out of turn"),
    }
}

/// The program runs: poststart hooks. One that fails stops the container (runtime.md#lifecycle, step 9).
///
/// # Errors
/// The hook's.
pub fn began(container: &Container) -> Result<()> {
    let hooks = hooks_of(container)?;
    let list = hooks.as_ref().and_then(|hooks| hooks.poststart().as_deref()).unwrap_or_default();
    if list.is_empty() {
        return Ok(());
    }
    let record = container.record();
    let annotations = record.annotations();
    let state = identity(record, &annotations).state("running", record.init_process_pid);
    hooks::run(list, &state, record.bundle(), &At::new("hooks.poststart")).inspect_err(|_| {
        if let Ok(process) = container.process() {
            let _ = rustix::process::pidfd_send_signal(&process, rustix::process::Signal::KILL);
            // stopped is what it is to be when this is told
            let _ = ends_within(&process, 10, 0);
        }
    })
}

/// One byte down, and what comes up: `Ready` before the exec, and behind it the end of the stream, because the exec has
/// closed the other end, or why it did not work. The end alone means that init was killed before, or was told before.
/// With a program that cannot be executed comes the cause, as far as it can be found.
fn give_word(container: &Container) -> Result<(Option<Up>, Option<String>)> {
    let directory = container.directory();
    let open = |name: &str, flags| {
        let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW;
        let opened = rustix::fs::openat(CWD, directory.join(name), flags, Mode::empty())?;
        match FileType::from_raw_mode(rustix::fs::fstat(&opened)?.st_mode) {
            FileType::Fifo => Ok(opened),
            // what is written there, init does not read
            _ => Err(Errno::INVAL),
        }
    };
    let answer = open(EXEC_ANSWER, OFlags::RDONLY).map_err(|errno| anyhow!("{}", words(errno)))?;
    let fifo = match open(EXEC_FIFO, OFlags::WRONLY) {
        Err(Errno::NXIO) => bail!("cannot start a container that has stopped"),
        other => other.map_err(|errno| anyhow!("{}", words(errno)))?,
    };
    rustix::io::write(&fifo, &GO).map_err(|errno| anyhow!("{}", words(errno)))?;
    let flags = rustix::fs::fcntl_getfl(&answer)?;
    rustix::fs::fcntl_setfl(&answer, flags - OFlags::NONBLOCK)?;
    let mut packet = [0u8; UP_SIZE];
    let (mut told, mut cause) = (None, None);
    loop {
        match rustix::io::read(&answer, &mut packet) {
            Ok(0) => return Ok((told, cause)),
            Ok(length) => {
                let up = Up::decode(&packet[..length]).ok_or_else(|| anyhow!("init said nothing we know"))?;
                if let Up::Failed(failed) = &up {
                    cause = if is_exec(container, failed) { why_not(container, failed) } else { None };
                    // init waits for it, or has ended
                    let _ = rustix::io::write(&fifo, &GO);
                }
                told = Some(up);
            }
            Err(Errno::INTR) => {}
            Err(errno) => bail!("{}", words(errno)),
        }
    }
}

/// Why the program cannot be executed, while its init waits.
fn why_not(container: &Container, failed: &Failure) -> Option<String> {
    let process = container.process().ok()?;
    let config = config::load(&container.config().ok()?).ok()?;
    let asked = config.spec.process().as_ref()?;
    let place = Place::of(container.record().init_process_pid, asked.cwd())?;
    // the number was its own all the time
    signals::send(process.as_fd(), 0).ok()?;
    let paths = plan::candidates(asked);
    place.cause(paths.iter().map(OsStr::new), failed)
}

/// Whether the step that failed is the exec, which is the last of all.
fn is_exec(container: &Container, failed: &Failure) -> bool {
    after_its_start(container).last().is_some_and(|last| last.step == failed.step)
}

fn identity<'r>(record: &'r Record, annotations: &'r std::collections::HashMap<String, String>) -> Identity<'r> {
    Identity { id: &record.id, bundle: record.bundle(), version: record.version(), annotations, init: None }
}

fn hooks_of(container: &Container) -> Result<Option<oci_spec::runtime::Hooks>> {
    /// Of all the config, the hooks.
    #[derive(serde::Deserialize)]
    struct Only {
        hooks: Option<oci_spec::runtime::Hooks>,
    }
    if container.record().coracle.as_ref().is_some_and(|own| own.without_late_hooks) {
        return Ok(None);
    }
    let text = container.config()?;
    let only: Only = serde_json::from_slice(&text).context("read the container's config")?;
    Ok(only.hooks)
}

/// The property of the step that loads the filter.
const FILTER: &str = "linux.seccomp";

fn after_its_start(container: &Container) -> &[AfterStart] {
    container.record().coracle.as_ref().map(|own| own.after_start.as_slice()).unwrap_or_default()
}

/// After the filter init may end without a word. What has not executed anything then is not the program.
fn must_not_be_denied(container: &Container) -> Result<()> {
    let after = after_its_start(container);
    if !after.iter().any(|after| after.from == FILTER || after.denied.is_some()) {
        return Ok(());
    }
    // ORDER: by its pid, as soon as the answer has come to its end: whoever reaps it may be quick
    match super::failure::denial(after, has_executed(container.record().init_process_pid)) {
        Some(said) => bail!("{said}"),
        None => Ok(()),
    }
}

/// Why a container that does not wait on its fifo cannot be started. Init of ours keeps its end until the exec has closed it.
fn why_running(container: &Container) -> String {
    let record = container.record();
    if record.coracle.is_none() || has_executed(record.init_process_pid) != Some(false) {
        return "cannot start an already running container".to_owned();
    }
    // one that was killed closes its end a moment before the end of it can be seen
    if !lives(container) {
        return "cannot start a container that has stopped".to_owned();
    }
    let fifo = container.directory().join(EXEC_FIFO);
    format!("container init has not executed its program, and does not wait on {}: was it replaced?", fifo.display())
}

/// What may still run in a container that is to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leftovers {
    /// Nothing: its init has ended, and with its pid namespace all others.
    None,
    /// Whatever there is, is killed.
    Killed,
}

/// Removes all that a container was, then runs its poststop hooks. Their warnings, and mounts on the host that are left
/// because they are not found as they were, are returned.
///
/// # Errors
/// Something could not be removed; the container is still there then.
pub fn destroy(container: Container, lock: &Lock, leftovers: Leftovers) -> Result<Vec<anyhow::Error>> {
    if leftovers == Leftovers::Killed
        && let Ok(process) = container.process()
    {
        let _ = rustix::process::pidfd_send_signal(&process, rustix::process::Signal::KILL);
    }
    container.check_cgroups()?;
    let cgroup = container.cgroup();
    // an empty cgroup can be removed, and only an empty one: the quickest way to ask
    if leftovers == Leftovers::Killed || !cgroup.delete_main() {
        cgroup.kill()?;
    }
    cgroup.delete()?;
    resctrl::remove(&container.record().own_groups(), &Kernel)?;
    let hooks = hooks_of(&container).unwrap_or_default();
    let record = container.record().clone();
    let left = record.coracle.as_ref().map(|own| take_away(&own.host_mounts)).transpose()?.unwrap_or_default();
    // runc has written state.json anew, and left out what is ours alone
    if let Some(note) = lock.note().filter(|_| record.coracle.is_none()) {
        undo::undo(&note)?;
    }
    container.remove(lock)?;
    let list = hooks.as_ref().and_then(|hooks| hooks.poststop().as_deref()).unwrap_or_default();
    let annotations = record.annotations();
    Ok(left.into_iter().chain(after_stop(list, &identity(&record, &annotations))).collect())
}

fn after_stop(poststop: &[Hook], identity: &Identity<'_>) -> Vec<anyhow::Error> {
    if poststop.is_empty() {
        return Vec::new();
    }
    // a signal that asks us to end ends the hook that we wait for, and the others run: all else is removed by now
    let listening = wait::listen().context("listen to signals");
    let warnings = hooks::run_all(poststop, &identity.state("stopped", 0), identity.bundle, &At::new("hooks.poststop"));
    warnings.into_iter().chain(listening.err()).collect()
}
