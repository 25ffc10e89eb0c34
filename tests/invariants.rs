//! The order of a plan is the security property (design: "the order is the security property"): each rule is a function
//! named after it, with its reason, and holds for every golden plan and for plans of generated configs.
#![allow(clippy::unwrap_used)] // in a test, that is what fails it

mod cases;

use libcontainer::config::{self, Config};
use libcontainer::plan::Plan;
use libcontainer::plan::step::{Namespaces, Origin, Slot, What};
use libcontainer::wire::{Ask, HookPoint};
use proptest::prelude::*;
use serde_json::{Value, json};

type Rule = fn(&Plan) -> Result<(), String>;

const RULES: [(&str, Rule); 12] = [
    ("one exec, last", one_exec_last),
    ("id maps, then root, then the other namespaces", maps_then_root_then_unshare),
    ("propagation before mounts", propagation_before_mounts),
    ("mounts, runtime hooks, container hooks, pivot, masks", lifecycle),
    ("kernel parameters on the host's own /proc", sysctl_before_pivot),
    ("seccomp where it can be loaded", seccomp),
    ("nothing that needs privilege after it is gone", privilege),
    ("groups before ids", groups_before_ids),
    ("the cwd is checked as the user", cwd_is_checked),
    ("nothing is opened after descriptors are closed", close_fds),
    ("no host path after the root has changed", no_host_path_after_pivot),
    ("read-only last", read_only_last),
];

fn at(plan: &Plan, is: impl Fn(&What) -> bool) -> Vec<usize> {
    plan.init.iter().enumerate().filter(|(_, step)| is(&step.what)).map(|(n, _)| n).collect()
}

fn before(plan: &Plan, what: &str, first: &[usize], second: &[usize]) -> Result<(), String> {
    match (first.last(), second.first()) {
        (Some(a), Some(b)) if a >= b => Err(format!("{what}: {} comes after {}", plan.init[*a], plan.init[*b])),
        _ => Ok(()),
    }
}

fn pivot(what: &What) -> bool {
    matches!(what, What::Pivot | What::MoveRoot | What::Chroot(_))
}

fn mounts(what: &What) -> bool {
    matches!(what, What::NewMount(_) | What::Bind(..) | What::Remount(..) | What::AttachRoot(..))
}

/// SPEC: config.md#process: it may be missing until `start`, which then says so.
fn runs_nothing(plan: &Plan) -> bool {
    at(plan, |what| matches!(what, What::FindProgram(_) | What::Exec(_) | What::Ids(..))).is_empty()
}

/// What comes after the program is the program's.
fn one_exec_last(plan: &Plan) -> Result<(), String> {
    if runs_nothing(plan) {
        return Ok(());
    }
    let exec = at(plan, |what| matches!(what, What::Exec(_)));
    (exec == [plan.init.len() - 1]).then_some(()).ok_or(format!("execve at {exec:?} of {}", plan.init.len()))
}

/// Without maps there is no root to become; what is unshared before belongs to somebody else (user_namespaces(7)).
fn maps_then_root_then_unshare(plan: &Plan) -> Result<(), String> {
    let maps = at(plan, |what| *what == What::Ask(Ask::IdMaps));
    let root = at(plan, |what| *what == What::BecomeRoot);
    // a mount namespace belongs to no id, and where init finds what the user can reach it comes before root
    let finds = plan.init.iter().any(|step| matches!(step.what, What::Find(_)));
    let early = |kinds: &Namespaces| finds && kinds.0 == libc::CLONE_NEWNS as u64;
    let unshare = at(plan, |what| matches!(what, What::Unshare(kinds) if !early(kinds)));
    before(plan, "id maps", &maps, &root)?;
    before(plan, "found", &at(plan, |what| matches!(what, What::Find(_))), &root)?;
    before(plan, "root", &root, &unshare)
}

