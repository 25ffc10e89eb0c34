//! The process: what it is, what it may do, and in which order it gives up what it may. Init and exec share all of it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::CString;
use std::path::Path;

use oci_spec::runtime::{LinuxIOPriority, LinuxSeccomp, PosixRlimitType, Process};
use rustix::thread::Gid;

use super::capabilities;
use super::draft::{Draft, OomScore, Writer};
use super::namespaces::{Kinds, USER};
use super::step::{CapabilitySets, Exec, Kept, Limit, Slot, What};
use super::{Asked, Joining, Keyring, Start, idmap, run_as, seccomp};
use crate::config::At;
use crate::host::Users;
use crate::sys::exec::Strings;
use crate::wire::Ask;

/// Where a shell looks when nobody says PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// crun's annotation that names the seccomp agent's socket.
pub const SECCOMP_RECEIVER: &str = "run.oci.seccomp.receiver";

/// As many groups as a process can have: NGROUPS_MAX.
const MAX_GROUPS: usize = 65536;

/// CAP_SYS_ADMIN as a mask (linux/capability.h).
const SYS_ADMIN: u64 = 1 << 21;
/// CAP_SYS_RESOURCE as a mask (linux/capability.h).
const SYS_RESOURCE: u64 = 1 << 24;

/// The process object, understood. Without one (a mistake already told) there is nothing in it.
pub(super) struct Own<'a> {
    pub(super) process: Option<&'a Process>,
    pub(super) at: At,
    pub(super) uid: u32,
    pub(super) gid: u32,
    exec: Option<Exec>,
    needs_home: bool,
    /// The bounding set it begins with.
    held: u64,
    capabilities: CapabilitySets,
    filter: Option<LoadedFilter>,
}

/// How the filter is loaded.
#[derive(Clone, Copy)]
struct LoadedFilter {
    flags: u32,
    /// When: one with a listener while the runtime is there to pass it on, any other as the last thing before the exec.
    when: Loaded,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Loaded {
    BeforeReady,
    BeforeExec,
}

impl Own<'_> {
    /// Its environment, with a place for HOME; nothing where the process has a mistake.
    pub(super) fn env(&self) -> Option<&Strings> {
        self.exec.as_ref().map(|exec| &exec.env)
    }
}

/// A C string, or a fault.
pub(super) fn c_string(text: &str, at: &At, plan: &mut Draft) -> Option<CString> {
    CString::new(text).map_err(|_| plan.fault(at, format!("{text:?} has a NUL byte"))).ok()
}

/// The config's own process.
pub(super) fn own<'a>(ask: &Asked<'a>, kinds: &Kinds, plan: &mut Draft) -> Own<'a> {
    let at = At::new("process");
    let process = ask.config.spec.process().as_ref();
    // SPEC: config.md#process: required only when start is called
    if process.is_none() && ask.flags.start == Start::AtOnce {
        plan.fault(&at, "is missing");
    }
    understand(process, &at, held(ask, kinds.private(USER)), ask, plan)
}

/// A further process.
pub(super) fn of<'a>(joining: &Joining<'a>, ask: &Asked<'_>, plan: &mut Draft) -> Own<'a> {
    let held = held(ask, joining.container.kinds.has(USER));
    understand(Some(joining.process), joining.at, held, ask, plan)
}

/// Whoever enters a user namespace has every capability in it, whatever they had outside (user_namespaces(7)): more is
/// to be dropped there than we have, and more can be given.
fn held(ask: &Asked<'_>, enters_user_namespace: bool) -> u64 {
    if enters_user_namespace { u64::MAX } else { ask.host.me.bounding }
}

