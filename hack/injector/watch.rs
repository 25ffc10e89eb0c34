//! The deadline of a case: processes that still exist then are described and killed.

use std::fs;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The longest time of a case: a hundred times what it takes on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(12);

/// A running deadline.
pub struct Watch {
    off: Sender<()>,
    thread: JoinHandle<Option<String>>,
}

impl Watch {
    pub fn new() -> Watch {
        let (off, gone) = channel();
        let thread = std::thread::spawn(move || match gone.recv_timeout(DEADLINE) {
            Err(RecvTimeoutError::Timeout) => {
                let found = processes();
                let text: Vec<String> = found.iter().map(|&pid| description(pid)).collect();
                kill_all();
                Some(text.join("; "))
            }
            Ok(()) | Err(RecvTimeoutError::Disconnected) => None,
        });
        Watch { off, thread }
    }

    /// Stops the deadline. Returns the processes that still existed if it had passed.
    pub fn end(self) -> Option<String> {
        drop(self.off);
        self.thread.join().ok().flatten()
    }
}

/// All processes of this pid namespace except this one. Zombies do not count.
pub fn processes() -> Vec<i32> {
    let own = i32::try_from(std::process::id()).unwrap_or(1);
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let mut pids: Vec<i32> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&pid| pid != own && lives(pid))
        .collect();
    pids.sort_unstable();
    pids
}

/// False for a zombie.
fn lives(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// The program of a process, and its current system call.
pub fn description(pid: i32) -> String {
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let command = read("cmdline").replace('\0', " ");
    let call = read("syscall");
    let number = call.split(' ').next().and_then(|number| number.trim().parse().ok());
    let call = number.map_or_else(|| call.trim().to_owned(), crate::trace::name);
    let wait = read("wchan");
    format!("{pid} {:?} in {call} ({wait})", command.trim().chars().take(60).collect::<String>())
}

/// Kills all processes of this pid namespace except this one.
pub fn kill_all() {
    for pid in processes() {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}
