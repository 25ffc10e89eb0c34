//! `process.rlimits` and `process.oomScoreAdj`. SPEC: config.md#posix-process.

use oci_spec::runtime::PosixRlimitType;

use super::finished::OomScore;
use super::given::{Given, PlannedProcess};
use super::namespaces::{SpawnOrder, USER};
use super::notes::Notes;
use super::step::{Namespaces, Rlimit, What};
use super::steps::Steps;
use crate::config::At;
use crate::host::UserNamespace;

/// CAP_SYS_RESOURCE as a mask (linux/capability.h).
const SYS_RESOURCE: u64 = 1 << 24;

/// Resource limits.
#[derive(Debug, Default)]
pub(super) struct Limits {
    /// The limits that the runtime sets.
    pub(super) list: Vec<Rlimit>,
    /// The requested RLIMIT_NPROC (soft, hard, property), if the runtime sets it higher by one.
    processes: Option<(u64, u64, At)>,
}

/// Reads `rlimits` of a process that does not share `namespaces` with the runtime.
pub(super) fn read(
    planned: PlannedProcess<'_>,
    spawn: SpawnOrder,
    namespaces: Namespaces,
    given: &Given<'_>,
    notes: &mut Notes,
) -> Limits {
    let Some(process) = planned.process else { return Limits::default() };
    let at = planned.at.key("rlimits");
    let mut list: Vec<Rlimit> = Vec::new();
    for (n, limit) in process.rlimits().as_deref().unwrap_or_default().iter().enumerate() {
        let at = at.index(n);
        let (resource, name) = resource(limit.typ());
        if list.iter().any(|there| there.resource == resource) {
            // SPEC: config.md#posix-process: a second entry of the same type is an error
            notes.fault(&at.key("type"), format!("a second {name}"));
        }
        if limit.soft() > limit.hard() {
            notes.fault(&at, format!("soft {} is above hard {}", limit.soft(), limit.hard()));
        }
        list.push(Rlimit { resource, name: name.to_owned(), soft: limit.soft(), hard: limit.hard(), at });
    }
    // The kernel does not count the processes of root of the initial user namespace. Root of another user namespace is
    // an ordinary user of the host.
    let counted = process.user().uid() != 0 || namespaces.has(USER);
    let processes = if spawn == SpawnOrder::Last && counted && given.host.me.bounding & SYS_RESOURCE != 0 {
        room_for_two(&mut list)
    } else {
        None
    };
    Limits { list, processes }
}

/// The bridge can belong to the same user as init. It then counts against RLIMIT_NPROC (getrlimit(2)), so the limit is
/// one higher until init runs alone. Init then sets the requested limit.
fn room_for_two(list: &mut [Rlimit]) -> Option<(u64, u64, At)> {
    let limit = list.iter_mut().find(|limit| limit.resource == libc::RLIMIT_NPROC)?;
    let requested = (limit.soft, limit.hard, limit.at.clone());
    (limit.soft, limit.hard) = (limit.soft.saturating_add(1), limit.hard.saturating_add(1));
    Some(requested)
}

impl Limits {
    /// Init sets the requested limit itself if it was spawned last.
    pub(super) fn begin_last(&self, steps: &mut Steps) {
        if let Some((soft, hard, at)) = &self.processes {
            steps.add(at, What::Processes { soft: *soft, hard: *hard });
        }
    }
}

/// Reads `oomScoreAdj`.
pub(super) fn oom_score(planned: PlannedProcess<'_>, given: &Given<'_>, notes: &mut Notes) -> Option<OomScore> {
    let score = planned.process?.oom_score_adj()?;
    if !(-1000..=1000).contains(&score) {
        notes.fault(&planned.at.key("oomScoreAdj"), format!("{score} is not in -1000..1000"));
    }
    Some(match (given.host.me.uid, given.host.me.user_namespace) {
        (0, UserNamespace::Initial) => OomScore::OfInit(score),
        (0, UserNamespace::Nested) => OomScore::InheritedIfAllowed(score),
        _ => OomScore::Inherited(score),
    })
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
