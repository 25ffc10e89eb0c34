//! Version 1 (Documentation/admin-guide/cgroup-v1).

use super::numbers::{Blkio, BlkioEntry, Cpu, CpuUsage, Cpuset, Hugetlb, Memory, MemoryEntry, Numbers, Throttling};
use super::parse::{ReadFile, device_entries, file_number, keyed_numbers, numbers, pids, ranges};

/// cpuacct.stat counts in USER_HZ, which is 100 on every architecture that Linux supports.
const NANOSECONDS_PER_TICK: u64 = 10_000_000;

pub(super) fn stats(read: ReadFile<'_>, page_sizes: &[String]) -> Numbers {
    Numbers {
        cpu: cpu(read),
        cpuset: cpuset(read),
        memory: memory(read),
        pids: pids(read),
        blkio: blkio(read),
        hugetlb: page_sizes.iter().filter_map(|size| Some((size.clone(), hugetlb(read, size)?))).collect(),
        ..Numbers::default()
    }
}

fn cpu(read: ReadFile<'_>) -> Cpu {
    let ticks = keyed_numbers(&read("cpuacct.stat").unwrap_or_default());
    let time = |key: &str| ticks.get(key).copied().unwrap_or(0) * NANOSECONDS_PER_TICK;
    let stat = keyed_numbers(&read("cpu.stat").unwrap_or_default());
    let count = |key: &str| stat.get(key).copied().unwrap_or(0);
    // A heading, then one line for each CPU: its number, user, system.
    let all = read("cpuacct.usage_all").unwrap_or_default();
    let column = |n: usize| all.lines().skip(1).filter_map(|line| numbers(line).get(n).copied()).collect();
    Cpu {
        usage: CpuUsage {
            total: file_number(read, "cpuacct.usage"),
            percpu: numbers(&read("cpuacct.usage_percpu").unwrap_or_default()),
            percpu_kernel: column(2),
            percpu_user: column(1),
            kernel: time("system"),
            user: time("user"),
        },
        throttling: Throttling {
            periods: count("nr_periods"),
            throttled_periods: count("nr_throttled"),
            throttled_time: count("throttled_time"),
        },
        psi: None,
    }
}

fn cpuset(read: ReadFile<'_>) -> Cpuset {
    let flag = |name: &str| file_number(read, &format!("cpuset.{name}"));
    Cpuset {
        cpus: ranges(&read("cpuset.cpus").unwrap_or_default()),
        cpu_exclusive: flag("cpu_exclusive"),
        mems: ranges(&read("cpuset.mems").unwrap_or_default()),
        mem_hardwall: flag("mem_hardwall"),
        mem_exclusive: flag("mem_exclusive"),
        memory_migrate: flag("memory_migrate"),
        memory_spread_page: flag("memory_spread_page"),
        memory_spread_slab: flag("memory_spread_slab"),
        memory_pressure: flag("memory_pressure"),
        sched_load_balance: flag("sched_load_balance"),
        sched_relax_domain_level: read("cpuset.sched_relax_domain_level")
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0),
    }
}

fn memory(read: ReadFile<'_>) -> Memory {
    let raw = keyed_numbers(&read("memory.stat").unwrap_or_default());
    let entry = |kind: &str| {
        let file = |name: &str| file_number(read, &format!("memory.{kind}{name}"));
        MemoryEntry {
            limit: file("limit_in_bytes"),
            usage: file("usage_in_bytes"),
            max: file("max_usage_in_bytes"),
            failcnt: file("failcnt"),
        }
    };
    Memory {
        cache: raw.get("cache").copied().unwrap_or(0),
        usage: entry(""),
        swap: entry("memsw."),
        kernel: entry("kmem."),
        kernel_tcp: entry("kmem.tcp."),
        raw,
        psi: None,
    }
}

