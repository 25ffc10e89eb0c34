//! The configs of real engines, in small form (tests/exposure), in the order in which an expert sorts them.

use super::*;
use crate::config;

/// What a text exposes, on a host with the links `links`.
fn with_links(text: &[u8], links: &[(&str, &str)]) -> Exposure {
    let config = config::load(text).unwrap();
    assert!(config.faults.is_empty(), "{}", config.faults);
    let follow = |path: &Path| {
        let link = links.iter().find(|(from, _)| path.starts_with(from));
        link.map_or(path.to_owned(), |(from, to)| Path::new(to).join(path.strip_prefix(from).unwrap()))
    };
    exposure(&config.spec, Path::new("/b"), &follow)
}

fn exposure_in(text: &[u8]) -> Exposure {
    with_links(text, &[])
}

/// From the tightest to the most open. The configs of one line are about as good as each other. Those of ctr,
/// and most of podman, Docker and CRI, were written by these engines (config.json at create, with ids and paths shortened).
const ORDER: [&[&str]; 10] = [
    &["cri-restricted"],
    &["podman-rootless", "podman-userns-auto", "docker-userns-remap", "docker-user-sealed", "podman-hardened"],
    &["podman-user"],
    &["podman-default", "podman-pod", "podman-kube", "docker-default", "docker-read-only", "runc-spec", "cri-sandbox"],
    &["cri-baseline", "ctr-default", "ctr-user"],
    &["docker-network-host", "podman-network-host", "docker-seccomp-unconfined"],
    &["cri-sandbox-host", "docker-pid-host", "podman-pid-ipc-host", "ctr-network-host", "docker-unconfined-sys-ptrace"],
    &["docker-cap-sys-admin"],
    &["docker-socket", "podman-unmask", "podman-etc"],
    &["docker-privileged", "podman-privileged", "cri-privileged", "ctr-privileged", "node-debug"],
];

fn exposure_of(name: &str) -> Exposure {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/exposure").join(name).with_extension("json");
    exposure_in(&std::fs::read(&place).unwrap_or_else(|error| panic!("{}: {error}", place.display())))
}

/// The config of an engine's default, to be changed.
fn default() -> serde_json::Value {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/exposure/docker-default.json");
    serde_json::from_slice(&std::fs::read(place).unwrap()).unwrap()
}

#[test]
fn configs_of_engines_are_sorted_as_an_expert_sorts_them() {
    let scores: Vec<Vec<(&str, f64)>> =
        ORDER.iter().map(|names| names.iter().map(|name| (*name, exposure_of(name).score())).collect()).collect();
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
        ("podman-default", "ordinary"),
        ("cri-baseline", "exposed"),
        ("docker-socket", "open"),
        ("docker-privileged", "open"),
    ] {
        assert_eq!(exposure_of(name).word(), word, "{name}: {}", exposure_of(name).score());
    }
}

#[test]
fn the_worst_finding_is_the_one_that_the_flag_made() {
    for (name, place, what) in [
        ("docker-socket", "mounts[7].source", "/var/run/docker.sock obeys every client"),
        ("docker-cap-sys-admin", "process.capabilities", "CAP_SYS_ADMIN is not in the usual set"),
        ("docker-pid-host", "linux.namespaces", "the pid namespace is the host's"),
        ("docker-network-host", "linux.namespaces", "the network namespace is the host's"),
        ("runc-spec", "linux.seccomp", "is not set"),
        ("cri-baseline", "linux.seccomp", "is not set"),
    ] {
        let worst = exposure_of(name).findings.remove(0);
        assert_eq!((worst.at.as_str(), worst.what.as_str()), (place, what), "{name}");
    }
}

#[test]
fn every_finding_says_all_that_it_should() {
    for name in ORDER.concat() {
        for found in exposure_of(name).findings {
            let texts = [found.at.as_str(), &found.what, &found.gain, &found.change];
            assert!(texts.iter().all(|text| !text.is_empty() && !text.ends_with('.')), "{name}: {found:?}");
            assert!((1..100).contains(&found.weight), "{name}: {found:?}");
        }
    }
}

