//! `--systemd-cgroup`: the container is a unit of systemd. These tests need systemd as the first process. Tests for
//! hosts without systemd are at the end.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde_json::json;

use crate::cgroups::{directory, read, unified};
use crate::world::{Outcome, Who, World, below_unit, finish, finish_with, runtime, wait_until, who};
use crate::{needs, needs_cgroup, only};

const MIB: u64 = 1 << 20;
const NO_SYSTEMD: &str = "systemd is not the first process here";

fn systemd() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// A container for the unit `coracle-ID.scope` in system.slice.
fn container(args: &[&str]) -> World {
    let mut world = World::running(args);
    *world.at("/linux/cgroupsPath") = json!(format!("system.slice:coracle:{}", world.id));
    world
}

#[track_caller]
fn by_systemd(world: &World, args: &[&str]) -> Outcome {
    world.write();
    world.call(&[&["--systemd-cgroup"], args].concat())
}

#[track_caller]
fn begin(world: &World) {
    by_systemd(world, &["run", "-d", &world.id]).ok();
}

fn unit(world: &World) -> String {
    format!("coracle-{}.scope", world.id)
}

fn systemctl(args: &[&str]) -> Outcome {
    finish(Command::new("systemctl").args(args))
}

#[track_caller]
fn property(unit: &str, name: &str) -> String {
    systemctl(&["show", "-P", name, unit]).ok().trim().to_owned()
}

/// The container's directory in the hierarchy of a controller: that of its first process.
fn place(world: &World, controller: &str) -> PathBuf {
    let groups = fs::read_to_string(format!("/proc/{}/cgroup", world.pid())).unwrap();
    let of = |line: &&str| match line.split(':').nth(1) {
        Some(controllers) if !unified() => controllers.split(',').any(|one| one == controller),
        controllers => controllers == Some(""),
    };
    let line = groups.lines().find(of).unwrap_or_else(|| panic!("no {controller} in {groups}"));
    directory(controller, line.splitn(3, ':').nth(2).unwrap())
}

/// Its memory limit, and its CPU quota and period in microseconds.
fn limits(world: &World) -> (String, String) {
    if unified() {
        let place = place(world, "");
        return (read(&place, "memory.max"), read(&place, "cpu.max"));
    }
    let cpu = ["cpu.cfs_quota_us", "cpu.cfs_period_us"].map(|file| read(&place(world, "cpu"), file));
    (read(&place(world, "memory"), "memory.limit_in_bytes"), cpu.join(" "))
}

/// Asserts that systemd has no unit with the id in its name.
#[track_caller]
fn assert_no_unit(id: &str) {
    let pattern = format!("*{id}*");
    let gone = || systemctl(&["list-units", "--all", "--plain", "--no-legend", &pattern]).ok().trim().is_empty();
    // systemd forgets a stopped unit a moment later.
    wait_until(&format!("no unit of {id} is left"), gone);
}

#[test]
fn the_container_is_a_scope_with_its_limits() {
    only!(Who::Us; "each has its own words for them");
    needs!(systemd(), NO_SYSTEMD);
    let mut world = container(&["sleep", "1000"]);
    *world.at("/linux/resources/memory") = json!({"limit": 64 * MIB, "reservation": 32 * MIB, "swap": 96 * MIB});
    *world.at("/linux/resources/cpu") = json!({"shares": 1024, "quota": 20000, "period": 50000, "cpus": "0"});
    *world.at("/linux/resources/pids") = json!({"limit": 30});
    begin(&world);
    let unit = unit(&world);
    let every = [
        ("ActiveState", "active"),
        ("Slice", "system.slice"),
        ("Delegate", "yes"),
        ("DefaultDependencies", "no"),
        ("CPUQuotaPerSecUSec", "400ms"),
        ("CPUQuotaPeriodUSec", "50ms"),
        ("TasksMax", "30"),
    ];
    let v2 = [
        ("MemoryMax", "67108864"),
        ("MemoryLow", "33554432"),
        ("MemorySwapMax", "33554432"),
        ("CPUWeight", "100"),
        ("AllowedCPUs", "0"),
    ];
    // On version 1, systemd has no properties for soft limits, swap and cpusets, and does not change them.
    let v1 = [("MemoryLimit", "67108864"), ("CPUShares", "1024"), ("DevicePolicy", "strict")];
    for (name, value) in every.iter().chain(if unified() { &v2[..] } else { &v1[..] }) {
        assert_eq!(property(&unit, name), *value, "{name}");
    }
    let own = format!("/system.slice/{unit}");
    assert_eq!(property(&unit, "ControlGroup"), own);
    assert!(["memory", "cpu", "pids"].iter().all(|name| place(&world, name) == directory(name, &own)));
    assert!(world.exec(&["cat", "/proc/self/cgroup"]).ok().lines().all(|line| line.ends_with(&own)));
    assert_eq!(limits(&world), ("67108864".into(), "20000 50000".into()));
    world.call(&["delete", "--force", &world.id]).ok();
    assert_no_unit(&world.id);
}