fn understand<'a>(process: Option<&'a Process>, at: &At, held: u64, ask: &Asked<'_>, plan: &mut Draft) -> Own<'a> {
    let mut own = Own {
        process,
        at: at.clone(),
        uid: 0,
        gid: 0,
        exec: None,
        needs_home: false,
        held,
        capabilities: CapabilitySets::default(),
        filter: None,
    };
    let Some(process) = process else { return own };
    (own.uid, own.gid) = (process.user().uid(), process.user().gid());
    ids(process, &at.key("user"), plan);
    idmap::must_reach(own.uid, idmap::Ids::Users, &at.key("user").key("uid"), plan);
    idmap::must_reach(own.gid, idmap::Ids::Groups, &at.key("user").key("gid"), plan);
    let (env, needs_home) = environment(process, at, ask, plan);
    own.needs_home = needs_home;
    own.exec = program(process, env, at, plan);
    let asked = process.capabilities().as_ref();
    let (sets, warnings) = capabilities::sets(asked, &at.key("capabilities"), held);
    own.capabilities = sets;
    plan.warnings(warnings);
    plan.plan().oom_score_adj = process.oom_score_adj().map(|score| match (ask.host.me.uid, ask.host.me.users) {
        (0, Users::Initial) => OomScore::OfInit(score),
        (0, Users::Nested) => OomScore::InheritedIfAllowed(score),
        _ => OomScore::Inherited(score),
    });
    if let Some(score) = process.oom_score_adj().filter(|score| !(-1000..=1000).contains(score)) {
        plan.fault(&at.key("oomScoreAdj"), format!("{score} is not in -1000..1000"));
    }
    limits(process, at, plan);
    run_as::check_affinity(process, at, plan);
    filter(&mut own, ask, plan);
    own
}

/// 4294967295 is -1 to setresuid(2), which would leave the process what it is: root.
fn ids(process: &Process, at: &At, plan: &mut Draft) {
    let user = process.user();
    let groups = user.additional_gids().as_deref().unwrap_or_default();
    let all = [(at.key("uid"), user.uid()), (at.key("gid"), user.gid())];
    let groups = groups.iter().enumerate().map(|(n, gid)| (at.key("additionalGids").index(n), *gid));
    for (at, id) in all.into_iter().chain(groups) {
        idmap::must_be_one(id, &at, plan);
    }
    if let Some(umask) = user.umask().filter(|umask| *umask > 0o777) {
        // as with runc: umask(2) takes the bits of the permissions
        plan.warn(&at.key("umask"), format!("{umask} is more than 511 (0777): the bits above are ignored"));
    }
}

/// The environment: nothing of ours, the last of several wins. SPEC: config.md#process.
fn environment(process: &Process, at: &At, ask: &Asked<'_>, plan: &mut Draft) -> (Option<Strings>, bool) {
    let at = at.key("env");
    let given = process.env().as_deref().unwrap_or_default();
    let mut entries: Vec<(&str, String)> = Vec::with_capacity(given.len());
    let mut places: HashMap<&str, usize> = HashMap::with_capacity(given.len());
    for (n, entry) in given.iter().enumerate() {
        match entry.split_once('=') {
            Some((name, _)) if !name.is_empty() => match places.entry(name) {
                Entry::Occupied(place) => entries[*place.get()].1.clone_from(entry),
                Entry::Vacant(place) => {
                    place.insert(entries.len());
                    entries.push((name, entry.clone()));
                }
            },
            _ => plan.fault(&at.index(n), format!("{entry:?} is not NAME=value")),
        }
    }
    if ask.flags.listen_fds > 0 {
        entries.push(("LISTEN_FDS", format!("LISTEN_FDS={}", ask.flags.listen_fds)));
        entries.push(("LISTEN_PID", "LISTEN_PID=1".to_owned()));
    }
    if ask.flags.notify.is_some() {
        entries.push(("NOTIFY_SOCKET", "NOTIFY_SOCKET=/run/notify/notify.sock".to_owned()));
    }
    entries.retain(|(name, entry)| *name != "HOME" || entry != "HOME=");
    let needs_home = !entries.iter().any(|(name, _)| *name == "HOME");
    let texts: Vec<_> = entries.into_iter().map(|(_, entry)| entry).collect();
    let strings = Strings::new(&texts).map_err(|_| plan.fault(&at, "has an entry with a NUL byte")).ok();
    (strings, needs_home)
}

