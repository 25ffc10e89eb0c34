//! Lines of a `schemata` file, `L3:0=fff;1=f0`, read and compared.

use std::collections::HashMap;

/// The resource of a line.
pub(super) fn resource(line: &str) -> &str {
    line.split(':').next().unwrap_or_default().trim()
}

/// The line of a resource.
pub(super) fn line_of<'t>(kind: &str, there: &'t str) -> Option<&'t str> {
    there.lines().map(str::trim).find(|line| resource(line) == kind)
}

/// The index of the first line of `wanted` that differs from `there`. Order, leading zeros and repeated lines do not
/// matter. The kernel may round a bandwidth up to a step of the machine.
pub(super) fn first_difference(wanted: &[&str], there: &str, granularity: Option<u64>) -> Option<usize> {
    let mut requested = HashMap::new();
    let mut missing = Vec::new();
    for (n, line) in wanted.iter().enumerate() {
        match values(line) {
            Some(values) => requested.extend(values.into_iter().map(|(key, value)| (key, (value, n)))),
            None if there.lines().any(|other| other.trim() == line.trim()) => {}
            None => missing.push(n),
        }
    }
    let there: HashMap<_, _> = there.lines().filter_map(values).flatten().collect();
    let differs = requested.iter().filter(|(key, (value, _))| {
        there.get(*key).is_none_or(|other| other != value && !is_rounded(&key.0, value, other, granularity))
    });
    differs.map(|(_, (_, n))| *n).chain(missing).min()
}

fn is_rounded(kind: &str, value: &str, there: &str, granularity: Option<u64>) -> bool {
    let numbers = (value.parse::<u64>(), there.parse::<u64>(), granularity.filter(|step| *step > 0));
    let (Ok(value), Ok(there), Some(step)) = numbers else { return false };
    kind == "MB" && value.checked_next_multiple_of(step) == Some(there)
}

type ResourceAndCache = (String, String);

/// Resource, cache and value of each value of a line. None if the line does not have that form.
fn values(line: &str) -> Option<Vec<(ResourceAndCache, String)>> {
    let (kind, list) = line.split_once(':')?;
    let parts = list.trim().trim_end_matches(';').split(';').map(|part| {
        let (id, value) = part.split_once('=')?;
        Some(((kind.trim().to_owned(), plain(id)), plain(value)))
    });
    parts.collect()
}

/// A number without leading zeros and `0x`.
fn plain(number: &str) -> String {
    let number = number.trim().to_ascii_lowercase();
    let digits = number.strip_prefix("0x").unwrap_or(&number).trim_start_matches('0');
    if digits.is_empty() { "0".to_owned() } else { digits.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemata_are_the_same_whatever_they_look_like() {
        let there = "    L3:0=fff;1=00f\n    MB:0= 30;1=100\n";
        for same in
            [&["L3:0=fff;1=f"][..], &["L3:1=0xF;0=FFF", "MB:0=30"], &["L3:0=1", "L3:0=fff"], &["MB:1=100;0=30;"]]
        {
            assert_eq!(first_difference(same, there, None), None, "{same:?}");
        }
        for (n, other) in [
            (0, &["L3:0=ff;1=f"][..]),
            (1, &["L3:0=fff", "L3:1=ff"]),
            (0, &["L2:0=f"]),
            (0, &["L3:2=f"]),
            (1, &["L3:0=fff", "strange"]),
            (0, &["MB:0=25"]),
        ] {
            assert_eq!(first_difference(other, there, None), Some(n), "{other:?}");
        }
        assert_eq!(first_difference(&["strange"], "strange\n", None), None);
    }

    #[test]
    fn a_bandwidth_is_rounded_up_by_the_machine() {
        assert_eq!(first_difference(&["MB:0=25"], "MB:0=30", Some(10)), None);
        assert_eq!(first_difference(&["MB:0=25"], "MB:0=20", Some(10)), Some(0));
        assert_eq!(first_difference(&["L3:0=25"], "L3:0=30", Some(10)), Some(0));
    }
}
