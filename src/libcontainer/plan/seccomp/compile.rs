//! A filter to the bytes of its program, by libseccomp.

use libseccomp::error::{SeccompErrno, SeccompError};
use libseccomp::{ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall, set_api};
use oci_spec::runtime::{Arch, LinuxSeccompOperator};
use rustix::fs::{MemfdFlags, fstat, memfd_create};
use rustix::io::{Errno, pread};

use super::checked::{BAD_ARCH, Condition, Filter, INSTRUCTION, Rule};
use super::{beginning, names};
use crate::config::{At, Fault};

/// The longest program that the kernel loads, in instructions (BPF_MAXINSNS of linux/bpf_common.h).
pub const MOST_INSTRUCTIONS: usize = 4096;

/// The libseccomp API level that knows every action of the spec (libseccomp 2.5).
const API_LEVEL: u32 = 6;

/// From this many rules on a search tree is worth its beginning.
const TREE_FROM: usize = 32;
/// SCMP_FLTATR_CTL_OPTIMIZE: a binary tree over the numbers, where 1 is one comparison after the other.
const TREE: u32 = 2;

impl Filter {
    /// The program: an array of struct sock_filter, eight bytes each, in the machine's own byte order.
    ///
    /// # Errors
    /// A fault when libseccomp refuses a rule, or when the program is longer than the kernel takes.
    pub fn compile(&self) -> Result<Vec<u8>, Fault> {
        program(self)
    }
}

/// The program of `filter`.
///
/// One filter for all architectures would do as well, but libseccomp searches every jump's target from the start: three
/// architectures in one take it five times as long as three filters (24 ms and 8 ms for podman's profile).
fn program(filter: &Filter) -> Result<Vec<u8>, Fault> {
    // Without this libseccomp asks the kernel what it can do, and the same profile would give other bytes elsewhere.
    // What the kernel lacks it says when the program is loaded. An older libseccomp refuses the level and asks.
    let _ = set_api(API_LEVEL);
    let parts = filter.archs.iter().map(|&arch| part(filter, arch)).collect::<Result<Vec<_>, _>>()?;
    let too_far =
        || Fault { at: filter.at.clone(), problem: "makes a program with a jump that is too long".to_owned() };
    let mut program = beginning::of(filter, &parts).ok_or_else(too_far)?;
    parts.iter().for_each(|part| program.extend(part));
    let length = program.len() / INSTRUCTION;
    if length > MOST_INSTRUCTIONS {
        let problem = format!("makes {length} instructions, and the kernel takes {MOST_INSTRUCTIONS}");
        return Err(Fault { at: filter.at.clone(), problem });
    }
    Ok(program)
}

/// What libseccomp makes of `filter` for `arch`; complete in itself.
fn part(filter: &Filter, arch: Arch) -> Result<Vec<u8>, Fault> {
    let mut scmp = begin(filter, arch).map_err(|err| refused(&filter.at, &err))?;
    let mut rules = 0;
    for rule in &filter.rules {
        // libseccomp refuses what the default action does anyway
        if rule.verdict.bits() != filter.default.bits() {
            rules += add(&mut scmp, filter, rule)?;
        }
    }
    // libseccomp up to 2.5.4 goes wrong with a tree and no rules at all
    if rules > TREE_FROM {
        scmp.set_ctl_optimize(TREE).map_err(|err| refused(&filter.at, &err))?;
    }
    export(&scmp).map_err(|problem| Fault { at: filter.at.clone(), problem })
}

/// A filter of libseccomp's without rules.
fn begin(filter: &Filter, arch: Arch) -> Result<ScmpFilterContext, SeccompError> {
    let mut scmp = ScmpFilterContext::new(filter.default.scmp())?;
    if Some(&arch) != filter.archs.first() {
        scmp.add_arch(names::scmp(arch))?;
        scmp.remove_arch(ScmpArch::Native)?;
    }
    // A call of an architecture that the profile does not name: the whole process dies, where libseccomp would end
    // one thread and leave the others waiting for it.
    scmp.set_act_badarch(BAD_ARCH.scmp())?;
    // init decides about no_new_privs
    scmp.set_ctl_nnp(false)?;
    Ok(scmp)
}

/// Adds `rule` for each of its names that libseccomp knows, and says for how many.
fn add(scmp: &mut ScmpFilterContext, filter: &Filter, rule: &Rule) -> Result<usize, Fault> {
    let action = rule.verdict.scmp();
    let when: Vec<Vec<ScmpArgCompare>> = rule.when.iter().map(|all| all.iter().map(comparison).collect()).collect();
    let mut added = 0;
    for (j, name) in rule.names.iter().enumerate() {
        let Ok(syscall) = ScmpSyscall::from_name(name) else { continue };
        for all in &when {
            let result = scmp.add_rule_conditional(action, syscall, all).map(drop);
            result.map_err(|err| refused(&filter.place(rule, j), &err))?;
        }
        added += 1;
    }
    Ok(added)
}

fn comparison(condition: &Condition) -> ScmpArgCompare {
    let Condition { index, op, value, value_two } = *condition;
    let (op, datum) = match op {
        LinuxSeccompOperator::ScmpCmpNe => (ScmpCompareOp::NotEqual, value),
        LinuxSeccompOperator::ScmpCmpLt => (ScmpCompareOp::Less, value),
        LinuxSeccompOperator::ScmpCmpLe => (ScmpCompareOp::LessOrEqual, value),
        LinuxSeccompOperator::ScmpCmpEq => (ScmpCompareOp::Equal, value),
        LinuxSeccompOperator::ScmpCmpGe => (ScmpCompareOp::GreaterEqual, value),
        LinuxSeccompOperator::ScmpCmpGt => (ScmpCompareOp::Greater, value),
        // SPEC: config-linux.md#seccomp: `value` is the mask here and `valueTwo` what must remain
        LinuxSeccompOperator::ScmpCmpMaskedEq => (ScmpCompareOp::MaskedEqual(value), value_two),
    };
    ScmpArgCompare::new(index, op, datum)
}

/// The bytes of `scmp`. libseccomp before 2.6 writes them to a file only.
fn export(scmp: &ScmpFilterContext) -> Result<Vec<u8>, String> {
    let in_words = |err: Errno| format!("read back the program: {err}");
    let file = memfd_create(c"seccomp", MemfdFlags::CLOEXEC).map_err(|err| format!("memfd_create: {err}"))?;
    scmp.export_bpf(&file).map_err(|err| format!("libseccomp makes no program of it: {err}"))?;
    let size = usize::try_from(fstat(&file).map_err(in_words)?.st_size).unwrap_or(0);
    let mut bytes = vec![0; size];
    let mut done = 0;
    while done < size {
        match pread(&file, &mut bytes[done..], done as u64).map_err(in_words)? {
            0 => return Err(in_words(Errno::IO)),
            read => done += read,
        }
    }
    Ok(bytes)
}

fn refused(at: &At, err: &SeccompError) -> Fault {
    let problem = match err.errno() {
        Some(SeccompErrno::EEXIST) => "contradicts an earlier rule for the same system call (EEXIST)".to_owned(),
        _ => format!("libseccomp refuses it: {err}"),
    };
    Fault { at: at.clone(), problem }
}
