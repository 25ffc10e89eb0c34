//! update: it changes the limits of an existing container, on both cgroup versions, with systemd and without.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::cgroups::{directory, read, unified};
use crate::ordinary::root;
use crate::world::{Outcome, Who, World, by_units, finish_with, who};
use crate::{needs, needs_cgroup, needs_root, only};

const MIB: i64 = 1 << 20;

/// A running container with these resources and the usual device rules.
fn with(resources: Value) -> World {
    let mut world = World::running(&["sleep", "1000"]);
    for (name, value) in resources.as_object().unwrap() {
        *world.at(&format!("/linux/resources/{name}")) = value.clone();
    }
    world.begin();
    world
}

fn update(world: &World, flags: &[&str]) -> Outcome {
    world.call(&[&["update"], flags, &[&world.id]].concat())
}

/// Updates as containerd, Docker and CRI-O do.
fn update_by(world: &World, resources: &Value) -> Outcome {
    finish_with(&mut world.command(&["update", "--resources", "-", &world.id]), resources.to_string().as_bytes())
}

/// The contents of a file in the container's cgroup: of version 1 in its controller's directory, or of version 2.
fn says(world: &World, v1: (&str, &str), v2: &str) -> String {
    let file = if unified() { v2 } else { v1.1 };
    read(&directory(v1.0, &world.group()), file)
}

fn memory(world: &World) -> String {
    says(world, ("memory", "memory.limit_in_bytes"), "memory.max")
}

fn pids(world: &World) -> String {
    says(world, ("pids", "pids.max"), "pids.max")
}

fn quota(world: &World) -> String {
    match unified() {
        true => says(world, ("", ""), "cpu.max"),
        false => {
            [says(world, ("cpu", "cpu.cfs_quota_us"), ""), says(world, ("cpu", "cpu.cfs_period_us"), "")].join(" ")
        }
    }
}

fn shares(world: &World) -> String {
    says(world, ("cpu", "cpu.shares"), "cpu.weight")
}

/// Flags; controller and file of version 1; file of version 2; the contents of both afterwards.
type Case = (&'static [&'static str], (&'static str, &'static str), &'static str, &'static str, &'static str);

#[test]
fn every_flag_is_in_its_file() {
    needs_cgroup!();
    let world = with(json!({}));
    let mut cases: Vec<Case> = vec![
        (&["--pids-limit", "20"], ("pids", "pids.max"), "pids.max", "20", "20"),
        (&["--pids-limit=-1"], ("pids", "pids.max"), "pids.max", "max", "max"),
        (&["--memory", "67108864"], ("memory", "memory.limit_in_bytes"), "memory.max", "67108864", "67108864"),
        (
            &["--memory-reservation", "33554432"],
            ("memory", "memory.soft_limit_in_bytes"),
            "memory.low",
            "33554432",
            "33554432",
        ),
        (
            &["--cpu-period", "50000", "--cpu-quota", "20000"],
            ("cpu", "cpu.cfs_quota_us"),
            "cpu.max",
            "20000",
            "20000 50000",
        ),
        (&["--cpuset-cpus", "0"], ("cpuset", "cpuset.cpus"), "cpuset.cpus", "0", "0"),
        (&["--cpuset-mems", "0"], ("cpuset", "cpuset.mems"), "cpuset.mems", "0", "0"),
    ];
    if who() == Who::Us {
        // Units, and values that Debian's runc and crun convert differently or do not know.
        cases.extend::<Vec<Case>>(vec![
            (&["--memory", "96M"], ("memory", "memory.limit_in_bytes"), "memory.max", "100663296", "100663296"),
            (&["-memory=0.125GiB"], ("memory", "memory.limit_in_bytes"), "memory.max", "134217728", "134217728"),
            (&["--cpu-share", "2048"], ("cpu", "cpu.shares"), "cpu.weight", "2048", "174"),
            (&["--cpu-burst", "7000"], ("cpu", "cpu.cfs_burst_us"), "cpu.max.burst", "7000", "7000"),
            (&["--cpu-idle", "1"], ("cpu", "cpu.idle"), "cpu.idle", "1", "1"),
            (&["--cpu-idle", "0"], ("cpu", "cpu.idle"), "cpu.idle", "0", "0"),
            // Not idle any more, with its shares from before.
            (&[], ("cpu", "cpu.shares"), "cpu.weight", "2048", "174"),
        ]);
    }
    for (flags, v1, v2, in_v1, in_v2) in cases {
        if who() == Who::Crun && flags == ["--pids-limit=-1"] {
            continue; // it writes -1 unchanged
        }
        update(&world, flags).ok();
        assert_eq!(says(&world, v1, v2), if unified() { in_v2 } else { in_v1 }, "{flags:?}");
    }
}

