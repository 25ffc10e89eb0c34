//! Lists of CPUs and memory nodes, such as `0-3,7` (cpuset(7), "List format").

use std::ops::RangeInclusive;

/// The ranges of a list. None if the syntax is wrong.
pub fn ranges(list: &str) -> Option<Vec<RangeInclusive<u16>>> {
    let parts = list.split(',').map(str::trim).filter(|range| !range.is_empty());
    parts
        .map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
            (first <= last).then_some(first..=last)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::ranges;

    #[test]
    fn a_list_is_its_ranges() {
        assert_eq!(ranges("0-3,7\n"), Some(vec![0..=3, 7..=7]));
        assert_eq!(ranges(" 1 , 2-2 "), Some(vec![1..=1, 2..=2]));
        assert_eq!(ranges("\n"), Some(vec![]));
        for bad in ["x", "3-1", "-1", "1-", "99999"] {
            assert_eq!(ranges(bad), None, "{bad}");
        }
    }
}
