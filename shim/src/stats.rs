//! The statistics of a container, in the two formats of containerd/cgroups, which `ctr task metrics`, the CRI and
//! cAdvisor read.

use std::collections::BTreeMap;

use libcontainer::stats::{BlkioEntry, Hugetlb, Memory, MemoryEntry, Numbers};

use crate::messages::cgroups::{v1, v2};
use crate::messages::google::Any;

/// The two formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    V1,
    V2,
}

/// The library's numbers as a message.
pub fn metrics(stats: &Numbers, format: Format) -> Any {
    match format {
        Format::V1 => Any::of("io.containerd.cgroups.v1.Metrics", &of_v1(stats)),
        Format::V2 => Any::of("io.containerd.cgroups.v2.Metrics", &of_v2(stats)),
    }
}

fn entry(entry: &MemoryEntry) -> Option<v1::MemoryEntry> {
    let MemoryEntry { limit, usage, max, failcnt, .. } = *entry;
    Some(v1::MemoryEntry { limit, usage, max, failcnt })
}

fn blkio(list: &[BlkioEntry]) -> Vec<v1::BlkIoEntry> {
    let one = |entry: &BlkioEntry| v1::BlkIoEntry {
        op: entry.op.clone(),
        device: String::new(),
        major: entry.major,
        minor: entry.minor,
        value: entry.value,
    };
    list.iter().map(one).collect()
}

fn of_v1(stats: &Numbers) -> v1::Metrics {
    let (cpu, blocks) = (&stats.cpu, &stats.blkio);
    let usage = v1::CpuUsage {
        total: cpu.usage.total,
        kernel: cpu.usage.kernel,
        user: cpu.usage.user,
        per_cpu: cpu.usage.percpu.clone(),
    };
    let throttling = v1::Throttle {
        periods: cpu.throttling.periods,
        throttled_periods: cpu.throttling.throttled_periods,
        throttled_time: cpu.throttling.throttled_time,
    };
    let huge = |(size, entry): (&String, &Hugetlb)| v1::HugetlbStat {
        usage: entry.usage,
        max: entry.max,
        failcnt: entry.failcnt,
        pagesize: size.clone(),
    };
    v1::Metrics {
        hugetlb: stats.hugetlb.iter().map(huge).collect(),
        pids: Some(v1::PidsStat { current: stats.pids.current, limit: stats.pids.limit }),
        cpu: Some(v1::CpuStat { usage: Some(usage), throttling: Some(throttling) }),
        memory: Some(memory_v1(&stats.memory)),
        blkio: Some(v1::BlkIoStat {
            io_service_bytes_recursive: blkio(&blocks.io_service_bytes_recursive),
            io_serviced_recursive: blkio(&blocks.io_serviced_recursive),
            io_queued_recursive: blkio(&blocks.io_queue_recursive),
            io_service_time_recursive: blkio(&blocks.io_service_time_recursive),
            io_wait_time_recursive: blkio(&blocks.io_wait_time_recursive),
            io_merged_recursive: blkio(&blocks.io_merged_recursive),
            io_time_recursive: blkio(&blocks.io_time_recursive),
            sectors_recursive: blkio(&blocks.sectors_recursive),
        }),
        memory_oom_control: None,
    }
}

/// The numbers of memory.stat by their names; 0 for one that is absent.
fn raw(memory: &Memory) -> impl Fn(&str) -> u64 {
    let raw: &BTreeMap<String, u64> = &memory.raw;
    |name| raw.get(name).copied().unwrap_or(0)
}