/// A mount in a tree that is still shared with the host appears on the host.
fn propagation_before_mounts(plan: &Plan) -> Result<(), String> {
    let first = at(plan, |what| matches!(what, What::Propagate(..)));
    let mounted = at(plan, mounts);
    if mounted.is_empty() { Ok(()) } else { before(plan, "propagation", &first[..first.len().min(1)], &mounted) }
}

/// SPEC: runtime.md#lifecycle; masks lie on the container's own /proc (CVE-2025-31133).
fn lifecycle(plan: &Plan) -> Result<(), String> {
    let order = [
        at(plan, mounts),
        at(plan, |what| matches!(what, What::Ask(Ask::Hooks(HookPoint::CreateRuntime)))),
        at(plan, |what| matches!(what, What::Hooks(HookPoint::CreateContainer, ..))),
        at(plan, pivot),
        at(plan, |what| matches!(what, What::Mask(..) | What::ReadOnly(_))),
    ];
    for (n, first) in order.iter().enumerate() {
        order[n + 1..].iter().try_for_each(|second| before(plan, "lifecycle", first, second))?;
    }
    let await_start = at(plan, |what| matches!(what, What::AwaitStart(..)));
    let start_hooks = at(plan, |what| matches!(what, What::Hooks(HookPoint::StartContainer, ..)));
    before(plan, "startContainer", &await_start, &start_hooks)
}

/// The rootfs brings its own /proc, which may lead anywhere (CVE-2025-52881).
fn sysctl_before_pivot(plan: &Plan) -> Result<(), String> {
    before(plan, "sysctl", &at(plan, |what| matches!(what, What::Sysctl(..))), &at(plan, pivot))
}

/// seccomp(2) takes CAP_SYS_ADMIN or no_new_privs: without no_new_privs it comes before the capabilities go, with it as
/// the last thing before `Ready`, so that as little of ours as can be runs under it.
fn seccomp(plan: &Plan) -> Result<(), String> {
    let filter = at(plan, |what| matches!(what, What::Seccomp(_)));
    let capabilities = at(plan, |what| matches!(what, What::Capabilities(_)));
    let no_new_privs = at(plan, |what| *what == What::NoNewPrivs);
    let Some(loaded) = filter.first() else { return Ok(()) };
    if filter.len() != 1 || plan.filter.is_none() {
        return Err("more filters than one, or none to load".to_owned());
    }
    if no_new_privs.is_empty() {
        return before(plan, "seccomp without no_new_privs", &filter, &capabilities);
    }
    before(plan, "no_new_privs", &no_new_privs, &filter)?;
    let harmless = |what: &What| {
        matches!(what, What::Ask(Ask::SeccompListener) | What::Ready | What::AwaitStart(..) | What::Exec(_))
            || matches!(what, What::Hooks(HookPoint::StartContainer, ..))
    };
    match plan.init[loaded + 1..].iter().find(|step| !harmless(&step.what)) {
        Some(step) => Err(format!("{step} after the filter")),
        None => Ok(()),
    }
}

/// What needs root comes before the ids, or it fails for everybody but root.
fn privilege(plan: &Plan) -> Result<(), String> {
    let gone = at(plan, |what| matches!(what, What::Ids(..) | What::Capabilities(_)));
    let needs_root = |what: &What| {
        mounts(what)
            || pivot(what)
            || matches!(
                what,
                What::Join(..)
                    | What::Unshare(_)
                    | What::BecomeRoot
                    | What::EnterTime
                    | What::Loopback
                    | What::Propagate(..)
                    | What::Mknod(_)
                    | What::Mask(..)
                    | What::ReadOnly(_)
                    | What::Finish(..)
                    | What::Sysctl(..)
                    | What::Hostname(_)
                    | What::Domainname(_)
                    | What::Console(_)
                    | What::Groups(_)
                    | What::Bounding(_)
                    | What::OwnStdio(_)
                    | What::Scheduler(_)
                    | What::IoPriority(_)
                    | What::Copy(..)
                    | What::EmptyDirectory(..)
                    | What::Ask(Ask::IdMaps | Ask::TimeOffsets | Ask::Cgroup | Ask::Hooks(_) | Ask::Limits)
            )
    };
    before(plan, "privilege", &at(plan, needs_root), &gone)
}

