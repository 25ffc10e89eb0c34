//! `check`: every mistake in a bundle's config.json, or what it exposes. Nothing is made.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Result, anyhow, bail};
use libcontainer::{Bundle, Exposed, Exposure, Faults, Kind, Warning};
use serde_json::{Value, json};

use super::print;
use crate::cli::{Check, wrapped};
use crate::flags;

pub fn run(args: &Check) -> Result<u8> {
    let limit = args.fail_at.as_deref().map(limit).transpose()?;
    if !["text", "json"].contains(&args.format.as_str()) {
        bail!("invalid format option: {:?} (expected one of text, json)", args.format);
    }
    if limit.is_some() && !args.security {
        bail!("--fail-at needs --security");
    }
    let directory = args.directory.as_deref().or(args.bundle.as_deref()).unwrap_or(Path::new("."));
    let bundle = Bundle::with_config(directory, args.config.as_deref());
    match (args.security, args.format.as_str()) {
        (true, format) => security(&bundle?, format, limit),
        (false, "json") => all_as_json(bundle),
        (false, _) => all(&bundle?),
    }
}

fn all(bundle: &Bundle) -> Result<u8> {
    // Printed for a config with mistakes, too: a name that is almost right may be one of them.
    print(&notes(bundle.remarks()))?;
    print(&format!("{}{}: no mistakes\n", notes(bundle.check()?.into_iter()), bundle.directory().display()))?;
    Ok(0)
}

fn notes(warnings: impl Iterator<Item = Warning>) -> String {
    warnings.map(|warning| format!("note: {}\n", flags::named(&warning.to_string()))).collect()
}

/// One object, also where there are mistakes: they are what was asked for.
fn all_as_json(bundle: libcontainer::Result<Bundle>) -> Result<u8> {
    let (notes, checked) = match bundle {
        Ok(bundle) => (bundle.remarks().collect(), bundle.check()),
        Err(error) => (Vec::new(), Err(error)),
    };
    let (more, mistakes) = match checked {
        Ok(warnings) => (warnings, Vec::new()),
        Err(error) => match error.kind() {
            Kind::Config(faults) => (Vec::new(), mistakes(faults)),
            _ => return Err(error.into()),
        },
    };
    let notes = notes
        .iter()
        .chain(&more)
        .map(|note| json!({"at": flags::named(note.at.as_str()), "said": flags::named(&note.said)}));
    let status = u8::from(!mistakes.is_empty());
    print(&format!("{:#}\n", json!({"mistakes": mistakes, "notes": notes.collect::<Vec<_>>()})))?;
    Ok(status)
}

fn mistakes(faults: &Faults) -> Vec<Value> {
    faults
        .iter()
        .map(|fault| json!({"at": flags::named(fault.at.as_str()), "problem": flags::named(&fault.problem)}))
        .collect()
}

/// A score from which on the status is 1.
fn limit(text: &str) -> Result<f64> {
    let number = text.parse().ok().filter(|number| (0.0..=10.0).contains(number));
    number.ok_or_else(|| anyhow!("--fail-at: {text:?} is not a score from 0 to 10"))
}

fn security(bundle: &Bundle, format: &str, limit: Option<f64>) -> Result<u8> {
    let exposure = bundle.exposure()?;
    print(&if format == "json" { as_json(&exposure) } else { as_text(&exposure) })?;
    Ok(u8::from(limit.is_some_and(|limit| exposure.score() >= limit)))
}

fn as_json(exposure: &Exposure) -> String {
    let findings = exposure.findings.iter().map(|Exposed { at, risk, weight, what, gain, change }| {
        json!({"at": at.as_str(), "risk": risk.to_string(), "weight": weight, "what": what, "gain": gain,
            "change": change})
    });
    let findings: Vec<_> = findings.collect();
    format!("{:#}\n", json!({"score": exposure.score(), "word": exposure.word(), "findings": findings}))
}

fn as_text(exposure: &Exposure) -> String {
    let mut text = String::new();
    for Exposed { at, risk, what, gain, change, .. } in &exposure.findings {
        wrapped(&mut text, &format!("{:10}", risk.to_string()), &format!("{at}: {what}"));
        wrapped(&mut text, "          attacker: ", gain);
        wrapped(&mut text, "          change:   ", change);
    }
    let _ = writeln!(text, "exposure: {:.1} of 10 ({})", exposure.score(), exposure.word());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_is_a_number_up_to_ten() {
        assert!(limit("7.5").is_ok() && limit("0").is_ok() && limit("10").is_ok());
        for bad in ["11", "-1", "x", "", "NaN"] {
            assert!(limit(bad).is_err(), "{bad}");
        }
    }
}
