//! seccomp(2): loading a filter that was compiled before the fork.

use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::{checked, owned};

/// One BPF instruction (struct sock_filter of linux/filter.h).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SockFilter {
    code: u16,
    jump_true: u8,
    jump_false: u8,
    k: u32,
}

/// A filter as the kernel takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program(Vec<SockFilter>);

impl Program {
    /// The instructions in `bytes`, eight bytes each in the machine's own order.
    ///
    /// # Errors
    /// `INVAL` when the last one is not whole.
    pub fn from_bytes(bytes: &[u8]) -> Result<Program, Errno> {
        let instructions = bytes.chunks_exact(8);
        if !instructions.remainder().is_empty() {
            return Err(Errno::INVAL);
        }
        Ok(Program(
            instructions
                .map(|b| SockFilter {
                    code: u16::from_ne_bytes([b[0], b[1]]),
                    jump_true: b[2],
                    jump_false: b[3],
                    k: u32::from_ne_bytes([b[4], b[5], b[6], b[7]]),
                })
                .collect(),
        ))
    }

    /// How many instructions it has.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True for a program without instructions, which the kernel refuses.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// struct sock_fprog.
#[repr(C)]
struct SockFprog {
    length: u16,
    instructions: *const SockFilter,
}

/// Loads `program` for this process and all it becomes. With SECCOMP_FILTER_FLAG_NEW_LISTENER in `flags` the listener
/// is returned, close-on-exec.
///
/// # Errors
/// Those of seccomp(2): EACCES without no_new_privs and CAP_SYS_ADMIN, EINVAL for a flag the kernel does not know. ESRCH with
/// SECCOMP_FILTER_FLAG_TSYNC if another thread has a filter that this one does not have.
pub fn load(program: &Program, flags: u32) -> Result<Option<OwnedFd>, Errno> {
    load_instructions(&program.0, flags)
}

fn load_instructions(instructions: &[SockFilter], flags: u32) -> Result<Option<OwnedFd>, Errno> {
    let length = u16::try_from(instructions.len()).map_err(|_| Errno::TOOBIG)?;
    let filter = SockFprog { length, instructions: instructions.as_ptr() };
    // SAFETY: filter points to `length` instructions that live through the call; the kernel copies them.
    let result =
        checked(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const filter) })?;
    match (has_listener(flags), result) {
        // SAFETY: with NEW_LISTENER the result is a new descriptor, and nothing else owns it.
        (true, listener) => unsafe { owned(listener) }.map(Some),
        (false, 0) => Ok(None),
        // SECCOMP_FILTER_FLAG_TSYNC: nothing was loaded, because of the thread with this id
        (false, _) => Err(Errno::SRCH),
    }
}

/// A system call that a filter of `allow_only` allows.
#[derive(Clone, Copy, Debug)]
pub struct Allowed {
    /// Its number.
    pub number: libc::c_long,
    /// Its first arguments. None for any value.
    pub arguments: [Option<u64>; 3],
}

impl Allowed {
    /// With any arguments.
    pub fn always(number: libc::c_long) -> Allowed {
        Allowed { number, arguments: [None; 3] }
    }
}

/// Instructions for each allowed call: two for its number, four for each argument, and one that allows it.
const EACH: usize = 2 + 3 * 4 + 1;

/// Loads a filter for this process and all that it makes: another call kills the process. Does not use the heap.
///
/// # Errors
/// Those of seccomp(2).
pub fn allow_only<const N: usize>(calls: &[Allowed; N]) -> Result<(), Errno> {
    #[cfg(target_arch = "x86_64")]
    const ARCH: u32 = 0xc000_003e; // AUDIT_ARCH_X86_64
    #[cfg(target_arch = "aarch64")]
    const ARCH: u32 = 0xc000_00b7; // AUDIT_ARCH_AARCH64
    // bpf(4), struct seccomp_data: nr at 0, arch at 4, args at 16
    const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    const EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    let load_word = |k| SockFilter { code: LOAD, jump_true: 0, jump_false: 0, k };
    let unless = |k, jump_false| SockFilter { code: EQUAL, jump_true: 0, jump_false, k };
    let returns = |k| SockFilter { code: RETURN, jump_true: 0, jump_false: 0, k };
    let kill = returns(libc::SECCOMP_RET_KILL_PROCESS);
    let mut rules = [[kill; EACH]; N];
    for (rule, call) in rules.iter_mut().zip(calls) {
        let number = u32::try_from(call.number).map_err(|_| Errno::INVAL)?;
        let mut end = 0;
        let mut must_be = |offset, word| {
            // to the next rule
            #[allow(clippy::cast_possible_truncation)] // EACH is small
            let beyond = (EACH - end - 2) as u8;
            rule[end..end + 2].copy_from_slice(&[load_word(offset), unless(word, beyond)]);
            end += 2;
        };
        must_be(0, number);
        for (offset, argument) in (16..).step_by(8).zip(call.arguments) {
            if let Some(argument) = argument {
                must_be(offset, low(argument));
                must_be(offset + 4, low(argument >> 32));
            }
        }
        rule[end] = returns(libc::SECCOMP_RET_ALLOW);
    }
    let mut program = [kill; 128];
    program[..3].copy_from_slice(&[load_word(4), SockFilter { jump_true: 1, ..unless(ARCH, 0) }, kill]);
    let end = 3 + rules.as_flattened().len();
    program.get_mut(3..end).ok_or(Errno::TOOBIG)?.copy_from_slice(rules.as_flattened());
    load_instructions(program.get(..=end).ok_or(Errno::TOOBIG)?, 0).map(drop)
}

