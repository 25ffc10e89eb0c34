//! Arguments in, exit status out. This is the only place that prints an error.
#![cfg_attr(not(test), warn(unused_crate_dependencies))]

mod cli;
mod command;
mod flags;
mod foreground;
mod log;
mod relay;

use std::ffi::OsString;
use std::process::ExitCode;

use libcontainer::internals::chain_in_words;

use cli::{Command, NoCommand, Typed};

/// In a debug build, this allocator ends a forked child that uses the heap.
#[cfg(debug_assertions)]
#[global_allocator]
static HEAP: libcontainer::WatchedHeap = libcontainer::WatchedHeap;

fn main() -> ExitCode {
    libcontainer::internals::with_room(parse_and_run)
}

fn parse_and_run() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    match cli::parse(&args) {
        Ok(typed) => run_command(&typed, &args),
        Err(NoCommand::Answer(text)) => print_text(&text),
        Err(NoCommand::Usage(usage)) => {
            print_text(&usage.help);
            let log = log::Log::open(&usage.global);
            log.unwrap_or_else(|_| log::Log::on_standard_error(&usage.global)).error(&usage.said);
            ExitCode::from(usage.status)
        }
    }
}

fn print_text(text: &str) -> ExitCode {
    match command::print(text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::say(&format!("coracle: {}\n", chain_in_words(error.chain())));
            ExitCode::FAILURE
        }
    }
}

fn run_command(typed: &Typed, args: &[OsString]) -> ExitCode {
    libcontainer::internals::signals::reset_sigchld();
    libcontainer::internals::wait::signals_end_hooks();
    let log = match log::Log::open(&typed.global) {
        Ok(log) => log,
        Err(said) => {
            log::Log::on_standard_error(&typed.global).error(&said);
            return ExitCode::FAILURE;
        }
    };
    log.debug(|| format!("coracle {} called with {args:?}", env!("CARGO_PKG_VERSION")));
    match command::run(typed, &log) {
        Ok(status) => {
            log.worked();
            ExitCode::from(status)
        }
        Err(error) => {
            let (prefix, status) = match &typed.command {
                Command::Create(_) => ("coracle create failed: ", 1),
                Command::Run(_) => ("coracle run failed: ", 1),
                Command::Exec(_) => ("exec failed: ", 255),
                _ => ("", 1),
            };
            log.error(&format!("{prefix}{}", chain_in_words(error.chain())));
            // Ends by the same signal, so that its sender, and a shell between, see the reason.
            if let Some(signal) = libcontainer::internals::wait::heard() {
                let _ = libcontainer::internals::signals::end_by(signal);
            }
            ExitCode::from(status)
        }
    }
}
