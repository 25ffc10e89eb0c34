//! Mounts: files of the host, /proc and /sys, propagation.

use std::path::Path;

use oci_spec::runtime::Mount;

use super::facts::ConfigFacts;
use super::finding::Findings;
use super::paths;
use super::tables::{MASKED, READ_ONLY, SYS_ADMIN};
use crate::config::At;
use crate::plan::mount_options::{self, MountOptions};
use crate::plan::values::inside;

pub(super) fn find(facts: &ConfigFacts<'_>, found: &mut Findings) {
    let mounts = facts.spec.mounts().as_deref().unwrap_or_default();
    for (n, mount) in mounts.iter().enumerate() {
        let at = At::new("mounts").index(n);
        let options = options(mount, &at);
        if options.binds(mount.typ().as_deref()) {
            paths::source(facts, mount, is_read_only(&options), &at, found);
        }
        of_kernel(facts, mount, &options, &at, found);
        if options.propagation.iter().any(|change| change.kind == libc::MS_SHARED) {
            let gain = "mounts that it makes there appear on the host";
            let weight = if facts.can(SYS_ADMIN) { 25 } else { 4 };
            found.add(
                at.key("options"),
                facts.weighed(weight),
                "propagation to the host",
                gain,
                "use rslave or rprivate",
            );
        }
    }
    let propagation = facts.linux.and_then(|linux| linux.rootfs_propagation().as_deref());
    // `shared` is for `/` alone, and the mount there has no peer on the host.
    if propagation == Some("rshared") {
        let weight = facts.weighed(if facts.can(SYS_ADMIN) { 20 } else { 3 });
        let gain = "mounts that it makes appear on the host";
        found.add(At::new("linux.rootfsPropagation"), weight, "is shared", gain, "use rslave or private");
    }
    if facts.spec.root().as_ref().is_some_and(|root| !root.readonly().unwrap_or(false)) {
        let gain = "changes programs of the container, and the change stays";
        found.add(
            At::new("root.readonly"),
            2,
            "is not true",
            gain,
            "set it to true, and mount a tmpfs where files are written",
        );
    }
    procs(facts, mounts, found);
}

/// As the runtime reads them.
fn options(mount: &Mount, at: &At) -> MountOptions {
    mount_options::parse(mount.options().as_deref().unwrap_or_default(), at).0
}

/// If the recursive forms of `ro` and `rw` contradict each other, the mount counts as writable.
fn is_read_only(options: &MountOptions) -> bool {
    const RDONLY: u64 = libc::MOUNT_ATTR_RDONLY;
    (options.set | options.set_recursive) & RDONLY != 0 && (options.clear | options.clear_recursive) & RDONLY == 0
}

/// A new sysfs, cgroup or debugfs that can be written.
fn of_kernel(facts: &ConfigFacts<'_>, mount: &Mount, options: &MountOptions, at: &At, found: &mut Findings) {
    let kind = mount.typ().as_deref().unwrap_or_default();
    if is_read_only(options) {
        return;
    }
    let (weight, gain) = match kind {
        "sysfs" if facts.is_host_root() => {
            (45, "runs a program on the host as root (uevent_helper), and changes devices")
        }
        "cgroup" | "cgroup2" if facts.is_host_root() && facts.can(SYS_ADMIN) => {
            (70, "runs a program on the host as root (release_agent, CVE-2022-0492)")
        }
        "cgroup" | "cgroup2" if facts.is_host_root() => (8, "changes its own limits"),
        "debugfs" | "tracefs" | "securityfs" | "bpf" => {
            (if facts.root { 50 } else { 5 }, "debugs and changes the kernel")
        }
        _ => return,
    };
    let change = "add \"ro\" to the options";
    found.add(at.key("options"), facts.weighed(weight), format!("a {kind} that can be written"), gain, change);
}

/// `maskedPaths` and `readonlyPaths`, for each proc.
fn procs(facts: &ConfigFacts<'_>, mounts: &[Mount], found: &mut Findings) {
    let is_proc = |mount: &&Mount| mount.typ().as_deref() == Some("proc");
    let destination = |mount: &Mount| Path::new("/").join(inside(mount.destination()));
    // the last one there hides those below it
    let usual = mounts.iter().rfind(|mount| is_proc(mount) && destination(mount) == Path::new("/proc"));
    if let Some(mount) = usual {
        masked(facts, found);
        if !is_read_only(&options(mount, &At::new("mounts"))) {
            read_only(facts, found);
        }
    }
    for (n, mount) in mounts.iter().enumerate().filter(|(_, mount)| is_proc(mount)) {
        let (at, destination) = (At::new("mounts").index(n), destination(mount));
        if destination == Path::new("/proc") {
            continue;
        }
        let there = |path: &str| Path::new(path).strip_prefix("/proc").ok().map(|below| destination.join(below));
        let covers = |list: Option<&Vec<String>>, path: &str| there(path).is_none_or(|path| covered(list, &path));
        let (masked, read_only) = lists(facts);
        let reads = MASKED.into_iter().filter(|(path, ..)| !covers(masked, path));
        let writes = READ_ONLY.into_iter().filter(|(path, ..)| !covers(masked, path) && !covers(read_only, path));
        let sealed = is_read_only(&options(mount, &at));
        let (weight, gain) = reads
            .map(|(_, weight, gain)| (weight, format!("reads {gain}")))
            .chain(writes.filter(|_| !sealed).map(|(_, weight, gain)| (weight, gain.to_owned())))
            .max_by_key(|(weight, _)| *weight)
            .unwrap_or_default();
        let weight = if facts.is_host_root() { weight } else { weight / 20 };
        let said =
            format!("{} is another proc, which maskedPaths and readonlyPaths do not cover", destination.display());
        found.add(
            at.key("destination"),
            weight,
            said,
            gain,
            "remove it, or list its files in maskedPaths and readonlyPaths",
        );
    }
}

fn lists<'a>(facts: &ConfigFacts<'a>) -> (Option<&'a Vec<String>>, Option<&'a Vec<String>>) {
    let linux = facts.linux;
    (linux.and_then(|linux| linux.masked_paths().as_ref()), linux.and_then(|linux| linux.readonly_paths().as_ref()))
}

fn covered(list: Option<&Vec<String>>, path: &Path) -> bool {
    list.is_some_and(|list| list.iter().any(|there| path.starts_with(there)))
}

fn masked(facts: &ConfigFacts<'_>, found: &mut Findings) {
    let (masked, _) = lists(facts);
    let open: Vec<_> = MASKED.into_iter().filter(|(path, ..)| !covered(masked, Path::new(path))).collect();
    // the usual lists of engines differ in one or two of them
    let weight: u8 = open.iter().map(|(_, weight, _)| weight).sum();
    if weight > 3 {
        let names: Vec<_> = open.iter().map(|(path, ..)| *path).collect();
        let weight = if facts.is_host_root() { weight } else { weight / 3 };
        let said = format!("does not cover {}", names.join(", "));
        found.add(At::new("linux.maskedPaths"), weight.max(1), said, format!("reads {}", open[0].2), "add them");
    }
}

fn read_only(facts: &ConfigFacts<'_>, found: &mut Findings) {
    let (masked, read_only) = lists(facts);
    for (path, weight, gain) in READ_ONLY {
        if covered(masked, Path::new(path)) || covered(read_only, Path::new(path)) {
            continue;
        }
        let weight = if facts.is_host_root() { weight } else { weight / 20 };
        let said = format!("{path} can be written");
        found.add(At::new("linux.readonlyPaths"), weight, said, gain, format!("add {path}"));
    }
}
