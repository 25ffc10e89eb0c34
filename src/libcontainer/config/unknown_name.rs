//! An unknown name in a document: the property that it may stand for.

use std::cell::OnceCell;
use std::fmt;

use super::At;
use super::distance::is_near;
use super::places::{PLACES, kind_of};

/// Objects for systems that are not Linux.
const OTHER_SYSTEMS: [&str; 5] = ["windows", "solaris", "vm", "zos", "freebsd"];

/// Words of engines and of compose: the word in lower case without word breaks; the property that it stands for, or ""; and the
/// message.
const FOREIGN: [(&str, &str, &str); 32] = [
    (
        "privileged",
        "",
        "all capabilities, devices and paths are listed one by one (process.capabilities, linux.resources.devices)",
    ),
    ("target", "destination", "a mount has destination"),
    ("dest", "destination", "a mount has destination"),
    ("dst", "destination", "a mount has destination"),
    ("src", "source", "a mount has source"),
    ("fstype", "type", "a mount has type"),
    ("username", "process.user.uid", "use process.user.uid: a name is for other systems"),
    ("volumes", "mounts", "use mounts"),
    ("binds", "mounts", "use mounts"),
    ("tmpfs", "mounts", "use mounts"),
    ("command", "process.args", "use process.args"),
    ("cmd", "process.args", "use process.args"),
    ("entrypoint", "process.args", "use process.args"),
    ("environment", "process.env", "use process.env"),
    ("envfile", "process.env", "use process.env"),
    ("workingdir", "process.cwd", "use process.cwd"),
    ("workdir", "process.cwd", "use process.cwd"),
    ("image", "root.path", "a bundle has a root file system (root.path)"),
    ("ports", "", "an engine forwards ports"),
    ("expose", "", "an engine forwards ports"),
    ("networkmode", "linux.namespaces", "use linux.namespaces"),
    ("networks", "", "an engine makes networks"),
    ("pidmode", "linux.namespaces", "use linux.namespaces"),
    ("capadd", "process.capabilities", "use process.capabilities"),
    ("capdrop", "process.capabilities", "use process.capabilities"),
    ("ulimits", "process.rlimits", "use process.rlimits"),
    ("sysctls", "linux.sysctl", "use linux.sysctl"),
    ("securityopt", "", "use linux.seccomp, process.apparmorProfile and process.noNewPrivileges"),
    ("readonlyrootfs", "root.readonly", "use root.readonly"),
    ("restart", "", "an engine or systemd starts a container again"),
    ("labels", "annotations", "use annotations"),
    ("stopsignal", "", "use the annotation org.opencontainers.image.stopSignal"),
];

/// True for a property of the specification.
pub(super) fn is_known(name: &str) -> bool {
    PLACES.iter().any(|(_, names)| names.contains(&name))
}

/// A property, and its name in lower case and without word breaks.
type KnownName = (&'static str, String);

/// Every property of the specification that has to do with Linux, in the order of the alphabet. Only an unknown name needs
/// them.
#[derive(Default)]
pub(super) struct KnownNames(OnceCell<Vec<KnownName>>);

impl KnownNames {
    fn all(&self) -> &[KnownName] {
        self.0.get_or_init(|| {
            let mut names: Vec<_> = PLACES.iter().flat_map(|(_, names)| names.iter().copied()).collect();
            names.sort_unstable();
            names.dedup();
            names.into_iter().map(|name| (name, plain(name))).collect()
        })
    }
}

pub(super) fn plain(name: &str) -> String {
    name.chars().filter(|c| !['_', '-'].contains(c)).map(|c| c.to_ascii_lowercase()).collect()
}

/// A name that has no meaning at its place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unknown {
    /// It belongs into one of these objects.
    Elsewhere(Vec<&'static str>),
    /// It is similar to this name.
    Slip(&'static str),
    /// A word of engines. `suggestion` is the property that it stands for, or empty. `instead` says what a config.json
    /// has.
    Foreign {
        suggestion: &'static str,
        instead: &'static str,
    },
    Other,
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unknown::Elsewhere(places) => {
                let places =
                    places.iter().map(|place| if place.is_empty() { "the top of the document" } else { *place });
                write!(f, " here: it belongs in {}", places.collect::<Vec<_>>().join(" or "))
            }
            Unknown::Slip(suggestion) => write!(f, ": did you mean {suggestion:?}?"),
            Unknown::Foreign { instead, .. } => write!(f, ": {instead}"),
            Unknown::Other => Ok(()),
        }
    }
}

/// None for a name that has a meaning at this place, and for one that says itself that it is somebody's own.
pub(super) fn unknown(name: &str, place: &str, known: &KnownNames) -> Option<Unknown> {
    if is_known(name) {
        let place = kind_of(place);
        let here = PLACES.iter().find(|(there, _)| *there == place)?.1;
        let elsewhere = || match others(name, &place) {
            others if others.is_empty() => Unknown::Other,
            others => Unknown::Elsewhere(others),
        };
        return (!here.contains(&name)).then(elsewhere);
    }
    if let Some(suggestion) = suggestion(name, known) {
        return Some(Unknown::Slip(suggestion));
    }
    let bare = plain(name);
    if let Some((_, suggestion, instead)) = FOREIGN.iter().find(|(word, ..)| *word == bare) {
        return Some(Unknown::Foreign { suggestion, instead });
    }
    // private extensions (`x-…`, or a name with a dot or a slash), and sections of other systems
    let own =
        name.starts_with("x-") || name.starts_with("x_") || name.contains(['.', '/']) || OTHER_SYSTEMS.contains(&name);
    (!own).then_some(Unknown::Other)
}

/// The objects that have this property: those inside of `place`, if there are some, and of them the nearest to the top. Objects
/// below names of the user's are too far away.
fn others(name: &str, place: &str) -> Vec<&'static str> {
    let all = PLACES.iter().filter(|(other, names)| names.contains(&name) && !other.contains('*'));
    let all: Vec<_> = all.map(|(other, _)| *other).collect();
    let is_inside = |other: &&&str| At::new(**other).is_below(place);
    let inside: Vec<_> = all.iter().filter(is_inside).copied().collect();
    let mut chosen = if inside.is_empty() { all } else { inside };
    let depth = |place: &&str| place.matches(['.', '[']).count();
    let least = chosen.iter().map(depth).min().unwrap_or_default();
    chosen.retain(|place| depth(place) == least);
    chosen
}

fn suggestion(name: &str, known: &KnownNames) -> Option<&'static str> {
    let (bare, known) = (plain(name), known.all());
    let same = known.iter().find(|(_, plain)| *plain == bare);
    same.or_else(|| known.iter().find(|(name, plain)| name.len() > 3 && is_near(plain, &bare))).map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_in_another_order_are_a_slip() {
        for (typed, suggestion) in
            [("mouts", "mounts"), ("raedonly", "readonly"), ("agrs", "args"), ("processs", "process")]
        {
            assert_eq!(unknown(typed, "x", &KnownNames::default()), Some(Unknown::Slip(suggestion)), "{typed}");
        }
    }
}
