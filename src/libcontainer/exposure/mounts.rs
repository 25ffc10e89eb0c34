//! Files of the host, /proc and /sys, propagation, and the limits of what the container can use.

use std::path::Path;

use oci_spec::runtime::Mount;

use super::facts::{ConfigFacts, Findings};
use super::tables::{DIRECTORIES, MASKED, READ_ONLY, SOCKETS, SYS_ADMIN};
use crate::config::At;
use crate::plan::mount_options::{self, MountOptions};
use crate::plan::values::inside;

const DAC_OVERRIDE: u8 = 1;

pub(super) fn look(facts: &ConfigFacts<'_>, found: &mut Findings) {
    let mounts = facts.spec.mounts().as_deref().unwrap_or_default();
    for (n, mount) in mounts.iter().enumerate() {
        let at = At::new("mounts").index(n);
        let options = options(mount, &at);
        if options.binds(mount.typ().as_deref()) {
            source(facts, mount, &options, &at, found);
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
    if propagation.is_some_and(|word| ["shared", "rshared"].contains(&word)) {
        let weight = facts.weighed(if facts.can(SYS_ADMIN) { 20 } else { 3 });
        let gain = "mounts that it makes appear on the host";
        found.add(At::new("linux.rootfsPropagation"), weight, "is shared", gain, "use rslave or private");
    }
    if facts.spec.root().as_ref().is_some_and(|root| !root.readonly().unwrap_or(false)) {
        let gain = "changes programs of the container, and stays there";
        found.add(
            At::new("root.readonly"),
            2,
            "is not true",
            gain,
            "set it to true, and mount a tmpfs where files are written",
        );
    }
    paths(facts, mounts, found);
    limits(facts, found);
}

/// As the runtime reads them.
fn options(mount: &Mount, at: &At) -> MountOptions {
    mount_options::parse(mount.options().as_deref().unwrap_or_default(), at).0
}

/// Where `ro` and `rw` contradict each other in their recursive forms, it is taken for writable.
fn is_read_only(options: &MountOptions) -> bool {
    const RDONLY: u64 = libc::MOUNT_ATTR_RDONLY;
    (options.set | options.set_recursive) & RDONLY != 0 && (options.clear | options.clear_recursive) & RDONLY == 0
}

/// Whether a relative path leads out of the bundle that it begins at.
fn leads_out(path: &Path) -> bool {
    let mut depth = 0;
    path.components().any(|part| {
        match part {
            std::path::Component::Normal(_) => depth += 1,
            std::path::Component::ParentDir => depth -= 1,
            _ => {}
        }
        depth < 0
    })
}

fn source(facts: &ConfigFacts<'_>, mount: &Mount, options: &MountOptions, at: &At, found: &mut Findings) {
    let Some(given) = mount.source().as_deref().filter(|path| path.is_absolute() || leads_out(path)) else { return };
    let at = at.key("source");
    // The bundle is not known here. With enough `..`, a relative path begins at the root.
    let path = Path::new("/").join(inside(given));
    let before = found.0.len();
    of_path(facts, &path, options, at.clone(), found);
    if given.is_relative() && found.0.len() == before {
        let gain = "what it exposes depends on the place of the bundle";
        let what = format!("{} leads out of the bundle", given.display());
        found.add(at, 3, what, gain, "use an absolute path");
    }
}

fn of_path(facts: &ConfigFacts<'_>, path: &Path, options: &MountOptions, at: At, found: &mut Findings) {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let shown = path.display();
    if let Some((_, owner)) = SOCKETS.iter().find(|(socket, _)| *socket == name) {
        // A read-only mount does not stop connect(2), and who may connect is who is in its group.
        let weight = if facts.mapped { 60 } else { 92 };
        let gain = format!("commands {owner}: it starts a container with all rights and is root on the host");
        found.add(at, weight, format!("{shown} obeys whoever connects"), gain, "do not mount it; also not read-only");
        return;
    }
    let read_only = is_read_only(options);
    let Some((directory, write, read, inside)) =
        DIRECTORIES.iter().filter(|row| is_sensitive(path, row.0)).max_by_key(|row| row.0.len())
    else {
        return;
    };
    // A part of the directory is less than all of it, and files that engines make for the container are none of it.
    let whole = path == Path::new(directory);
    let engines = [
        "/var/lib/kubelet/pods",
        "/var/lib/docker/containers",
        "/var/lib/docker/volumes",
        "/run/containers",
        "/var/lib/containers/storage/overlay-containers",
        "/var/lib/containers/storage/volumes",
        "/run/containerd/io.containerd",
        "/run/user",
    ];
    if !whole && engines.iter().any(|engine| path.starts_with(engine)) {
        return;
    }
    let weight = if read_only { *read } else { *write };
    let weight = if whole { weight } else { weight / 3 };
    let rights = facts.root || facts.can(DAC_OVERRIDE);
    let weight = if rights { facts.weighed(weight) } else { weight / 4 };
    if weight == 0 {
        return;
    }
    let verb = if read_only { "reads" } else { "reads and writes" };
    let change =
        if read_only { "mount only what the program needs" } else { "mount only what the program needs, with \"ro\"" };
    found.add(
        at,
        weight,
        format!("{shown} of the host is mounted{}", if read_only { " read-only" } else { "" }),
        format!("{verb} {inside}"),
        change,
    );
}

fn is_sensitive(path: &Path, directory: &str) -> bool {
    if directory == "/" { path == Path::new("/") } else { path.starts_with(directory) }
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
        "cgroup" if facts.is_host_root() && facts.can(SYS_ADMIN) => {
            (70, "runs a program on the host as root (release_agent, CVE-2022-0492)")
        }
        "cgroup" if facts.is_host_root() => (8, "changes its own limits"),
        "debugfs" | "tracefs" | "securityfs" | "bpf" => {
            (if facts.root { 50 } else { 5 }, "debugs and changes the kernel")
        }
        _ => return,
    };
    let change = "add \"ro\" to the options";
    found.add(at.key("options"), facts.weighed(weight), format!("a {kind} that can be written"), gain, change);
}

/// `maskedPaths` and `readonlyPaths`, where there is a /proc.
fn paths(facts: &ConfigFacts<'_>, mounts: &[Mount], found: &mut Findings) {
    let Some(proc) = mounts.iter().find(|mount| mount.typ().as_deref() == Some("proc")) else { return };
    let linux = facts.linux;
    let covered = |list: Option<&Vec<String>>, path: &str| {
        list.is_some_and(|list| list.iter().any(|there| Path::new(path).starts_with(there)))
    };
    let masked = linux.and_then(|linux| linux.masked_paths().as_ref());
    let read_only = linux.and_then(|linux| linux.readonly_paths().as_ref());
    let open: Vec<_> = MASKED.into_iter().filter(|(path, ..)| !covered(masked, path)).collect();
    // the usual lists of engines differ in one or two of them
    let weight: u8 = open.iter().map(|(_, weight, _)| weight).sum();
    if weight > 3 {
        let names: Vec<_> = open.iter().map(|(path, ..)| *path).collect();
        let gain = format!("reads {}", open[0].2);
        let weight = if facts.is_host_root() { weight } else { weight / 3 };
        found.add(
            At::new("linux.maskedPaths"),
            weight.max(1),
            format!("does not cover {}", names.join(", ")),
            gain,
            "add them",
        );
    }
    if is_read_only(&options(proc, &At::new("mounts"))) {
        return;
    }
    for (path, weight, gain) in READ_ONLY {
        if covered(masked, path) || covered(read_only, path) {
            continue;
        }
        let weight = if facts.is_host_root() { weight } else { weight / 20 };
        if weight > 0 {
            found.add(
                At::new("linux.readonlyPaths"),
                weight,
                format!("{path} can be written"),
                gain,
                format!("add {path}"),
            );
        }
    }
}

fn limits(facts: &ConfigFacts<'_>, found: &mut Findings) {
    let resources = facts.linux.and_then(|linux| linux.resources().as_ref());
    let unified = |name: &str| {
        resources.and_then(|resources| resources.unified().as_ref()).is_some_and(|unified| unified.contains_key(name))
    };
    let pids = resources.and_then(|resources| resources.pids().as_ref()).is_some_and(|pids| pids.limit() > 0);
    let at = At::new("linux.resources");
    if !pids && !unified("pids.max") {
        let gain = "a fork bomb takes all processes of the host";
        found.add(at.key("pids.limit"), 3, "is not set", gain, "set a limit, such as 2048");
    }
    let memory = resources.and_then(|resources| resources.memory().as_ref()).and_then(|memory| memory.limit());
    if memory.is_none_or(|limit| limit <= 0) && !unified("memory.max") {
        let gain = "takes all memory of the host";
        found.add(at.key("memory.limit"), 2, "is not set", gain, "set a limit");
    }
}
