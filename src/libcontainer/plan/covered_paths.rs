//! `linux.maskedPaths` and `linux.readonlyPaths`. SPEC: config-linux.md#masked-paths, #readonly-paths.

use std::collections::HashSet;
use std::ffi::CString;
use std::path::Path;

use super::finished::Opening;
use super::given::Given;
use super::labels::MountLabel;
use super::namespaces::{MOUNT, PlannedNamespaces};
use super::notes::Notes;
use super::step::What;
use super::steps::Steps;
use super::values::{c_string, clean};
use crate::config::At;

/// Both lists: paths inside the root, each with its property.
#[derive(Debug)]
pub(super) struct CoveredPaths {
    readonly: Vec<(CString, At)>,
    /// `/` in the list of read-only paths.
    readonly_root: Option<(CString, At)>,
    masked: Vec<(CString, At)>,
    /// The label of the directory that covers masked directories.
    label: Option<CString>,
}

/// Reads both lists.
pub(super) fn read(
    given: &Given<'_>,
    namespaces: &PlannedNamespaces,
    label: &MountLabel,
    notes: &mut Notes,
) -> CoveredPaths {
    let linux = given.linux();
    let readonly = linux.and_then(|linux| linux.readonly_paths().as_deref()).unwrap_or_default();
    let masked = linux.and_then(|linux| linux.masked_paths().as_deref()).unwrap_or_default();
    let mut readonly = read_list(readonly, &At::new("linux.readonlyPaths"), namespaces, notes);
    let readonly_root = readonly.iter().position(is_root).map(|n| readonly.remove(n));
    let mut masked = read_list(masked, &At::new("linux.maskedPaths"), namespaces, notes);
    masked.retain(|covered| {
        if is_root(covered) {
            notes.fault(&covered.1, "the root cannot be masked: no program would be left");
        }
        !is_root(covered)
    });
    CoveredPaths { readonly, readonly_root, masked, label: label.of_empty() }
}

fn is_root((path, _): &(CString, At)) -> bool {
    path.as_c_str() == c"."
}

fn read_list(list: &[String], at: &At, namespaces: &PlannedNamespaces, notes: &mut Notes) -> Vec<(CString, At)> {
    if !list.is_empty() && !namespaces.private(MOUNT) {
        notes.fault(at, "needs a mount namespace (linux.namespaces)");
        return Vec::new();
    }
    let (mut paths, mut seen) = (Vec::with_capacity(list.len()), HashSet::with_capacity(list.len()));
    for (n, path) in list.iter().enumerate() {
        let at = at.index(n);
        if Path::new(path).is_absolute() {
            let path = c_string(&clean(Path::new(path)), &at, notes);
            paths.extend(path.filter(|path| seen.insert(path.clone())).map(|path| (path, at)));
        } else {
            notes.fault(&at, format!("{path:?} is not absolute"));
        }
    }
    paths
}

impl CoveredPaths {
    /// ORDER: after pivot, on the container's own /proc.
    pub(super) fn steps(self, steps: &mut Steps) {
        for (path, at) in self.readonly {
            steps.add(&at, What::ReadOnly(path));
        }
        if self.masked.is_empty() {
            return;
        }
        // All masked paths share these two descriptors: each path needs a mount, but not a file system of its own.
        let list = At::new("linux.maskedPaths");
        let null = steps.open_once(&list, Opening::Null);
        let empty = steps.open_once(&list, Opening::Empty(self.label));
        for (path, at) in self.masked {
            steps.add(&at, What::Mask { path, null, empty });
        }
    }

    /// The step for the root among the read-only paths. It comes when no step makes files any more.
    pub(super) fn root_step(&self) -> Option<(What, At)> {
        self.readonly_root.clone().map(|(path, at)| (What::ReadOnly(path), at))
    }
}
