//! The program's own arguments and environment, where the kernel shows them to others (proc_pid_cmdline(5)). Every process can
//! read the arguments.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::io::Errno;

use super::clone::Alone;
use super::process_stat::ProcessStat;

/// Begin and end of the arguments, then of the environment. execve(2) puts the environment behind the arguments. A program can
/// move each (PR_SET_MM(2const), PR_SET_MM_ARG_START).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandLine([usize; 4]);

/// The text that is shown instead.
const SHOWN: &[u8] = b"coracle\0init";

/// The known addresses.
static NOTED: [AtomicUsize; 4] = [const { AtomicUsize::new(0) }; 4];

/// Stores the kernel's answer, so that the kernel is asked only once.
pub(super) fn remember(addresses: [usize; 4]) {
    for (noted, address) in NOTED.iter().zip(addresses) {
        noted.store(address, Ordering::Relaxed);
    }
}

impl CommandLine {
    /// The stored values. Without them, reads them from the kernel (proc_pid_stat(5), fields 48 to 51).
    ///
    /// # Errors
    /// Those of reading /proc/self/stat; `INVAL` if the fields are missing.
    pub fn of_now() -> Result<CommandLine, Errno> {
        if let Some(known) = CommandLine::checked(NOTED.each_ref().map(|address| address.load(Ordering::Relaxed))) {
            return Ok(known);
        }
        let stat = ProcessStat::read(Path::new("/proc/self/stat"))?;
        let address = |n: usize| stat.number(n).and_then(|address| usize::try_from(address).ok()).ok_or(Errno::INVAL);
        CommandLine::checked([address(48)?, address(49)?, address(50)?, address(51)?]).ok_or(Errno::INVAL)
    }

    fn checked(addresses: [usize; 4]) -> Option<CommandLine> {
        let [begin, end, env, env_end] = addresses;
        (0 < begin && begin <= end && 0 < env && env <= env_end).then_some(CommandLine(addresses))
    }

    /// Overwrites them, in a child, which does not use them any more.
    pub fn overwrite(self, _alone: &Alone) {
        let [begin, end, env, env_end] = self.0;
        // SAFETY: the kernel said that the strings of this program lie there. execve(2) puts them at the end of the first thread's
        // stack, which is writable and never unmapped; a program that moves them keeps them in such memory, too, because others
        // read them there. The child has its own copy and one thread (`Alone`), and reads no argument and no environment. A
        // reader would still find strings that end with a NUL. No two slices are used at the same time.
        let strings = |from: usize, to: usize| unsafe { std::slice::from_raw_parts_mut(from as *mut u8, to - from) };
        strings(env, env_end).fill(0);
        // if there are few arguments, the text goes on where the environment was
        let arguments = strings(begin, if end == env { env_end } else { end });
        arguments.fill(0);
        // the last byte stays NUL: otherwise the kernel shows what follows it too
        let shown = SHOWN.len().min(arguments.len().saturating_sub(1));
        arguments[..shown].copy_from_slice(&SHOWN[..shown]);
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use rustix::process::{WaitId, WaitIdOptions, waitid};

    use super::*;
    use crate::sys::clone::{clone, exit};

    #[test]
    fn the_kernel_says_where_the_strings_are() {
        let CommandLine([begin, end, ..]) = CommandLine::of_now().unwrap();
        // SAFETY: no other thread writes there while the test runs.
        let strings = unsafe { std::slice::from_raw_parts(begin as *const u8, end - begin) };
        let first = std::env::args_os().next().unwrap();
        assert!(strings.starts_with(first.as_encoded_bytes()));
    }

    #[test]
    fn what_lies_between_moved_arguments_and_the_environment_stays() {
        let memory = [b'x'; 96];
        let begin = memory.as_ptr() as usize;
        let expected = |parts: [&[u8]; 3]| {
            let mut expected = [b'x'; 96];
            for (room, part) in expected.chunks_mut(32).zip(parts) {
                room[..part.len()].copy_from_slice(part);
            }
            expected
        };
        let mut shown = [0u8; 32];
        shown[..SHOWN.len()].copy_from_slice(SHOWN);
        let rest: &[u8] = &[0; 32];
        let cases = [
            ([0, 32, 64, 96], expected([&shown, b"", rest])),
            // the environment can be before the arguments
            ([64, 96, 0, 32], expected([rest, b"", &shown])),
            // as execve(2) puts them, with one short argument
            ([0, 2, 2, 96], expected([&shown, rest, rest])),
            // moved, and too short for the text
            ([0, 4, 64, 64], expected([b"cor\0", b"", b""])),
        ];
        for (places, expected) in cases {
            let line = CommandLine::checked(places.map(|place| begin + place)).unwrap();
            let (_, child) = clone(0, None, |alone| {
                line.overwrite(alone);
                exit(i32::from(std::hint::black_box(&memory) != &expected))
            })
            .unwrap();
            let ended = waitid(WaitId::PidFd(child.as_fd()), WaitIdOptions::EXITED).unwrap();
            assert_eq!(ended.unwrap().exit_status(), Some(0), "{places:?}");
        }
        assert_eq!(CommandLine::checked([0; 4]), None);
        assert_eq!(CommandLine::checked([8, 4, 12, 16]), None);
    }
}
