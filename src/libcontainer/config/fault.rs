//! Mistakes in config.json: all of them, each with its place.

use std::fmt;

use super::At;
use crate::printable::line;

/// One mistake: its place and a text, in lower case and without a full stop.
///
/// ```
/// use libcontainer::{Kind, Update};
///
/// let error = Update::read(br#"{"pids": {"limit": "many"}}"#).unwrap_err();
/// let Kind::Config(faults) = error.kind() else { panic!("{error}") };
/// let fault = faults.iter().next().unwrap();
/// assert_eq!(fault.at.as_str(), "linux.resources.pids.limit");
/// println!("{}", fault.problem);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// The property at fault.
    pub at: At,
    /// What is wrong with it, and what was expected.
    pub problem: String,
}

/// A warning: the container runs nevertheless. The specification demands this for some properties.
///
/// ```
/// let bundle = libcontainer::Bundle::read("examples/bundle")?;
/// assert!(bundle.remarks().any(|warning| warning.at.as_str() == "process.capabilities"));
/// for warning in bundle.check()? {
///     println!("{}: {}", warning.at, warning.said);
/// }
/// # Ok::<(), libcontainer::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The property.
    pub at: At,
    /// The reason, and what the runtime does.
    pub said: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The document itself is named by its file.
        if self.at.as_str().is_empty() {
            f.write_str(&line(&self.problem))
        } else {
            f.write_str(&line(&format!("{}: {}", self.at, self.problem)))
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&line(&format!("{}: {}", self.at, self.said)))
    }
}

/// All mistakes found in one document, in the order of their places. Never empty when it is an error.
///
/// ```
/// use libcontainer::{Kind, ProcessObject};
///
/// let error = ProcessObject::read(br#"{"args": ["/bin/true"], "cwd": 1, "umask": 2}"#).unwrap_err();
/// let Kind::Config(faults) = error.kind() else { panic!("{error}") };
/// let places: Vec<_> = faults.iter().map(|fault| fault.at.as_str()).collect();
/// assert!(places.contains(&"process.cwd"), "{places:?}");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    list: Vec<Fault>,
    /// The document of the places at and below one place, where it is not config.json.
    document: Option<(String, At)>,
}

impl Faults {
    /// No mistakes yet.
    pub fn none() -> Faults {
        Faults::default()
    }

    /// Exactly one mistake.
    pub fn one(at: At, problem: impl Into<String>) -> Faults {
        Faults { list: vec![Fault { at, problem: problem.into() }], document: None }
    }

    /// Adds a mistake.
    pub fn add(&mut self, at: At, problem: impl Into<String>) {
        self.list.push(Fault { at, problem: problem.into() });
    }

    /// Adds the mistakes of another list.
    pub fn extend(&mut self, other: Faults) {
        self.list.extend(other.list);
    }

    /// Returns the value of `result`, or adds its mistakes.
    pub fn collect<T>(&mut self, result: Result<T, Faults>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(faults) => {
                self.extend(faults);
                None
            }
        }
    }

    /// Returns `value` if there are no mistakes. Otherwise returns the mistakes, in the order of their places, without
    /// duplicates.
    pub fn into_result<T>(mut self, value: T) -> Result<T, Faults> {
        if self.list.is_empty() {
            return Ok(value);
        }
        self.list.sort_by(|a, b| a.at.order().cmp(&b.at.order()).then_with(|| a.problem.cmp(&b.problem)));
        self.list.dedup();
        Err(self)
    }

    /// Each mistake, to change its text.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Fault> {
        self.list.iter_mut()
    }

    /// True if there are no mistakes.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Removes the mistakes for which `keep` is false.
    pub fn retain(&mut self, keep: impl FnMut(&Fault) -> bool) {
        self.list.retain(keep);
    }

    /// The same mistakes. Those at and below the place `below` are in a document of this name.
    pub(crate) fn in_document(mut self, name: &str, below: At) -> Faults {
        self.document = Some((name.to_owned(), below));
        self
    }

    /// The document that has the mistake, and the mistake with its place in that document.
    fn located(&self, fault: &Fault) -> (&str, Fault) {
        match &self.document {
            Some((name, below)) if fault.at.as_str().is_empty() || fault.at.is_below(below.as_str()) => {
                let inside = fault.at.as_str().strip_prefix(below.as_str()).unwrap_or_default();
                let at = At::new(inside.trim_start_matches('.'));
                (name, Fault { at, problem: fault.problem.clone() })
            }
            _ => ("config.json", fault.clone()),
        }
    }

    /// The mistakes, in the order in which they were found.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.list.iter()
    }
}

impl fmt::Display for Faults {
    /// One mistake is written on the same line. Several are written below it, one on each line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list: Vec<_> = self.list.iter().map(|fault| self.located(fault)).collect();
        match list.as_slice() {
            [] => f.write_str("no mistakes"),
            [(document, only)] => write!(f, "{document}: {only}"),
            [(document, _), others @ ..] => {
                let count = list.len();
                if others.iter().all(|(other, _)| other == document) {
                    write!(f, "{document} has {count} mistakes:")?;
                    return list.iter().try_for_each(|(_, fault)| write!(f, "\n  {fault}"));
                }
                write!(f, "{count} mistakes:")?;
                list.iter().try_for_each(|(document, fault)| write!(f, "\n  {document}: {fault}"))
            }
        }
    }
}

impl std::error::Error for Faults {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_mistake_is_one_line_and_several_are_a_list() {
        let mut faults = Faults::one(At::new("root.path"), "is missing");
        assert_eq!(faults.to_string(), "config.json: root.path: is missing");
        faults.add(At::new("process.cwd"), "\"x\" is not absolute");
        assert_eq!(
            faults.to_string(),
            "config.json has 2 mistakes:\n  root.path: is missing\n  process.cwd: \"x\" is not absolute"
        );
        assert_eq!(
            faults.in_document("p.json", At::new("process")).to_string(),
            "2 mistakes:\n  config.json: root.path: is missing\n  p.json: cwd: \"x\" is not absolute"
        );
        let only = |at: &str| Faults::one(At::new(at), "is missing").in_document("p.json", At::new("process"));
        assert_eq!(only("linux.seccomp").to_string(), "config.json: linux.seccomp: is missing");
        assert_eq!(only("process.args[0]").to_string(), "p.json: args[0]: is missing");
    }
}
