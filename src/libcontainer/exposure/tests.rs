//! The configs of real engines, in small form (tests/exposure), in the order in which an expert sorts them.

use std::path::Path;

use super::*;
use crate::config;

/// From the tightest to the most open. The configs of one line are about as good as each other.
const ORDER: [&[&str]; 10] = [
    &["cri-restricted"],
    &["podman-rootless", "podman-userns-auto", "docker-userns-remap"],
    &["podman-default", "docker-default"],
    &["runc-spec", "cri-baseline"],
    &["docker-network-host"],
    &["docker-pid-host"],
    &["docker-unconfined-sys-ptrace"],
    &["docker-cap-sys-admin"],
    &["docker-socket"],
    &["docker-privileged", "node-debug"],
];

fn of(name: &str) -> Exposure {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/exposure").join(name).with_extension("json");
    let config =
        config::load(&std::fs::read(&place).unwrap_or_else(|error| panic!("{}: {error}", place.display()))).unwrap();
    assert!(config.faults.is_empty(), "{name}: {}", config.faults);
    exposure(&config.spec)
}

#[test]
fn configs_of_engines_are_sorted_as_an_expert_sorts_them() {
    let scores: Vec<Vec<(&str, f64)>> =
        ORDER.iter().map(|names| names.iter().map(|name| (*name, of(name).score())).collect()).collect();
    for pair in scores.windows(2) {
        let most = pair[0].iter().map(|(_, score)| *score).fold(0.0, f64::max);
        let least = pair[1].iter().map(|(_, score)| *score).fold(10.0, f64::min);
        assert!(most < least, "{:?} is not tighter than {:?}:\n{scores:#?}", pair[0], pair[1]);
    }
    let files = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/exposure")).unwrap().count();
    assert_eq!(files, ORDER.concat().len());
}

#[test]
fn the_words_are_those_that_their_users_expect() {
    for (name, word) in [
        ("cri-restricted", "tight"),
        ("podman-rootless", "tight"),
        ("docker-default", "ordinary"),
        ("cri-baseline", "exposed"),
        ("docker-socket", "open"),
        ("docker-privileged", "open"),
    ] {
        assert_eq!(of(name).word(), word, "{name}: {}", of(name).score());
    }
}

#[test]
fn the_worst_finding_is_the_one_that_the_flag_made() {
    for (name, place, what) in [
        ("docker-socket", "mounts[7].source", "/var/run/docker.sock obeys whoever connects"),
        ("docker-cap-sys-admin", "process.capabilities", "CAP_SYS_ADMIN is beyond the usual set"),
        ("docker-pid-host", "linux.namespaces", "the pid namespace is the host's"),
        ("docker-network-host", "linux.namespaces", "the network namespace is the host's"),
        ("runc-spec", "linux.seccomp", "is not set"),
        ("cri-baseline", "linux.seccomp", "is not set"),
    ] {
        let worst = of(name).findings.remove(0);
        assert_eq!((worst.at.as_str(), worst.what.as_str()), (place, what), "{name}");
    }
}

#[test]
fn every_finding_says_all_that_it_should() {
    for name in ORDER.concat() {
        for found in of(name).findings {
            let texts = [found.at.as_str(), &found.what, &found.gain, &found.change];
            assert!(texts.iter().all(|text| !text.is_empty() && !text.ends_with('.')), "{name}: {found:?}");
            assert!((1..100).contains(&found.weight), "{name}: {found:?}");
        }
    }
}

