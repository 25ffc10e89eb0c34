//! The parts of the host in a container's images: standard streams and mounts. CRIU has a name for each, and a restore says what
//! replaces it.

use std::os::fd::RawFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};

use super::checkpoint::path_of;
use super::container_root::ContainerRoot;
use super::foreign_mounts;
use super::images::{DESCRIPTORS, FILE, NULL};
use crate::criu::{ExternalMount, InheritFd};
use crate::error::{Context, Result, error};
use crate::plan::Plan;
use crate::sys::errno::in_words;
use crate::wait;

/// The names of the standard streams in the images.
pub(super) fn stream_names(directory: &Path) -> Result<Vec<String>> {
    let path = directory.join(DESCRIPTORS);
    let text = wait::contents(&path).with_context(|| format!("Images::new: read {}", path.display()))?;
    let all: Option<Vec<String>> = serde_json::from_slice(&text).with_context(|| format!("{}", path.display()))?;
    Ok(all.unwrap_or_default().into_iter().take(3).collect())
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
    for (name, fd) in stream_names(directory)?.into_iter().zip(0..) {
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

/// The bind mounts, under each name that they may have in the images.
pub(super) fn external_mounts(plan: &Plan, root: Option<&Path>, directory: &Path) -> Result<Vec<ExternalMount>> {
    let open = |root: &Path| {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(CWD, root, flags, Mode::empty());
        let opened =
            opened.map_err(|errno| error!("root.path: {}: {errno}", root.display(), errno = in_words(&errno)))?;
        ContainerRoot::on_host(opened)
    };
    let opened = root.map(open).transpose()?;
    let mut all: Vec<ExternalMount> = Vec::new();
    for mount in plan.host_binds() {
        let val = mount.source.to_string_lossy().into_owned();
        let resolved = opened.as_ref().map(|opened| path_of(opened, &mount)).transpose()?.flatten();
        // crun also uses the path of a masked file as its name.
        for path in [Some(mount.written_path()), resolved.map(|(path, _)| path)].into_iter().flatten() {
            for key in [mount.name(&path), path] {
                match all.iter_mut().find(|there| there.key == key) {
                    // The last one covers the earlier ones.
                    Some(there) => there.val.clone_from(&val),
                    None => all.push(ExternalMount { key, val: val.clone() }),
                }
            }
        }
    }
    for mount in foreign_mounts::recorded(directory)? {
        if all.iter().all(|there| there.key != mount.key) {
            all.push(mount);
        }
    }
    Ok(all)
}
