//! /proc/PID/status: its lines by their names (proc_pid_status(5)).

use std::io;
use std::path::Path;

/// What the file said.
#[derive(Debug)]
pub struct ProcessStatus(String);

impl ProcessStatus {
    /// That of process `pid`, or of a thread.
    ///
    /// # Errors
    /// Those of open(2) and read(2).
    pub fn of(pid: i32) -> io::Result<ProcessStatus> {
        // Its first line is a name, which a process may choose from all bytes.
        Ok(ProcessStatus(super::text::lossy(Path::new(&format!("/proc/{pid}/status")))?))
    }

    /// What stands behind `name` and a colon.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_has_its_whole_name() {
        let status = ProcessStatus("Name:\ta b\nPid:\t7\nPPid:\t6\nGroups:\t\nNSpid:\t7\t1\n".to_owned());
        for (name, value) in [("Name", "a b"), ("Pid", "7"), ("PPid", "6"), ("Groups", ""), ("NSpid", "7\t1")] {
            assert_eq!(status.field(name), Some(value), "{name}");
        }
        assert_eq!(status.field("NS"), None);
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!(ProcessStatus::of(own).unwrap().field("Tgid"), Some(own.to_string().as_str()));
    }
}