fn memory_v1(memory: &Memory) -> v1::MemoryStat {
    let raw = raw(memory);
    v1::MemoryStat {
        cache: raw("cache"),
        rss: raw("rss"),
        rss_huge: raw("rss_huge"),
        mapped_file: raw("mapped_file"),
        dirty: raw("dirty"),
        writeback: raw("writeback"),
        pg_pg_in: raw("pgpgin"),
        pg_pg_out: raw("pgpgout"),
        pg_fault: raw("pgfault"),
        pg_maj_fault: raw("pgmajfault"),
        inactive_anon: raw("inactive_anon"),
        active_anon: raw("active_anon"),
        inactive_file: raw("inactive_file"),
        active_file: raw("active_file"),
        unevictable: raw("unevictable"),
        hierarchical_memory_limit: raw("hierarchical_memory_limit"),
        hierarchical_swap_limit: raw("hierarchical_memsw_limit"),
        total_cache: raw("total_cache"),
        total_rss: raw("total_rss"),
        total_rss_huge: raw("total_rss_huge"),
        total_mapped_file: raw("total_mapped_file"),
        total_dirty: raw("total_dirty"),
        total_writeback: raw("total_writeback"),
        total_pg_pg_in: raw("total_pgpgin"),
        total_pg_pg_out: raw("total_pgpgout"),
        total_pg_fault: raw("total_pgfault"),
        total_pg_maj_fault: raw("total_pgmajfault"),
        total_inactive_anon: raw("total_inactive_anon"),
        total_active_anon: raw("total_active_anon"),
        total_inactive_file: raw("total_inactive_file"),
        total_active_file: raw("total_active_file"),
        total_unevictable: raw("total_unevictable"),
        usage: entry(&memory.usage),
        swap: entry(&memory.swap),
        kernel: entry(&memory.kernel),
        kernel_tcp: entry(&memory.kernel_tcp),
    }
}

fn of_v2(stats: &Numbers) -> v2::Metrics {
    let cpu = &stats.cpu;
    let huge = |(size, entry): (&String, &Hugetlb)| v2::HugeTlbStat {
        current: entry.usage,
        max: entry.max,
        pagesize: size.clone(),
    };
    v2::Metrics {
        pids: Some(v2::PidsStat { current: stats.pids.current, limit: stats.pids.limit }),
        cpu: Some(v2::CpuStat {
            usage_usec: cpu.usage.total / 1000,
            user_usec: cpu.usage.user / 1000,
            system_usec: cpu.usage.kernel / 1000,
            nr_periods: cpu.throttling.periods,
            nr_throttled: cpu.throttling.throttled_periods,
            throttled_usec: cpu.throttling.throttled_time / 1000,
        }),
        memory: Some(memory_v2(&stats.memory)),
        io: Some(v2::IoStat { usage: io(stats) }),
        hugetlb: stats.hugetlb.iter().map(huge).collect(),
        memory_events: None,
    }
}

/// One entry for each device.
fn io(stats: &Numbers) -> Vec<v2::IoEntry> {
    let mut devices: Vec<v2::IoEntry> = Vec::new();
    for (list, bytes) in [(&stats.blkio.io_service_bytes_recursive, true), (&stats.blkio.io_serviced_recursive, false)]
    {
        for number in list {
            let (major, minor) = (number.major, number.minor);
            let at = devices.iter().position(|device| (device.major, device.minor) == (major, minor));
            let at = at.unwrap_or_else(|| {
                devices.push(v2::IoEntry { major, minor, ..v2::IoEntry::default() });
                devices.len() - 1
            });
            let device = &mut devices[at];
            match (bytes, number.op.to_ascii_lowercase().as_str()) {
                (true, "read") => device.rbytes = number.value,
                (true, "write") => device.wbytes = number.value,
                (false, "read") => device.rios = number.value,
                (false, "write") => device.wios = number.value,
                _ => {}
            }
        }
    }
    devices
}

