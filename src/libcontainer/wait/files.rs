//! Reads files that others name or write: their length is limited, and a fifo has a deadline.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::time::Instant;

use super::{limits, readable};

/// The longest file that the runtime reads. A config of 100 MB is accepted.
const MOST_BYTES: u64 = 128 << 20;

/// The contents of a file that the user names. If it is a fifo: everything that is written to it within `limits::ANSWER`.
///
/// # Errors
/// The kernel's error; or the file is a device or too long; or nothing was written; or a signal asks the process to
/// end.
pub fn contents(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_file() {
        return contents_of(file);
    }
    // /dev/stdin may be a terminal.
    if (kind.is_char_device() && !rustix::termios::isatty(&file)) || kind.is_block_device() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "it is a device"));
    }
    let mut text = Vec::new();
    let deadline = Instant::now() + limits::ANSWER;
    loop {
        if !readable(file.as_fd(), Some(deadline)).map_err(io::Error::other)? {
            return Err(io::Error::new(ErrorKind::TimedOut, "its writer has not closed it within 10 s"));
        }
        match file.by_ref().take(1 << 16).read_to_end(&mut text) {
            Ok(0) => return Ok(text),
            // The bytes from before are in `text`.
            Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
            _ => must_have_at_most(MOST_BYTES, &text)?,
        }
    }
}

/// The contents of a regular file of at most `most` bytes, by its path below `root`. No link leads out of `root`.
///
/// # Errors
/// The kernel's error; or it is not a regular file; or it is too long.
pub fn contents_below(root: &Path, name: &Path, most: u64) -> io::Result<Vec<u8>> {
    use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let root = openat(CWD, root, flags | OFlags::DIRECTORY, Mode::empty())?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let file = File::from(openat2(root, name, flags | OFlags::NONBLOCK | OFlags::NOCTTY, Mode::empty(), resolve)?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "it is not a regular file"));
    }
    up_to(most, file)
}

/// Everything that a reader has, if it is not too long.
///
/// # Errors
/// The kernel's error, or the file is too long.
pub fn contents_of(file: impl Read) -> io::Result<Vec<u8>> {
    up_to(MOST_BYTES, file)
}

fn up_to(most: u64, file: impl Read) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    file.take(most + 1).read_to_end(&mut text)?;
    must_have_at_most(most, &text).map(|()| text)
}

fn must_have_at_most(most: u64, text: &[u8]) -> io::Result<()> {
    if text.len() as u64 > most {
        let said = format!("it is longer than {} MiB", most >> 20);
        return Err(io::Error::new(ErrorKind::FileTooLarge, said));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_a_root_is_regular_short_and_in_it() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        std::fs::create_dir(&root).unwrap();
        let of = |name: &str| contents_below(&root, Path::new(name), 1 << 20).map_err(|error| error.to_string());
        let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, root.join(name)).unwrap();
        std::fs::write(directory.path().join("secret"), "x").unwrap();
        std::fs::write(root.join("a"), "text").unwrap();
        link("/a", "inside");
        assert_eq!((of("a"), of("inside")), (Ok(b"text".to_vec()), Ok(b"text".to_vec())));
        for (n, to) in ["/dev/zero", "../secret", "/etc/passwd"].into_iter().enumerate() {
            link(to, &n.to_string());
            assert!(of(&n.to_string()).unwrap_err().contains("No such file"), "{to}");
        }
        let fifo = root.join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert_eq!(of("fifo"), Err("it is not a regular file".to_owned()));
        assert_eq!(of("."), Err("it is not a regular file".to_owned()));
        File::create(root.join("long")).unwrap().set_len((1 << 20) + 1).unwrap();
        assert_eq!(of("long"), Err("it is longer than 1 MiB".to_owned()));
    }

    #[test]
    fn a_file_is_read_up_to_the_limit() {
        let directory = tempfile::tempdir().unwrap();
        let said = |path: &Path| contents(path).unwrap_err().to_string();
        assert_eq!(said(Path::new("/dev/zero")), "it is a device");
        let path = directory.path().join("file");
        let file = File::create(&path).unwrap();
        file.set_len(MOST_BYTES + 1).unwrap();
        assert_eq!(said(&path), "it is longer than 128 MiB");
        file.set_len(100_000_000).unwrap();
        assert_eq!(contents(&path).unwrap().len(), 100_000_000);
        // Like a shell that passes on the output of a program.
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let here = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
        std::thread::spawn(move || {
            let mut writer = File::from(writer);
            let zeros = [0; 1 << 16];
            while std::io::Write::write_all(&mut writer, &zeros).is_ok() {}
        });
        assert_eq!(said(Path::new(&here)), "it is longer than 128 MiB");
    }
}