/// setgroups(2) takes CAP_SETGID, which goes with uid 0.
fn groups_before_ids(plan: &Plan) -> Result<(), String> {
    let (groups, ids) =
        (at(plan, |what| matches!(what, What::Groups(_))), at(plan, |what| matches!(what, What::Ids(..))));
    if !runs_nothing(plan) && (groups.len(), ids.len()) != (1, 1) {
        return Err(format!("setgroups {groups:?}, setresuid {ids:?}: each is done, and once"));
    }
    before(plan, "groups", &groups, &ids)
}

/// `Chdir` looks whether it is inside the root (CVE-2024-21626): the last change of directory is such a one.
fn cwd_is_checked(plan: &Plan) -> Result<(), String> {
    let unchecked = at(plan, |what| matches!(what, What::TryChdir(_)) || pivot(what));
    let checked = at(plan, |what| matches!(what, What::Chdir(_)));
    let ids = at(plan, |what| matches!(what, What::Ids(..)));
    if !runs_nothing(plan) && checked.len() != 1 {
        return Err(format!("{} checked changes of directory", checked.len()));
    }
    before(plan, "cwd", &unchecked, &checked)?;
    before(plan, "cwd as the user", &ids, &checked)
}

/// Everything that is made by a step is there when descriptors are closed; what is used later is ours alone to use: the
/// fifos of `start`, the state and the output of hooks.
fn close_fds(plan: &Plan) -> Result<(), String> {
    let closed = at(plan, |what| matches!(what, What::CloseFds(_)));
    let Some(first) = closed.first() else { return Err("descriptors are not closed".to_owned()) };
    match plan.init[*first..].iter().find(|step| {
        mounts(&step.what)
            || pivot(&step.what)
            || matches!(step.what, What::Console(_) | What::Join(..) | What::Mask(..))
    }) {
        Some(step) => Err(format!("{step} after descriptors are closed")),
        None => Ok(()),
    }
}

/// A path of the host means another thing after the root has changed: what comes from there is a descriptor by then, and
/// in a slot that was really opened.
fn no_host_path_after_pivot(plan: &Plan) -> Result<(), String> {
    let slots = |what: &What| -> Vec<Slot> {
        match what {
            What::Join(slot, _) | What::AttachRoot(slot, ..) | What::Bind(slot, ..) | What::Chroot(slot) => vec![*slot],
            What::Find(slot) | What::Copy(slot, _) | What::EmptyDirectory(slot, _) => vec![*slot],
            What::Mask(_, a, b) | What::AwaitStart(a, b) | What::Hooks(_, _, a, b) => vec![*a, *b],
            What::NewMount(mount) => mount.fallback.into_iter().collect(),
            What::Console(console) => vec![console.socket],
            _ => Vec::new(),
        }
    };
    let all = plan.init.iter().chain(&plan.bridge).flat_map(|step| slots(&step.what)).chain(plan.root);
    if let Some(slot) = all.chain(plan.birth.pid_namespace).find(|slot| slot.0 >= plan.openings.len()) {
        return Err(format!("{slot} is never opened"));
    }
    let host = at(plan, |what| {
        matches!(
            what,
            What::Find(_)
                | What::Copy(..)
                | What::Sysctl(..)
                | What::Propagate(..)
                | What::Hooks(HookPoint::CreateContainer, ..)
        ) || matches!(what, What::Propagate(path, _) if path.as_c_str() != c"/")
    });
    let host: Vec<_> = host
        .into_iter()
        .filter(|n| !matches!(&plan.init[*n].what, What::Propagate(path, _) if path.as_c_str() == c"/"))
        .collect();
    before(plan, "paths of the host", &host, &at(plan, pivot))
}

/// Nodes, mount points and the working directory are made before the root is closed to writing.
fn read_only_last(plan: &Plan) -> Result<(), String> {
    let root = at(plan, |what| matches!(what, What::Finish(path, _) if path.as_c_str() == c"."));
    let makes = at(plan, |what| {
        mounts(what) || matches!(what, What::Mknod(_) | What::Symlink(..) | What::Replace(..) | What::MakeCwd(_))
    });
    before(plan, "read-only", &makes, &root)
}

