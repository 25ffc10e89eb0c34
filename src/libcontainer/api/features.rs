//! The features of this library, in the form of features.md of the specification. It lists only what is implemented.

use std::collections::BTreeMap;

use serde::Serialize;

use super::signal::STOP_SIGNAL;
use crate::config::{SPEC_VERSION, capability};
use crate::plan::{LANDLOCK, annotations, mount_options, resources, seccomp};
use crate::sys;

/// The commit that this library was built from. `unknown` in a test build, or in a build of an unpacked archive.
pub const COMMIT: &str = env!("CORACLE_COMMIT");

/// The features of this library. Serialized, this is the features structure of the specification (features.md).
///
/// ```
/// let features = libcontainer::features();
/// assert!(features.hooks.contains(&"createRuntime"));
/// assert_eq!(serde_json::to_value(&features).unwrap()["ociVersionMin"], "1.0.0");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Features {
    /// The oldest version of the specification that a config may name.
    pub oci_version_min: &'static str,
    /// The newest one.
    pub oci_version_max: &'static str,
    /// The hooks.
    pub hooks: &'static [&'static str],
    /// The mount options.
    pub mount_options: Vec<String>,
    /// The Linux features.
    pub linux: LinuxFeatures,
    /// The versions of the parts, and whether checkpoint is available.
    pub annotations: BTreeMap<&'static str, String>,
    /// The annotations that change the container, so they must not come from an untrusted author. An annotation that
    /// ends with a dot stands for all with this prefix.
    pub potentially_unsafe_config_annotations: &'static [&'static str],
}

/// `linux`.
///
/// ```
/// let linux = libcontainer::features().linux;
/// assert!(linux.namespaces.contains(&"time") && linux.capabilities.iter().any(|name| name == "CAP_BPF"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct LinuxFeatures {
    /// The types of namespaces.
    pub namespaces: &'static [&'static str],
    /// The capabilities that the kernel may know.
    pub capabilities: Vec<String>,
    /// Control groups.
    pub cgroup: CgroupFeatures,
    /// Seccomp filters.
    pub seccomp: SeccompFeatures,
    /// AppArmor profiles.
    pub apparmor: Enabled,
    /// SELinux labels.
    pub selinux: Enabled,
    /// Intel RDT.
    pub intel_rdt: IntelRdtFeatures,
    /// NUMA memory policies.
    pub memory_policy: MemoryPolicy,
    /// The extensions of mounts.
    pub mount_extensions: MountExtensions,
    /// Network devices that are moved into the container.
    pub net_devices: Enabled,
}

/// A feature that is available or not.
///
/// ```
/// let devices = libcontainer::features().linux.net_devices;
/// assert!(devices.enabled);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Enabled {
    /// Whether it is available.
    pub enabled: bool,
}

/// `linux.cgroup`.
///
/// ```
/// let cgroup = libcontainer::features().linux.cgroup;
/// assert!(cgroup.v1 && cgroup.v2);
/// assert_eq!(cgroup.systemd, cfg!(feature = "systemd"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct CgroupFeatures {
    /// Version 1.
    pub v1: bool,
    /// Version 2.
    pub v2: bool,
    /// The systemd cgroup driver.
    pub systemd: bool,
    /// The same, with the systemd of an ordinary user.
    pub systemd_user: bool,
    /// The controller of RDMA.
    pub rdma: bool,
}

/// `linux.seccomp`.
///
/// ```
/// let seccomp = libcontainer::features().linux.seccomp;
/// // The kernel may be older than this library.
/// assert!(seccomp.supported_flags.iter().all(|flag| seccomp.known_flags.contains(flag)));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct SeccompFeatures {
    /// Whether this build supports seccomp.
    pub enabled: bool,
    /// The actions of a filter.
    pub actions: &'static [&'static str],
    /// The operators of its conditions.
    pub operators: &'static [&'static str],
    /// The architectures.
    pub archs: Vec<&'static str>,
    /// The flags that this library knows.
    pub known_flags: &'static [&'static str],
    /// The flags that this kernel accepts, too.
    pub supported_flags: Vec<&'static str>,
}