/// The program by its path, or every place where PATH, the container's own, lets one look for it.
fn program(process: &Process, env: Option<Strings>, at: &At, plan: &mut Draft) -> Option<Exec> {
    let at = at.key("args");
    let args = process.args().as_deref().unwrap_or_default();
    let Some(name) = args.first() else {
        plan.fault(&at, "is empty or missing: there is no program to run");
        return None;
    };
    if name.is_empty() {
        // podman and Docker make exit status 127 of these words
        plan.fault(&at.index(0), "exec: \"\": executable file not found in $PATH");
        return None;
    }
    let candidates = candidates(process).into_iter().map(CString::new).collect::<Result<Vec<_>, _>>();
    let (Ok(candidates), Ok(args)) = (candidates, Strings::new(args)) else {
        plan.fault(&at, "has a NUL byte");
        return None;
    };
    Some(Exec { candidates, args, env: env? })
}

/// The paths at which the program of a process is looked for. The last PATH wins, as in `environment`.
pub fn candidates(process: &Process) -> Vec<String> {
    let Some(name) = process.args().as_deref().and_then(<[_]>::first) else { return Vec::new() };
    if name.contains('/') {
        return vec![name.to_owned()];
    }
    let entries = process.env().as_deref().unwrap_or_default();
    let path = entries.iter().rev().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    path.split(':').map(|part| format!("{}/{name}", if part.is_empty() { "." } else { part })).collect()
}

fn limits(process: &Process, at: &At, plan: &mut Draft) {
    let at = at.key("rlimits");
    let mut limits: Vec<Limit> = Vec::new();
    for (n, limit) in process.rlimits().as_deref().unwrap_or_default().iter().enumerate() {
        let at = at.index(n);
        let (resource, name) = resource(limit.typ());
        if limits.iter().any(|there| there.resource == resource) {
            // SPEC: config.md#posix-process: a second entry of the same type is an error
            plan.fault(&at.key("type"), format!("a second {name}"));
        }
        if limit.soft() > limit.hard() {
            plan.fault(&at, format!("soft {} is above hard {}", limit.soft(), limit.hard()));
        }
        limits.push(Limit { resource, name: name.to_owned(), soft: limit.soft(), hard: limit.hard(), at });
    }
    plan.plan().limits = limits;
}

fn resource(kind: PosixRlimitType) -> (u32, &'static str) {
    match kind {
        PosixRlimitType::RlimitCpu => (libc::RLIMIT_CPU, "RLIMIT_CPU"),
        PosixRlimitType::RlimitFsize => (libc::RLIMIT_FSIZE, "RLIMIT_FSIZE"),
        PosixRlimitType::RlimitData => (libc::RLIMIT_DATA, "RLIMIT_DATA"),
        PosixRlimitType::RlimitStack => (libc::RLIMIT_STACK, "RLIMIT_STACK"),
        PosixRlimitType::RlimitCore => (libc::RLIMIT_CORE, "RLIMIT_CORE"),
        PosixRlimitType::RlimitRss => (libc::RLIMIT_RSS, "RLIMIT_RSS"),
        PosixRlimitType::RlimitNproc => (libc::RLIMIT_NPROC, "RLIMIT_NPROC"),
        PosixRlimitType::RlimitNofile => (libc::RLIMIT_NOFILE, "RLIMIT_NOFILE"),
        PosixRlimitType::RlimitMemlock => (libc::RLIMIT_MEMLOCK, "RLIMIT_MEMLOCK"),
        PosixRlimitType::RlimitAs => (libc::RLIMIT_AS, "RLIMIT_AS"),
        PosixRlimitType::RlimitLocks => (libc::RLIMIT_LOCKS, "RLIMIT_LOCKS"),
        PosixRlimitType::RlimitSigpending => (libc::RLIMIT_SIGPENDING, "RLIMIT_SIGPENDING"),
        PosixRlimitType::RlimitMsgqueue => (libc::RLIMIT_MSGQUEUE, "RLIMIT_MSGQUEUE"),
        PosixRlimitType::RlimitNice => (libc::RLIMIT_NICE, "RLIMIT_NICE"),
        PosixRlimitType::RlimitRtprio => (libc::RLIMIT_RTPRIO, "RLIMIT_RTPRIO"),
        PosixRlimitType::RlimitRttime => (libc::RLIMIT_RTTIME, "RLIMIT_RTTIME"),
    }
}

