//! A checked profile, and its properties.

use std::fmt;
use std::path::PathBuf;

use libseccomp::{ScmpAction, ScmpVersion};
use oci_spec::runtime::{Arch, LinuxSeccompAction, LinuxSeccompOperator};
use sha2::{Digest, Sha256};

use super::names;
use crate::config::At;
use crate::printable::hex;

/// The version of coracle that makes programs: a cache must not return a program of another version. A test build, or a
/// build of an unpacked archive, has no commit.
pub(super) const MADE_BY: [&str; 2] = [env!("CARGO_PKG_VERSION"), env!("CORACLE_COMMIT")];

/// The size of struct sock_filter in bytes.
pub(super) const INSTRUCTION: usize = 8;

/// The answer for an architecture that the profile does not name.
pub(super) const BAD_ARCH: Verdict = Verdict { action: LinuxSeccompAction::ScmpActKillProcess, number: 0 };

/// A checked profile: `linux.seccomp` with all defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    pub(super) at: At,
    pub(super) default: Verdict,
    /// The native one first, each only once, and only those that this machine's kernel can run.
    pub(super) archs: Vec<Arch>,
    pub(super) rules: Vec<SyscallRule>,
    /// SECCOMP_FILTER_FLAG_* without NEW_LISTENER.
    pub(super) flags: u32,
    pub(super) listener: Option<Listener>,
    /// The program itself, if it is given. Then there are no rules.
    pub(super) data: Option<Vec<u8>>,
}

/// The agent that receives the descriptor for SCMP_ACT_NOTIFY rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The property that names it.
    pub at: At,
    /// A UNIX stream socket of the host.
    pub path: PathBuf,
    /// Sent unchanged. Empty if config.json has none.
    pub metadata: String,
}

/// One entry of `syscalls`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyscallRule {
    /// Its index in `syscalls`.
    pub(super) n: usize,
    pub(super) names: Vec<String>,
    pub(super) verdict: Verdict,
    /// The verdict applies when all conditions of any of these lists hold. So `[[]]` means always, and `[]` means
    /// never.
    pub(super) when: Vec<Vec<Condition>>,
}

/// A comparison with one argument of a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Which argument, 0 to 5.
    pub(super) index: u32,
    pub(super) op: LinuxSeccompOperator,
    /// The value to compare with. For MASKED_EQ: the mask.
    pub(super) value: u64,
    /// For MASKED_EQ: the expected value under the mask. Otherwise unused.
    pub(super) value_two: u64,
}

/// The answer of a filter for one system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub(super) action: LinuxSeccompAction,
    /// ERRNO: the errno. TRACE: the message for the tracer. Otherwise 0.
    pub(super) number: u16,
}

impl Verdict {
    /// SECCOMP_RET_* with its data, as a filter returns it.
    pub(super) fn bits(self) -> u32 {
        self.action.as_u32(Some(u32::from(self.number)))
    }

    /// The same as libseccomp's type.
    pub(super) fn scmp(self) -> ScmpAction {
        match self.action {
            LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => ScmpAction::KillThread,
            LinuxSeccompAction::ScmpActKillProcess => ScmpAction::KillProcess,
            LinuxSeccompAction::ScmpActTrap => ScmpAction::Trap,
            LinuxSeccompAction::ScmpActErrno => ScmpAction::Errno(i32::from(self.number)),
            LinuxSeccompAction::ScmpActNotify => ScmpAction::Notify,
            LinuxSeccompAction::ScmpActTrace => ScmpAction::Trace(self.number),
            LinuxSeccompAction::ScmpActLog => ScmpAction::Log,
            LinuxSeccompAction::ScmpActAllow => ScmpAction::Allow,
        }
    }
}

impl fmt::Display for Filter {
    /// The profile in a few words: `437 calls in 3 rules, else SCMP_ACT_ERRNO 38`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(data) = &self.data {
            return write!(f, "{} instructions as given", data.len() / INSTRUCTION);
        }
        write!(f, "{} calls in {} rules, else {}", self.named(), self.rules.len(), self.default.action)?;
        match self.default.number {
            0 => Ok(()),
            number => write!(f, " {number}"),
        }
    }
}

/// How a profile denies a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// It fails with this errno.
    With(i32),
    /// SIGSYS kills the process.
    ByDeath,
}

