//! The numbers, in the form of runc's `events`.

use std::collections::BTreeMap;

use serde::Serialize;

/// The numbers of a container's cgroups. A number is 0 if its controller or its file does not exist. The JSON leaves it out
/// where runc leaves it out.
///
/// ```
/// use libcontainer::stats::Numbers;
///
/// let processes = |numbers: &Numbers| numbers.pids.current;
/// // The container has no cgroup.
/// assert_eq!(processes(&Numbers::default()), 0);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Numbers {
    /// CPU time.
    pub cpu: Cpu,
    /// The CPUs and memory nodes that it may use. Only version 1 has the flags.
    pub cpuset: Cpuset,
    /// Memory.
    pub memory: Memory,
    /// Processes and threads.
    pub pids: Pids,
    /// Block devices.
    pub blkio: Blkio,
    /// Huge pages, by size (`2MB`).
    pub hugetlb: BTreeMap<String, Hugetlb>,
}

/// CPU time, in nanoseconds, on both versions.
///
/// ```
/// use libcontainer::stats::Cpu;
///
/// /// The share of one CPU between two looks, in percent.
/// fn share(before: &Cpu, after: &Cpu, nanoseconds: u64) -> u64 {
///     (after.usage.total - before.usage.total) * 100 / nanoseconds
/// }
/// assert_eq!(share(&Cpu::default(), &Cpu::default(), 1_000_000_000), 0);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Cpu {
    /// The CPU time.
    pub usage: CpuUsage,
    /// How its quota held it back.
    pub throttling: Throttling,
    /// Pressure, on version 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Psi>,
}

/// CPU time that was used, in nanoseconds.
///
/// ```
/// use libcontainer::stats::CpuUsage;
///
/// let seconds = |usage: &CpuUsage| usage.total / 1_000_000_000;
/// assert_eq!(seconds(&CpuUsage::default()), 0);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CpuUsage {
    /// All of it.
    #[serde(skip_serializing_if = "is_zero")]
    pub total: u64,
    /// By CPU, on version 1.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu: Vec<u64>,
    /// In the kernel, by CPU, on version 1.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_kernel: Vec<u64>,
    /// In user mode, by CPU, on version 1.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_user: Vec<u64>,
    /// In the kernel. Version 1 counts in ticks of 10 ms.
    pub kernel: u64,
    /// In user mode. Version 1 counts in ticks of 10 ms.
    pub user: u64,
}

/// How its quota held it back.
///
/// ```
/// use libcontainer::stats::Throttling;
///
/// let is_too_small = |quota: &Throttling| quota.throttled_periods * 2 > quota.periods;
/// assert!(!is_too_small(&Throttling::default()));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Throttling {
    /// The number of periods in which it wanted to run.
    #[serde(skip_serializing_if = "is_zero")]
    pub periods: u64,
    /// The number of periods in which the quota was used up.
    #[serde(skip_serializing_if = "is_zero")]
    pub throttled_periods: u64,
    /// The time that it had to wait, in nanoseconds.
    #[serde(skip_serializing_if = "is_zero")]
    pub throttled_time: u64,
}

/// cpuset(7). A flag is 0 or 1.
///
/// ```
/// use libcontainer::stats::Cpuset;
///
/// let may_use = |set: &Cpuset, cpu: u16| set.cpus.contains(&cpu);
/// assert!(!may_use(&Cpuset::default(), 0));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Cpuset {
    /// The numbers of its CPUs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cpus: Vec<u16>,
    /// No other cgroup has its CPUs, on version 1.
    pub cpu_exclusive: u64,
    /// The numbers of its memory nodes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mems: Vec<u16>,
    /// The kernel's memory for it is from its nodes, too, on version 1.
    pub mem_hardwall: u64,
    /// No other cgroup has its memory nodes, on version 1.
    pub mem_exclusive: u64,
    /// Memory moves when its nodes change, on version 1.
    pub memory_migrate: u64,
    /// The page cache is spread over its nodes, on version 1.
    pub memory_spread_page: u64,
    /// The kernel's objects are spread over its nodes, on version 1.
    pub memory_spread_slab: u64,
    /// Memory pressure, as the kernel's filter counts it, on version 1.
    pub memory_pressure: u64,
    /// The scheduler balances the load over its CPUs, on version 1.
    pub sched_load_balance: u64,
    /// How far the scheduler looks for a CPU that is idle, on version 1; -1 for the default.
    pub sched_relax_domain_level: i64,
}

/// Memory, in bytes.
///
/// ```
/// use libcontainer::stats::Memory;
///
/// /// The memory that the kernel cannot take back by dropping page cache.
/// fn working_set(memory: &Memory) -> u64 {
///     memory.usage.usage.saturating_sub(memory.raw.get("inactive_file").copied().unwrap_or(0))
/// }
/// assert_eq!(working_set(&Memory::default()), 0);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Memory {
    /// Page cache.
    #[serde(skip_serializing_if = "is_zero")]
    pub cache: u64,
    /// Memory.
    pub usage: MemoryEntry,
    /// Memory and swap together, on both versions.
    pub swap: MemoryEntry,
    /// Kernel memory, on version 1.
    pub kernel: MemoryEntry,
    /// TCP buffers, on version 1.
    #[serde(rename = "kernelTCP")]
    pub kernel_tcp: MemoryEntry,
    /// All of memory.stat, in the kernel's words and units.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub raw: BTreeMap<String, u64>,
    /// Pressure, on version 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Psi>,
}

