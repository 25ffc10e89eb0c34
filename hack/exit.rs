//! How the programs of hack/ end: 0 when nothing was found, 1 when something was, 2 when they could not look.

use std::process::ExitCode;

/// The exit code of the program `name`, which has found nothing (true) or something (false).
pub fn code(name: &str, done: anyhow::Result<bool>) -> ExitCode {
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{name}: {error:#}");
            ExitCode::from(2)
        }
    }
}
