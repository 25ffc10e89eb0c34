//! `explain`: prints the plan, and carries out none of it.

use std::path::Path;

use anyhow::{Result, bail};
use libcontainer::config::near_misses;
use libcontainer::plan::{Keyring, Start, Terminal};
use serde_json::json;

use super::bundle::flags as decided;
use super::{Session, print};
use crate::cli::{Explain, Making};
use libcontainer::Bundle;

/// Warnings go to standard error, so that a pipe gets only the plan.
pub fn run(session: &Session<'_>, args: &Explain) -> Result<()> {
    if !["text", "json"].contains(&args.format.as_str()) {
        bail!("invalid format option: {:?} (expected one of text, json)", args.format);
    }
    let directory = args.directory.as_deref().or(args.bundle.as_deref());
    let bundle = Bundle::with_config(directory.unwrap_or(Path::new(".")), None)?;
    let mut flags =
        decided(&bundle, "explained", &Making::default(), Terminal::Sent, Start::OnFifo, session.cgroup_use()?);
    // The same bundle must give the same text, so the random part of the name is left out.
    flags.keyring = Keyring::Named(format!("{}.*", Keyring::plain_name(&flags.id)));
    let plan = bundle.plan_to_read(&flags)?;
    let warnings = plan.warnings.iter().cloned().chain(near_misses(&bundle.text)).chain(bundle.config.remarks());
    warnings.for_each(|warning| session.log.warning(&warning.to_string()));
    if args.format == "text" {
        return print(&plan.to_string());
    }
    let lines = plan.lines();
    let steps = lines.into_iter().map(|line| {
        json!({"process": line.process, "what": line.what, "fields": line.fields, "text": line.act, "from": line.from})
    });
    print(&format!("{:#}\n", steps.collect::<serde_json::Value>()))
}
