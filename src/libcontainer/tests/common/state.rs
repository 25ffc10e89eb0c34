//! The state of the process that a call of the library must not change.

use std::collections::BTreeMap;
use std::fs;

/// Masks, limits, scores, rights, namespaces, children, open files, the environment, and the file that our program is.
pub fn state() -> BTreeMap<String, String> {
    let read = |name: &str| fs::read_to_string(format!("/proc/thread-self/{name}")).unwrap();
    let kept = [
        "SigBlk",
        "SigIgn",
        "SigCgt",
        "Umask",
        "NoNewPrivs",
        "Seccomp",
        "Cpus_allowed",
        "Mems_allowed",
        "Cap",
        "Uid",
        "Gid",
        "Groups",
    ];
    let status = read("status");
    let lines = status.lines().filter(|line| kept.iter().any(|name| line.starts_with(name)));
    let mut state: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let files = ["limits", "oom_score_adj", "cgroup", "children", "personality"];
    state.extend(files.map(|name| (name.to_owned(), read(name))));
    let links = |directory: &str| {
        let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        // a file that another thread has open for a moment
        let mut links: Vec<_> =
            entries.filter_map(|path| Some(format!("{path:?} {:?}", fs::read_link(&path).ok()?))).collect();
        links.retain(|link| !link.contains("/status") && !link.contains(&format!("{directory}\"")));
        links.retain(|link| !link.contains("/proc/"));
        links.sort();
        links
    };
    let own = fs::read_link("/proc/self/exe").unwrap();
    let map = fs::read_to_string("/proc/self/maps").unwrap();
    let map = map.lines().filter(|line| line.ends_with(own.to_str().unwrap())).collect::<Vec<_>>();
    let others = [
        ("environment", format!("{:?}", std::env::vars_os().collect::<Vec<_>>())),
        // how many of them: numbers may change
        ("descriptors", links("/proc/self/fd").len().to_string()),
        ("namespaces", links("/proc/self/ns").join("\n")),
        ("program", format!("{own:?} {}", map.join("\n"))),
        ("directory", format!("{:?}", std::env::current_dir().unwrap())),
        ("root", format!("{:?}", fs::read_link("/proc/self/root").unwrap())),
        ("dumpable", format!("{:?}", rustix::process::dumpable_behavior().unwrap())),
        ("subreaper", format!("{:?}", rustix::process::child_subreaper().unwrap())),
        ("death signal", format!("{:?}", rustix::process::parent_process_death_signal().unwrap())),
    ];
    state.extend(others.map(|(name, value)| (name.to_owned(), value)));
    state
}

/// The first difference.
pub fn must_be_same(what: &str, before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) {
    for (name, value) in before {
        assert_eq!(after.get(name), Some(value), "{what}: {name}");
    }
    assert_eq!(before.len(), after.len(), "{what}");
}
