//! `explain`: prints the plan, and carries out none of it.

use std::path::Path;

use anyhow::{Result, bail};
use libcontainer::{Bundle, Images};
use serde_json::json;

use super::{Session, print};
use crate::cli::Explain;
use crate::flags;

/// Warnings go to standard error, so that a pipe gets only the plan.
pub fn run(session: &Session<'_>, args: &Explain) -> Result<()> {
    if !["text", "json"].contains(&args.format.as_str()) {
        bail!("invalid format option: {:?} (expected one of text, json)", args.format);
    }
    let directory = args.directory.as_deref().or(args.bundle.as_deref());
    let bundle = Bundle::with_config(directory.unwrap_or(Path::new(".")), None)?;
    let cgroup = session.cgroup_use()?;
    let (lines, text, warnings) = match &args.image_path {
        Some(path) => {
            let plan = bundle.explain_restore(&Images::new(path), cgroup)?;
            (plan.lines().to_vec(), plan.to_string(), plan.warnings().to_vec())
        }
        None => {
            let plan = bundle.explain(cgroup)?;
            (plan.lines(), plan.to_string(), plan.warnings().to_vec())
        }
    };
    warnings.iter().for_each(|warning| session.log.warning(&warning.to_string()));
    if args.format == "text" {
        return print(&flags::named(&text));
    }
    let steps = lines.into_iter().map(|line| {
        json!({"process": line.process, "what": line.what, "fields": line.fields, "text": line.act,
            "from": flags::named(&line.from)})
    });
    print(&format!("{:#}\n", steps.collect::<serde_json::Value>()))
}
