//! The order of steps, where that order is the security property.

use libcontainer::plan::Plan;
use libcontainer::plan::needs::Writes;
use libcontainer::plan::step::{CallersGroups, Namespaces, What};
use libcontainer::wire::{HookPoint, Request};

use super::frame::{
    Rule, at, before, covers, insert_after, leave_out, mounts, pivot, runs_nothing, steps, to_the_back_of,
    to_the_front_of, twice,
};

pub const RULES: [Rule; 10] = [
    Rule {
        name: "one exec, last",
        holds: one_exec_last,
        broken_by: &[
            ("execve is left out", |plan| leave_out(plan, |what| matches!(what, What::Exec(_)))),
            ("execve is done twice", |plan| twice(plan, |what| matches!(what, What::Exec(_)))),
            ("a step after execve", |plan| insert_after(plan, |what| matches!(what, What::Exec(_)), What::Session)),
        ],
    },
    Rule {
        name: "id maps, then root, then the other namespaces",
        holds: maps_then_root_then_unshare,
        broken_by: &[
            ("root before its id maps", |plan| {
                to_the_front_of(
                    plan,
                    |what| matches!(what, What::BecomeRoot(_)),
                    |what| *what == What::Request(Request::IdMaps),
                )
            }),
            ("namespaces before their root", |plan| {
                to_the_front_of(plan, unshares, |what| matches!(what, What::BecomeRoot(_)))
            }),
            ("found as the mapped root", |plan| {
                to_the_back_of(plan, |what| matches!(what, What::Find(_)), |what| matches!(what, What::BecomeRoot(_)))
            }),
        ],
    },
    Rule {
        name: "propagation before mounts",
        holds: propagation_before_mounts,
        broken_by: &[
            ("propagation is left out", |plan| leave_out(plan, |what| matches!(what, What::Propagate { .. }))),
            ("a mount before it", |plan| to_the_front_of(plan, mounts, |what| matches!(what, What::Propagate { .. }))),
        ],
    },
    Rule {
        name: "mounts, runtime hooks, container hooks, pivot, masks",
        holds: lifecycle,
        broken_by: &[
            ("a mask before the root changes", |plan| to_the_front_of(plan, covers, pivot)),
            ("a mount after the root has changed", |plan| to_the_back_of(plan, mounts, pivot)),
            ("createContainer before createRuntime", |plan| {
                to_the_front_of(plan, container_hooks, |what| matches!(what, What::Request(Request::Hooks(_))))
            }),
            ("createContainer after pivot_root", |plan| to_the_back_of(plan, container_hooks, pivot)),
            ("startContainer before start", |plan| {
                to_the_front_of(plan, start_hooks, |what| matches!(what, What::AwaitStart { .. }))
            }),
        ],
    },
    Rule {
        name: "the cgroup, its namespace, the delegated cgroup",
        holds: cgroups_in_order,
        broken_by: &[
            ("the namespace before the cgroup", |plan| {
                to_the_front_of(plan, unshares_cgroup, |what| *what == What::Request(Request::Cgroup))
            }),
            ("the delegated cgroup before the namespace", |plan| {
                to_the_front_of(plan, |what| *what == What::Request(Request::Delegate), unshares_cgroup)
            }),
        ],
    },
    Rule {
        name: "kernel parameters on the host's own /proc",
        holds: sysctl_before_pivot,
        broken_by: &[("a sysctl after the root has changed", |plan| {
            to_the_back_of(plan, |what| matches!(what, What::Sysctl { .. }), pivot)
        })],
    },
    Rule {
        name: "groups before ids, each once",
        holds: groups_before_ids,
        broken_by: &[
            ("groups are left out", |plan| leave_out(plan, |what| matches!(what, What::Groups(_)))),
            ("ids before groups", |plan| to_the_front_of(plan, ids, |what| matches!(what, What::Groups(_)))),
            ("ids twice", |plan| twice(plan, ids)),
        ],
    },
    Rule {
        name: "the cwd is checked as the user",
        holds: cwd_is_checked,
        broken_by: &[
            ("the check is left out", |plan| leave_out(plan, |what| matches!(what, What::Chdir(_)))),
            ("the check before the ids", |plan| to_the_front_of(plan, |what| matches!(what, What::Chdir(_)), ids)),
            ("an unchecked change of directory after it", |plan| {
                to_the_back_of(plan, |what| matches!(what, What::TryChdir(_)), |what| matches!(what, What::Chdir(_)))
            }),
        ],
    },
    Rule {
        name: "no host path after the root has changed",
        holds: no_host_path_after_pivot,
        broken_by: &[
            ("a write by path after it", |plan| {
                let write = What::Sysctl { name: c"kernel/core_pattern".to_owned(), value: c"|/evil".to_owned() };
                insert_after(plan, pivot, write)
            }),
            ("a mount by path after it", |plan| {
                insert_after(plan, pivot, What::Propagate { path: c"/bundle".to_owned(), flags: libc::MS_SHARED })
            }),
            ("createContainer after it", |plan| to_the_back_of(plan, container_hooks, pivot)),
        ],
    },
    Rule {
        name: "read-only last",
        holds: read_only_last,
        broken_by: &[
            ("a node after it", |plan| {
                to_the_back_of(plan, |what| matches!(what, What::Mknod(_) | What::Symlink { .. }), closes_root)
            }),
            ("a mount after it", |plan| to_the_back_of(plan, asked_mounts, closes_root)),
        ],
    },
];

