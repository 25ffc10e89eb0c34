//! The features of docs/kernel.md, row by row. A row that only a container could try depends on the version of the
//! kernel.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags};
use rustix::process::{PidfdFlags, WaitId, WaitIdOptions};

use super::finding::{Area, Finding, Fitness};
use super::tried::in_child;
use crate::host::cgroups::Layout;
use crate::host::{Host, MayMount};
use crate::sys::clone::{clone, exit};
use crate::sys::namespace::{setns, unshare};
use crate::sys::probe::{Call, has};
use crate::sys::seccomp::takes_flag;

type Release = (u32, u32);

/// The machine, and the version of its kernel.
struct Machine<'a> {
    release: Release,
    host: &'a Host,
}

/// One feature.
struct Row {
    /// The words of docs/kernel.md.
    feature: &'static str,
    first: Release,
    /// The behaviour without it. None if it is required.
    without: Option<&'static str>,
    there: fn(&Machine<'_>) -> There,
}

/// Whether a feature is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum There {
    Yes,
    No,
    /// Only a container, or a process with rights, could try this: the version of the kernel decides.
    ByVersion,
    /// This machine has no use for it, or does not show it.
    NotSeen(&'static str),
}

const fn required(feature: &'static str, first: Release, there: fn(&Machine<'_>) -> There) -> Row {
    Row { feature, first, without: None, there }
}

