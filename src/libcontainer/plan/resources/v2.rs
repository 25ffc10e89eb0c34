//! Version 2: the properties of version 1 converted, and `unified` as it stands.

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources};

use super::{OnFailure, Sheet, Write};
use crate::config::{At, Faults};

/// As `super::writes`, for version 2.
pub(super) fn writes(resources: &LinuxResources, at: &At) -> Result<Vec<Write>, Faults> {
    let mut sheet = Sheet::default();
    if let Some(pids) = resources.pids() {
        let limit = match pids.limit() {
            0 => "1".to_owned(),
            limit => max(limit),
        };
        sheet.write("", "pids.max", limit, at.key("pids").key("limit"));
    }
    if let Some(memory) = resources.memory() {
        self::memory(memory, &at.key("memory"), &mut sheet);
    }
    if let Some(block) = resources.block_io() {
        io(block, &at.key("blockIO"), &mut sheet);
    }
    if let Some(cpu) = resources.cpu() {
        self::cpu(cpu, &at.key("cpu"), &mut sheet);
    }
    for (n, limit) in resources.hugepage_limits().iter().flatten().enumerate() {
        let at = at.key("hugepageLimits").index(n);
        let size = limit.page_size();
        sheet.write("", &format!("hugetlb.{size}.max"), limit.limit(), at.clone());
        let reserved = format!("hugetlb.{size}.rsvd.max");
        sheet.add("", &reserved, limit.limit().to_string(), OnFailure::SkipMissing, at);
    }
    rdma(resources, at, "", &mut sheet);
    unified(resources, at, &mut sheet);
    sheet.into_result()
}

fn max(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

fn memory(memory: &LinuxMemory, at: &At, sheet: &mut Sheet) {
    let limit = memory.limit().filter(|limit| *limit != 0);
    if let Some(limit) = limit {
        sheet.write("", "memory.max", max(limit), at.key("limit"));
    }
    match swap(limit, memory.swap().filter(|swap| *swap != 0)) {
        Ok(None) => {}
        Ok(Some(swap)) => {
            // a kernel without swap accounting has nothing to limit
            let harmless = swap == "max" || swap == "0";
            let on_failure = if harmless { OnFailure::SkipMissing } else { OnFailure::Fail };
            sheet.add("", "memory.swap.max", swap, on_failure, at.key("swap"));
        }
        Err(problem) => sheet.faults.add(at.key("swap"), problem),
    }
    if let Some(reservation) = memory.reservation().filter(|reservation| *reservation != 0) {
        sheet.write("", "memory.low", max(reservation), at.key("reservation"));
    }
}

/// Memory and swap together, as the spec has it, become swap alone, as version 2 has it.
fn swap(limit: Option<i64>, swap: Option<i64>) -> Result<Option<String>, String> {
    match (limit, swap) {
        (Some(-1), None) | (_, Some(-1)) => Ok(Some("max".to_owned())),
        (_, None) => Ok(None),
        (None | Some(-1), Some(swap)) => {
            Err(format!("{swap} is memory and swap together, and needs a limit to go with it"))
        }
        (Some(limit), Some(swap)) if swap < limit => {
            Err(format!("{swap} is memory and swap together, and below the limit {limit}"))
        }
        (Some(limit), Some(swap)) => Ok(Some((swap - limit).to_string())),
    }
}

fn cpu(cpu: &LinuxCpu, at: &At, sheet: &mut Sheet) {
    let idle = cpu.idle().filter(|idle| *idle != 0);
    if let Some(idle) = idle {
        sheet.write("", "cpu.idle", idle, at.key("idle"));
    } else if cpu.idle().is_some() {
        sheet.add("", "cpu.idle", "0".to_owned(), OnFailure::SkipMissing, at.key("idle"));
    }
    // an idle group has no weight, and the kernel refuses to give it one
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0 && idle.is_none()) {
        sheet.write("", "cpu.weight", weight(shares), at.key("shares"));
    }
    let (quota, period) = (cpu.quota().filter(|quota| *quota != 0), cpu.period().filter(|period| *period != 0));
    if quota.is_some() || period.is_some() {
        let quota = quota.filter(|quota| *quota > 0).map_or("max".to_owned(), |quota| quota.to_string());
        sheet.write("", "cpu.max", format!("{quota} {}", period.unwrap_or(100_000)), at.key("quota"));
    }
    if let Some(burst) = cpu.burst() {
        let on_failure = if burst == 0 { OnFailure::SkipMissing } else { OnFailure::Fail };
        sheet.add("", "cpu.max.burst", burst.to_string(), on_failure, at.key("burst"));
    }
    if let Some(cpus) = cpu.cpus().as_ref().filter(|cpus| !cpus.is_empty()) {
        sheet.write("", "cpuset.cpus", cpus, at.key("cpus"));
    }
    if let Some(mems) = cpu.mems().as_ref().filter(|mems| !mems.is_empty()) {
        sheet.write("", "cpuset.mems", mems, at.key("mems"));
    }
}

