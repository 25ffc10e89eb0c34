//! The container's cgroup: its path, its files, and its removal at the end. The same tests run on version 1, on version 2,
//! and with systemd.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::ordinary;
use crate::world::{Who, World, by_units, skip, test_name, wait_until, who};
use crate::{needs, needs_cgroup, needs_root, only};

const TOP: &str = "/sys/fs/cgroup";

pub fn unified() -> bool {
    Path::new(TOP).join("cgroup.controllers").exists()
}

/// The directory of the group in the hierarchy with this controller. Version 2 has only one hierarchy.
pub fn directory(controller: &str, group: &str) -> PathBuf {
    let hierarchy = if unified() { Path::new(TOP).to_path_buf() } else { Path::new(TOP).join(controller) };
    hierarchy.join(group.trim_start_matches('/'))
}

/// The lines `ID:CONTROLLERS:PATH` of a /proc/PID/cgroup whose hierarchy is mounted. The kernel still lists a hierarchy
/// of version 1 after it is unmounted (cgroups(7)), and no runtime can enter it.
fn of_mounted(groups: &str) -> Vec<&str> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mounted = |controllers: &str| {
        mounts.lines().filter_map(|line| line.split_once(" - cgroup ")).any(|(_, end)| {
            let options: Vec<_> = end.rsplit(' ').next().unwrap().split(',').collect();
            controllers.split(',').all(|one| options.contains(&one))
        })
    };
    let lines = groups.lines().filter(|line| {
        let controllers = line.split(':').nth(1).unwrap();
        controllers.is_empty() || mounted(controllers)
    });
    lines.collect()
}

pub fn read(directory: &Path, file: &str) -> String {
    let path = directory.join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
}

/// Removes directories that runtimes keep: the levels above the container's own.
pub fn remove_level(group: &str) {
    for hierarchy in fs::read_dir(TOP).unwrap().flatten() {
        let _ = fs::remove_dir(hierarchy.path().join(group));
    }
    let _ = fs::remove_dir(Path::new(TOP).join(group));
}

/// A container that may write to its own cgroup.
pub fn with_cgroup_mount(args: &[&str], options: &[&str]) -> World {
    let mut world = World::running(args);
    world.namespace("cgroup", None);
    world.mount(json!({
        "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options,
    }));
    world
}

#[test]
fn init_and_exec_are_in_every_hierarchy() {
    needs_cgroup!();
    let world = World::running(&["sleep", "1000"]);
    world.begin();
    let mine = |text: &str| {
        let lines: Vec<_> =
            of_mounted(text).into_iter().filter(|line| !line.ends_with(&format!(":/{}", world.group()))).collect();
        assert!(lines.is_empty(), "not in its own group: {lines:?}");
    };
    mine(&fs::read_to_string(format!("/proc/{}/cgroup", world.pid())).unwrap());
    mine(&world.exec(&["cat", "/proc/self/cgroup"]).ok());
    let ps = world.call(&["ps", "--format", "json", &world.id]).ok();
    assert_eq!(serde_json::from_str::<Vec<i32>>(&ps).unwrap(), [world.pid()]);
}

#[test]
fn every_level_hands_its_controllers_down() {
    needs_root!("begins at the top of the hierarchy");
    needs!(unified(), "version 2 alone has cgroup.subtree_control");
    let mut world = World::running(&["true"]);
    let top = world.id.clone();
    *world.at("/linux/cgroupsPath") = json!(format!("/{top}/middle/leaf"));
    world.create().ok();
    let available = read(Path::new(TOP), "cgroup.subtree_control");
    for group in [top.clone(), format!("{top}/middle")] {
        let handed = read(&directory("", &group), "cgroup.subtree_control");
        // Other runtimes enable only the controllers that they know.
        assert!(if who() == Who::Us { handed == available } else { handed.contains("memory") }, "{group}: {handed}");
    }
    assert_eq!(read(&directory("", &format!("{top}/middle/leaf")), "cgroup.subtree_control"), "");
    world.call(&["delete", "--force", &world.id]).ok();
    assert!(!directory("", &format!("{top}/middle/leaf")).exists());
    remove_level(&format!("{top}/middle"));
    remove_level(&top);
}