#[test]
fn memory_and_swap_are_raised_and_lowered_in_any_order() {
    needs_cgroup!();
    only!(Who::Us, Who::Runc; "writes the numbers as they stand");
    let world = with(json!({"memory": {"limit": 32 * MIB, "swap": 48 * MIB}}));
    for (limit, both) in [(96, 128), (16, 32), (64, 64), (32, 200)] {
        let [limit, both] = [limit, both].map(|number| (number * MIB).to_string());
        update(&world, &["--memory", &limit, "--memory-swap", &both]).ok();
        assert_eq!(memory(&world), limit);
        let place = directory("memory", &world.group());
        if !unified() && place.join("memory.memsw.limit_in_bytes").exists() {
            assert_eq!(read(&place, "memory.memsw.limit_in_bytes"), both);
        }
    }
    // No memory limit, and no flag for swap: then swap has no limit either.
    update(&world, &["--memory=-1"]).ok();
    let unlimited = memory(&world);
    assert!(unlimited == "max" || unlimited.parse::<u64>().unwrap() > 1 << 60, "{unlimited}");
}

#[test]
fn a_property_that_is_not_named_stays_and_the_next_update_begins_from_this_one() {
    needs_cgroup!();
    let world = with(json!({"cpu": {"quota": 20000, "period": 40000}, "pids": {"limit": 30}}));
    update(&world, &["--cpu-quota", "10000"]).ok();
    // crun resets the period to the default if the flags have none.
    assert!(who() == Who::Crun || quota(&world) == "10000 40000", "{}", quota(&world));
    if who() != Who::Crun {
        // crun does not keep what it has set.
        update(&world, &["--cpu-period", "80000"]).ok();
        assert_eq!(quota(&world), "10000 80000");
    }
    assert_eq!(pids(&world), "30");
}

#[test]
fn shrinking_and_growing_quota_period_and_burst_at_once() {
    needs_cgroup!();
    only!(Who::Us; "burst is newer than Debian's peers");
    let world = with(json!({"cpu": {"quota": 10000, "period": 20000, "burst": 5000}}));
    for (quota_us, period, burst) in [(3000, 50000, 1000), (80000, 100_000, 70000), (2000, 4000, 0)] {
        let [q, p, b] = [quota_us, period, burst].map(|number: i32| number.to_string());
        update(&world, &["--cpu-quota", &q, "--cpu-period", &p, "--cpu-burst", &b]).ok();
        assert_eq!(quota(&world), format!("{q} {p}"));
        assert_eq!(says(&world, ("cpu", "cpu.cfs_burst_us"), "cpu.max.burst"), b);
    }
}

#[test]
fn a_resources_object_changes_what_it_names() {
    needs_cgroup!();
    only!(Who::Us, Who::Runc; "takes a file only");
    let world = with(json!({"memory": {"limit": 64 * MIB}, "pids": {"limit": 30}}));
    // For properties that are not set, Docker sends zeros and empty strings.
    let docker = json!({"memory": {"limit": 96 * MIB, "reservation": 0}, "cpu": {"shares": 0, "cpus": "", "mems": ""},
        "blockIO": {"weight": 0}});
    update_by(&world, &docker).ok();
    assert_eq!((memory(&world), pids(&world)), ((96 * MIB).to_string(), "30".to_owned()));
    // Engines send zeros for what they do not set.
    update(&world, &["--pids-limit", "0"]).ok();
    update_by(&world, &json!({"pids": {"limit": 0}})).ok();
    assert_eq!(pids(&world), "30");
    fs::write(world.path("r.json"), json!({"pids": {"limit": 40}}).to_string()).unwrap();
    update(&world, &["-r", world.path("r.json").to_str().unwrap()]).ok();
    assert_eq!((memory(&world), pids(&world)), ((96 * MIB).to_string(), "40".to_owned()));
}

