//! `--pid-file`: written completely or not at all, without a newline, as runc does.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::error::{Context, Result, error};

/// Writes `pid` to a file beside `path` and renames it to `path`. If a file exists there that is not a regular file (a
/// device, a fifo, or a link to one), writes into it: the path may be /dev/null or /dev/stdout.
///
/// # Errors
/// The path, and the kernel's error. A link to a regular file or to nothing is an error.
pub fn write(path: &Path, pid: i32) -> Result<()> {
    let name = path.file_name().ok_or_else(|| error!("`pid_file`: {} names no file", path.display()))?;
    let beside = path.with_file_name(format!(".{}", name.to_string_lossy()));
    let text = pid.to_string();
    let written = match fs::symlink_metadata(path) {
        Ok(there) if !there.is_file() => into(path, &text),
        Ok(_) | Err(_) => replace(path, &beside, &text),
    };
    written.with_context(|| format!("`pid_file`: write {}", path.display()))
}

/// Removes the file that `write` made: a regular file that contains this pid.
pub fn remove_own(path: &Path, pid: i32) {
    let ours = || -> io::Result<bool> {
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
        let file = fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let mut text = String::new();
        Ok(file.metadata()?.is_file() && file.take(16).read_to_string(&mut text).is_ok() && text == pid.to_string())
    };
    if ours().unwrap_or(false) {
        // The caller reports another failure.
        let _ = fs::remove_file(path);
    }
}

fn into(path: &Path, text: &str) -> io::Result<()> {
    // A fifo without a reader is an error: open(2) must not wait.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let mut file = fs::OpenOptions::new().write(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() {
        return Err(io::Error::other("it is a link to a file"));
    }
    file.write_all(text.as_bytes())
}

fn replace(path: &Path, beside: &Path, text: &str) -> io::Result<()> {
    let create = || fs::OpenOptions::new().write(true).create_new(true).custom_flags(libc::O_NOFOLLOW).open(beside);
    let write = || {
        let mut file = match create() {
            // A writer that was killed before its rename has left this file. If the writer still works, it gets an error.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                fs::remove_file(beside)?;
                create()?
            }
            other => other?,
        };
        file.write_all(text.as_bytes())?;
        fs::rename(beside, path)
    };
    write().inspect_err(|error: &io::Error| {
        if error.kind() != io::ErrorKind::AlreadyExists {
            // The next writer removes it, too.
            let _ = fs::remove_file(beside);
        }
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_number_alone_stands_in_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pid");
        write(&path, 42).unwrap();
        write(&path, 43).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "43");
        fs::write(directory.path().join(".pid"), "left").unwrap();
        write(&path, 43).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        assert!(write(&directory.path().join("no/pid"), 1).is_err());
    }

    #[test]
    fn only_the_own_number_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pid");
        write(&path, 42).unwrap();
        remove_own(&path, 43);
        assert!(path.exists());
        remove_own(&path, 42);
        assert!(!path.exists());
    }

    #[test]
    fn a_special_file_is_written_or_refused_and_never_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let said = |name: &str| format!("{:#}", write(&at(name), 42).unwrap_err());
        assert!(said("fifo").contains("no such device or address"), "{}", said("fifo"));
        let mut reader = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(at("fifo")).unwrap();
        symlink("fifo", at("to-fifo")).unwrap();
        for name in ["fifo", "to-fifo"] {
            write(&at(name), 42).unwrap();
            let mut text = [0; 16];
            let length = reader.read(&mut text).unwrap();
            assert_eq!(&text[..length], b"42");
            remove_own(&at(name), 42);
            assert!(fs::symlink_metadata(at(name)).is_ok_and(|there| !there.is_file()), "{name}");
        }
        fs::write(at("file"), "precious").unwrap();
        symlink("file", at("to-file")).unwrap();
        symlink("nowhere", at("to-nowhere")).unwrap();
        fs::create_dir(at("directory")).unwrap();
        assert!(said("to-file").contains("it is a link to a file"), "{}", said("to-file"));
        for name in ["to-nowhere", "directory"] {
            assert!(said(name).contains(name), "{}", said(name));
            remove_own(&at(name), 42);
        }
        remove_own(&at("to-file"), 42);
        assert_eq!(fs::read_to_string(at("to-file")).unwrap(), "precious");
        assert!(!at("nowhere").exists() && at("to-nowhere").is_symlink() && at("directory").is_dir());
    }
}
