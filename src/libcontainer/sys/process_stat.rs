//! /proc/PID/stat: its fields by their numbers (proc_pid_stat(5)).

use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

/// The fields behind the name. A process gives itself a name of any bytes, parentheses too.
#[derive(Debug)]
pub struct ProcessStat {
    text: [u8; 1024],
    fields: std::ops::Range<usize>,
}

impl ProcessStat {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// Those of open(2) and read(2); `INVAL` for another file.
    pub fn read(path: &Path) -> Result<ProcessStat, Errno> {
        let file = rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let mut text = [0; 1024];
        let length = rustix::io::read(&file, &mut text)?;
        let name_ends = text[..length].iter().rposition(|byte| *byte == b')').ok_or(Errno::INVAL)?;
        Ok(ProcessStat { text, fields: name_ends + 1..length })
    }

    /// Field `n`, which is 3 or more. The fields before are the pid and the name.
    pub fn field(&self, n: usize) -> Option<&str> {
        let fields = std::str::from_utf8(self.text.get(self.fields.clone())?).ok()?;
        fields.split_ascii_whitespace().nth(n.checked_sub(3)?)
    }

    /// Field `n` as a number.
    pub fn number(&self, n: usize) -> Option<u64> {
        self.field(n)?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_be_any_bytes() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"7 (a) \xff\nb) R 1 2 3\n").unwrap();
        let stat = ProcessStat::read(file.path()).unwrap();
        assert_eq!((stat.field(3), stat.number(6), stat.number(7)), (Some("R"), Some(3), None));
        assert_eq!((stat.field(2), stat.number(3)), (None, None));
        std::fs::write(file.path(), "nothing").unwrap();
        assert_eq!(ProcessStat::read(file.path()).unwrap_err(), Errno::INVAL);
        assert!(ProcessStat::read(Path::new("/proc/self/stat")).unwrap().number(22).is_some());
    }
}
