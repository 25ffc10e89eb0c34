//! Where the limits of a container will be, which of them can be set, and whether systemd answers.

use std::path::{Path, PathBuf};

use rustix::fs::Access;

use super::finding::{Area, Finding, Fitness};
use crate::cgroup::systemd::must_answer;
use crate::host::cgroups::Layout;
use crate::host::{Cgroups, Environment, Host};
use crate::plan::resources::unit::Manager;
use crate::plan::resources::{placement, unit_placement};
use crate::sys::kernel_file::read_lossy;

/// A controller of version 2, the one of version 1, and what it limits.
const CONTROLLERS: [(&str, &str, &str); 7] = [
    ("cpu", "cpu", "linux.resources.cpu"),
    ("cpuset", "cpuset", "linux.resources.cpu.cpus and mems"),
    ("io", "blkio", "linux.resources.blockIO"),
    ("memory", "memory", "linux.resources.memory"),
    ("pids", "pids", "linux.resources.pids"),
    ("hugetlb", "hugetlb", "linux.resources.hugepageLimits"),
    ("rdma", "rdma", "linux.resources.rdma"),
];

/// The controllers of version 2 that a container uses on a host that also has version 1.
const BESIDE_VERSION_1: [&str; 2] = ["hugetlb", "rdma"];

pub(super) fn findings(host: &Host, environment: &Environment) -> Vec<Finding> {
    let cgroups = &host.cgroups;
    let mut found = vec![layout(cgroups)];
    if let Some(parent) = parent(cgroups) {
        let limits = limits_go_to(&parent, cgroups, host.me.uid);
        let fitness = limits.fitness;
        found.push(limits);
        // An ordinary user gets limits only from the user's own systemd, and none on version 1.
        let parent = if fitness == Fitness::Good { Some(parent) } else { of_users_systemd(cgroups, host.me.uid) };
        if let Some(there) = parent.map(|parent| controllers(cgroups, &parent)) {
            found.extend(CONTROLLERS.map(|(v2, v1, limits)| controller(&there, v2, v1, limits, host.me.uid, cgroups)));
        }
    }
    found.push(systemd(host.me.uid, environment));
    found
}

fn layout(cgroups: &Cgroups) -> Finding {
    let finding = |fitness, said: String| Finding::new(Area::Cgroups, "hierarchies", fitness, said);
    let v1: Vec<_> = cgroups.v1.iter().map(|hierarchy| hierarchy.controllers.join(",")).collect();
    match (cgroups.v1.is_empty(), &cgroups.v2) {
        (true, None) => finding(Fitness::Without, "none is mounted at /sys/fs/cgroup: no limit can be set".to_owned())
            .advice("mount -t cgroup2 cgroup2 /sys/fs/cgroup, or run containers with CgroupUse::Disabled"),
        (true, Some(_)) => finding(Fitness::Good, "version 2".to_owned()),
        (false, None) => finding(Fitness::Good, format!("version 1: {}", v1.join(" "))),
        (false, Some(v2)) => {
            let beside = beside_version_1(cgroups);
            let limits =
                if beside.is_empty() { "without limits".to_owned() } else { format!("for {}", beside.join(" ")) };
            let (v1, mount) = (v1.join(" "), v2.mount.display());
            finding(Fitness::Good, format!("version 1: {v1}; beside it, version 2 at {mount} {limits}"))
        }
    }
}

/// The directory in which the cgroup of a container without a cgroupsPath is made: that of its memory limit.
fn parent(cgroups: &Cgroups) -> Option<PathBuf> {
    let placement = placement(None, "ID", cgroups).ok()?;
    let directory = placement.directory("memory").or_else(|| placement.directory(""));
    let directory = directory.or_else(|| placement.directories.first().map(|cgroup| cgroup.directory.as_path()))?;
    directory.parent().map(Path::to_path_buf)
}

/// The directory of the user's systemd, which makes units there for `CgroupUse::Unit`.
fn of_users_systemd(cgroups: &Cgroups, uid: u32) -> Option<PathBuf> {
    if uid == 0 || cgroups.layout() != Layout::Unified {
        return None;
    }
    let placement = unit_placement(None, "ID", Manager::User, uid, cgroups).ok()?;
    let directory = placement.directory("")?.ancestors().find(|above| above.exists())?;
    directory
        .components()
        .any(|part| part.as_os_str().as_encoded_bytes().starts_with(b"user@"))
        .then(|| directory.into())
}

