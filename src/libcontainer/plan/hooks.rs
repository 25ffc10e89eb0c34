//! The hooks of init: when, in which namespaces, with what. SPEC: runtime.md#lifecycle, config.md#posix-platform-hooks.

use oci_spec::runtime::Hook;

use super::draft::{Draft, Opening, RuntimeHooks};
use super::process::{self, Own};
use super::step::{EnvOf, HookCommand, Slot, What};
use super::{Asked, Start};
use crate::config::At;
use crate::sys::exec::Strings;
use crate::wire::{Ask, HookPoint};

/// prestart and createRuntime by the runtime, createContainer by init: mounts are there, the old root still is.
pub(super) fn before_pivot(ask: &Asked<'_>, plan: &mut Draft) {
    let Some(hooks) = ask.config.spec.hooks().as_ref() else { return };
    #[allow(deprecated)] // the spec still asks for it
    let lists = [
        // deprecated, and written for a time when they ran in `start`: they are told what they were told then
        ("prestart", "created", hooks.prestart()),
        ("createRuntime", "creating", hooks.create_runtime()),
    ];
    for (name, status, list) in lists {
        let at = At::new("hooks").key(name);
        let Some(list) = list.as_ref().filter(|list| !list.is_empty()) else { continue };
        list.iter().enumerate().for_each(|(n, hook)| drop(command(hook, &at.index(n), plan)));
        plan.plan().runtime_hooks.push(RuntimeHooks { at, status, list: list.clone() });
    }
    let inside_as_well = hooks.create_container().as_ref().is_some_and(|list| !list.is_empty());
    // asked also for those of the container alone: when the answer comes, the state they read has been written
    if !plan.plan().runtime_hooks.is_empty() || inside_as_well {
        plan.at(&At::new("hooks"), What::Ask(Ask::Hooks(HookPoint::CreateRuntime)));
    }
    inside(
        HookPoint::CreateContainer,
        ("createContainer", "creating"),
        hooks.create_container().as_deref(),
        None,
        plan,
    );
    for (name, list) in [("poststart", hooks.poststart()), ("poststop", hooks.poststop())] {
        let Some(list) = list.as_ref().filter(|list| !list.is_empty()) else { continue };
        let at = At::new("hooks").key(name);
        list.iter().enumerate().for_each(|(n, hook)| drop(command(hook, &at.index(n), plan)));
        plan.plan().later_hooks.push((at, list.len()));
    }
}

/// The wait for `start`, and what runs between it and the program. The fifo on which `start` hears how it went is returned.
pub(super) fn before_start(own: &Own<'_>, ask: &Asked<'_>, plan: &mut Draft) -> Option<Slot> {
    let answer = (ask.flags.start == Start::OnFifo).then(|| {
        let at = At::new("start");
        let (fifo, answer) = (plan.open(&at, Opening::StartFifo), plan.open(&at, Opening::AnswerFifo));
        plan.always("start says when", What::AwaitStart(fifo, answer));
        answer
    });
    let hooks = ask.config.spec.hooks().as_ref().and_then(|hooks| hooks.start_container().as_deref());
    // as with runc: without an environment of their own these have the process's, HOME included
    inside(HookPoint::StartContainer, ("startContainer", "created"), hooks, Some(own), plan);
    answer
}

/// What `own` gives to its hooks: the environment, where a hook names none, and its filter. Without one they have neither.
fn inside(
    point: HookPoint,
    (name, status): (&str, &'static str),
    hooks: Option<&[Hook]>,
    own: Option<&Own<'_>>,
    plan: &mut Draft,
) {
    let hooks = hooks.unwrap_or_default();
    let at = At::new("hooks").key(name);
    let env = own.and_then(Own::env);
    // ORDER: a hook has the process's rights and its filter: it loads what init itself loads only after it
    let confine = own.map(process::late_filter).unwrap_or_default();
    let commands: Vec<_> = (hooks.iter().enumerate())
        .filter_map(|(n, hook)| {
            let command = HookCommand { confine: confine.clone(), ..command(hook, &at.index(n), plan)? };
            Some(match env.filter(|_| hook.env().is_none()) {
                Some(env) => HookCommand { env: env.clone(), env_of: EnvOf::Process, ..command },
                None => command,
            })
        })
        .collect();
    if commands.is_empty() {
        return;
    }
    let state = plan.open_once(&at, Opening::HookState(status));
    let output = plan.open_once(&at, Opening::HookOutput);
    plan.at(&at, What::Hooks(point, commands, state, output));
}

/// A hook ready to run, or what is wrong with it.
fn command(hook: &Hook, at: &At, plan: &mut Draft) -> Option<HookCommand> {
    let path = hook.path().to_str().unwrap_or_default();
    if !hook.path().is_absolute() {
        plan.fault(&at.key("path"), format!("{path:?} is not absolute"));
    }
    let timeout = hook.timeout().map(|seconds| {
        u32::try_from(seconds).ok().filter(|seconds| *seconds > 0).unwrap_or_else(|| {
            plan.fault(&at.key("timeout"), format!("{seconds} is not a positive number of seconds"));
            1
        })
    });
    let given = hook.args().as_deref().unwrap_or_default();
    let args = if given.is_empty() { vec![path.to_owned()] } else { given.to_vec() };
    let args = Strings::new(&args).map_err(|_| plan.fault(&at.key("args"), "has a NUL byte")).ok()?;
    let env = Strings::new(hook.env().as_deref().unwrap_or_default());
    let env = env.map_err(|_| plan.fault(&at.key("env"), "has a NUL byte")).ok()?;
    let path = process::c_string(path, &at.key("path"), plan)?;
    Some(HookCommand { path, args, env, env_of: EnvOf::Hook, timeout, confine: Vec::new() })
}
