//! The parts of the host in a container's images: standard streams and mounts. CRIU has a name for each, and a restore says what
//! replaces it.

use std::collections::{BTreeMap, HashSet};
use std::os::fd::RawFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use serde_json::Value;

use super::checkpoint::path_of;
use super::container_root::ContainerRoot;
use super::foreign_mounts;
use super::images::{DESCRIPTORS, FILE, NULL};
use crate::config::{kind, not_json};
use crate::criu::{ExternalMount, ImageContents, ImageFault, InheritFd};
use crate::error::{Result, error};
use crate::plan::Plan;
use crate::sys::errno::in_words;
use crate::wait;

/// The longest descriptors.json: it has three paths.
const MOST: u64 = 1 << 20;

/// The names of the three standard streams in the images.
///
/// # Errors
/// descriptors.json cannot be read, or does not have three names.
pub(super) fn stream_names(directory: &Path) -> Result<Vec<String>, ImageFault> {
    let wrong = |why: String| ImageFault::new(DESCRIPTORS, why);
    let text = wait::contents_below(directory, Path::new(DESCRIPTORS), MOST)
        .map_err(|error| wrong(in_words(&error).to_string()))?;
    let all = match serde_json::from_slice(&text).map_err(|error| wrong(not_json(&error)))? {
        Value::Array(all) if all.len() >= 3 => all,
        Value::Array(all) => {
            return Err(wrong(format!("has {} names, and there are three standard streams", all.len())));
        }
        other => return Err(wrong(format!("expected an array of names, got {}", kind(&other)))),
    };
    let name = |(n, name)| match name {
        Value::String(name) => Ok(name),
        other => Err(wrong(format!("[{n}]: expected a string, got {}", kind(&other)))),
    };
    all.into_iter().take(3).enumerate().map(name).collect()
}

/// True if a restore replaces a stream of this name.
pub(super) fn is_given(name: &str) -> bool {
    let name = name.strip_prefix(NULL).unwrap_or(name);
    name.starts_with("pipe:") || name.starts_with(FILE)
}

/// The pipes and files of the host that the processes had as standard streams. A restore replaces them with the new streams, and a
/// null device with `null`.
pub(super) fn streams(directory: &Path, null: RawFd) -> Result<Vec<InheritFd>> {
    let mut streams: Vec<InheritFd> = Vec::new();
    for (name, fd) in stream_names(directory).map_err(ImageFault::into_error)?.into_iter().zip(0..) {
        if !is_given(&name) {
            continue;
        }
        let (key, fd) = match name.strip_prefix(NULL) {
            Some(name) => (name.to_owned(), null),
            None => (name, fd),
        };
        // One file may be several streams.
        if streams.iter().all(|there| there.key != key) {
            streams.push(InheritFd { key, fd });
        }
    }
    Ok(streams)
}

/// The bind mounts, under each name that they may have in the images, and those mounts of mounts.json that the images have.
pub(super) fn external_mounts(
    plan: &Plan,
    root: Option<&Path>,
    directory: &Path,
    contents: &ImageContents,
) -> Result<Vec<ExternalMount>> {
    let open = |root: &Path| {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(CWD, root, flags, Mode::empty());
        let opened =
            opened.map_err(|errno| error!("root.path: {}: {errno}", root.display(), errno = in_words(&errno)))?;
        ContainerRoot::on_host(opened)
    };
    let opened = root.map(open).transpose()?;
    // By their names.
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    for mount in plan.host_binds() {
        let val = mount.source.to_string_lossy().into_owned();
        let resolved = opened.as_ref().map(|opened| path_of(opened, &mount)).transpose()?.flatten();
        // crun also uses the path of a masked file as its name.
        for path in [Some(mount.written_path()), resolved.map(|(path, _)| path)].into_iter().flatten() {
            // The last one covers the earlier ones.
            all.extend([mount.name(&path), path].map(|key| (key, val.clone())));
        }
    }
    let in_images: HashSet<&str> = contents.external.iter().map(|(name, _)| name.as_str()).collect();
    let foreign = foreign_mounts::recorded(directory).map_err(ImageFault::into_error)?;
    for mount in foreign.into_iter().filter(|mount| in_images.contains(mount.key.as_str())) {
        all.entry(mount.key).or_insert(mount.val);
    }
    Ok(all.into_iter().map(|(key, val)| ExternalMount { key, val }).collect())
}
