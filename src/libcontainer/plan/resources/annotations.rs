//! `org.systemd.property.NAME` annotations: a property of the container's unit, in GVariant's text format.

use std::collections::HashMap;

use super::unit::{Need, Property, Value};
use crate::config::{At, Faults};

/// What the names of these annotations begin with.
pub const PREFIX: &str = "org.systemd.property.";

/// The properties that annotations ask for, sorted by name.
///
/// # Errors
/// A name that cannot be a property's, or a value that is none.
pub fn properties(annotations: &HashMap<String, String>) -> Result<Vec<Property>, Faults> {
    let mut faults = Faults::none();
    let mut list = Vec::new();
    let mut entries: Vec<_> = annotations.iter().filter(|(key, _)| key.starts_with(PREFIX)).collect();
    entries.sort_unstable();
    for (key, text) in entries {
        let at = At::new("annotations").key(key);
        let name = &key[PREFIX.len()..];
        if name.len() < 3 || !name.bytes().all(|byte| byte.is_ascii_alphabetic()) {
            faults.add(at, "is not the name of a unit property (at least three letters)");
            continue;
        }
        match value(text) {
            None => faults.add(at, format!("{text:?} is no value in GVariant's text format")),
            Some(value) => match in_microseconds(name, value) {
                Some((name, value)) => list.push(Property { name, value, need: Need::Must }),
                None => faults.add(at, format!("{text:?} is not a number of seconds")),
            },
        }
    }
    faults.into_result(list)
}

/// Units have seconds in their files and microseconds on the bus: `TimeoutStopSec` is `TimeoutStopUSec`.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // checked to be in range
fn in_microseconds(name: &str, value: Value) -> Option<(String, Value)> {
    let Some(stem) = name.strip_suffix("Sec").filter(|stem| !stem.ends_with('U')) else {
        return Some((name.to_owned(), value));
    };
    let micro = match value {
        Value::Int32(seconds) => u64::try_from(seconds).ok()?.checked_mul(1_000_000)?,
        Value::Int64(seconds) => u64::try_from(seconds).ok()?.checked_mul(1_000_000)?,
        Value::Uint32(seconds) => u64::from(seconds) * 1_000_000,
        Value::Uint64(seconds) => seconds.checked_mul(1_000_000)?,
        Value::Double(seconds) if (0.0..1e12).contains(&seconds) => (seconds * 1e6) as u64,
        _ => return None,
    };
    Some((format!("{stem}USec"), Value::Uint64(micro)))
}

/// Booleans, numbers with or without a type, strings, and arrays of strings: what properties of units are made of.
fn value(text: &str) -> Option<Value> {
    let text = text.trim();
    if let Some(list) = text.strip_prefix("@as").map(str::trim).or(text.starts_with('[').then_some(text)) {
        return strings(list);
    }
    let (kind, rest) = text.split_once(' ').unwrap_or(("", text));
    let number = rest.trim();
    match kind {
        "boolean" | "@b" => return number.parse().ok().map(Value::Bool),
        "int32" | "@i" => return number.parse().ok().map(Value::Int32),
        "uint32" | "@u" => return number.parse().ok().map(Value::Uint32),
        "int64" | "@x" => return number.parse().ok().map(Value::Int64),
        "uint64" | "@t" => return number.parse().ok().map(Value::Uint64),
        "double" | "@d" => return number.parse().ok().map(Value::Double),
        "string" | "@s" => return quoted(number).map(Value::Text),
        _ => {}
    }
    match text {
        "true" => Some(Value::Bool(true)),
        "false" => Some(Value::Bool(false)),
        _ => quoted(text)
            .map(Value::Text)
            .or_else(|| text.parse().ok().map(Value::Int32))
            .or_else(|| text.parse().ok().map(Value::Double)),
    }
}

/// `'text'` or `"text"`, with a backslash before what would end it.
fn quoted(text: &str) -> Option<String> {
    let quote = text.chars().next().filter(|quote| matches!(quote, '\'' | '"'))?;
    let mut chars = text.chars().skip(1);
    let mut content = String::new();
    loop {
        match chars.next()? {
            '\\' => content.push(chars.next()?),
            c if c == quote => return chars.next().is_none().then_some(content),
            c => content.push(c),
        }
    }
}

fn strings(text: &str) -> Option<Value> {
    let mut rest = text.strip_prefix('[')?.strip_suffix(']')?.trim();
    let mut list = Vec::new();
    while !rest.is_empty() {
        let quote = rest.chars().next().filter(|quote| matches!(quote, '\'' | '"'))?;
        let mut escaped = false;
        let end = rest.char_indices().skip(1).find_map(|(n, c)| {
            let ends = c == quote && !escaped;
            escaped = c == '\\' && !escaped;
            ends.then_some(n)
        })?;
        list.push(quoted(&rest[..=end])?);
        rest = rest[end + 1..].trim();
        rest = match rest.strip_prefix(',') {
            Some(more) if !more.trim().is_empty() => more.trim(),
            Some(_) => return None,
            None if rest.is_empty() => rest,
            None => return None,
        };
    }
    Some(Value::Texts(list))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_gvariants() {
        let cases = [
            ("true", Some(Value::Bool(true))),
            ("'a\\'b'", Some(Value::Text("a'b".into()))),
            ("uint64 5", Some(Value::Uint64(5))),
            ("@t 5", Some(Value::Uint64(5))),
            ("-3", Some(Value::Int32(-3))),
            ("1.5", Some(Value::Double(1.5))),
            ("['a', \"b,c\"]", Some(Value::Texts(vec!["a".into(), "b,c".into()]))),
            ("@as []", Some(Value::Texts(vec![]))),
            ("", None),
            ("plain", None),
            ("['a'", None),
            ("['a',]", None),
            ("uint32 -1", None),
        ];
        for (text, expected) in cases {
            assert_eq!(value(text), expected, "{text}");
        }
    }

    #[test]
    fn seconds_are_microseconds_on_the_bus() {
        let annotations = HashMap::from([
            (format!("{PREFIX}TimeoutStopSec"), "uint64 3".to_owned()),
            (format!("{PREFIX}RuntimeMaxUSec"), "uint64 3".to_owned()),
            ("other".to_owned(), "x".to_owned()),
        ]);
        let told: Vec<_> = properties(&annotations).unwrap().into_iter().map(|p| (p.name, p.value)).collect();
        let three = |name: &str, n| (name.to_owned(), Value::Uint64(n));
        assert_eq!(told, [three("RuntimeMaxUSec", 3), three("TimeoutStopUSec", 3_000_000)]);
    }

    #[test]
    fn what_is_no_property_is_told_by_its_place() {
        for (name, text) in [("X1", "true"), ("ab", "true"), ("Good", "bad"), ("WaitSec", "'x'")] {
            let annotations = HashMap::from([(format!("{PREFIX}{name}"), text.to_owned())]);
            let told = properties(&annotations).unwrap_err().to_string();
            assert!(told.contains(&format!("annotations.{PREFIX}{name}")), "{told}");
        }
    }
}
