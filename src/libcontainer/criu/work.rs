//! How much CRIU has worked: a wait for it ends when it does nothing any more.

use std::fs;
use std::path::Path;

use crate::sys::process_stat::ProcessStat;
use crate::sys::process_status::ProcessStatus;

/// Fields of /proc/PID/stat: faults of pages, and the time on a processor.
const FIELDS: [usize; 4] = [10, 12, 14, 15];
/// Lines of /proc/PID/status: how often it has slept, and how often another process had its turn.
const LINES: [&str; 2] = ["voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"];

/// A number that changes while one of these processes, or a process below them, does anything, and when one begins or ends.
pub(super) fn total(roots: &[i32]) -> u64 {
    let mut found = roots.to_vec();
    let (mut total, mut n) = (0u64, 0);
    while let Some(pid) = found.get(n).copied() {
        total = total.wrapping_add(count_of(pid)).wrapping_add(1);
        found.extend(children(pid));
        n += 1;
    }
    total
}

fn count_of(pid: i32) -> u64 {
    let stat = ProcessStat::read(Path::new(&format!("/proc/{pid}/stat"))).ok();
    let fields = FIELDS.iter().filter_map(|field| stat.as_ref()?.number(*field));
    let status = ProcessStatus::read(pid).ok();
    let lines = LINES.iter().filter_map(|name| status.as_ref()?.field(name)?.trim().parse().ok());
    fields.chain(lines).fold(0, u64::wrapping_add)
}

fn children(pid: i32) -> Vec<i32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists = tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::total;

    /// A shell that has written a line is in its last command.
    fn shell(script: &str) -> (Child, [i32; 1]) {
        let mut child = Command::new("sh").args(["-c", script]).stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut line = [0; 1];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
        let pid = child.id().cast_signed();
        (child, [pid])
    }

    #[test]
    fn a_sleeping_process_does_no_work_and_a_busy_child_counts() {
        let (mut idle, pid) = shell("echo; read line; exec sleep 1000");
        let (mut busy, other) = shell("echo; sh -c 'while :; do :; done' & echo; wait");
        let busy_before = total(&other);
        while total(&other) == busy_before {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        // on a busy machine it may be a while until it sleeps
        let mut before = total(&pid);
        loop {
            std::thread::sleep(std::time::Duration::from_millis(50));
            let now = total(&pid);
            if now == before {
                break;
            }
            before = now;
        }
        for child in [&mut idle, &mut busy] {
            super::children(child.id().cast_signed()).into_iter().for_each(|pid| {
                let pid = rustix::process::Pid::from_raw(pid).unwrap();
                rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
            });
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert_eq!(total(&[i32::MAX]), 1);
    }
}
