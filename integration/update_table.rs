//! update, value by value: each update changes one value, and all other files of the container's cgroup keep their
//! contents.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::cgroups::{directory, disk, unified};
use crate::world::{Outcome, Who, World, finish_with};
use crate::{needs_cgroup, needs_root, only};

const MIB: i64 = 1 << 20;

/// Files that a runtime sets, of both versions.
const FILES: [&str; 38] = [
    "blkio.bfq.weight",
    "blkio.throttle.read_bps_device",
    "blkio.throttle.read_iops_device",
    "blkio.throttle.write_bps_device",
    "blkio.throttle.write_iops_device",
    "cpu.cfs_burst_us",
    "cpu.cfs_period_us",
    "cpu.cfs_quota_us",
    "cpu.idle",
    "cpu.max",
    "cpu.max.burst",
    "cpu.rt_period_us",
    "cpu.rt_runtime_us",
    "cpu.shares",
    "cpu.weight",
    "cpuset.cpus",
    "cpuset.mems",
    "devices.list",
    "hugetlb.2MB.limit_in_bytes",
    "hugetlb.2MB.max",
    "hugetlb.2MB.rsvd.max",
    "io.bfq.weight",
    "io.max",
    "io.weight",
    "memory.high",
    "memory.limit_in_bytes",
    "memory.low",
    "memory.max",
    "memory.memsw.limit_in_bytes",
    "memory.min",
    "memory.oom.group",
    "memory.soft_limit_in_bytes",
    "memory.swap.max",
    "memory.swappiness",
    "net_cls.classid",
    "net_prio.ifpriomap",
    "pids.max",
    "rdma.max",
];

/// The contents of every file, by its name.
fn snapshot(world: &World) -> BTreeMap<String, String> {
    let controllers = ["blkio", "cpu", "cpuset", "devices", "hugetlb", "memory", "net_cls", "net_prio", "pids", "rdma"];
    let mut all = BTreeMap::new();
    let tops = if unified() { &controllers[..1] } else { &controllers[..] };
    let mut look = |place: &Path, file: &str| {
        if let Ok(said) = fs::read_to_string(place.join(file)) {
            all.insert(file.to_owned(), said);
        }
    };
    for controller in tops {
        FILES.iter().for_each(|file| look(&directory(controller, &world.group()), file));
    }
    // On a hybrid host.
    FILES.iter().for_each(|file| look(&Path::new("/sys/fs/cgroup/unified").join(world.group()), file));
    if let Ok(said) = fs::read_to_string(directory("memory", &world.group()).join("memory.oom_control")) {
        let disabled = said.lines().next().unwrap_or_default().to_owned();
        all.insert("memory.oom_control".to_owned(), disabled);
    }
    all
}

fn update_by(world: &World, resources: &Value) -> Outcome {
    finish_with(&mut world.command(&["update", "--resources", "-", &world.id]), resources.to_string().as_bytes())
}

/// Resources, and the files of version 1 and 2 that must change, as far as the host has them.
type Row = (Value, &'static [&'static str], &'static [&'static str]);

fn rows(numbers: Option<&str>) -> Vec<Row> {
    let mut rows: Vec<Row> = vec![
        (json!({"memory": {"limit": 96 * MIB}}), &["memory.limit_in_bytes"], &["memory.max", "memory.swap.max"]),
        (json!({"memory": {"swap": 200 * MIB}}), &["memory.memsw.limit_in_bytes"], &["memory.swap.max"]),
        (json!({"memory": {"reservation": 24 * MIB}}), &["memory.soft_limit_in_bytes"], &["memory.low"]),
        (json!({"cpu": {"shares": 3000}}), &["cpu.shares"], &["cpu.weight"]),
        (json!({"cpu": {"quota": 21000}}), &["cpu.cfs_quota_us"], &["cpu.max"]),
        (json!({"cpu": {"period": 45000}}), &["cpu.cfs_period_us"], &["cpu.max"]),
        (json!({"cpu": {"burst": 3000}}), &["cpu.cfs_burst_us"], &["cpu.max.burst"]),
        (json!({"pids": {"limit": 41}}), &["pids.max"], &["pids.max"]),
        (json!({"blockIO": {"weight": 300}}), &["blkio.bfq.weight"], &["io.bfq.weight", "io.weight"]),
        (
            json!({"devices": [{"allow": false}, {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"}]}),
            &["devices.list"],
            &[],
        ),
        (json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MIB}]}), HUGE, HUGE),
    ];
    if std::thread::available_parallelism().is_ok_and(|count| count.get() > 1) {
        rows.push((json!({"cpu": {"cpus": "0-1"}}), &["cpuset.cpus"], &["cpuset.cpus"]));
    }
    if unified() {
        rows.extend::<Vec<Row>>(vec![
            (json!({"unified": {"memory.high": "50331648"}}), &[], &["memory.high"]),
            (json!({"unified": {"memory.min": "4096"}}), &[], &["memory.min"]),
            (json!({"unified": {"memory.oom.group": "1"}}), &[], &["memory.oom.group"]),
        ]);
    } else {
        rows.extend::<Vec<Row>>(vec![
            (json!({"memory": {"swappiness": 40}}), &["memory.swappiness"], &[]),
            (json!({"memory": {"disableOOMKiller": false}}), &["memory.oom_control"], &[]),
        ]);
    }
    if let Some((major, minor)) = numbers.and_then(|numbers| numbers.split_once(':')) {
        let (major, minor): (i64, i64) = (major.parse().unwrap(), minor.parse().unwrap());
        let names = [
            ("throttleReadBpsDevice", &["blkio.throttle.read_bps_device"]),
            ("throttleWriteBpsDevice", &["blkio.throttle.write_bps_device"]),
            ("throttleReadIOPSDevice", &["blkio.throttle.read_iops_device"]),
            ("throttleWriteIOPSDevice", &["blkio.throttle.write_iops_device"]),
        ];
        rows.extend(names.into_iter().map(|(name, file)| -> Row {
            (json!({"blockIO": {name: [{"major": major, "minor": minor, "rate": 4096}]}}), file, &["io.max"])
        }));
    }
    rows
}

