//! Paths of the host: the root file system and the sources of bind mounts.

use std::path::Path;

use oci_spec::runtime::Mount;

use super::devices;
use super::facts::ConfigFacts;
use super::finding::Findings;
use super::tables::{OF_ENGINES, SENSITIVE_PATHS, SOCKETS, SensitivePath};
use crate::config::At;

const DAC_OVERRIDE: u8 = 1;

/// A root file system that is the host's, or one of its directories.
pub(super) fn root(facts: &ConfigFacts<'_>, found: &mut Findings) {
    let Some(root) = facts.spec.root().as_ref() else { return };
    let (said, leads) = facts.on_host(root.path());
    let at = At::new("root.path");
    let read_only = root.readonly().unwrap_or(false);
    let change = "use a root file system of its own";
    if leads == Path::new("/") {
        let weight = facts.weighed(if read_only { 95 } else { 97 });
        let what = format!("{} is the root of the host", said.display());
        found.add(at, weight, what, "sees and, as root, changes the whole host", change);
        return;
    }
    // below such a directory engines and users have their root file systems
    let row = SENSITIVE_PATHS.iter().find(|row| Path::new(row.path) == leads);
    if let Some(row) = row {
        let what = format!("{} is a directory of the host", said.display());
        let verb = if read_only { "reads" } else { "reads and writes" };
        found.add(at, weight(facts, row, read_only, 100), what, format!("{verb} {}", row.inside), change);
    }
}

/// What `row` weighs, or a part of it.
fn weight(facts: &ConfigFacts<'_>, row: &SensitivePath, read_only: bool, part: u8) -> u8 {
    let weight = if read_only { row.read } else { row.write };
    let weight = u8::try_from(u16::from(weight) * u16::from(part) / 100).unwrap_or(weight);
    if weight == 0 {
        return 0;
    }
    if facts.root || facts.can(DAC_OVERRIDE) { facts.weighed(weight) } else { weight / 4 }
}

pub(super) fn source(facts: &ConfigFacts<'_>, mount: &Mount, read_only: bool, at: &At, found: &mut Findings) {
    let Some(given) = mount.source().as_deref() else { return };
    let at = at.key("source");
    let (said, leads) = facts.on_host(given);
    let shown = said.display();
    if let Some((_, owner)) = SOCKETS.iter().find(|(socket, _)| said.ends_with(socket) || leads.ends_with(socket)) {
        // A read-only mount does not prevent connect(2): the socket's mode and group decide who may connect.
        let weight = if facts.mapped { 60 } else { 92 };
        let gain = format!("commands {owner}: it starts a container with all rights and is root on the host");
        found.add(at, weight, format!("{shown} obeys every client"), gain, "do not mount it; also not read-only");
        return;
    }
    if is_of_engine(&said) || is_of_engine(&leads) || devices::bound(facts, &leads, &at, found) {
        return;
    }
    let rows = SENSITIVE_PATHS.iter().filter(|row| leads.starts_with(row.path));
    let Some(row) = rows.max_by_key(|row| row.path.len()) else { return };
    let whole = leads == Path::new(row.path);
    let weight = weight(facts, row, read_only, if whole { 100 } else { row.part });
    let verb = if read_only { "reads" } else { "reads and writes" };
    let change =
        if read_only { "mount only what the program needs" } else { "mount only what the program needs, with \"ro\"" };
    let what = format!("{shown} of the host is mounted{}", if read_only { " read-only" } else { "" });
    found.add(at, weight, what, format!("{verb} {}", row.inside), change);
}

/// Whether an engine made it for one container or pod.
fn is_of_engine(path: &Path) -> bool {
    OF_ENGINES.iter().any(|directory| {
        // with the id, and something below it
        path.ancestors().skip(1).any(|above| above.parent().is_some_and(|parent| parent.ends_with(directory)))
            || path.parent().is_some_and(|parent| parent.ends_with(directory))
    })
}