/// The container's filter is every process's: exec loads it as init does.
fn filter(own: &mut Own<'_>, ask: &Asked<'_>, plan: &mut Draft) {
    let Some(asked) = ask.config.spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref()) else { return };
    let asked = with_receiver(asked, ask);
    let Some((filter, warnings)) = plan.keep(seccomp::filter(&asked, &At::new("linux.seccomp"))) else { return };
    plan.warnings(warnings);
    let when = if filter.listener().is_some() { Loaded::BeforeReady } else { Loaded::BeforeExec };
    own.filter = Some(LoadedFilter { flags: filter.flags(), when });
    plan.plan().filter = Some(filter);
    keep_what_loads_it(own, ask, plan);
}

/// To load a filter takes no_new_privs or CAP_SYS_ADMIN (seccomp(2)). Without the first the second is kept to the end.
fn keep_what_loads_it(own: &mut Own<'_>, ask: &Asked<'_>, plan: &mut Draft) {
    if own.process.is_none_or(no_new_privileges) || ask.host.me.no_new_privs {
        return;
    }
    if own.held & SYS_ADMIN == 0 {
        let why =
            "cannot be loaded: that takes process.noNewPrivileges, or CAP_SYS_ADMIN, which the runtime does not have";
        plan.fault(&At::new("linux.seccomp"), why);
    }
    own.capabilities.until_exec = SYS_ADMIN & !own.capabilities.effective;
}

/// The annotation stands for a listenerPath that is not there.
fn with_receiver<'a>(asked: &'a LinuxSeccomp, ask: &Asked<'_>) -> Cow<'a, LinuxSeccomp> {
    let annotations = ask.config.spec.annotations().as_ref();
    let receiver = annotations.and_then(|all| all.get(SECCOMP_RECEIVER)).filter(|path| !path.is_empty());
    match receiver {
        Some(path) if asked.listener_path().is_none() => {
            let mut asked = asked.clone();
            asked.set_listener_path(Some(path.into()));
            Cow::Owned(asked)
        }
        _ => Cow::Borrowed(asked),
    }
}

/// What comes before everything: no signal is missed or inherited, modes are exact.
pub(super) fn begin(plan: &mut Draft) {
    plan.always("a payload starts with default signals", What::Signals);
    plan.always("exact modes until the end", What::Umask(0));
}

/// No process of the container looks into us.
pub(super) fn unseen(plan: &mut Draft) {
    plan.always("CVE-2016-9962", What::Undumpable);
}

/// Where it may run. What we are confined to is not the container's: its cpuset says that.
pub(super) fn everywhere(plan: &mut Draft) {
    plan.always("any CPU of its cpuset", What::AllCpus);
}

pub(super) fn session(ask: &Asked<'_>, plan: &mut Draft) {
    plan.always("a session of its own", What::Session);
    if let Keyring::Named(name) = &ask.flags.keyring
        && let Ok(name) = CString::new(name.as_str())
    {
        plan.always("a keyring of its own", What::Keyring(name));
    }
}

/// The working directory and HOME, while we are still root. The directory itself was made before the root was closed.
pub(super) fn place(own: &Own<'_>, plan: &mut Draft) {
    let Some(process) = own.process else { return };
    let at = own.at.key("cwd");
    let Some(cwd) = process.cwd().to_str().filter(|cwd| Path::new(cwd).is_absolute()) else {
        plan.fault(&at, format!("{:?} is not absolute", process.cwd()));
        return;
    };
    if let Some(cwd) = c_string(cwd, &at, plan) {
        plan.at(&at, What::TryChdir(cwd));
    }
    if own.needs_home {
        plan.always("HOME is not set", What::Home(own.uid));
    }
}

