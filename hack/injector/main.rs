//! hack/faults: every system call of the runtime, init and the bridge fails once with each error, and the process is
//! killed once at each. In every case: one message, nothing left, no process that waits without end, and no container with
//! less protection than requested.

mod bundle;
#[path = "../exit.rs"]
mod exit;
mod judge;
mod operation;
mod trace;
mod watch;
mod worker;

use std::collections::{BTreeMap, HashSet};
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::signal::{Signal, raise};

use judge::{ROLES, Role, Untouched};
use operation::{OPERATIONS, Operation};
use trace::{Call, Fault};
use worker::Worker;

/// The errors that calls return, and the ways to kill a process.
const FAULTS: [(&str, Fault); 11] = [
    ("EIO", Fault::Errno(Errno::EIO as i32)),
    ("SIGKILL", Fault::Kill),
    ("EPERM", Fault::Errno(Errno::EPERM as i32)),
    ("ENOSYS", Fault::Errno(Errno::ENOSYS as i32)),
    ("EINVAL", Fault::Errno(Errno::EINVAL as i32)),
    ("EMFILE", Fault::Errno(Errno::EMFILE as i32)),
    ("ENOMEM", Fault::Errno(Errno::ENOMEM as i32)),
    ("EINTR", Fault::Errno(Errno::EINTR as i32)),
    ("EAGAIN", Fault::Errno(Errno::EAGAIN as i32)),
    ("ENOSPC", Fault::Errno(Errno::ENOSPC as i32)),
    ("SIGKILL-runtime", Fault::KillRuntime),
];

/// The short selection has one case of this many.
const SHORT: u64 = 30;

const USAGE: &str = "usage: hack/faults [--short | --one-of N] [--every] [--count] [--operation OP] [--bundle B] [--role runtime|init|bridge|hook] [--call NAME#N]
                   [--errno E] [--jobs N] [--journal FILE]
  --one-of selects an even sample, one case of N. Each option that selects may be given more than once. --journal notes what was done and found; what FILE has already is not
  done again, so that a run can be broken off. RUNTIME names another binary. --every tries each call with each error, which takes
  hours; without it, cases that must end alike are tried once. --count prints the numbers and runs nothing.";

/// The selected cases. An empty list means all.
#[derive(Clone, Debug)]
struct Options {
    /// An even sample has one case of this many.
    one_of: u64,
    every: bool,
    count: bool,
    operations: Vec<String>,
    bundles: Vec<String>,
    roles: Vec<String>,
    calls: Vec<String>,
    errnos: Vec<String>,
    jobs: usize,
    journal: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.first().map(String::as_str) {
        Some("hold") => hold(&arguments[1..]),
        Some("worker") => worker(&arguments[1..]).map(|()| true),
        _ => drive(&arguments),
    };
    exit::code("faults", done)
}

/// Stops, so that the process can be traced, and then becomes the command. A descriptor stays open, as with a careless
/// engine.
fn hold(command: &[String]) -> Result<bool> {
    let leaked = nix::unistd::dup(File::open("/")?)?;
    std::mem::forget(leaked);
    raise(Signal::SIGSTOP)?;
    let command: Vec<CString> = command.iter().map(|word| CString::new(word.as_str())).collect::<Result<_, _>>()?;
    nix::unistd::execv(command.first().context("no command")?, &command)?;
    Ok(true)
}

fn options(arguments: &[String]) -> Result<Options> {
    let mut options = Options {
        one_of: 1,
        every: false,
        count: false,
        operations: Vec::new(),
        bundles: Vec::new(),
        roles: Vec::new(),
        calls: Vec::new(),
        errnos: Vec::new(),
        jobs: 1,
        journal: None,
    };
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        if word == "--short" {
            options.one_of = SHORT;
            continue;
        }
        if word == "--every" {
            options.every = true;
            continue;
        }
        if word == "--count" {
            options.count = true;
            continue;
        }
        let Some(value) = words.next() else { bail!("{USAGE}") };
        match word.as_str() {
            "--operation" => options.operations.push(known(value, OPERATIONS.map(|one| one.0).as_slice())?),
            "--bundle" => options.bundles.push(known(value, &bundle::BUNDLES)?),
            "--role" => options.roles.push(known(value, ROLES.map(|one| one.0).as_slice())?),
            "--call" => options.calls.push(value.clone()),
            "--errno" => options.errnos.push(known(value, FAULTS.map(|one| one.0).as_slice())?),
            "--one-of" => options.one_of = value.parse().context("--one-of")?,
            "--jobs" => options.jobs = value.parse().context("--jobs")?,
            "--journal" => options.journal = Some(value.into()),
            _ => bail!("{USAGE}"),
        }
    }
    ensure!(options.jobs > 0, "--jobs: at least one");
    ensure!(options.one_of > 0, "--one-of: at least one");
    Ok(options)
}

