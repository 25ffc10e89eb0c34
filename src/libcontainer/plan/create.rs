//! The plan of a new container: first the values of config.json, and then the order of the steps.

use super::credentials::Credentials;
use super::devices::Devices;
use super::filter::Loaded;
use super::given::{Facts, Given, Own};
use super::hooks::Hooks;
use super::labels::ProcessLabels;
use super::landlock::Landlock;
use super::limits::Limits;
use super::mount_entry::MountContext;
use super::mounts::Mounts;
use super::namespaces::Kinds;
use super::notes::Notes;
use super::paths::Covered;
use super::process::Payload;
use super::rootfs::Rootfs;
use super::run_as::Scheduling;
use super::session::Session;
use super::step::Role;
use super::steps::Steps;
use super::sysctl::Parameter;
use super::uts::UtsNames;
use super::{
    Plan, affinity, annotations, cgroup, credentials, devices, entering, filter, hooks, idmap, labels, landlock,
    limits, mounts, namespaces, net_devices, paths, process, resctrl, rootfs, run_as, session, sysctl, times, uts,
};
use crate::config::{At, Faults};

/// The plan of a new container. All mistakes of the config are found here, before the runtime changes anything.
///
/// # Errors
/// All mistakes, each with its place.
pub fn create(given: &Given<'_>) -> Result<Plan, Faults> {
    let mut notes = Notes::of(given.config);
    let (subjects, plan) = Subjects::read(given, &mut notes);
    let plan = Plan { warnings: notes.into_warnings(given.config)?, ..plan };
    Ok(subjects.in_order(plan, &given.facts()))
}

/// The values that have steps.
struct Subjects {
    kinds: Kinds,
    payload: Payload,
    credentials: Credentials,
    filter: Option<Loaded>,
    landlock: Option<Landlock>,
    limits: Limits,
    labels: ProcessLabels,
    session: Session,
    root: Rootfs,
    mounts: Mounts,
    devices: Devices,
    names: UtsNames,
    parameters: Vec<Parameter>,
    hooks: Hooks,
    covered: Covered,
    scheduling: Scheduling,
}

impl Subjects {
    /// Reads config.json. A value that another reader needs is passed on. The plan has no steps yet.
    fn read(given: &Given<'_>, notes: &mut Notes) -> (Subjects, Plan) {
        let own = Own { process: given.config.spec.process().as_ref(), at: &At::new("process"), role: Role::First };
        let cgroup = cgroup::read(given, notes);
        let resctrl = resctrl::read(given, notes);
        let kinds = namespaces::read(given, notes);
        let spawn = kinds.spawn_order();
        let maps = idmap::read(given, &kinds, notes);
        let payload = process::read(own, given, notes);
        let held = credentials::held(given, kinds.all());
        let credentials = credentials::read(own, held, &maps, given, notes);
        let filter = filter::read(own, given, &credentials, notes);
        let landlock = landlock::read(own, given, &credentials, notes);
        let limits = limits::read(own, spawn, held, given, notes);
        let oom_score_adj = limits::oom_score(own, given, notes);
        affinity::read(own, notes); //                only exec uses it, but a mistake in it is reported now
        let labels = labels::of_process(own, given, notes);
        let session = session::read(own, spawn, given, notes);
        let time_offsets = times::read(given, &kinds, notes);
        let root = rootfs::read(given, &kinds, notes);
        let label = labels::of_mounts(given, notes);
        let context = MountContext { given, kinds: &kinds, root: &root, label: &label, cgroup: cgroup.as_ref() };
        let mounts = mounts::read(&context, notes);
        let devices = devices::read(given, &kinds, &maps, &mounts, notes);
        let net_devices = net_devices::read(given, &kinds, notes);
        let names = uts::read(given, &kinds, notes);
        let parameters = sysctl::read(given, &kinds, notes);
        let hooks = hooks::read(given, &payload, filter.as_ref(), notes);
        let hook_files = annotations::hook_files(given, notes);
        let pidfd_receiver = annotations::pidfd_receiver(given, notes);
        let covered = paths::read(given, &kinds, &label, notes);
        let scheduling = run_as::read(own, spawn, given, notes);
        let plan = Plan {
            clone_args: entering::clone_args(&kinds, given.host),
            root_on_host: root.on_host(),
            id_maps: maps.own,
            joined_maps: maps.joined,
            scheduler: scheduling.by_runtime(),
            cgroup: cgroup.map(|cgroup| cgroup.handed_to(mounts.cgroup_owner.clone())),
            ..Plan { time_offsets, net_devices, hook_files, pidfd_receiver, oom_score_adj, resctrl, ..Plan::default() }
        };
        #[rustfmt::skip]
        let subjects = Subjects {
            kinds, payload, credentials, filter, landlock, limits, labels, session, root, mounts, devices, names,
            parameters, hooks, covered, scheduling,
        };
        (subjects, plan)
    }

