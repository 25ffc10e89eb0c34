//! The texts of `--help` and `--version`. Clients of runc match their first words.

use std::fmt::Write;

use clap::{Arg, ArgAction, CommandFactory};

use super::GlobalOnly;
use super::verbs::{VERBS, Verb};

/// `coracle --help`.
pub fn general_help() -> String {
    let mut verbs: Vec<_> = VERBS.iter().map(|verb| (verb.name.to_owned(), verb.about.to_owned())).collect();
    verbs.push(("help, h".to_owned(), "shows a list of commands or help for one command".to_owned()));
    let mut options = options(&GlobalOnly::command());
    options.push(("--version, -v".to_owned(), "print the version".to_owned()));
    format!(
        "NAME:\n   coracle - Open Container Initiative runtime\n\n\
         coracle runs applications packaged as OCI bundles: a directory with a config.json and a root filesystem.\n\
         `coracle run bundle/` runs one; `coracle explain bundle/` shows what that would do.\n\n\
         USAGE:\n   coracle [global options] command [command options] [arguments...]\n\n\
         VERSION:\n   {}\n\nCOMMANDS:\n{}\nGLOBAL OPTIONS:\n{}",
        env!("CARGO_PKG_VERSION"),
        columns(&verbs),
        columns(&options)
    )
}

/// `coracle COMMAND --help`.
pub fn command_help(verb: &Verb) -> String {
    let Verb { name, takes, about, more, .. } = verb;
    let mut text =
        format!("NAME:\n   coracle {name} - {about}\n\nUSAGE:\n   coracle {name} [command options] {takes}\n");
    if !more.is_empty() {
        let _ = write!(text, "\nDESCRIPTION:\n   {}\n", more.replace('\n', "\n   "));
    }
    let _ = write!(text, "\nOPTIONS:\n{}", columns(&options(&(verb.definition)())));
    text
}

/// The flags, each with its description.
fn options(definition: &clap::Command) -> Vec<(String, String)> {
    let shown = definition.get_arguments().filter(|arg| arg.get_long().is_some() && !arg.is_hide_set());
    let mut list: Vec<_> = shown.map(option).collect();
    list.push(("--help, -h".to_owned(), "show help".to_owned()));
    list
}

fn option(arg: &Arg) -> (String, String) {
    let value = matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
    let value = if value { " value" } else { "" };
    let mut name = format!("--{}{value}", arg.get_long().unwrap_or_default());
    if let Some(short) = arg.get_short() {
        let _ = write!(name, ", -{short}{value}");
    }
    let mut text = arg.get_help().map(ToString::to_string).unwrap_or_default();
    if let [default] = arg.get_default_values() {
        let _ = write!(text, " (default: {})", default.to_string_lossy());
    }
    if matches!(arg.get_action(), ArgAction::Append) {
        text.push_str(" (may be given several times)");
    }
    (name, text)
}

fn columns(entries: &[(String, String)]) -> String {
    let width = entries.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    entries.iter().map(|(name, text)| format!("   {name:width$}  {text}\n")).collect()
}

/// `coracle --version`, in the lines that go-runc and docker read.
pub fn version() -> String {
    format!(
        "coracle version {}\ncommit: {}\nspec: {}\nlibseccomp: {}\n",
        env!("CARGO_PKG_VERSION"),
        libcontainer::COMMIT,
        libcontainer::config::SPEC_VERSION,
        libcontainer::plan::seccomp::library_version().unwrap_or_else(|| "unknown".to_owned())
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_has_its_words() {
        for verb in VERBS {
            (verb.definition)().debug_assert();
            for (name, text) in options(&(verb.definition)()) {
                assert!(!text.is_empty(), "{} {name}", verb.name);
            }
        }
        GlobalOnly::command().debug_assert();
    }
}
