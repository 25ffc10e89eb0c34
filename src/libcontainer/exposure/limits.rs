//! The limits of what the container can use.

use super::facts::ConfigFacts;
use super::finding::Findings;
use crate::config::At;

pub(super) fn find(facts: &ConfigFacts<'_>, found: &mut Findings) {
    let resources = facts.linux.and_then(|linux| linux.resources().as_ref());
    let unified = |name: &str| {
        resources.and_then(|resources| resources.unified().as_ref()).is_some_and(|unified| unified.contains_key(name))
    };
    let pids = resources.and_then(|resources| resources.pids().as_ref()).is_some_and(|pids| pids.limit() > 0);
    let at = At::new("linux.resources");
    if !pids && !unified("pids.max") {
        let gain = "a fork bomb takes all processes of the host";
        found.add(at.key("pids.limit"), 3, "is not set", gain, "set a limit, such as 2048");
    }
    let memory = resources.and_then(|resources| resources.memory().as_ref()).and_then(|memory| memory.limit());
    if memory.is_none_or(|limit| limit <= 0) && !unified("memory.max") {
        let gain = "takes all memory of the host";
        found.add(at.key("memory.limit"), 2, "is not set", gain, "set a limit");
    }
}
