//! `check`: every mistake in a bundle's config.json, and nothing made.

use std::path::Path;

use anyhow::Result;
use libcontainer::config::near_misses;
use libcontainer::plan::{CgroupUse, Start, Terminal};

use super::bundle::Bundle;
use super::print;
use crate::cli::{Check, Making};

pub fn run(args: &Check) -> Result<u8> {
    let directory = args.directory.as_deref().or(args.bundle.as_deref()).unwrap_or(Path::new("."));
    let bundle = Bundle::read(Some(directory), args.config.as_deref())?;
    let flags = bundle.flags("checked", &Making::default(), Terminal::Sent, Start::OnFifo, CgroupUse::Own);
    let plan = bundle.plan(&flags)?;
    let mut warnings = plan.warnings.clone();
    warnings.extend(near_misses(&bundle.text));
    let notes: String = warnings.iter().map(|warning| format!("note: {warning}\n")).collect();
    print(&format!("{notes}{}: no mistakes\n", bundle.directory.display()))?;
    Ok(0)
}
