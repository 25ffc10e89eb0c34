//! `linux.maskedPaths` and `linux.readonlyPaths`.

use std::collections::HashSet;
use std::path::Path;

use super::draft::{Draft, Opening};
use super::mounts::clean;
use super::namespaces::{Kinds, MOUNT};
use super::step::What;
use super::{Asked, labels, process};
use crate::config::At;

/// SPEC: config-linux.md#masked-paths, #readonly-paths.
pub(super) fn hide(ask: &Asked<'_>, kinds: &Kinds, plan: &mut Draft) {
    let Some(linux) = ask.config.spec.linux().as_ref() else { return };
    let readonly = linux.readonly_paths().as_deref().unwrap_or_default();
    for (path, at) in places(readonly, &At::new("linux.readonlyPaths"), kinds, plan) {
        if let Some(path) = process::c_string(&path, &at, plan) {
            plan.at(&at, What::ReadOnly(path));
        }
    }
    let masked = linux.masked_paths().as_deref().unwrap_or_default();
    let label = labels::of_empty(ask, plan);
    for (path, at) in places(masked, &At::new("linux.maskedPaths"), kinds, plan) {
        // one of each for all: a mount per path, and not a file system per path
        let list = At::new("linux.maskedPaths");
        let null = plan.open_once(&list, Opening::Null);
        let empty = plan.open_once(&list, Opening::Empty(label.clone()));
        if let Some(path) = process::c_string(&path, &at, plan) {
            plan.at(&at, What::Mask(path, null, empty));
        }
    }
}

fn places(list: &[String], at: &At, kinds: &Kinds, plan: &mut Draft) -> Vec<(String, At)> {
    if !list.is_empty() && !kinds.private(MOUNT) {
        plan.fault(at, "needs a mount namespace (linux.namespaces)");
        return Vec::new();
    }
    let (mut places, mut seen) = (Vec::with_capacity(list.len()), HashSet::with_capacity(list.len()));
    for (n, path) in list.iter().enumerate() {
        let at = at.index(n);
        if Path::new(path).is_absolute() {
            let path = clean(Path::new(path));
            if seen.insert(path.clone()) {
                places.push((path, at));
            }
        } else {
            plan.fault(&at, format!("{path:?} is not absolute"));
        }
    }
    places
}