impl Filter {
    /// How the profile denies every call with that name, whatever its arguments. None if it allows the call, or if the
    /// arguments decide.
    pub fn denies(&self, name: &str) -> Option<Denied> {
        if self.data.is_some() {
            return None;
        }
        let mut rules = self.rules.iter().filter(|rule| rule.names.iter().any(|there| there == name)).peekable();
        let verdict = match rules.peek() {
            None => self.default,
            Some(_) => rules.find(|rule| rule.when.iter().any(Vec::is_empty))?.verdict,
        };
        match verdict.action {
            LinuxSeccompAction::ScmpActAllow | LinuxSeccompAction::ScmpActLog => None,
            // The call succeeds without doing anything. `init` reports that as ECANCELED.
            LinuxSeccompAction::ScmpActErrno if verdict.number == 0 => Some(Denied::With(libc::ECANCELED)),
            LinuxSeccompAction::ScmpActErrno => Some(Denied::With(verdict.number.into())),
            // The result without a tracer, or without an agent that listens (seccomp(2)).
            LinuxSeccompAction::ScmpActTrace | LinuxSeccompAction::ScmpActNotify => Some(Denied::With(libc::ENOSYS)),
            LinuxSeccompAction::ScmpActKill
            | LinuxSeccompAction::ScmpActKillThread
            | LinuxSeccompAction::ScmpActKillProcess
            | LinuxSeccompAction::ScmpActTrap => Some(Denied::ByDeath),
        }
    }

    /// Its place in config.json.
    pub fn at(&self) -> &At {
        &self.at
    }

    /// SECCOMP_FILTER_FLAG_* for seccomp(2), with NEW_LISTENER if there is a `listener`.
    pub fn flags(&self) -> u32 {
        self.flags | if self.listener.is_some() { names::NEW_LISTENER } else { 0 }
    }

    /// The agent that receives the listener's descriptor. None if no rule has SCMP_ACT_NOTIFY.
    pub fn listener(&self) -> Option<&Listener> {
        self.listener.as_ref()
    }

    /// A key for the program: the SHA-256, in hex, of everything that decides its bytes. Equal profiles have equal
    /// keys. The flags and the listener are not part of the key.
    pub fn key(&self) -> String {
        self.key_of(&MADE_BY)
    }

    pub(super) fn key_of(&self, made_by: &[&str]) -> String {
        let mut hash = Sha256::new();
        for part in made_by {
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
        if let Ok(version) = ScmpVersion::current() {
            for part in [version.major, version.minor, version.micro] {
                hash.update(part.to_le_bytes());
            }
        }
        hash.update(self.canonical());
        hex(&hash.finalize())
    }

    /// The number of system calls with a rule.
    fn named(&self) -> usize {
        let mut names: Vec<_> = self.rules.iter().flat_map(|rule| &rule.names).collect();
        names.sort_unstable();
        names.dedup();
        names.len()
    }

    /// The profile as bytes. Different profiles have different bytes, because each list comes after its length.
    fn canonical(&self) -> Vec<u8> {
        fn count(bytes: &mut Vec<u8>, n: usize) {
            bytes.extend((n as u64).to_le_bytes());
        }
        let mut bytes = Vec::with_capacity(8192);
        // No other hashed text begins like this: these bytes are not an action.
        if let Some(data) = &self.data {
            bytes.extend([0xff; 8]);
            bytes.extend(data);
            return bytes;
        }
        bytes.extend(self.default.bits().to_le_bytes());
        count(&mut bytes, self.archs.len());
        self.archs.iter().for_each(|&arch| bytes.extend((arch as u32).to_le_bytes()));
        count(&mut bytes, self.rules.len());
        for rule in &self.rules {
            bytes.extend(rule.verdict.bits().to_le_bytes());
            count(&mut bytes, rule.names.len());
            for name in &rule.names {
                count(&mut bytes, name.len());
                bytes.extend(name.as_bytes());
            }
            count(&mut bytes, rule.when.len());
            for all in &rule.when {
                count(&mut bytes, all.len());
                for condition in all {
                    bytes.extend(condition.index.to_le_bytes());
                    bytes.extend((condition.op as u32).to_le_bytes());
                    bytes.extend(condition.value.to_le_bytes());
                    bytes.extend(condition.value_two.to_le_bytes());
                }
            }
        }
        bytes
    }

    /// The place of name `j` of `rule`.
    pub(super) fn at_name(&self, rule: &SyscallRule, j: usize) -> At {
        self.at.key("syscalls").index(rule.n).key("names").index(j)
    }
}