#[test]
fn a_subgroup_is_the_containers_own_cgroup() {
    only!(Who::Us, Who::Crun; "an annotation of crun");
    needs!(systemd(), NO_SYSTEMD);
    let mut world = container(&["sleep", "1000"]);
    *world.at("/annotations") = json!({"run.oci.systemd.subgroup": "own"});
    *world.at("/linux/resources/memory") = json!({"limit": 64 * MIB});
    *world.at("/linux/resources/cpu") = json!({"quota": 20000, "period": 50000, "cpus": "0"});
    *world.at("/linux/resources/pids") = json!({"limit": 30});
    begin(&world);
    let unit = unit(&world);
    let own = format!("/system.slice/{unit}/own");
    for name in ["memory", "cpu", "pids"] {
        assert_eq!(place(&world, name), directory(name, &own));
    }
    assert_eq!(limits(&world), ("67108864".into(), "20000 50000".into()));
    assert_eq!(read(&directory("cpuset", &own), "cpuset.cpus"), "0");
    assert_eq!(property(&unit, "ControlGroup"), format!("/system.slice/{unit}"));
    if who() == Who::Crun {
        return;
    }
    assert!(world.exec(&["cat", "/proc/self/cgroup"]).ok().lines().all(|line| line.ends_with(&own)));
    world.call(&["pause", &world.id]).ok();
    assert_eq!(world.status(), "paused");
    world.call(&["resume", &world.id]).ok();
    let stats: serde_json::Value = serde_json::from_str(&world.call(&["events", "--stats", &world.id]).ok()).unwrap();
    assert_eq!(stats["data"]["pids"]["limit"], 30, "{stats}");
    world.call(&["update", "--pids-limit", "20", &world.id]).ok();
    assert_eq!((read(&place(&world, "pids"), "pids.max"), property(&unit, "TasksMax")), ("20".into(), "20".into()));
    // Another container cannot use the unit, and does not end the first one.
    let mut other = container(&["sleep", "1000"]);
    *other.at("/linux/cgroupsPath") = json!(format!("system.slice:coracle:{}", world.id));
    *other.at("/annotations") = json!({"run.oci.systemd.subgroup": "other"});
    let said = by_systemd(&other, &["create", &other.id]).fails();
    assert!(said.contains("container's cgroup is not empty"), "{said}");
    assert_eq!(world.status(), "running");
    world.call(&["kill", &world.id, "KILL"]).ok();
    world.wait_for_status("stopped");
    world.call(&["delete", &world.id]).ok();
    assert_no_unit(&world.id);
    world.assert_clean();
    // What fails later leaves neither the unit nor its cgroup.
    *world.at("/hooks") = json!({"createRuntime": [{"path": "/bin/false"}]});
    by_systemd(&world, &["create", &world.id]).fails();
    assert_no_unit(&world.id);
    world.assert_clean();
}

#[test]
fn a_cgroup_is_delegated_below_a_subgroup() {
    only!(Who::Us, Who::Crun; "annotations of crun");
    needs!(systemd(), NO_SYSTEMD);
    needs!(unified(), "this is about cgroup v2");
    let mut world = container(&["sleep", "1000"]);
    let both = json!({"run.oci.systemd.subgroup": "own", "run.oci.delegate-cgroup": "payload"});
    *world.at("/annotations") = both;
    *world.at("/linux/resources/pids") = json!({"limit": 30});
    begin(&world);
    let own = directory("", &format!("/system.slice/{}/own", unit(&world)));
    assert_eq!(place(&world, ""), own.join("payload"));
    assert_eq!((read(&own, "pids.max"), read(&own.join("payload"), "pids.max")), ("30".into(), "max".into()));
    world.call(&["delete", "--force", &world.id]).ok();
    assert_no_unit(&world.id);
}