/// `linux.intelRdt`.
///
/// ```
/// let rdt = libcontainer::features().linux.intel_rdt;
/// assert!(rdt.enabled && rdt.schemata && rdt.monitoring);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct IntelRdtFeatures {
    /// Whether it is available.
    pub enabled: bool,
    /// `linux.intelRdt.schemata`.
    pub schemata: bool,
    /// `linux.intelRdt.enableMonitoring`.
    pub monitoring: bool,
}

/// `linux.memoryPolicy`.
///
/// ```
/// let policy = libcontainer::features().linux.memory_policy;
/// assert!(policy.modes.contains(&"MPOL_BIND"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct MemoryPolicy {
    /// The modes (set_mempolicy(2)).
    pub modes: &'static [&'static str],
    /// Their flags.
    pub flags: &'static [&'static str],
}

/// `linux.mountExtensions`.
///
/// ```
/// let extensions = libcontainer::features().linux.mount_extensions;
/// assert!(extensions.idmap.enabled);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct MountExtensions {
    /// Mounts with mapped user and group ids (mount_setattr(2)).
    pub idmap: Enabled,
}

/// The features of this library on this kernel, with its Cargo features.
///
/// ```
/// let features = libcontainer::features();
/// assert!(features.linux.cgroup.v2);
/// assert_eq!(features.linux.seccomp.enabled, cfg!(feature = "seccomp"));
/// ```
pub fn features() -> Features {
    Features {
        oci_version_min: "1.0.0",
        oci_version_max: SPEC_VERSION,
        hooks: &["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        mount_options: mount_options::known_options(),
        linux: linux(),
        annotations: own_annotations(),
        // runc uses "bundle" for a label of its own in state.json
        potentially_unsafe_config_annotations: &[
            "bundle",
            STOP_SIGNAL,
            resources::annotations::PREFIX,
            annotations::SECCOMP_RECEIVER,
            LANDLOCK,
            annotations::KEEP_GROUPS,
            annotations::HOOKS_STDOUT,
            annotations::HOOKS_STDERR,
            annotations::PIDFD_RECEIVER,
            annotations::FAIL_UNKNOWN_SYSCALL,
            annotations::BPF_DATA,
            annotations::MOUNT_CONTEXT_TYPE,
            annotations::TIME_OFFSET,
            annotations::SUBGROUP,
            annotations::DELEGATE_CGROUP,
        ],
    }
}

fn linux() -> LinuxFeatures {
    let yes = Enabled { enabled: true };
    let systemd = cfg!(feature = "systemd");
    LinuxFeatures {
        namespaces: &["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
        capabilities: capability::known(),
        cgroup: CgroupFeatures { v1: true, v2: true, systemd, systemd_user: systemd, rdma: true },
        seccomp: seccomp_features(),
        apparmor: yes,
        selinux: yes,
        intel_rdt: IntelRdtFeatures { enabled: true, schemata: true, monitoring: true },
        memory_policy: MemoryPolicy {
            modes: &[
                "MPOL_DEFAULT",
                "MPOL_BIND",
                "MPOL_INTERLEAVE",
                "MPOL_WEIGHTED_INTERLEAVE",
                "MPOL_PREFERRED",
                "MPOL_PREFERRED_MANY",
                "MPOL_LOCAL",
            ],
            flags: &["MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"],
        },
        mount_extensions: MountExtensions { idmap: yes },
        net_devices: yes,
    }
}

fn own_annotations() -> BTreeMap<&'static str, String> {
    let mut all = BTreeMap::from([
        ("io.coracle.commit", COMMIT.to_owned()),
        ("io.coracle.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("org.opencontainers.runc.checkpoint.enabled", cfg!(feature = "checkpoint").to_string()),
    ]);
    all.extend(seccomp::library_version().map(|version| ("io.github.seccomp.libseccomp.version", version)));
    all
}

fn seccomp_features() -> SeccompFeatures {
    let accepted = seccomp::known_flags().iter().copied().filter(|name| sys::seccomp::takes_flag(name));
    SeccompFeatures {
        enabled: cfg!(feature = "seccomp"),
        actions: seccomp::known_actions(),
        operators: seccomp::known_operators(),
        archs: seccomp::known_archs(),
        known_flags: seccomp::known_flags(),
        supported_flags: accepted.collect(),
    }
}
