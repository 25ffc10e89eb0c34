//! The beginning of a program. It finds the part for the caller's architecture, and returns ENOSYS for system calls
//! that are newer than the profile.
//!
//! A profile lists the calls that its author knew. For later calls, the default action returns EPERM. A libc that tries
//! such a call takes EPERM as the answer; with ENOSYS it would use the older call. So every number above the newest
//! call of the profile gets ENOSYS, and lower numbers go to the profile itself. The beginning also answers calls that
//! the profile names and libseccomp has no number for.

use std::ops::Range;

use libseccomp::ScmpSyscall;
use oci_spec::runtime::{Arch, LinuxSeccompAction};

use super::checked::{BAD_ARCH, Filter, INSTRUCTION, Verdict};
use super::names;

/// One struct sock_filter of linux/filter.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Instruction {
    code: u16,
    /// The number of instructions to skip if the comparison is true, and if it is false.
    skip: [u8; 2],
    k: u32,
}

/// An instruction, or a jump to the part for an architecture.
#[derive(Clone, Copy, Debug)]
enum Item {
    Do(Instruction),
    To(Arch),
}

// Opcodes of linux/bpf_common.h that the kernel accepts in seccomp programs. Only loads, comparisons and returns: so
// the kernel can find out which calls are always allowed, and skips the program for them.
const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const IF_EQUAL: u16 = 0x15;
const IF_GREATER: u16 = 0x25;
const IF_NOT_LESS: u16 = 0x35;
const IF_BITS: u16 = 0x45;
const RETURN: u16 = 0x06;

/// The offsets of the number and of the architecture in struct seccomp_data.
const NUMBER_AT: u32 = 0;
const ARCH_AT: u32 = 4;

const ENOSYS: Verdict = Verdict { action: LinuxSeccompAction::ScmpActErrno, number: 38 };

/// setup(2): s390 passes large numbers through this number, and leaves it 0 for a number that it does not know.
const S390_MULTIPLEX: u32 = 0;

/// Numbers of `arch` far above all others. They do not show the age of a profile: the private calls of 32-bit ARM
/// (arch/arm/kernel/traps.c), and x32's own numbers (syscall_64.tbl, no longer assigned).
fn numbers_apart(arch: Arch) -> Range<u32> {
    match arch {
        Arch::ScmpArchArm => 0x0f_0000..0x0f_0800,
        Arch::ScmpArchX32 => names::X32_BIT + 512..names::X32_BIT + 548,
        _ => 0..0,
    }
}

/// The bytes that come before `parts`, libseccomp's programs for the architectures of `filter` in order. None if a jump
/// would be too long.
pub(super) fn bytes(filter: &Filter, parts: &[Vec<u8>]) -> Option<Vec<u8>> {
    let mut lines = vec![load(ARCH_AT)];
    // x32 has no separate audit architecture: it uses that of x86_64, which is native wherever x32 can run.
    for &arch in filter.archs.iter().filter(|&&arch| arch != Arch::ScmpArchX32) {
        let section = section(filter, arch)?;
        lines.push(jump_if(IF_EQUAL, names::audit(arch), [0, reach(section.len())?]));
        lines.extend(section);
    }
    lines.push(returns(BAD_ARCH));
    assemble(&lines, &filter.archs, parts)
}

/// The part for one audit architecture. It ends with a jump or a return on every path.
fn section(filter: &Filter, arch: Arch) -> Option<Vec<Item>> {
    let answers = answers_of(filter, arch)?;
    let mut section = vec![load(NUMBER_AT)];
    if arch == Arch::ScmpArchX86_64 && filter.archs.contains(&Arch::ScmpArchX32) {
        section.push(jump_if(IF_BITS, names::X32_BIT, [reach(answers.len())?, 0]));
        section.extend(answers);
        section.extend(answers_of(filter, Arch::ScmpArchX32)?);
    } else if arch == Arch::ScmpArchX86_64 {
        // The profile does not name x32. libseccomp's part has the answer for it.
        section.push(jump_if(IF_BITS, names::X32_BIT, [0, 1]));
        section.push(Item::To(arch));
        section.extend(answers);
    } else {
        section.extend(answers);
    }
    Some(section)
}

/// The answers for the numbers of `arch`. The number is loaded already.
fn answers_of(filter: &Filter, arch: Arch) -> Option<Vec<Item>> {
    let late = late_answers(filter, arch);
    let mut lines = Vec::new();
    if let Some(newest) = hides_new_calls(filter.default).then(|| newest(filter, arch)).flatten() {
        if matches!(arch, Arch::ScmpArchS390 | Arch::ScmpArchS390x) {
            lines.extend(return_for(S390_MULTIPLEX, ENOSYS));
        }
        let apart = numbers_apart(arch);
        if !apart.is_empty() {
            lines.push(jump_if(IF_NOT_LESS, apart.start, [0, 2]));
            lines.push(jump_if(IF_NOT_LESS, apart.end, [1, 0]));
            lines.push(Item::To(arch));
        }
        lines.push(jump_if(IF_GREATER, newest, [0, 1]));
        lines.push(returns(ENOSYS));
    }
    if !late.is_empty() {
        let first = names::base(arch) + names::FIRST_LATE;
        lines.push(jump_if(IF_NOT_LESS, first, [0, reach(2 * late.len())?]));
        lines.extend(late.iter().flat_map(|&(number, verdict)| return_for(number, verdict)));
    }
    lines.push(Item::To(arch));
    Some(lines)
}