fn known(value: &str, all: &[&str]) -> Result<String> {
    ensure!(all.contains(&value), "unknown value {value:?} (expected one of {})", all.join(", "));
    Ok(value.to_owned())
}

fn chosen(list: &[String], name: &str) -> bool {
    list.is_empty() || list.iter().any(|one| one == name)
}

/// Shares the cases among workers, each in new pid and mount namespaces. Prints their findings.
fn drive(arguments: &[String]) -> Result<bool> {
    let options = options(arguments)?;
    let set = |name: &str| std::env::var(name).with_context(|| format!("{name}: not set; hack/faults does it"));
    let (runtime, work) = (set("RUNTIME")?, PathBuf::from(set("WORK")?));
    let mut workers = Vec::new();
    for job in 0..options.jobs {
        let exe = std::env::current_exe()?;
        let mut worker = Command::new("unshare")
            .args(["--pid", "--fork", "--kill-child", "--mount", "--mount-proc"])
            .arg(exe)
            .args(["worker", &job.to_string(), &work.join(job.to_string()).display().to_string(), &runtime])
            .args(arguments)
            .env("RUST_BACKTRACE", "0")
            .stdout(Stdio::piped())
            .spawn()
            .context("unshare")?;
        let lines = BufReader::new(worker.stdout.take().context("no pipe")?);
        workers.push((worker, lines));
    }
    let mut journal = match &options.journal {
        Some(path) => Some(OpenOptions::new().create(true).append(true).open(path)?),
        None => None,
    };
    let mut whole = true;
    let (sender, heard) = std::sync::mpsc::channel();
    let mut readers = Vec::new();
    for (worker, lines) in workers {
        let sender = sender.clone();
        readers.push(std::thread::spawn(move || {
            let mut worker = worker;
            for line in lines.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
            worker.wait().is_ok_and(|status| status.success())
        }));
    }
    drop(sender);
    let mut counts = Counts::default();
    for line in heard {
        if let Some(journal) = &mut journal {
            writeln!(journal, "{line}")?;
        }
        counts.take(&line, &options);
    }
    for reader in readers {
        whole &= reader.join().unwrap_or(false);
    }
    counts.print();
    ensure!(whole, "a worker ended before its work was done");
    Ok(counts.findings == 0)
}

/// The messages of the workers.
#[derive(Default)]
struct Counts {
    cases: usize,
    findings: usize,
    ends: BTreeMap<String, usize>,
    lines: BTreeMap<(String, String), (usize, usize)>,
    errnos: BTreeMap<String, usize>,
}

impl Counts {
    fn take(&mut self, line: &str, options: &Options) {
        let words: Vec<&str> = line.split('\t').collect();
        match words.as_slice() {
            ["done", operation, bundle, _, _, errno, end] => {
                self.cases += 1;
                *self.ends.entry((*end).to_owned()).or_default() += 1;
                *self.errnos.entry((*errno).to_owned()).or_default() += 1;
                self.lines.entry(((*operation).to_owned(), (*bundle).to_owned())).or_default().0 += 1;
            }
            ["finding", operation, bundle, role, call, errno, kind, text] => {
                self.findings += 1;
                self.lines.entry(((*operation).to_owned(), (*bundle).to_owned())).or_default().1 += 1;
                println!("{kind}: {operation} {bundle} {role} {call} {errno}: {text}");
                println!(
                    "  again: hack/faults --operation {operation} --bundle {bundle} --role {role} --call '{call}' --errno {errno}"
                );
            }
            _ if options.journal.is_none() => println!("{line}"),
            _ => {}
        }
    }

    fn print(&self) {
        for ((operation, bundle), (cases, findings)) in &self.lines {
            println!("{operation:8} {bundle:8} {cases:6} cases {findings:5} findings");
        }
        let list = |map: &BTreeMap<String, usize>| {
            map.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
        };
        println!("{}", list(&self.errnos));
        println!("{}", list(&self.ends));
        println!("{} cases, {} findings", self.cases, self.findings);
    }
}

/// The first process of a pid namespace. It makes a directory, and tries its share.
fn worker(arguments: &[String]) -> Result<()> {
    let [job, work, runtime, rest @ ..] = arguments else { bail!("{USAGE}") };
    let (job, options) = (job.parse::<usize>()?, options(rest)?);
    // Processes of other tests are in other pid namespaces. The names of containers must differ all the same.
    let name = Path::new(work).parent().and_then(|parent| parent.extension()).unwrap_or_default();
    let id = format!("faults-{}-{job}", name.to_string_lossy());
    let worker = Worker::new(Path::new(work), Path::new(runtime), &id)?;
    let mut done = HashSet::new();
    if let Some(path) = &options.journal {
        let text = fs::read_to_string(path).unwrap_or_default();
        done.extend(text.lines().filter_map(|line| Some(line.strip_prefix("done\t")?.rsplit_once('\t')?.0.to_owned())));
    }
    let mut tried = HashSet::new();
    for (name, operation) in OPERATIONS {
        for bundle in bundle::BUNDLES {
            if chosen(&options.operations, name) && chosen(&options.bundles, bundle) {
                sweep(&worker, &options, job, (name, operation), bundle, &done, &mut tried)
                    .with_context(|| format!("{name} of {bundle}"))?;
            }
        }
    }
    Ok(())
}

