//! hack/pages DIR: writes the man pages to DIR/man1, and the completions to DIR/bash, DIR/zsh and DIR/fish. They come
//! from the same definitions that parse the command line.
#![allow(dead_code, missing_docs)] // the binary uses the rest of these files

#[path = "../src/cli/mod.rs"]
mod cli;
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
        (verb.definition)().name(verb.name).about(verb.about).long_about(more).override_usage(usage)
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
