//! `org.systemd.property.NAME` annotations: a property of the container's unit, in GVariant's text format.

use std::collections::HashMap;

use super::gvariant;
use super::unit::{Need, Property, PropertyValue};
use crate::config::{At, Faults};

/// The prefix of these annotations' names.
pub const PREFIX: &str = "org.systemd.property.";

/// The properties of these annotations, sorted by name.
///
/// # Errors
/// A name that no property can have, or a value that cannot be parsed.
pub fn properties(annotations: &HashMap<String, String>) -> Result<Vec<Property>, Faults> {
    let mut faults = Faults::none();
    let mut list = Vec::new();
    let mut entries: Vec<_> = annotations.iter().filter(|(key, _)| key.starts_with(PREFIX)).collect();
    entries.sort_unstable();
    for (key, text) in entries {
        let at = At::annotation(key);
        let name = &key[PREFIX.len()..];
        if name.len() < 3 || !name.bytes().all(|byte| byte.is_ascii_alphabetic()) {
            faults.add(at, "is not the name of a unit property (at least three letters)");
            continue;
        }
        match gvariant::parse(text) {
            None => faults.add(at, format!("{text:?} is not a value in GVariant's text format")),
            Some(value) => match in_microseconds(name, value) {
                Some((name, value)) => list.push(Property { name, value, need: Need::Must }),
                None => faults.add(at, format!("{text:?} is not a number of seconds")),
            },
        }
    }
    faults.into_result(list)
}

/// Unit files use seconds, and D-Bus uses microseconds: `TimeoutStopSec` becomes `TimeoutStopUSec`.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // checked to be in range
fn in_microseconds(name: &str, value: PropertyValue) -> Option<(String, PropertyValue)> {
    let Some(stem) = name.strip_suffix("Sec").filter(|stem| !stem.ends_with('U')) else {
        return Some((name.to_owned(), value));
    };
    let micro = match value {
        PropertyValue::Byte(seconds) => u64::from(seconds) * 1_000_000,
        PropertyValue::Uint16(seconds) => u64::from(seconds) * 1_000_000,
        PropertyValue::Int16(seconds) => u64::try_from(seconds).ok()? * 1_000_000,
        PropertyValue::Int32(seconds) => u64::try_from(seconds).ok()?.checked_mul(1_000_000)?,
        PropertyValue::Int64(seconds) => u64::try_from(seconds).ok()?.checked_mul(1_000_000)?,
        PropertyValue::Uint32(seconds) => u64::from(seconds) * 1_000_000,
        PropertyValue::Uint64(seconds) => seconds.checked_mul(1_000_000)?,
        PropertyValue::Double(seconds) if (0.0..1e12).contains(&seconds) => (seconds * 1e6) as u64,
        _ => return None,
    };
    Some((format!("{stem}USec"), PropertyValue::Uint64(micro)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_microseconds_on_the_bus() {
        let annotations = HashMap::from([
            (format!("{PREFIX}TimeoutStopSec"), "uint64 3".to_owned()),
            (format!("{PREFIX}RuntimeMaxUSec"), "uint64 3".to_owned()),
            ("other".to_owned(), "x".to_owned()),
        ]);
        let found: Vec<_> = properties(&annotations).unwrap().into_iter().map(|p| (p.name, p.value)).collect();
        let three = |name: &str, n| (name.to_owned(), PropertyValue::Uint64(n));
        assert_eq!(found, [three("RuntimeMaxUSec", 3), three("TimeoutStopUSec", 3_000_000)]);
    }

    #[test]
    fn an_unknown_property_is_reported_with_its_place() {
        for (name, text) in [("X1", "true"), ("ab", "true"), ("Good", "bad"), ("WaitSec", "'x'")] {
            let annotations = HashMap::from([(format!("{PREFIX}{name}"), text.to_owned())]);
            let found = properties(&annotations).unwrap_err().to_string();
            assert!(found.contains(&format!("annotations[\"{PREFIX}{name}\"]")), "{found}");
        }
    }
}
