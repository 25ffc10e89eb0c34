//! `spec`: writes a new config.json.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use libcontainer::config::example::{Kind, document, tabbed};
use libcontainer::config::image;
use libcontainer::host::Cgroups;
use libcontainer::host::cgroups::Layout;

use serde_json::{Value, json};

use super::layout;
use crate::cli::SpecArgs;

pub fn run(args: &SpecArgs) -> Result<()> {
    let kind = if args.rootless {
        Kind::Rootless(rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
    } else if Cgroups::probe()?.layout() == Layout::Unified {
        Kind::RootfulUnified
    } else {
        Kind::Rootful
    };
    let name = args.file.as_deref().unwrap_or(Path::new("config.json"));
    let bundle = args.bundle.as_deref().unwrap_or(Path::new(""));
    let path = bundle.join(name);
    let text = tabbed(&changed(document(kind), bundle, args)?);
    let mut file = match OpenOptions::new().write(true).create_new(true).open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            bail!("File {} exists. Remove it first", name.display())
        }
        other => other.with_context(|| format!("create {}", path.display()))?,
    };
    file.write_all(text.as_bytes()).with_context(|| format!("write {}", path.display()))
}

/// With what the flags say.
fn changed(mut document: Value, bundle: &Path, args: &SpecArgs) -> Result<Value> {
    if let Some(named) = &args.from {
        let root = bundle.join("rootfs");
        let read = |name: &str| std::fs::read_to_string(root.join(name)).unwrap_or_default();
        let image = layout::config(named)?;
        image::merge(&mut document, &image, &read("etc/passwd"), &read("etc/group"))
            .map_err(|said| anyhow!("--from {named}: {said}"))?;
    }
    if !args.command.is_empty() {
        document["process"]["args"] = json!(args.command);
    }
    if args.no_terminal {
        document["process"]["terminal"] = json!(false);
    }
    Ok(document)
}
