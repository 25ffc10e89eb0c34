//! `ps`: the processes of a container.

use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};

use super::{Session, print};
use crate::cli::Ps;

pub fn run(session: &Session<'_>, args: &Ps) -> Result<()> {
    let container = session.root()?.load(&args.id)?;
    let pids = container.processes()?;
    let text = match args.format.as_str() {
        "json" => format!("{}\n", serde_json::to_string(&pids)?),
        "table" => table(&pids, &args.options)?,
        other => bail!("invalid format option: {other:?} (expected one of table, json)"),
    };
    print(&text)
}

/// ps(1) knows how to show processes; of what it says, only the lines of ours.
fn table(pids: &[i32], options: &[String]) -> Result<String> {
    let default = ["-ef".to_owned()];
    let options = if options.is_empty() { &default[..] } else { options };
    let output = Command::new("ps").args(options).output().context("run ps")?;
    if !output.status.success() {
        bail!("ps {}: {}", options.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    filter(&String::from_utf8_lossy(&output.stdout), pids)
}

fn filter(text: &str, pids: &[i32]) -> Result<String> {
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default();
    let column = header.split_whitespace().position(|word| word == "PID");
    let column = column.ok_or_else(|| anyhow!("couldn't find PID field in ps output"))?;
    let ours = lines.filter(|line| {
        let pid = line.split_whitespace().nth(column).and_then(|pid| pid.parse::<i32>().ok());
        pid.is_some_and(|pid| pids.contains(&pid))
    });
    Ok(std::iter::once(header).chain(ours).map(|line| format!("{line}\n")).collect())
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_our_lines_are_shown() {
        let text = "UID PID PPID\nroot 1 0\nroot 22 1\n";
        assert_eq!(super::filter(text, &[22]).unwrap(), "UID PID PPID\nroot 22 1\n");
        assert!(super::filter("A B\n1 2\n", &[1]).is_err());
    }
}
