//! The program's own arguments and environment, where the kernel shows them to others (proc_pid_cmdline(5)). Every process can
//! read the arguments.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::io::Errno;

use super::clone::Alone;
use super::process_stat::ProcessStat;

/// Where the kernel put them: the begin of the arguments and the end of the environment.
#[derive(Clone, Copy, Debug)]
pub struct CommandLine {
    begin: usize,
    end: usize,
}

/// The text that is shown instead.
const SHOWN: &[u8] = b"coracle\0init";

/// The known begin and end.
static NOTED: [AtomicUsize; 2] = [AtomicUsize::new(0), AtomicUsize::new(0)];

/// Stores the kernel's answer, so that the kernel is asked only once.
pub(super) fn remember(begin: usize, end: usize) {
    for (noted, address) in NOTED.iter().zip([begin, end]) {
        noted.store(address, Ordering::Relaxed);
    }
}

impl CommandLine {
    /// The stored values. Without them, reads them from the kernel (proc_pid_stat(5), fields 48 to 51).
    ///
    /// # Errors
    /// Those of reading /proc/self/stat; `INVAL` if the fields are missing.
    pub fn of_now() -> Result<CommandLine, Errno> {
        let [begin, end] = [0, 1].map(|n| NOTED[n].load(Ordering::Relaxed));
        if 0 < begin && begin <= end {
            return Ok(CommandLine { begin, end });
        }
        let stat = ProcessStat::read(Path::new("/proc/self/stat"))?;
        let address = |n: usize| stat.number(n).and_then(|address| usize::try_from(address).ok());
        match (address(48), address(49), address(50), address(51)) {
            (Some(begin), Some(args_end), Some(env), Some(end))
                if 0 < begin && begin <= args_end && args_end <= env && env <= end =>
            {
                Ok(CommandLine { begin, end })
            }
            _ => Err(Errno::INVAL),
        }
    }

    /// Overwrites them, in a child, which does not use them any more.
    pub fn overwrite(self, _alone: &Alone) {
        let length = self.end - self.begin;
        // SAFETY: the kernel said that the strings of this program lie there. That is at the end of the first thread's
        // stack, which is writable and never unmapped. The child has its own copy and one thread (`Alone`), and reads
        // no argument and no environment. A reader would still find strings that end with a NUL.
        let strings = unsafe { std::slice::from_raw_parts_mut(self.begin as *mut u8, length) };
        strings.fill(0);
        // the last byte stays NUL: otherwise the kernel shows what follows it too
        let shown = SHOWN.len().min(length.saturating_sub(1));
        strings[..shown].copy_from_slice(&SHOWN[..shown]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_where_the_strings_are() {
        let now = CommandLine::of_now().unwrap();
        // SAFETY: no other thread writes there while the test runs.
        let strings = unsafe { std::slice::from_raw_parts(now.begin as *const u8, now.end - now.begin) };
        let first = std::env::args_os().next().unwrap();
        assert!(strings.starts_with(first.as_encoded_bytes()));
    }
}