#[test]
fn one_change_to_a_config_is_one_finding() {
    let base = default();
    let score = |value: &serde_json::Value| exposure_in(value.to_string().as_bytes());
    let before = score(&base);
    let bind = |source: &str, options: &[&str]| serde_json::json!({"destination": "/x", "type": "bind", "source": source, "options": options});
    let mounts = [
        ("/etc", vec!["rbind"], Risk::Critical),
        ("/etc", vec!["rbind", "ro"], Risk::High),
        ("/etc/../etc/ssh", vec!["bind", "ro"], Risk::High),
        ("/etc/ssl/certs", vec!["bind"], Risk::Medium),
        ("/var/lib/kubelet/pki", vec!["bind", "ro"], Risk::Critical),
        ("/run/systemd/private", vec!["bind"], Risk::Critical),
        ("/var/run/systemd", vec!["bind", "ro"], Risk::Critical),
        ("/var/run/containerd", vec!["bind", "ro"], Risk::Critical),
        ("/run/lxd/unix.socket", vec!["bind"], Risk::Critical),
        ("/proc/sys", vec!["bind"], Risk::Critical),
        ("/dev/sda", vec!["bind"], Risk::Medium),
        ("/dev/mem", vec!["bind"], Risk::Low),
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
    for source in ["/var/lib/docker/volumes/a/_data", "/data", "rel", "/dev/null"] {
        let mut changed = base.clone();
        changed["mounts"].as_array_mut().unwrap().push(bind(source, &["bind"]));
        assert_eq!(score(&changed), before, "{source}");
    }
}

#[test]
fn a_namespace_of_the_host_is_known_by_its_path_and_by_its_name() {
    let shared = |path: &str, links: &[(&str, &str)]| {
        let mut changed = default();
        for namespace in changed["linux"]["namespaces"].as_array_mut().unwrap() {
            if namespace["type"] == "network" {
                namespace["path"] = path.into();
            }
        }
        let found = with_links(changed.to_string().as_bytes(), links).findings;
        found.iter().any(|found| found.what == "the network namespace is the host's")
    };
    let (pod, init) = ("/proc/4242/ns/net", "/proc/1/ns/net");
    assert!(shared(init, &[]) && shared("/run/docker/netns/default", &[]));
    assert!(shared("/run/another-root/netns/default", &[]), "dockerd with --exec-root");
    assert!(!shared("/run/netns/default", &[]) && !shared("/var/run/netns/default", &[]), "of ip-netns(8)");
    assert!(!shared(pod, &[]));
    assert!(shared(pod, &[(pod, "net:[4026531840]"), (init, "net:[4026531840]")]));
    assert!(!shared(pod, &[(pod, "net:[4026532000]"), (init, "net:[4026531840]")]));
}

#[test]
fn an_ordinary_users_podman_gives_nobody_root_of_the_host() {
    let mut changed: serde_json::Value =
        serde_json::from_slice(include_bytes!("../../../tests/exposure/podman-rootless.json")).unwrap();
    let mapped = exposure_in(changed.to_string().as_bytes()).score();
    // podman's default: the container stays in the user namespace of podman
    changed["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "user");
    for maps in ["uidMappings", "gidMappings"] {
        changed["linux"].as_object_mut().unwrap().remove(maps);
    }
    let inside = exposure_in(changed.to_string().as_bytes()).score();
    assert!((inside - mapped).abs() < 0.5, "{inside} {mapped}");
    let text = changed.to_string();
    let runtime = text.find("/run/user/").map(|at| &text[at..]).and_then(|rest| rest.split('/').nth(3)).unwrap();
    let of_root = text.replace(&format!("/run/user/{runtime}/"), "/run/user/0/");
    assert!(exposure_in(of_root.as_bytes()).score() > 5.0, "podman of root");
}

#[test]
fn rules_for_devices_are_read_in_their_order() {
    let base = default();
    let of = |rules: serde_json::Value| {
        let mut changed = base.clone();
        changed["linux"]["resources"]["devices"] = rules;
        let found = exposure_in(changed.to_string().as_bytes()).findings;
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
        exposure_in(document.to_string().as_bytes()).findings
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
    assert_eq!(says(&["bind"], "rootfs/../../data"), "");
    assert!(says(&["bind"], "../../run/docker.sock").contains("obeys every client"));
    for (options, source) in [(&["bind"], "data/../etc"), (&["remount,bind"], "/etc"), (&["nosuid"], "/etc")] {
        assert_eq!(says(options, source), "", "{options:?} {source}");
    }
    let places = |annotations| of(serde_json::json!([]), annotations).into_iter().map(|found| found.at.to_string());
    assert!(places(serde_json::json!({})).any(|at| at == "linux.seccomp"));
    assert!(places(serde_json::json!({"run.oci.seccomp_bpf_data": "AA=="})).all(|at| at != "linux.seccomp"));
}

#[test]
fn the_root_of_the_host_is_the_worst_finding() {
    let worst = |path: &str, links: &[(&str, &str)]| {
        let mut changed: serde_json::Value =
            serde_json::from_slice(include_bytes!("../../../tests/exposure/docker-privileged.json")).unwrap();
        changed["root"]["path"] = path.into();
        let worst = with_links(changed.to_string().as_bytes(), links).findings.remove(0);
        (worst.at.to_string(), worst.what)
    };
    let root = |what: &str| ("root.path".to_owned(), what.to_owned());
    assert_eq!(worst("/", &[]), root("/ is the root of the host"));
    assert_eq!(worst("../..", &[]), root("/ is the root of the host"));
    assert_eq!(worst("rootfs", &[("/b/rootfs", "/")]), root("/b/rootfs is the root of the host"));
    assert_ne!(worst("rootfs", &[]).0, "root.path");
    // the root file systems of engines and users are below these directories
    for path in ["/var/lib/docker/overlay2/0/merged", "/home/user/box/rootfs", "/run/containerd/x/rootfs"] {
        assert_ne!(worst(path, &[]).0, "root.path", "{path}");
    }
}

#[test]
fn what_engines_mount_for_a_container_is_no_finding() {
    for name in ORDER.concat() {
        // these mount what the name says
        if !["docker-socket", "podman-etc", "node-debug", "cri-sandbox-host", "podman-pid-ipc-host"].contains(&name) {
            let found = exposure_of(name).findings.into_iter().find(|found| found.at.as_str().contains(".source"));
            assert_eq!(found, None, "{name}");
        }
    }
    let sources = [
        "/var/lib/kubelet/pods/0-1/etc-hosts",
        "/var/lib/kubelet/pods/0-1/volumes/kubernetes.io~projected/kube-api-access-x",
        "/var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes/01/resolv.conf",
        "/run/containerd/io.containerd.grpc.v1.cri/sandboxes/01/shm",
        "/var/run/containers/storage/overlay-containers/01/userdata/.containerenv",
        "/home/user/.local/share/containers/storage/overlay-containers/01/userdata/shm",
        "/tmp/storage-run-1000/containers/overlay-containers/01/userdata/resolv.conf",
        "/var/lib/nerdctl/1935db59/containers/default/01/hostname",
        "/var/lib/docker/containers/01/hosts",
    ];
    let read_only =
        ["/etc/localtime", "/etc/ssl/certs", "/etc/pki/ca-trust/extracted", "/etc/hosts", "/etc/resolv.conf"];
    let all = sources.iter().map(|source| (source, "rw")).chain(read_only.iter().map(|source| (source, "ro")));
    for (source, option) in all {
        let mut changed = default();
        let mount =
            serde_json::json!({"destination": "/x", "type": "bind", "source": source, "options": ["rbind", option]});
        changed["mounts"].as_array_mut().unwrap().push(mount);
        assert_eq!(exposure_in(changed.to_string().as_bytes()), exposure_of("docker-default"), "{source}");
    }
    // all of them together are more than a container's own
    for source in ["/var/lib/kubelet/pods", "/var/lib/docker/containers", "/var/lib/nerdctl"] {
        let mut changed = default();
        let mount = serde_json::json!({"destination": "/x", "type": "bind", "source": source, "options": ["rbind"]});
        changed["mounts"].as_array_mut().unwrap().push(mount);
        assert!(
            exposure_in(changed.to_string().as_bytes()).score() > exposure_of("docker-default").score(),
            "{source}"
        );
    }
}

#[test]
fn another_proc_is_a_finding_until_its_files_are_covered() {
    let mut changed = default();
    changed["mounts"]
        .as_array_mut()
        .unwrap()
        .push(serde_json::json!({"destination": "/p", "type": "proc", "source": "proc"}));
    let n = changed["mounts"].as_array().unwrap().len() - 1;
    let found = |changed: &serde_json::Value| {
        let found = exposure_in(changed.to_string().as_bytes()).findings;
        found
            .into_iter()
            .find(|found| found.at.to_string() == format!("mounts[{n}].destination"))
            .map(|found| found.risk)
    };
    assert_eq!(found(&changed), Some(Risk::Critical));
    changed["mounts"][n]["options"] = serde_json::json!(["ro"]);
    assert_eq!(found(&changed), Some(Risk::Low));
    changed["linux"]["maskedPaths"].as_array_mut().unwrap().push("/p".into());
    assert_eq!(found(&changed), None);
}

#[test]
fn devices_are_known_by_their_number() {
    let with = |node: Option<serde_json::Value>, rule: Option<serde_json::Value>| {
        let mut changed = default();
        changed["linux"]["devices"] = serde_json::json!(node.into_iter().collect::<Vec<_>>());
        let rules = changed["linux"]["resources"]["devices"].as_array_mut().unwrap();
        rules.extend(rule);
        let found = exposure_in(changed.to_string().as_bytes()).findings;
        let mut found = found.into_iter().filter(|found| found.at.as_str().contains("devices["));
        found.next().map(|found| (found.risk, found.gain))
    };
    let node = |kind: &str, major: i64, minor: i64| {
        with(Some(serde_json::json!({"path": "/dev/x", "type": kind, "major": major, "minor": minor})), None)
    };
    let rule = |rule: serde_json::Value| with(None, Some(rule));
    let gain = |found: Option<(Risk, String)>, word: &str| found.is_some_and(|(_, gain)| gain.contains(word));
    assert_eq!(with(None, None), None);
    assert!(gain(node("c", 1, 1), "memory of the machine") && gain(node("b", 253, 0), "a disk"));
    assert!(gain(node("u", 10, 229), "file systems") && node("c", 1, 3).is_none() && node("c", 1000, 1).is_none());
    for (device, word) in [
        (serde_json::json!({"type": "c", "major": 1, "minor": 1}), "memory of the machine"),
        (serde_json::json!({"type": "c", "major": 1}), "memory of the machine"),
        (serde_json::json!({"type": "c"}), "disks of the host"),
        (serde_json::json!({"type": "c", "major": 10, "minor": 237}), "loop devices"),
        (serde_json::json!({"type": "b", "major": 8}), "a disk"),
        (serde_json::json!({"major": 8}), "a disk"),
    ] {
        let (mut opens, mut makes) = (device.clone(), device);
        (opens["allow"], opens["access"]) = (true.into(), "rw".into());
        (makes["allow"], makes["access"]) = (true.into(), "m".into());
        assert!(gain(rule(opens.clone()), word), "{opens}");
        assert_eq!(rule(makes.clone()), None, "{makes}");
    }
    assert_eq!(rule(serde_json::json!({"allow": true, "type": "c", "major": 10, "minor": 200, "access": "rw"})), None);
}

#[test]
fn a_capability_weighs_what_it_gives() {
    let weight = |sets: &[&str], sealed: bool, uid: u32, mapped: bool, name: &str| {
        let mut changed = default();
        for set in sets {
            let set = changed["process"]["capabilities"][*set].as_array_mut().unwrap();
            set.push(name.into());
        }
        changed["process"]["noNewPrivileges"] = sealed.into();
        changed["process"]["user"]["uid"] = uid.into();
        if mapped {
            changed["linux"]["namespaces"].as_array_mut().unwrap().push(serde_json::json!({"type": "user"}));
            let map = serde_json::json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
            (changed["linux"]["uidMappings"], changed["linux"]["gidMappings"]) = (map.clone(), map);
        }
        let found = exposure_in(changed.to_string().as_bytes()).findings;
        found.into_iter().find(|found| found.what.starts_with(name)).map_or(0, |found| found.weight)
    };
    let (all, bounding): (&[&str], &[&str]) = (&["bounding", "permitted", "effective"], &["bounding"]);
    assert_eq!(weight(all, false, 0, false, "CAP_SYS_ADMIN"), 75);
    assert_eq!(weight(bounding, false, 0, false, "CAP_SYS_ADMIN"), 75, "root has it with the next program");
    assert_eq!(weight(bounding, true, 0, false, "CAP_SYS_ADMIN"), 0);
    assert_eq!(weight(all, true, 1000, false, "CAP_SYS_ADMIN"), 75);
    assert_eq!(weight(bounding, false, 1000, false, "CAP_SYS_ADMIN"), 18, "a program with set-user-ID gives it");
    assert_eq!(weight(bounding, true, 1000, false, "CAP_SYS_ADMIN"), 0);
    assert_eq!(weight(all, false, 0, true, "CAP_SYS_ADMIN"), 15);
    assert_eq!(weight(all, false, 0, true, "CAP_SYS_MODULE"), 0, "the kernel asks the first user namespace");
}

#[test]
fn each_call_that_a_filter_denies_is_a_gain() {
    let score = |names: &[&str]| {
        let mut changed = default();
        let denied = serde_json::json!([{"names": names, "action": "SCMP_ACT_ERRNO"}]);
        let denied = if names.is_empty() { serde_json::json!([]) } else { denied };
        changed["linux"]["seccomp"] = serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": denied});
        exposure_in(changed.to_string().as_bytes())
    };
    let calls: Vec<_> = tables::CALLS.iter().map(|(name, ..)| *name).collect();
    let weight = |names: &[&str]| {
        let found = score(names).findings.into_iter().filter(|found| found.at.as_str().starts_with("linux.seccomp"));
        1.0 - found.map(|found| 1.0 - f64::from(found.weight) / 100.0).product::<f64>()
    };
    let mut without = default();
    without["linux"].as_object_mut().unwrap().remove("seccomp");
    let without = exposure_in(without.to_string().as_bytes());
    assert!(score(&[]).score() <= without.score());
    for n in 0..calls.len() {
        assert!(weight(&calls[..=n]) <= weight(&calls[..n]) + 0.005, "{:?}", &calls[..=n]);
        assert!(weight(&calls[n..=n]) < 0.319, "{}: {}", calls[n], weight(&calls[n..=n]));
    }
    assert_eq!(weight(&calls), 0.0);
}
