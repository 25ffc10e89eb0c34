//! `check`: every mistake in a bundle's config.json or in the images of a checkpoint, or what a config exposes. Nothing is made.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Result, anyhow, bail};
use libcontainer::{Bundle, Exposed, Exposure, Faults, ImageContents, Images, Kind, Warning};
use serde_json::{Value, json};

use super::session::print;
use crate::cli::{Check, wrapped};
use crate::flags;

/// Every directory of images has this file.
const INVENTORY: &str = "inventory.img";

pub fn run(args: &Check) -> Result<u8> {
    let limit = args.fail_at.as_deref().map(limit).transpose()?;
    if !["text", "json"].contains(&args.format.as_str()) {
        bail!("invalid format option: {:?} (expected one of text, json)", args.format);
    }
    if limit.is_some() && !args.security {
        bail!("--fail-at needs --security");
    }
    if args.image_path.is_some() && args.security {
        bail!("--image-path cannot be used with --security: check the bundle by itself");
    }
    let named = args.directory.as_deref().or(args.bundle.as_deref());
    let directory = named.unwrap_or(Path::new("."));
    if let Some(path) = &args.image_path {
        let with = named.map(|directory| Bundle::with_config(directory, args.config.as_deref())).transpose()?;
        return images(&Images::new(path), path, with.as_ref(), &args.format);
    }
    let has_images = directory.join(INVENTORY).exists() && !directory.join("config.json").exists();
    if has_images && args.config.is_none() && !args.security {
        return images(&Images::new(directory), directory, None, &args.format);
    }
    let bundle = Bundle::with_config(directory, args.config.as_deref());
    match (args.security, args.format.as_str()) {
        (true, format) => security(&bundle?, format, limit),
        (false, "json") => all_as_json(bundle),
        (false, _) => check_as_text(&bundle?),
    }
}

fn check_as_text(bundle: &Bundle) -> Result<u8> {
    // Printed for a config with mistakes, too: a name that is almost right may be one of them.
    print(&notes(bundle.remarks()))?;
    print(&format!("{}{}: no mistakes\n", notes(bundle.check()?.into_iter()), bundle.directory().display()))?;
    Ok(0)
}

fn notes(warnings: impl Iterator<Item = Warning>) -> String {
    warnings.map(|warning| format!("note: {}\n", flags::in_flags(&warning.to_string()))).collect()
}

/// The faults of the images of a checkpoint.
fn images(images: &Images, path: &Path, bundle: Option<&Bundle>, format: &str) -> Result<u8> {
    let (contents, faults) = images.check(bundle)?;
    let status = u8::from(!faults.is_empty());
    if format == "json" {
        let mistakes = faults.iter().map(|fault| json!({"at": fault.file, "problem": flags::in_flags(&fault.problem)}));
        let ImageContents { criu, architecture, processes, mounts, external, has_parent, .. } = &contents;
        let external: Vec<_> = external.iter().map(|(_, path)| path).collect();
        let found = json!({"criu": criu, "architecture": architecture, "processes": processes, "mounts": mounts,
            "external": external, "parent": has_parent});
        print(&format!("{:#}\n", json!({"images": found, "mistakes": mistakes.collect::<Vec<_>>()})))?;
        return Ok(status);
    }
    if let [fault] = faults.as_slice() {
        bail!("{}: {fault}", path.display());
    }
    if !faults.is_empty() {
        let lines = faults.iter().map(|fault| format!("\n  {fault}"));
        bail!("{} has {} mistakes:{}", path.display(), faults.len(), lines.collect::<String>());
    }
    print(&format!("{}: {}\n{0}: no mistakes\n", path.display(), summary(&contents)))?;
    Ok(status)
}

/// `2 processes, 30 mounts (9 of the host), x86_64, criu 4.1.1`
fn summary(contents: &ImageContents) -> String {
    let mut text = match contents.processes {
        1 => "1 process".to_owned(),
        count => format!("{count} processes"),
    };
    let _ = write!(text, ", {} mounts ({} of the host)", contents.mounts, contents.external.len());
    let words = [contents.architecture.map(str::to_owned), contents.criu.as_ref().map(|criu| format!("criu {criu}"))];
    words.into_iter().flatten().for_each(|word| text += &format!(", {word}"));
    if contents.has_parent { text + ", with a parent" } else { text }
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
        .map(|note| json!({"at": flags::in_flags(note.at.as_str()), "said": flags::in_flags(&note.said)}));
    let status = u8::from(!mistakes.is_empty());
    print(&format!("{:#}\n", json!({"mistakes": mistakes, "notes": notes.collect::<Vec<_>>()})))?;
    Ok(status)
}

fn mistakes(faults: &Faults) -> Vec<Value> {
    faults
        .iter()
        .map(|fault| json!({"at": flags::in_flags(fault.at.as_str()), "problem": flags::in_flags(&fault.problem)}))
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
