//! The ids, groups, capabilities and no_new_privs of the process, and the order in which it gives up its rights.

use rustix::thread::Gid;

use super::annotations;
use super::given::{Given, KEEP_GROUPS, PlannedProcess, Switch};
use super::idmap::{Ids, Maps};
use super::namespaces::USER;
use super::notes::Notes;
use super::step::{CapabilitySets, Namespaces, Role, What};
use super::steps::Steps;
use super::values::must_be_an_id;
use super::{capabilities, entering};
use crate::config::At;
use crate::wire::Request;

/// The largest number of groups of a process: NGROUPS_MAX.
const MAX_GROUPS: usize = 65536;
/// CAP_SYS_ADMIN as a mask (linux/capability.h).
const SYS_ADMIN: u64 = 1 << 21;

/// The credentials of the process.
#[derive(Debug)]
pub(super) struct Credentials {
    /// The bounding set that the process begins with.
    pub(super) initial_bounding: u64,
    pub(super) capabilities: CapabilitySets,
    /// None if there is no process.
    user: Option<User>,
}

#[derive(Debug)]
struct User {
    /// The place of the process object.
    at: At,
    uid: u32,
    gid: u32,
    /// None: those of the caller.
    groups: Option<Vec<Gid>>,
    no_new_privs: bool,
    has_limits: bool,
}

/// The bounding set that a process begins with, if it does not share `namespaces` with the runtime. In a user namespace, a
/// process first has every capability (user_namespaces(7)), also those that the runtime lacks.
pub(super) fn initial_bounding(given: &Given<'_>, namespaces: Namespaces) -> u64 {
    if namespaces.has(USER) { u64::MAX } else { given.host.me.bounding }
}

/// Reads `user`, `capabilities` and `noNewPrivileges` of a process that begins with the bounding set `initial_bounding`.
pub(super) fn read(
    planned: PlannedProcess<'_>,
    initial_bounding: u64,
    maps: &Maps,
    given: &Given<'_>,
    notes: &mut Notes,
) -> Credentials {
    let at = planned.at;
    let Some(process) = planned.process else {
        return Credentials { initial_bounding, capabilities: CapabilitySets::default(), user: None };
    };
    let (user, user_at) = (process.user(), at.key("user"));
    for (name, id, ids) in [("uid", user.uid(), Ids::Users), ("gid", user.gid(), Ids::Groups)] {
        must_be_an_id(id, &user_at.key(name), notes);
        maps.must_reach(id, ids, &user_at.key(name), notes);
    }
    let groups =
        groups(user.additional_gids().as_deref().unwrap_or_default(), &user_at.key("additionalGids"), maps, notes);
    let (capabilities, warnings) =
        capabilities::sets(process.capabilities().as_ref(), &at.key("capabilities"), initial_bounding);
    notes.warnings(warnings);
    let user = User {
        at: at.clone(),
        uid: user.uid(),
        gid: user.gid(),
        groups: if keeps_groups(!groups.is_empty(), planned.role, given, notes) { None } else { Some(groups) },
        no_new_privs: process.no_new_privileges().unwrap_or(false),
        has_limits: process.rlimits().as_ref().is_some_and(|list| !list.is_empty()),
    };
    Credentials { initial_bounding, capabilities, user: Some(user) }
}

/// True if the process keeps the groups of the caller. They are rights of the caller, so this is for ordinary users: an
/// annotation must not give the groups of the host's root to a container.
fn keeps_groups(others: bool, role: Role, given: &Given<'_>, notes: &mut Notes) -> bool {
    let at = At::annotation(KEEP_GROUPS);
    if annotations::switch(given, KEEP_GROUPS, notes) == Switch::Off {
        return false;
    }
    if given.host.me.is_root() && role == Role::Further {
        // An ordinary user may have made the container, and root calls `exec`.
        notes.warn(&at, "not applied: the caller is root: a container cannot get root's groups");
        return false;
    }
    if given.host.me.is_root() {
        notes.fault(&at, "the caller is root: a container cannot get root's groups: use process.user.additionalGids");
    } else if others {
        notes.warn(&at, "process.user.additionalGids is not applied: the process keeps the groups of the caller");
    }
    true
}

