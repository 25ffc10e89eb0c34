//! The plan of a new container: first the values of config.json, and then the order of the steps.

use super::covered_paths::CoveredPaths;
use super::credentials::Credentials;
use super::devices::Devices;
use super::filter::PlannedFilter;
use super::given::{Facts, Given, PlannedProcess};
use super::hooks::Hooks;
use super::labels::ProcessLabels;
use super::landlock::Landlock;
use super::limits::Limits;
use super::mount_entry::MountContext;
use super::mounts::Mounts;
use super::namespaces::PlannedNamespaces;
use super::notes::Notes;
use super::process::PlannedProgram;
use super::rootfs::Rootfs;
use super::scheduling::Scheduling;
use super::session::Session;
use super::step::Role;
use super::steps::Steps;
use super::sysctl::Parameter;
use super::uts::UtsNames;
use super::{
    Plan, affinity, annotations, cgroup, covered_paths, credentials, devices, entering, filter, hooks, idmap, labels,
    landlock, limits, mounts, namespaces, net_devices, process, resctrl, rootfs, scheduling, session, sysctl,
    time_offsets, uts,
};
use crate::config::{At, Faults};

/// The plan of a new container. All mistakes of the config are found here, before the runtime changes anything.
///
/// # Errors
/// All mistakes, each with its place.
pub fn create(given: &Given<'_>) -> Result<Plan, Faults> {
    let mut notes = Notes::new(given.config);
    let (subjects, plan) = Subjects::read(given, &mut notes);
    let plan = Plan { warnings: notes.into_warnings(given.config)?, ..plan };
    Ok(subjects.in_order(plan, &given.facts()))
}

/// The values that have steps.
struct Subjects {
    namespaces: PlannedNamespaces,
    program: PlannedProgram,
    credentials: Credentials,
    filter: Option<PlannedFilter>,
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
    covered: CoveredPaths,
    scheduling: Scheduling,
}

impl Subjects {
    /// Reads config.json. A value that another reader needs is passed on. The plan has no steps yet.
    fn read(given: &Given<'_>, notes: &mut Notes) -> (Subjects, Plan) {
        let planned = PlannedProcess {
            process: given.config.spec.process().as_ref(),
            at: &At::new("process"),
            role: Role::First,
        };
        let cgroup = cgroup::read(given, notes);
        let resctrl = resctrl::read(given, notes);
        let namespaces = namespaces::read(given, notes);
        let spawn = namespaces.spawn_order();
        let maps = idmap::read(given, &namespaces, notes);
        let program = process::read(planned, given, notes);
        let bounding = credentials::initial_bounding(given, namespaces.all());
        let credentials = credentials::read(planned, bounding, &maps, given, notes);
        let filter = filter::read(planned, given, &credentials, notes);
        let landlock = landlock::read(planned, given, &credentials, notes);
        let limits = limits::read(planned, spawn, namespaces.all(), given, notes);
        let oom_score_adj = limits::oom_score(planned, given, notes);
        affinity::read(planned, notes); //                only exec uses it, but a mistake in it is reported now
        let labels = labels::of_process(planned, given, notes);
        let session = session::read(planned, spawn, given, notes);
        let time_offsets = time_offsets::read(given, &namespaces, notes);
        let root = rootfs::read(given, &namespaces, notes);
        let label = labels::of_mounts(given, notes);
        let context =
            MountContext { given, namespaces: &namespaces, root: &root, label: &label, cgroup: cgroup.as_ref() };
        let mounts = mounts::read(&context, notes);
        let devices = devices::read(given, &namespaces, &maps, &mounts, notes);
        let net_devices = net_devices::read(given, &namespaces, notes);
        let names = uts::read(given, &namespaces, notes);
        let parameters = sysctl::read(given, &namespaces, notes);
        let hooks = hooks::read(given, &program, filter.as_ref(), notes);
        let hook_files = annotations::hook_files(given, notes);
        let pidfd_receiver = annotations::pidfd_receiver(given, notes);
        let covered = covered_paths::read(given, &namespaces, &label, notes);
        let scheduling = scheduling::read(planned, spawn, given, notes);
        let plan = Plan {
            clone_args: entering::clone_args(&namespaces, given.host),
            root_on_host: root.on_host(),
            id_maps: maps.own,
            joined_maps: maps.joined,
            scheduler: scheduling.by_runtime(),
            cgroup: cgroup.map(|cgroup| cgroup.handed_to(mounts.cgroup_owner.clone())),
            ..Plan { time_offsets, net_devices, hook_files, pidfd_receiver, oom_score_adj, resctrl, ..Plan::default() }
        };
        #[rustfmt::skip]
        let subjects = Subjects {
            namespaces, program, credentials, filter, landlock, limits, labels, session, root, mounts, devices, names,
            parameters, hooks, covered, scheduling,
        };
        (subjects, plan)
    }