#[test]
fn one_change_to_a_config_is_one_finding() {
    let base =
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/exposure/docker-default.json")).unwrap();
    let base: serde_json::Value = serde_json::from_slice(&base).unwrap();
    let score = |value: &serde_json::Value| exposure(&config::load(value.to_string().as_bytes()).unwrap().spec);
    let before = score(&base);
    let bind = |source: &str, options: &[&str]| serde_json::json!({"destination": "/x", "type": "bind", "source": source, "options": options});
    let mounts = [
        ("/etc", vec!["rbind"], Risk::Critical),
        ("/etc", vec!["rbind", "ro"], Risk::High),
        ("/etc/ssl/../ssl/certs", vec!["bind", "ro"], Risk::Medium),
        ("/", vec!["rbind"], Risk::Critical),
        ("/run/containerd/containerd.sock", vec!["bind", "ro"], Risk::Critical),
        ("/run", vec!["bind", "ro"], Risk::Critical),
        ("/var/lib/kubelet", vec!["bind"], Risk::Critical),
    ];
    for (source, options, risk) in mounts {
        let mut changed = base.clone();
        let n = changed["mounts"].as_array().unwrap().len();
        changed["mounts"].as_array_mut().unwrap().push(bind(source, &options));
        let after = score(&changed);
        assert_eq!(after.findings.len(), before.findings.len() + 1, "{source}");
        let new = after.findings.iter().find(|found| found.at.as_str() == format!("mounts[{n}].source")).unwrap();
        assert_eq!(new.risk, risk, "{source} {options:?}: {new:?}");
        assert!(after.score() > before.score());
    }
    // volumes of an engine, and directories of one's own
    for source in ["/var/lib/docker/volumes/a/_data", "/data", "rel"] {
        let mut changed = base.clone();
        changed["mounts"].as_array_mut().unwrap().push(bind(source, &["bind"]));
        assert_eq!(score(&changed), before, "{source}");
    }
}

#[test]
fn rules_for_devices_are_read_in_their_order() {
    let base =
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/exposure/docker-default.json")).unwrap();
    let base: serde_json::Value = serde_json::from_slice(&base).unwrap();
    let of = |rules: serde_json::Value| {
        let mut changed = base.clone();
        changed["linux"]["resources"]["devices"] = rules;
        let found = exposure(&config::load(changed.to_string().as_bytes()).unwrap().spec).findings;
        let mut found = found.into_iter().filter(|found| found.at.as_str().starts_with("linux.resources.devices"));
        found.next().map(|found| (found.at.as_str().to_owned(), found.risk))
    };
    let at = |place: &str, risk| Some((format!("linux.resources.devices{place}"), risk));
    let (all, none) =
        (serde_json::json!({"allow": true, "access": "rwm"}), serde_json::json!({"allow": false, "access": "rwm"}));
    let disk = serde_json::json!({"allow": true, "type": "b", "major": 8, "access": "r"});
    assert_eq!(of(serde_json::json!([none])), None);
    assert_eq!(of(serde_json::json!([all, none])), None);
    assert_eq!(of(serde_json::json!([none, all])), at("[1]", Risk::Critical));
    assert_eq!(of(serde_json::json!([none, disk])), at("[1]", Risk::High));
    assert_eq!(of(serde_json::json!([disk, none])), None);
    assert_eq!(of(serde_json::json!([])), at("", Risk::High));
}

#[test]
fn mounts_are_read_as_the_runtime_reads_them() {
    let of = |mounts: serde_json::Value, annotations: serde_json::Value| {
        let document = serde_json::json!({"ociVersion": "1.2.0", "root": {"path": "rootfs"}, "process": {"cwd": "/",
            "args": ["x"], "user": {"uid": 0, "gid": 0}}, "mounts": mounts, "annotations": annotations});
        exposure(&config::load(document.to_string().as_bytes()).unwrap().spec).findings
    };
    let says = |options: &[&str], source: &str| {
        let mount = serde_json::json!([{"destination": "/x", "source": source, "options": options}]);
        let found =
            of(mount, serde_json::json!({})).into_iter().find(|found| found.at.to_string() == "mounts[0].source");
        found.map(|found| found.what).unwrap_or_default()
    };
    assert_eq!(says(&["rbind,rw"], "/etc"), "/etc of the host is mounted");
    assert_eq!(says(&["nosuid,rbind,ro"], "/etc"), "/etc of the host is mounted read-only");
    assert_eq!(says(&["bind"], "../../../etc"), "/etc of the host is mounted");
    assert_eq!(says(&["bind"], "rootfs/../../data"), "rootfs/../../data leads out of the bundle");
    assert!(says(&["bind"], "../../run/docker.sock").contains("obeys whoever connects"));
    for (options, source) in [(&["bind"], "data/../etc"), (&["remount,bind"], "/etc"), (&["nosuid"], "/etc")] {
        assert_eq!(says(options, source), "", "{options:?} {source}");
    }
    let places = |annotations| of(serde_json::json!([]), annotations).into_iter().map(|found| found.at.to_string());
    assert!(places(serde_json::json!({})).any(|at| at == "linux.seccomp"));
    assert!(places(serde_json::json!({"run.oci.seccomp_bpf_data": "AA=="})).all(|at| at != "linux.seccomp"));
}
