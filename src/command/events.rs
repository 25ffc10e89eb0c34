//! `events`: prints a container's statistics at every interval, and an event when it is out of memory.

use std::io::{ErrorKind, Write};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use libcontainer::{Container, Happened, Status};
use serde_json::{Value, json};

use super::flag_values::duration;
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

fn show(container: &Container, form: Form) -> Result<Reader> {
    match form {
        Form::Json => print_line(&stats(container)),
        Form::Table => print_line(&table(&[Usage::of(container)], None).trim_end()),
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
                if print_line(&json!({"type": "oom", "id": container.record().id}))? == Reader::Gone {
                    return Ok(());
                }
            }
            Happened::Nothing if Instant::now() < next => {}
            Happened::Nothing => {
                next += interval;
                if show(container, form)? == Reader::Gone {
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
enum Reader {
    There,
    Gone,
}

/// Prints a line, and tells whether somebody reads it.
fn print_line(event: &impl std::fmt::Display) -> Result<Reader> {
    match writeln!(std::io::stdout(), "{event}") {
        Ok(()) => Ok(Reader::There),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(error.into()),
    }
}
