//! `spec`: writes a new config.json.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use libcontainer::config::example::{ExampleUser, document, tabbed};
use libcontainer::config::image_config;
use libcontainer::host::Cgroups;
use libcontainer::host::cgroups::Layout;
use libcontainer::internals::wait;

use serde_json::{Value, json};

use super::layout;
use super::session::Session;
use crate::cli::Spec;

pub fn run(session: &Session<'_>, args: &Spec) -> Result<()> {
    let kind = if args.rootless {
        ExampleUser::Rootless(rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
    } else if Cgroups::probe()?.layout() == Layout::Unified {
        ExampleUser::RootfulUnified
    } else {
        ExampleUser::Rootful
    };
    let name = args.file.as_deref().unwrap_or(Path::new("config.json"));
    let bundle = args.bundle.as_deref().unwrap_or(Path::new(""));
    let path = bundle.join(name);
    let text = tabbed(&changed(session, document(kind), bundle, args)?);
    let mut file = match OpenOptions::new().write(true).create_new(true).open(&path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            bail!("File {} exists. Remove it first", name.display())
        }
        other => other.with_context(|| {
            let flag = if args.bundle.is_some() { "--bundle: " } else { "" };
            format!("{flag}create {}", path.display())
        })?,
    };
    file.write_all(text.as_bytes()).with_context(|| format!("write {}", path.display()))
}

/// With what the flags say.
fn changed(session: &Session<'_>, mut document: Value, bundle: &Path, args: &Spec) -> Result<Value> {
    if let Some(named) = &args.from {
        let root = bundle.join("rootfs");
        let image = layout::config(named)?;
        if let Some(platform) = layout::other_platform(&image) {
            session.log.warning(&format!("--from {named}: the image is for {platform}, and not for this machine"));
        }
        let (passwd, group) = (of_root(&root, "etc/passwd")?, of_root(&root, "etc/group")?);
        let reserved = libcontainer::features().potentially_unsafe_config_annotations;
        let left_out = image_config::merge(&mut document, &image, &passwd, &group, reserved)
            .map_err(|said| anyhow!("--from {named}: {said}"))?;
        for label in left_out {
            let said = "is left out: an annotation of this name changes the container";
            session.log.warning(&format!("--from {named}: the label {label:?} {said}"));
        }
    }
    if !args.command.is_empty() {
        document["process"]["args"] = json!(args.command);
    }
    if args.no_terminal {
        document["process"]["terminal"] = json!(false);
    }
    Ok(document)
}

/// The longest passwd(5) or group(5) that is read.
const MOST: u64 = 4 << 20;

/// A file of the image, whose author may not be trusted. Empty where it is not there, or the image is not unpacked.
fn of_root(root: &Path, name: &str) -> Result<String> {
    match wait::contents_below(root, Path::new(name), MOST) {
        Ok(text) => Ok(String::from_utf8_lossy(&text).into_owned()),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(String::new()),
        Err(error) => Err(error).with_context(|| root.join(name).display().to_string()),
    }
}
