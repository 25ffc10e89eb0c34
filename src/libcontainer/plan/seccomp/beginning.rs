//! The beginning of a program: it finds the part for the caller's architecture, and makes system calls that the profile
//! is too old to know say ENOSYS.
//!
//! A profile is a list of calls that were thought of. To one that came later the default action says EPERM, and a libc
//! that tries it takes EPERM for an answer where ENOSYS would make it fall back to the older call. So whatever is
//! numbered above the newest call that the profile names says ENOSYS; numbers below go on to the profile itself. The
//! same place answers for calls that the profile names and libseccomp has no number for.

use std::ops::Range;

use libseccomp::ScmpSyscall;
use oci_spec::runtime::{Arch, LinuxSeccompAction};

use super::checked::{BAD_ARCH, Filter, INSTRUCTION, Verdict};
use super::names;

/// One struct sock_filter of linux/filter.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Instruction {
    code: u16,
    /// How many instructions to skip when the comparison holds, and when it does not.
    skip: [u8; 2],
    k: u32,
}

/// An instruction, or a jump to the part for an architecture.
#[derive(Clone, Copy, Debug)]
enum Line {
    Do(Instruction),
    To(Arch),
}

// Opcodes of linux/bpf_common.h, as the kernel's check of seccomp programs takes them. Loads, comparisons and returns
// only: with these the kernel still finds out which calls are always allowed and skips the program for them.
const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const IF_EQUAL: u16 = 0x15;
const IF_GREATER: u16 = 0x25;
const IF_NOT_LESS: u16 = 0x35;
const IF_BITS: u16 = 0x45;
const RETURN: u16 = 0x06;

/// Where struct seccomp_data has the number and the architecture.
const NUMBER_AT: u32 = 0;
const ARCH_AT: u32 = 4;

const ENOSYS: Verdict = Verdict { action: LinuxSeccompAction::ScmpActErrno, number: 38 };

/// setup(2): s390 passes large numbers through it, and leaves it 0 when it does not know the number passed.
const S390_MULTIPLEX: u32 = 0;

/// Numbers of `arch` that lie far above all others and say nothing about how new a profile is: the private calls of
/// 32-bit ARM (arch/arm/kernel/traps.c), and what x32 has of its own (syscall_64.tbl: not to be used again).
fn apart(arch: Arch) -> Range<u32> {
    match arch {
        Arch::ScmpArchArm => 0x0f_0000..0x0f_0800,
        Arch::ScmpArchX32 => names::X32_BIT + 512..names::X32_BIT + 548,
        _ => 0..0,
    }
}

/// The bytes to stand before `parts`, libseccomp's programs for the architectures of `filter` in their order. None where a
/// jump would have to go farther than one can.
pub(super) fn of(filter: &Filter, parts: &[Vec<u8>]) -> Option<Vec<u8>> {
    let mut lines = vec![load(ARCH_AT)];
    // x32 has no audit architecture of its own: it comes with x86_64, which is native wherever x32 can run
    for &arch in filter.archs.iter().filter(|&&arch| arch != Arch::ScmpArchX32) {
        let section = section(filter, arch)?;
        lines.push(jump_if(IF_EQUAL, names::audit(arch), [0, reach(section.len())?]));
        lines.extend(section);
    }
    lines.push(returns(BAD_ARCH));
    assemble(&lines, &filter.archs, parts)
}

/// What is done with the calls of one audit architecture. It never falls out at the end.
fn section(filter: &Filter, arch: Arch) -> Option<Vec<Line>> {
    let answers = answers(filter, arch)?;
    let mut section = vec![load(NUMBER_AT)];
    if arch == Arch::ScmpArchX86_64 && filter.archs.contains(&Arch::ScmpArchX32) {
        section.push(jump_if(IF_BITS, names::X32_BIT, [reach(answers.len())?, 0]));
        section.extend(answers);
        section.extend(self::answers(filter, Arch::ScmpArchX32)?);
    } else if arch == Arch::ScmpArchX86_64 {
        // libseccomp's part knows what to say to x32, which the profile does not name
        section.push(jump_if(IF_BITS, names::X32_BIT, [0, 1]));
        section.push(Line::To(arch));
        section.extend(answers);
    } else {
        section.extend(answers);
    }
    Some(section)
}