#[test]
fn a_slice_is_below_the_slices_its_name_tells() {
    needs!(systemd(), NO_SYSTEMD);
    let mut world = container(&["sleep", "1000"]);
    let top = format!("t{}", world.id.replace('-', ""));
    *world.at("/linux/cgroupsPath") = json!(format!("{top}-b.slice:p:{}", world.id));
    begin(&world);
    let expected = format!("/{top}.slice/{top}-b.slice/p-{}.scope{}", world.id, below_unit());
    assert!(place(&world, "pids").ends_with(&expected[1..]), "{:?}", place(&world, "pids"));
    world.call(&["delete", "--force", &world.id]).ok();
    assert_no_unit(&world.id);
    systemctl(&["stop", &format!("{top}.slice")]).ok();
}

#[test]
fn annotations_are_properties_of_the_unit() {
    needs!(systemd(), NO_SYSTEMD);
    let mut world = container(&["sleep", "1000"]);
    *world.at("/annotations") = json!({"org.systemd.property.TimeoutStopUSec": "uint64 123000000"});
    begin(&world);
    assert_eq!(property(&unit(&world), "TimeoutStopUSec"), "2min 3s");
    if who() == Who::Crun {
        return; // crun does not know seconds
    }
    world.call(&["delete", "--force", &world.id]).ok();
    *world.at("/annotations") = json!({"org.systemd.property.TimeoutStopSec": "123"});
    begin(&world);
    assert_eq!(property(&unit(&world), "TimeoutStopUSec"), "2min 3s");
}

#[test]
fn a_unit_that_systemd_refuses_leaves_nothing() {
    only!(Who::Us; "the words");
    needs!(systemd(), NO_SYSTEMD);
    let mut world = container(&["sleep", "1000"]);
    *world.at("/annotations") = json!({"org.systemd.property.NoSuchThing": "true"});
    let said = by_systemd(&world, &["create", &world.id]).fails();
    assert!(said.contains("linux.cgroupsPath: systemd: start transient unit"), "{said}");
    *world.at("/annotations") = json!({"org.systemd.property.TimeoutStopUSec": "soon"});
    let said = by_systemd(&world, &["create", &world.id]).fails();
    assert!(said.contains("annotations[\"org.systemd.property.TimeoutStopUSec\"]: \"soon\" is not a value"), "{said}");
    assert_no_unit(&world.id);
    world.assert_clean();
}

/// Opens a device that no default rule allows.
fn open_kernel_log(world: &World) -> bool {
    let outcome = world.exec(&["sh", "-c", "true >/dev/kernel"]);
    assert!(outcome.code() == 0 || outcome.err.contains("not permitted"), "{}", outcome.err);
    outcome.code() == 0
}

fn device_world() -> World {
    let mut world = container(&["sleep", "1000"]);
    for set in ["bounding", "effective", "permitted"] {
        *world.at(&format!("/process/capabilities/{set}")) = json!(["CAP_MKNOD"]);
    }
    world
}