fn groups(list: &[u32], at: &At, maps: &Maps, notes: &mut Notes) -> Vec<Gid> {
    if list.len() > MAX_GROUPS {
        notes.fault(at, format!("more than {MAX_GROUPS} groups"));
    }
    if maps.deny_groups() && !list.is_empty() {
        let why = "needs more than one mapping in linux.gidMappings: a process that maps only its own gid cannot change groups";
        notes.fault(at, why);
    }
    for (n, gid) in list.iter().enumerate() {
        must_be_an_id(*gid, &at.index(n), notes);
        maps.must_reach(*gid, Ids::Groups, &at.index(n), notes);
    }
    // -1 is a fault already, and `Gid` does not accept it.
    list.iter().filter(|gid| **gid != u32::MAX).map(|gid| Gid::from_raw(*gid)).collect()
}

impl Credentials {
    /// The capabilities that the process needs to restrict itself: seccomp(2) and landlock_restrict_self(2) need
    /// no_new_privs or CAP_SYS_ADMIN. If the process has neither, adds the fault "cannot be `done`" at `at`.
    pub(super) fn needed_to_restrict(&self, at: &At, done: &str, given: &Given<'_>, notes: &mut Notes) -> u64 {
        let own = self.user.as_ref().is_none_or(|user| user.no_new_privs);
        if own || given.host.me.no_new_privs {
            return 0;
        }
        if self.initial_bounding & SYS_ADMIN == 0 {
            let needs = "this needs process.noNewPrivileges, or CAP_SYS_ADMIN, which the runtime does not have";
            notes.fault(at, format!("cannot be {done}: {needs}"));
        }
        SYS_ADMIN
    }

    /// ORDER: before the ruleset and the filter, which need it.
    pub(super) fn forbid_new_privileges(&self, steps: &mut Steps) {
        if let Some(user) = self.user.as_ref().filter(|user| user.no_new_privs) {
            steps.add(&user.at.key("noNewPrivileges"), What::NoNewPrivs);
        }
    }

    /// ORDER: first the steps that need privileges, then the step that drops them. The filter is loaded last
    /// (`process`): profiles are written for programs, and may deny calls that init still needs. Capabilities that
    /// loading needs are kept until then.
    pub(super) fn give_up_power(self, until_exec: u64, steps: &mut Steps) {
        let capabilities = CapabilitySets { until_exec, ..self.capabilities };
        let Some(user) = self.user else {
            steps.add_always("there is no program", What::Bounding(self.initial_bounding));
            steps.add_always("there is no program", What::Capabilities(capabilities));
            return;
        };
        let user_at = user.at.key("user");
        if user.has_limits {
            // ORDER: late, because a small limit could make the set-up fail. But before Ids: setting the limits of
            // another user's process needs CAP_SYS_RESOURCE, which the runtime itself may lack.
            steps.add(&user.at.key("rlimits"), What::Request(Request::Limits));
        }
        let from = user.at.key("capabilities");
        steps.add(&from, What::Bounding(self.initial_bounding & !capabilities.bounding));
        steps.add(&user_at.key("uid"), What::OwnStdio(user.uid));
        // Otherwise the process keeps the caller's groups.
        if let Some(groups) = user.groups {
            steps.add(&user_at.key("additionalGids"), What::Groups(groups));
        }
        steps.add(&user_at, What::Ids { uid: user.uid, gid: user.gid });
        steps.add(&from, What::Capabilities(capabilities));
        // ORDER: a change of ids sets the dumpable attribute to the value of fs.suid_dumpable
        // (PR_SET_DUMPABLE(2const)), and clears the parent-death signal.
        entering::undumpable(steps);
        steps.add_always("until it is ready, it ends with the runtime", What::DeathSignal(libc::SIGKILL));
    }
}