/// BFQ's numbers if BFQ is used, otherwise those of the throttle.
fn blkio(read: ReadFile<'_>) -> Blkio {
    let of = |name: &str, throttle: Option<&str>| -> Vec<BlkioEntry> {
        let bfq = device_entries(&read(&format!("blkio.bfq.{name}")).unwrap_or_default());
        match throttle.filter(|_| bfq.is_empty()) {
            Some(file) => device_entries(&read(&format!("blkio.throttle.{file}")).unwrap_or_default()),
            None => bfq,
        }
    };
    Blkio {
        io_service_bytes_recursive: of("io_service_bytes_recursive", Some("io_service_bytes_recursive")),
        io_serviced_recursive: of("io_serviced_recursive", Some("io_serviced_recursive")),
        io_queue_recursive: of("io_queued_recursive", None),
        io_service_time_recursive: of("io_service_time_recursive", None),
        io_wait_time_recursive: of("io_wait_time_recursive", None),
        io_merged_recursive: of("io_merged_recursive", None),
        io_time_recursive: of("time_recursive", None),
        sectors_recursive: of("sectors_recursive", None),
        psi: None,
    }
}

fn hugetlb(read: ReadFile<'_>, size: &str) -> Option<Hugetlb> {
    let file = |name: &str| format!("hugetlb.{size}.{name}");
    // If reservations are counted, the limit is about them.
    let prefix = if read(&file("rsvd.usage_in_bytes")).is_some() { "rsvd." } else { "" };
    read(&file(&format!("{prefix}usage_in_bytes")))?;
    let of = |name: &str| file_number(read, &file(&format!("{prefix}{name}")));
    Some(Hugetlb { usage: of("usage_in_bytes"), max: of("max_usage_in_bytes"), failcnt: of("failcnt") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(name: &str) -> Option<String> {
        let text = match name {
            "cpuacct.usage" => "123456789\n",
            "cpuacct.usage_percpu" => "100 200 \n",
            "cpuacct.usage_all" => "cpu user system\n0 60 40\n1 150 50\n",
            "cpuacct.stat" => "user 12\nsystem 3\n",
            "cpu.stat" => "nr_periods 9\nnr_throttled 4\nthrottled_time 777\n",
            "cpuset.cpus" => "0-1\n",
            "cpuset.sched_relax_domain_level" => "-1\n",
            "memory.stat" => "cache 4096\nrss 8192\n",
            "memory.usage_in_bytes" => "16384\n",
            "memory.limit_in_bytes" => "67108864\n",
            "memory.max_usage_in_bytes" => "20000\n",
            "memory.failcnt" => "2\n",
            "pids.current" => "3\n",
            "pids.max" => "max\n",
            "hugetlb.2MB.usage_in_bytes" => "0\n",
            "hugetlb.2MB.rsvd.usage_in_bytes" => "2097152\n",
            "hugetlb.2MB.rsvd.max_usage_in_bytes" => "4194304\n",
            "hugetlb.2MB.rsvd.failcnt" => "1\n",
            "blkio.throttle.io_service_bytes_recursive" => "8:0 Read 512\nTotal 512\n",
            _ => return None,
        };
        Some(text.to_owned())
    }

    #[test]
    fn captured_files_become_runcs_numbers() {
        let stats = stats(&files, &["2MB".to_owned(), "1GB".to_owned()]);
        let json = serde_json::to_value(&stats).unwrap();
        assert_eq!(
            json["cpu"],
            serde_json::json!({
                "usage": {"total": 123_456_789, "percpu": [100, 200], "percpu_kernel": [40, 50],
                    "percpu_user": [60, 150], "kernel": 30_000_000, "user": 120_000_000},
                "throttling": {"periods": 9, "throttledPeriods": 4, "throttledTime": 777},
            })
        );
        assert_eq!(json["memory"]["usage"]["limit"], 67_108_864);
        assert_eq!(json["memory"]["cache"], 4096);
        assert_eq!(json["memory"]["raw"]["rss"], 8192);
        assert_eq!(json["pids"], serde_json::json!({"current": 3}));
        assert_eq!(json["cpuset"]["cpus"], serde_json::json!([0, 1]));
        assert_eq!(json["cpuset"]["sched_relax_domain_level"], -1);
        assert_eq!(
            json["blkio"],
            serde_json::json!({"ioServiceBytesRecursive": [{"major": 8, "op": "Read", "value": 512}]})
        );
        let pages = serde_json::json!({"2MB": {"usage": 2_097_152, "max": 4_194_304, "failcnt": 1}});
        assert_eq!(json["hugetlb"], pages);
        assert_eq!(json["network_interfaces"], serde_json::Value::Null);
    }
}