fn memory_v2(memory: &Memory) -> v2::MemoryStat {
    let raw = raw(memory);
    // the library counts swap and memory together, as version 1 does; these fields count swap alone
    let (usage, limit) = (memory.usage.usage, memory.usage.limit);
    let (both, both_limit) = (memory.swap.usage, memory.swap.limit);
    v2::MemoryStat {
        anon: raw("anon"),
        file: raw("file"),
        kernel_stack: raw("kernel_stack"),
        slab: raw("slab"),
        sock: raw("sock"),
        shmem: raw("shmem"),
        file_mapped: raw("file_mapped"),
        file_dirty: raw("file_dirty"),
        file_writeback: raw("file_writeback"),
        anon_thp: raw("anon_thp"),
        inactive_anon: raw("inactive_anon"),
        active_anon: raw("active_anon"),
        inactive_file: raw("inactive_file"),
        active_file: raw("active_file"),
        unevictable: raw("unevictable"),
        slab_reclaimable: raw("slab_reclaimable"),
        slab_unreclaimable: raw("slab_unreclaimable"),
        pgfault: raw("pgfault"),
        pgmajfault: raw("pgmajfault"),
        workingset_refault: raw("workingset_refault_anon") + raw("workingset_refault_file"),
        workingset_activate: raw("workingset_activate_anon") + raw("workingset_activate_file"),
        workingset_nodereclaim: raw("workingset_nodereclaim"),
        pgrefill: raw("pgrefill"),
        pgscan: raw("pgscan"),
        pgsteal: raw("pgsteal"),
        pgactivate: raw("pgactivate"),
        pgdeactivate: raw("pgdeactivate"),
        pglazyfree: raw("pglazyfree"),
        pglazyfreed: raw("pglazyfreed"),
        thp_fault_alloc: raw("thp_fault_alloc"),
        thp_collapse_alloc: raw("thp_collapse_alloc"),
        usage,
        usage_limit: limit,
        swap_usage: both.saturating_sub(usage),
        swap_limit: if both_limit == u64::MAX { both_limit } else { both_limit.saturating_sub(limit) },
        max_usage: memory.usage.max,
        swap_max_usage: 0,
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    fn entry(op: &str, value: u64) -> BlkioEntry {
        let mut entry = BlkioEntry::default();
        (entry.major, entry.op, entry.value) = (8, op.to_owned(), value);
        entry
    }

    fn numbers() -> Numbers {
        let mut stats = Numbers::default();
        let usage = &mut stats.cpu.usage;
        (usage.total, usage.kernel, usage.user, usage.percpu) = (5000, 2000, 3000, vec![1, 2]);
        let memory = &mut stats.memory;
        (memory.usage.limit, memory.usage.usage) = (100, 40);
        (memory.swap.limit, memory.swap.usage) = (150, 50);
        let raw = [("anon", 7), ("pgpgin", 9), ("workingset_refault_file", 3)];
        memory.raw = raw.map(|(name, value)| (name.to_owned(), value)).into();
        stats.blkio.io_service_bytes_recursive = vec![entry("Read", 11)];
        stats.blkio.io_serviced_recursive = vec![entry("Write", 12)];
        stats.hugetlb.entry("2MB".to_owned()).or_default().usage = 1;
        stats
    }

    #[test]
    fn numbers_come_in_both_shapes() {
        let stats = numbers();
        let any = metrics(&stats, Format::V1);
        assert_eq!(any.type_url, "io.containerd.cgroups.v1.Metrics");
        let read = v1::Metrics::decode(&*any.value).expect("v1");
        assert_eq!(read.cpu.and_then(|cpu| cpu.usage).map(|usage| usage.per_cpu), Some(vec![1, 2]));
        assert_eq!(read.memory.map(|memory| memory.pg_pg_in), Some(9));
        assert_eq!(read.hugetlb[0].pagesize, "2MB");
        let any = metrics(&stats, Format::V2);
        assert_eq!(any.type_url, "io.containerd.cgroups.v2.Metrics");
        let read = v2::Metrics::decode(&*any.value).expect("v2");
        assert_eq!(read.cpu.map(|cpu| (cpu.usage_usec, cpu.system_usec)), Some((5, 2)));
        let memory = read.memory.expect("memory");
        assert_eq!((memory.anon, memory.workingset_refault), (7, 3));
        assert_eq!((memory.usage, memory.swap_usage, memory.swap_limit), (40, 10, 50));
        let io = v2::IoEntry { major: 8, rbytes: 11, wios: 12, ..v2::IoEntry::default() };
        assert_eq!(read.io.map(|io| io.usage), Some(vec![io]));
    }
}