/// Properties that are no step of the plan's, and where they go.
const ELSEWHERE: [&str; 19] = [
    "ociVersion",                 // read by `load`, kept in the state
    "annotations",                // in the state, for hooks
    "process.env",                // in the step of process.args
    "process.consoleSize",        // in the step of process.terminal
    "process.execCPUAffinity",    // for exec only (SPEC: config.md#linux-process)
    "process.terminal",           // false
    "process.noNewPrivileges",    // false
    "process.selinuxLabel",       // empty
    "process.apparmorProfile",    // unconfined
    "root.readonly",              // false
    "linux.mountLabel",           // among the options of mounts
    "linux.gidMappings",          // with linux.uidMappings
    "linux.resources.cpu.shares", // 0, or idle
    "linux.resources.cpu.period", // with quota, in one file
    "linux.resources.memory",     // 0 is nothing; checkBeforeUpdate is for update
    "linux.resources.network",    // 0
    "linux.resources.blockIO",    // empty
    "linux.devices",              // /dev/ptmx, which is always a link
    "linux.seccomp",              // one step
];

/// Nothing that the config sets is silently ignored: every value is the origin of a step, or there is a word about it.
fn nothing_is_ignored(text: &[u8], plan: &Plan) -> Result<(), String> {
    let mut told: Vec<String> = plan.lines().into_iter().map(|line| line.from).collect();
    told.extend(plan.init.iter().filter_map(|step| match &step.from {
        Origin::At(at) => Some(at.to_string()),
        Origin::Runtime(_) => None,
    }));
    let warnings = plan.warnings.iter().cloned().chain(config::near_misses(text));
    told.extend(warnings.map(|warning| warning.at.to_string()));
    let inside = |long: &str, short: &str| {
        long.strip_prefix(short).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    let mut leaves = Vec::new();
    leaf_places(&serde_json::from_slice(text).unwrap(), String::new(), &mut leaves);
    let ignored: Vec<_> = leaves
        .into_iter()
        .filter(|leaf| !leaf.starts_with("x-") && !ELSEWHERE.iter().any(|place| inside(leaf, place)))
        .filter(|leaf| !told.iter().any(|place| !place.is_empty() && (inside(leaf, place) || inside(place, leaf))))
        .collect();
    if ignored.is_empty() { Ok(()) } else { Err(format!("silently ignored: {}", ignored.join(", "))) }
}

fn leaf_places(value: &Value, at: String, leaves: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                // a sysctl's name may be written either way
                let name = if at == "linux.sysctl" { name.replace('/', ".") } else { name.clone() };
                leaf_places(value, if at.is_empty() { name } else { format!("{at}.{name}") }, leaves);
            }
        }
        Value::Array(list) => {
            for (n, value) in list.iter().enumerate() {
                leaf_places(value, format!("{at}[{n}]"), leaves);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => leaves.push(at),
    }
}

fn broken(plan: &Plan) -> Vec<String> {
    RULES.iter().filter_map(|(name, rule)| rule(plan).err().map(|what| format!("{name}: {what}"))).collect()
}