    /// The steps, in this order.
    fn in_order(mut self, plan: Plan, facts: &Facts<'_>) -> Plan {
        let (kinds, root, session) = (&self.kinds, &self.root, &self.session);
        let (hooks, filter) = (&mut self.hooks, self.filter.as_ref());
        let mut list = Steps::new(facts.host.me.may_mount);
        let steps = &mut list;
        process::begin(steps); //                     signals, umask
        entering::unseen_from_the_clone_on(plan.clone_args, steps); // others cannot trace it
        process::everywhere(steps);
        // ids first   SPEC: config-linux.md#namespaces
        entering::enter(kinds, plan.clone_args, &plan.time_offsets, facts, steps);
        self.labels.of_keyring(steps);
        session.begin(steps); //                      session and keyring
        let root_slot = root.attach(steps); //        propagation first: otherwise mounts appear on the host
        let pids = entering::open_pids(kinds, steps);
        let writable = self.mounts.steps(kinds, pids, steps); // in config order   SPEC: config.md#mounts
        self.devices.steps(root, steps);
        entering::loopback(kinds, steps);
        net_devices::steps(&plan.net_devices, steps); // ORDER: before sysctl: a parameter may belong to a device
        self.names.steps(steps);
        sysctl::steps(self.parameters, steps); //     on the host's own /proc
        let hooked = hooks.run_in_container();
        hooks.in_runtime(steps); //                   createRuntime   SPEC: runtime.md#lifecycle
        if hooked {
            entering::into_pids(kinds, pids, steps); // for the hooks   SPEC: config.md#posix-platform-hooks
        }
        hooks.in_container(steps); //                 createContainer
        self.labels.at_exec(steps); //                for the exec; createContainer hooks must not have them
        root.change(root_slot, steps);
        if !hooked {
            entering::into_pids(kinds, pids, steps);
        }
        entering::into_cgroup(kinds, steps);
        session.console(steps);
        let readonly_root = self.covered.root_step();
        self.covered.steps(steps); //                 ORDER: after pivot, on the container's own /proc
        writable.into_iter().for_each(|mount| mount.step(steps));
        self.payload.make_cwd(steps);
        readonly_root.into_iter().for_each(|(what, at)| steps.at(&at, what));
        root.finish(steps); //                        read-only last: no step makes files after this
        self.payload.enter_cwd(steps); //             the working directory and HOME, as root
        self.scheduling.steps(steps); //              scheduler, priorities, memory
        self.credentials.forbid_new_privileges(steps);
        self.landlock.iter().for_each(|landlock| landlock.steps(steps)); // ORDER: no step mounts after this
        let until_exec = filter.map_or(0, |filter| filter.takes);
        self.credentials.give_up_power(until_exec, steps); // groups, ids, capabilities
        // ORDER: other processes may see init only after it cannot reach anything of the host, and has only the rights of
        // the program.
        if let Some((_, at)) = kinds.pids_of_others() {
            entering::spawned_last(at, facts, steps);
            session.begin_last(steps);
            self.scheduling.begin_last(steps);
            self.limits.begin_last(steps);
        }
        self.payload.prepare(filter, facts, steps); // cwd is inside the root, descriptors closed, program found, ready
        let answer = hooks::await_start(facts, steps);
        hooks.at_start(steps); //                     startContainer
        self.payload.go(filter, answer, steps); //    seccomp, the exec
        let Hooks { runtime, later, .. } = self.hooks;
        let plan = Plan { runtime_hooks: runtime, later_hooks: later, limits: self.limits.list, ..plan };
        list.whole(root_slot).into_plan(Plan { filter: self.filter.map(|loaded| loaded.filter), ..plan })
    }
}
