//! The injector: runs a command under ptrace(2). One system call fails, or the process is killed at it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::IoSliceMut;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use libseccomp::ScmpSyscall;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// The action at the chosen call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The call is not made, and returns this error.
    Errno(i32),
    /// SIGKILL to the process that makes the call.
    Kill,
    /// SIGKILL to the runtime process, while another process is about to make the call.
    KillRuntime,
}

/// The `nth` call of `name` (from 1) by the process number `process` (0: the runtime).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    pub process: usize,
    pub name: String,
    pub nth: usize,
}

/// A recorded call, its first argument, and its site in the code: the return addresses on the stack, as a number.
#[derive(Clone, Debug)]
pub struct Seen {
    pub call: Call,
    pub first: u64,
    pub site: u64,
}

/// How a process was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The runtime, or a process that existed before.
    First,
    /// By fork or clone in the process with this number.
    Child(usize),
    /// By clone with CLONE_PARENT in the process with this number.
    Sibling(usize),
    /// By vfork, to become another program.
    Spawned,
}

/// The result.
#[derive(Debug)]
pub struct Report {
    /// The exit status of the command, or 128 and the signal.
    pub code: i32,
    pub signal: Option<i32>,
    /// The chosen call, if the command made it.
    pub hit: Option<String>,
    /// All calls up to the first execve of each process, if they were recorded.
    pub calls: Vec<Seen>,
    pub origins: Vec<Origin>,
}

/// The purpose of the run.
#[derive(Clone, Debug)]
pub enum Aim {
    /// Record all calls, without a fault.
    Record,
    /// Let one call meet the fault.
    Hit(Call, Fault),
}

/// A command, and where its output goes.
pub struct Traced<'a> {
    pub command: &'a [String],
    pub directory: &'a Path,
    pub out: &'a File,
    pub err: &'a File,
    /// A process that exists already, and is number 1: the init that waits for `start`.
    pub waiting: Option<Pid>,
}

struct Process {
    number: usize,
    /// True if the process has become another program, or does not matter.
    done: bool,
    /// The result that the current call must return.
    pending: Option<i32>,
    counts: BTreeMap<i64, usize>,
}

struct Tracer {
    aim: Aim,
    root: Pid,
    processes: BTreeMap<Pid, Process>,
    /// Processes that have stopped before their parent's event was seen.
    early: BTreeSet<Pid>,
    /// The runtime's code. Init and the bridge are copies of the runtime, and have it at the same address.
    code: Code,
    report: Report,
}

/// Runs the command through `hold` (this program, which stops before its exec), and does what `aim` says.
///
/// Call this in a thread of its own: when the thread ends, it detaches from all processes that are still traced.
pub fn run(traced: &Traced<'_>, aim: Aim) -> Result<Report> {
    let exe = std::env::current_exe()?;
    let child = Command::new(exe)
        .arg("hold")
        .args(traced.command)
        .current_dir(traced.directory)
        .stdin(Stdio::null())
        .stdout(traced.out.try_clone()?)
        .stderr(traced.err.try_clone()?)
        .spawn()?;
    let root = Pid::from_raw(i32::try_from(child.id())?);
    match waitpid(root, Some(WaitPidFlag::WUNTRACED))? {
        WaitStatus::Stopped(..) => {}
        other => bail!("the command did not wait to be traced: {other:?}"),
    }
    let options = Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEEXEC;
    ptrace::seize(root, options).context("ptrace")?;
    let report = Report { code: 0, signal: None, hit: None, calls: Vec::new(), origins: Vec::new() };
    let mut tracer =
        Tracer { aim, root, processes: BTreeMap::new(), early: BTreeSet::new(), code: Code::default(), report };
    // The calls before the exec are our own.
    tracer.add(root, Origin::First, true);
    if let Some(waiting) = traced.waiting {
        ptrace::seize(waiting, options).context("ptrace of the waiting init")?;
        tracer.add(waiting, Origin::First, false);
        ptrace::interrupt(waiting)?;
        tracer.code = Code::of(waiting);
    }
    kill(root, Signal::SIGCONT)?;
    tracer.watch()?;
    Ok(tracer.report)
}

impl Tracer {
    fn add(&mut self, pid: Pid, how: Origin, done: bool) {
        let number = self.report.origins.len();
        self.report.origins.push(how);
        self.processes.insert(pid, Process { number, done, pending: None, counts: BTreeMap::new() });
    }