#[test]
fn device_rules_are_replaced_and_the_defaults_stay() {
    needs_root!("device rules");
    only!(Who::Us; "leaves devices alone (runc #3401)");
    let mut world = World::running(&["sleep", "1000"]);
    *world.at("/linux/resources/devices") = json!([{"allow": false, "access": "rwm"}]);
    *world.at("/process/capabilities/bounding") = json!(["CAP_MKNOD"]);
    *world.at("/process/capabilities/effective") = json!(["CAP_MKNOD"]);
    *world.at("/process/capabilities/permitted") = json!(["CAP_MKNOD"]);
    world.begin();
    world.exec(&["mknod", "/dev/kernel", "c", "1", "11"]).ok();
    world.exec(&["head", "-c1", "/dev/null"]).ok();
    let open = |world: &World| world.exec(&["sh", "-c", "true >/dev/kernel"]);
    assert!(open(&world).fails().contains("not permitted"));
    let allow =
        json!({"devices": [{"allow": false}, {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "w"}]});
    update_by(&world, &allow).ok();
    open(&world).ok();
    world.exec(&["dd", "if=/dev/zero", "of=/dev/null", "count=1"]).ok();
    // An update of another property does not change them.
    update(&world, &["--pids-limit", "40"]).ok();
    open(&world).ok();
    // An update without rules does not either, as with runc.
    update_by(&world, &json!({"devices": []})).ok();
    open(&world).ok();
    update_by(&world, &json!({"devices": [{"allow": false}]})).ok();
    assert!(open(&world).fails().contains("not permitted"));
    world.exec(&["dd", "if=/dev/zero", "of=/dev/null", "count=1"]).ok();
    // All devices, and back.
    update_by(&world, &json!({"devices": [{"allow": true, "access": "rwm"}]})).ok();
    open(&world).ok();
    update_by(&world, &json!({"devices": [{"allow": false}]})).ok();
    assert!(open(&world).fails().contains("not permitted"));
    assert_eq!(world.status(), "running");
}

#[test]
fn a_device_is_there_all_the_time_while_rules_change() {
    needs_cgroup!();
    needs_root!("device rules");
    only!(Who::Us; "leaves devices alone (runc #3401)");
    let busy = "while :; do : </dev/zero || { echo lost >/tmp/lost; exit 1; }; done";
    let mut world = World::running(&["sh", "-c", busy]);
    world.mount(json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}));
    world.begin();
    for n in 0..20 {
        let minor = 11 + n % 2;
        let rules = json!({"devices": [{"allow": false},
            {"allow": true, "type": "c", "major": 1, "minor": minor, "access": "rw"}]});
        update_by(&world, &rules).ok();
    }
    assert_eq!(world.status(), "running");
    world.exec(&["test", "!", "-e", "/tmp/lost"]).ok();
}

#[test]
fn when_one_limit_is_refused_all_stay_as_they_were() {
    needs_cgroup!();
    only!(Who::Us; "the words, and the old values");
    let world = with(json!({"pids": {"limit": 30}, "cpu": {"shares": 512}, "memory": {"limit": 64 * MIB}}));
    let (before, weight) = (quota(&world), shares(&world));
    let said = update(&world, &["--pids-limit", "50", "--cpu-share", "4", "--cpuset-cpus", "4000"]).fails();
    assert!(said.contains("--cpuset-cpus: write 4000 to "), "{said}");
    assert_eq!((pids(&world), shares(&world), quota(&world)), ("30".to_owned(), weight.clone(), before.clone()));
    // The next update starts from these values.
    update(&world, &["--cpu-period", "50000"]).ok();
    assert_eq!((pids(&world), shares(&world)), ("30".to_owned(), weight));
    let said = update_by(&world, &json!({"pids": {"limit": 7}, "cpu": {"mems": "999"}})).fails();
    assert!(said.contains("--resources: cpu.mems: write 999 to "), "{said}");
    assert_eq!(pids(&world), "30");
}

#[test]
fn impossible_device_rules_change_nothing() {
    needs_cgroup!();
    only!(Who::Us; "leaves devices alone (runc #3401)");
    let world = with(json!({"pids": {"limit": 30}}));
    let hole = json!({"pids": {"limit": 7}, "devices": [{"allow": true, "type": "c", "major": 1, "access": "rwm"},
        {"allow": false, "type": "c", "major": 1, "minor": 3, "access": "rwm"}]});
    let said = update_by(&world, &hole).fails();
    assert!(said.contains("--resources: devices[1]: denies a part of an earlier wildcard rule"), "{said}");
    assert_eq!(pids(&world), "30");
}

