//! Notes of `check` about the present state of the host: a container would fail on it, or would not be as requested. The state may
//! change before the container is made.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxResources, Spec};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

use crate::config::{At, Warning};
use crate::host::cpu_list::ranges;
use crate::plan::resources::Write;
use crate::plan::values::inside;
use crate::plan::{self, mount_options};

/// A program with less memory is killed before it begins.
const LITTLE_MEMORY: i64 = 1 << 20;

/// Notes about what the host has not now.
pub(super) fn warnings(spec: &Spec, directory: &Path) -> Vec<Warning> {
    let mut notes = Vec::new();
    file_systems(spec, &mut notes);
    if let Some(resources) = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref()) {
        limits(resources, &mut notes);
    }
    devices(spec, &mut notes);
    program(spec, directory, &mut notes);
    nothing_to_run(spec, &mut notes);
    notes
}

fn warn(notes: &mut Vec<Warning>, at: At, said: String) {
    notes.push(Warning { at, said });
}

/// A module may bring the file system when it is mounted, or a program of mount(8) may know it.
fn file_systems(spec: &Spec, notes: &mut Vec<Warning>) {
    let Ok(known) = fs::read_to_string("/proc/filesystems") else { return };
    for (n, mount) in spec.mounts().iter().flatten().enumerate() {
        let at = At::new("mounts").index(n);
        let (options, _) = mount_options::parse(mount.options().as_deref().unwrap_or_default(), &at);
        let Some(fstype) = mount.typ().as_deref() else { continue };
        // a remount has none
        if options.remount || options.binds(Some(fstype)) || ["cgroup", "none", ""].contains(&fstype) {
            continue;
        }
        let name = fstype.split('.').next().unwrap_or_default();
        if known.lines().all(|line| line.split_whitespace().next_back() != Some(name)) {
            warn(notes, at.key("type"), format!("this kernel has no file system {fstype:?} now (/proc/filesystems)"));
        }
    }
}

/// Limits whose controller version 2 does not have.
pub(super) fn controllers<'a>(writes: impl Iterator<Item = &'a Write>) -> Vec<Warning> {
    let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(|root| Path::new(root).join("cgroup.controllers"));
    let Some(there) = roots.iter().find_map(|file| fs::read_to_string(file).ok()) else { return Vec::new() };
    let mut notes = Vec::new();
    for write in writes.filter(|write| write.controller.is_empty()) {
        let controller = write.file.split('.').next().unwrap_or_default();
        if controller != "cgroup" && there.split_whitespace().all(|one| one != controller) {
            warn(&mut notes, write.at.clone(), format!("this host has no cgroup controller {controller:?} now"));
        }
    }
    notes
}

/// Engines make such containers, and join them with `exec`.
fn nothing_to_run(spec: &Spec, notes: &mut Vec<Warning>) {
    if spec.process().is_none() {
        warn(notes, At::new("process"), "is not set: create makes the container, and start fails".to_owned());
    }
    let devices = spec.linux().as_ref().and_then(|linux| linux.devices().as_deref()).unwrap_or_default();
    for (n, device) in devices.iter().enumerate() {
        let none = device.major() == 0 && device.minor() == 0;
        if none && device.typ() != oci_spec::runtime::LinuxDeviceType::P {
            let said = "major and minor are not set, or 0: no device has these numbers".to_owned();
            warn(notes, At::new("linux.devices").index(n), said);
        }
    }
}

fn limits(resources: &LinuxResources, notes: &mut Vec<Warning>) {
    let at = At::new("linux.resources");
    let memory = resources.memory().as_ref().and_then(|memory| memory.limit());
    if let Some(limit) = memory.filter(|limit| (1..LITTLE_MEMORY).contains(limit)) {
        let said = format!("{limit} bytes are too few to start a program: the unit is bytes");
        warn(notes, at.key("memory").key("limit"), said);
    }
    let cpu = resources.cpu().as_ref();
    let lists = [
        ("cpus", cpu.and_then(|cpu| cpu.cpus().as_deref()), "/sys/devices/system/cpu/online", "CPUs"),
        ("mems", cpu.and_then(|cpu| cpu.mems().as_deref()), "/sys/devices/system/node/online", "memory nodes"),
    ];
    for (name, requested, file, what) in lists {
        let (Some(requested), Ok(there)) = (requested, fs::read_to_string(file)) else { continue };
        let there = there.trim();
        let (Some(wanted), Some(present)) = (ranges(requested), ranges(there)) else { continue };
        if wanted.into_iter().flatten().any(|number| !present.iter().any(|range| range.contains(&number))) {
            warn(notes, at.key("cpu").key(name), format!("{requested:?}: this host has the {what} {there}"));
        }
    }
    let sizes = crate::cgroup::page_sizes();
    for (n, limit) in resources.hugepage_limits().iter().flatten().enumerate() {
        if !sizes.contains(limit.page_size()) {
            let place = at.key("hugepageLimits").index(n).key("pageSize");
            let has =
                if sizes.is_empty() { "no huge pages".to_owned() } else { format!("pages of {}", sizes.join(", ")) };
            warn(notes, place, format!("{:?}: this host has {has}", limit.page_size()));
        }
    }
}

/// A hook that runs before may make them.
fn devices(spec: &Spec, notes: &mut Vec<Warning>) {
    let devices = spec.linux().as_ref().and_then(|linux| linux.net_devices().as_ref());
    let mut names: Vec<_> = devices.into_iter().flat_map(|devices| devices.keys()).collect();
    names.sort();
    for name in names.into_iter().filter(|name| !name.is_empty() && !name.contains('/')) {
        let there = Path::new("/sys/class/net").join(name);
        if there.parent().is_some_and(Path::is_dir) && !there.exists() {
            warn(
                notes,
                At::new("linux.netDevices").key(name),
                "this host has no such network interface now".to_owned(),
            );
        }
    }
}

/// Looks for the program in the root as execvp(3) does. The result has no note if a mount or a hook may bring the program.
fn program(spec: &Spec, directory: &Path, notes: &mut Vec<Warning>) {
    let (Some(process), Some(root)) = (spec.process().as_ref(), spec.root().as_ref()) else { return };
    let Some(name) = process.args().as_ref().and_then(|args| args.first()).filter(|name| !name.is_empty()) else {
        return;
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = directory.join(root.path());
    let is_filled = fs::read_dir(&root).is_ok_and(|mut entries| entries.next().is_some());
    let Ok(root) = rustix::fs::openat(CWD, &root, flags, Mode::empty()) else { return };
    if spec.hooks().is_some() || !is_filled {
        return;
    }
    let in_root = |path: String| Path::new("/").join(inside(&process.cwd().join(path)));
    let candidates: Vec<PathBuf> = plan::candidates(process).into_iter().map(in_root).collect();
    let mounts = || spec.mounts().iter().flatten().map(|mount| Path::new("/").join(inside(mount.destination())));
    let may_come = |path: &PathBuf| mounts().any(|mount| path.starts_with(&mount) || mount == *path);
    if candidates.iter().any(|path| may_come(path) || is_there(&root, path)) {
        return;
    }
    let at = At::new("process.args").index(0);
    let said = match name.contains('/') {
        true => format!("{name:?} is not in the root file system"),
        false => format!("{name:?} is in no directory of PATH in the root file system"),
    };
    warn(notes, at, said);
}

/// True also for what this user may not see.
fn is_there(root: &OwnedFd, path: &Path) -> bool {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let found =
        rustix::fs::openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS);
    !matches!(found, Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR))
}