    /// Runs until the command has ended.
    fn watch(&mut self) -> Result<()> {
        // Only the children of this thread.
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        loop {
            let status = waitpid(None, Some(flags)).context("wait")?;
            match status {
                WaitStatus::Exited(pid, code) if pid == self.root => {
                    self.report.code = code;
                    return Ok(());
                }
                WaitStatus::Signaled(pid, signal, _) if pid == self.root => {
                    self.report.signal = Some(signal as i32);
                    self.report.code = 128 + signal as i32;
                    return Ok(());
                }
                WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..) => {
                    self.processes.remove(&pid);
                }
                WaitStatus::PtraceSyscall(pid) => self.at_call(pid),
                WaitStatus::PtraceEvent(pid, signal, event) => self.at_event(pid, signal, event),
                WaitStatus::Stopped(pid, signal) => self.go(pid, Some(signal)),
                WaitStatus::Continued(_) | WaitStatus::StillAlive => {}
            }
        }
    }

    fn at_event(&mut self, pid: Pid, signal: Signal, event: i32) {
        match event {
            libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK | libc::PTRACE_EVENT_CLONE => {
                let child = ptrace::getevent(pid).ok().and_then(|pid| i32::try_from(pid).ok());
                if let (Some(child), Some(parent)) = (child, self.processes.get(&pid).map(|process| process.number)) {
                    let child = Pid::from_raw(child);
                    let how = if event == libc::PTRACE_EVENT_VFORK {
                        Origin::Spawned
                    } else if clone_flags(pid) & libc::CLONE_PARENT as u64 != 0 {
                        Origin::Sibling(parent)
                    } else {
                        Origin::Child(parent)
                    };
                    self.add(child, how, how == Origin::Spawned);
                    if self.early.remove(&child) {
                        self.go(child, None);
                    }
                }
            }
            libc::PTRACE_EVENT_EXEC => {
                if let Some(process) = self.processes.get_mut(&pid) {
                    // For the command this is its beginning. Other processes become another program here, and are done.
                    process.done = pid != self.root;
                }
                if pid == self.root && matches!(self.aim, Aim::Record) {
                    self.code = Code::of(pid);
                }
            }
            _ if !self.processes.contains_key(&pid) => {
                self.early.insert(pid);
                return;
            }
            _ => {}
        }
        let stopping = [Signal::SIGTRAP, Signal::SIGSTOP].contains(&signal);
        self.go(pid, (!stopping).then_some(signal));
    }

    /// Lets `pid` continue, up to its next call if that matters.
    fn go(&self, pid: Pid, signal: Option<Signal>) {
        let steps = self.processes.get(&pid).is_some_and(|process| {
            let wanted = match &self.aim {
                Aim::Record => true,
                Aim::Hit(call, _) => call.process == process.number && self.report.hit.is_none(),
            };
            process.pending.is_some() || wanted && !process.done
        });
        // The process may have died already. Its end is reported separately.
        let _ = if steps { ptrace::syscall(pid, signal) } else { ptrace::cont(pid, signal) };
    }

    fn at_call(&mut self, pid: Pid) {
        // A process that was killed meanwhile has no registers to read.
        let _ = self.entered_or_left(pid);
        self.go(pid, None);
    }

    /// A call begins, and may be the chosen one; or it ends.
    fn entered_or_left(&mut self, pid: Pid) -> Option<()> {
        let entry = ptrace::syscall_info(pid).ok()?.op == libc::PTRACE_SYSCALL_INFO_ENTRY;
        let process = self.processes.get_mut(&pid)?;
        if !entry {
            if let Some(errno) = process.pending.take() {
                registers::set_result(pid, -errno)?;
            }
            return Some(());
        }
        if process.done {
            return Some(());
        }
        let (number, arguments) = registers::call(pid)?;
        let nth = process.counts.entry(number).or_insert(0);
        *nth += 1;
        match &self.aim {
            Aim::Record => {
                let call = Call { process: process.number, name: name(number), nth: *nth };
                let site = self.code.site(pid).unwrap_or(0);
                self.report.calls.push(Seen { call, first: arguments[0], site });
            }
            Aim::Hit(call, fault) => {
                if self.report.hit.is_some() || *nth != call.nth || name(number) != call.name {
                    return Some(());
                }
                self.report.hit = Some(shown(pid, call, &arguments));
                match fault {
                    Fault::Errno(errno) => {
                        process.pending = Some(*errno);
                        // close(2) closes the descriptor, whatever it returns. Any other call is skipped.
                        if call.name != "close" {
                            registers::skip(pid)?;
                        }
                    }
                    Fault::Kill => kill(pid, Signal::SIGKILL).ok()?,
                    Fault::KillRuntime => kill(self.root, Signal::SIGKILL).ok()?,
                }
            }
        }
        Some(())
    }
}

/// The machine code of a running program.
#[derive(Default)]
struct Code {
    base: u64,
    bytes: Vec<u8>,
}

impl Code {
    /// This many callers distinguish two sites.
    const CALLERS: usize = 10;

    /// Reads the first executable mapping: the program is static.
    fn of(pid: Pid) -> Code {
        Code::read(pid).unwrap_or_default()
    }

