//! execve(2) and the argument vectors it takes, made before the fork.

use std::cell::Cell;
use std::ffi::{CStr, CString, NulError};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::raw::c_char;

use rustix::io::Errno;

use super::checked;

/// A NULL-terminated vector of C strings, ready for execve(2).
#[derive(Debug)]
pub struct Strings {
    owned: Vec<CString>,
    pointers: Vec<Cell<*const c_char>>,
}

// SAFETY: the pointers point into the heap buffers of `owned`, which are never changed or moved while this lives.
unsafe impl Send for Strings {}
impl Clone for Strings {
    fn clone(&self) -> Strings {
        Strings::from_owned(self.owned.clone())
    }
}

impl Strings {
    /// Prepares `strings` in order.
    ///
    /// # Errors
    /// A string with a NUL byte in it cannot be passed to a program.
    pub fn new<S: AsRef<str>>(strings: &[S]) -> Result<Strings, NulError> {
        Ok(Strings::from_owned(strings.iter().map(|s| CString::new(s.as_ref())).collect::<Result<_, _>>()?))
    }

    /// Prepares strings that are C strings already.
    pub fn from_owned(owned: Vec<CString>) -> Strings {
        // two NULLs: the end, and before it a spare place for an entry that is known only after the fork (`execve`)
        let ends = [std::ptr::null(), std::ptr::null()];
        let pointers = owned.iter().map(|s| s.as_ptr()).chain(ends).map(Cell::new).collect();
        Strings { owned, pointers }
    }

    /// The strings, for those who print them.
    pub fn iter(&self) -> impl Iterator<Item = &CStr> {
        self.owned.iter().map(CString::as_c_str)
    }
}

impl PartialEq for Strings {
    fn eq(&self, other: &Strings) -> bool {
        self.owned == other.owned
    }
}

/// execve(2), with `more` as the last entry of the environment. Returns only when it did not work: with ECANCELED if a filter
/// reports success without doing it.
pub fn execve(path: &CStr, args: &Strings, env: &Strings, more: Option<&CStr>) -> Errno {
    let spare = env.pointers.get(env.owned.len());
    let fill = |entry: *const c_char| spare.iter().for_each(|spare| spare.set(entry));
    fill(more.map_or(std::ptr::null(), CStr::as_ptr));
    // SAFETY: path is NUL-terminated. Both vectors are NULL-terminated arrays of NUL-terminated strings that live through the
    // call: those of `owned`, and `more`.
    let result = checked(unsafe {
        libc::syscall(libc::SYS_execve, path.as_ptr(), args.pointers.as_ptr(), env.pointers.as_ptr())
    });
    // `more` may be gone before the next call
    fill(std::ptr::null());
    result.err().unwrap_or(Errno::CANCELED)
}

/// execveat(2) of an open file. Returns only when it did not work.
pub fn execveat(file: BorrowedFd<'_>, args: &Strings, env: &Strings) -> Errno {
    // SAFETY: the empty path is NUL-terminated; the vectors are as for execve.
    let result = checked(unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            c"".as_ptr(),
            args.pointers.as_ptr(),
            env.pointers.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    });
    result.err().unwrap_or(Errno::CANCELED)
}
