//! `host`: whether this machine is fit for containers, and what to do where it is not.

use std::fmt::Write as _;

use anyhow::{Result, bail};
use libcontainer::{Area, Finding, Fitness, survey};
use serde_json::json;

use super::session::{environment, print};
use crate::cli::{Host, wrapped};
use crate::flags::in_flags;

pub fn run(args: &Host) -> Result<u8> {
    let found = match args.format.as_str() {
        "text" | "json" => survey(&environment())?,
        other => bail!("invalid format option: {other:?} (expected one of text, json)"),
    };
    print(&if args.format == "json" { as_json(&found) } else { as_text(&found) })?;
    Ok(u8::from(!is_fit(&found)))
}

fn is_fit(found: &[Finding]) -> bool {
    found.iter().all(|finding| finding.fitness != Fitness::Missing)
}

fn area(area: Area) -> &'static str {
    match area {
        Area::Kernel => "kernel",
        Area::Namespaces => "namespaces",
        Area::Cgroups => "cgroups",
        Area::Rootless => "ordinary users",
        Area::Security => "security",
        Area::Programs => "programs",
    }
}

fn word(fitness: Fitness) -> &'static str {
    match fitness {
        Fitness::Good => "ok",
        Fitness::Unknown => "n/a",
        Fitness::Without => "without",
        Fitness::Missing => "missing",
    }
}

fn as_json(found: &[Finding]) -> String {
    let list = found.iter().map(|Finding { area: about, name, fitness, said, advice }| {
        json!({"area": area(*about), "name": name, "state": word(*fitness), "said": in_flags(said), "advice": in_flags(advice)})
    });
    format!("{:#}\n", json!({"fit": is_fit(found), "findings": list.collect::<Vec<_>>()}))
}

fn as_text(found: &[Finding]) -> String {
    let mut text = String::new();
    let mut last = None;
    for finding in found {
        if last.replace(finding.area) != Some(finding.area) {
            let _ = writeln!(text, "{}:", area(finding.area));
        }
        let colon = if finding.said.is_empty() { "" } else { ": " };
        let line = format!("{}{colon}{}", finding.name, finding.said);
        wrapped(&mut text, &format!("  {:9}", word(finding.fitness)), &in_flags(&line));
        if !finding.advice.is_empty() {
            wrapped(&mut text, "           -> ", &in_flags(&finding.advice));
        }
    }
    let count = |fitness| found.iter().filter(|finding| finding.fitness == fitness).count();
    let (missing, without) = (count(Fitness::Missing), count(Fitness::Without));
    text.push_str(&match is_fit(found) {
        true if without == 0 => "This machine can run containers.\n".to_owned(),
        true => {
            format!("This machine can run containers. Some need one of the {without} missing features.\n")
        }
        false => format!("This user cannot make a container here: {missing} missing.\n"),
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(fitness: Fitness, said: &str, advice: &str) -> Finding {
        Finding { area: Area::Kernel, name: "x".to_owned(), fitness, said: said.to_owned(), advice: advice.to_owned() }
    }

    #[test]
    fn each_finding_is_a_line_with_what_to_do() {
        let found = [finding(Fitness::Good, "", ""), finding(Fitness::Missing, "y", "do z")];
        let expected = "kernel:\n  ok       x\n  missing  x: y\n           -> do z\nThis user cannot make a container here: 1 missing.\n";
        assert_eq!(as_text(&found), expected);
        assert!(as_text(&found[..1]).ends_with("This machine can run containers.\n"));
    }
}