#[test]
fn a_limit_below_what_is_used_is_refused() {
    needs_cgroup!();
    only!(Who::Us; "the words");
    let mut world = World::running(&["sh", "-c", "dd if=/dev/zero of=/dev/shm/x bs=1M count=24 && sleep 1000"]);
    *world.at("/linux/resources/memory") = json!({"limit": 64 * MIB, "swap": 64 * MIB});
    world.begin();
    crate::world::wait_until("it is written", || {
        let used = says(&world, ("memory", "memory.usage_in_bytes"), "memory.current");
        used.parse::<i64>().unwrap() > 24 * MIB
    });
    let before = pids(&world);
    let less = json!({"memory": {"limit": 8 * MIB, "swap": 8 * MIB, "checkBeforeUpdate": true}, "pids": {"limit": 9}});
    let said = update_by(&world, &less).fails();
    // Version 1 has the kernel's refusal, version 2 that of our own check.
    let use_of = if unified() { "8388608 is not above the current use: " } else { "in use: " };
    assert!(said.contains("--resources: memory.limit: ") && said.contains(use_of), "{said}");
    assert_eq!((memory(&world), pids(&world)), ((64 * MIB).to_string(), before));
    assert_eq!(world.status(), "running");
}

#[test]
fn a_resource_that_the_host_does_not_have_is_reported_with_its_place() {
    needs_cgroup!();
    only!(Who::Us; "the words");
    let world = with(json!({"pids": {"limit": 30}}));
    let cases = [
        (json!({"pids": {"limit": 5}, "unified": {"memory.nothing": "1"}}), "--resources: unified"),
        (json!({"pids": {"limit": 5}, "unified": {"nothing.max": "1"}}), "--resources: unified"),
        (
            json!({"pids": {"limit": 5}, "hugepageLimits": [{"pageSize": "3MB", "limit": 1}]}),
            "--resources: hugepageLimits[0]",
        ),
        (json!({"pids": {"limit": "many"}}), "--resources: pids.limit: expected"),
        (json!([]), "--resources: expected an object, got an array"),
    ];
    for (resources, place) in cases {
        let said = update_by(&world, &resources).fails();
        assert!(said.contains(place), "{resources}: {said}");
        assert_eq!(pids(&world), "30");
    }
    if unified() {
        let said = update_by(&world, &json!({"unified": {"nothing.max": "1"}})).fails();
        assert!(said.contains("controller \"nothing\" not available"), "{said}");
    }
    let flags: [(&[&str], &str); 6] = [
        (&["--memory", "5x"], "--memory: \"5x\" is not a size such as 512M"),
        (&["--pids-limit", "x"], "--pids-limit: \"x\" is not a number"),
        (&["--blkio-weight", "1001"], "--blkio-weight: 1001 is not in 1..1000"),
        (
            &["--memory-swap", "1M", "--memory", "2M"],
            "--memory-swap: 1048576 is for memory and swap together: it must not be below",
        ),
        (&["--l3-cache-schema", "x"], "--l3-cache-schema: "),
        (&["--resources", "/nowhere"], "--resources: /nowhere: no such file"),
    ];
    for (flags, expected) in flags {
        let said = update(&world, flags).fails();
        assert!(said.contains(expected), "{flags:?}: {said}");
    }
}

#[test]
fn unified_files_are_merged_line_by_line() {
    only!(Who::Us, Who::Runc; "has no unified in update");
    needs!(unified(), "unified is for version 2");
    let world = with(json!({"unified": {"memory.high": "41943040", "memory.low": "1048576"}}));
    update_by(&world, &json!({"unified": {"memory.high": "50331648", "memory.oom.group": "1"}})).ok();
    let place = directory("", &world.group());
    let files = ["memory.high", "memory.low", "memory.oom.group"].map(|file| read(&place, file));
    assert_eq!(files, ["50331648", "1048576", "1"]);
}

#[test]
fn ignored_flags_are_noted() {
    needs_cgroup!();
    only!(Who::Us; "the words");
    let world = with(json!({}));
    let said = update(&world, &["--kernel-memory", "5M", "--pids-limit", "20"]);
    assert!(said.err.contains("--kernel-memory is ignored"), "{}", said.err);
    said.ok();
    fs::write(world.path("r.json"), "{}").unwrap();
    let said = update(&world, &["-r", world.path("r.json").to_str().unwrap(), "--pids-limit", "5"]);
    assert!(said.err.contains("--pids-limit is ignored"), "{}", said.err);
    said.ok();
    assert_eq!(pids(&world), "20");
}

