//! Version 2: the properties of version 1, converted, and `unified` as written.

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources};

use super::both_versions;
use super::write::{OnFailure, WriteList};
use crate::config::At;

/// The resources as writes for version 2.
pub(super) fn write_list(resources: &LinuxResources, at: &At) -> WriteList {
    let mut list = WriteList::default();
    if let Some(pids) = resources.pids() {
        let limit = match pids.limit() {
            0 => "1".to_owned(),
            limit => max(limit),
        };
        list.write("", "pids.max", limit, at.key("pids").key("limit"));
    }
    if let Some(memory) = resources.memory() {
        self::memory(memory, &at.key("memory"), &mut list);
    }
    if let Some(block) = resources.block_io() {
        io(block, &at.key("blockIO"), &mut list);
    }
    if let Some(cpu) = resources.cpu() {
        self::cpu(cpu, &at.key("cpu"), &mut list);
    }
    both_versions::huge_pages(resources, "", ["max", "rsvd.max"], at, &mut list);
    both_versions::rdma(resources, "", at, &mut list);
    only_in_v1(resources, at, &mut list);
    unified(resources, at, &mut list);
    list
}

fn max(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

/// Limits that version 2 does not have. A limit without effect must not look as if it had one.
fn only_in_v1(resources: &LinuxResources, at: &At, list: &mut WriteList) {
    let (memory, cpu) = (resources.memory().as_ref(), resources.cpu().as_ref());
    let block = resources.block_io().as_ref();
    let network = resources.network().as_ref();
    let mut names = vec![
        ("memory.swappiness".to_owned(), memory.is_some_and(|memory| both_versions::swappiness(memory).is_some())),
        ("memory.disableOOMKiller".to_owned(), memory.is_some_and(|memory| memory.disable_oom_killer() == Some(true))),
        ("memory.useHierarchy".to_owned(), memory.is_some_and(|memory| memory.use_hierarchy() == Some(false))),
        ("cpu.realtimePeriod".to_owned(), cpu.is_some_and(|cpu| cpu.realtime_period().unwrap_or(0) != 0)),
        ("cpu.realtimeRuntime".to_owned(), cpu.is_some_and(|cpu| cpu.realtime_runtime().unwrap_or(0) != 0)),
        ("blockIO.leafWeight".to_owned(), block.is_some_and(|block| block.leaf_weight().unwrap_or(0) != 0)),
        ("network.classID".to_owned(), network.is_some_and(|network| network.class_id().unwrap_or(0) != 0)),
        (
            "network.priorities".to_owned(),
            network.is_some_and(|network| network.priorities().iter().flatten().next().is_some()),
        ),
    ];
    let devices = block.and_then(|block| block.weight_device().as_ref()).into_iter().flatten();
    names.extend(
        devices.enumerate().map(|(n, device)| {
            (format!("blockIO.weightDevice[{n}].leafWeight"), device.leaf_weight().unwrap_or(0) != 0)
        }),
    );
    for (name, _) in names.iter().filter(|(_, set)| *set) {
        list.absent.add(at.key(name), "needs cgroup v1, and this host has v2");
    }
}

fn memory(memory: &LinuxMemory, at: &At, list: &mut WriteList) {
    let limit = memory.limit().filter(|limit| *limit != 0);
    if let Some(limit) = limit {
        list.write("", "memory.max", max(limit), at.key("limit"));
        let check = memory.check_before_update() == Some(true);
        if let (Some(write), true) = (list.writes.last_mut(), check) {
            write.unless_used = u64::try_from(limit).ok();
        }
    }
    match swap(limit, both_versions::swap(memory)) {
        Ok(None) => {}
        Ok(Some(swap)) => {
            // A kernel without swap accounting has no swap to limit.
            let harmless = swap == "max" || swap == "0";
            let on_failure = if harmless { OnFailure::SkipMissing } else { OnFailure::Fail };
            list.add("", "memory.swap.max", swap, on_failure, at.key("swap"));
        }
        Err(problem) => list.faults.add(at.key("swap"), problem),
    }
    if let Some(reservation) = memory.reservation().filter(|reservation| *reservation != 0) {
        list.write("", "memory.low", max(reservation), at.key("reservation"));
    }
}

/// The specification gives memory and swap together. Version 2 has swap alone.
fn swap(limit: Option<i64>, swap: Option<i64>) -> Result<Option<String>, String> {
    match (limit, swap) {
        (Some(-1), None) | (_, Some(-1)) => Ok(Some("max".to_owned())),
        (_, None) => Ok(None),
        (limit, Some(swap)) => both_versions::memory_and_swap(limit, swap).map(|swap| Some(swap.to_string())),
    }
}

fn cpu(cpu: &LinuxCpu, at: &At, list: &mut WriteList) {
    both_versions::idle(cpu, "", at, list);
    if let Some(shares) = both_versions::shares(cpu) {
        list.write("", "cpu.weight", weight(shares), at.key("shares"));
    }
    let (quota, period) = (cpu.quota().filter(|quota| *quota != 0), cpu.period().filter(|period| *period != 0));
    if quota.is_some() || period.is_some() {
        let name = if quota.is_some() { "quota" } else { "period" };
        let quota = quota.filter(|quota| *quota > 0).map_or("max".to_owned(), |quota| quota.to_string());
        let value = format!("{quota} {}", period.unwrap_or(100_000));
        list.add("", "cpu.max", value, OnFailure::AfterOthers, at.key(name));
    }
    both_versions::burst(cpu, "", "cpu.max.burst", at, list);
    if let Some(cpus) = cpu.cpus().as_ref().filter(|cpus| !cpus.is_empty()) {
        list.write("", "cpuset.cpus", cpus, at.key("cpus"));
    }
    if let Some(mems) = cpu.mems().as_ref().filter(|mems| !mems.is_empty()) {
        list.write("", "cpuset.mems", mems, at.key("mems"));
    }
}

/// Converts shares 2..262144 to weight 1..10000, so that the default 1024 becomes the default 100. Kernel developers
/// and all runtimes use this curve: 10^((l² + 125·l)/612 − 7/34) with l = log2(shares), rounded up.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)] // 1..10000
pub(super) fn weight(shares: u64) -> u64 {
    let l = (shares.clamp(2, 262_144) as f64).log2();
    let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
    // The ends and the middle must be exact, so the rounding error of a float is subtracted.
    (10f64.powf(exponent) - 1e-9).ceil().clamp(1.0, 10_000.0) as u64
}

fn io(block: &LinuxBlockIo, at: &At, list: &mut WriteList) {
    // Weight 10..1000 becomes 1..10000 if the kernel has no BFQ.
    let io_weight = |weight: u16| 1 + u64::from(weight.saturating_sub(10)) * 9999 / 990;
    if let Some(weight) = both_versions::block_weight(block.weight(), at, list) {
        let instead = OnFailure::Instead("io.weight".to_owned(), format!("default {}", io_weight(weight)));
        list.add("", "io.bfq.weight", weight.to_string(), instead, at.key("weight"));
    }
    for (n, device) in block.weight_device().iter().flatten().enumerate() {
        let at = at.key("weightDevice").index(n);
        let Some(weight) = both_versions::block_weight(device.weight(), &at, list) else { continue };
        let number = format!("{}:{}", device.major(), device.minor());
        let instead = OnFailure::Instead("io.weight".to_owned(), format!("{number} {}", io_weight(weight)));
        list.add("", "io.bfq.weight", format!("{number} {weight}"), instead, at);
    }
    for (name, key, devices) in both_versions::throttles(block) {
        for (n, device) in devices.iter().flatten().enumerate() {
            let rate = if device.rate() == 0 { "max".to_owned() } else { device.rate().to_string() };
            let value = format!("{}:{} {key}={rate}", device.major(), device.minor());
            list.write("", "io.max", value, at.key(name).index(n));
        }
    }
}

/// Files of every cgroup that move processes or change the cgroup itself (cgroups(7)).
const CORE_FILES: [&str; 6] =
    ["cgroup.procs", "cgroup.threads", "cgroup.freeze", "cgroup.kill", "cgroup.type", "cgroup.subtree_control"];

/// An empty line resets the lists of cpuset. In other files, the kernel reads it as the number 0, and memory.high 0
/// stops the container. `unused` warns about such a value.
pub(super) fn may_be_empty(file: &str) -> bool {
    matches!(file, "cpuset.cpus" | "cpuset.mems" | "cpuset.cpus.exclusive")
}

fn unified(resources: &LinuxResources, at: &At, list: &mut WriteList) {
    let at = at.key("unified");
    let mut entries: Vec<_> = resources.unified().iter().flatten().collect();
    entries.sort_unstable();
    for (file, value) in entries {
        if file.contains('/') || !file.contains('.') {
            list.faults.add(at.key(file), "is not the name of a cgroup file");
            continue;
        }
        if CORE_FILES.contains(&file.as_str()) {
            list.faults.add(at.key(file), "cannot be set: the runtime itself needs this file");
            continue;
        }
        // One write for each line: the kernel accepts one setting at a time.
        for line in value.lines().filter(|line| !line.trim().is_empty()) {
            list.write("", file, line, at.key(file));
        }
        if value.trim().is_empty() && may_be_empty(file) {
            list.write("", file, "\n", at.key(file));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::write::Write;
    use super::*;

    fn written(json: &str) -> Result<Vec<(String, String)>, String> {
        let resources: LinuxResources = serde_json::from_str(json).unwrap();
        let pairs = |writes: Vec<Write>| writes.into_iter().map(|write| (write.file, write.value)).collect();
        write_list(&resources, &At::new("linux.resources"))
            .into_result()
            .map(pairs)
            .map_err(|faults| faults.to_string())
    }

    #[test]
    fn shares_and_weights_meet_at_their_ends_and_defaults() {
        for (shares, expected) in [(2, 1), (1024, 100), (262_144, 10_000), (0, 1), (1 << 40, 10_000)] {
            assert_eq!(weight(shares), expected, "{shares}");
        }
    }

    #[test]
    fn a_control_character_is_a_mistake_in_every_text_for_a_file() {
        for json in [
            r#"{"cpu":{"cpus":"0\u00001"}}"#,
            r#"{"cpu":{"mems":"0\u0001"}}"#,
            r#"{"unified":{"pids.max":"7\u0000"}}"#,
            r#"{"rdma":{"mlx5\u0000x":{"hcaHandles":1}}}"#,
        ] {
            assert!(written(json).unwrap_err().contains("has a control character"), "{json}");
        }
        assert!(written(r#"{"unified":{"io.max":"8:0 rbps=1\twbps=2"}}"#).is_ok());
    }

    #[test]
    fn an_empty_value_resets_a_list_and_is_else_ignored() {
        let json = r#"{"unified":{"cpuset.cpus":"","memory.high":"","memory.max":"\n","pids.max":"7\n\n",
            "cpuset.cpus.partition":""}}"#;
        let expected =
            [("cpuset.cpus", "\n"), ("pids.max", "7")].map(|(file, value)| (file.to_owned(), value.to_owned()));
        assert_eq!(written(json).unwrap(), expected);
        let resources: LinuxResources = serde_json::from_str(json).unwrap();
        let mut error: Vec<_> = super::super::unused(&resources).iter().map(ToString::to_string).collect();
        error.sort();
        let expected = ["cpuset.cpus.partition", "memory.high", "memory.max"]
            .map(|file| format!("linux.resources.unified.{file}: is ignored: it is empty"));
        assert_eq!(error, expected);
    }

    #[test]
    fn what_the_runtime_itself_needs_cannot_be_set() {
        for file in CORE_FILES {
            let error = written(&format!(r#"{{"unified":{{"{file}":"1"}}}}"#)).unwrap_err();
            assert!(error.contains("cannot be set: the runtime itself needs this file"), "{error}");
        }
        assert!(written(r#"{"unified":{"cgroup.max.depth":"3"}}"#).is_ok());
    }

    #[test]
    fn each_property_is_converted() {
        let cases = [
            (r#"{"memory":{"limit":10,"swap":10}}"#, vec![("memory.max", "10"), ("memory.swap.max", "0")]),
            (r#"{"memory":{"limit":10,"swap":15}}"#, vec![("memory.max", "10"), ("memory.swap.max", "5")]),
            (r#"{"memory":{"limit":-1}}"#, vec![("memory.max", "max"), ("memory.swap.max", "max")]),
            (r#"{"cpu":{"quota":-1}}"#, vec![("cpu.max", "max 100000")]),
            (r#"{"cpu":{"quota":5000,"period":7000}}"#, vec![("cpu.max", "5000 7000")]),
            (r#"{"cpu":{"shares":1024,"idle":1}}"#, vec![("cpu.idle", "1")]),
            (
                r#"{"unified":{"io.max":"8:0 rbps=1\n8:1 rbps=2"}}"#,
                vec![("io.max", "8:0 rbps=1"), ("io.max", "8:1 rbps=2")],
            ),
            (r#"{"rdma":{"mlx5":{"hcaHandles":3}}}"#, vec![("rdma.max", "mlx5 hca_handle=3")]),
            (r#"{"pids":{"limit":0}}"#, vec![("pids.max", "1")]),
            (r#"{"pids":{"limit":-1}}"#, vec![("pids.max", "max")]),
            (
                r#"{"memory":{"limit":9223372036854775807,"swap":9223372036854775807,"swappiness":18446744073709551615}}"#,
                vec![("memory.max", "9223372036854775807"), ("memory.swap.max", "max")],
            ),
            (r#"{"memory":{"limit":10,"swap":-1}}"#, vec![("memory.max", "10"), ("memory.swap.max", "max")]),
            (r#"{"memory":{"reservation":-1}}"#, vec![("memory.low", "max")]),
            (r#"{"cpu":{"period":7000}}"#, vec![("cpu.max", "max 7000")]),
            (r#"{"cpu":{"quota":9,"burst":4}}"#, vec![("cpu.max", "9 100000"), ("cpu.max.burst", "4")]),
            (r#"{"cpu":{"shares":2,"idle":0}}"#, vec![("cpu.idle", "0"), ("cpu.weight", "1")]),
            (r#"{"cpu":{"shares":0}}"#, vec![]),
            (r#"{"cpu":{"cpus":"0-1","mems":"0"}}"#, vec![("cpuset.cpus", "0-1"), ("cpuset.mems", "0")]),
            (
                r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4}]}"#,
                vec![("hugetlb.2MB.rsvd.max", "4"), ("hugetlb.2MB.max", "4")],
            ),
            (
                r#"{"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":9}],
                    "throttleWriteIOPSDevice":[{"major":8,"minor":0,"rate":0}]}}"#,
                vec![("io.max", "8:0 rbps=9"), ("io.max", "8:0 wiops=max")],
            ),
        ];
        for (json, expected) in cases {
            let expected: Vec<_> = expected.into_iter().map(|(f, v)| (f.to_owned(), v.to_owned())).collect();
            assert_eq!(written(json).unwrap(), expected, "{json}");
        }
    }

    #[test]
    fn a_weight_of_block_io_is_bfqs_or_the_one_that_is_there() {
        for (weight, converted) in [(10, 1), (100, 910), (500, 4950), (1000, 10_000)] {
            let json = format!(
                r#"{{"blockIO":{{"weight":{weight},"weightDevice":[{{"major":8,"minor":1,"weight":{weight}}}]}}}}"#
            );
            let resources: LinuxResources = serde_json::from_str(&json).unwrap();
            let writes = write_list(&resources, &At::new("linux.resources")).into_result().unwrap();
            let instead = |value: String| OnFailure::Instead("io.weight".to_owned(), value);
            assert_eq!(
                (writes[0].file.as_str(), writes[0].value.as_str()),
                ("io.bfq.weight", weight.to_string().as_str())
            );
            assert_eq!(writes[0].on_failure, instead(format!("default {converted}")));
            assert_eq!(writes[1].value, format!("8:1 {weight}"));
            assert_eq!(writes[1].on_failure, instead(format!("8:1 {converted}")));
        }
    }

    #[test]
    fn a_limit_below_the_usage_is_not_set_if_requested() {
        let resources: LinuxResources =
            serde_json::from_str(r#"{"memory":{"limit":10,"checkBeforeUpdate":true}}"#).unwrap();
        assert_eq!(write_list(&resources, &At::new("linux.resources")).into_result().unwrap()[0].unless_used, Some(10));
    }

    #[test]
    fn an_impossible_value_is_reported_with_its_place() {
        for (json, place) in [
            (r#"{"memory":{"swap":5}}"#, "linux.resources.memory.swap"),
            (r#"{"memory":{"limit":10,"swap":5}}"#, "linux.resources.memory.swap"),
            (r#"{"unified":{"a/b":"1"}}"#, "linux.resources.unified.a/b"),
            (r#"{"memory":{"swappiness":1}}"#, "linux.resources.memory.swappiness"),
            (r#"{"memory":{"disableOOMKiller":true}}"#, "linux.resources.memory.disableOOMKiller"),
            (r#"{"cpu":{"realtimeRuntime":1}}"#, "linux.resources.cpu.realtimeRuntime"),
            (r#"{"cpu":{"realtimePeriod":1}}"#, "linux.resources.cpu.realtimePeriod"),
            (r#"{"blockIO":{"weight":1001}}"#, "linux.resources.blockIO.weight"),
            (r#"{"blockIO":{"leafWeight":100}}"#, "linux.resources.blockIO.leafWeight"),
            (
                r#"{"blockIO":{"weightDevice":[{"major":8,"minor":0,"leafWeight":10}]}}"#,
                "linux.resources.blockIO.weightDevice[0].leafWeight",
            ),
            (r#"{"network":{"classID":1}}"#, "linux.resources.network.classID"),
            (r#"{"network":{"priorities":[{"name":"lo","priority":1}]}}"#, "linux.resources.network.priorities"),
            (r#"{"hugepageLimits":[{"pageSize":"../x","limit":4}]}"#, "linux.resources.hugepageLimits[0].pageSize"),
        ] {
            assert!(written(json).unwrap_err().contains(place), "{json}");
        }
    }
}