#[test]
fn a_relative_or_absent_path_is_below_our_own() {
    needs_root!("no ordinary user may make cgroups in what systemd keeps");
    only!(Who::Us, Who::Runc; "crun begins at the root of each hierarchy");
    for path in [json!("relative-{id}"), json!(null)] {
        let mut world = World::running(&["true"]);
        *world.at("/linux/cgroupsPath") =
            path.as_str().map_or(json!(null), |path| json!(path.replace("{id}", &world.id)));
        world.create().ok();
        let groups = fs::read_to_string(format!("/proc/{}/cgroup", world.pid())).unwrap();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        for line in of_mounted(&groups) {
            let (hierarchy, group) = line.rsplit_once(":/").unwrap();
            assert!(group.ends_with(&world.id), "{line}");
            let own = own.lines().find_map(|line| line.strip_prefix(&format!("{hierarchy}:/"))).unwrap();
            let group = Path::new(group).parent().unwrap();
            let expected =
                if hierarchy == "0:" { Path::new(own).parent().unwrap_or(Path::new("")) } else { own.as_ref() };
            assert_eq!(group, expected, "{line}");
        }
    }
}

/// A property of linux.resources, its file and the file's contents: on version 1, then on version 2.
type Limit = (&'static str, (&'static str, &'static str, &'static str), (&'static str, &'static str));