    /// The steps, in this order.
    fn in_order(mut self, plan: Plan, facts: &Facts<'_>) -> Plan {
        let (namespaces, root, session) = (&self.namespaces, &self.root, &self.session);
        let (hooks, filter) = (&mut self.hooks, self.filter.as_ref());
        let mut list = Steps::new(facts.host.me.may_mount);
        let steps = &mut list;
        process::begin(steps); //                     signals, umask
        entering::undumpable_from_the_clone_on(plan.clone_args, steps); // others cannot trace it
        process::all_cpus(steps);
        // ids first   SPEC: config-linux.md#namespaces
        entering::enter(namespaces, plan.clone_args, &plan.time_offsets, facts, steps);
        self.labels.of_keyring(steps);
        session.begin(steps); //                      session and keyring
        let root_slot = root.attach(steps); //        propagation first: otherwise mounts appear on the host
        let pids = entering::open_pids(namespaces, steps);
        let writable = self.mounts.steps(namespaces, pids, steps); // in config order   SPEC: config.md#mounts
        self.devices.steps(root, steps);
        entering::loopback(namespaces, steps);
        net_devices::steps(&plan.net_devices, steps); // ORDER: before sysctl: a parameter may belong to a device
        self.names.steps(steps);
        sysctl::steps(self.parameters, steps); //     on the host's own /proc
        let hooked = hooks.has_create_container();
        hooks.in_runtime(steps); //                   createRuntime   SPEC: runtime.md#lifecycle
        if hooked {
            entering::into_pids(namespaces, pids, steps); // for the hooks   SPEC: config.md#posix-platform-hooks
        }
        hooks.in_container(steps); //                 createContainer
        self.labels.at_exec(steps); //                for the exec; createContainer hooks must not have them
        root.change(root_slot, steps);
        if !hooked {
            entering::into_pids(namespaces, pids, steps);
        }
        entering::into_cgroup(namespaces, steps);
        session.console(steps);
        let readonly_root = self.covered.root_step();
        self.covered.steps(steps); //                 ORDER: after pivot, on the container's own /proc
        writable.into_iter().for_each(|mount| mount.step(steps));
        self.program.make_cwd(steps);
        readonly_root.into_iter().for_each(|(what, at)| steps.add(&at, what));
        root.finish(steps); //                        read-only last: no step makes files after this
        self.program.enter_cwd(steps); //             the working directory and HOME, as root
        self.scheduling.steps(steps); //              scheduler, priorities, memory
        self.credentials.forbid_new_privileges(steps);
        self.landlock.iter().for_each(|landlock| landlock.steps(steps)); // ORDER: no step mounts after this
        let until_exec = filter.map_or(0, |filter| filter.until_exec);
        self.credentials.give_up_power(until_exec, steps); // groups, ids, capabilities
        // ORDER: other processes may see init only after it cannot reach anything of the host, and has only the rights of
        // the program.
        if let Some((_, at)) = namespaces.pids_of_others() {
            entering::spawned_last(at, facts, steps);
            session.begin_last(steps);
            self.scheduling.begin_last(steps);
            self.limits.begin_last(steps);
        }
        self.program.prepare(filter, facts, steps); // cwd is inside the root, descriptors closed, program found, ready
        let answer = hooks::await_start(facts, steps);
        hooks.at_start(steps); //                     startContainer
        self.program.exec(filter, answer, steps); //    seccomp, the exec
        let Hooks { runtime, later, .. } = self.hooks;
        let plan = Plan { runtime_hooks: runtime, later_hooks: later, limits: self.limits.list, ..plan };
        list.into_plan(root_slot, Plan { filter: self.filter.map(|loaded| loaded.filter), ..plan })
    }
}
