//! HOME of the program: the home directory of its user, from the container's /etc/passwd.

use std::os::fd::AsFd;

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::prepared::{HOME, HOME_MAX, Outcome, Prepared, Trouble};
use super::resolve::{Way, open_in};
use crate::sys::bounded::Bounded;
use crate::sys::plain::is_plain;
use crate::sys::retry::retry;

/// The largest part of /etc/passwd that is read. The file is hostile, and a hole can make it very large.
const MOST_OF_PASSWD: usize = 16 << 20;

/// The errors of open(2) that mean that the file does not exist for us: no such name, dangling links, a directory that
/// we may not enter, a socket, or a device without a driver.
const NOT_THERE: [Errno; 7] =
    [Errno::NOENT, Errno::NOTDIR, Errno::LOOP, Errno::NAMETOOLONG, Errno::ACCESS, Errno::NXIO, Errno::NODEV];

/// Reads the home directory from the container's /etc/passwd. The file may be hostile: it must be a regular file in the root, and
/// at most 16 MiB are read. Files of proc are regular files, too, and reading one can have an effect (/proc/kmsg).
pub(super) fn read_home(prepared: &Prepared<'_>, uid: u32) -> Outcome {
    let mut home = prepared.results.home.borrow_mut();
    home.truncate(0);
    if !b"HOME=/\0".iter().all(|byte| home.push(*byte)) {
        return Err(Trouble::from(Errno::NOBUFS));
    }
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    // for `exec`, our root is the container's, and the current directory is the program's
    let own = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let own = prepared.root.is_none().then(|| rustix::fs::openat(CWD, c"/", own, Mode::empty())).transpose()?;
    let root = own.as_ref().map_or_else(|| prepared.root(), |own| Ok(own.as_fd()))?;
    let file = match open_in(root, c"etc/passwd", flags, Way::Any) {
        Ok(file) => file,
        Err(trouble) if NOT_THERE.contains(&trouble.errno) => return Ok(()),
        Err(other) => return Err(other),
    };
    // the image may be on any file system, also on a network or on FUSE
    let readable = is_plain(file.as_fd()) || rustix::fs::fstatfs(&file)?.f_type == rustix::fs::fstatfs(root)?.f_type;
    if !readable || FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) != FileType::RegularFile {
        return Ok(());
    }
    let mut text = [0u8; 4096];
    let (mut search, mut left) = (Search::new(uid, &mut home), MOST_OF_PASSWD);
    while search.found.is_none() && left > 0 {
        let length = retry(|| rustix::io::read(&file, &mut text))?;
        if length == 0 {
            break;
        }
        text[..length].iter().for_each(|byte| search.feed(*byte));
        left = left.saturating_sub(length);
    }
    search.finish()
}

/// The result of parsing the user's line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UserEntry {
    /// A home directory.
    Home,
    /// It is too long for a path.
    TooLong,
}

/// Finds the sixth field of the first line whose third field is the uid (passwd(5)). It takes the text byte by byte, and needs
/// little stack, which may be small (`ulimit -s`).
struct Search<'h> {
    uid: u32,
    /// The field of the line, from 0.
    field: usize,
    /// The number in the third field; None if it is not a number.
    id: Option<u32>,
    /// The number of its digits.
    digits: usize,
    /// The entry of the environment, with as much of the sixth field as fits.
    entry: &'h mut Bounded<u8>,
    length: usize,
    found: Option<UserEntry>,
}

impl<'h> Search<'h> {
    fn new(uid: u32, entry: &'h mut Bounded<u8>) -> Search<'h> {
        entry.truncate(HOME.len());
        Search { uid, field: 0, id: Some(0), digits: 0, entry, length: 0, found: None }
    }

    fn feed(&mut self, byte: u8) {
        match (byte, self.field) {
            _ if self.found.is_some() => {}
            (b'\n', _) => self.end_line(),
            (b':', _) => self.field += 1,
            (_, 2) => {
                let digit = char::from(byte).to_digit(10);
                self.id = self.id.and_then(|id| id.checked_mul(10)?.checked_add(digit?));
                self.digits += 1;
            }
            (_, 5) => {
                if self.length < HOME_MAX {
                    self.entry.push(byte);
                }
                self.length += 1;
            }
            _ => {}
        }
    }

    fn end_line(&mut self) {
        let is_theirs = self.field >= 5 && self.digits > 0 && self.id == Some(self.uid);
        if is_theirs && self.entry.get(HOME.len()) == Some(&b'/') {
            self.found = Some(if self.length <= HOME_MAX { UserEntry::Home } else { UserEntry::TooLong });
            return;
        }
        self.entry.truncate(HOME.len());
        (self.field, self.id, self.digits, self.length) = (0, Some(0), 0, 0);
    }

    /// Ends the text. The entry is then the HOME that was found, or `/`.
    fn finish(mut self) -> Outcome {
        // the last line may have no newline
        self.feed(b'\n');
        if self.found != Some(UserEntry::Home) {
            self.entry.truncate(HOME.len());
            self.entry.push(b'/');
        }
        self.entry.push(0);
        match self.found {
            Some(UserEntry::TooLong) => Err(Trouble::saying(Errno::NAMETOOLONG, "it is longer than 4095 bytes")),
            Some(UserEntry::Home) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::prepared::ROOM_FOR_HOME;

    #[test]
    fn home_is_the_sixth_field_of_the_users_line() {
        let long = format!("long:{}:7:7:{}:/{}:\n", "x".repeat(9000), "g".repeat(9000), "h".repeat(HOME_MAX));
        let text = "root:x:0:0:root:/root:/bin/sh\nbad\n:::\nu:x:1000:1000::/home/u:/bin/sh\nv:x:1001:1:::\n";
        let text = format!(
            "{text}{long}s::6:7::relative:\nten::10:1::{}\ne:::9::/empty\nbig:x:4294967304:1::/big:\nlast:x:8:8::/last",
            "/h".repeat(2000)
        );
        let entry_of = |uid| {
            let mut entry = Bounded::with_capacity(ROOM_FOR_HOME);
            HOME.iter().for_each(|byte| assert!(entry.push(*byte)));
            let mut search = Search::new(uid, &mut entry);
            text.bytes().for_each(|byte| search.feed(byte));
            let errno = search.finish().err().map(|trouble| trouble.errno);
            (String::from_utf8(entry.to_vec()).unwrap(), errno)
        };
        let home = |home: &str| (format!("HOME={home}\0"), None);
        for (uid, wanted) in [(0, home("/root")), (1000, home("/home/u")), (8, home("/last")), (1001, home("/"))] {
            assert_eq!(entry_of(uid), wanted, "{uid}");
        }
        for (uid, wanted) in [(6, home("/")), (9, home("/")), (10, home(&"/h".repeat(2000)))] {
            assert_eq!(entry_of(uid), wanted, "{uid}");
        }
        assert_eq!(entry_of(7), ("HOME=/\0".to_owned(), Some(Errno::NAMETOOLONG)));
    }
}