#[test]
fn a_reload_keeps_limits_and_devices() {
    needs!(systemd(), NO_SYSTEMD);
    let mut world = device_world();
    *world.at("/linux/resources/memory") = json!({"limit": 64 * MIB});
    // A quota that systemd can keep at a reload: a whole percentage of a CPU.
    *world.at("/linux/resources/cpu") = json!({"quota": 12000, "period": 100_000});
    *world.at("/linux/resources/devices") = json!([{"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "w"},
        {"allow": true, "type": "c", "major": 10, "access": "rw"}]);
    begin(&world);
    world.exec(&["mknod", "/dev/kernel", "c", "1", "11"]).ok();
    // A device that does not exist, of a major number that is allowed completely.
    world.exec(&["mknod", "/dev/none", "c", "10", "111"]).ok();
    world.exec(&["mknod", "/dev/mem", "c", "1", "1"]).ok();
    for _ in 0..2 {
        assert_eq!(limits(&world), ((64 * MIB).to_string(), "12000 100000".into()));
        assert!(open_kernel_log(&world));
        assert!(world.exec(&["head", "-c1", "/dev/mem"]).fails().contains("not permitted"));
        assert!(world.exec(&["head", "-c1", "/dev/none"]).fails().contains("No such device"));
        systemctl(&["daemon-reload"]).ok();
    }
}

#[test]
fn an_update_is_the_units_too_and_outlives_a_reload() {
    only!(Who::Us; "leaves devices alone (runc #3401)");
    needs!(systemd(), NO_SYSTEMD);
    let mut world = device_world();
    *world.at("/linux/resources/memory") = json!({"limit": 64 * MIB});
    begin(&world);
    world.exec(&["mknod", "/dev/kernel", "c", "1", "11"]).ok();
    assert!(!open_kernel_log(&world));
    let unit = unit(&world);
    let asked = json!({"memory": {"limit": 96 * MIB}, "pids": {"limit": 40}, "cpu": {"quota": 12000, "cpus": "0"},
        "devices": [{"allow": false}, {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "w"}]});
    finish_with(&mut world.command(&["update", "-r", "-", &world.id]), asked.to_string().as_bytes()).ok();
    let memory = if unified() { "MemoryMax" } else { "MemoryLimit" };
    for _ in 0..2 {
        for (name, value) in [(memory, "100663296"), ("TasksMax", "40"), ("AllowedCPUs", "0")] {
            assert_eq!(property(&unit, name), value, "{name}");
        }
        assert_eq!(limits(&world), ("100663296".into(), "12000 100000".into()));
        assert_eq!(read(&place(&world, "cpuset"), "cpuset.cpus"), "0");
        assert!(open_kernel_log(&world));
        systemctl(&["daemon-reload"]).ok();
    }
    // A refused limit is undone in systemd, too.
    world.call(&["update", "--memory", "32M", "--cpuset-mems", "999", &world.id]).fails();
    assert_eq!((property(&unit, memory), limits(&world).0), ("100663296".into(), "100663296".into()));
    // One of two values that belong together. The next reload knows both.
    world.call(&["update", "--cpu-period", "50000", &world.id]).ok();
    systemctl(&["daemon-reload"]).ok();
    assert_eq!(limits(&world).1, "12000 50000");
}

/// A quota with its period, or a period alone, in the form of [`limits`], and the values after a reload of systemd.
#[test]
fn systemd_writes_the_requested_values_again() {
    only!(Who::Us; "runc rounds the quota up, and crun does not tell systemd of it");
    needs!(systemd(), NO_SYSTEMD);
    let none = if unified() { "max" } else { "-1" };
    let rows = [
        (json!({"quota": 12345, "period": 100_000}), "12345 100000".to_owned(), "12000 100000".to_owned()),
        (json!({"quota": 30000, "period": 900_000}), "30000 900000".to_owned(), "27000 900000".to_owned()),
        (json!({"period": 50000}), format!("{none} 50000"), format!("{none} 100000")),
    ];
    for (cpu, exact, rounded) in rows {
        let mut world = container(&["sleep", "1000"]);
        *world.at("/linux/resources/cpu") = cpu.clone();
        if unified() {
            *world.at("/linux/resources/unified") = json!({"memory.oom.group": "1"});
        }
        begin(&world);
        let either = [exact.as_str(), rounded.as_str()];
        // systemd has no property for a period without a quota.
        let after_set = if cpu["quota"].is_null() { &either[..] } else { &either[..1] };
        let says = |after: &str, quota: &[&str]| {
            let said = limits(&world).1;
            assert!(quota.contains(&&*said), "{cpu} after {after}: {said}");
            assert!(!unified() || read(&place(&world, ""), "memory.oom.group") == "1", "{cpu} after {after}");
        };
        let set = || systemctl(&["set-property", "--runtime", &unit(&world), "TasksMax=77"]).ok();
        let update = || world.call(&["update", "--pids-limit", "55", &world.id]).ok();
        says("run", &either[..1]);
        set();
        says("set-property", after_set);
        update();
        says("update", &either[..1]);
        systemctl(&["daemon-reload"]).ok();
        // Whole percents. A systemd that keeps the exact value is fine, too.
        says("daemon-reload", &either);
        update();
        says("update after daemon-reload", &either[..1]);
        set();
        says("set-property after all", after_set);
    }
}

#[test]
fn too_little_memory_is_named_by_unit_too() {
    only!(Who::Us; "the words");
    needs!(systemd(), NO_SYSTEMD);
    // systemd keeps the first slice. It removes the second one with its last unit, and the count of OOM kills is lost.
    let own = format!("coracleit{}.slice", std::process::id());
    let slices = ["system.slice", &own, &own];
    let limits = [4096, 32768, 65536, 131_072, 524_288];
    for (slice, limit) in slices.into_iter().flat_map(|slice| limits.map(|limit| (slice, limit))) {
        let mut world = container(&["true"]);
        *world.at("/linux/cgroupsPath") = json!(format!("{slice}:coracle:{}", world.id));
        *world.at("/linux/resources/memory") = json!({"limit": limit});
        let ran = by_systemd(&world, &["run", &world.id]);
        // If the program begins with this limit, the kernel may kill it later.
        assert!(limit > 32768 || ran.code() == 1, "{slice} {limit}: {} {}", ran.code(), ran.err);
        let killed = "linux.resources.memory.limit: container init was OOM-killed";
        // Version 1 refuses a limit below the memory in use.
        let used =
            !unified() && ran.err.contains("linux.resources.memory.limit: write") && ran.err.contains("in use: ");
        let named = ran.err.contains(killed) || used;
        assert!(named || [0, 137].contains(&ran.code()), "{slice} {limit}: {} {}", ran.code(), ran.err);
        assert_no_unit(&world.id);
        world.assert_clean();
    }
}

#[test]
fn a_unit_that_an_earlier_container_left_is_replaced() {
    only!(Who::Us, Who::Crun; "Debian's runc takes the failed unit for its own, and leaves it failed");
    needs!(systemd(), NO_SYSTEMD);
    let world = container(&["sleep", "1000"]);
    let unit = unit(&world);
    // The unit exceeds its time, fails, and stays as a failed unit.
    let mut left = Command::new("systemd-run");
    left.args(["--scope", "--quiet", "--slice=system.slice", "-p", "RuntimeMaxSec=1", "--unit", &unit, "sleep", "100"]);
    finish(&mut left);
    wait_until("the unit has failed", || property(&unit, "ActiveState") == "failed");
    begin(&world);
    assert_eq!(property(&unit, "ActiveState"), "active");
    world.call(&["delete", "--force", &world.id]).ok();
    assert_no_unit(&world.id);
}

#[test]
fn a_container_that_cannot_be_made_leaves_no_unit() {
    needs!(systemd(), NO_SYSTEMD);
    let mut world = container(&["/no/such/program"]);
    by_systemd(&world, &["run", "-d", &world.id]).fails();
    assert_no_unit(&world.id);
    *world.at("/process/args") = json!(["true"]);
    *world.at("/hooks/createRuntime") = json!([{"path": "/bin/false"}]);
    by_systemd(&world, &["create", &world.id]).fails();
    assert_no_unit(&world.id);
    world.assert_clean();
}

#[test]
fn a_container_that_has_ended_is_deleted_with_its_unit() {
    needs!(systemd(), NO_SYSTEMD);
    let world = container(&["true"]);
    begin(&world);
    world.wait_for_status("stopped");
    world.call(&["delete", &world.id]).ok();
    assert_no_unit(&world.id);
    by_systemd(&world, &["run", &world.id]).ok();
    assert_no_unit(&world.id);
}

/// Ids for containers of one bundle. Their units have the same names.
fn many(world: &World, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{}-{n}", world.id)).collect()
}

#[test]
fn twenty_at_once_are_all_made_and_all_go() {
    needs!(systemd(), NO_SYSTEMD);
    let mut world = container(&["sleep", "1000"]);
    *world.at("/linux/cgroupsPath") = json!(null);
    world.write();
    let ids = many(&world, 20);
    let all = |args: &[&str]| {
        std::thread::scope(|scope| {
            let calls: Vec<_> =
                ids.iter().map(|id| scope.spawn(|| world.call(&[args, &[id.as_str()]].concat()))).collect();
            calls.into_iter().for_each(|call| drop(call.join().unwrap().ok()));
        });
    };
    all(&["--systemd-cgroup", "run", "-d"]);
    let units = systemctl(&["list-units", "--plain", "--no-legend", &format!("*{}*", world.id)]).ok();
    assert_eq!(units.lines().count(), 20, "{units}");
    all(&["delete", "--force"]);
    assert_no_unit(&world.id);
}

/// Each container needs one call to systemd, and one more at its end. MANY sets another number of containers than ten,
/// for docs/cgroups.md.
#[test]
fn every_container_takes_one_start_and_at_most_one_stop() {
    only!(Who::Us; "it counts our calls");
    needs!(systemd(), NO_SYSTEMD);
    let count = std::env::var("MANY").map_or(10, |many| many.parse().unwrap());
    let mut world = container(&["true"]);
    *world.at("/linux/cgroupsPath") = json!(null);
    world.write();
    let ids = many(&world, count);
    // Our messages arrive at systemd's own socket, and are in its log.
    systemctl(&["log-level", "debug"]).ok();
    let began = Instant::now();
    for id in &ids {
        world.call(&["--systemd-cgroup", "create", id]).ok();
        world.call(&["delete", "--force", id]).ok();
    }
    let took = began.elapsed();
    systemctl(&["log-level", "info"]).ok();
    finish(Command::new("journalctl").arg("--sync")).ok();
    let log = finish(Command::new("journalctl").args(["-b", "-o", "cat", "_PID=1"])).ok();
    let jobs = |kind: &str| {
        let job = format!(".scope/{kind}/replace");
        log.lines().filter(|l| l.contains(&world.id) && l.contains("Trying to enqueue job") && l.contains(&job)).count()
    };
    eprintln!("{count} created and deleted in {took:?}: {} start jobs, {} stop jobs", jobs("start"), jobs("stop"));
    for (method, calls) in calls(&log) {
        eprintln!("  {calls} {method}");
    }
    assert_eq!(jobs("start"), count);
    // A scope without processes mostly ends by itself before the runtime stops it.
    assert!(jobs("stop") <= count, "{}", jobs("stop"));
    assert_no_unit(&world.id);
}

/// The methods that were called while systemd's log was open, and how often.
fn calls(log: &str) -> BTreeMap<&str, usize> {
    let mut calls = BTreeMap::new();
    for line in log.lines().filter(|line| line.contains("Got message type=method_call")) {
        let method = line.split_whitespace().find_map(|word| word.strip_prefix("member="));
        *calls.entry(method.unwrap_or_default()).or_default() += 1;
    }
    calls
}

/// Runs a script as the guest's user `test` in a session of that user. pam_systemd is optional: if it does not get a
/// session in time, `su` continues in our own cgroup.
fn by_user(world: &World, script: &str) -> Outcome {
    let uid = finish(Command::new("id").args(["-u", "test"])).ok();
    let run = format!("/run/user/{}", uid.trim());
    let bus = format!("export XDG_RUNTIME_DIR={run} DBUS_SESSION_BUS_ADDRESS=unix:path={run}/bus; ");
    let session = "grep -q /session- /proc/self/cgroup || { echo no session of logind >&2; exit 99; }; ";
    let script = format!("{session}{bus}cd {}; {script}", world.bundle().display());
    finish(Command::new("su").args(["-l", "test", "-c", &script]))
}

#[test]
fn an_ordinary_users_container_is_a_unit_of_the_users_own_systemd() {
    only!(Who::Us, Who::Crun; "runc 1.1 wants a bus daemon and is refused by it");
    needs!(systemd(), NO_SYSTEMD);
    needs!(unified(), "version 1 gives no controller to an ordinary user");
    let user = finish(Command::new("id").args(["-u", "test"]));
    needs!(user.status.success() && Path::new("/run/systemd/seats").exists(), "no user `test` with sessions here");
    let uid: u32 = user.out.trim().parse().unwrap();
    // logind waits for the user's systemd before it makes a session. Without a session it would stop that systemd.
    finish(Command::new("loginctl").args(["enable-linger", "test"])).ok();
    systemctl(&["start", &format!("user@{uid}.service")]).ok();
    let mut world = World::running(&["sleep", "1000"]);
    world.for_one_user(uid);
    *world.at("/linux/cgroupsPath") = json!(format!("user.slice:coracle:{}", world.id));
    *world.at("/linux/resources") = json!({"pids": {"limit": 20}, "memory": {"limit": 64 * MIB}});
    world.write();
    fs::create_dir_all(world.path("state")).unwrap();
    finish(Command::new("chown").args(["-hR", "test:test"]).arg(world.path(""))).ok();
    let call = format!("{} --root {} --systemd-cgroup", runtime().display(), world.path("state").display());
    let (id, unit) = (&world.id, unit(&world));
    by_user(&world, &format!("{call} run -d {id}")).ok();
    let show = |name: &str| by_user(&world, &format!("systemctl --user show -P {name} {unit}")).ok().trim().to_owned();
    let group = directory("", &(show("ControlGroup") + below_unit()));
    assert_eq!((read(&group, "pids.max"), read(&group, "memory.max")), ("20".into(), (64 * MIB).to_string()));
    if who() == Who::Us {
        // From a session's scope into the tree of the user's systemd. crun may not do this.
        let seen = by_user(&world, &format!("{call} exec {id} cat /proc/self/cgroup")).ok();
        assert!(seen.contains(&format!("/{unit}")), "{seen}");
    }
    // The values in systemd. crun does not send them.
    let known = || (show("TasksMax"), show("MemoryMax"));
    assert!(who() == Who::Crun || known() == ("20".into(), (64 * MIB).to_string()), "{:?}", known());
    by_user(&world, &format!("{call} update --pids-limit 30 {id}")).ok();
    assert_eq!(read(&group, "pids.max"), "30");
    assert!(who() == Who::Crun || known().0 == "30", "{:?}", known());
    by_user(&world, &format!("{call} delete --force {id}")).ok();
    assert!(!group.exists());
    let failed = by_user(&world, "systemctl --user --failed --plain --no-legend").ok();
    assert_eq!(failed.trim(), "");
    finish(Command::new("loginctl").args(["disable-linger", "test"])).ok();
}

#[test]
fn without_systemd_it_is_refused_at_once_and_nothing_is_left() {
    needs_cgroup!();
    only!(Who::Us; "the words");
    needs!(!systemd(), "systemd is the first process here");
    let world = container(&["true"]);
    let began = Instant::now();
    for flag in ["--systemd-cgroup", "--cgroup-manager=systemd"] {
        world.write();
        let said = world.call(&[flag, "create", &world.id]).fails();
        assert!(said.contains("this host was not booted with systemd"), "{said}");
    }
    assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
    world.assert_clean();
}

#[test]
fn a_path_that_names_no_unit_is_an_error_with_its_place() {
    only!(Who::Us; "the words");
    let mut world = container(&["true"]);
    for (path, problem) in [
        ("/a/b", "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups"),
        ("a:b", "expected cgroupsPath to be of format"),
        ("a--b.slice:p:n", "\"a--b.slice\" is not a slice name"),
        ("system.slice:p:", "has no name of a unit"),
    ] {
        *world.at("/linux/cgroupsPath") = json!(path);
        let said = by_systemd(&world, &["create", &world.id]).fails();
        assert!(said.contains(&format!("linux.cgroupsPath: {problem}")) || said.contains(problem), "{path}: {said}");
        assert!(said.contains("linux.cgroupsPath: "), "{path}: {said}");
    }
    world.assert_clean();
}

#[test]
fn explain_shows_the_unit() {
    only!(Who::Us; "has no explain");
    let mut world = container(&["true"]);
    *world.at("/linux/resources/pids") = json!({"limit": 30});
    world.write();
    let mut explain = Command::new(runtime());
    explain.args(["--systemd-cgroup", "explain", world.bundle().to_str().unwrap()]);
    let plan = finish(&mut explain).ok();
    for line in [format!("systemd unit {} in system.slice", unit(&world)), "unit property TasksMax=30".to_owned()] {
        assert!(plan.contains(&line), "{line:?} is not in:\n{plan}");
    }
}
