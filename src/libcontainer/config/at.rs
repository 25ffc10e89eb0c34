//! A place in config.json, such as `mounts[3].options[1]`.

use std::fmt::{self, Write};

/// A place in config.json or, for flags of the command line, the name of a flag.
///
/// ```
/// let mount = libcontainer::At::new("mounts").index(3);
/// assert_eq!(mount.key("options").index(1).to_string(), "mounts[3].options[1]");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct At(String);

impl At {
    /// A top-level property, or a dotted path to one: `At::new("linux.namespaces")`.
    pub fn new(path: impl Into<String>) -> At {
        At(path.into())
    }

    /// The annotation `name`: `annotations["name"]`.
    pub fn annotation(name: &str) -> At {
        At(format!("annotations[{name:?}]"))
    }

    /// The property `name` of the object at this place.
    pub fn key(&self, name: &str) -> At {
        if self.0.is_empty() { At(name.to_owned()) } else { At(format!("{}.{name}", self.0)) }
    }

    /// The element `n` (from 0) of the array at this place.
    pub fn index(&self, n: usize) -> At {
        At(format!("{}[{n}]", self.0))
    }

    /// The property `other` of the object that has the property `name` at this place.
    pub(super) fn sibling(&self, name: &str, other: &str) -> At {
        At(self.0.strip_suffix(name).unwrap_or_default().to_owned() + other)
    }

    /// True for the place `path`, and for all places inside it.
    pub(super) fn is_below(&self, path: &str) -> bool {
        path.is_empty() || self.0.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    }

    /// Changes to the property `name` of the object at this place. `leave` with the returned value changes back.
    pub(super) fn enter(&mut self, name: &str) -> usize {
        let before = self.0.len();
        if before > 0 {
            self.0.push('.');
        }
        self.0.push_str(name);
        before
    }

    /// Changes to the element `n` (from 0) of the array at this place.
    pub(super) fn enter_element(&mut self, n: usize) -> usize {
        let before = self.0.len();
        // A write to a String does not fail.
        let _ = write!(self.0, "[{n}]");
        before
    }

    /// Changes back to the place before `enter`.
    pub(super) fn shorten(&mut self, before: usize) {
        self.0.truncate(before);
    }

    /// The sort key of a place: names in alphabetical order, elements of an array by their numbers.
    pub(super) fn order(&self) -> Vec<(&str, usize)> {
        let parts = self.0.split(['.', '[']).map(|part| part.trim_end_matches(']'));
        parts.map(|part| part.parse().map_or((part, 0), |n| ("", n))).collect()
    }

    /// True if this place is `other`, is inside it, or contains it.
    pub(super) fn touches(&self, other: &At) -> bool {
        let (short, long) = if self.0.len() < other.0.len() { (&self.0, &other.0) } else { (&other.0, &self.0) };
        long.strip_prefix(short.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    }

    /// The place up to the first array. If elements are removed from that array, the indexes of the others change.
    pub(super) fn before_array(&self) -> At {
        At(self.0.split('[').next().unwrap_or_default().to_owned())
    }

    /// The place as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_reads_as_one_would_point_at_it() {
        assert_eq!(At::new("mounts").index(3).key("options").index(1).to_string(), "mounts[3].options[1]");
        assert_eq!(At::default().key("root").key("path").to_string(), "root.path");
    }

    #[test]
    fn elements_are_sorted_by_their_numbers() {
        let mut places = ["mounts[10].source", "mounts[2].type", "mounts[2]", "linux.x", "process.cwd"].map(At::new);
        places.sort_by(|a, b| a.order().cmp(&b.order()));
        let texts: Vec<_> = places.iter().map(At::as_str).collect();
        assert_eq!(texts, ["linux.x", "mounts[2]", "mounts[2].type", "mounts[10].source", "process.cwd"]);
    }

    #[test]
    fn a_place_touches_what_it_holds_and_what_holds_it() {
        let touch = |a: &str, b: &str| At::new(a).touches(&At::new(b));
        assert!(touch("process", "process.args") && touch("mounts[1].type", "mounts[1]") && touch("a", "a"));
        assert!(!touch("process.arg", "process.args") && !touch("mounts[1]", "mounts[10]"));
    }
}