#[test]
fn names_that_are_no_properties_and_wrong_files_are_noted() {
    only!(Who::Us; "runc ignores them without a word");
    let world = with(json!({}));
    let said = update_by(&world, &json!({"memory": {"limitt": 5}, "Pids": {}}));
    for place in ["--resources: memory.limitt: unknown property", "--resources: Pids: unknown property"] {
        assert!(said.err.contains(place), "{place}: {}", said.err);
    }
    said.ok();
    let whole = json!({"ociVersion": "1.0.0", "linux": {"resources": {"pids": {"limit": 5}}}});
    let said = update_by(&world, &whole).fails();
    assert!(said.contains("--resources: is a config.json: pass only its object `linux.resources`"), "{said}");
}

#[test]
fn a_created_and_a_paused_container_can_be_updated_and_a_stopped_one_cannot() {
    needs_cgroup!();
    let world = World::running(&["sleep", "1000"]);
    world.create().ok();
    update(&world, &["--pids-limit", "30"]).ok();
    assert_eq!(pids(&world), "30");
    world.call(&["start", &world.id]).ok();
    world.call(&["pause", &world.id]).ok();
    update(&world, &["--pids-limit", "40"]).ok();
    assert_eq!((pids(&world), world.status()), ("40".to_owned(), "paused".to_owned()));
    world.call(&["resume", &world.id]).ok();
    world.call(&["kill", &world.id, "KILL"]).ok();
    world.wait_for_status("stopped");
    let said = update(&world, &["--pids-limit", "50"]);
    if who() == Who::Crun {
        return; // the directory still exists for crun
    }
    let said = said.fails();
    if who() == Who::Us {
        assert!(said.contains("container not running"), "{said}");
    }
}

#[test]
fn a_container_without_its_own_cgroup_has_no_limits() {
    only!(Who::Us; "the words");
    let world = World::running(&["sleep", "1000"]);
    world.write();
    world.call(&["--cgroup-manager=disabled", "run", "-d", &world.id]).ok();
    let said = update(&world, &["--pids-limit", "50"]).fails();
    assert!(said.contains("this container has no cgroup"), "{said}");
}

/// The state of a container that another runtime made: coracle changes it, and the other runtime can still read it.
#[test]
fn a_container_of_runcs_is_updated_and_runc_still_knows_it() {
    needs_cgroup!();
    only!(Who::Us; "it is about two runtimes");
    let runc = PathBuf::from("/usr/sbin/runc");
    needs!(runc.exists(), "runc is not installed");
    let mut world = World::running(&["sleep", "1000"]);
    *world.at("/linux/resources/pids") = json!({"limit": 30});
    world.write();
    let by_runc = |args: &[&str]| {
        let mut command = std::process::Command::new(&runc);
        command
            .args(by_units().then_some("--systemd-cgroup"))
            .arg("--root")
            .arg(world.path("state"))
            .args(args)
            .current_dir(world.bundle());
        crate::world::finish(&mut command)
    };
    by_runc(&["run", "-d", &world.id]).ok();
    update(&world, &["--pids-limit", "40", "--memory", "64M"]).ok();
    assert_eq!((pids(&world), memory(&world)), ("40".to_owned(), (64 * MIB).to_string()));
    let state: Value = serde_json::from_str(&by_runc(&["state", &world.id]).ok()).unwrap();
    assert_eq!(state["status"], "running");
    let text: Value =
        serde_json::from_slice(&fs::read(world.path(&format!("state/{}/state.json", world.id))).unwrap()).unwrap();
    assert!(text["config"].as_object().unwrap().contains_key("no_pivot_root"), "what runc alone knows");
    update(&world, &["--pids-limit", "50"]).ok();
    assert_eq!((pids(&world), memory(&world)), ("50".to_owned(), (64 * MIB).to_string()));
    if by_units() && root() {
        // coracle knows the unit, and sends the values to systemd: otherwise they would be lost at a reload.
        crate::world::finish(std::process::Command::new("systemctl").arg("daemon-reload")).ok();
        assert_eq!((pids(&world), memory(&world)), ("50".to_owned(), (64 * MIB).to_string()));
    }
    by_runc(&["delete", "--force", &world.id]).ok();
}