const fn optional(
    feature: &'static str,
    first: Release,
    without: &'static str,
    there: fn(&Machine<'_>) -> There,
) -> Row {
    Row { feature, first, without: Some(without), there }
}

fn yes(there: bool) -> There {
    if there { There::Yes } else { There::No }
}

const BURST: [&str; 2] = ["cpu.max.burst", "cpu.cfs_burst_us"];
const IDLE: [&str; 2] = ["cpu.idle", "cpu.idle"];

static ROWS: [Row; 28] = [
    required("pidfd_send_signal", (5, 1), |_| yes(has(Call::PidfdSendSignal))),
    required("fsopen, fspick, fsconfig, fsmount, open_tree, move_mount", (5, 2), |_| yes(has(Call::Fsconfig))),
    required("waitid by pidfd", (5, 4), |_| yes(waits_by_pidfd())),
    required("openat2 with RESOLVE_IN_ROOT", (5, 6), |_| yes(resolves(ResolveFlags::IN_ROOT))),
    required("openat2 with RESOLVE_NO_XDEV", (5, 6), |_| yes(resolves(ResolveFlags::NO_XDEV))),
    required("setns by pidfd, several namespaces at once", (5, 8), |_| yes(enters_by_pidfd())),
    required("mount_setattr", (5, 12), |_| yes(has(Call::MountSetattr))),
    optional("resctrl, and its monitoring groups", (4, 10), "linux.intelRdt: refused", |_| {
        match (Path::new("/sys/fs/resctrl/schemata").exists(), Path::new("/sys/fs/resctrl").exists()) {
            (true, _) => There::Yes,
            (false, true) => There::No,
            (false, false) => {
                There::NotSeen("the processor or the kernel does not support it: coracle refuses linux.intelRdt")
            }
        }
    }),
    optional("SECCOMP_FILTER_FLAG_LOG", (4, 14), SECCOMP, |_| yes(takes_flag("SECCOMP_FILTER_FLAG_LOG"))),
    optional("SECCOMP_FILTER_FLAG_SPEC_ALLOW", (4, 17), SECCOMP, |_| yes(takes_flag("SECCOMP_FILTER_FLAG_SPEC_ALLOW"))),
    optional("BPF_PROG_QUERY of a cgroup", (4, 17), "device programs that others attached are not seen", |_| {
        There::ByVersion
    }),
    optional("SECCOMP_FILTER_FLAG_NEW_LISTENER", (5, 0), "SCMP_ACT_NOTIFY: refused", |_| {
        yes(has(Call::SeccompListener))
    }),
    optional("clone3", (5, 3), "clone(2) is used; a new process starts more slowly", |_| yes(has(Call::Clone3))),
    optional(
        "a thread moves itself without the kernel's lock",
        (5, 5),
        "version 1: a container starts 7 to 16 ms later",
        |_| There::ByVersion,
    ),
    optional("BPF_F_REPLACE", (5, 6), "new device rules take two calls", |_| There::ByVersion),
    optional("CLONE_INTO_CGROUP", (5, 7), "version 2: a container starts more slowly", |_| yes(clones_into_cgroup())),
    optional("hugetlb reservations", (5, 7), "hugepageLimits limits only the use", |machine| {
        let controller = "version 2 without the hugetlb controller, or version 1 without its hierarchy";
        let files = files_of(machine, "hugetlb");
        let any = |ends: &str| files.iter().any(|name| name.starts_with("hugetlb.") && name.contains(ends));
        if any(".rsvd.") {
            There::Yes
        } else if any("") {
            There::No
        } else {
            There::NotSeen(controller)
        }
    }),
    optional(
        "attr/apparmor/exec",
        (5, 8),
        "attr/exec is used, which another security module may read",
        |machine| match (machine.host.lsm.own_apparmor_files, machine.host.lsm.apparmor) {
            (true, _) => There::Yes,
            (false, true) => There::No,
            (false, false) => There::NotSeen("AppArmor is not active"),
        },
    ),
    optional("faccessat2", (5, 8), "start, not create, reports a program that the user may not execute", |_| {
        yes(has(Call::Faccessat2))
    }),
    optional("close_range", (5, 9), "descriptors are closed one by one", |_| yes(has(Call::CloseRange))),
    optional("close_range with CLOEXEC", (5, 11), "descriptors are closed one by one", |_| {
        yes(has(Call::CloseRangeCloexec))
    }),
    optional("Landlock", (5, 13), "the annotation org.coracle.landlock: refused, or not restricted", |_| {
        yes(crate::sys::landlock::abi() > 0)
    }),
    optional("cgroup.kill", (5, 14), "the processes of a container are killed one by one", |machine| {
        file(machine, ["cgroup.kill", ""], "")
    }),
    optional("CPU burst", (5, 14), "linux.resources.cpu.burst: refused", |machine| file(machine, BURST, "cpu")),
    optional("cpu.idle", (5, 15), "linux.resources.cpu.idle: refused", |machine| file(machine, IDLE, "cpu")),
    optional(
        "mapped ids of a file system that belongs to a user namespace",
        (5, 17),
        "uidMappings of a new mount in a user namespace: refused",
        |_| There::ByVersion,
    ),
    optional("oom_group_kill of memory.events", (5, 17), "memory.oom.group is read instead", |_| There::ByVersion),
    optional("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", (5, 19), SECCOMP, |_| {
        yes(takes_flag("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"))
    }),
];
static NEWER: [Row; 5] = [
    optional(
        "unique mount ids (STATX_MNT_ID_UNIQUE)",
        (6, 8),
        "delete compares mount ids, which the kernel uses again",
        |_| yes(has_unique_ids()),
    ),
    optional("mountinfo lists mounts by age", (6, 8), "mountinfo is in the order of mounting anyway", |_| {
        There::ByVersion
    }),
    optional("pidfd of a thread (PIDFD_THREAD)", (6, 9), "exec where init's first thread has ended: refused", |_| {
        There::ByVersion
    }),
    optional("a copy of a detached mount", (6, 15), "many masked paths take more calls", |machine| {
        copies_detached(machine)
    }),
    optional("proc for a given pid namespace", (6, 18), "a process of ours in that pid namespace opens it", |_| {
        There::ByVersion
    }),
];
const SECCOMP: &str = "linux.seccomp.flags: the kernel refuses this flag";

pub(super) fn findings(host: &Host) -> Vec<Finding> {
    let name = rustix::system::uname();
    let text = name.release().to_string_lossy();
    let machine = Machine { release: release(&text), host };
    let mut found = vec![version(&text, machine.release)];
    found.extend(ROWS.iter().chain(&NEWER).map(|row| of_row(row, &machine)));
    found
}

/// The first two numbers of a release such as `6.1.0-25-amd64`.
fn release(text: &str) -> Release {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn version(text: &str, release: Release) -> Finding {
    let name = format!("Linux {text}");
    if release >= (5, 12) {
        return Finding::new(Area::Kernel, name, Fitness::Good, "");
    }
    Finding::new(Area::Kernel, name, Fitness::Missing, "too old").advice("Linux 5.12 or newer")
}

fn of_row(row: &Row, machine: &Machine<'_>) -> Finding {
    let fitness = if row.without.is_some() { Fitness::Without } else { Fitness::Missing };
    let (major, minor) = row.first;
    let there = match (row.there)(machine) {
        There::ByVersion => yes(machine.release >= row.first),
        there => there,
    };
    match there {
        There::Yes => Finding::new(Area::Kernel, row.feature, Fitness::Good, ""),
        There::No if row.feature.starts_with("resctrl") => {
            Finding::new(Area::Kernel, row.feature, fitness, row.without.unwrap_or_default())
                .advice("mount -t resctrl resctrl /sys/fs/resctrl")
        }
        There::No if machine.release >= row.first => {
            Finding::new(Area::Kernel, row.feature, fitness, row.without.unwrap_or("no container can be made"))
                .advice("a seccomp filter around this process, or the build of the kernel, hides it")
        }
        There::No | There::ByVersion => {
            Finding::new(Area::Kernel, row.feature, fitness, row.without.unwrap_or("no container can be made"))
                .advice(format!("Linux {major}.{minor} or newer"))
        }
        There::NotSeen(why) => Finding::new(Area::Kernel, row.feature, Fitness::Unknown, why),
    }
}

fn waits_by_pidfd() -> bool {
    let own = rustix::process::getpid();
    let Ok(pidfd) = rustix::process::pidfd_open(own, PidfdFlags::empty()) else { return false };
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    matches!(rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), options), Ok(_) | Err(Errno::CHILD))
}

