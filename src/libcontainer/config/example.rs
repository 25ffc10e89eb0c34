//! The config.json that `spec` writes.

use serde_json::{Value, json};

/// The user of the example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExampleUser {
    /// Root on cgroup v1, or on an unknown version.
    Rootful,
    /// Root on cgroup v2, with a cgroup namespace.
    RootfulUnified,
    /// An ordinary user with these ids.
    Rootless(u32, u32),
}

const CAPABILITIES: [&str; 3] = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
const MASKED: [&str; 10] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
    "/proc/scsi",
];
const READONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The text, indented with tabs.
pub fn spec(kind: ExampleUser) -> String {
    tabbed(&document(kind))
}

/// The document.
pub fn document(kind: ExampleUser) -> Value {
    let mut namespaces = vec!["pid", "ipc", "uts", "mount"];
    match kind {
        ExampleUser::Rootful => namespaces.insert(1, "network"),
        ExampleUser::RootfulUnified => {
            namespaces.insert(1, "network");
            namespaces.push("cgroup");
        }
        ExampleUser::Rootless(..) => namespaces.push("user"),
    }
    let mut linux = json!({
        "namespaces": namespaces.iter().map(|kind| json!({"type": kind})).collect::<Vec<_>>(),
        "maskedPaths": MASKED,
        "readonlyPaths": READONLY,
    });
    match kind {
        ExampleUser::Rootful | ExampleUser::RootfulUnified => {
            linux["resources"] = json!({"devices": [{"allow": false, "access": "rwm"}]});
        }
        ExampleUser::Rootless(uid, gid) => {
            linux["uidMappings"] = json!([{"containerID": 0, "hostID": uid, "size": 1}]);
            linux["gidMappings"] = json!([{"containerID": 0, "hostID": gid, "size": 1}]);
        }
    }
    json!({
        "ociVersion": super::SPEC_VERSION,
        "process": process(),
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "coracle",
        "mounts": mounts(kind),
        "linux": linux,
    })
}

fn process() -> Value {
    json!({
        "terminal": true,
        "user": {"uid": 0, "gid": 0},
        "args": ["sh"],
        "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
        "cwd": "/",
        "capabilities": {"bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES},
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
        "noNewPrivileges": true,
    })
}

fn mounts(kind: ExampleUser) -> Value {
    let rootless = matches!(kind, ExampleUser::Rootless(..));
    let mut pts = vec!["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    if !rootless {
        pts.push("gid=5");
    }
    let sys = if rootless {
        // A new sysfs needs a network namespace of its own.
        json!({"destination": "/sys", "type": "none", "source": "/sys",
            "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]})
    } else {
        json!({"destination": "/sys", "type": "sysfs", "source": "sysfs",
            "options": ["nosuid", "noexec", "nodev", "ro"]})
    };
    json!([
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": pts},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
            "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
            "options": ["nosuid", "noexec", "nodev"]},
        sys,
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
            "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]},
    ])
}

/// As `spec` writes it.
pub fn tabbed(document: &Value) -> String {
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    // JSON that was just made in memory can be serialized.
    let _ = serde::Serialize::serialize(document, &mut serializer);
    text.push(b'\n');
    String::from_utf8(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_example_of_the_repository_is_this_one() {
        assert_eq!(include_str!("../../../config.json.example"), super::spec(super::ExampleUser::Rootful));
    }
}