/// What is done with the numbers of `arch`, the number being loaded.
fn answers(filter: &Filter, arch: Arch) -> Option<Vec<Line>> {
    let late = late_answers(filter, arch);
    let mut lines = Vec::new();
    if let Some(newest) = hides_new_calls(filter.default).then(|| newest(filter, arch)).flatten() {
        if matches!(arch, Arch::ScmpArchS390 | Arch::ScmpArchS390x) {
            lines.extend(answer(S390_MULTIPLEX, ENOSYS));
        }
        let apart = apart(arch);
        if !apart.is_empty() {
            lines.push(jump_if(IF_NOT_LESS, apart.start, [0, 2]));
            lines.push(jump_if(IF_NOT_LESS, apart.end, [1, 0]));
            lines.push(Line::To(arch));
        }
        lines.push(jump_if(IF_GREATER, newest, [0, 1]));
        lines.push(returns(ENOSYS));
    }
    if !late.is_empty() {
        let first = names::base(arch) + names::FIRST_LATE;
        lines.push(jump_if(IF_NOT_LESS, first, [0, reach(2 * late.len())?]));
        lines.extend(late.iter().flat_map(|&(number, verdict)| answer(number, verdict)));
    }
    lines.push(Line::To(arch));
    Some(lines)
}

/// Whether this default action would give a wrong answer for calls the profile does not know. An allowing one does
/// not: the kernel itself says ENOSYS, and a tracer can.
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

/// The largest number on `arch` among the calls that the profile names, whatever it says of them.
fn newest(filter: &Filter, arch: Arch) -> Option<u32> {
    let names = filter.rules.iter().flat_map(|rule| &rule.names);
    names.filter_map(|name| number(name, arch)).filter(|number| !apart(arch).contains(number)).max()
}

/// The number of `name` on `arch`, unless it has none there.
fn number(name: &str, arch: Arch) -> Option<u32> {
    if let Ok(known) = ScmpSyscall::from_name_by_arch(name, names::scmp(arch)) {
        // negative: known to libseccomp, but not a call of this architecture
        let number = u32::try_from(known.as_raw_syscall()).ok()?;
        return Some(if arch == Arch::ScmpArchX32 { number | names::X32_BIT } else { number });
    }
    names::late(name).map(|number| names::base(arch) + number)
}

/// The answers for calls that libseccomp has no number for. Of several for one call the first counts. One that
/// depends on arguments is left out: then the default action answers.
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

/// How far a conditional jump goes that skips `lines`. It has 255 to go; a section has two lines for each late call
/// and a dozen more, twice on x86_64.
fn reach(lines: usize) -> Option<u8> {
    u8::try_from(lines).ok()
}

fn answer(number: u32, verdict: Verdict) -> [Line; 2] {
    [jump_if(IF_EQUAL, number, [0, 1]), returns(verdict)]
}

fn returns(verdict: Verdict) -> Line {
    instruction(RETURN, verdict.bits())
}

fn load(offset: u32) -> Line {
    instruction(LOAD, offset)
}

fn instruction(code: u16, k: u32) -> Line {
    jump_if(code, k, [0, 0])
}

fn jump_if(code: u16, k: u32, skip: [u8; 2]) -> Line {
    Line::Do(Instruction { code, skip, k })
}

/// The bytes of `lines`, in the machine's own order, to be followed by `parts`, which belong to `archs`.
fn assemble(lines: &[Line], archs: &[Arch], parts: &[Vec<u8>]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(INSTRUCTION * lines.len());
    for (i, line) in lines.iter().enumerate() {
        let instruction = match *line {
            Line::Do(instruction) => instruction,
            Line::To(arch) => {
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