fn sweep(
    worker: &Worker,
    options: &Options,
    job: usize,
    (operation_name, operation): (&str, Operation),
    bundle: &str,
    done: &HashSet<String>,
    tried: &mut HashSet<Site>,
) -> Result<()> {
    let untouched = judge::untouched(worker, operation, bundle)?;
    let sites = sites(&untouched);
    for (errno, fault) in FAULTS {
        for (n, (role, seen)) in untouched.calls.iter().enumerate() {
            let role_name = ROLES.iter().find(|one| one.1 == *role).map_or("", |one| one.0);
            let call = written(&seen.call);
            let case = format!("{operation_name}\t{bundle}\t{role_name}\t{call}\t{errno}");
            let (others, number) = (number(&format!("{operation_name}{bundle}{role_name}{call}")), number(&case));
            let selected = chosen(&options.roles, role_name)
                && (chosen(&options.calls, &call) || options.calls.contains(&seen.call.name))
                && chosen(&options.errnos, errno)
                && !(matches!(fault, Fault::Errno(_)) && judge::NEVER_FAIL.contains(&seen.call.name.as_str()))
                // At the runtime's own calls, SIGKILL to the caller is the same case.
                && (fault != Fault::KillRuntime || *role != Role::Runtime)
                && number % options.one_of == 0
                && (options.every || !options.calls.is_empty() || !tried.contains(&sites[n]) && differs(&sites, n, fault))
                && others % options.jobs as u64 == job as u64
                && !done.contains(&case);
            if !selected {
                continue;
            }
            if options.count {
                println!("done\t{case}\tcounted");
                continue;
            }
            let verdict = judge::judge(worker, &untouched, &seen.call, fault)?;
            for (kind, text) in &verdict.findings {
                let text = text.replace(['\n', '\t'], " ");
                println!("finding\t{case}\t{kind}\t{}: {text}", verdict.hit.replace(['\n', '\t'], " "));
            }
            println!("done\t{case}\t{}", verdict.end);
        }
    }
    tried.extend(sites);
    Ok(())
}

/// Calls that wait for another process. Only these are interrupted, or return that they would block.
const WAIT: [&str; 20] = [
    "accept4",
    "clock_nanosleep",
    "connect",
    "epoll_wait",
    "fcntl",
    "flock",
    "futex",
    "nanosleep",
    "openat",
    "openat2",
    "poll",
    "ppoll",
    "read",
    "recvfrom",
    "recvmsg",
    "sendmsg",
    "sendto",
    "wait4",
    "waitid",
    "write",
];

/// A site in the code: the operation and bundle whose errors it handles, the process, the call, and its callers.
type Site = (&'static str, Operation, Role, String, u64);

/// The sites of all calls. `run`, `run -d` and `create` make a container with the same code. All bundles without a
/// user namespace share their sites.
fn sites(untouched: &Untouched) -> Vec<Site> {
    let operation = if untouched.operation.makes() { Operation::Run } else { untouched.operation };
    let bundle = if untouched.bundle == "userns" { "userns" } else { "" };
    untouched.calls.iter().map(|(role, seen)| (bundle, operation, *role, seen.call.name.clone(), seen.site)).collect()
}

/// Whether the fault can have another result than one that is tried. EIO is tried at each call of a site. SIGKILL, and
/// the errors that the code distinguishes, are tried at the first and the last call. EINTR and EAGAIN are tried only at
/// calls that wait. The code does not distinguish EMFILE, ENOMEM and ENOSPC from EIO.
fn differs(sites: &[Site], n: usize, fault: Fault) -> bool {
    let same = || sites.iter().enumerate().filter(|(_, site)| **site == sites[n]).map(|(n, _)| n);
    let ends = || same().next() == Some(n) || same().next_back() == Some(n);
    match fault {
        Fault::Errno(errno) => match Errno::from_raw(errno) {
            Errno::EIO => true,
            Errno::EMFILE | Errno::ENOMEM | Errno::ENOSPC => false,
            Errno::EINTR | Errno::EAGAIN => WAIT.contains(&sites[n].3.as_str()) && ends(),
            _ => ends(),
        },
        Fault::Kill | Fault::KillRuntime => ends(),
    }
}

/// The form of `--call`. A call of a further process of the same role has that process's number, too.
fn written(call: &Call) -> String {
    match call.process {
        0 | 1 => format!("{}#{}", call.name, call.nth),
        number => format!("{}#{}@{number}", call.name, call.nth),
    }
}

/// A number that is always the same for the same text (FNV-1a). So the selection does not change with other cases.
fn number(text: &str) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325_u64;
    let hash = text.bytes().fold(start, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    hash ^ (hash >> 29)
}