const LIMITS: [Limit; 14] = [
    (r#"{"pids":{"limit":20}}"#, ("pids", "pids.max", "20"), ("pids.max", "20")),
    (r#"{"pids":{"limit":-1}}"#, ("pids", "pids.max", "max"), ("pids.max", "max")),
    (r#"{"memory":{"limit":33554432}}"#, ("memory", "memory.limit_in_bytes", "33554432"), ("memory.max", "33554432")),
    (
        r#"{"memory":{"limit":33554432,"swap":33554432}}"#,
        ("memory", "memory.limit_in_bytes", "33554432"),
        ("memory.swap.max", "0"),
    ),
    (
        r#"{"memory":{"limit":33554432,"swap":50331648}}"#,
        ("memory", "memory.limit_in_bytes", "33554432"),
        ("memory.swap.max", "16777216"),
    ),
    (
        r#"{"memory":{"reservation":16777216}}"#,
        ("memory", "memory.soft_limit_in_bytes", "16777216"),
        ("memory.low", "16777216"),
    ),
    (r#"{"cpu":{"shares":1024}}"#, ("cpu", "cpu.shares", "1024"), ("cpu.weight", "100")),
    (r#"{"cpu":{"shares":2}}"#, ("cpu", "cpu.shares", "2"), ("cpu.weight", "1")),
    (r#"{"cpu":{"shares":262144}}"#, ("cpu", "cpu.shares", "262144"), ("cpu.weight", "10000")),
    (r#"{"cpu":{"quota":20000,"period":50000}}"#, ("cpu", "cpu.cfs_quota_us", "20000"), ("cpu.max", "20000 50000")),
    (r#"{"cpu":{"quota":20000}}"#, ("cpu", "cpu.cfs_period_us", "100000"), ("cpu.max", "20000 100000")),
    (r#"{"cpu":{"quota":-1}}"#, ("cpu", "cpu.cfs_quota_us", "-1"), ("cpu.max", "max 100000")),
    (r#"{"cpu":{"cpus":"0"}}"#, ("cpuset", "cpuset.cpus", "0"), ("cpuset.cpus", "0")),
    (r#"{"cpu":{"mems":"0"}}"#, ("cpuset", "cpuset.mems", "0"), ("cpuset.mems", "0")),
];

/// What Debian's runc and crun do differently: the weight is linear, and crun writes -1 unchanged.
fn differs(file: &str, resources: &str) -> bool {
    match who() {
        Who::Us => false,
        Who::Runc => file == "cpu.weight",
        Who::Crun => file == "cpu.weight" || resources.contains("-1"),
    }
}

#[test]
fn each_limit_is_in_its_file() {
    needs_cgroup!();
    for (resources, (controller, v1_file, v1), (v2_file, v2)) in LIMITS {
        let mut world = World::running(&["true"]);
        *world.at("/linux/resources") = serde_json::from_str(resources).unwrap();
        let (file, expected) = if unified() { (v2_file, v2) } else { (v1_file, v1) };
        if differs(file, resources) {
            continue;
        }
        world.create().ok();
        let place = directory(controller, &world.group());
        // A kernel without swap accounting does not have this file.
        if file != "memory.swap.max" || place.join(file).exists() {
            assert_eq!(read(&place, file), expected, "{resources}");
        }
        world.call(&["delete", "--force", &world.id]).ok();
        if who() != Who::Us {
            // runc 1.1 may leave its directories.
            remove_level(&world.id);
        }
    }
}

#[test]
fn burst_and_idle_are_written_where_the_kernel_has_them() {
    needs_cgroup!();
    only!(Who::Us; "Debian's peers are older than these");
    let mut world = World::running(&["true"]);
    let (burst, idle) = if unified() { ("cpu.max.burst", "cpu.idle") } else { ("cpu.cfs_burst_us", "cpu.idle") };
    needs!(
        directory("cpu", "").join("cpu.idle").exists() || unified() || any_group_has("cpu", idle),
        "this kernel has no cpu.idle"
    );
    *world.at("/linux/resources") = json!({"cpu": {"quota": 20000, "period": 50000, "burst": 10000}});
    world.create().ok();
    assert_eq!(read(&directory("cpu", &world.group()), burst), "10000");
    world.call(&["delete", "--force", &world.id]).ok();
    // An idle group has no weight: the kernel would refuse it.
    *world.at("/linux/resources") = json!({"cpu": {"shares": 512, "idle": 1}});
    world.create().ok();
    assert_eq!(read(&directory("cpu", &world.group()), idle), "1");
}

fn any_group_has(controller: &str, file: &str) -> bool {
    let groups = fs::read_dir(directory(controller, "")).into_iter().flatten().flatten();
    groups.into_iter().any(|group| group.path().join(file).exists())
}

#[test]
fn pids_zero_is_one() {
    needs_cgroup!();
    only!(Who::Us; "Debian's runc and crun take 0 for no limit");
    let mut world = World::running(&["true"]);
    *world.at("/linux/resources") = json!({"pids": {"limit": 0}});
    world.create().ok();
    assert_eq!(read(&directory("pids", &world.group()), "pids.max"), "1");
}

#[test]
fn too_many_processes_are_refused_to_the_container() {
    needs_cgroup!();
    let mut world = World::running(&["sh", "-c", "sleep 5 & sleep 5 & sleep 5 & sleep 5 & wait"]);
    *world.at("/linux/resources") = json!({"pids": {"limit": 3}});
    let ran = world.run();
    assert!(ran.err.contains("fork"), "{} {}", ran.out, ran.err);
}

#[test]
fn unified_is_written_line_by_line_on_version_2_alone() {
    needs!(unified() || who() != Who::Crun, "crun leaves cgroups of version 1 behind here");
    let mut world = World::running(&["true"]);
    *world.at("/linux/resources") =
        json!({"unified": {"memory.high": "67108864", "pids.max": "33", "cgroup.max.depth": "5"}});
    let created = world.create();
    if !unified() {
        let said = created.fails();
        if who() == Who::Us {
            assert!(
                said.contains("linux.resources.unified: invalid configuration for this host: it needs cgroup v2"),
                "{said}"
            );
        }
        return;
    }
    created.ok();
    let group = directory("", &world.group());
    assert_eq!(read(&group, "memory.high"), "67108864");
    assert_eq!(read(&group, "pids.max"), "33");
    assert_eq!(read(&group, "cgroup.max.depth"), "5");
}

#[test]
fn an_empty_value_in_unified_changes_nothing() {
    needs!(unified(), "unified is for version 2");
    // Debian's runc with systemd refuses most of them.
    only!(Who::Us, Who::Crun; "runc reads the values for systemd");
    for file in ["memory.high", "memory.max", "pids.max", "io.max", "cpuset.cpus", "cpuset.cpus.partition"] {
        // systemd limits the tasks of its units
        let [without, with] = [json!({}), json!({"unified": {file: ""}})].map(|resources| {
            let mut world = World::running(&["sleep", "1000"]);
            *world.at("/linux/resources") = resources;
            world.create().ok();
            read(&directory("", &world.group()), file)
        });
        assert_eq!(with, without, "{file}");
    }
}

#[test]
fn unified_tells_a_controller_that_is_not_there() {
    needs!(unified(), "unified is for version 2");
    only!(Who::Us; "the words are ours and newer runc's");
    let mut world = World::running(&["true"]);
    *world.at("/linux/resources") = json!({"unified": {"invented.max": "1"}});
    let said = world.create().fails();
    assert!(said.contains("linux.resources.unified.invented.max: write 1 to "), "{said}");
    assert!(said.contains(r#"(ENOENT): controller "invented" not available"#), "{said}");
    *world.at("/linux/resources") = json!({"unified": {"memory.invented": "1"}});
    let said = world.create().fails();
    assert!(said.contains("memory.invented") && said.contains("no such file"), "{said}");
    *world.at("/linux/resources") = json!({"unified": {"../memory.max": "1"}});
    let said = world.create().fails();
    assert!(said.contains("linux.resources.unified.../memory.max: "), "{said}");
}

#[test]
fn a_group_with_processes_is_refused() {
    needs_cgroup!();
    let world = World::running(&["sleep", "1000"]);
    world.begin();
    let mut other = World::running(&["true"]);
    *other.at("/linux/cgroupsPath") = world.config["linux"]["cgroupsPath"].clone();
    only!(Who::Us; "crun, and runc before 1.2, allow it");
    let said = other.create().fails();
    assert!(said.contains("container's cgroup is not empty"), "{said}");
    assert!(said.contains("1 process(es) found"), "{said}");
    assert_eq!(world.status(), "running");
}

#[test]
fn a_frozen_group_is_refused() {
    needs_cgroup!();
    needs!(!by_units(), "a unit is below none that is frozen");
    only!(Who::Us; "crun, and runc 1.1, hang in it");
    let world = World::running(&["true"]);
    let group = directory("freezer", &world.group());
    let above = group.join("below");
    fs::create_dir_all(&above).unwrap();
    let (file, frozen, thawed) =
        if unified() { ("cgroup.freeze", "1", "0") } else { ("freezer.state", "FROZEN", "THAWED") };
    fs::write(group.join(file), frozen).unwrap();
    let mut world = world;
    // The group itself is frozen; the group above it is frozen, and the message names that group; the group does not
    // exist yet.
    for below in ["", "/below", "/new"] {
        *world.at("/linux/cgroupsPath") = json!(format!("/{}{below}", world.group()));
        let said = world.create().fails();
        assert!(said.contains(&format!("unexpectedly frozen: {}\n", group.display())), "{said}");
        // The runtime keeps a group that it did not make.
        assert!(above.exists() && !group.join("new").exists(), "{below}");
    }
    fs::write(group.join(file), thawed).unwrap();
    let _ = fs::remove_dir(&above);
    let _ = fs::remove_dir(&group);
    remove_level(&format!("{}/below", world.group()));
    remove_level(&format!("{}/new", world.group()));
    remove_level(&world.group());
}

#[test]
fn pause_stops_all_and_resume_lets_them_go_on() {
    needs_cgroup!();
    let world = World::running(&["sh", "-c", "while :; do date +%s%N >/dev/shm/now; sleep 0.01; done"]);
    world.begin();
    world.wait_for_status("running");
    world.call(&["pause", &world.id]).ok();
    assert_eq!(world.status(), "paused");
    let now = || fs::read_to_string(format!("/proc/{}/root/dev/shm/now", world.pid())).unwrap_or_default();
    let then = now();
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!(now(), then, "it still runs");
    world.call(&["resume", &world.id]).ok();
    assert_eq!(world.status(), "running");
    wait_until("it runs again", || now() != then);
    world.call(&["pause", &world.id]).ok();
    // SIGKILL ends a frozen process.
    world.call(&["delete", "--force", &world.id]).ok();
}

/// A container with processes in groups below its own.
fn with_groups_below() -> World {
    let script = if unified() {
        "cd /sys/fs/cgroup && mkdir one one/two && (sleep 1000 & echo $! >one/two/cgroup.procs) && touch /dev/shm/done && sleep 1000"
    } else {
        "cd /sys/fs/cgroup/pids && mkdir one one/two && (sleep 1000 & echo $! >one/two/cgroup.procs) && touch /dev/shm/done && sleep 1000"
    };
    let world = with_cgroup_mount(&["sh", "-c", script], &["rw", "nosuid", "nodev", "noexec"]);
    world.begin();
    let done = format!("/proc/{}/root/dev/shm/done", world.pid());
    wait_until("the groups are made", || Path::new(&done).exists());
    world
}

#[test]
fn groups_that_the_container_made_are_found_killed_and_removed() {
    needs_cgroup!();
    let world = with_groups_below();
    let ps: Vec<i32> = serde_json::from_str(&world.call(&["ps", "--format", "json", &world.id]).ok()).unwrap();
    // crun 1.8 reads only its own group on version 2.
    assert!(ps.len() == 2 || who() == Who::Crun, "{ps:?}");
    world.call(&["delete", "--force", &world.id]).ok();
    assert_eq!(world.cgroups(), Vec::<PathBuf>::new());
    for pid in ps {
        assert!(!Path::new(&format!("/proc/{pid}/root/bin")).exists(), "{pid} is left");
    }
}

#[test]
fn without_a_pid_namespace_all_processes_are_killed_by_their_group() {
    needs_cgroup!();
    let mut world = World::running(&["sh", "-c", "sleep 1000 & sleep 1000 & wait"]);
    world.without_namespace("pid");
    world.begin();
    let processes =
        || serde_json::from_str::<Vec<i32>>(&world.call(&["ps", "--format", "json", &world.id]).ok()).unwrap();
    wait_until("all three are there", || processes().len() == 3);
    let all = processes();
    world.call(&["kill", "--all", &world.id, "KILL"]).ok();
    world.wait_for_status("stopped");
    wait_until("all are gone", || all.iter().all(|pid| !Path::new(&format!("/proc/{pid}/root/bin")).exists()));
    world.call(&["delete", &world.id]).ok();
}

#[test]
fn exec_joins_init_where_the_group_has_handed_its_processes_down() {
    needs!(unified(), "version 1 lets processes be anywhere");
    let script = "mkdir /sys/fs/cgroup/init && echo 1 >/sys/fs/cgroup/init/cgroup.procs \
        && echo +pids +memory >/sys/fs/cgroup/cgroup.subtree_control && touch /dev/shm/done && sleep 1000";
    let world = with_cgroup_mount(&["sh", "-c", script], &["rw"]);
    world.begin();
    let done = format!("/proc/{}/root/dev/shm/done", world.pid());
    wait_until("it has moved", || Path::new(&done).exists());
    assert_eq!(world.exec(&["cat", "/proc/self/cgroup"]).ok(), "0::/init\n");
    // exec uses the group that --cgroup names.
    only!(Who::Us, Who::Runc; "crun 1.8 has no exec --cgroup of this form");
    assert_eq!(world.call(&["exec", "--cgroup", "init", &world.id, "cat", "/proc/self/cgroup"]).ok(), "0::/init\n");
}

/// The device number of a whole disk, and its name.
pub fn disk() -> Option<(String, String)> {
    fs::read_dir("/sys/block").ok()?.flatten().find_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let virtual_one = ["loop", "ram", "zram", "dm-", "md"].iter().any(|kind| name.starts_with(kind));
        let numbers = fs::read_to_string(entry.path().join("dev")).ok().filter(|_| !virtual_one)?;
        Some((numbers.trim().to_owned(), name))
    })
}

#[test]
fn rates_of_a_disk_are_in_their_files() {
    needs_cgroup!();
    let Some((numbers, _)) = disk() else { return skip(&test_name(), "there is no disk here") };
    needs!(unified() || directory("blkio", "").exists(), "no controller for block I/O");
    let (major, minor) = numbers.split_once(':').unwrap();
    let (major, minor): (i64, i64) = (major.parse().unwrap(), minor.parse().unwrap());
    let rate = |rate: u64| json!([{"major": major, "minor": minor, "rate": rate}]);
    let mut world = World::running(&["true"]);
    *world.at("/linux/resources") = json!({"blockIO": {
        "throttleReadBpsDevice": rate(1_048_576), "throttleWriteBpsDevice": rate(2_097_152),
        "throttleReadIOPSDevice": rate(100), "throttleWriteIOPSDevice": rate(200),
    }});
    world.create().ok();
    let group = directory("blkio", &world.group());
    if unified() {
        assert_eq!(read(&group, "io.max"), format!("{numbers} rbps=1048576 wbps=2097152 riops=100 wiops=200"));
    } else {
        assert_eq!(read(&group, "blkio.throttle.read_bps_device"), format!("{numbers} 1048576"));
        assert_eq!(read(&group, "blkio.throttle.write_bps_device"), format!("{numbers} 2097152"));
        assert_eq!(read(&group, "blkio.throttle.read_iops_device"), format!("{numbers} 100"));
        assert_eq!(read(&group, "blkio.throttle.write_iops_device"), format!("{numbers} 200"));
    }
}

#[test]
fn huge_pages_are_limited_used_and_reserved() {
    needs_cgroup!();
    only!(Who::Us; "the peers want hugetlb in version 1, and know no reservations");
    needs!(Path::new("/sys/kernel/mm/hugepages/hugepages-2048kB").exists(), "no pages of 2 MB");
    needs!(ordinary::root() || !by_units(), "needs root: systemd hands hugetlb to no user");
    let of_version_2 =
        ["", "unified"].map(|top| fs::read_to_string(Path::new(TOP).join(top).join("cgroup.controllers")));
    let has = of_version_2.iter().flatten().any(|all| all.split_whitespace().any(|one| one == "hugetlb"));
    needs!(has || !of_mounted("1:hugetlb:/").is_empty(), "no hierarchy has the controller hugetlb");
    let mut world = World::running(&["true"]);
    *world.at("/linux/resources") = json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304}]});
    world.create().ok();
    let group = [
        directory("hugetlb", &world.group()).join("hugetlb.2MB.limit_in_bytes"),
        directory("unified", &world.group()).join("hugetlb.2MB.max"),
    ];
    let file = group.iter().find(|file| file.exists()).expect("a file with the limit");
    assert_eq!(fs::read_to_string(file).unwrap().trim(), "4194304");
    let reserved = file.to_str().unwrap().replace("2MB.", "2MB.rsvd.");
    assert_eq!(fs::read_to_string(reserved).unwrap().trim(), "4194304");
    world.call(&["delete", "--force", &world.id]).ok();
    *world.at("/linux/resources") = json!({"hugepageLimits": [{"pageSize": "3MB", "limit": 4_194_304}]});
    let said = world.create().fails();
    assert!(said.contains("linux.resources.hugepageLimits[0]: write 4194304 to "), "{said}");
}

#[test]
fn what_version_2_has_nothing_for_is_refused() {
    needs!(unified(), "version 1 has it all");
    only!(Who::Us; "runc ignores some of it, and crun has its own words");
    let mut world = World::running(&["true"]);
    *world.at("/linux/resources") = json!({"memory": {"swappiness": 10}, "network": {"classID": 7}});
    let said = world.create().fails();
    assert!(said.contains("linux.resources.memory.swappiness: needs cgroup v1"), "{said}");
    assert!(said.contains("linux.resources.network.classID: needs cgroup v1"), "{said}");
}

/// The group of an ended container may still have a restriction. The next container must not inherit it.
#[test]
fn a_group_that_was_used_before_has_no_old_restriction() {
    needs_root!("device rules");
    only!(Who::Us; "runc and crun make theirs again or add to it");
    let mut world = with_kmsg(json!([{"allow": false, "access": "rwm"}]));
    let inner = format!("{}/inner", world.id);
    fs::create_dir_all(directory("devices", &inner)).unwrap();
    *world.at("/linux/cgroupsPath") = json!(format!("/{inner}"));
    *world.at("/process/args") = json!(["sleep", "1000"]);
    world.begin();
    let mut other = with_kmsg(json!([{"allow": true, "access": "rwm"}]));
    *other.at("/linux/cgroupsPath") = json!(format!("/{inner}"));
    world.call(&["kill", &world.id, "KILL"]).ok();
    world.wait_for_status("stopped");
    assert_eq!(other.run().ok(), "fine\n");
    world.call(&["delete", "--force", &world.id]).ok();
    remove_level(&inner);
    remove_level(&world.id);
}

/// A device that no default rule allows: the kernel's log. The test opens it for writing.
const KMSG: (i64, i64) = (1, 11);

fn with_kmsg(rules: serde_json::Value) -> World {
    let mut world =
        World::running(&["sh", "-c", ": >/dev/kmsg && : >/dev/null && head -c 1 /dev/zero >/dev/null && echo fine"]);
    *world.at("/linux/devices") =
        json!([{"path": "/dev/kmsg", "type": "c", "major": KMSG.0, "minor": KMSG.1, "fileMode": 438}]);
    *world.at("/linux/resources") = json!({"devices": rules});
    world
}

#[test]
fn a_device_is_there_for_those_whose_rules_allow_it() {
    needs_root!("device rules");
    let (major, minor) = KMSG;
    let nothing = json!({"allow": false, "access": "rwm"});
    let kmsg = |allow: bool, access: &str| json!({"allow": allow, "type": "c", "major": major, "minor": minor, "access": access});
    let denied = |rules| {
        let ran = with_kmsg(rules).run();
        assert!(ran.err.contains("ermitted"), "{} {}", ran.out, ran.err);
    };
    let allowed = |rules| assert_eq!(with_kmsg(rules).run().ok(), "fine\n");
    denied(json!([nothing]));
    denied(json!([nothing, kmsg(true, "r")]));
    allowed(json!([nothing, kmsg(true, "w")]));
    allowed(json!([nothing, {"allow": true, "type": "c", "major": major, "access": "rw"}]));
    allowed(json!([{"allow": true, "access": "rwm"}]));
    denied(json!([{"allow": true, "access": "rwm"}, kmsg(false, "w")]));
    denied(json!([{"allow": true, "access": "rwm"}, kmsg(false, "rwm")]));
    denied(json!([nothing, kmsg(true, "rw"), kmsg(false, "w")]));
}

#[test]
fn a_memory_limit_that_is_too_small_is_reported() {
    needs_cgroup!();
    only!(Who::Us; "the peers say it in their own words, or not at all");
    let mut world = World::running(&["true"]);
    // A cgroup namespace is made inside the cgroup, so init has done nothing else before that.
    world.namespace("cgroup", None);
    *world.at("/linux/resources") = json!({"memory": {"limit": 4096}});
    let said = world.create().fails();
    assert!(said.contains("linux.resources.memory.limit"), "{said}");
    assert!(said.contains("OOM-killed (memory limit too low?)"), "{said}");
    world.assert_clean();
}

#[test]
fn a_cgroup_mount_in_a_cgroup_namespace_shows_its_own_group_as_the_root() {
    let world = with_cgroup_mount(
        &[
            "sh",
            "-c",
            "cat /proc/self/cgroup; cd /sys/fs/cgroup; ls; cat */cgroup.procs cgroup.procs; mkdir /sys/fs/cgroup/x /sys/fs/cgroup/pids/x",
        ],
        &["ro"],
    );
    let ran = world.run();
    for line in ran.out.lines().filter(|line| line.contains(":/")) {
        assert!(line.ends_with(":/"), "{}", ran.out);
    }
    assert!(ran.out.lines().any(|line| line == "1"), "its first process is not there: {} {}", ran.out, ran.err);
    assert!(ran.err.to_lowercase().contains("read-only file system"), "{}", ran.err);
    let expected = if unified() { "cgroup.controllers" } else { "memory" };
    assert!(ran.out.lines().any(|line| line == expected), "{}", ran.out);
}

#[test]
fn a_cgroup_mount_without_a_namespace_is_the_containers_own_part_of_version_1_and_the_whole_of_version_2() {
    needs_root!("the top of the hierarchy");
    let script = "cd /sys/fs/cgroup; cat cgroup.procs pids/cgroup.procs 2>/dev/null; echo; ls";
    let mut world = World::running(&["sh", "-c", script]);
    world.mount(json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]}));
    let out = world.run().ok();
    if unified() {
        // As with runc and crun: a container in the host's cgroup namespace sees the host's cgroups.
        assert!(out.lines().any(|line| line == world.id), "{out}");
    } else {
        let processes: Vec<_> = out.lines().take_while(|line| !line.is_empty()).collect();
        assert!(processes.contains(&"1"), "{out}");
        assert!(!processes.contains(&"0"), "processes from elsewhere are seen: {out}");
    }
}
