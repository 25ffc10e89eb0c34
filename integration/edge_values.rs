//! Unusual values, each compared with runc. coracle accepts the values that runc accepts, unless the specification forbids
//! them. The table has the reason for each difference.

use serde_json::{Value, json};

use crate::world::{Who, World, who};

/// Whether a container with this value runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Runs,
    Refused,
}
use Expected::{Refused, Runs};

/// A pointer into config.json, the value there (null removes it), the result of coracle, the result of runc 1.1, and
/// the reason if these differ.
type Row = (&'static str, Value, Expected, Expected, &'static str);

#[expect(clippy::too_many_lines, reason = "a table")]
fn table() -> Vec<Row> {
    let forbidden = "the specification forbids it";
    vec![
        ("/ociVersion", json!("1.0"), Runs, Runs, ""),
        ("/process/user", Value::Null, Runs, Runs, ""),
        ("/process/user", json!({}), Runs, Runs, ""),
        ("/process/user", json!({"umask": 4096}), Runs, Runs, ""),
        ("/process/user", json!([0, 0]), Refused, Refused, ""),
        ("/process/user", json!({"uid": 0.0, "gid": 0}), Refused, Refused, ""),
        ("/process/args", json!([""]), Refused, Refused, ""),
        ("/process/args", json!([]), Refused, Refused, ""),
        ("/process/cwd", json!(""), Refused, Refused, ""),
        ("/process/env", json!(["X"]), Refused, Refused, ""),
        ("/process/env", json!(["=X"]), Refused, Refused, ""),
        ("/process/capabilities", Value::Null, Runs, Runs, ""),
        ("/process/capabilities", json!(["CAP_KILL"]), Refused, Refused, ""),
        ("/process/scheduler", json!({"policy": "SCHED_IDLE", "nice": 5}), Runs, Runs, ""),
        (
            "/process/scheduler",
            json!({"policy": "SCHED_OTHER", "nice": 20}),
            Refused,
            Runs,
            "runc refuses it since 1.2",
        ),
        ("/process/rlimits", json!([{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}]), Refused, Refused, ""),
        (
            "/process/rlimits",
            json!([{"type": "RLIMIT_CORE", "soft": 1, "hard": 1}, {"type": "RLIMIT_CORE", "soft": 1, "hard": 1}]),
            Refused,
            Runs,
            forbidden,
        ),
        ("/process/oomScoreAdj", json!(1001), Refused, Refused, ""),
        ("/root", json!(["rootfs", false]), Refused, Refused, ""),
        ("/linux", json!([]), Refused, Refused, ""),
        ("/linux/uidMappings", json!([{"containerID": 0, "hostID": 100_000, "size": 1000}]), Runs, Runs, ""),
        ("/linux/rootfsPropagation", json!(""), Runs, Runs, ""),
        ("/linux/seccomp", json!({}), Runs, Runs, ""),
        ("/linux/seccomp", json!({"defaultAction": ""}), Runs, Runs, ""),
        (
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"name": "mkdir", "action": "SCMP_ACT_ERRNO"}]}),
            Refused,
            Runs,
            "runc leaves the rule out without a word, and the specification asks for names",
        ),
        ("/linux/maskedPaths", json!(["proc/kcore"]), Refused, Runs, forbidden),
        ("/linux/readonlyPaths", json!(["proc/sys"]), Refused, Runs, forbidden),
        ("/linux/personality", json!({"domain": "LINUX", "flags": ["X"]}), Runs, Runs, ""),
        ("/hooks/prestart", json!([{"path": "/bin/true", "timeout": 0}]), Refused, Refused, ""),
        ("/hooks/prestart", json!([{"path": "true"}]), Refused, Refused, ""),
        ("/hostname", json!("a".repeat(65)), Refused, Refused, ""),
        ("/linux/sysctl", json!({"kernel.hostname": "x"}), Refused, Refused, ""),
        ("/linux/sysctl", json!({"net.ipv4.nope": "1"}), Refused, Refused, ""),
        ("/linux/devices", json!([{"path": "/dev/ptmx", "type": "c", "major": 5, "minor": 2}]), Runs, Runs, ""),
        ("/linux/devices", json!([{"path": "/dev/x", "type": "", "major": 10, "minor": 229}]), Refused, Refused, ""),
        (
            "/linux/devices",
            json!([{"path": "/dev/x", "type": "c", "major": 1, "minor": 3, "uid": u32::MAX}]),
            Runs,
            Runs,
            "",
        ),
        (
            "/linux/devices",
            json!([{"path": "/dev/x", "type": "c", "major": 4096, "minor": 0}]),
            Refused,
            Runs,
            "the kernel makes another device; runc refuses it since 1.2",
        ),
        (
            "/linux/devices",
            json!([{"path": "/dev/x", "type": "c", "major": 1, "minor": 4_294_967_296_u64}]),
            Refused,
            Runs,
            "the kernel makes another device",
        ),
        ("/linux/devices", json!([{"path": "dev/x", "type": "c", "major": 1, "minor": 3}]), Refused, Runs, forbidden),
        (
            "/linux/devices",
            json!([{"path": "/dev/x", "type": "c", "major": 1, "minor": 3},
                {"path": "/dev/x", "type": "c", "major": 1, "minor": 5}]),
            Refused,
            Runs,
            forbidden,
        ),
        ("/linux/resources/devices", json!([{"allow": true, "type": "", "access": "rwm"}]), Runs, Runs, ""),
        (
            "/linux/resources/devices",
            json!([{"allow": true}, {"allow": false, "type": "c", "major": 10, "minor": 229, "access": "rw"}]),
            Runs,
            Refused,
            "runc asks for access",
        ),
        (
            "/linux/resources/devices",
            json!([{"allow": true, "access": "rwm"},
                {"allow": false, "type": "c", "major": 10, "minor": 229, "access": "rw"}]),
            Runs,
            Runs,
            "",
        ),
        (
            "/linux/resources/devices",
            json!([{"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwx"}]),
            Refused,
            Runs,
            forbidden,
        ),
        (
            "/mounts/5",
            json!({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro", "tmpcopyup"]}),
            Runs,
            Runs,
            "",
        ),
        (
            "/mounts/5",
            json!({"destination": "/mnt", "type": "cgroup2", "source": "cgroup", "options": ["nosuch"]}),
            Refused,
            Refused,
            "",
        ),
        (
            "/mounts/5",
            json!({"destination": "/sys", "type": "bind", "options": ["bind"]}),
            Refused,
            Runs,
            "runc binds the bundle, which nobody asks for",
        ),
        (
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 65536}]}),
            Refused,
            Runs,
            "the filter would say success",
        ),
        ("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1}), Refused, Runs, forbidden),
        (
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x"}),
            Refused,
            Runs,
            forbidden,
        ),
        ("/hooks/poststop", json!([{"path": "x"}]), Refused, Runs, forbidden),
        // -1 as an unsigned number means no value, and a number above what the kernel counts means no limit.
        ("/linux/resources/memory", json!({"swappiness": u64::MAX}), Runs, Runs, ""),
        ("/linux/resources/memory", json!({"swappiness": u64::MAX - 1}), Refused, Refused, ""),
        ("/linux/resources/memory", json!({"swap": i64::MAX}), Runs, Runs, ""),
        ("/linux/resources/memory", json!({"limit": i64::MAX, "swap": i64::MAX}), Runs, Runs, ""),
        ("/hooks/prestart", json!([{"path": "/bin/true", "timeout": 4_294_967_296_u64}]), Runs, Runs, ""),
    ]
}

