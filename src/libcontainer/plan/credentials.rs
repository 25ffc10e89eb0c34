//! Who the process is and what it may do: ids, groups, capabilities, no_new_privs; and in which order it gives up the rest.

use rustix::thread::Gid;

use super::given::{Given, Own};
use super::idmap::{Ids, Maps};
use super::notes::Notes;
use super::step::{CapabilitySets, What};
use super::steps::Steps;
use super::values::must_be_an_id;
use super::{capabilities, entering};
use crate::config::At;
use crate::wire::Request;

/// As many groups as a process can have: NGROUPS_MAX.
const MAX_GROUPS: usize = 65536;

/// What the process is to be.
#[derive(Debug)]
pub(super) struct Credentials {
    /// The bounding set it begins with.
    pub(super) held: u64,
    pub(super) capabilities: CapabilitySets,
    /// None where there is no process.
    user: Option<User>,
}

#[derive(Debug)]
struct User {
    /// The process's own place.
    at: At,
    uid: u32,
    gid: u32,
    groups: Vec<Gid>,
    no_new_privs: bool,
    has_limits: bool,
}

/// The bounding set of a process that enters a user namespace, or does not. Inside, a process first has every capability
/// (user_namespaces(7)), also those that the runtime lacks.
pub(super) fn held(given: &Given<'_>, enters_user_namespace: bool) -> u64 {
    if enters_user_namespace { u64::MAX } else { given.host.me.bounding }
}

/// Reads `user`, `capabilities` and `noNewPrivileges` of a process that begins with the bounding set `held`.
pub(super) fn read(own: Own<'_>, held: u64, maps: &Maps, notes: &mut Notes) -> Credentials {
    let at = own.at;
    let Some(process) = own.process else {
        return Credentials { held, capabilities: CapabilitySets::default(), user: None };
    };
    let (user, user_at) = (process.user(), at.key("user"));
    for (name, id, ids) in [("uid", user.uid(), Ids::Users), ("gid", user.gid(), Ids::Groups)] {
        must_be_an_id(id, &user_at.key(name), notes);
        maps.must_reach(id, ids, &user_at.key(name), notes);
    }
    let groups =
        groups(user.additional_gids().as_deref().unwrap_or_default(), &user_at.key("additionalGids"), maps, notes);
    let (capabilities, warnings) = capabilities::sets(process.capabilities().as_ref(), &at.key("capabilities"), held);
    notes.warnings(warnings);
    let user = User {
        at: at.clone(),
        uid: user.uid(),
        gid: user.gid(),
        groups,
        no_new_privs: process.no_new_privileges().unwrap_or(false),
        has_limits: process.rlimits().as_ref().is_some_and(|list| !list.is_empty()),
    };
    Credentials { held, capabilities, user: Some(user) }
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
    // -1 is a fault, and Gid does not take it
    list.iter().filter(|gid| **gid != u32::MAX).map(|gid| Gid::from_raw(*gid)).collect()
}

impl Credentials {
    /// True for a process that no exec gives more than it has.
    pub(super) fn no_new_privs(&self) -> bool {
        self.user.as_ref().is_none_or(|user| user.no_new_privs)
    }

    /// ORDER: what needs privilege first, then the privilege. The filter comes last of all (`process`): profiles are written
    /// for programs, and may forbid what we still have to do. What it takes to load it is kept.
    pub(super) fn give_up_power(self, until_exec: u64, steps: &mut Steps) {
        let capabilities = CapabilitySets { until_exec, ..self.capabilities };
        let Some(user) = self.user else {
            steps.always("nothing will run", What::Bounding(self.held));
            steps.always("nothing will run", What::Capabilities(capabilities));
            return;
        };
        let user_at = user.at.key("user");
        if user.no_new_privs {
            steps.at(&user.at.key("noNewPrivileges"), What::NoNewPrivs);
        }
        if user.has_limits {
            // ORDER: as late as it can be, or a small limit is in the way of the set-up; but before Ids: to set the limits
            // of another user's process takes CAP_SYS_RESOURCE, which the runtime itself may lack
            steps.at(&user.at.key("rlimits"), What::Request(Request::Limits));
        }
        let from = user.at.key("capabilities");
        steps.at(&from, What::Bounding(self.held & !capabilities.bounding));
        steps.at(&user_at.key("uid"), What::OwnStdio(user.uid));
        // always, or the caller's groups would be the container's
        steps.at(&user_at.key("additionalGids"), What::Groups(user.groups));
        steps.at(&user_at, What::Ids { uid: user.uid, gid: user.gid });
        steps.at(&from, What::Capabilities(capabilities));
        // ORDER: a change of ids makes dumpable what fs.suid_dumpable says (PR_SET_DUMPABLE(2const)), and clears the death
        // signal
        entering::unseen(steps);
        steps.always("it ends with the runtime until it is ready", What::DeathSignal(libc::SIGKILL));
    }
}