fn ids(what: &What) -> bool {
    matches!(what, What::Ids { .. })
}

fn unshares(what: &What) -> bool {
    matches!(what, What::Unshare(kinds) if kinds.0 != libc::CLONE_NEWNS as u64 && kinds.0 != libc::CLONE_NEWTIME as u64)
}

fn container_hooks(what: &What) -> bool {
    matches!(what, What::Hooks { point: HookPoint::CreateContainer, .. })
}

fn start_hooks(what: &What) -> bool {
    matches!(what, What::Hooks { point: HookPoint::StartContainer, .. })
}

fn asked_mounts(what: &What) -> bool {
    mounts(what) && !matches!(what, What::AttachRoot { .. })
}

fn closes_root(what: &What) -> bool {
    matches!(what, What::Finish { path, .. } if path.as_c_str() == c".")
}

/// Every step after the exec would run in the program, so the exec is the last step.
fn one_exec_last(plan: &Plan) -> Result<(), String> {
    if runs_nothing(plan) {
        return Ok(());
    }
    let exec = at(plan, |what| matches!(what, What::Exec(_)));
    let count = steps(plan).count();
    (exec == [count - 1]).then_some(()).ok_or(format!("execve at {exec:?} of {count}"))
}

/// Without maps, init cannot become root. A namespace that is unshared before belongs to another user namespace
/// (user_namespaces(7)).
fn maps_then_root_then_unshare(plan: &Plan) -> Result<(), String> {
    let maps = at(plan, |what| *what == What::Request(Request::IdMaps));
    let root = at(plan, |what| matches!(what, What::BecomeRoot(_)));
    // A mount namespace does not depend on ids. If init opens files again that only the caller's user can reach, it is
    // made before BecomeRoot.
    let finds = steps(plan).any(|step| matches!(step.what, What::Find(_)));
    // The user namespace itself, if the bridge makes it.
    let users = |kinds: &Namespaces| kinds.0 == libc::CLONE_NEWUSER as u64;
    let early = |kinds: &Namespaces| users(kinds) || (finds && kinds.0 == libc::CLONE_NEWNS as u64);
    let unshare = at(plan, |what| matches!(what, What::Unshare(kinds) if !early(kinds)));
    before(plan, "id maps", &maps, &root)?;
    before(plan, "found", &at(plan, |what| matches!(what, What::Find(_))), &root)?;
    before(plan, "root", &root, &unshare)
}

/// A mount in a tree that the host still shares appears on the host.
fn propagation_before_mounts(plan: &Plan) -> Result<(), String> {
    let first = at(plan, |what| matches!(what, What::Propagate { .. }));
    let mounted = at(plan, mounts);
    if mounted.is_empty() || plan.root_on_host.is_some() {
        return Ok(());
    }
    if first.is_empty() {
        return Err("nothing changes the propagation of the host's mounts".to_owned());
    }
    before(plan, "propagation", &first[..1], &mounted)
}

