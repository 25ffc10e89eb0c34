//! `check`: every mistake in a bundle's config.json, and nothing made.

use std::path::Path;

use anyhow::Result;
use libcontainer::{Bundle, Warning};

use super::print;
use crate::cli::Check;

pub fn run(args: &Check) -> Result<u8> {
    let directory = args.directory.as_deref().or(args.bundle.as_deref()).unwrap_or(Path::new("."));
    let bundle = Bundle::with_config(directory, args.config.as_deref())?;
    // said of a config with mistakes as well: a name that is nearly right may be one more
    print(&notes(bundle.remarks()))?;
    print(&format!("{}{}: no mistakes\n", notes(bundle.check()?.into_iter()), bundle.directory().display()))?;
    Ok(0)
}

fn notes(warnings: impl Iterator<Item = Warning>) -> String {
    warnings.map(|warning| format!("note: {warning}\n")).collect()
}