const HUGE: &[&str] = &["hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.max", "hugetlb.2MB.rsvd.max"];

/// A container with a value for everything that the test changes.
fn limited(numbers: Option<&str>, there: &dyn Fn(&str) -> bool) -> World {
    let mut world = World::running(&["sleep", "1000"]);
    let mut resources = json!({
        "memory": {"limit": 64 * MIB, "swap": 128 * MIB, "reservation": 32 * MIB},
        "cpu": {"shares": 2000, "quota": 20000, "period": 40000, "burst": 5000, "cpus": "0", "mems": "0"},
        "pids": {"limit": 40},
        "devices": [{"allow": false, "access": "rwm"}],
    });
    if unified() {
        resources["unified"] = json!({"memory.high": "41943040", "memory.min": "8192"});
    } else {
        resources["memory"]["swappiness"] = json!(30);
        resources["memory"]["disableOOMKiller"] = json!(true);
    }
    if there("blkio.bfq.weight") || there("io.weight") || there("io.bfq.weight") {
        resources["blockIO"]["weight"] = json!(200);
    }
    if HUGE.iter().any(|file| there(file)) {
        resources["hugepageLimits"] = json!([{"pageSize": "2MB", "limit": 2 * MIB}]);
    }
    if let Some((major, minor)) = numbers.and_then(|numbers| numbers.split_once(':')) {
        let (major, minor): (i64, i64) = (major.parse().unwrap(), minor.parse().unwrap());
        for (name, rate) in [
            ("throttleReadBpsDevice", 1_048_576),
            ("throttleWriteBpsDevice", 2_097_152),
            ("throttleReadIOPSDevice", 100),
            ("throttleWriteIOPSDevice", 200),
        ] {
            resources["blockIO"][name] = json!([{"major": major, "minor": minor, "rate": rate}]);
        }
    }
    *world.at("/linux/resources") = resources;
    world
}

#[test]
fn an_update_of_one_value_changes_no_other() {
    needs_cgroup!();
    needs_root!("every controller, and device rules");
    only!(Who::Us; "runc and crun set back what they do not keep");
    // The files that this host has.
    let bare = World::running(&["sleep", "1000"]);
    bare.begin();
    let files = snapshot(&bare);
    let there = |file: &str| files.contains_key(file);
    let disk = disk().map(|(numbers, _)| numbers).filter(|_| there("io.max") || there(FILES[1]));
    let world = limited(disk.as_deref(), &there);
    world.begin();
    let mut before = snapshot(&world);
    let mut done = 0;
    for (resources, v1, v2) in rows(disk.as_deref()) {
        let own: Vec<_> = if unified() { v2 } else { v1 }.iter().filter(|file| there(file)).collect();
        if own.is_empty() && resources["devices"].is_null() {
            println!("left out, the host has no file for it: {resources}");
            continue;
        }
        update_by(&world, &resources).ok();
        let after = snapshot(&world);
        let changed: Vec<_> = after.keys().filter(|file| after[*file] != before[*file]).collect();
        // io.weight exists instead of io.bfq.weight, or beside it.
        let fits = changed.iter().all(|file| own.iter().any(|own| own == file))
            && (changed.len() == own.len() || resources["blockIO"]["weight"].is_number() && changed.len() == 1);
        assert!(fits, "{resources}: changes {changed:?}, and must change {own:?}");
        before = after;
        done += 1;
    }
    println!("{done} values, {} files", before.len());
    assert_eq!(world.status(), "running");
}

#[test]
fn the_last_of_two_entries_of_a_device_is_changed() {
    needs_cgroup!();
    needs_root!("rates of a disk");
    only!(Who::Us; "runc sets both again, crun what it is given");
    let Some((numbers, _)) = disk() else { return crate::world::skip(&crate::world::test_name(), "no disk here") };
    let (major, minor) = numbers.split_once(':').unwrap();
    let (major, minor): (i64, i64) = (major.parse().unwrap(), minor.parse().unwrap());
    let rate = |rate: i64| json!({"major": major, "minor": minor, "rate": rate});
    let mut world = World::running(&["sleep", "1000"]);
    *world.at("/linux/resources/blockIO/throttleReadBpsDevice") = json!([rate(1_048_576), rate(2_097_152)]);
    world.begin();
    let says = || {
        let (controller, file) = if unified() { ("", "io.max") } else { ("blkio", "blkio.throttle.read_bps_device") };
        crate::cgroups::read(&directory(controller, &world.group()), file)
    };
    assert!(says().contains("2097152"), "{}", says());
    update_by(&world, &json!({"blockIO": {"throttleReadBpsDevice": [rate(4_194_304)]}})).ok();
    assert!(says().contains("4194304"), "{}", says());
    // A later update of another property does not restore the first entry.
    update_by(&world, &json!({"pids": {"limit": 40}})).ok();
    update_by(&world, &json!({"blockIO": {"throttleWriteBpsDevice": [rate(1_048_576)]}})).ok();
    assert!(says().contains("4194304"), "{}", says());
}