fn limits_go_to(parent: &Path, cgroups: &Cgroups, uid: u32) -> Finding {
    let name = "place of limits";
    let directory = parent.join("ID");
    if rustix::fs::access(parent, Access::WRITE_OK).is_ok() {
        let said = format!("{} (without linux.cgroupsPath)", directory.display());
        return Finding::new(Area::Cgroups, name, Fitness::Good, said);
    }
    let said = format!(
        "this user cannot make {}: containers run without limits, and a container with a limit fails",
        directory.display()
    );
    let finding = Finding::new(Area::Cgroups, name, Fitness::Without, said);
    finding.advice(if uid == 0 {
        "mount /sys/fs/cgroup writable"
    } else if cgroups.layout() == Layout::Unified {
        "CgroupUse::Unit asks the user's systemd; or call the runtime in `systemd-run --user --scope -p Delegate=yes`"
    } else {
        "limits of ordinary users need version 2: boot with systemd.unified_cgroup_hierarchy=1"
    })
}

/// The controllers that a container can use.
fn controllers(cgroups: &Cgroups, parent: &Path) -> Vec<String> {
    let v1 = cgroups.v1.iter().flat_map(|hierarchy| hierarchy.controllers.iter().cloned());
    let v2 = if cgroups.layout() == Layout::Unified { enabled_or_can_be(parent) } else { beside_version_1(cgroups) };
    v1.chain(v2).collect()
}

/// The controllers of version 2 for cgroups below this directory: those that are enabled, and those that the runtime
/// enables here and on the levels above (`cgroup/make.rs`). It may write there, and the level has no processes, or is the root.
fn enabled_or_can_be(directory: &Path) -> Vec<String> {
    let may_enable = |level: &Path| {
        let control = rustix::fs::access(level.join("cgroup.subtree_control"), Access::WRITE_OK).is_ok();
        let is_root = !level.join("cgroup.type").exists();
        control && (is_root || read_lossy(&level.join("cgroup.procs")).is_ok_and(|pids| pids.trim().is_empty()))
    };
    if !may_enable(directory) {
        return listed(directory, "cgroup.subtree_control");
    }
    let mut highest = directory;
    while let Some(above) = highest.parent().filter(|above| above.join("cgroup.controllers").exists()) {
        if !may_enable(above) {
            break;
        }
        highest = above;
    }
    listed(highest, "cgroup.controllers")
}

