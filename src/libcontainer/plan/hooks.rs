//! The hooks: their moments, namespaces and input. SPEC: runtime.md#lifecycle,
//! config.md#posix-platform-hooks.

use oci_spec::runtime::Hook;

use super::filter::PlannedFilter;
use super::finished::{Opening, RuntimeHooks};
use super::given::{Facts, Given, Start};
use super::notes::Notes;
use super::process::PlannedProgram;
use super::step::{EnvOf, HookCommand, Slot, What};
use super::steps::Steps;
use super::values::c_path;
use crate::config::At;
use crate::sys::exec::Strings;
use crate::wire::{HookPoint, Request};

/// All hooks of a container.
#[derive(Debug, Default)]
pub(super) struct Hooks {
    /// prestart, then createRuntime: in the runtime's namespaces.
    pub(super) runtime: Vec<RuntimeHooks>,
    create_container: Vec<HookCommand>,
    start_container: Vec<HookCommand>,
    /// The number of hooks that run later: poststart, poststop.
    pub(super) later: Vec<(At, usize)>,
}

/// Reads `hooks`. createContainer and startContainer hooks have the environment of the process, if they have none of their
/// own. startContainer hooks have the filter of the process, too.
pub(super) fn read(
    given: &Given<'_>,
    program: &PlannedProgram,
    filter: Option<&PlannedFilter>,
    notes: &mut Notes,
) -> Hooks {
    let Some(hooks) = given.config.spec.hooks().as_ref() else { return Hooks::default() };
    let top = At::new("hooks");
    let mut read = |name: &str, list: &Option<Vec<Hook>>, env: Option<&Strings>| {
        let at = top.key(name);
        let list = list.iter().flatten().enumerate();
        list.filter_map(|(n, hook)| command(hook, &at.index(n), env, notes)).collect::<Vec<_>>()
    };
    let mut runtime = Vec::new();
    #[allow(deprecated)] // the specification still has it
    let lists = [
        // Deprecated. Programs expect that these hooks run in `start`, so the status is the one of that time.
        ("prestart", "created", hooks.prestart()),
        ("createRuntime", "creating", hooks.create_runtime()),
    ];
    for (name, status, list) in lists {
        let Some(hooks) = list.as_ref().filter(|list| !list.is_empty()) else { continue };
        read(name, list, None);
        runtime.push(RuntimeHooks { at: top.key(name), status, list: hooks.clone() });
    }
    let create_container = read("createContainer", hooks.create_container(), program.env());
    let mut later = Vec::new();
    for (name, list) in [("poststart", hooks.poststart()), ("poststop", hooks.poststop())] {
        let Some(hooks) = list.as_ref().filter(|list| !list.is_empty()) else { continue };
        read(name, list, None);
        later.push((top.key(name), hooks.len()));
    }
    let mut start_container = read("startContainer", hooks.start_container(), program.env());
    for command in &mut start_container {
        // ORDER: a hook has the rights and the filter of the process. The hook loads the filter itself, because init
        // loads it after the hook.
        command.filter = filter.and_then(PlannedFilter::flags_at_exec);
    }
    Hooks { runtime, create_container, start_container, later }
}

impl Hooks {
    /// The runtime runs prestart and createRuntime hooks.
    pub(super) fn in_runtime(&self, steps: &mut Steps) {
        // createContainer hooks alone need this request, too: when the runtime answers, it has written the state that
        // they read.
        if !self.runtime.is_empty() || self.has_create_container() {
            steps.add(&At::new("hooks"), What::Request(Request::Hooks(HookPoint::CreateRuntime)));
        }
    }

    /// True if there are createContainer hooks.
    pub(super) fn has_create_container(&self) -> bool {
        !self.create_container.is_empty()
    }

    /// Init runs createContainer hooks. The mounts are made, and the old root is still in reach.
    pub(super) fn in_container(&mut self, steps: &mut Steps) {
        let commands = std::mem::take(&mut self.create_container);
        run_by_init(HookPoint::CreateContainer, "creating", commands, steps);
    }

    /// Init runs startContainer hooks, between `start` and the program.
    pub(super) fn at_start(&mut self, steps: &mut Steps) {
        let commands = std::mem::take(&mut self.start_container);
        run_by_init(HookPoint::StartContainer, "created", commands, steps);
    }
}

/// Waits for `start`. Returns the fifo on which init reports the result to `start`.
pub(super) fn await_start(facts: &Facts<'_>, steps: &mut Steps) -> Option<Slot> {
    if facts.flags.start != Start::OnFifo {
        return None;
    }
    let at = At::new("start");
    let (fifo, answer) = (steps.open(&at, Opening::StartFifo), steps.open(&at, Opening::AnswerFifo));
    steps.add_always("the start command decides when", What::AwaitStart { fifo, answer });
    Some(answer)
}

fn run_by_init(point: HookPoint, status: &'static str, commands: Vec<HookCommand>, steps: &mut Steps) {
    if commands.is_empty() {
        return;
    }
    let at = At::new("hooks").key(point.name());
    let state = steps.open_once(&at, Opening::HookState(status));
    let output = steps.open_once(&at, Opening::HookOutput);
    steps.add(&at, What::Hooks { point, commands, state, output });
}

/// A hook that is ready to run, or a fault. `of_process` is the environment for a hook without one of its own.
fn command(hook: &Hook, at: &At, of_process: Option<&Strings>, notes: &mut Notes) -> Option<HookCommand> {
    let path = hook.path().to_string_lossy();
    if !hook.path().is_absolute() {
        notes.fault(&at.key("path"), format!("{path:?} is not absolute"));
    }
    let timeout = hook.timeout().map(|seconds| {
        if seconds <= 0 {
            notes.fault(&at.key("timeout"), format!("{seconds} is not a positive number of seconds"));
        }
        // The largest value is more than a century. Longer timeouts are cut to it.
        u32::try_from(seconds.max(1)).unwrap_or(u32::MAX)
    });
    let given = hook.args().as_deref().unwrap_or_default();
    let args = if given.is_empty() { vec![path.into_owned()] } else { given.to_vec() };
    let args = Strings::new(&args).map_err(|_| notes.fault(&at.key("args"), "has a NUL byte")).ok()?;
    let (env, env_of) = match of_process.filter(|_| hook.env().is_none()) {
        // As with runc, and with HOME.
        Some(env) => (env.clone(), EnvOf::Process),
        None => {
            let env = Strings::new(hook.env().as_deref().unwrap_or_default());
            (env.map_err(|_| notes.fault(&at.key("env"), "has a NUL byte")).ok()?, EnvOf::Hook)
        }
    };
    let path = c_path(hook.path(), &at.key("path"), notes)?;
    Some(HookCommand { path, args, env, env_of, timeout, filter: None })
}
