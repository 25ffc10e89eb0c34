//! `explain`: the plan, and nothing of it done.

use anyhow::{Result, bail};
use libcontainer::config::near_misses;
use libcontainer::plan::{CgroupUse, Start, Terminal};
use serde_json::json;

use super::bundle::Bundle;
use super::print;
use crate::cli::{Explain, Making};

pub fn run(args: &Explain) -> Result<()> {
    let directory = args.directory.as_deref().or(args.bundle.as_deref());
    let bundle = Bundle::read(directory, None)?;
    let flags = bundle.flags("explained", &Making::default(), Terminal::Sent, Start::OnFifo, CgroupUse::Own);
    let plan = bundle.plan(&flags)?;
    let mut warnings = plan.warnings.clone();
    warnings.extend(near_misses(&bundle.text));
    let text = match args.format.as_str() {
        "text" => {
            let notes: String = warnings.iter().map(|warning| format!("note: {warning}\n")).collect();
            format!("{plan}{notes}")
        }
        "json" => {
            let lines = plan.lines();
            let steps = lines.iter().map(|l| json!({"process": l.process, "act": l.act, "from": l.from}));
            let notes = warnings.iter().map(|w| json!({"at": w.at.as_str(), "said": w.said}));
            let document = json!({"steps": steps.collect::<Vec<_>>(), "warnings": notes.collect::<Vec<_>>()});
            format!("{document:#}\n")
        }
        other => bail!("invalid format option: {other:?} (expected one of text, json)"),
    };
    print(&text)
}
