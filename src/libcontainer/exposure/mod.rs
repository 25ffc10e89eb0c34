//! What a config exposes of the host: each finding with its place, what an attacker in the container gains, and the change
//! that closes it. It does not look at the host. The caller follows links.

mod calls;
mod devices;
mod facts;
mod finding;
mod limits;
mod mounts;
mod namespaces;
mod paths;
mod process;
mod tables;

use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;

use facts::ConfigFacts;
use finding::Findings;
pub use finding::{Exposed, Exposure, Risk};

/// What `spec` exposes. `directory` is its bundle, absolute, and `follow` says where a path leads after its links.
pub fn exposure(spec: &Spec, directory: &Path, follow: &dyn Fn(&Path) -> PathBuf) -> Exposure {
    let process = spec.process().as_ref();
    let linux = spec.linux().as_ref();
    let facts = ConfigFacts {
        spec,
        process,
        linux,
        mapped: namespaces::is_mapped(spec),
        root: process.is_some_and(|process| process.user().uid() == 0),
        capabilities: process.map_or(0, process::capabilities),
        held: process.map_or(0, process::held),
        directory,
        follow,
    };
    let mut found = Findings::default();
    process::find(&facts, &mut found);
    calls::find(&facts, &mut found);
    namespaces::find(&facts, &mut found);
    paths::root(&facts, &mut found);
    mounts::find(&facts, &mut found);
    limits::find(&facts, &mut found);
    devices::find(&facts, &mut found);
    let mut findings = found.0;
    findings.sort_by(|a, b| b.weight.cmp(&a.weight).then_with(|| a.at.cmp(&b.at)));
    Exposure { findings }
}

#[cfg(test)]
mod tests;
