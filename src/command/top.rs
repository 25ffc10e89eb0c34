//! `top`: what containers use, one line for each, drawn again at every interval. The screen is the terminal's alternate one, and
//! the terminal has its own settings again at the end.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use libcontainer::internals::wait;
use libcontainer::{Container, Status};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use super::flag_values::duration;
use super::session::{Session, print};
use super::usage::{Usage, table};
use crate::cli::Top;

/// The column to sort by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Cpu,
    Memory,
    Processes,
    Id,
}

impl Sort {
    fn named(name: &str) -> Result<Sort> {
        Ok(match name {
            "cpu" => Sort::Cpu,
            "memory" => Sort::Memory,
            "processes" => Sort::Processes,
            "id" => Sort::Id,
            other => bail!("--sort: unknown value {other:?} (expected one of cpu, memory, processes, id)"),
        })
    }

    fn of_key(key: u8) -> Option<Sort> {
        Some(match key {
            b'c' => Sort::Cpu,
            b'm' => Sort::Memory,
            b'p' => Sort::Processes,
            b'i' => Sort::Id,
            _ => return None,
        })
    }
}

pub fn run(session: &Session<'_>, args: &Top) -> Result<()> {
    let mut sort = Sort::named(&args.sort)?;
    let interval = duration("--interval", &args.interval)?;
    if args.once || !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        let mut all = look(session, &args.ids)?;
        let shares: Vec<f64> = vec![0.0; all.len()];
        sorted(&mut all, &shares, sort);
        return print(&table(&all, None));
    }
    // ORDER: before the screen. A signal that asks us to end then ends the wait for a key, and the screen is closed.
    let _listening = wait::listen()?;
    let screen = Screen::begin()?;
    let mut before = HashMap::new();
    let mut looked = Instant::now();
    loop {
        let mut all = look(session, &args.ids)?;
        let past = looked.elapsed().as_secs_f64().max(0.001);
        looked = Instant::now();
        let share = |one: &Usage| {
            before
                .get(&one.id)
                .map_or(0.0, |earlier: &Duration| one.cpu.saturating_sub(*earlier).as_secs_f64() / past * 100.0)
        };
        let shares: Vec<f64> = all.iter().map(share).collect();
        before = all.iter().map(|one| (one.id.clone(), one.cpu)).collect();
        let shares = sorted(&mut all, &shares, sort);
        screen.draw(&format!("{}\nc m p i: sort   q: end\n", table(&all, Some(&shares)).trim_end()))?;
        match screen.key(interval)? {
            Some(b'q' | 3 | 4) => return Ok(()),
            Some(key) => sort = Sort::of_key(key).unwrap_or(sort),
            None => {}
        }
    }
}

/// The containers that run, all or those that are named.
fn look(session: &Session<'_>, ids: &[String]) -> Result<Vec<Usage>> {
    let root = session.root()?;
    let mut all: Vec<Container> = Vec::new();
    if ids.is_empty() {
        // one that ends meanwhile is not there the next time
        all.extend(
            root.list()?.into_iter().flatten().filter(|(_, status)| *status != Status::Stopped).map(|(one, _)| one),
        );
    } else {
        for id in ids {
            all.push(root.load(id)?);
        }
    }
    Ok(all.iter().map(Usage::of).collect())
}

/// Sorts the lines, and returns their shares in the same order.
fn sorted(all: &mut Vec<Usage>, shares: &[f64], sort: Sort) -> Vec<f64> {
    let mut lines: Vec<(f64, Usage)> = shares.iter().copied().zip(all.drain(..)).collect();
    lines.sort_by(|(share, a), (other, b)| {
        let order = match sort {
            Sort::Cpu => other.total_cmp(share).then_with(|| b.cpu.cmp(&a.cpu)),
            Sort::Memory => b.memory.cmp(&a.memory),
            Sort::Processes => b.processes.cmp(&a.processes),
            Sort::Id => std::cmp::Ordering::Equal,
        };
        order.then_with(|| a.id.cmp(&b.id))
    });
    let (shares, sorted): (Vec<f64>, Vec<Usage>) = lines.into_iter().unzip();
    *all = sorted;
    shares
}

/// The terminal while it shows the table.
struct Screen {
    before: Termios,
}

impl Screen {
    fn begin() -> Result<Screen> {
        let before = tcgetattr(std::io::stdin())?;
        let mut raw = before.clone();
        raw.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
        raw.special_codes[SpecialCodeIndex::VMIN] = 0;
        tcsetattr(std::io::stdin(), OptionalActions::Now, &raw)?;
        let screen = Screen { before };
        // the alternate screen, without a cursor
        print("\x1b[?1049h\x1b[?25l")?;
        Ok(screen)
    }

    /// As many lines, and as much of each, as there is room for.
    fn draw(&self, text: &str) -> Result<()> {
        // a terminal without a size has zeros
        let size = tcgetwinsize(std::io::stdout()).ok().filter(|size| size.ws_row > 0 && size.ws_col > 0);
        let (rows, columns) = size.map_or((24, 80), |size| (usize::from(size.ws_row), usize::from(size.ws_col)));
        let cut = |line: &str| line.chars().filter(|c| !c.is_control()).take(columns.max(1)).collect::<String>();
        let lines: Vec<String> = text.lines().take(rows.max(1)).map(cut).collect();
        print(&format!("\x1b[H\x1b[2J{}", lines.join("\r\n")))
    }

    /// The next key, or None after that time.
    fn key(&self, time: Duration) -> Result<Option<u8>> {
        if !wait::readable(std::io::stdin().as_fd(), Some(Instant::now() + time)).map_err(libcontainer::Error::from)? {
            return Ok(None);
        }
        let mut key = [0];
        let length = rustix::io::read(std::io::stdin(), &mut key)?;
        // the end of the input ends it
        Ok(Some(if length == 0 { b'q' } else { key[0] }))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = print("\x1b[?25h\x1b[?1049l");
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_sorted_by_each_column() {
        let one = |id: &str, memory, processes| Usage { id: id.to_owned(), memory, processes, ..Usage::default() };
        for (sort, expected) in [(Sort::Cpu, "bca"), (Sort::Memory, "acb"), (Sort::Processes, "cba"), (Sort::Id, "abc")]
        {
            let mut all = vec![one("a", 9, 1), one("b", 1, 2), one("c", 5, 3)];
            let shares = sorted(&mut all, &[0.0, 50.0, 10.0], sort);
            assert_eq!(all.iter().map(|one| one.id.as_str()).collect::<String>(), expected, "{sort:?}");
            assert_eq!(shares.iter().sum::<f64>(), 60.0);
        }
        assert_eq!(Sort::of_key(b'm'), Some(Sort::Memory));
        assert!(Sort::named("x").is_err());
    }
}
