//! `features`: prints what this runtime can do. It lists only what is implemented. SPEC: features.md.

use anyhow::Result;
use libcontainer::config::SPEC_VERSION;
use libcontainer::plan::{SECCOMP_RECEIVER, capabilities, mount_options, resources, seccomp};
use libcontainer::sys;
use serde::Serialize;
use serde_json::{Value, json};

use super::print;
use libcontainer::STOP_SIGNAL;

pub fn run() -> Result<()> {
    let document = json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": SPEC_VERSION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": mount_options::known_options(),
        "linux": linux(),
        "annotations": {
            "io.coracle.commit": libcontainer::COMMIT,
            "io.github.seccomp.libseccomp.version": seccomp::library_version(),
            "io.coracle.version": env!("CARGO_PKG_VERSION"),
            "org.opencontainers.runc.checkpoint.enabled": "true",
        },
        // runc uses "bundle" for a label of its own in state.json.
        "potentiallyUnsafeConfigAnnotations":
            ["bundle", STOP_SIGNAL, resources::annotations::PREFIX, SECCOMP_RECEIVER],
    });
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    document.serialize(&mut serde_json::Serializer::with_formatter(&mut text, formatter))?;
    text.push(b'\n');
    print(&String::from_utf8(text)?)
}

fn linux() -> Value {
    json!({
        "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
        "capabilities": capabilities::known(),
        "cgroup": {"v1": true, "v2": true, "systemd": true, "systemdUser": true, "rdma": true},
        "seccomp": {
            "enabled": true,
            "actions": seccomp::known_actions(),
            "operators": seccomp::known_operators(),
            "archs": seccomp::known_archs(),
            "knownFlags": seccomp::known_flags(),
            "supportedFlags": supported_flags(),
        },
        "apparmor": {"enabled": true},
        "selinux": {"enabled": true},
        "intelRdt": {"enabled": true, "schemata": true, "monitoring": true},
        "memoryPolicy": {
            "modes": ["MPOL_DEFAULT", "MPOL_BIND", "MPOL_INTERLEAVE", "MPOL_WEIGHTED_INTERLEAVE",
                "MPOL_PREFERRED", "MPOL_PREFERRED_MANY", "MPOL_LOCAL"],
            "flags": ["MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"],
        },
        "mountExtensions": {"idmap": {"enabled": true}},
        "netDevices": {"enabled": true},
    })
}

/// The filter flags that this kernel accepts, too.
fn supported_flags() -> Vec<&'static str> {
    seccomp::known_flags().iter().copied().filter(|name| sys::seccomp::takes_flag(name)).collect()
}
