//! /proc/PID/status: its lines by their names (proc_pid_status(5)).

use std::io;
use std::path::Path;

/// The text of the file.
#[derive(Debug)]
pub struct ProcessStatus(String);

impl ProcessStatus {
    /// Reads the file of the process or thread `pid`.
    ///
    /// # Errors
    /// Those of open(2) and read(2).
    pub fn read(pid: i32) -> io::Result<ProcessStatus> {
        // Its first line is a name, which a process may choose from all bytes.
        Ok(ProcessStatus(super::kernel_file::read_lossy(Path::new(&format!("/proc/{pid}/status")))?))
    }

    /// The value of the line `name`.
    pub fn field(&self, name: &str) -> Option<&str> {
        super::kernel_file::keyed_value(&self.0, name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_fields_are_found() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!(ProcessStatus::read(own).unwrap().field("Tgid"), Some(own.to_string().as_str()));
    }
}
