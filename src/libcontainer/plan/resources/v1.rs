//! Version 1: a file per property, in the directory of its controller.

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources};

use super::both_versions;
use super::write::{OnFailure, WriteList};
use crate::config::At;
use crate::host::cgroups::Cgroups;

/// The resources as writes for version 1.
pub(super) fn write_list(resources: &LinuxResources, at: &At, cgroups: &Cgroups) -> WriteList {
    let mut list = WriteList::default();
    if let Some(pids) = resources.pids() {
        // 0 would not even allow init. As with runc, it means the smallest limit.
        let limit = match pids.limit() {
            0 => "1".to_owned(),
            limit if limit < 0 => "max".to_owned(),
            limit => limit.to_string(),
        };
        list.write("pids", "pids.max", limit, at.key("pids").key("limit"));
    }
    if let Some(memory) = resources.memory() {
        self::memory(memory, &at.key("memory"), &mut list);
    }
    if let Some(cpu) = resources.cpu() {
        self::cpu(cpu, &at.key("cpu"), &mut list);
    }
    if let Some(block) = resources.block_io() {
        block_io(block, &at.key("blockIO"), &mut list);
    }
    if elsewhere("hugetlb", cgroups) {
        both_versions::huge_pages(resources, "", ["max", "rsvd.max"], at, &mut list);
    } else {
        both_versions::huge_pages(resources, "hugetlb", ["limit_in_bytes", "rsvd.limit_in_bytes"], at, &mut list);
    }
    if let Some(network) = resources.network() {
        let at = at.key("network");
        if let Some(class) = network.class_id() {
            list.write("net_cls", "net_cls.classid", class, at.key("classID"));
        }
        for (n, priority) in network.priorities().iter().flatten().enumerate() {
            let value = format!("{} {}", priority.name(), priority.priority());
            list.write("net_prio", "net_prio.ifpriomap", value, at.key("priorities").index(n));
        }
    }
    both_versions::rdma(resources, if elsewhere("rdma", cgroups) { "" } else { "rdma" }, at, &mut list);
    if resources.unified().as_ref().is_some_and(|unified| !unified.is_empty()) {
        list.absent
            .add(at.key("unified"), "invalid configuration for this host: it needs cgroup v2, and this host has v1");
    }
    must_be_there(&mut list, cgroups);
    list
}

/// True if version 2 is mounted beside version 1 and may have a controller that version 1 lacks: systemd's hybrid
/// layout leaves unknown controllers there.
fn elsewhere(controller: &str, cgroups: &Cgroups) -> bool {
    cgroups.v2.is_some() && !cgroups.v1.iter().any(|hierarchy| hierarchy.has(controller))
}

/// Without its controller, a limit has no effect: that is a fault.
fn must_be_there(list: &mut WriteList, cgroups: &Cgroups) {
    let missing: Vec<_> = list
        .writes
        .iter()
        .filter(|write| {
            !write.controller.is_empty() && !cgroups.v1.iter().any(|hierarchy| hierarchy.has(&write.controller))
        })
        .map(|write| (write.at.clone(), write.controller.clone()))
        .collect();
    for (at, controller) in missing {
        list.absent.add(at, format!("the cgroup controller {controller} is not mounted on this host"));
    }
}

fn memory(memory: &LinuxMemory, at: &At, list: &mut WriteList) {
    let limit = memory.limit().filter(|limit| *limit != 0);
    let swap = both_versions::swap(memory).or(limit.filter(|limit| *limit == -1));
    if let Some(swap) = swap.filter(|swap| *swap > 0)
        && let Err(problem) = both_versions::memory_and_swap(limit, swap)
    {
        list.faults.add(at.key("swap"), problem);
    }
    // The limit is never above memory and swap together. Which of them can be written first depends on the old values.
    if let Some(limit) = limit {
        list.add("memory", "memory.limit_in_bytes", limit.to_string(), OnFailure::AfterOthers, at.key("limit"));
    }
    if let Some(swap) = swap {
        let on_failure = if swap < 0 { OnFailure::SkipMissing } else { OnFailure::AfterOthers };
        list.add("memory", "memory.memsw.limit_in_bytes", swap.to_string(), on_failure, at.key("swap"));
    }
    if let Some(reservation) = memory.reservation().filter(|reservation| *reservation != 0) {
        list.write("memory", "memory.soft_limit_in_bytes", reservation, at.key("reservation"));
    }
    if memory.use_hierarchy() == Some(true) {
        list.add("memory", "memory.use_hierarchy", "1".into(), OnFailure::SkipMissing, at.key("useHierarchy"));
    }
    match both_versions::swappiness(memory) {
        Some(swappiness @ 0..=100) => {
            list.write("memory", "memory.swappiness", swappiness, at.key("swappiness"));
        }
        Some(swappiness) => list.faults.add(at.key("swappiness"), format!("{swappiness} is not in 0..100")),
        None => {}
    }
    if memory.disable_oom_killer() == Some(true) {
        list.write("memory", "memory.oom_control", 1, at.key("disableOOMKiller"));
    }
}