/// True if this default action is a wrong answer for calls that the profile does not know. ALLOW and LOG are right answers: the
/// kernel itself returns ENOSYS. A tracer can do the same.
fn hides_new_calls(default: Verdict) -> bool {
    match default.action {
        LinuxSeccompAction::ScmpActAllow | LinuxSeccompAction::ScmpActLog | LinuxSeccompAction::ScmpActTrace => false,
        LinuxSeccompAction::ScmpActErrno => default != ENOSYS,
        LinuxSeccompAction::ScmpActKill
        | LinuxSeccompAction::ScmpActKillThread
        | LinuxSeccompAction::ScmpActKillProcess
        | LinuxSeccompAction::ScmpActTrap
        | LinuxSeccompAction::ScmpActNotify => true,
    }
}

/// The largest number on `arch` of all calls that the profile names, whatever their action.
fn newest(filter: &Filter, arch: Arch) -> Option<u32> {
    let names = filter.rules.iter().flat_map(|rule| &rule.names);
    names.filter_map(|name| number(name, arch)).filter(|number| !numbers_apart(arch).contains(number)).max()
}

/// The number of `name` on `arch`. None if the architecture does not have the call.
fn number(name: &str, arch: Arch) -> Option<u32> {
    if let Ok(known) = ScmpSyscall::from_name_by_arch(name, names::scmp(arch)) {
        // Negative: libseccomp knows the call, but this architecture does not have it.
        let number = u32::try_from(known.as_raw_syscall()).ok()?;
        return Some(if arch == Arch::ScmpArchX32 { number | names::X32_BIT } else { number });
    }
    names::late(name).map(|number| names::base(arch) + number)
}

/// The answers for calls for which libseccomp has no number. If a call has several answers, the first one counts. A rule with
/// conditions on arguments is ignored here, so the default action applies.
fn late_answers(filter: &Filter, arch: Arch) -> Vec<(u32, Verdict)> {
    let mut answers: Vec<(u32, Verdict)> = Vec::new();
    for rule in &filter.rules {
        let always = rule.when.iter().any(Vec::is_empty);
        if !always || rule.verdict.bits() == filter.default.bits() {
            continue;
        }
        for name in rule.names.iter().filter(|name| ScmpSyscall::from_name(name).is_err()) {
            if let Some(number) = names::late(name).map(|number| names::base(arch) + number)
                && !answers.iter().any(|(known, _)| *known == number)
            {
                answers.push((number, rule.verdict));
            }
        }
    }
    answers
}

/// The length of a conditional jump over `lines`. It is at most 255. A section has two lines for each late call and
/// about a dozen more, twice on x86_64.
fn reach(lines: usize) -> Option<u8> {
    u8::try_from(lines).ok()
}

fn return_for(number: u32, verdict: Verdict) -> [Item; 2] {
    [jump_if(IF_EQUAL, number, [0, 1]), returns(verdict)]
}

fn returns(verdict: Verdict) -> Item {
    instruction(RETURN, verdict.bits())
}

fn load(offset: u32) -> Item {
    instruction(LOAD, offset)
}

fn instruction(code: u16, k: u32) -> Item {
    jump_if(code, k, [0, 0])
}

fn jump_if(code: u16, k: u32, skip: [u8; 2]) -> Item {
    Item::Do(Instruction { code, skip, k })
}

/// The bytes of `lines` in the machine's byte order, for a program that continues with `parts`. `archs` are the
/// architectures of `parts`.
fn assemble(lines: &[Item], archs: &[Arch], parts: &[Vec<u8>]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(INSTRUCTION * lines.len());
    for (i, line) in lines.iter().enumerate() {
        let instruction = match *line {
            Item::Do(instruction) => instruction,
            Item::To(arch) => {
                let before = archs.iter().zip(parts).take_while(|(other, _)| **other != arch);
                let skip = lines.len() - i - 1 + before.map(|(_, part)| part.len() / INSTRUCTION).sum::<usize>();
                Instruction { code: JUMP, skip: [0, 0], k: u32::try_from(skip).ok()? }
            }
        };
        bytes.extend(instruction.code.to_ne_bytes());
        bytes.extend(instruction.skip);
        bytes.extend(instruction.k.to_ne_bytes());
    }
    Some(bytes)
}
