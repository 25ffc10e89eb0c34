//! The texts of `--help` and `--version`. Clients of runc match their first words.

use std::fmt::Write;

use clap::{Arg, ArgAction, CommandFactory};

use super::GlobalOnly;
use super::verbs::{VERBS, Verb};
use super::wrap::wrapped;

/// `coracle --help`.
pub fn general_help() -> String {
    let mut verbs: Vec<_> = VERBS.iter().map(|verb| (verb.name.to_owned(), verb.about.to_owned())).collect();
    verbs.push(("help, h".to_owned(), "list the commands, or show the help of one command".to_owned()));
    let mut options = options(&GlobalOnly::command());
    options.push(("--version, -v".to_owned(), "print the version".to_owned()));
    format!(
        "NAME:\n   coracle - Open Container Initiative runtime\n\n\
         coracle runs applications packaged as OCI bundles: a directory with a\n\
                  config.json and a root filesystem. `coracle run bundle/` runs a bundle.\n\
         `coracle explain bundle/` shows what this would do.\n\n\
         USAGE:\n   coracle [global options] command [command options] [arguments...]\n\n\
         VERSION:\n   {}\n\nCOMMANDS:\n{}\nGLOBAL OPTIONS:\n{}",
        env!("CARGO_PKG_VERSION"),
        columns(&verbs),
        columns(&options)
    )
}

/// `coracle COMMAND --help`.
pub fn command_help(verb: &Verb) -> String {
    let Verb { name, takes, about, more, examples, .. } = verb;
    let mut text = "NAME:\n".to_owned();
    wrapped(&mut text, &format!("   coracle {name} - "), about);
    text.push_str("\nUSAGE:\n");
    wrapped(&mut text, &format!("   coracle {name} "), format!("[command options] {takes}").trim_end());
    if !more.is_empty() {
        text.push_str("\nDESCRIPTION:\n");
        wrapped(&mut text, "   ", &more.replace('\n', " "));
    }
    let _ = write!(text, "\nOPTIONS:\n{}", columns(&options(&(verb.definition)())));
    text.push_str("\nEXAMPLES:\n");
    for (line, what) in *examples {
        let _ = writeln!(text, "   {line}");
        wrapped(&mut text, "      ", what);
    }
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
    // `--stats` also takes `--stats=false`, as Go's flags do
    let value = matches!(arg.get_action(), ArgAction::Set | ArgAction::Append) && !arg.is_require_equals_set();
    let word = if value { " value" } else { "" };
    let mut name = format!("--{}{word}", arg.get_long().unwrap_or_default());
    if let Some(short) = arg.get_short() {
        let _ = write!(name, ", -{short}{word}");
    }
    let mut text = arg.get_help().map(ToString::to_string).unwrap_or_default();
    if let [default] = arg.get_default_values()
        && !default.is_empty()
        && value
    {
        let _ = write!(text, " (default: {})", default.to_string_lossy());
    }
    if matches!(arg.get_action(), ArgAction::Append) {
        text.push_str(" (may be given several times)");
    }
    (name, text)
}

/// The widest name that has its text on the same line.
const NAME: usize = 26;

fn columns(entries: &[(String, String)]) -> String {
    let width = entries.iter().map(|(name, _)| name.len()).max().unwrap_or(0).min(NAME);
    let mut text = String::new();
    for (name, what) in entries {
        if name.len() > width {
            let _ = writeln!(text, "   {name}");
        }
        let name = if name.len() > width { "" } else { name };
        wrapped(&mut text, &format!("   {name:width$}  "), what);
    }
    text
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

    #[test]
    fn help_fits_into_eighty_columns_and_has_examples_that_are_taken() {
        let all = VERBS.iter().map(command_help).chain([general_help()]);
        let wide: Vec<String> = all
            .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
            .filter(|line| line.len() > 80)
            .collect();
        assert!(wide.is_empty(), "{wide:#?}");
        for verb in VERBS {
            assert!(!verb.examples.is_empty(), "{}", verb.name);
            for (line, what) in verb.examples {
                let words: Vec<std::ffi::OsString> = line.split_whitespace().skip(1).map(Into::into).collect();
                assert!(
                    line.starts_with(&format!("coracle {} ", verb.name)) || *line == format!("coracle {}", verb.name),
                    "{line}"
                );
                assert!(super::super::parse(&words).is_ok() && !what.is_empty(), "{line}");
            }
        }
    }
}
