//! Checks whether images can be restored with a bundle. CRIU would find the same faults only in the middle of a restore. This file
//! also makes the names that CRIU uses for parts of the host in the container.

use std::collections::HashMap;
use std::os::fd::RawFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};

use super::checkpoint::path_of;
use super::container_root::ContainerRoot;
use super::foreign_mounts;
use super::images::{DESCRIPTORS, FILE, Images, NULL, config_file};
use crate::criu::{self, ExternalMount, InheritFd};
use crate::error::{Context, Error, Result, bail, error};
use crate::plan::Plan;
use crate::plan::restore::Dumped;
use crate::sys::errno::in_words;
use crate::wait;

pub use crate::criu::{ImageContents, ImageFault, memory_faults};

/// The contents of the images, and the faults that prevent a restore.
///
/// # Errors
/// The directory cannot be read.
pub fn alone(imaging: &Images) -> Result<(ImageContents, Vec<ImageFault>)> {
    let directory = &imaging.directory;
    std::fs::read_dir(directory).with_context(|| format!("Images::new: open {}", directory.display()))?;
    let (contents, mut faults) = criu::contents(directory);
    if contents.processes > 0 {
        if let Err(error) = stream_names(directory) {
            faults.push(ImageFault::new(DESCRIPTORS, inner(&error, DESCRIPTORS)));
        }
        if let Err(error) = foreign_mounts::kept(directory) {
            faults.push(ImageFault::new(foreign_mounts::MOUNTS, inner(&error, foreign_mounts::MOUNTS)));
        }
    }
    Ok((contents, faults))
}

/// The same for a restore with this plan. `root` is the container's root on the host; links are followed inside it.
///
/// # Errors
/// The directory of the images, or the root, cannot be read.
pub fn against(
    imaging: &Images,
    plan: &Plan,
    annotations: &HashMap<String, String>,
    root: Option<&Path>,
) -> Result<(ImageContents, Vec<ImageFault>)> {
    let (contents, mut faults) = alone(imaging)?;
    // CRIU may get more names from its own file
    if faults.is_empty() && config_file(annotations).is_none() {
        let known = external_mounts(plan, root, &imaging.directory)?;
        for (key, place) in &contents.external {
            if known.iter().all(|mount| mount.key != *key) {
                let why =
                    format!("the checkpoint has a file of the host at {place}, and config.json mounts no file there");
                faults.push(ImageFault::new("mounts", why));
            }
        }
    }
    Ok((contents, faults))
}

/// The part of the contents that the plan of a restore depends on.
///
/// # Errors
/// A file beside the images cannot be read.
pub fn dumped(imaging: &Images, contents: &ImageContents) -> Result<Dumped> {
    let streams = stream_names(&imaging.directory)?.into_iter().enumerate().filter(|(_, name)| is_given(name));
    let foreign = foreign_mounts::kept(&imaging.directory)?.into_iter();
    Ok(Dumped {
        processes: contents.processes,
        external: contents.external.clone(),
        streams: streams.collect(),
        foreign: foreign.map(|mount| (mount.key, mount.val)).collect(),
    })
}

/// # Errors
/// The faults, if there are any.
pub fn must_be_none(imaging: &Images, faults: &[ImageFault]) -> Result<()> {
    let directory = imaging.directory.display();
    match faults {
        [] => Ok(()),
        [ImageFault { file, problem }] => bail!("Images::new: {directory}: {file}: {problem}"),
        _ => {
            let lines: String =
                faults.iter().map(|ImageFault { file, problem }| format!("\n  {file}: {problem}")).collect();
            bail!("Images::new: {directory} has {} mistakes:{lines}", faults.len())
        }
    }
}

/// The text of an error without the name of `file`, which the message has already.
fn inner(error: &Error, file: &str) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("Images::new: ").unwrap_or(&text);
    text.strip_prefix(&format!("{file}: ")).unwrap_or(text).to_owned()
}

/// The names of the standard streams in the images.
fn stream_names(directory: &Path) -> Result<Vec<String>> {
    let path = directory.join(DESCRIPTORS);
    let text = wait::contents(&path).with_context(|| format!("Images::new: read {}", path.display()))?;
    let all: Option<Vec<String>> = serde_json::from_slice(&text).with_context(|| format!("{}", path.display()))?;
    Ok(all.unwrap_or_default().into_iter().take(3).collect())
}

/// True if a restore replaces a stream of this name.
fn is_given(name: &str) -> bool {
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
        // crun also uses the place of a masked file as its name.
        for place in [Some(mount.written_path()), resolved.map(|(place, _)| place)].into_iter().flatten() {
            for key in [mount.name(&place), place] {
                match all.iter_mut().find(|there| there.key == key) {
                    // The last one covers the earlier ones.
                    Some(there) => there.val.clone_from(&val),
                    None => all.push(ExternalMount { key, val: val.clone() }),
                }
            }
        }
    }
    for mount in foreign_mounts::kept(directory)? {
        if all.iter().all(|there| there.key != mount.key) {
            all.push(mount);
        }
    }
    Ok(all)
}
