//! The command line, as clients of runc write it: flags in Go's style, global flags before the command. Only the
//! command in use is built, because building costs time. This module parses, and runs nothing.

mod commands;
mod global;
mod go_style;
mod help;
#[cfg(test)]
mod tests;
mod typo;
mod verbs;
mod wrap;

use std::ffi::{OsStr, OsString};

use clap::{CommandFactory, FromArgMatches};

pub use commands::*;
pub use global::{Global, GlobalOnly};
pub use go_style::Order;
pub use help::{command_help, general_help, version};
#[allow(unused_imports)] // for hack/pages.rs
pub use verbs::VERBS;
pub use verbs::Verb;
#[allow(unused_imports)] // for hack/pages.rs
pub use wrap::wrapped;

/// A parsed command line.
#[derive(Debug)]
pub struct Typed {
    /// Flags before the command.
    pub global: Global,
    /// The command.
    pub command: Command,
}

/// Why the program ends without running a command.
#[derive(Debug)]
pub enum NoCommand {
    /// The caller asked for help or the version: standard output, status 0.
    Answer(String),
    /// The command line is wrong.
    Usage(Box<UsageError>),
}

/// A command line that is wrong.
#[derive(Debug, Default)]
pub struct UsageError {
    /// The global flags, as far as they could be parsed. They say where errors are logged.
    pub global: Global,
    /// The mistake.
    pub said: String,
    /// The help, for standard output.
    pub help: String,
    /// The exit status for it.
    pub status: u8,
}

/// Parses a command line without the program's name.
///
/// # Errors
/// The text to print instead of running a command.
pub fn parse(args: &[OsString]) -> Result<Typed, NoCommand> {
    // Answered before clap builds anything: clients ask often.
    if let [only] = args {
        match only.to_str() {
            Some("--version" | "-version" | "-v" | "-V" | "version") => return Err(NoCommand::Answer(version())),
            Some("--help" | "-help" | "-h" | "-?" | "help" | "h") => return Err(NoCommand::Answer(general_help())),
            _ => {}
        }
    }
    let definition = GlobalOnly::command();
    let words = go_style::split_flags(&definition, args, Order::First).map_err(|said| wrong_global(&said))?;
    if words.version.is_some() {
        return Err(NoCommand::Answer(version()));
    }
    let Some((name, rest)) = words.rest.split_first().filter(|_| !words.help) else {
        return Err(NoCommand::Answer(general_help()));
    };
    let global = matches(definition, &words.flags, &[])
        .and_then(|found| GlobalOnly::from_arg_matches(&found))
        .map_err(|error| wrong_global(&said(&error)))?
        .global;
    check(&global).map_err(|said| {
        let global = Global { log_format: "text".to_owned(), log_level: None, ..global.clone() };
        NoCommand::Usage(Box::new(UsageError { global, said, help: String::new(), status: 1 }))
    })?;
    let name = name.to_string_lossy();
    if matches!(&*name, "help" | "h") {
        return Err(help_about(global, rest));
    }
    let verb = verbs::named(&name).ok_or_else(|| no_such_verb(global.clone(), &name))?;
    match command(verb, rest) {
        Ok(command) => Ok(Typed { global, command }),
        Err(NoCommand::Usage(usage)) => Err(NoCommand::Usage(Box::new(UsageError { global, ..*usage }))),
        Err(answer) => Err(answer),
    }
}

/// Parses the words after the command.
fn command(verb: &Verb, words: &[OsString]) -> Result<Command, NoCommand> {
    let definition = (verb.definition)();
    let parts_of = |words| go_style::split_flags(&definition, words, verb.order).map_err(|said| wrong(verb, &said));
    let (before, mut tail) = split(verb, words);
    let mut found = parts_of(before)?;
    if found.rest.is_empty() && verb.words.0 > 0 {
        // `run -- ID`: what follows is the id
        (found, tail) = (parts_of(words)?, &[]);
    }
    if found.help {
        return Err(NoCommand::Answer(command_help(verb)));
    }
    if let Some(name) = &found.version {
        return Err(wrong(verb, &go_style::not_defined(&definition, name)));
    }
    let mut rest = found.rest;
    if verb.order == Order::First && rest.get(1).is_some_and(|word| word == "--") {
        // `exec ID -- COMMAND`
        rest.remove(1);
    }
    if let Err(said) = verb.count(rest.len()) {
        let help = format!("Incorrect Usage.\n\n{}", command_help(verb));
        let hint = match verb.tail {
            Some("--") if rest.len() > 1 => " (write the command after --)",
            _ => "",
        };
        let said = format!("coracle: {:?} {said}{hint}", verb.name);
        return Err(NoCommand::Usage(Box::new(UsageError { said, help, status: 1, ..UsageError::default() })));
    }
    rest.extend_from_slice(tail);
    matches(definition, &found.flags, &rest)
        .and_then(|matches| (verb.understand)(&matches))
        .map_err(|error| wrong(verb, &said(&error)))
}

