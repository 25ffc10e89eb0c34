//! Checks whether images can be restored with a bundle. CRIU would find the same faults only in the middle of a restore.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::foreign_mounts;
use super::host_parts::{external_mounts, is_given, stream_names};
use super::images::{DESCRIPTORS, Images, NULL, config_file};
use crate::criu::{self, files_of_the_host, memory_faults};
use crate::error::{Context, Result, bail, error};
use crate::plan::Plan;
use crate::plan::restore::Dumped;

pub use crate::criu::{ImageContents, ImageFault};

/// The contents of the images, and all faults that prevent a restore.
///
/// # Errors
/// The directory cannot be read.
pub fn check(images: &Images) -> Result<(ImageContents, Vec<ImageFault>)> {
    without_memory(images, &HashMap::new()).map(|found| with_memory(images, found))
}

/// The same for a restore with this plan. `root` is the container's root on the host; links are followed inside it.
///
/// # Errors
/// The directory of the images, or the root, cannot be read.
pub fn check_with_plan(
    images: &Images,
    plan: &Plan,
    annotations: &HashMap<String, String>,
    root: Option<&Path>,
) -> Result<(ImageContents, Vec<ImageFault>)> {
    with_plan_without_memory(images, plan, annotations, root).map(|found| with_memory(images, found))
}

/// Adds the faults of the memory: it is read at the end, because it is large.
fn with_memory(
    images: &Images,
    (contents, mut faults): (ImageContents, Vec<ImageFault>),
) -> (ImageContents, Vec<ImageFault>) {
    if contents.processes > 0 {
        faults.extend(memory_faults(&images.directory));
    }
    (contents, faults)
}

fn without_memory(images: &Images, annotations: &HashMap<String, String>) -> Result<(ImageContents, Vec<ImageFault>)> {
    let directory = &images.directory;
    std::fs::read_dir(directory).with_context(|| format!("Images::new: open {}", directory.display()))?;
    let (contents, mut faults) = criu::contents(directory);
    if contents.processes > 0 {
        match stream_names(directory) {
            // CRIU may get more names from its own file
            Ok(names) if config_file(annotations).is_none() => faults.extend(without_name(directory, &names)),
            Ok(_) => {}
            Err(fault) => faults.push(fault),
        }
        faults.extend(foreign_mounts::recorded(directory).err());
    }
    Ok((contents, faults))
}

/// A fault for each file of the host in the images, except the standard streams `names`.
fn without_name(directory: &Path, names: &[String]) -> Vec<ImageFault> {
    let files = match files_of_the_host(directory) {
        Ok(files) => files,
        Err(fault) => return vec![fault],
    };
    let is_known = |file: &String| names.iter().any(|name| name.strip_prefix(NULL).unwrap_or(name) == file);
    let fault = |file| {
        ImageFault::new(DESCRIPTORS, format!("the name {file} is missing: it is a stream of the host in the images"))
    };
    files.iter().filter(|file| !is_known(file)).map(fault).collect()
}

/// As `check_with_plan`, without a look at the memory.
///
/// # Errors
/// The directory of the images, or the root, cannot be read.
pub fn with_plan_without_memory(
    images: &Images,
    plan: &Plan,
    annotations: &HashMap<String, String>,
    root: Option<&Path>,
) -> Result<(ImageContents, Vec<ImageFault>)> {
    let (contents, mut faults) = without_memory(images, annotations)?;
    // CRIU may get more names from its own file
    if faults.is_empty() && config_file(annotations).is_none() {
        let known = external_mounts(plan, root, &images.directory, &contents)?;
        let known: HashSet<&str> = known.iter().map(|mount| mount.key.as_str()).collect();
        for (key, path) in &contents.external {
            if !known.contains(key.as_str()) {
                let why =
                    format!("the checkpoint has a file of the host at {path}, and config.json mounts no file there");
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
pub fn dumped(images: &Images, contents: &ImageContents) -> Result<Dumped> {
    let names = stream_names(&images.directory).map_err(ImageFault::into_error)?;
    let streams = names.into_iter().enumerate().filter(|(_, name)| is_given(name));
    let foreign = foreign_mounts::recorded(&images.directory).map_err(ImageFault::into_error)?.into_iter();
    Ok(Dumped {
        processes: contents.processes,
        external: contents.external.clone(),
        streams: streams.collect(),
        foreign: foreign.map(|mount| (mount.key, mount.val)).collect(),
    })
}

/// Fails if the images have a fault.
///
/// # Errors
/// All faults.
pub fn must_be_none(images: &Images, faults: &[ImageFault]) -> Result<()> {
    let directory = images.directory.display();
    match faults {
        [] => Ok(()),
        [fault] => bail!("Images::new: {directory}: {fault}"),
        _ => {
            let lines: String = faults.iter().map(|fault| format!("\n  {fault}")).collect();
            let text = format!("Images::new: {directory} has {} mistakes:{lines}", faults.len());
            Err(error!("several mistakes").reworded(text))
        }
    }
}