/// One kind of memory, in bytes.
///
/// ```
/// use libcontainer::stats::MemoryEntry;
///
/// let left = |memory: &MemoryEntry| memory.limit.saturating_sub(memory.usage);
/// assert_eq!(left(&MemoryEntry::default()), 0);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct MemoryEntry {
    /// The limit. Without a limit, the largest number.
    pub limit: u64,
    /// The current usage.
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    /// The most that was ever used.
    #[serde(skip_serializing_if = "is_zero")]
    pub max: u64,
    /// How often the limit was reached.
    pub failcnt: u64,
}

/// Processes and threads.
///
/// ```
/// use libcontainer::stats::Pids;
///
/// let is_full = |pids: &Pids| pids.limit > 0 && pids.current >= pids.limit;
/// assert!(!is_full(&Pids::default()));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Pids {
    /// The current number.
    #[serde(skip_serializing_if = "is_zero")]
    pub current: u64,
    /// The limit; 0 without a limit.
    #[serde(skip_serializing_if = "is_zero")]
    pub limit: u64,
}

/// The I/O of block devices. Version 2 has only the first two lists.
///
/// ```
/// use libcontainer::stats::Blkio;
///
/// let bytes = |io: &Blkio, op: &str| {
///     io.io_service_bytes_recursive.iter().filter(|entry| entry.op == op).map(|entry| entry.value).sum::<u64>()
/// };
/// assert_eq!(bytes(&Blkio::default(), "Read"), 0);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Blkio {
    /// Bytes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_bytes_recursive: Vec<BlkioEntry>,
    /// Requests.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_serviced_recursive: Vec<BlkioEntry>,
    /// Requests that wait now.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_queue_recursive: Vec<BlkioEntry>,
    /// The time that the devices took, in nanoseconds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_time_recursive: Vec<BlkioEntry>,
    /// The time that requests waited, in nanoseconds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_wait_time_recursive: Vec<BlkioEntry>,
    /// Requests that were merged with others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_merged_recursive: Vec<BlkioEntry>,
    /// The time that it had the devices, in milliseconds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_time_recursive: Vec<BlkioEntry>,
    /// Sectors of 512 bytes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sectors_recursive: Vec<BlkioEntry>,
    /// Pressure, on version 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Psi>,
}

/// One number of one device.
///
/// ```
/// use libcontainer::stats::BlkioEntry;
///
/// let line = |entry: &BlkioEntry| format!("{}:{} {} {}", entry.major, entry.minor, entry.op, entry.value);
/// assert_eq!(line(&BlkioEntry::default()), "0:0  0");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BlkioEntry {
    /// The major number of the device.
    #[serde(skip_serializing_if = "is_zero")]
    pub major: u64,
    /// The minor number of the device.
    #[serde(skip_serializing_if = "is_zero")]
    pub minor: u64,
    /// `Read`, `Write`, `Sync`, …; empty if the number is for all.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub op: String,
    /// The number, in the unit of its list.
    #[serde(skip_serializing_if = "is_zero")]
    pub value: u64,
}

/// Huge pages of one size, in bytes.
///
/// ```
/// use libcontainer::stats::Hugetlb;
///
/// let was_refused = |pages: &Hugetlb| pages.failcnt > 0;
/// assert!(!was_refused(&Hugetlb::default()));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Hugetlb {
    /// The current usage.
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    /// The most that was ever used, on version 1.
    #[serde(skip_serializing_if = "is_zero")]
    pub max: u64,
    /// How often the limit was reached.
    pub failcnt: u64,
}

/// Pressure stall information (Documentation/accounting/psi.rst).
///
/// ```
/// use libcontainer::stats::Psi;
///
/// let is_stalled = |psi: &Psi| psi.full.avg10 > 10.0;
/// assert!(!is_stalled(&Psi::default()));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Psi {
    /// Some tasks waited.
    pub some: Pressure,
    /// All tasks waited.
    pub full: Pressure,
}

/// How long tasks waited.
///
/// ```
/// use libcontainer::stats::Pressure;
///
/// let grows = |pressure: &Pressure| pressure.avg10 > pressure.avg300;
/// assert!(!grows(&Pressure::default()));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Pressure {
    /// The last 10 seconds, in percent.
    pub avg10: f64,
    /// The last 60 seconds, in percent.
    pub avg60: f64,
    /// The last 300 seconds, in percent.
    pub avg300: f64,
    /// In all, in microseconds.
    pub total: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's form
fn is_zero(number: &u64) -> bool {
    *number == 0
}
