//! Version 2 (Documentation/admin-guide/cgroup-v2.rst), in the members of version 1.

use super::numbers::{Blkio, BlkioEntry, Cpu, CpuUsage, Hugetlb, Memory, MemoryEntry, Numbers, Throttling};
use super::parse::{ReadFile, file_number, keyed_numbers, number, pids, pressure};
use crate::sys::kernel_file;

pub(super) fn stats(read: ReadFile<'_>, page_sizes: &[String]) -> Numbers {
    Numbers {
        cpu: cpu(read),
        memory: memory(read),
        pids: pids(read),
        blkio: blkio(read),
        hugetlb: page_sizes.iter().filter_map(|size| Some((size.clone(), hugetlb(read, size)?))).collect(),
        ..Numbers::default()
    }
}

/// cpu.stat counts microseconds.
fn cpu(read: ReadFile<'_>) -> Cpu {
    let stat = keyed_numbers(&read("cpu.stat").unwrap_or_default());
    let count = |key: &str| stat.get(key).copied().unwrap_or(0);
    let time = |key: &str| count(key).saturating_mul(1000);
    Cpu {
        usage: CpuUsage {
            total: time("usage_usec"),
            kernel: time("system_usec"),
            user: time("user_usec"),
            ..CpuUsage::default()
        },
        throttling: Throttling {
            periods: count("nr_periods"),
            throttled_periods: count("nr_throttled"),
            throttled_time: time("throttled_usec"),
        },
        psi: pressure(read, "cpu.pressure"),
    }
}

fn memory(read: ReadFile<'_>) -> Memory {
    let raw = keyed_numbers(&read("memory.stat").unwrap_or_default());
    let events = keyed_numbers(&read("memory.events").unwrap_or_default());
    let usage = MemoryEntry {
        limit: file_number(read, "memory.max"),
        usage: file_number(read, "memory.current"),
        max: file_number(read, "memory.peak"),
        failcnt: events.get("max").copied().unwrap_or(0),
    };
    // Version 2 counts swap alone. Readers expect memory and swap together, as on version 1.
    let swap = match read("memory.swap.current") {
        None => MemoryEntry::default(),
        Some(_) => MemoryEntry {
            limit: usage.limit.saturating_add(file_number(read, "memory.swap.max")),
            usage: usage.usage.saturating_add(file_number(read, "memory.swap.current")),
            max: 0,
            failcnt: keyed_numbers(&read("memory.swap.events").unwrap_or_default()).get("max").copied().unwrap_or(0),
        },
    };
    Memory {
        cache: raw.get("file").copied().unwrap_or(0),
        usage,
        swap,
        raw,
        psi: pressure(read, "memory.pressure"),
        ..Memory::default()
    }
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6` becomes an entry for each.
fn blkio(read: ReadFile<'_>) -> Blkio {
    let mut blkio = Blkio { psi: pressure(read, "io.pressure"), ..Blkio::default() };
    for (device, counts) in kernel_file::keyed(&read("io.stat").unwrap_or_default()) {
        let Some((major, minor)) = device.split_once(':') else { continue };
        let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else { continue };
        for (key, value) in counts.split_whitespace().filter_map(|count| count.split_once('=')) {
            let (op, list) = match key {
                "rbytes" => ("Read", &mut blkio.io_service_bytes_recursive),
                "wbytes" => ("Write", &mut blkio.io_service_bytes_recursive),
                "dbytes" => ("Discard", &mut blkio.io_service_bytes_recursive),
                "rios" => ("Read", &mut blkio.io_serviced_recursive),
                "wios" => ("Write", &mut blkio.io_serviced_recursive),
                "dios" => ("Discard", &mut blkio.io_serviced_recursive),
                _ => continue,
            };
            list.push(BlkioEntry { major, minor, op: op.to_owned(), value: value.parse().unwrap_or(0) });
        }
    }
    blkio
}

fn hugetlb(read: ReadFile<'_>, size: &str) -> Option<Hugetlb> {
    let file = |name: &str| format!("hugetlb.{size}.{name}");
    let usage = read(&file("rsvd.current")).or_else(|| read(&file("current")))?;
    let events = keyed_numbers(&read(&file("events")).unwrap_or_default());
    Some(Hugetlb { usage: number(&usage), max: 0, failcnt: events.get("max").copied().unwrap_or(0) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::stats::Pids;

    fn files(name: &str) -> Option<String> {
        let text = match name {
            "cpu.stat" => "usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_periods 1\nnr_throttled 1\nthrottled_usec 9\n",
            "memory.stat" => "anon 10\nfile 20\n",
            "memory.current" => "100\n",
            "memory.max" => "1000\n",
            "memory.peak" => "500\n",
            "memory.events" => "low 0\nmax 6\noom 1\noom_kill 1\n",
            "memory.swap.current" => "7\n",
            "memory.swap.max" => "max\n",
            "hugetlb.2MB.current" => "2097152\n",
            "hugetlb.2MB.events" => "max 3\n",
            "pids.current" => "2\n",
            "pids.max" => "50\n",
            "io.stat" => "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n",
            "memory.pressure" => {
                "some avg10=0.00 avg60=0.00 avg300=0.00 total=5\nfull avg10=0 avg60=0 avg300=0 total=1\n"
            }
            _ => return None,
        };
        Some(text.to_owned())
    }

    #[test]
    fn captured_files_become_version_1s_numbers() {
        let stats = stats(&files, &["2MB".to_owned(), "1GB".to_owned()]);
        assert_eq!(
            (stats.cpu.usage.total, stats.cpu.usage.user, stats.cpu.throttling.throttled_time),
            (5000, 3000, 9000)
        );
        assert_eq!(stats.memory.usage, MemoryEntry { limit: 1000, usage: 100, max: 500, failcnt: 6 },);
        assert_eq!((stats.memory.swap.usage, stats.memory.swap.limit, stats.memory.cache), (107, u64::MAX, 20));
        assert_eq!(stats.pids, Pids { current: 2, limit: 50 });
        assert_eq!(stats.blkio.io_service_bytes_recursive.len(), 3);
        assert_eq!(stats.memory.psi.unwrap().full.total, 1);
        assert!(stats.cpu.psi.is_none());
        assert_eq!(stats.hugetlb, [("2MB".to_owned(), Hugetlb { usage: 2_097_152, max: 0, failcnt: 3 })].into());
    }
}