fn listed(directory: &Path, file: &str) -> Vec<String> {
    let text = read_lossy(&directory.join(file)).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

/// A hybrid host: the controllers of version 2 that containers use (`plan/resources/v1.rs`). Each level above a container
/// enables them.
fn beside_version_1(cgroups: &Cgroups) -> Vec<String> {
    let there = cgroups.v2.as_ref().map(|v2| listed(&v2.mount, "cgroup.controllers")).unwrap_or_default();
    there.into_iter().filter(|name| BESIDE_VERSION_1.contains(&name.as_str())).collect()
}

fn controller(there: &[String], v2: &str, v1: &str, limits: &str, uid: u32, cgroups: &Cgroups) -> Finding {
    let unified = cgroups.layout() == Layout::Unified;
    let name = if unified { v2 } else { v1 };
    let title = format!("{name} controller");
    if there.iter().any(|there| there == name) {
        return Finding::new(Area::Cgroups, title, Fitness::Good, "");
    }
    let finding = Finding::new(Area::Cgroups, title, Fitness::Without, format!("{limits}: refused"));
    let known = read_lossy(Path::new("/proc/cgroups")).unwrap_or_default();
    let row = known.lines().find(|line| line.split_whitespace().next() == Some(v1));
    finding.advice(match row.map(|row| row.trim_end().ends_with('0')) {
        Some(true) => format!("boot with cgroup_enable={v1}"),
        Some(false) if unified && uid != 0 && !BESIDE_VERSION_1.contains(&v2) => {
            "Delegate=cpu cpuset io memory pids in a drop-in of user@.service".to_owned()
        }
        // systemd does not delegate hugetlb and rdma, so root must enable them.
        Some(false) if unified => format!("as root, echo +{v2} > cgroup.subtree_control in each cgroup above"),
        Some(false) => format!("mount -t cgroup -o {v1} cgroup /sys/fs/cgroup/{v1}"),
        None => format!("a kernel with the {v1} controller"),
    })
}

/// The manager that `--systemd-cgroup` uses: the system's for root, the user's for another user.
fn systemd(uid: u32, environment: &Environment) -> Finding {
    let (name, manager) = if uid == 0 { ("systemd", Manager::System) } else { ("systemd of the user", Manager::User) };
    let finding = |fitness, said: String| Finding::new(Area::Cgroups, name, fitness, said);
    let refused = "CgroupUse::Unit fails";
    if !Path::new("/run/systemd/system").is_dir() {
        return finding(Fitness::Without, format!("systemd does not manage this machine: {refused}"))
            .advice("nothing, unless an engine asks for it: coracle makes cgroups itself");
    }
    if manager == Manager::User && environment.runtime_directory().is_none() {
        return finding(Fitness::Without, format!("XDG_RUNTIME_DIR is not set: {refused}"))
            .advice("log in by ssh or machinectl (not by su)");
    }
    match must_answer(manager, environment) {
        Ok(()) => finding(Fitness::Good, String::new()),
        Err(error) => {
            let why = format!("it does not answer: {error}: {refused}");
            finding(Fitness::Without, why).advice(match manager {
                Manager::System => "systemctl status",
                Manager::User => "loginctl enable-linger, and log in by ssh or machinectl (not by su)",
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "\
25 1 0:3 / / rw - ext4 r rw
30 25 0:27 / /sys/fs/cgroup rw - tmpfs tmpfs rw
32 30 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
";

    #[test]
    fn the_layout_is_named_and_limits_have_a_place() {
        let v1 = Cgroups::parse(V1, "4:memory:/m\n");
        assert_eq!((layout(&v1).fitness, layout(&v1).said.as_str()), (Fitness::Good, "version 1: memory"));
        assert_eq!(parent(&v1), Some(PathBuf::from("/sys/fs/cgroup/memory/m")));
        let v2 = Cgroups::parse("30 25 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "0::/user.slice/x.scope\n");
        assert_eq!(parent(&v2), Some(PathBuf::from("/sys/fs/cgroup/user.slice")));
        assert_eq!(layout(&Cgroups::default()).fitness, Fitness::Without);
        assert_eq!(parent(&Cgroups::default()), None);
    }

    #[test]
    fn a_controller_of_version_2_counts_beside_version_1() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("cgroup.controllers"), "hugetlb pids\n").unwrap();
        let v2 = Some(crate::host::cgroups::Unified { mount: directory.path().to_owned(), own: "/m".into() });
        let hybrid = Cgroups { v2, ..Cgroups::parse(V1, "4:memory:/m\n") };
        let said = format!("version 1: memory; beside it, version 2 at {} for hugetlb", directory.path().display());
        assert_eq!(layout(&hybrid).said, said);
        let there = controllers(&hybrid, &parent(&hybrid).unwrap());
        assert_eq!(there, ["memory", "hugetlb"]);
        assert_eq!(controller(&there, "hugetlb", "hugetlb", "x", 0, &hybrid).fitness, Fitness::Good);
        let pids = controller(&there, "pids", "pids", "x", 0, &hybrid);
        assert_eq!(pids.fitness, Fitness::Without, "containers use pids of version 1 there");
    }

    #[test]
    fn a_controller_that_the_runtime_enables_itself_counts() {
        let top = tempfile::tempdir().unwrap();
        let level = |path: &str, controllers: &str, procs: &str| {
            let level = top.path().join(path);
            std::fs::create_dir_all(&level).unwrap();
            for (file, text) in
                [("cgroup.controllers", controllers), ("cgroup.procs", procs), ("cgroup.subtree_control", "")]
            {
                std::fs::write(level.join(file), text).unwrap();
            }
            if !path.is_empty() {
                std::fs::write(level.join("cgroup.type"), "domain\n").unwrap();
            }
        };
        level("", "hugetlb memory pids\n", "1\n");
        level("a.slice", "memory pids\n", "");
        level("a.slice/b", "memory\n", "");
        let there = |path: &str| enabled_or_can_be(&top.path().join(path));
        assert_eq!(there("a.slice"), ["hugetlb", "memory", "pids"]);
        assert_eq!(there("a.slice/b"), ["hugetlb", "memory", "pids"]);
        // a level with processes enables nothing
        level("a.slice", "memory pids\n", "8\n");
        assert_eq!(there("a.slice/b"), ["memory"]);
        assert!(there("a.slice").is_empty());
    }

    #[test]
    fn a_controller_that_is_not_there_has_advice() {
        let v1 = Cgroups::parse(V1, "4:memory:/m\n");
        assert_eq!(controller(&["memory".to_owned()], "memory", "memory", "x", 0, &v1).fitness, Fitness::Good);
        let missing = controller(&[], "pids", "pids", "linux.resources.pids", 0, &v1);
        assert_eq!((missing.fitness, missing.said.as_str()), (Fitness::Without, "linux.resources.pids: refused"));
        assert!(!missing.advice.is_empty());
    }
}
