//! The exit codes of the programs of hack/: 0 without findings, 1 with findings, 2 if the program could not run.

use std::process::ExitCode;

/// The exit code of the program `name`: true means no finding, false a finding.
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