fn resolves(how: ResolveFlags) -> bool {
    rustix::fs::openat2(CWD, c".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), how).is_ok()
}

/// Tries to enter our own namespace, which is harmless. Without the right, the error is EPERM.
fn enters_by_pidfd() -> bool {
    let own = rustix::process::getpid();
    let Ok(pidfd) = rustix::process::pidfd_open(own, PidfdFlags::empty()) else { return false };
    let uts = u64::from(libc::CLONE_NEWUTS.unsigned_abs());
    matches!(setns(pidfd.as_fd(), uts), Ok(()) | Err(Errno::PERM))
}

/// A directory that is not a cgroup: a kernel that knows the flag returns EBADF.
fn clones_into_cgroup() -> bool {
    let directory = rustix::fs::openat(CWD, c"/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let Ok(directory) = directory else { return false };
    clone(0, Some(directory.as_fd()), |_| exit(0)).err() == Some(Errno::BADF)
}

fn has_unique_ids() -> bool {
    const UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);
    let found = rustix::fs::statx(CWD, c"/", rustix::fs::AtFlags::empty(), UNIQUE);
    found.is_ok_and(|found| found.stx_mask & UNIQUE.bits() != 0)
}

/// A child copies a detached mount: in a new user namespace, unless we may mount.
fn copies_detached(machine: &Machine<'_>) -> There {
    let me = machine.host.me;
    let users = if me.is_root() || me.may_mount == MayMount::Here { 0 } else { libc::CLONE_NEWUSER };
    let tried = in_child(|_| {
        unshare(u64::from((users | libc::CLONE_NEWNS).unsigned_abs())).map_err(|_| Errno::ACCESS)?;
        let context = rustix::mount::fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        rustix::mount::fsconfig_create(context.as_fd())?;
        let mount = rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::AT_EMPTY_PATH | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        rustix::mount::open_tree(mount.as_fd(), c"", flags).map(drop)
    });
    match tried {
        Ok(()) => There::Yes,
        Err(Errno::INVAL) => There::No,
        Err(_) => There::NotSeen("this user cannot try it"),
    }
}

/// The directories that are searched for a file of a controller: our own cgroup, and those below the root.
fn directories(machine: &Machine<'_>, controller: &str) -> Vec<PathBuf> {
    let cgroups = &machine.host.cgroups;
    let v1 = cgroups.v1.iter().find(|hierarchy| hierarchy.has(controller)).map(|found| (&found.mount, &found.own));
    let v2 = cgroups.v2.as_ref().map(|found| (&found.mount, &found.own));
    let Some((mount, own)) = v1.or(v2) else { return Vec::new() };
    let own = mount.join(own.strip_prefix("/").unwrap_or(own));
    let below = std::fs::read_dir(mount).into_iter().flatten().flatten().map(|entry| entry.path());
    [own, mount.clone()].into_iter().chain(below.filter(|path| path.is_dir())).collect()
}

/// The names of all files there.
fn files_of(machine: &Machine<'_>, controller: &str) -> Vec<String> {
    let entries = directories(machine, controller).into_iter().flat_map(std::fs::read_dir).flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// A file of version 2, and the one of version 1.
fn file(machine: &Machine<'_>, [v2, v1]: [&str; 2], controller: &str) -> There {
    let unified = machine.host.cgroups.layout() == Layout::Unified;
    let name = if unified { v2 } else { v1 };
    let sign = if unified && !controller.is_empty() { format!("{controller}.") } else { "cgroup.procs".to_owned() };
    if name.is_empty() {
        return There::NotSeen("cgroup version 1 has no such file");
    }
    let directories = directories(machine, controller);
    let has = |directory: &PathBuf, wanted: &dyn Fn(&str) -> bool| {
        std::fs::read_dir(directory)
            .into_iter()
            .flatten()
            .flatten()
            .any(|entry| wanted(&entry.file_name().to_string_lossy()))
    };
    if directories.iter().any(|directory| directory.join(name).exists()) {
        return There::Yes;
    }
    // the root of version 2 has few files, and a cgroup without the controller does not have its files
    if machine.host.cgroups.v1.is_empty()
        && !directories.iter().skip(2).any(|directory| has(directory, &|found| found.starts_with(&sign)))
    {
        return There::NotSeen("no cgroup here shows it");
    }
    There::No
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows of docs/kernel.md: feature, and version of the kernel.
    fn page() -> Vec<(String, String, bool)> {
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/kernel.md")).unwrap();
        let (mut required, mut rows) = (false, Vec::new());
        for line in page.lines() {
            required = match line {
                "## Required" => true,
                _ if line.starts_with("## ") => false,
                _ => required,
            };
            let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            if line.starts_with("| ") && cells.len() == 5 && cells[0] != "feature" {
                let first = cells[1].split(", ").next().unwrap().to_owned();
                rows.push((cells[0].to_owned(), first, required));
            }
        }
        rows
    }

    #[test]
    fn every_row_of_the_page_is_looked_for() {
        let ours: Vec<_> = ROWS
            .iter()
            .chain(&NEWER)
            .map(|row| (row.feature.to_owned(), format!("{}.{}", row.first.0, row.first.1), row.without.is_none()))
            .collect();
        assert_eq!(ours, page());
    }

    #[test]
    fn a_release_is_its_first_two_numbers() {
        assert_eq!(release("6.1.0-25-amd64"), (6, 1));
        assert_eq!(release("5.12-rc1"), (5, 12));
        assert_eq!(release(""), (0, 0));
        assert_eq!(version("5.11.0", (5, 11)).fitness, Fitness::Missing);
    }

    #[test]
    fn what_is_not_there_says_what_follows_and_what_to_do() {
        let row = optional("x", (5, 14), "y: refused", |_| There::No);
        let host = Host::default();
        let old = of_row(&row, &Machine { release: (5, 12), host: &host });
        assert_eq!((old.fitness, &*old.said, &*old.advice), (Fitness::Without, "y: refused", "Linux 5.14 or newer"));
        let hidden = of_row(&row, &Machine { release: (6, 1), host: &host });
        assert!(hidden.advice.contains("seccomp filter"), "{}", hidden.advice);
        let needed = of_row(&required("x", (5, 1), |_| There::No), &Machine { release: (5, 0), host: &host });
        assert_eq!(needed.fitness, Fitness::Missing);
    }
}