#[test]
fn a_value_at_the_edge_is_run_or_refused_as_by_runc_or_for_a_reason() {
    crate::only!(Who::Us, Who::Runc; "the table is about runc");
    crate::needs_root!("the stock configuration has no user namespace");
    let rows = table();
    let mut differ = 0;
    for (pointer, value, us, runc, why) in &rows {
        assert_eq!(us == runc, why.is_empty(), "{pointer} {value}: a difference has a reason, and only a difference");
        differ += usize::from(us != runc);
        let mut world = World::running(&["true"]);
        match value {
            Value::Null => {
                let (parent, name) = pointer.rsplit_once('/').unwrap();
                world.at(parent).as_object_mut().unwrap().remove(name);
            }
            value => *world.at(pointer) = value.clone(),
        }
        let outcome = world.run();
        let expected = if who() == Who::Us { us } else { runc };
        let found = if outcome.status.success() { Runs } else { Refused };
        assert_eq!(found, *expected, "{pointer} {value}: {}", outcome.err);
        assert!(found == Runs || !outcome.err.is_empty(), "{pointer} {value}: no word");
    }
    println!("{} values at the edge, {differ} of them other than runc", rows.len());
}

/// Required properties and list items that are null: the pointer, the value, and the results of coracle, runc and crun.
/// runc reads null as the zero value of its type.
fn nulls() -> Vec<(&'static str, Value, [Expected; 3])> {
    let profile = |rule: Value| {
        let mut rule = rule;
        rule["action"] = json!("SCMP_ACT_ERRNO");
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})
    };
    let compare =
        |index: Value, op: Value| json!({"names": ["mkdir"], "args": [{"index": index, "value": 1, "op": op}]});
    vec![
        ("/ociVersion", Value::Null, [Refused, Runs, Refused]),
        ("/process/cwd", Value::Null, [Refused; 3]),
        ("/process/rlimits", json!([{"type": null, "soft": 0, "hard": 0}]), [Refused; 3]),
        ("/process/args/1", Value::Null, [Refused, Runs, Runs]),
        ("/process/user/additionalGids", json!([null]), [Refused, Runs, Refused]),
        ("/hooks/prestart", json!([{"path": null}]), [Refused; 3]),
        ("/linux/namespaces/0/type", Value::Null, [Refused; 3]),
        ("/linux/devices", json!([{"path": "/dev/x", "type": null, "major": 1, "minor": 3}]), [Refused; 3]),
        ("/linux/devices", json!([{"path": null, "type": "c", "major": 1, "minor": 3}]), [Refused, Runs, Refused]),
        ("/linux/seccomp", profile(json!({"names": null})), [Refused, Runs, Refused]),
        ("/linux/seccomp", profile(compare(Value::Null, json!("SCMP_CMP_EQ"))), [Refused, Runs, Runs]),
        ("/linux/seccomp", profile(compare(json!(0), Value::Null)), [Refused; 3]),
        ("/linux/maskedPaths", json!([null]), [Refused, Runs, Runs]),
        ("/annotations", json!({"a": null}), [Refused, Runs, Refused]),
    ]
}

