//! `explain`: prints the plan, and carries out none of it.

use std::io::IsTerminal;
use std::path::Path;

use anyhow::{Result, bail};
use libcontainer::{Bundle, Images, Line};
use serde_json::json;

use super::session::{Session, print};
use crate::cli::{Explain, wrapped};
use crate::flags;

/// The meaning of the numbers in a plan.
const SLOTS: &str =
    "#N is a file that the runtime opens before the first process is made: the line \"open … #N\" names it";

/// Each property with what it does, in lines of a terminal's width. A property that does several things has a paragraph.
fn by_property(lines: &[Line]) -> String {
    let (mut text, mut before) = (format!("{SLOTS}\n"), String::new());
    for Line { process, act, from, .. } in lines {
        if *from != before {
            text.push_str(from);
            text.push('\n');
            before.clone_from(from);
        }
        wrapped(&mut text, &format!("    {process:8}"), act);
    }
    text
}

/// Warnings go to standard error, so that a pipe gets only the plan.
pub fn run(session: &Session<'_>, args: &Explain) -> Result<()> {
    if !["text", "property", "json"].contains(&args.format.as_str()) {
        bail!("invalid format option: {:?} (expected one of text, property, json)", args.format);
    }
    let directory = args.directory.as_deref().or(args.bundle.as_deref());
    let bundle = Bundle::with_config(directory.unwrap_or(Path::new(".")), args.config.as_deref())?;
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
        if std::io::stderr().is_terminal() {
            crate::log::say(&format!("{SLOTS}\n"));
        }
        return print(&flags::in_flags(&text));
    }
    if args.format == "property" {
        return print(&flags::in_flags(&by_property(&lines)));
    }
    let steps = lines.into_iter().map(|line| {
        json!({"process": line.process, "what": line.what, "fields": line.fields, "text": line.act,
            "from": flags::in_flags(&line.from)})
    });
    print(&format!("{:#}\n", steps.collect::<serde_json::Value>()))
}
