//! hack/pages DIR: writes the man pages to DIR/man1, and the completions to DIR/bash, DIR/zsh and DIR/fish. They come
//! from the same definitions that parse the command line.
#![allow(dead_code, missing_docs)] // the binary uses the rest of these files

#[path = "../src/cli/mod.rs"]
mod cli;
#[path = "../src/flags.rs"]
mod flags;
#[path = "../src/log.rs"]
mod log;

use std::fs;
use std::io;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

fn main() -> io::Result<()> {
    let Some(directory) = std::env::args_os().nth(1) else {
        return Err(io::Error::other("usage: hack/pages DIR"));
    };
    let directory = Path::new(&directory);
    let man = directory.join("man1");
    fs::create_dir_all(&man)?;
    clap_mangen::generate_to(tree(), &man)?;
    for (shell, name) in [(Shell::Bash, "bash"), (Shell::Zsh, "zsh"), (Shell::Fish, "fish")] {
        let place = directory.join(name);
        fs::create_dir_all(&place)?;
        clap_complete::generate_to(shell, &mut tree(), "coracle", &place)?;
    }
    Ok(())
}

/// The whole command line as one definition. The binary builds only the part in use.
fn tree() -> clap::Command {
    let verbs = cli::VERBS.iter().map(|verb| {
        let more = if verb.more.is_empty() { verb.about.to_owned() } else { verb.more.to_owned() };
        let usage = format!("coracle {} [options] {}", verb.name, verb.takes);
        let definition = (verb.definition)().name(verb.name).about(verb.about).long_about(more.replace('\n', " "));
        definition.override_usage(usage).after_long_help(after(verb))
    });
    cli::GlobalOnly::command()
        .name("coracle")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Open Container Initiative runtime")
        .long_about(
            "coracle runs applications packaged as OCI bundles: a directory with a config.json and a root filesystem. \
             It takes the command lines that runc takes.",
        )
        .disable_help_flag(false)
        .disable_version_flag(false)
        .disable_help_subcommand(true)
        .subcommands(verbs)
}

/// The text after the options of a man page.
fn after(verb: &cli::Verb) -> String {
    let mut text = "EXAMPLES\n".to_owned();
    for (line, what) in verb.examples {
        text.push_str(&format!("{line}\n    {what}\n"));
    }
    let status = match verb.name {
        "run" | "exec" | "restore" => {
            "The status of the program; 128 and its number for a signal; 1 (exec: 255) if coracle fails."
        }
        "check" => "0 without mistakes, and with a score below --fail-at; else 1.",
        "host" => "0 if containers can be made; else 1.",
        _ => "0, or 1 if coracle fails.",
    };
    text.push_str(&format!(
        "\nEXIT STATUS\n{status}\n\nFILES\n/run/coracle, $XDG_RUNTIME_DIR/coracle: the state of containers (--root)\n\n\
         ENVIRONMENT\nXDG_RUNTIME_DIR, NOTIFY_SOCKET, LISTEN_FDS\n\nSEE ALSO\ncoracle(1)\n"
    ));
    text
}
