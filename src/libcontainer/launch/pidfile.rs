//! `--pid-file`: all of it or nothing, no newline, as runc writes it.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result, anyhow};

/// Writes `pid` to a file beside `path` and renames it there.
///
/// # Errors
/// The path and the kernel's word.
pub fn write(path: &Path, pid: i32) -> Result<()> {
    let name = path.file_name().ok_or_else(|| anyhow!("--pid-file: {} names no file", path.display()))?;
    let beside = path.with_file_name(format!(".{}", name.to_string_lossy()));
    let create = || fs::OpenOptions::new().write(true).create_new(true).custom_flags(libc::O_NOFOLLOW).open(&beside);
    let write = || {
        let mut file = match create() {
            // left by somebody who was killed between the two; whoever is at it right now will be told that it is gone
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                fs::remove_file(&beside)?;
                create()?
            }
            other => other?,
        };
        file.write_all(pid.to_string().as_bytes())?;
        fs::rename(&beside, path)
    };
    write()
        .inspect_err(|error| {
            if error.kind() != std::io::ErrorKind::AlreadyExists {
                let _ = fs::remove_file(&beside);
            }
        })
        .with_context(|| format!("--pid-file: write {}", path.display()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_number_alone_stands_in_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pid");
        super::write(&path, 42).unwrap();
        super::write(&path, 43).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "43");
        std::fs::write(directory.path().join(".pid"), "left").unwrap();
        super::write(&path, 43).unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
        assert!(super::write(&directory.path().join("no/pid"), 1).is_err());
    }
}
