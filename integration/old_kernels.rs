//! System calls that an older kernel lacks, or that a profile around the runtime hides (Docker's, an engine's). For
//! each `KERNEL()` tag of the sources, the call fails with ENOSYS, then with EPERM. Either the runtime works without
//! the call (docs/kernel.md), or the message says what is missing. `tests/spec.rs` compares this table with the tags.

use std::os::unix::process::CommandExt;
use std::process::Command;

use libcontainer::internals::{Program, load};
use libseccomp::{ScmpAction, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use serde_json::json;

use crate::ordinary;
use crate::world::{Outcome, Who, World, finish};
use crate::{needs, only};

/// The result without the call.
enum Without {
    /// The same as with the call.
    Works,
    /// A failure whose message contains this.
    Says(&'static str),
}
use Without::{Says, Works};

/// One tag: version, file, the call, the argument that decides (number, mask, value), the operation, and its results
/// when the call fails with ENOSYS and with EPERM.
type Row =
    (&'static str, &'static str, &'static str, Option<(u32, u64, u64)>, fn(&mut World, Hide) -> Outcome, [Without; 2]);

/// The command with these arguments, with the call hidden.
type Hide<'a> = &'a dyn Fn(&World, &[&str]) -> Outcome;

/// The message of a step whose call is missing.
const MISSING: Without = Says("a call of Linux 5.12 is missing");
const MOUNT: Without = Says("mounts[0]: mount proc on /proc: operation not permitted (EPERM)");
const ROOT: Without = Says("root.path: mount ");
const SIGNAL: Without = Says("signal 9: ");
const SCORE: Without = Says("process.oomScoreAdj: ");
const FILTER: Without = Says("linux.seccomp: ");
const NO_LANDLOCK: Without = Says("this kernel has no Landlock, or it is not enabled");

const ROWS: [Row; 21] = [
    ("5.3", "sys/clone.rs", "clone3", None, run, [Works, Says("linux.namespaces: clone ")]),
    ("5.1", "sys/signals.rs", "pidfd_send_signal", None, kill, [SIGNAL, SIGNAL]),
    ("5.2", "init/mounts.rs", "fsopen", None, run, [MISSING, MOUNT]),
    ("5.2", "init/mounts.rs", "fsconfig", None, run, [MISSING, MOUNT]),
    ("5.2", "init/mounts.rs", "fsmount", None, run, [MISSING, MOUNT]),
    ("5.2", "init/mounts.rs", "move_mount", None, run, [MISSING, ROOT]),
    ("5.4", "launch/child.rs", "waitid", None, run, [Says("wait: "), Says("wait: ")]),
    ("5.6", "init/resolve.rs", "openat2", None, run, [MISSING, MOUNT]),
    ("5.6", "sys/host_proc.rs", "openat2", None, score, [SCORE, SCORE]),
    ("5.8", "plan/entering.rs", "setns", None, exec, [MISSING, Says("linux.namespaces: setns ")]),
    ("5.12", "sys/mount.rs", "mount_setattr", None, run, [MISSING, ROOT]),
    ("5.9", "sys/fds.rs", "close_range", None, run, [Works, Works]),
    ("5.11", "sys/fds.rs", "close_range", Some((2, 4, 4)), run, [Works, Works]),
    ("5.11", "sys/fds.rs", "close_range", None, hooks, [Works, Works]),
    ("5.8", "init/exec.rs", "faccessat2", None, run, [Works, Works]),
    ("4.14", "plan/seccomp/names.rs", "seccomp", Some((1, 2, 2)), filter, [FILTER, FILTER]),
    ("4.17", "plan/seccomp/names.rs", "seccomp", Some((1, 4, 4)), filter, [FILTER, FILTER]),
    ("5.0", "plan/seccomp/names.rs", "seccomp", Some((1, 8, 8)), listener, [FILTER, FILTER]),
    ("5.19", "plan/seccomp/names.rs", "seccomp", Some((1, 32, 32)), listener, [FILTER, FILTER]),
    ("6.18", "init/pids.rs", "fsconfig", Some((1, !0, 5)), pids, [Works, Works]),
    ("5.13", "sys/landlock.rs", "landlock_create_ruleset", None, landlock, [NO_LANDLOCK, NO_LANDLOCK]),
];

/// Tags for something that is not a call, or for an argument in memory, which no filter can see: why there is no row.
const NO_CALL: [(&str, &str, &str); 15] = [
    ("4.10, 4.14", "plan/resctrl.rs", "a file system: tested with a made one (resctrl/tests.rs)"),
    ("4.10, 4.14", "resctrl/mod.rs", "a file system: tested with a made one (resctrl/tests.rs)"),
    ("6.8", "plan/mount_entry.rs", "the order of a text"),
    ("6.8", "sys/mount_id.rs", "a flag of statx(2)"),
    ("5.15", "plan/resources/unit_properties.rs", "a property of systemd"),
    ("5.15", "plan/resources/both_versions.rs", "a file of a cgroup"),
    ("5.14", "plan/resources/both_versions.rs", "a file of a cgroup"),
    ("5.7", "plan/resources/both_versions.rs", "a file of a cgroup"),
    ("5.8", "plan/labels.rs", "a file of /proc"),
    ("6.15", "init/mounts.rs", "a mount that open_tree(2) is given"),
    ("4.17", "cgroup/devices.rs", "bpf(2) on version 2, and its argument is in memory"),
    ("5.6", "cgroup/devices.rs", "bpf(2) on version 2, and its argument is in memory"),
    ("5.5", "cgroup/mod.rs", "how long a write takes"),
    ("5.14", "cgroup/kill.rs", "a file of a cgroup"),
    ("5.17", "cgroup/oom.rs", "a number in a file of a cgroup"),
];
/// The same for the clone and for mounts with id maps.
const NO_CALL_OF_LAUNCH: [(&str, &str, &str); 3] = [
    ("6.9", "launch/open.rs", "a flag of pidfd_open(2)"),
    ("5.7", "launch/clone.rs", "an argument of clone3(2) in memory"),
    ("5.17", "launch/mount_id_maps.rs", "a rule of mount_setattr(2)"),
];

fn run(world: &mut World, hide: Hide) -> Outcome {
    // The runtime itself makes no mount.
    *world.at("/linux/maskedPaths") = json!([]);
    world.write();
    hide(world, &["run", &world.id])
}

fn landlock(world: &mut World, hide: Hide) -> Outcome {
    world.config["annotations"] = json!({"org.coracle.landlock": r#"{"ruleset": [{"handledAccessFs": ["refer"]}]}"#});
    run(world, hide)
}

/// With a proc of a joined pid namespace.
fn pids(world: &mut World, hide: Hide) -> Outcome {
    let owner = World::running(&["sleep", "1000"]);
    owner.begin();
    world.namespace("pid", Some(&format!("/proc/{}/ns/pid", owner.pid())));
    *world.at("/process/args") = json!(["grep", "-qx", "sleep", "/proc/1/comm"]);
    world.write();
    hide(world, &["run", &world.id])
}

fn score(world: &mut World, hide: Hide) -> Outcome {
    *world.at("/process/oomScoreAdj") = json!(100);
    world.write();
    hide(world, &["run", &world.id])
}

fn kill(world: &mut World, hide: Hide) -> Outcome {
    world.create().ok();
    let outcome = hide(world, &["kill", &world.id, "KILL"]);
    world.call(&["delete", "--force", &world.id]).ok();
    outcome
}

fn exec(world: &mut World, hide: Hide) -> Outcome {
    *world.at("/process/args") = json!(["sleep", "1000"]);
    world.begin();
    let outcome = hide(world, &["exec", &world.id, "true"]);
    world.call(&["delete", "--force", &world.id]).ok();
    outcome
}

fn hooks(world: &mut World, hide: Hide) -> Outcome {
    world.config["hooks"] = json!({"startContainer": [{"path": "/bin/true"}]});
    world.write();
    hide(world, &["run", &world.id])
}

fn filter(world: &mut World, hide: Hide) -> Outcome {
    *world.at("/linux/seccomp") = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"],
        "syscalls": [{"names": ["swapon"], "action": "SCMP_ACT_ERRNO"}],
    });
    world.write();
    hide(world, &["run", &world.id])
}

fn listener(world: &mut World, hide: Hide) -> Outcome {
    let path = world.path("agent.sock");
    let _agent = crate::agent::Agent::at(&path, |_| crate::agent::Answer::Continue);
    *world.at("/linux/seccomp") = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": path,
        "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
        "syscalls": [{"names": ["swapon"], "action": "SCMP_ACT_NOTIFY"}],
    });
    world.write();
    hide(world, &["run", &world.id])
}

/// A filter that makes `call` fail with `errno`.
pub fn hiding(call: &str, argument: Option<(u32, u64, u64)>, errno: i32) -> Program {
    let mut scmp = ScmpFilterContext::new(ScmpAction::Allow).unwrap();
    scmp.set_ctl_nnp(false).unwrap();
    let syscall = ScmpSyscall::from_name(call).unwrap();
    let when: Vec<_> = argument
        .map(|(number, mask, value)| ScmpArgCompare::new(number, ScmpCompareOp::MaskedEqual(mask), value))
        .into_iter()
        .collect();
    scmp.add_rule_conditional(ScmpAction::Errno(errno), syscall, &when).unwrap();
    let mut file = tempfile::tempfile().unwrap();
    scmp.export_bpf(&file).unwrap();
    let mut bytes = Vec::new();
    std::io::Seek::rewind(&mut file).unwrap();
    std::io::Read::read_to_end(&mut file, &mut bytes).unwrap();
    Program::from_bytes(&bytes).unwrap()
}

/// Runs the command under the filter, as in a container or in an engine's service.
#[allow(unsafe_code)] // only one system call runs between fork and exec
pub fn under(mut command: Command, program: Program) -> Outcome {
    // SAFETY: the closure makes one system call, and accesses no memory except the filter's.
    unsafe { command.pre_exec(move || Ok(load(&program, 0).map(drop)?)) };
    finish(&mut command)
}

#[test]
fn a_hidden_call_is_replaced_or_reported() {
    only!(Who::Us; "each runtime has its own ways to do without");
    needs!(ordinary::root(), "to load a filter without no_new_privs takes root");
    let mut wrong = Vec::new();
    for (version, file, call, argument, does, endings) in ROWS {
        for (errno, ending) in [libc::ENOSYS, libc::EPERM].into_iter().zip(endings) {
            let mut world = World::running(&["true"]);
            let hide = |world: &World, args: &[&str]| under(world.command(args), hiding(call, argument, errno));
            let outcome = does(&mut world, &hide);
            let right = match ending {
                Works => outcome.code() == 0,
                Says(words) => outcome.code() != 0 && outcome.err.contains(words),
            };
            if !right {
                wrong.push(format!("{version} {file}: {call} {errno}: {} {}", outcome.code(), outcome.err));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(NO_CALL.iter().chain(&NO_CALL_OF_LAUNCH).all(|(.., why)| !why.is_empty()));
}

/// The process that opens a proc for us before Linux 6.18 has no descriptor to report on.
#[test]
fn a_proc_that_cannot_be_opened_in_a_joined_pid_namespace_is_reported_with_its_errno() {
    only!(Who::Us; "the message is coracle's");
    needs!(ordinary::root(), "to load a filter without no_new_privs takes root");
    let mut world = World::running(&["true"]);
    // the bridge and the parent of that process
    *world.at("/linux/resources/pids") = json!({"limit": 2});
    let hide =
        |world: &World, args: &[&str]| under(world.command(args), hiding("fsconfig", Some((1, !0, 5)), libc::ENOSYS));
    let outcome = pids(&mut world, &hide);
    let reason = "mounts[0]: mount proc on /proc: open it in the joined pid namespace (EAGAIN)";
    assert!(outcome.err.contains(reason), "{}", outcome.err);
}

#[test]
fn host_tells_which_call_is_hidden() {
    only!(Who::Us; "a command of coracle's");
    needs!(ordinary::root(), "to load a filter without no_new_privs takes root");
    let world = World::running(&["true"]);
    for (call, row, status) in [
        ("mount_setattr", "  missing  mount_setattr: no container can be made", 1),
        ("fsconfig", "  missing  fsopen, fspick, fsconfig, fsmount, open_tree, move_mount:", 1),
        ("unshare", "  missing  mount: unshare: ", 1),
        ("clone3", "  without  clone3: clone(2) is used", 0),
        ("close_range", "  without  close_range: descriptors are closed one by one", 0),
        ("faccessat2", "  without  faccessat2: start, not create", 0),
    ] {
        let said = under(world.command(&["host"]), hiding(call, None, libc::ENOSYS));
        assert_eq!(said.code(), status, "{call}: {}", said.out);
        assert!(said.out.contains(row) && said.out.contains("-> "), "{call}: {}", said.out);
    }
}
