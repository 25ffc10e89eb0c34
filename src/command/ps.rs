//! `ps`: shows the processes of a container.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, anyhow, bail};
use rustix::fs::MemfdFlags;

use super::session::{Session, print};
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

/// Runs ps(1), and keeps only the lines of the container's processes.
fn table(pids: &[i32], options: &[String]) -> Result<String> {
    let default = ["-ef".to_owned()];
    let options = if options.is_empty() { &default[..] } else { options };
    let (status, out, err) = output(options).context("run ps")?;
    if !status.success() {
        bail!("ps {}: {}", options.join(" "), String::from_utf8_lossy(&err).trim());
    }
    filter(&String::from_utf8_lossy(&out), pids)
}

/// Like std's `output()`, which panics if poll(2) or read(2) fails. The errors go to a file in memory, so that only one
/// pipe must be read.
fn output(options: &[String]) -> io::Result<(ExitStatus, Vec<u8>, Vec<u8>)> {
    let mut errors = File::from(rustix::fs::memfd_create("ps", MemfdFlags::CLOEXEC)?);
    let mut child = Command::new("ps").args(options).stdout(Stdio::piped()).stderr(errors.try_clone()?).spawn()?;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_end(&mut out)?;
    }
    let status = child.wait()?;
    errors.rewind()?;
    errors.read_to_end(&mut err)?;
    Ok((status, out, err))
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
