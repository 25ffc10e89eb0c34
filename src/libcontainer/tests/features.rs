//! For each Cargo feature: the message of a build without it. With the feature, the same config has a plan:
//! `cargo test -p coracle-libcontainer --test features [--no-default-features]`.
#![allow(clippy::unwrap_used)] // a failed unwrap fails the test

use std::fs;

use libcontainer::config::example::{ExampleUser, spec};
use libcontainer::{Bundle, CgroupUse, Manager};
use serde_json::{Value, json};

/// What needs a feature.
struct Needs {
    /// Whether this build has it.
    built: bool,
    /// A change to `linux` or `annotations` of config.json.
    change: (&'static str, Value),
    cgroup: CgroupUse,
    /// What `explain` says without the feature.
    refused: &'static str,
}

#[test]
fn what_needs_a_missing_feature_is_refused_before_anything_is_made() {
    let (seccomp, systemd) = (cfg!(feature = "seccomp"), cfg!(feature = "systemd"));
    let allow_all = json!({"defaultAction": "SCMP_ACT_ALLOW"});
    // one instruction, which allows every call (SECCOMP_RET_ALLOW)
    let program = json!({"run.oci.seccomp_bpf_data": "BgAAAAAA/38="});
    let table = [
        Needs {
            built: seccomp,
            change: ("/linux/seccomp", allow_all),
            cgroup: CgroupUse::Own,
            refused: "linux.seccomp: this build has no seccomp",
        },
        Needs {
            built: seccomp,
            change: ("/annotations", program),
            cgroup: CgroupUse::Own,
            refused: "annotations[\"run.oci.seccomp_bpf_data\"]: this build has no seccomp",
        },
        Needs {
            built: systemd,
            change: ("/linux/cgroupsPath", json!("machine.slice:coracle:box")),
            cgroup: CgroupUse::Unit(Manager::System),
            refused: "CgroupUse::Unit: this build has no systemd",
        },
        Needs {
            built: systemd,
            change: ("/linux/cgroupsPath", json!("user.slice:coracle:box")),
            cgroup: CgroupUse::Unit(Manager::User),
            refused: "CgroupUse::Unit: this build has no systemd",
        },
    ];
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("rootfs")).unwrap();
    for Needs { built, change: (place, value), cgroup, refused } in table {
        let mut config: Value = serde_json::from_str(&spec(ExampleUser::Rootful)).unwrap();
        config["linux"]["seccomp"] = Value::Null;
        let (parent, name) = place.rsplit_once('/').unwrap();
        config.pointer_mut(parent).unwrap()[name] = value;
        fs::write(directory.path().join("config.json"), config.to_string()).unwrap();
        let explained = Bundle::read(directory.path()).unwrap().explain(cgroup);
        match explained {
            Ok(plan) => assert!(built && !plan.lines().is_empty(), "{place}: not refused"),
            Err(error) => assert!(!built && error.to_string().ends_with(refused), "{place}: {error}"),
        }
    }
}

#[test]
fn features_names_what_this_build_has() {
    let features = serde_json::to_value(libcontainer::features()).unwrap();
    let built = |place: &str| features.pointer(place).unwrap().clone();
    assert_eq!(built("/linux/seccomp/enabled"), cfg!(feature = "seccomp"));
    assert_eq!(built("/linux/seccomp/archs").as_array().unwrap().is_empty(), !cfg!(feature = "seccomp"));
    assert_eq!(built("/linux/cgroup/systemd"), cfg!(feature = "systemd"));
    let checkpoint = built("/annotations/org.opencontainers.runc.checkpoint.enabled");
    assert_eq!(checkpoint, cfg!(feature = "checkpoint").to_string());
}
