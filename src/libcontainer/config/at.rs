//! A place in config.json, written as a reader would point at it: `mounts[3].options[1]`.

use std::fmt;

/// A place in config.json (or, for facts of the command line, the name of a flag).
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct At(String);

impl At {
    /// A top-level property, or a dotted path to one: `At::new("linux.namespaces")`.
    pub fn new(path: impl Into<String>) -> At {
        At(path.into())
    }

    /// The property `name` of the object at this place.
    pub fn key(&self, name: &str) -> At {
        if self.0.is_empty() { At(name.to_owned()) } else { At(format!("{}.{name}", self.0)) }
    }

    /// The element `n` (from 0) of the array at this place.
    pub fn index(&self, n: usize) -> At {
        At(format!("{}[{n}]", self.0))
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
}