/// shares 2..262144 → weight 1..10000 so that the default 1024 is the default 100: the curve that the kernel folk and
/// every runtime agreed on, 10^((l² + 125·l)/612 − 7/34) with l = log2(shares), rounded up.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)] // 1..10000
pub(super) fn weight(shares: u64) -> u64 {
    let l = (shares.clamp(2, 262_144) as f64).log2();
    let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
    // the ends and the middle are exact, whatever the last bit of a float says
    (10f64.powf(exponent) - 1e-9).ceil().clamp(1.0, 10_000.0) as u64
}

fn io(block: &LinuxBlockIo, at: &At, sheet: &mut Sheet) {
    // weight 10..1000 → 1..10000 where BFQ is not there
    let io_weight = |weight: u16| 1 + (u64::from(weight.max(10)) - 10) * 9999 / 990;
    if let Some(weight) = block.weight().filter(|weight| *weight != 0) {
        let instead = OnFailure::Instead("io.weight".to_owned(), format!("default {}", io_weight(weight)));
        sheet.add("", "io.bfq.weight", weight.to_string(), instead, at.key("weight"));
    }
    for (n, device) in block.weight_device().iter().flatten().enumerate() {
        let Some(weight) = device.weight() else { continue };
        let number = format!("{}:{}", device.major(), device.minor());
        let instead = OnFailure::Instead("io.weight".to_owned(), format!("{number} {}", io_weight(weight)));
        sheet.add("", "io.bfq.weight", format!("{number} {weight}"), instead, at.key("weightDevice").index(n));
    }
    let throttles = [
        ("throttleReadBpsDevice", "rbps", block.throttle_read_bps_device()),
        ("throttleWriteBpsDevice", "wbps", block.throttle_write_bps_device()),
        ("throttleReadIOPSDevice", "riops", block.throttle_read_iops_device()),
        ("throttleWriteIOPSDevice", "wiops", block.throttle_write_iops_device()),
    ];
    for (name, key, list) in throttles {
        for (n, device) in list.iter().flatten().enumerate() {
            let rate = if device.rate() == 0 { "max".to_owned() } else { device.rate().to_string() };
            let value = format!("{}:{} {key}={rate}", device.major(), device.minor());
            sheet.write("", "io.max", value, at.key(name).index(n));
        }
    }
}

/// `rdma.max`, the same in both versions.
pub(super) fn rdma(resources: &LinuxResources, at: &At, controller: &str, sheet: &mut Sheet) {
    let mut devices: Vec<_> = resources.rdma().iter().flatten().collect();
    devices.sort_unstable_by_key(|(device, _)| *device);
    for (device, limits) in devices {
        let part = |key: &str, value: Option<u32>| value.map(|value| format!(" {key}={value}")).unwrap_or_default();
        let handles = part("hca_handle", limits.hca_handles());
        let objects = part("hca_object", limits.hca_objects());
        sheet.write(controller, "rdma.max", format!("{device}{handles}{objects}"), at.key("rdma").key(device));
    }
}

fn unified(resources: &LinuxResources, at: &At, sheet: &mut Sheet) {
    let at = at.key("unified");
    let mut entries: Vec<_> = resources.unified().iter().flatten().collect();
    entries.sort_unstable();
    for (file, value) in entries {
        if file.contains('/') || !file.contains('.') {
            sheet.faults.add(at.key(file), "is no name of a cgroup file");
            continue;
        }
        // one write for each line: the kernel takes one setting at a time
        for line in value.lines() {
            sheet.write("", file, line, at.key(file));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(json: &str) -> Result<Vec<(String, String)>, String> {
        let resources: LinuxResources = serde_json::from_str(json).unwrap();
        let pairs = |writes: Vec<Write>| writes.into_iter().map(|write| (write.file, write.value)).collect();
        writes(&resources, &At::new("linux.resources")).map(pairs).map_err(|faults| faults.to_string())
    }

    #[test]
    fn shares_and_weights_meet_at_their_ends_and_defaults() {
        for (shares, expected) in [(2, 1), (1024, 100), (262_144, 10_000), (0, 1), (1 << 40, 10_000)] {
            assert_eq!(weight(shares), expected, "{shares}");
        }
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
        ];
        for (json, expected) in cases {
            let expected: Vec<_> = expected.into_iter().map(|(f, v)| (f.to_owned(), v.to_owned())).collect();
            assert_eq!(written(json).unwrap(), expected, "{json}");
        }
    }

    #[test]
    fn what_cannot_be_is_told_by_its_place() {
        for (json, place) in [
            (r#"{"memory":{"swap":5}}"#, "linux.resources.memory.swap"),
            (r#"{"memory":{"limit":10,"swap":5}}"#, "linux.resources.memory.swap"),
            (r#"{"unified":{"a/b":"1"}}"#, "linux.resources.unified.a/b"),
        ] {
            assert!(written(json).unwrap_err().contains(place), "{json}");
        }
    }
}
