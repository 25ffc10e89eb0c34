//! What containers use, as columns: for `list --format wide`, `events --format table` and `top`.

use std::fmt::Write as _;
use std::time::Duration;

use libcontainer::Container;
use libcontainer::stats::{MemoryEntry, Numbers};

/// The numbers of one container at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Usage {
    pub id: String,
    pub processes: u64,
    /// In bytes.
    pub memory: u64,
    /// None if the memory is not limited.
    pub memory_limit: Option<u64>,
    pub cpu: Duration,
    /// Bytes that came and went over the network.
    pub network: (u64, u64),
    /// Bytes read from block devices, and written to them.
    pub block: (u64, u64),
}

/// More than any machine has: the kernel shows such a number for an unlimited group.
const NO_LIMIT: u64 = 1 << 60;

impl Usage {
    pub fn of(container: &Container) -> Usage {
        let stats = container.stats();
        let Numbers { cpu, memory, pids, blkio, .. } = &stats.cgroup;
        let interfaces = stats.network_interfaces.as_deref().unwrap_or_default();
        let block = |direction: &str| {
            let entries = blkio.io_service_bytes_recursive.iter();
            entries.filter(|entry| entry.op.eq_ignore_ascii_case(direction)).map(|entry| entry.value).sum()
        };
        let MemoryEntry { limit, usage, .. } = memory.usage;
        Usage {
            id: container.record().id.clone(),
            processes: pids.current.max(container.processes().map_or(0, |all| all.len() as u64)),
            memory: usage,
            memory_limit: Some(limit).filter(|limit| (1..NO_LIMIT).contains(limit)),
            cpu: Duration::from_nanos(cpu.usage.total),
            network: interfaces.iter().fold((0, 0), |(rx, tx), one| (rx + one.rx_bytes, tx + one.tx_bytes)),
            block: (block("read"), block("write")),
        }
    }

    pub fn memory_text(&self) -> String {
        match self.memory_limit {
            Some(limit) => format!("{}/{}", bytes(self.memory), bytes(limit)),
            None => bytes(self.memory),
        }
    }
}

/// Three digits and a unit, of powers of 1024.
pub fn bytes(number: u64) -> String {
    const UNITS: [&str; 6] = ["B", "K", "M", "G", "T", "P"];
    let (mut whole, mut rest, mut unit) = (number, 0, 0);
    while whole >= 1024 && unit + 1 < UNITS.len() {
        (whole, rest, unit) = (whole / 1024, whole % 1024, unit + 1);
    }
    if unit > 0 && whole < 10 {
        format!("{whole}.{}{}", rest * 10 / 1024, UNITS[unit])
    } else {
        format!("{whole}{}", UNITS[unit])
    }
}

/// Seconds with two digits, then minutes, then hours.
pub fn time(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{}.{:02}s", seconds, time.subsec_millis() / 10),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

/// Each column is as wide as its widest cell and `apart` more, and `least` at least. The last one is not padded.
pub fn columns(rows: &[Vec<String>], least: usize, apart: usize) -> String {
    let width = |n: usize| {
        let cells = rows.iter().filter_map(|row| row.get(n));
        cells.map(|cell| cell.chars().count() + apart).max().unwrap_or(0).max(least)
    };
    let widths: Vec<_> = (0..rows.iter().map(Vec::len).max().unwrap_or(0)).map(width).collect();
    let mut text = String::new();
    for row in rows {
        if let Some((last, others)) = row.split_last() {
            for (cell, width) in others.iter().zip(&widths) {
                let _ = write!(text, "{cell:width$}");
            }
            text.push_str(last);
        }
        text.push('\n');
    }
    text
}

/// The space between the columns of our own tables.
pub const APART: usize = 2;

/// The table of `events --format table` and of `top`. `shares` are the CPU times since the last look, in percent.
pub fn table(all: &[Usage], shares: Option<&[f64]>) -> String {
    let cpu = if shares.is_some() { "CPU%" } else { "CPU" };
    let header = ["ID", "PROCESSES", cpu, "MEMORY", "NETWORK IN/OUT", "BLOCK READ/WRITE"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    rows.extend(all.iter().enumerate().map(|(n, one)| {
        let cpu = match shares.and_then(|shares| shares.get(n)) {
            Some(share) => format!("{share:.1}"),
            None => time(one.cpu),
        };
        let pair = |(a, b): (u64, u64)| format!("{}/{}", bytes(a), bytes(b));
        vec![one.id.clone(), one.processes.to_string(), cpu, one.memory_text(), pair(one.network), pair(one.block)]
    }));
    columns(&rows, 0, APART)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!([0, 1023, 1024, 1536, 10 << 20, 5 << 30].map(bytes), ["0B", "1023B", "1.0K", "1.5K", "10M", "5.0G"]);
        let times = [Duration::from_millis(1230), Duration::from_secs(61), Duration::from_secs(3725)];
        assert_eq!(times.map(time), ["1.23s", "1m01s", "1h02m"]);
    }

    #[test]
    fn a_table_has_a_line_for_each() {
        let one =
            Usage { id: "box".to_owned(), processes: 2, memory: 2048, memory_limit: Some(1 << 20), ..Usage::default() };
        assert_eq!(
            table(std::slice::from_ref(&one), None),
            "ID   PROCESSES  CPU    MEMORY     NETWORK IN/OUT  BLOCK READ/WRITE\n\
             box  2          0.00s  2.0K/1.0M  0B/0B           0B/0B\n"
        );
        assert!(table(&[one], Some(&[12.34])).contains("CPU%"));
    }
}