/// How the process is scheduled, and where its memory comes from.
pub(super) fn run_as(own: &Own<'_>, ask: &Asked<'_>, plan: &mut Draft) {
    let Some(process) = own.process else { return };
    if let Some(scheduler) = process.scheduler().as_ref() {
        run_as::scheduler(scheduler, &own.at.key("scheduler"), plan);
    }
    if let Some(priority) = process.io_priority().as_ref() {
        io_priority(priority, &own.at.key("ioPriority"), plan);
    }
    run_as::domain(ask, plan);
    run_as::memory(ask, plan);
}

fn io_priority(asked: &LinuxIOPriority, at: &At, plan: &mut Draft) {
    match u32::try_from(asked.priority()).ok().filter(|level| *level < 8) {
        Some(level) => plan.at(at, What::IoPriority(run_as::io_class(asked.class()) << 13 | level)),
        None => plan.fault(&at.key("priority"), format!("{} is not in 0..7", asked.priority())),
    }
}

/// ORDER: what needs privilege first, then the privilege. The filter comes last of all (`prepare`, `go`): profiles are written
/// for programs, and may forbid what we still have to do.
pub(super) fn give_up_power(own: &Own<'_>, plan: &mut Draft) {
    let Some(process) = own.process else {
        plan.always("nothing will run", What::Bounding(own.held));
        plan.always("nothing will run", What::Capabilities(own.capabilities));
        return;
    };
    let user = own.at.key("user");
    if no_new_privileges(process) {
        plan.at(&own.at.key("noNewPrivileges"), What::NoNewPrivs);
    }
    if process.rlimits().as_ref().is_some_and(|list| !list.is_empty()) {
        // ORDER: as late as it can be, or a small limit is in the way of the set-up; but before Ids: to set the limits
        // of somebody else's process takes CAP_SYS_RESOURCE, which the runtime itself may lack
        plan.at(&own.at.key("rlimits"), What::Ask(Ask::Limits));
    }
    let from = own.at.key("capabilities");
    plan.at(&from, What::Bounding(own.held & !own.capabilities.bounding));
    plan.at(&user.key("uid"), What::OwnStdio(own.uid));
    let groups = process.user().additional_gids().clone().unwrap_or_default();
    if groups.len() > MAX_GROUPS {
        plan.fault(&user.key("additionalGids"), format!("more than {MAX_GROUPS} groups"));
    }
    let denied = plan.plan().id_maps.as_ref().is_some_and(|maps| maps.gids_by == Writer::User);
    if denied && !groups.is_empty() {
        let why = "needs more than one mapping in linux.gidMappings: a process that maps only its own gid cannot change groups";
        plan.fault(&user.key("additionalGids"), why);
    }
    for (n, gid) in groups.iter().enumerate() {
        idmap::must_reach(*gid, idmap::Ids::Groups, &user.key("additionalGids").index(n), plan);
    }
    // always, or the caller's groups would be the container's
    // -1 is no id, and has been told as such
    let groups = groups.into_iter().filter(|gid| *gid != u32::MAX).map(Gid::from_raw).collect();
    plan.at(&user.key("additionalGids"), What::Groups(groups));
    plan.at(&user, What::Ids(own.uid, own.gid));
    plan.at(&from, What::Capabilities(own.capabilities));
    // ORDER: a change of ids makes dumpable what fs.suid_dumpable says (PR_SET_DUMPABLE(2const)), and clears the death signal
    unseen(plan);
    plan.always("it ends with the runtime until it is ready", What::DeathSignal(libc::SIGKILL));
}

