//! `spec`: writes a new config.json.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail};
use libcontainer::config::example::{Kind, spec};
use libcontainer::host::Cgroups;
use libcontainer::host::cgroups::Layout;

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
    let path = args.bundle.as_deref().unwrap_or(Path::new("")).join(name);
    let mut file = match OpenOptions::new().write(true).create_new(true).open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            bail!("File {} exists. Remove it first", name.display())
        }
        other => other.with_context(|| format!("create {}", path.display()))?,
    };
    file.write_all(spec(kind).as_bytes()).with_context(|| format!("write {}", path.display()))
}