/// The low 32 bits. (Both processors are little-endian, so they come first.)
#[allow(clippy::cast_possible_truncation)] // intended
fn low(word: u64) -> u32 {
    word as u32
}

/// True if loading a filter with these flags returns a listener.
pub fn has_listener(flags: u32) -> bool {
    u64::from(flags) & libc::SECCOMP_FILTER_FLAG_NEW_LISTENER != 0
}

/// True when this kernel knows the flag of that name, `SECCOMP_FILTER_FLAG_LOG` and the like. Nothing is loaded.
pub fn takes_flag(name: &str) -> bool {
    let flag = match name.strip_prefix("SECCOMP_FILTER_FLAG_") {
        Some("TSYNC") => libc::SECCOMP_FILTER_FLAG_TSYNC,
        Some("LOG") => libc::SECCOMP_FILTER_FLAG_LOG,
        Some("SPEC_ALLOW") => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
        // the kernel takes it together with a listener only
        Some("WAIT_KILLABLE_RECV") => {
            libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV | libc::SECCOMP_FILTER_FLAG_NEW_LISTENER
        }
        _ => return false,
    };
    let nothing = std::ptr::null::<SockFprog>();
    // SAFETY: the kernel checks the flags first, and then returns EFAULT, because there is no filter at address 0.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flag, nothing) };
    checked(result) == Err(Errno::FAULT)
}

/// A filter under which one system call returns this error, and does nothing.
#[cfg(test)]
pub(super) fn failing(call: libc::c_long, errno: Errno) -> Program {
    let instruction = |code, [jump_true, jump_false]: [u8; 2], k| SockFilter { code, jump_true, jump_false, k };
    let returned = libc::SECCOMP_RET_ERRNO | errno.raw_os_error().unsigned_abs();
    // bpf(4): load the number, jump if it is that one, return
    Program(vec![
        instruction(0x20, [0, 0], 0),
        instruction(0x15, [0, 1], u32::try_from(call).unwrap()),
        instruction(6, [0, 0], returned),
        instruction(6, [0, 0], libc::SECCOMP_RET_ALLOW),
    ])
}

#[cfg(test)]
mod tests {
    #[test]
    fn half_an_instruction_is_refused() {
        let returns = [6, 0, 0, 0, 0, 0, 0xff, 0x7f];
        assert_eq!(super::Program::from_bytes(&returns).unwrap().len(), 1);
        assert_eq!(super::Program::from_bytes(&returns[..7]), Err(rustix::io::Errno::INVAL));
    }

    #[test]
    fn a_filter_that_another_thread_prevents_is_an_error() {
        use rustix::io::Errno;
        use std::sync::Barrier;
        // no test makes this call
        let filter = super::failing(libc::SYS_vhangup, Errno::NOSYS);
        let load = |flags| rustix::thread::set_no_new_privs(true).and_then(|()| super::load(&filter, flags).map(drop));
        let both = Barrier::new(2);
        std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                let loaded = load(0);
                both.wait();
                both.wait();
                loaded
            });
            let first = scope.spawn(|| {
                both.wait();
                let loaded = load(u32::try_from(libc::SECCOMP_FILTER_FLAG_TSYNC).unwrap());
                both.wait();
                loaded
            });
            assert_eq!(other.join().unwrap(), Ok(()));
            assert_eq!(first.join().unwrap(), Err(Errno::SRCH));
        });
    }

    #[test]
    fn a_flag_that_nobody_knows_is_not_taken() {
        assert!(super::takes_flag("SECCOMP_FILTER_FLAG_TSYNC"));
        assert!(!super::takes_flag("SECCOMP_FILTER_FLAG_NONSENSE"));
    }
}
