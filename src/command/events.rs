//! `events`: prints a container's statistics at every interval, and an event when it is out of memory.

use std::io::{ErrorKind, Write};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use libcontainer::{Container, Happened, Status};
use serde_json::{Value, json};

use super::session::Session;
use super::usage::{Usage, table};
use crate::cli::Events;

pub fn run(session: &Session<'_>, args: &Events) -> Result<()> {
    let interval = duration("--interval", &args.interval)?;
    let form = match args.format.as_str() {
        "json" => Form::Json,
        "table" => Form::Table,
        other => bail!("invalid format option: {other:?} (expected one of json, table)"),
    };
    let container = session.root()?.load(&args.id)?;
    if container.status()? == Status::Stopped {
        bail!("container with id {} is not running", args.id);
    }
    if args.stats {
        return show(&container, form).map(drop);
    }
    follow(&container, interval, form)
}

/// How the numbers are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Json,
    Table,
}

fn show(container: &Container, form: Form) -> Result<Listener> {
    match form {
        Form::Json => print(&stats(container)),
        Form::Table => print(&table(&[Usage::of(container)], None).trim_end()),
    }
}

/// Prints one line for each event, until the container ends or the reader closes the pipe.
fn follow(container: &Container, interval: Duration, form: Form) -> Result<()> {
    let mut events = container.events()?;
    let mut next = Instant::now() + interval;
    loop {
        match events.next(next.saturating_duration_since(Instant::now()))? {
            Happened::Ended => return Ok(()),
            Happened::Oom => {
                if print(&json!({"type": "oom", "id": container.record().id}))? == Listener::Gone {
                    return Ok(());
                }
            }
            Happened::Nothing if Instant::now() < next => {}
            Happened::Nothing => {
                next += interval;
                if show(container, form)? == Listener::Gone {
                    return Ok(());
                }
            }
        }
    }
}

fn stats(container: &Container) -> Value {
    json!({"type": "stats", "id": container.record().id, "data": container.stats()})
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listener {
    There,
    Gone,
}

fn print(event: &impl std::fmt::Display) -> Result<Listener> {
    match writeln!(std::io::stdout(), "{event}") {
        Ok(()) => Ok(Listener::There),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Listener::Gone),
        Err(error) => Err(error.into()),
    }
}

/// Parses Go's durations: `5s`, `500ms`, `1m30s`.
pub fn duration(flag: &str, text: &str) -> Result<Duration> {
    // Go takes this one without a unit
    let text = if text == "0" { "0s" } else { text };
    let span: jiff::SignedDuration =
        text.parse().map_err(|_| anyhow!("{flag}: {text:?} is not a duration such as 5s"))?;
    let span = Duration::try_from(span).ok().filter(|span| !span.is_zero());
    span.ok_or_else(|| anyhow!("duration interval must be greater than 0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_written_as_in_go() {
        assert_eq!(duration("--interval", "5s").unwrap(), Duration::from_secs(5));
        assert_eq!(duration("--interval", "500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(duration("--interval", "1m30s").unwrap(), Duration::from_secs(90));
        let zero = duration("--interval", "0").unwrap_err().to_string();
        assert_eq!(zero, "duration interval must be greater than 0");
        for bad in ["0s", "-1s", "5", "x"] {
            assert!(duration("--interval", bad).is_err(), "{bad}");
        }
    }
}
