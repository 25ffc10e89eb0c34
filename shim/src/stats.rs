//! The statistics of a container, in the two formats of containerd/cgroups, which `ctr task metrics`, the CRI and
//! cAdvisor read.

use serde_json::Value;

use crate::messages::cgroups::{v1, v2};
use crate::messages::google::Any;

/// The two formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    V1,
    V2,
}

/// The library's numbers (`events --stats`) as a message.
pub fn metrics(stats: &Value, format: Format) -> Any {
    match format {
        Format::V1 => Any::of("io.containerd.cgroups.v1.Metrics", &of_v1(stats)),
        Format::V2 => Any::of("io.containerd.cgroups.v2.Metrics", &of_v2(stats)),
    }
}

/// The number at `path`; 0 if it is absent.
fn number(stats: &Value, path: &str) -> u64 {
    stats.pointer(path).and_then(Value::as_u64).unwrap_or(0)
}

fn entry(stats: &Value, name: &str) -> Option<v1::MemoryEntry> {
    let entry = stats.pointer(&format!("/memory/{name}"))?;
    let (limit, usage) = (number(entry, "/limit"), number(entry, "/usage"));
    Some(v1::MemoryEntry { limit, usage, max: number(entry, "/max"), failcnt: number(entry, "/failcnt") })
}

fn blkio(stats: &Value, name: &str) -> Vec<v1::BlkIoEntry> {
    let list = stats.pointer(&format!("/blkio/{name}")).and_then(Value::as_array);
    let one = |entry: &Value| v1::BlkIoEntry {
        op: entry["op"].as_str().unwrap_or_default().to_owned(),
        device: String::new(),
        major: number(entry, "/major"),
        minor: number(entry, "/minor"),
        value: number(entry, "/value"),
    };
    list.into_iter().flatten().map(one).collect()
}

fn of_v1(stats: &Value) -> v1::Metrics {
    let per_cpu = stats.pointer("/cpu/usage/percpu").and_then(Value::as_array);
    let usage = v1::CpuUsage {
        total: number(stats, "/cpu/usage/total"),
        kernel: number(stats, "/cpu/usage/kernel"),
        user: number(stats, "/cpu/usage/user"),
        per_cpu: per_cpu.into_iter().flatten().filter_map(Value::as_u64).collect(),
    };
    let throttling = v1::Throttle {
        periods: number(stats, "/cpu/throttling/periods"),
        throttled_periods: number(stats, "/cpu/throttling/throttledPeriods"),
        throttled_time: number(stats, "/cpu/throttling/throttledTime"),
    };
    let sizes = stats["hugetlb"].as_object();
    let huge = |(size, entry): (&String, &Value)| v1::HugetlbStat {
        usage: number(entry, "/usage"),
        max: number(entry, "/max"),
        failcnt: number(entry, "/failcnt"),
        pagesize: size.clone(),
    };
    v1::Metrics {
        hugetlb: sizes.into_iter().flatten().map(huge).collect(),
        pids: Some(v1::PidsStat { current: number(stats, "/pids/current"), limit: number(stats, "/pids/limit") }),
        cpu: Some(v1::CpuStat { usage: Some(usage), throttling: Some(throttling) }),
        memory: Some(memory_v1(stats)),
        blkio: Some(v1::BlkIoStat {
            io_service_bytes_recursive: blkio(stats, "ioServiceBytesRecursive"),
            io_serviced_recursive: blkio(stats, "ioServicedRecursive"),
            io_queued_recursive: blkio(stats, "ioQueueRecursive"),
            io_service_time_recursive: blkio(stats, "ioServiceTimeRecursive"),
            io_wait_time_recursive: blkio(stats, "ioWaitTimeRecursive"),
            io_merged_recursive: blkio(stats, "ioMergedRecursive"),
            io_time_recursive: blkio(stats, "ioTimeRecursive"),
            sectors_recursive: blkio(stats, "sectorsRecursive"),
        }),
        memory_oom_control: None,
    }
}

fn memory_v1(stats: &Value) -> v1::MemoryStat {
    let raw = |name: &str| number(stats, &format!("/memory/raw/{name}"));
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
        usage: entry(stats, "usage"),
        swap: entry(stats, "swap"),
        kernel: entry(stats, "kernel"),
        kernel_tcp: entry(stats, "kernelTCP"),
    }
}

fn of_v2(stats: &Value) -> v2::Metrics {
    let micro = |path: &str| number(stats, path) / 1000;
    let huge = |(size, entry): (&String, &Value)| v2::HugeTlbStat {
        current: number(entry, "/usage"),
        max: number(entry, "/max"),
        pagesize: size.clone(),
    };
    v2::Metrics {
        pids: Some(v2::PidsStat { current: number(stats, "/pids/current"), limit: number(stats, "/pids/limit") }),
        cpu: Some(v2::CpuStat {
            usage_usec: micro("/cpu/usage/total"),
            user_usec: micro("/cpu/usage/user"),
            system_usec: micro("/cpu/usage/kernel"),
            nr_periods: number(stats, "/cpu/throttling/periods"),
            nr_throttled: number(stats, "/cpu/throttling/throttledPeriods"),
            throttled_usec: micro("/cpu/throttling/throttledTime"),
        }),
        memory: Some(memory_v2(stats)),
        io: Some(v2::IoStat { usage: io(stats) }),
        hugetlb: stats["hugetlb"].as_object().into_iter().flatten().map(huge).collect(),
        memory_events: None,
    }
}

/// One entry for each device.
fn io(stats: &Value) -> Vec<v2::IoEntry> {
    let mut devices: Vec<v2::IoEntry> = Vec::new();
    for (list, bytes) in [("ioServiceBytesRecursive", true), ("ioServicedRecursive", false)] {
        for number in blkio(stats, list) {
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

fn memory_v2(stats: &Value) -> v2::MemoryStat {
    let raw = |name: &str| number(stats, &format!("/memory/raw/{name}"));
    let memory = |path: &str| number(stats, &format!("/memory/{path}"));
    // the library counts swap and memory together, as version 1 does; these fields count swap alone
    let (usage, limit) = (memory("usage/usage"), memory("usage/limit"));
    let (both, both_limit) = (memory("swap/usage"), memory("swap/limit"));
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
        max_usage: memory("usage/max"),
        swap_max_usage: 0,
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_come_in_both_shapes() {
        let stats = json!({
            "cpu": {"usage": {"total": 5000, "kernel": 2000, "user": 3000, "percpu": [1, 2]}, "throttling": {}},
            "memory": {"usage": {"limit": 100, "usage": 40}, "swap": {"limit": 150, "usage": 50},
                       "raw": {"anon": 7, "pgpgin": 9, "workingset_refault_file": 3}},
            "pids": {"current": 4},
            "blkio": {"ioServiceBytesRecursive": [{"major": 8, "op": "Read", "value": 11}],
                      "ioServicedRecursive": [{"major": 8, "op": "Write", "value": 12}]},
            "hugetlb": {"2MB": {"usage": 1}},
        });
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
