//! hack/fuzz --run: runs configs in a sandbox, and does not only plan them. For every config: each command ends, a
//! failure is one record, nothing is left, and nothing panics.

mod config;
#[path = "../exit.rs"]
mod exit;
mod judge;
mod sandbox;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use config::{Bases, Numbers};
use sandbox::Sandbox;

const USAGE: &str = "usage: sample COUNT SEED JOBS [CONFIG...]   (hack/fuzz --run makes it; RUNTIME and WORK are set)";

/// The number of cases in one sandbox.
const BATCH: u64 = 250;

/// The run ends after this many findings.
const ENOUGH: usize = 40;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.first().map(String::as_str) {
        Some("enter") => sandbox::enter(&arguments[1..]).map(|status| status.success()),
        Some("worker") => worker(&arguments[1..]).map(|()| true),
        _ => drive(&arguments),
    };
    exit::code("sample", done)
}

/// The cases `from`, `from + step`, and so on, below `to`.
#[derive(Clone, Copy)]
struct Share {
    seed: u64,
    from: u64,
    step: u64,
    to: u64,
}

/// Shares the cases among sandboxes, and counts the results.
fn drive(arguments: &[String]) -> Result<bool> {
    let [count, seed, jobs, files @ ..] = arguments else { bail!("{USAGE}") };
    let (count, seed, jobs) = (count.parse::<u64>()?, seed.parse()?, jobs.parse::<u64>()?);
    let show = std::env::var_os("SAMPLE_SHOW").is_some();
    let from = std::env::var("SAMPLE_FROM").ok().map(|text| text.parse::<u64>()).transpose()?.unwrap_or(0);
    let work = PathBuf::from(std::env::var_os("WORK").context(USAGE)?);
    let runtime = PathBuf::from(std::env::var_os("RUNTIME").context(USAGE)?);
    prepare(&work, &runtime, files)?;
    let (sender, heard) = std::sync::mpsc::channel();
    let mut threads = Vec::new();
    for job in 0..jobs {
        let (sender, work) = (sender.clone(), work.clone());
        let share = Share { seed, from: from + job, step: jobs, to: from + count };
        threads.push(std::thread::spawn(move || run_share(&work, share, &sender)));
    }
    drop(sender);
    let (mut cases, mut findings, mut ends) = (0, 0, BTreeMap::<String, usize>::new());
    for line in heard {
        let words: Vec<&str> = line.split('\t').collect();
        match words.as_slice() {
            ["case", number, end, why] => {
                cases += 1;
                if show && !why.is_empty() {
                    println!("{number}: {end}: {why}");
                }
                *ends.entry((*end).to_owned()).or_default() += 1;
            }
            ["finding", number, text, config] => {
                findings += 1;
                println!("{text}\n  again: SAMPLE_FROM={number} hack/fuzz --run 1 --seed {seed}\n  {config}");
            }
            _ => println!("{line}"),
        }
    }
    for thread in threads {
        thread.join().map_err(|_| anyhow::anyhow!("a thread has panicked"))??;
    }
    let ends: Vec<String> = ends.iter().map(|(end, count)| format!("{end} {count}")).collect();
    println!("{}", ends.join(", "));
    println!("{cases} configs run in a sandbox, {findings} findings (seed {seed})");
    Ok(findings == 0)
}

/// Puts what the sandbox needs into `work`: this program, the runtime, the containers' program, and the first configs.
fn prepare(work: &Path, runtime: &Path, files: &[String]) -> Result<()> {
    fs::copy(std::env::current_exe()?, work.join("sample"))?;
    fs::copy(runtime, work.join("coracle")).context("RUNTIME")?;
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("hack/sample/program.c");
    let built = Command::new("cc")
        .args(["-static", "-O1", "-o"])
        .arg(work.join("program"))
        .arg(source)
        .status()
        .context("cc")?;
    ensure!(built.success(), "program.c does not compile");
    let documents = files.iter().filter_map(|file| serde_json::from_slice::<Value>(&fs::read(file).ok()?).ok());
    let documents = documents.filter(|document| document.get("ociVersion").is_some());
    let bundle = work.join("checked");
    fs::create_dir_all(bundle.join("rootfs"))?;
    let mut good = Vec::new();
    let mut others = Vec::new();
    for document in documents {
        fs::write(bundle.join("config.json"), serde_json::to_vec(&document)?)?;
        let checked = Command::new(runtime).args(["check", "--bundle"]).arg(&bundle).output()?;
        if checked.status.success() { good.push(document) } else { others.push(document) }
    }
    ensure!(!good.is_empty(), "no config to begin with");
    let bases = Bases { good: good.len(), all: good.into_iter().chain(others).collect() };
    println!("{} configs to begin with, {} of them good", bases.all.len(), bases.good);
    fs::write(work.join("bases.json"), serde_json::to_vec(&bases)?)?;
    sandbox::hand_over(work)
}

/// Runs one sandbox after the other. Each finding ends a sandbox, because it may contain what the case has left.
fn run_share(work: &Path, mut share: Share, sender: &std::sync::mpsc::Sender<String>) -> Result<()> {
    let mut findings = 0;
    while share.from < share.to && findings < ENOUGH {
        let to = share.to.min(share.from + BATCH * share.step);
        let arguments = [share.seed, share.from, share.step, to].map(|number| number.to_string());
        let mut sandbox = Sandbox::begin(work, &arguments)?;
        let begun = share.from;
        let mut ended = false;
        for line in BufReader::new(sandbox.out()?).lines().map_while(Result::ok) {
            let mut words = line.split('\t');
            match (words.next(), words.next().and_then(|number| number.parse::<u64>().ok())) {
                (Some("case"), Some(number)) => share.from = number + share.step,
                (Some("finding"), _) => {
                    findings += 1;
                    ended = true;
                }
                _ => {}
            }
            let _ = sender.send(line);
        }
        let status = sandbox.end()?;
        ensure!(share.from != begun, "case {begun}: the sandbox has ended: {status}");
        if share.from < to && !ended {
            let _ = sender.send(format!("finding\t{}\tthe sandbox has ended: {status}\t", share.from));
            findings += 1;
            share.from += share.step;
        }
    }
    Ok(())
}

/// The sandbox's first process. It runs its share up to the first finding.
fn worker(arguments: &[String]) -> Result<()> {
    let [seed, from, step, to] = arguments else { bail!("{USAGE}") };
    let share = Share { seed: seed.parse()?, from: from.parse()?, step: step.parse()?, to: to.parse()? };
    sandbox::furnish()?;
    let bases: Bases = serde_json::from_slice(&fs::read("/bases.json")?)?;
    let before = judge::Before::look()?;
    let mut number = share.from;
    while number < share.to {
        let mut numbers = Numbers::new(share.seed, number);
        let (verdict, config) = judge::judge(&before, &bases, &mut numbers);
        println!("case\t{number}\t{}\t{}", verdict.end, verdict.why.replace(['\n', '\t'], " "));
        for text in &verdict.findings {
            println!("finding\t{number}\t{}\t{config}", text.replace(['\n', '\t'], " "));
        }
        if !verdict.findings.is_empty() {
            break;
        }
        number += share.step;
    }
    Ok(())
}
