//! The text files of the kernel (proc(5), sysfs(5), cgroups(7)). They are read in few system calls: the standard library makes a
//! dozen for a file of unknown size.

use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use super::retry::retry;

/// A file with one short value, such as `freezer.state`: what the first read(2) puts into `buffer`. The text
/// ends before the first byte that is not UTF-8.
///
/// # Errors
/// Those of open(2) and read(2).
pub fn read_value<'b>(path: &Path, buffer: &'b mut [u8]) -> Result<&'b str, Errno> {
    let file = rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let length = rustix::io::read(&file, &mut *buffer)?;
    let bytes = buffer.get(..length).unwrap_or_default();
    Ok(match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
    })
}

/// A longer file, such as /proc/self/mountinfo: calls `take` with what each read(2) returns, until the end.
///
/// # Errors
/// Those of open(2) and read(2).
pub fn read_pieces(path: &Path, take: impl FnMut(&[u8])) -> Result<(), Errno> {
    read_pieces_at(CWD, path, take)
}

/// A longer file as a text. Bytes that are not UTF-8 become U+FFFD: containers choose names that stand in files of /proc.
///
/// # Errors
/// Those of open(2) and read(2).
pub fn read_lossy(path: &Path) -> Result<String, Errno> {
    let mut bytes = Vec::with_capacity(4096);
    read_pieces(path, |piece| bytes.extend_from_slice(piece))?;
    Ok(match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}

/// As `read_pieces`, for a path below `directory`.
///
/// # Errors
/// Those of open(2) and read(2).
pub fn read_pieces_at(directory: BorrowedFd<'_>, path: &Path, mut take: impl FnMut(&[u8])) -> Result<(), Errno> {
    let file = rustix::fs::openat(directory, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut buffer = [0u8; 4096];
    loop {
        match retry(|| rustix::io::read(&file, &mut buffer))? {
            0 => return Ok(()),
            length => take(&buffer[..length]),
        }
    }
}

/// The lines of a file as names and values: `NAME VALUE` (memory.stat, io.max), or `NAME:\tVALUE` (/proc/PID/status, fdinfo).
pub fn keyed(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let pairs = text.lines().filter_map(|line| line.split_once([' ', '\t']));
    pairs.map(|(name, value)| (name.strip_suffix(':').unwrap_or(name), value.trim()))
}

/// The value of the first line with this name.
pub fn keyed_value<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    keyed(text).find(|(there, _)| *there == name).map(|(_, value)| value)
}

/// The same, as a number.
pub fn keyed_number(text: &str, name: &str) -> Option<u64> {
    keyed_value(text, name)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyed_line_is_found_by_its_whole_name() {
        let status = "Name:\ta b\nPid:\t7\nPPid:\t6\nGroups:\t\nNSpid:\t7\t1\nVmPeak:\t   12 kB\n";
        let expected =
            [("Name", "a b"), ("Pid", "7"), ("PPid", "6"), ("Groups", ""), ("NSpid", "7\t1"), ("VmPeak", "12 kB")];
        assert_eq!(keyed(status).collect::<Vec<_>>(), expected);
        assert_eq!(keyed_value(status, "NS"), None);
        assert_eq!(keyed_value("8:0 rbps=1 wbps=2\n8:16 rbps=3\n", "8:16"), Some("rbps=3"));
        let events = "max 3\noom 2\noom_kill 1\nbad x\n";
        assert_eq!(
            ["oom_kill", "oom", "bad", "low"].map(|name| keyed_number(events, name)),
            [Some(1), Some(2), None, None]
        );
    }

    #[test]
    fn a_value_and_a_long_text_are_read_whole() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "THAWED\n").unwrap();
        assert_eq!(read_value(file.path(), &mut [0; 16]), Ok("THAWED\n"));
        assert_eq!(read_value(file.path(), &mut [0; 4]), Ok("THAW"));
        std::fs::write(file.path(), b"ab\xff").unwrap();
        assert_eq!(read_value(file.path(), &mut [0; 16]), Ok("ab"));
        let long = "x".repeat(10_000);
        std::fs::write(file.path(), &long).unwrap();
        let mut got = Vec::new();
        read_pieces(file.path(), |piece| got.extend_from_slice(piece)).unwrap();
        assert_eq!(got, long.as_bytes());
        assert_eq!(read_value(Path::new("/nonexistent"), &mut [0; 4]), Err(Errno::NOENT));
    }
}