/// SPEC: runtime.md#lifecycle. Masks cover the container's own /proc (CVE-2025-31133).
fn lifecycle(plan: &Plan) -> Result<(), String> {
    let order = [
        at(plan, mounts),
        at(plan, |what| matches!(what, What::Request(Request::Hooks(HookPoint::CreateRuntime)))),
        at(plan, container_hooks),
        at(plan, pivot),
        at(plan, covers),
    ];
    for (n, first) in order.iter().enumerate() {
        order[n + 1..].iter().try_for_each(|second| before(plan, "lifecycle", first, second))?;
    }
    let await_start = at(plan, |what| matches!(what, What::AwaitStart { .. }));
    before(plan, "startContainer", &await_start, &at(plan, start_hooks))
}

fn unshares_cgroup(what: &What) -> bool {
    matches!(what, What::Unshare(kinds) if kinds.has(libc::CLONE_NEWCGROUP as u64))
}

/// The cgroup of a process becomes the root of its new cgroup namespace (cgroup_namespaces(7)): the container must not see
/// above its own cgroup, and sees the delegated one below it.
fn cgroups_in_order(plan: &Plan) -> Result<(), String> {
    let order = [
        at(plan, |what| *what == What::Request(Request::Cgroup)),
        at(plan, unshares_cgroup),
        at(plan, |what| *what == What::Request(Request::Delegate)),
    ];
    before(plan, "cgroup", &order[0][..order[0].len().min(1)], &order[1])?;
    before(plan, "cgroup namespace", &order[1], &order[2])?;
    before(plan, "cgroup", &order[0][..order[0].len().min(1)], &order[2])
}

/// The root file system has a /proc of its own, which may lead anywhere (CVE-2025-52881).
fn sysctl_before_pivot(plan: &Plan) -> Result<(), String> {
    before(plan, "sysctl", &at(plan, |what| matches!(what, What::Sysctl { .. })), &at(plan, pivot))
}

/// setgroups(2) needs CAP_SETGID, which the process loses with uid 0.
fn groups_before_ids(plan: &Plan) -> Result<(), String> {
    let (groups, ids) = (at(plan, |what| matches!(what, What::Groups(_))), at(plan, ids));
    // An ordinary user may keep her own groups: then nothing changes them.
    let kept = at(plan, |what| *what == What::BecomeRoot(CallersGroups::Kept)).len();
    if !runs_nothing(plan) && (groups.len() + kept, ids.len()) != (1, 1) {
        return Err(format!("setgroups {groups:?}, setresuid {ids:?}: each is done, and once"));
    }
    before(plan, "groups", &groups, &ids)
}

/// `Chdir` checks that the working directory is inside the root (CVE-2024-21626). So it is the last change of the
/// directory.
fn cwd_is_checked(plan: &Plan) -> Result<(), String> {
    let unchecked = at(plan, |what| matches!(what, What::TryChdir(_)) || pivot(what));
    let checked = at(plan, |what| matches!(what, What::Chdir(_)));
    if !runs_nothing(plan) && checked.len() != 1 {
        return Err(format!("{} checked changes of directory", checked.len()));
    }
    before(plan, "cwd", &unchecked, &checked)?;
    before(plan, "cwd as the user", &at(plan, ids), &checked)
}

/// A path of the host has another meaning after the root has changed. So files of the host are descriptors by then.
fn no_host_path_after_pivot(plan: &Plan) -> Result<(), String> {
    let by_path = |what: &What| match what.writes() {
        // The container's own `/`: it is a mount by then, and cannot be another one.
        Writes::Path(path) => path != c"/",
        // The host's /proc is closed by then, and it is not the container's.
        Writes::HostProc(_) => true,
        Writes::Nothing | Writes::Inside(_) => false,
    };
    let host =
        at(plan, |what| by_path(what) || matches!(what, What::Find(_) | What::Copy(..)) || container_hooks(what));
    before(plan, "paths of the host", &host, &at(plan, pivot))
}

/// Nodes, mount points and the working directory are made before the root becomes read-only.
fn read_only_last(plan: &Plan) -> Result<(), String> {
    let makes = at(plan, |what| {
        matches!(what.writes(), Writes::Inside(_))
            && !covers(what)
            && !matches!(what, What::Finish { .. } | What::Console(_))
    });
    before(plan, "read-only", &makes, &at(plan, closes_root))
}
