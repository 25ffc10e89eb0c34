//! The command line, as runc's clients write it: flags in Go's style, global ones before the command. Only the command
//! in use is ever built. No logic.

mod commands;
mod go_style;
mod help;

use std::path::PathBuf;

use clap::{Args, CommandFactory, FromArgMatches, Parser};

pub use commands::*;
pub use help::{general_help, version};

/// What was typed, understood.
#[derive(Debug)]
pub struct Typed {
    /// Flags before the command.
    pub global: Global,
    /// The command.
    pub command: Command,
}

/// Why there is nothing to do but to say something and end.
#[derive(Debug, PartialEq, Eq)]
pub enum Stop {
    /// Help or version was asked for: to standard output, status 0.
    Answer(String),
    /// The command line is wrong: message, and the status for it.
    Usage(String, u8),
}

/// Flags before the command.
#[derive(Args, Clone, Debug, Default)]
pub struct Global {
    /// enable debug logging
    #[arg(long, num_args = 0..=1, default_missing_value = "true", default_value = "false", require_equals = true, action = clap::ArgAction::Set)]
    pub debug: bool,
    /// set the log file to write coracle logs to (default is stderr)
    #[arg(long)]
    pub log: Option<PathBuf>,
    /// set the log format (text or json)
    #[arg(long, default_value = "text")]
    pub log_format: String,
    /// set the log level (debug, warning or error)
    #[arg(long)]
    pub log_level: Option<String>,
    /// root directory for storage of container state
    #[arg(long)]
    pub root: Option<PathBuf>,
    /// enable systemd cgroup support
    #[arg(long, short = 's', num_args = 0..=1, default_missing_value = "true", default_value = "false", require_equals = true, action = clap::ArgAction::Set)]
    pub systemd_cgroup: bool,
    /// cgroup manager: cgroupfs, systemd or disabled
    #[arg(long)]
    pub cgroup_manager: Option<String>,
    /// ignore cgroup permission errors (true, false or auto)
    #[arg(long, default_value = "auto")]
    pub rootless: String,
    /// accepted for old clients; criu is found in PATH
    #[arg(long, hide = true)]
    pub criu: Option<PathBuf>,
}

/// The flags alone, as a command that clap can parse.
#[derive(Debug, Parser)]
#[command(name = "coracle", disable_help_flag = true, disable_version_flag = true)]
struct GlobalOnly {
    #[command(flatten)]
    global: Global,
}

/// Understands a command line without the program's name.
///
/// # Errors
/// What to say instead of doing something.
pub fn parse(args: &[String]) -> Result<Typed, Stop> {
    // answered before anything is built: clients ask often
    if let [only] = args {
        match only.as_str() {
            "--version" | "-version" | "-v" | "-V" | "version" => return Err(Stop::Answer(version())),
            "--help" | "-help" | "-h" | "-?" | "help" | "h" => return Err(Stop::Answer(general_help())),
            _ => {}
        }
    }
    let global_flags = GlobalOnly::command();
    let (global, rest) = go_style::leading_flags(&global_flags, args);
    if global.iter().any(|flag| ["--version", "-v"].contains(&flag.as_str())) {
        return Err(Stop::Answer(version()));
    }
    if rest.is_empty() || global.iter().any(|flag| ["--help", "-h"].contains(&flag.as_str())) {
        return Err(Stop::Answer(general_help()));
    }
    let global = one::<GlobalOnly>("coracle", &global)?.global;
    if !["text", "json"].contains(&global.log_format.as_str()) {
        return Err(Stop::Usage(format!("invalid log-format: {}", global.log_format), 1));
    }
    let (name, rest) = rest.split_first().map_or(("", rest), |(name, rest)| (name.as_str(), rest));
    Ok(Typed { global, command: command(name, rest)? })
}

/// Parses the arguments of one command by its own definition alone.
fn one<P: CommandFactory + FromArgMatches>(name: &str, args: &[String]) -> Result<P, Stop> {
    let definition = P::command();
    let args = go_style::normalised(&definition, args);
    let words = std::iter::once(name.to_owned()).chain(args);
    let matches = definition.bin_name(format!("coracle {name}")).try_get_matches_from(words);
    matches.and_then(|matches| P::from_arg_matches(&matches)).map_err(|error| stop(name, &error))
}

fn stop(name: &str, error: &clap::Error) -> Stop {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(list)) => list.join(", "),
        _ => String::new(),
    };
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Stop::Answer(error.render().to_string()),
        ErrorKind::UnknownArgument if text(ContextKind::InvalidArg).starts_with('-') => {
            let flag = text(ContextKind::InvalidArg);
            let flag = flag.trim_start_matches('-');
            Stop::Usage(format!("Incorrect Usage: flag provided but not defined: -{flag}"), 1)
        }
        ErrorKind::UnknownArgument | ErrorKind::MissingRequiredArgument | ErrorKind::TooManyValues => {
            Stop::Usage(format!("Incorrect Usage: coracle: {name:?} {}", expectation(name)), 1)
        }
        _ => {
            let message = error.render().to_string();
            let first = message.lines().next().unwrap_or_default();
            Stop::Usage(format!("Incorrect Usage: {}", first.trim_start_matches("error: ")), 1)
        }
    }
}

fn expectation(name: &str) -> &'static str {
    match name {
        "exec" => "requires a minimum of 1 argument(s)",
        "kill" => "requires a minimum of 1 argument(s), and at most 2",
        "ps" => "requires a minimum of 1 argument(s)",
        "list" | "spec" | "features" => "requires exactly 0 argument(s)",
        _ => "requires exactly 1 argument(s)",
    }
}