/// The words before the command for the container, and that command.
fn split<'a>(verb: &Verb, words: &'a [OsString]) -> (&'a [OsString], &'a [OsString]) {
    match verb.tail.and_then(|tail| words.iter().position(|word| word == tail)) {
        Some(n) => (&words[..n], &words[n + 1..]),
        None => (words, &[]),
    }
}

fn matches(definition: clap::Command, flags: &[OsString], rest: &[OsString]) -> Result<clap::ArgMatches, clap::Error> {
    let dashes = [OsString::from("--")];
    let dashes = if rest.is_empty() { &[][..] } else { &dashes };
    let words = flags.iter().chain(dashes).chain(rest).map(OsString::as_os_str);
    let definition = definition.args_override_self(true).disable_help_flag(true);
    definition.try_get_matches_from(std::iter::once(OsStr::new("coracle")).chain(words))
}

fn help_about(global: Global, rest: &[OsString]) -> NoCommand {
    let Some(name) = rest.first().map(|name| name.to_string_lossy()) else { return NoCommand::Answer(general_help()) };
    verbs::named(&name).map_or_else(|| no_such_verb(global, &name), |verb| NoCommand::Answer(command_help(verb)))
}

fn no_such_verb(global: Global, name: &str) -> NoCommand {
    // clients of runc match the first words
    let said = format!("No help topic for '{name}'{}", verbs::suggestion(name));
    NoCommand::Usage(Box::new(UsageError { global, said, help: String::new(), status: 3 }))
}

fn wrong(verb: &Verb, said: &str) -> NoCommand {
    let help = format!("Incorrect Usage: {said}\n\n{}", command_help(verb));
    NoCommand::Usage(Box::new(UsageError { said: said.to_owned(), help, status: 1, ..UsageError::default() }))
}

fn wrong_global(said: &str) -> NoCommand {
    let help = format!("Incorrect Usage: {said}\n\n{}", general_help());
    NoCommand::Usage(Box::new(UsageError { said: said.to_owned(), help, status: 1, ..UsageError::default() }))
}

/// A message in one line for a value that its flag does not accept.
fn said(error: &clap::Error) -> String {
    use clap::error::{ContextKind, ContextValue};
    use std::error::Error;
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    let flag = text(ContextKind::InvalidArg).trim_start_matches('-').split([' ', '=']).next().unwrap_or_default();
    let why = error.source().map_or_else(|| "parse error".to_owned(), ToString::to_string);
    match error.kind() {
        clap::error::ErrorKind::InvalidUtf8 => "an argument is not valid UTF-8".to_owned(),
        _ => format!("invalid value {:?} for flag -{flag}: {why}", text(ContextKind::InvalidValue)),
    }
}

/// The values of --cgroup-manager.
const CGROUP_MANAGERS: [&str; 3] = ["cgroupfs", "systemd", "disabled"];

/// Checks values that must be one of several words.
fn check(global: &Global) -> Result<(), String> {
    if !["text", "json"].contains(&global.log_format.as_str()) {
        return Err(format!("invalid log-format: {} (expected one of text, json)", global.log_format));
    }
    if let Some(manager) = global.cgroup_manager.as_deref().filter(|manager| !CGROUP_MANAGERS.contains(manager)) {
        let expected = CGROUP_MANAGERS.join(", ");
        return Err(format!("--cgroup-manager: unknown value {manager:?} (expected one of {expected})"));
    }
    if let Some(level) = global.log_level.as_deref().filter(|level| crate::log::Level::named(level).is_none()) {
        return Err(format!("invalid log-level: {level} (expected one of debug, info, warning, error)"));
    }
    if global.rootless != "auto" && global.says_rootless().is_none() {
        return Err(format!("invalid rootless option: {:?} (expected one of true, false, auto)", global.rootless));
    }
    Ok(())
}
