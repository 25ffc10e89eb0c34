//! Arguments in, exit code out; the only place that prints an error.

mod cli;
mod command;
mod log;

use std::io::Write;
use std::process::ExitCode;

use cli::{Command, Stop};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    let typed = match cli::parse(&args) {
        Ok(typed) => typed,
        Err(Stop::Answer(text)) => {
            // a reader that has closed the pipe has read enough
            let _ = std::io::stdout().write_all(text.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(Stop::Usage(message, status)) => {
            eprintln!("{message}");
            return ExitCode::from(status);
        }
    };
    let log = log::Log::open(&typed.global);
    match command::run(&typed, &log) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            let (prefix, status) = match &typed.command {
                Command::Create(_) => ("coracle create failed: ", 1),
                Command::Run(_) => ("coracle run failed: ", 1),
                Command::Exec(_) => ("exec failed: ", 255),
                _ => ("", 1),
            };
            log.error(&format!("{prefix}{error:#}"));
            ExitCode::from(status)
        }
    }
}