fn cpu(cpu: &LinuxCpu, at: &At, list: &mut WriteList) {
    // ORDER: realtime time before any process is in the group. The period is written first, because the runtime must
    // fit in it.
    if let Some(period) = cpu.realtime_period().filter(|period| *period != 0) {
        let at = at.key("realtimePeriod");
        list.add("cpu", "cpu.rt_period_us", period.to_string(), OnFailure::AfterOthers, at);
    }
    if let Some(runtime) = cpu.realtime_runtime().filter(|runtime| *runtime != 0) {
        let at = at.key("realtimeRuntime");
        list.add("cpu", "cpu.rt_runtime_us", runtime.to_string(), OnFailure::AfterOthers, at);
    }
    both_versions::idle(cpu, "cpu", at, list);
    if let Some(shares) = both_versions::shares(cpu) {
        match shares {
            2..=262_144 => list.write("cpu", "cpu.shares", shares, at.key("shares")),
            // The kernel accepts any number, and clamps it to this range.
            _ => list.faults.add(at.key("shares"), format!("{shares} is not in 2..262144")),
        }
    }
    if let Some(period) = cpu.period().filter(|period| *period != 0) {
        list.add("cpu", "cpu.cfs_period_us", period.to_string(), OnFailure::AfterOthers, at.key("period"));
    }
    if let Some(quota) = cpu.quota().filter(|quota| *quota != 0) {
        list.add("cpu", "cpu.cfs_quota_us", quota.to_string(), OnFailure::AfterOthers, at.key("quota"));
    }
    both_versions::burst(cpu, "cpu", "cpu.cfs_burst_us", at, list);
    if let Some(cpus) = cpu.cpus().as_ref().filter(|cpus| !cpus.is_empty()) {
        list.write("cpuset", "cpuset.cpus", cpus, at.key("cpus"));
    }
    if let Some(mems) = cpu.mems().as_ref().filter(|mems| !mems.is_empty()) {
        list.write("cpuset", "cpuset.mems", mems, at.key("mems"));
    }
}