#[test]
fn a_property_that_is_null_is_one_that_is_not_there() {
    crate::needs_root!("the stock configuration has no user namespace");
    let mut world = World::running(&["sh", "-c", "true | true && ulimit -c && stat -c %t:%T:%a /dev/x && id"]);
    for (pointer, value) in [
        ("/process/user", json!({"uid": null, "gid": null, "umask": null, "additionalGids": null})),
        ("/process/consoleSize", json!({"height": null, "width": null})),
        ("/process/rlimits", json!([{"type": "RLIMIT_CORE", "soft": null, "hard": null}])),
        ("/process/capabilities/ambient", Value::Null),
        ("/process/oomScoreAdj", Value::Null),
        ("/hooks", json!({"prestart": [{"path": "/bin/true", "args": null, "env": null, "timeout": null}]})),
        ("/linux/devices", json!([{"path": "/dev/x", "type": "p", "major": null, "minor": null, "fileMode": 0o600}])),
        ("/linux/seccomp", Value::Null),
        ("/linux/sysctl", Value::Null),
        ("/linux/cgroupsPath", Value::Null),
    ] {
        *world.at(pointer) = value;
    }
    world.config["linux"]["resources"] = json!({
        "devices": [{"allow": null, "type": null, "major": null, "minor": null, "access": "rwm"}],
        "memory": {"limit": null, "swappiness": null}, "cpu": {"shares": null, "cpus": null},
        "pids": {"limit": null}, "blockIO": {"weight": null, "throttleReadBpsDevice": null},
    });
    let ran = world.run();
    assert_eq!(ran.code(), 0, "{}", ran.err);
    assert_eq!(ran.out.lines().collect::<Vec<_>>()[..2], ["0", "0:0:600"], "{}", ran.out);
}

#[test]
fn a_null_that_has_no_zero_value_is_refused() {
    crate::needs_root!("the stock configuration has no user namespace");
    let rows = nulls();
    for (pointer, value, expected) in &rows {
        let mut world = World::running(&["echo", "x"]);
        *world.at(pointer) = value.clone();
        let outcome = world.run();
        let found = if outcome.status.success() { Runs } else { Refused };
        let which = match who() {
            Who::Us => 0,
            Who::Runc => 1,
            _ => 2,
        };
        assert_eq!(found, expected[which], "{pointer} {value}: {}", outcome.err);
    }
}
