//! The properties that have the same rules in `v1` and `v2`.

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice};

use super::write::{OnFailure, WriteList};
use crate::config::At;

/// The swappiness to set. Old engines write -1 as an unsigned number, which means none. runc accepts it, too.
pub(super) fn swappiness(memory: &LinuxMemory) -> Option<u64> {
    memory.swappiness().filter(|swappiness| *swappiness != u64::MAX)
}

/// The requested memory and swap together. -1 stands for any number that the kernel takes as no limit.
pub(super) fn swap(memory: &LinuxMemory) -> Option<i64> {
    // The largest number that the kernel can count, in pages of 4096 bytes.
    let no_limit = i64::MAX - 4095;
    memory.swap().filter(|swap| *swap != 0).map(|swap| if swap >= no_limit { -1 } else { swap })
}

/// The specification gives memory and swap together. This returns the swap alone.
pub(super) fn memory_and_swap(limit: Option<i64>, both: i64) -> Result<i64, String> {
    match limit {
        None | Some(-1) => Err(format!("{both} is for memory and swap together: a memory limit must be set, too")),
        Some(limit) if both < limit => {
            Err(format!("{both} is for memory and swap together: it must not be below the memory limit {limit}"))
        }
        Some(limit) => Ok(both - limit),
    }
}

/// `cpu.idle`, before any weight: an idle group has no weight, and the kernel refuses to set one.
pub(super) fn idle(cpu: &LinuxCpu, controller: &str, at: &At, list: &mut WriteList) {
    if let Some(idle) = cpu.idle() {
        // KERNEL(5.15): cpu.idle
        let on_failure = if idle == 0 { OnFailure::SkipMissing } else { OnFailure::Fail };
        list.add(controller, "cpu.idle", idle.to_string(), on_failure, at.key("idle"));
    }
}

/// The shares to set.
pub(super) fn shares(cpu: &LinuxCpu) -> Option<u64> {
    cpu.shares().filter(|shares| *shares != 0 && cpu.idle().unwrap_or(0) == 0)
}

/// The burst is at most the quota. Which of them can be written first depends on the old values.
pub(super) fn burst(cpu: &LinuxCpu, controller: &str, file: &str, at: &At, list: &mut WriteList) {
    if let Some(burst) = cpu.burst() {
        // KERNEL(5.14): burst
        let on_failure = if burst == 0 { OnFailure::SkipMissing } else { OnFailure::AfterOthers };
        list.add(controller, file, burst.to_string(), on_failure, at.key("burst"));
    }
}

/// A weight of block I/O. 0 means none. BFQ accepts 1 to 1000. For io.weight, all values below 10 become the smallest
/// weight.
pub(super) fn block_weight(weight: Option<u16>, at: &At, list: &mut WriteList) -> Option<u16> {
    match weight? {
        0 => None,
        weight @ 1..=1000 => Some(weight),
        weight => {
            list.faults.add(at.key("weight"), format!("{weight} is not in 1..1000"));
            None
        }
    }
}

pub(super) type Throttle<'a> = (&'static str, &'static str, &'a Option<Vec<LinuxThrottleDevice>>);

/// The property, its name in io.max, and the devices.
pub(super) fn throttles(block: &LinuxBlockIo) -> [Throttle<'_>; 4] {
    [
        ("throttleReadBpsDevice", "rbps", block.throttle_read_bps_device()),
        ("throttleWriteBpsDevice", "wbps", block.throttle_write_bps_device()),
        ("throttleReadIOPSDevice", "riops", block.throttle_read_iops_device()),
        ("throttleWriteIOPSDevice", "wiops", block.throttle_write_iops_device()),
    ]
}

/// The limit of pages in use, and the limit of reserved pages if the kernel has it.
pub(super) fn huge_pages(
    resources: &LinuxResources,
    controller: &str,
    files: [&str; 2],
    at: &At,
    list: &mut WriteList,
) {
    for (n, limit) in resources.hugepage_limits().iter().flatten().enumerate() {
        let (at, size) = (at.key("hugepageLimits").index(n), limit.page_size());
        let number = size.strip_suffix("KB").or(size.strip_suffix("MB")).or(size.strip_suffix("GB"));
        if !number.is_some_and(|number| number.parse::<u32>().is_ok_and(|n| n.to_string() == number)) {
            list.faults.add(at.key("pageSize"), format!("{size:?} is not a size such as 64KB, 2MB or 1GB"));
            continue;
        }
        let [used, reserved] = files.map(|file| format!("hugetlb.{size}.{file}"));
        // KERNEL(5.7): reservations
        list.add(controller, &reserved, limit.limit().to_string(), OnFailure::SkipMissing, at.clone());
        list.write(controller, &used, limit.limit(), at);
    }
}

/// `rdma.max`, the same file in both versions.
pub(super) fn rdma(resources: &LinuxResources, controller: &str, at: &At, list: &mut WriteList) {
    let mut devices: Vec<_> = resources.rdma().iter().flatten().collect();
    devices.sort_unstable_by_key(|(device, _)| *device);
    for (device, limits) in devices {
        let at = at.key("rdma").key(device);
        let part = |key: &str, value: Option<u32>| value.map(|value| format!(" {key}={value}")).unwrap_or_default();
        let wanted = part("hca_handle", limits.hca_handles()) + &part("hca_object", limits.hca_objects());
        if wanted.is_empty() {
            list.faults.add(at, "sets neither hcaHandles nor hcaObjects");
            continue;
        }
        list.write(controller, "rdma.max", format!("{device}{wanted}"), at);
    }
}