    fn read(pid: Pid) -> Option<Code> {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
        let (range, _) = maps.lines().find(|line| line.contains(" r-xp "))?.split_once(' ')?;
        let (base, end) = range.split_once('-')?;
        let (base, end) = (u64::from_str_radix(base, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
        let mut bytes = vec![0; usize::try_from(end - base).ok()?];
        File::open(format!("/proc/{pid}/mem")).ok()?.read_exact_at(&mut bytes, base).ok()?;
        Some(Code { base, bytes })
    }

    /// A number for the words on the stack that follow a call instruction. Unused words of a function are among them,
    /// so one site can have two numbers. Two sites have the same number only if ten callers are the same.
    fn site(&self, pid: Pid) -> Option<u64> {
        let stack = registers::stack(pid)?;
        let mut bytes = vec![0; 16384];
        let read = process_vm_readv(
            pid,
            &mut [IoSliceMut::new(&mut bytes)],
            &[RemoteIoVec { base: usize::try_from(stack).ok()?, len: 16384 }],
        );
        bytes.truncate(read.unwrap_or(0));
        let words = bytes.chunks_exact(8).filter_map(|word| Some(u64::from_ne_bytes(word.try_into().ok()?)));
        let callers = words.filter_map(|word| word.checked_sub(self.base)).filter(|&offset| self.follows_call(offset));
        let start = 0xcbf2_9ce4_8422_2325_u64;
        Some(callers.take(Code::CALLERS).fold(start, |hash, word| (hash ^ word).wrapping_mul(0x100_0000_01b3)))
    }

    /// True after a `call` with a 32-bit distance, or through a register or memory.
    fn follows_call(&self, offset: u64) -> bool {
        let Some(before) = usize::try_from(offset).ok().and_then(|end| self.bytes.get(end.checked_sub(6)?..end)) else {
            return false;
        };
        before[1] == 0xe8
            || before[0] == 0xff && before[1] == 0x15
            || before[4] == 0xff && before[5] & 0x38 == 0x10
            || before[3] == 0xff && before[4] & 0x38 == 0x10
    }
}

/// Reads the call of a stopped process, and sets its result.
#[cfg(target_arch = "x86_64")]
mod registers {
    use nix::sys::ptrace::{getregs, setregs};
    use nix::unistd::Pid;

    /// The number of the call, and its first five arguments.
    pub fn call(pid: Pid) -> Option<(i64, [u64; 5])> {
        let all = getregs(pid).ok()?;
        Some((i64::from_ne_bytes(all.orig_rax.to_ne_bytes()), [all.rdi, all.rsi, all.rdx, all.r10, all.r8]))
    }

    /// The stack pointer.
    pub fn stack(pid: Pid) -> Option<u64> {
        getregs(pid).ok().map(|all| all.rsp)
    }

    /// Skips the call.
    pub fn skip(pid: Pid) -> Option<()> {
        let mut all = getregs(pid).ok()?;
        all.orig_rax = u64::MAX;
        setregs(pid, all).ok()
    }

    /// Sets the result of the call that has ended.
    pub fn set_result(pid: Pid, result: i32) -> Option<()> {
        let mut all = getregs(pid).ok()?;
        all.rax = u64::from_ne_bytes(i64::from(result).to_ne_bytes());
        setregs(pid, all).ok()
    }
}

/// hack/faults reports that this architecture is not implemented.
#[cfg(not(target_arch = "x86_64"))]
mod registers {
    use nix::unistd::Pid;

    pub fn call(_: Pid) -> Option<(i64, [u64; 5])> {
        None
    }

    pub fn stack(_: Pid) -> Option<u64> {
        None
    }

    pub fn skip(_: Pid) -> Option<()> {
        None
    }

    pub fn set_result(_: Pid, _: i32) -> Option<()> {
        None
    }
}

/// The flags of the clone(2) or clone3(2) that `pid` makes.
fn clone_flags(pid: Pid) -> u64 {
    let Some((number, arguments)) = registers::call(pid) else { return 0 };
    if number != libc::SYS_clone3 {
        return arguments[0];
    }
    let bytes = memory(pid, arguments[0], 8);
    bytes.try_into().map_or(0, u64::from_ne_bytes)
}

/// Up to `length` bytes of another process, at most to the end of the page.
fn memory(pid: Pid, address: u64, length: usize) -> Vec<u8> {
    let Ok(base) = usize::try_from(address) else { return Vec::new() };
    let length = length.min(4096 - base % 4096);
    let mut bytes = vec![0; length];
    let read = process_vm_readv(pid, &mut [IoSliceMut::new(&mut bytes)], &[RemoteIoVec { base, len: length }]);
    bytes.truncate(read.unwrap_or(0));
    bytes
}

/// The name of a system call.
pub fn name(number: i64) -> String {
    let known = i32::try_from(number).ok().and_then(|number| ScmpSyscall::from_raw_syscall(number).get_name().ok());
    known.unwrap_or_else(|| number.to_string())
}

/// The call in a form similar to strace's.
fn shown(pid: Pid, call: &Call, arguments: &[u64]) -> String {
    let shown: Vec<String> = arguments.iter().map(|&argument| shown_argument(pid, argument)).collect();
    format!("{}({})", call.name, shown.join(", "))
}

fn shown_argument(pid: Pid, argument: u64) -> String {
    if argument > 0x10000 {
        let bytes = memory(pid, argument, 72);
        let printable = bytes.iter().take_while(|&&byte| (0x20..0x7f).contains(&byte)).count();
        if printable > 0 {
            return format!("{:?}", String::from_utf8_lossy(&bytes[..printable]));
        }
    }
    match i64::from_ne_bytes(argument.to_ne_bytes()) {
        small @ -4096..=0xffff => small.to_string(),
        _ => format!("{argument:#x}"),
    }
}
