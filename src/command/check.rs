//! `check`: reports every mistake in a bundle's config.json, and makes nothing.

use std::path::Path;

use anyhow::Result;
use libcontainer::config::{Warning, near_misses};
use libcontainer::plan::{CgroupUse, Start, Terminal};

use super::bundle::flags as decided;
use super::print;
use crate::cli::{Check, Making};
use libcontainer::Bundle;

pub fn run(args: &Check) -> Result<u8> {
    let directory = args.directory.as_deref().or(args.bundle.as_deref()).unwrap_or(Path::new("."));
    let bundle = Bundle::with_config(directory, args.config.as_deref())?;
    let flags = decided(&bundle, "checked", &Making::default(), Terminal::Sent, Start::OnFifo, CgroupUse::Own);
    // Printed also if the config has mistakes: a name that is nearly right may be one of them.
    print(&notes(&near_misses(&bundle.text)))?;
    print(&notes(&bundle.config.remarks()))?;
    let plan = bundle.plan_to_read(&flags)?;
    print(&format!("{}{}: no mistakes\n", notes(&plan.warnings), bundle.directory.display()))?;
    Ok(0)
}

fn notes(warnings: &[Warning]) -> String {
    warnings.iter().map(|warning| format!("note: {warning}\n")).collect()
}