fn block_io(block: &LinuxBlockIo, at: &At, list: &mut WriteList) {
    // The weight's file belongs to CFQ, which no longer exists. BFQ has a different file.
    let weight = |file: &str, bfq: &str, value: String, at: At, list: &mut WriteList| {
        list.add("blkio", file, value.clone(), OnFailure::Instead(bfq.to_owned(), value), at);
    };
    if let Some(value) = both_versions::block_weight(block.weight(), at, list) {
        weight("blkio.weight", "blkio.bfq.weight", value.to_string(), at.key("weight"), list);
    }
    if let Some(value) = block.leaf_weight().filter(|value| *value != 0) {
        list.write("blkio", "blkio.leaf_weight", value, at.key("leafWeight"));
    }
    for (n, device) in block.weight_device().iter().flatten().enumerate() {
        let at = at.key("weightDevice").index(n);
        let number = format!("{}:{}", device.major(), device.minor());
        if let Some(value) = both_versions::block_weight(device.weight(), &at, list) {
            let value = format!("{number} {value}");
            weight("blkio.weight_device", "blkio.bfq.weight_device", value, at.key("weight"), list);
        }
        if let Some(value) = device.leaf_weight().filter(|value| *value != 0) {
            list.write("blkio", "blkio.leaf_weight_device", format!("{number} {value}"), at.key("leafWeight"));
        }
    }
    for (name, kind, devices) in both_versions::throttles(block) {
        for (n, device) in devices.iter().flatten().enumerate() {
            let file = match kind {
                "rbps" => "blkio.throttle.read_bps_device",
                "wbps" => "blkio.throttle.write_bps_device",
                "riops" => "blkio.throttle.read_iops_device",
                _ => "blkio.throttle.write_iops_device",
            };
            let value = format!("{}:{} {}", device.major(), device.minor(), device.rate());
            list.write("blkio", file, value, at.key(name).index(n));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::write::Write;
    use super::*;
    use crate::host::cgroups::Hierarchy;

    fn written(json: &str) -> Result<Vec<(String, String)>, String> {
        let hierarchy = |name: &str| Hierarchy { controllers: vec![name.into()], ..Hierarchy::default() };
        let v1 = ["pids", "memory", "cpu", "cpuset", "blkio", "hugetlb", "rdma", "net_cls", "net_prio"]
            .map(hierarchy)
            .to_vec();
        let resources: LinuxResources = serde_json::from_str(json).unwrap();
        let writes = write_list(&resources, &At::new("linux.resources"), &Cgroups { v1, v2: None }).into_result();
        let pairs = |writes: Vec<Write>| writes.into_iter().map(|write| (write.file, write.value)).collect();
        writes.map(pairs).map_err(|faults| faults.to_string())
    }

    fn one(json: &str, file: &str) -> Option<String> {
        written(json).unwrap().into_iter().find(|(there, _)| there == file).map(|(_, value)| value)
    }

    #[test]
    fn each_property_has_its_file() {
        let cases = [
            (r#"{"pids":{"limit":0}}"#, "pids.max", "1"),
            (r#"{"pids":{"limit":-1}}"#, "pids.max", "max"),
            (r#"{"memory":{"limit":1048576}}"#, "memory.limit_in_bytes", "1048576"),
            (r#"{"memory":{"limit":-1}}"#, "memory.memsw.limit_in_bytes", "-1"),
            (r#"{"memory":{"swap":9223372036854775807}}"#, "memory.memsw.limit_in_bytes", "-1"),
            (r#"{"memory":{"limit":5,"swap":7}}"#, "memory.memsw.limit_in_bytes", "7"),
            (r#"{"memory":{"reservation":9}}"#, "memory.soft_limit_in_bytes", "9"),
            (r#"{"cpu":{"shares":1024}}"#, "cpu.shares", "1024"),
            (r#"{"cpu":{"quota":5000,"period":10000}}"#, "cpu.cfs_quota_us", "5000"),
            (r#"{"cpu":{"cpus":"0-1"}}"#, "cpuset.cpus", "0-1"),
            (r#"{"cpu":{"mems":"0"}}"#, "cpuset.mems", "0"),
            (r#"{"cpu":{"quota":5,"burst":3}}"#, "cpu.cfs_burst_us", "3"),
            (r#"{"cpu":{"realtimeRuntime":5000,"realtimePeriod":10000}}"#, "cpu.rt_runtime_us", "5000"),
            (r#"{"cpu":{"idle":1,"shares":512}}"#, "cpu.idle", "1"),
            (r#"{"memory":{"swappiness":0}}"#, "memory.swappiness", "0"),
            (r#"{"memory":{"disableOOMKiller":true}}"#, "memory.oom_control", "1"),
            (r#"{"memory":{"useHierarchy":true}}"#, "memory.use_hierarchy", "1"),
            (r#"{"blockIO":{"weight":10}}"#, "blkio.weight", "10"),
            (r#"{"blockIO":{"leafWeight":10}}"#, "blkio.leaf_weight", "10"),
            (r#"{"blockIO":{"weightDevice":[{"major":8,"minor":1,"weight":30}]}}"#, "blkio.weight_device", "8:1 30"),
            (
                r#"{"blockIO":{"weightDevice":[{"major":8,"minor":1,"leafWeight":30}]}}"#,
                "blkio.leaf_weight_device",
                "8:1 30",
            ),
            (
                r#"{"blockIO":{"throttleWriteIOPSDevice":[{"major":8,"minor":0,"rate":0}]}}"#,
                "blkio.throttle.write_iops_device",
                "8:0 0",
            ),
            (r#"{"hugepageLimits":[{"pageSize":"1GB","limit":0}]}"#, "hugetlb.1GB.rsvd.limit_in_bytes", "0"),
            (r#"{"rdma":{"mlx5":{"hcaHandles":3,"hcaObjects":4}}}"#, "rdma.max", "mlx5 hca_handle=3 hca_object=4"),
            (r#"{"network":{"classID":1048577}}"#, "net_cls.classid", "1048577"),
            (r#"{"network":{"priorities":[{"name":"lo","priority":3}]}}"#, "net_prio.ifpriomap", "lo 3"),
            (
                r#"{"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":9}]}}"#,
                "blkio.throttle.read_bps_device",
                "8:0 9",
            ),
            (r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4}]}"#, "hugetlb.2MB.limit_in_bytes", "4"),
        ];
        for (json, file, value) in cases {
            assert_eq!(one(json, file).as_deref(), Some(value), "{json}");
        }
    }

    #[test]
    fn a_group_that_idles_has_no_shares() {
        assert_eq!(one(r#"{"cpu":{"idle":1,"shares":512}}"#, "cpu.shares"), None);
        let awake = written(r#"{"cpu":{"idle":0,"shares":512}}"#).unwrap();
        let files: Vec<_> = awake.iter().map(|(file, _)| file.as_str()).collect();
        assert_eq!(files, ["cpu.idle", "cpu.shares"], "awake first: until then it can have none");
    }

    #[test]
    fn a_controller_that_is_not_mounted_is_reported_with_the_property() {
        let resources: LinuxResources = serde_json::from_str(r#"{"network":{"classID":5}}"#).unwrap();
        let faults = write_list(&resources, &At::new("linux.resources"), &Cgroups::default())
            .into_result()
            .unwrap_err()
            .to_string();
        assert!(faults.contains("linux.resources.network.classID: the cgroup controller net_cls"), "{faults}");
    }

    #[test]
    fn version_2_beside_it_may_have_what_it_has_not() {
        let v2 = Some(crate::host::cgroups::Unified::default());
        let resources = r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4}],"rdma":{"mlx5":{"hcaHandles":3}}}"#;
        let resources: LinuxResources = serde_json::from_str(resources).unwrap();
        let writes =
            write_list(&resources, &At::new("linux.resources"), &Cgroups { v1: vec![], v2 }).into_result().unwrap();
        let files: Vec<_> = writes.iter().map(|write| (write.controller.as_str(), write.file.as_str())).collect();
        assert_eq!(files, [("", "hugetlb.2MB.rsvd.max"), ("", "hugetlb.2MB.max"), ("", "rdma.max")]);
    }

    #[test]
    fn an_impossible_value_is_reported_with_its_place() {
        let cases = [
            (r#"{"memory":{"limit":10,"swap":5}}"#, "linux.resources.memory.swap"),
            (r#"{"memory":{"swappiness":101}}"#, "linux.resources.memory.swappiness"),
            (r#"{"unified":{"memory.high":"1"}}"#, "linux.resources.unified"),
            (r#"{"memory":{"swap":5}}"#, "linux.resources.memory.swap"),
            (r#"{"cpu":{"shares":1}}"#, "linux.resources.cpu.shares"),
            (r#"{"cpu":{"shares":262145}}"#, "linux.resources.cpu.shares"),
            (r#"{"blockIO":{"weight":1001}}"#, "linux.resources.blockIO.weight"),
            (
                r#"{"blockIO":{"weightDevice":[{"major":8,"minor":1,"weight":1001}]}}"#,
                "linux.resources.blockIO.weightDevice[0].weight",
            ),
            (r#"{"hugepageLimits":[{"pageSize":"2mb","limit":4}]}"#, "linux.resources.hugepageLimits[0].pageSize"),
            (r#"{"rdma":{"mlx5":{}}}"#, "linux.resources.rdma.mlx5"),
        ];
        for (json, place) in cases {
            assert!(written(json).unwrap_err().contains(place), "{json}");
        }
    }
}
