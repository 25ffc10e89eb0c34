//! Errors of system calls: in the words of the C library, in lower case as Go programs write them, with the name of the errno.

use std::error::Error;
use std::io;

use rustix::io::Errno;

/// `no such file or directory (ENOENT)`.
pub fn words(errno: Errno) -> String {
    let number = errno.raw_os_error();
    // std has libc's words, and a number behind them
    let text = io::Error::from_raw_os_error(number).to_string();
    let text = text.strip_suffix(&format!(" (os error {number})")).unwrap_or(&text);
    let mut characters = text.chars();
    let first = characters.next().map(|c| c.to_lowercase().to_string()).unwrap_or_default();
    said_with(&format!("{first}{}", characters.as_str()), errno)
}

/// The kernel's own words, with the errno's name.
pub fn said_with(said: &str, errno: Errno) -> String {
    format!("{said} ({:?})", nix::errno::Errno::from_raw(errno.raw_os_error()))
}

/// The errno with this number. EIO if no errno has it: rustix panics then. nix has 0 for an errno that it does not know, and another
/// process can write any number into memory that we share with it.
pub fn from_number(number: i32) -> Errno {
    errno_of(number).unwrap_or(Errno::IO)
}

/// KERNEL: MAX_ERRNO of linux/err.h.
fn errno_of(number: i32) -> Option<Errno> {
    (1..=4095).contains(&number).then(|| Errno::from_raw_os_error(number))
}

/// The text of an error. That of a system call is in `words`, by whatever crate it came.
///
/// ```
/// let error = std::fs::read("examples/no such file").unwrap_err();
/// assert_eq!(libcontainer::in_words(&error), "no such file or directory (ENOENT)");
/// ```
pub fn in_words(error: &(dyn Error + 'static)) -> String {
    let of_std = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
    let of_rustix = || error.downcast_ref::<Errno>().map(|errno| errno.raw_os_error());
    let of_nix = || error.downcast_ref::<nix::errno::Errno>().map(|errno| *errno as i32);
    match of_std.or_else(of_rustix).or_else(of_nix).and_then(errno_of) {
        Some(errno) => words(errno),
        None => error.to_string(),
    }
}

/// An error and its causes, each as `in_words` has it.
pub fn chain_in_words<'a>(causes: impl Iterator<Item = &'a (dyn Error + 'static)>) -> String {
    causes.map(in_words).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_errno_has_the_same_words_from_every_crate() {
        let said = "no such file or directory (ENOENT)";
        assert_eq!(words(Errno::NOENT), said);
        let all: [&(dyn Error + 'static); 3] =
            [&io::Error::from_raw_os_error(libc::ENOENT), &Errno::NOENT, &nix::errno::Errno::ENOENT];
        assert!(all.into_iter().all(|error| in_words(error) == said));
        assert_eq!(in_words(&io::Error::other("a text")), "a text");
    }

    #[test]
    fn a_number_that_is_no_errno_is_not_a_panic() {
        for number in [i32::MIN, -1, 0, 4096, 65535, i32::MAX] {
            assert_eq!(from_number(number), Errno::IO);
            assert!(!in_words(&io::Error::from_raw_os_error(number)).is_empty());
        }
        assert_eq!(from_number(4095).raw_os_error(), 4095);
        // ENOTSUPP of the kernel
        assert_eq!(words(from_number(524)), "unknown error 524 (UnknownErrno)");
        let unknown = nix::errno::Errno::from_raw(524);
        assert_eq!(in_words(&unknown), unknown.to_string());
    }

    #[test]
    fn the_words_are_libcs() {
        // others than those of nix
        assert!(words(Errno::LOOP).ends_with(" (ELOOP)") && !words(Errno::LOOP).contains("encountered"));
        assert!(words(Errno::RANGE).ends_with(" (ERANGE)") && !words(Errno::RANGE).contains("Math"));
    }
}