/// Where the bridge as well belongs to the user, one process more counts against RLIMIT_NPROC (getrlimit(2)) until init goes
/// on alone, which then takes that back. The processes of the initial user namespace's root are not counted.
pub(super) fn room_for_two(own: &Own<'_>, ask: &Asked<'_>, plan: &mut Draft) {
    // root of a user namespace, where every capability is held, is an ordinary user outside
    let counted = own.uid != 0 || own.held == u64::MAX;
    if !counted || ask.host.me.bounding & SYS_RESOURCE == 0 {
        return;
    }
    let limits = &mut plan.plan().limits;
    let Some(limit) = limits.iter_mut().find(|limit| limit.resource == libc::RLIMIT_NPROC) else { return };
    let (soft, hard, at) = (limit.soft, limit.hard, limit.at.clone());
    (limit.soft, limit.hard) = (soft.saturating_add(1), hard.saturating_add(1));
    plan.at(&at, What::Processes(soft, hard));
}

fn no_new_privileges(process: &Process) -> bool {
    process.no_new_privileges().unwrap_or(false)
}

fn close_fds(ask: &Asked<'_>, plan: &mut Draft) {
    plan.always("only the standard streams and what was asked for", closed(ask));
}

/// What is kept is filled in when the plan is whole.
pub(super) fn closed(ask: &Asked<'_>) -> What {
    What::CloseFds(3 + ask.flags.extra_fds, Kept::default())
}

/// The runtime gives the listener to its agent, and is gone when `start` is called.
fn load_filter_with_listener(own: &Own<'_>, plan: &mut Draft) {
    let at = At::new("linux.seccomp");
    if let Some(LoadedFilter { flags, when: Loaded::BeforeReady }) = own.filter {
        plan.at(&at, What::Seccomp(flags));
        plan.at(&at.key("listenerPath"), What::Ask(Ask::SeccompListener));
    }
}

/// The step that loads a filter when all else is done.
pub(super) fn late_filter(own: &Own<'_>) -> Vec<What> {
    match own.filter {
        Some(LoadedFilter { flags, when: Loaded::BeforeExec }) => vec![What::Seccomp(flags)],
        _ => Vec::new(),
    }
}

/// The last checks, as the user the program will be: directory, descriptors, program; then ready.
pub(super) fn prepare(own: &Own<'_>, ask: &Asked<'_>, plan: &mut Draft) {
    let Some(process) = own.process else {
        close_fds(ask, plan);
        plan.always("ready, it lives on by itself", What::DeathSignal(0));
        plan.always("recorded before it may start", What::Ready);
        return;
    };
    if let Some(cwd) = process.cwd().to_str().and_then(|cwd| CString::new(cwd).ok()) {
        plan.at(&own.at.key("cwd"), What::Chdir(cwd));
    }
    let umask = process.user().umask().unwrap_or(0o022);
    plan.at(&own.at.key("user").key("umask"), What::Umask(umask & 0o777));
    // ORDER: after Chdir: a descriptor of a directory must never become the cwd (CVE-2024-21626)
    close_fds(ask, plan);
    if let Some(exec) = &own.exec {
        plan.at(&own.at.key("args"), What::FindProgram(exec.clone()));
    }
    // ORDER: before Ready: what was created lives on without the runtime
    match ask.flags.death_signal {
        Some(signal) => plan.always("our own parent-death signal", What::DeathSignal(signal)),
        None => plan.always("ready, it lives on by itself", What::DeathSignal(0)),
    }
    load_filter_with_listener(own, plan);
    plan.always("recorded before it may start", What::Ready);
}

/// ORDER: the filter is the last thing before the exec: it may forbid any call, and the exec is the only one left. So each
/// word is said before it.
pub(super) fn go(own: &Own<'_>, answer: Option<Slot>, plan: &mut Draft) {
    let Some(exec) = &own.exec else { return };
    if let Some(answer) = answer {
        plan.always("start is told before the filter", What::AboutToExec(answer));
    }
    for step in late_filter(own) {
        plan.at(&At::new("linux.seccomp"), step);
    }
    plan.at(&own.at.key("args"), What::Exec(exec.clone()));
}