#[test]
fn every_golden_plan_keeps_the_rules() {
    let mut all = Vec::new();
    for case in cases::all("plan") {
        let (_, plan) = case.plan().unwrap();
        all.extend(broken(&plan).into_iter().map(|what| format!("{}: {what}", case.name())));
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
}

/// A rule that nothing can break is none.
#[test]
fn a_plan_out_of_order_breaks_rules() {
    let case = cases::all("plan").into_iter().find(|case| case.name() == "0-example").unwrap();
    let (_, mut plan) = case.plan().unwrap();
    plan.init.reverse();
    assert!(broken(&plan).len() > 5, "{:?}", broken(&plan));
}

#[test]
fn nothing_that_is_asked_is_silently_ignored() {
    let mut all = Vec::new();
    for case in cases::all("plan").into_iter().filter(|case| case.host.get("exec").is_none()) {
        let (_, plan) = case.plan().unwrap();
        all.extend(nothing_is_ignored(&case.text, &plan).err().map(|what| format!("{}: {what}", case.name())));
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
}

/// Any mixture of what the golden cases have: for every top-level and every `process` and `linux` property the value of
/// some case.
fn mixture() -> impl Strategy<Value = (Value, Value)> {
    let cases = cases::all("plan");
    let documents: Vec<Value> = cases.iter().map(|case| serde_json::from_slice(&case.text).unwrap()).collect();
    let hosts: Vec<Value> = cases.iter().map(|case| case.host.clone()).collect();
    let count = documents.len();
    (proptest::collection::vec(0..count, 40), 0..count).prop_map(move |(picks, host)| {
        let mut picks = picks.into_iter().cycle();
        let mut mixed = json!({});
        let mut names: Vec<String> = Vec::new();
        for section in ["", "/process", "/linux"] {
            let objects = documents.iter().filter_map(|d| d.pointer(section).and_then(Value::as_object));
            names.extend(objects.flat_map(|o| o.keys()).map(|name| format!("{section}/{name}")));
        }
        names.sort();
        names.dedup();
        for name in names.iter().filter(|name| !["/process", "/linux"].contains(&name.as_str())) {
            let from = &documents[picks.next().unwrap()];
            let Some(value) = from.pointer(name) else { continue };
            let mut parts = name.split('/').skip(1);
            match (parts.next().unwrap(), parts.next()) {
                (top, None) => mixed[top] = value.clone(),
                (top, Some(below)) => mixed[top][below] = value.clone(),
            }
        }
        (mixed, hosts[host].clone())
    })
}

/// A value somewhere in a document is another one.
fn mutate(value: &mut Value, steps: &[usize], with: Value) {
    let below = steps.split_first().and_then(|(step, rest)| {
        let next = match value {
            Value::Object(object) if !object.is_empty() => {
                let n = step % object.len();
                object.values_mut().nth(n)
            }
            Value::Array(list) if !list.is_empty() => {
                let n = step % list.len();
                list.get_mut(n)
            }
            _ => None,
        };
        next.map(|next| (next, rest))
    });
    match below {
        Some((next, rest)) => mutate(next, rest, with),
        None => *value = with,
    }
}

fn strange() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        Just(json!(u32::MAX)),
        Just(json!(-1)),
        Just(json!(1.5)),
        Just(json!([])),
        Just(json!({})),
        Just(json!([[]])),
        Just(json!("")),
        Just(json!("a\u{0}b")),
        Just(json!("/../..")),
        ".{0,12}".prop_map(Value::from),
    ]
}

fn planned(config: &Config, host: &Value) -> Option<Plan> {
    if host.get("exec").is_some() && config.spec.process().is_none() {
        return None;
    }
    cases::plan_of(config, host).ok()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_plan_of_a_mixture_keeps_the_rules((document, host) in mixture()) {
        let text = serde_json::to_vec(&document).unwrap();
        if let Ok(config) = config::load(&text)
            && let Some(plan) = planned(&config, &host)
        {
            prop_assert_eq!(broken(&plan), Vec::<String>::new(), "{:#}", document);
        }
    }

    /// What plans from it may only say what is wrong.
    #[test]
    fn no_config_makes_load_or_plan_fall_over(
        (mut document, host) in mixture(),
        changes in proptest::collection::vec((proptest::collection::vec(0usize..64, 1..8), strange()), 1..6),
    ) {
        for (steps, with) in changes {
            mutate(&mut document, &steps, with);
        }
        let text = serde_json::to_vec(&document).unwrap();
        if let Ok(config) = config::load(&text)
            && let Some(plan) = planned(&config, &host)
        {
            prop_assert_eq!(broken(&plan), Vec::<String>::new(), "{:#}", document);
            let _ = plan.to_string();
        }
    }
}
