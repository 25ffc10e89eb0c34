//! The formats of cgroup files.

use std::collections::BTreeMap;

use super::numbers::{BlkioEntry, Pids, Pressure, Psi};
use crate::host::cpu_list;
use crate::sys::kernel_file;

/// Reads a file of the container's cgroup by its name.
pub(super) type ReadFile<'r> = &'r dyn Fn(&str) -> Option<String>;

/// The number in a file, or 0 if the file does not exist. `max` is the largest number.
pub(super) fn file_number(read: ReadFile<'_>, file: &str) -> u64 {
    read(file).map_or(0, |text| number(&text))
}

/// The pids controller, which has the same files on both versions.
pub(super) fn pids(read: ReadFile<'_>) -> Pids {
    let limit = file_number(read, "pids.max");
    Pids { current: file_number(read, "pids.current"), limit: if limit == u64::MAX { 0 } else { limit } }
}

/// The number in a text; `max` is the largest number.
pub(super) fn number(text: &str) -> u64 {
    match text.trim() {
        "max" => u64::MAX,
        text => text.parse().unwrap_or(0),
    }
}

/// The numbers of `NAME VALUE` lines.
pub(super) fn keyed_numbers(text: &str) -> BTreeMap<String, u64> {
    kernel_file::keyed(text).filter_map(|(name, number)| Some((name.to_owned(), number.parse().ok()?))).collect()
}

/// Numbers between spaces.
pub(super) fn numbers(text: &str) -> Vec<u64> {
    text.split_whitespace().filter_map(|number| number.parse().ok()).collect()
}

/// The numbers in a list of ranges.
pub(super) fn ranges(text: &str) -> Vec<u16> {
    cpu_list::ranges(text).into_iter().flatten().flatten().collect()
}

/// `8:0 Read 4096` lines, or `8:0 4096` if the number is for all operations.
pub(super) fn device_entries(text: &str) -> Vec<BlkioEntry> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (major, minor) = words.next()?.split_once(':')?;
            let last = words.next_back()?;
            Some(BlkioEntry {
                major: major.parse().ok()?,
                minor: minor.parse().ok()?,
                op: words.next().unwrap_or_default().to_owned(),
                value: last.parse().ok()?,
            })
        })
        .collect()
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0` and `full …`. None if the kernel has no such file.
pub(super) fn pressure(read: ReadFile<'_>, file: &str) -> Option<Psi> {
    let text = read(file)?;
    let line = |kind: &str| {
        let line = kernel_file::keyed_value(&text, kind)?;
        let field = |name: &str| line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        let average = |name: &str| field(name).and_then(|number| number.parse().ok()).unwrap_or(0.0);
        Some(Pressure {
            avg10: average("avg10"),
            avg60: average("avg60"),
            avg300: average("avg300"),
            total: field("total").and_then(|number| number.parse().ok()).unwrap_or(0),
        })
    };
    Some(Psi { some: line("some")?, full: line("full").unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_is_read() {
        assert_eq!(number("max\n"), u64::MAX);
        assert_eq!(number("17\n"), 17);
        assert_eq!(keyed_numbers("a 1\nb_c 22\nbad x\n"), BTreeMap::from([("a".into(), 1), ("b_c".into(), 22)]));
        assert_eq!(ranges("0-2,5\n"), [0, 1, 2, 5]);
        assert!(ranges("\n").is_empty());
        let entries = device_entries("8:0 Read 4096\n8:0 Total 4096\n8:16 77\nTotal 4096\n");
        assert_eq!(entries.len(), 3);
        assert_eq!(entries[0], BlkioEntry { major: 8, minor: 0, op: "Read".into(), value: 4096 });
        assert_eq!(entries[2], BlkioEntry { major: 8, minor: 16, op: String::new(), value: 77 });
    }

    #[test]
    fn pressure_is_some_and_full() {
        let text =
            "some avg10=1.50 avg60=0.20 avg300=0.00 total=4242\nfull avg10=0.10 avg60=0.00 avg300=0.00 total=7\n";
        let psi = pressure(&|_| Some(text.to_owned()), "cpu.pressure").unwrap();
        assert_eq!((psi.some.avg10, psi.some.total, psi.full.total), (1.5, 4242, 7));
        assert_eq!(pressure(&|_| None, "cpu.pressure"), None);
    }
}
