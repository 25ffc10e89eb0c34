//! `kill`: sends a signal to a container's init, or to all its processes.

use anyhow::{Result, anyhow};
use libcontainer::{Container, Root, Stopped};
use nix::sys::signal::Signal;

use super::Session;
use crate::cli::Kill;

/// The annotation of an image that names its stop signal.
pub const STOP_SIGNAL: &str = "org.opencontainers.image.stopSignal";

pub fn run(session: &Session<'_>, args: &Kill) -> Result<()> {
    let root = session.root()?;
    let given = args.signal.as_deref().map(number).transpose()?;
    for id in named(&root, &args.id, args.regex)? {
        let container = root.load(&id)?;
        let signal = given.unwrap_or_else(|| default_signal(&container));
        container.kill(signal, if args.all { Stopped::Fine } else { Stopped::Refused })?;
    }
    Ok(())
}

/// The id, or with --regex every id that matches.
pub fn named(root: &Root, id: &str, regex: bool) -> Result<Vec<String>> {
    if !regex {
        return Ok(vec![id.to_owned()]);
    }
    let pattern = regex_lite::Regex::new(id).map_err(|error| anyhow!("--regex {id:?}: {error}"))?;
    Ok(root.ids()?.into_iter().filter(|id| pattern.is_match(id)).collect())
}

/// SPEC: without a signal, kill sends the image's stop signal.
fn default_signal(container: &Container) -> i32 {
    let annotations = container.record().annotations();
    let image = annotations.get(STOP_SIGNAL).and_then(|name| number(name).ok());
    image.unwrap_or(libc::SIGTERM)
}

/// `TERM`, `SIGTERM`, `term`, `15`, `RTMIN+3`.
fn number(text: &str) -> Result<i32> {
    let unknown = || anyhow!("unknown signal {text:?}");
    if let Ok(number) = text.parse::<i32>() {
        return if (0..=64).contains(&number) { Ok(number) } else { Err(unknown()) };
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let realtime = |base: i32, rest: &str, sign: i32| {
        let offset = if rest.is_empty() { 0 } else { rest[1..].parse::<i32>().ok()? };
        Some(base + sign * offset).filter(|number| (34..=64).contains(number))
    };
    if let Some(rest) = name.strip_prefix("RTMIN").filter(|rest| rest.is_empty() || rest.starts_with('+')) {
        return realtime(34, rest, 1).ok_or_else(unknown);
    }
    if let Some(rest) = name.strip_prefix("RTMAX").filter(|rest| rest.is_empty() || rest.starts_with('-')) {
        return realtime(64, rest, -1).ok_or_else(unknown);
    }
    let name = match name {
        "IOT" => "ABRT",
        "POLL" => "IO",
        "CLD" => "CHLD",
        other => other,
    };
    format!("SIG{name}").parse::<Signal>().map(|signal| signal as i32).map_err(|_| unknown())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_signal_has_many_names() {
        for (text, expected) in [
            ("15", 15),
            ("TERM", 15),
            ("SIGTERM", 15),
            ("sigkill", 9),
            ("0", 0),
            ("RTMIN+3", 37),
            ("SIGRTMIN", 34),
            ("SIGRTMAX-1", 63),
            ("64", 64),
        ] {
            assert_eq!(super::number(text).unwrap(), expected, "{text}");
        }
        for bad in ["", "NOPE", "65", "-1", "RTMIN+99", "15x"] {
            assert!(super::number(bad).is_err(), "{bad}");
        }
    }
}
