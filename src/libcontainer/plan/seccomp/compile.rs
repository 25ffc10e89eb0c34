//! Compiles a filter to the bytes of its program, with libseccomp.

use libseccomp::error::{SeccompErrno, SeccompError};
use libseccomp::{ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall, set_api};
use oci_spec::runtime::{Arch, LinuxSeccompOperator};
use rustix::fs::{MemfdFlags, fstat, memfd_create};
use rustix::io::{Errno, pread};

use super::checked::{BAD_ARCH, Condition, Filter, INSTRUCTION, SyscallRule};
use super::{beginning, names};
use crate::config::{At, Fault};

/// The longest program that the kernel accepts, in instructions (BPF_MAXINSNS of linux/bpf_common.h).
pub const MOST_INSTRUCTIONS: usize = 4096;

/// The libseccomp API level that has every action of the specification (libseccomp 2.5).
const API_LEVEL: u32 = 6;

/// With more rules than this, a search tree is faster than a list.
const TREE_FROM: usize = 32;
/// SCMP_FLTATR_CTL_OPTIMIZE: 2 is a binary tree over the numbers, 1 is one comparison after the other.
const TREE: u32 = 2;

impl Filter {
    /// The program: an array of struct sock_filter, eight bytes each, in the machine's byte order.
    ///
    /// # Errors
    /// A fault if libseccomp refuses a rule, or if the program is too long for the kernel.
    pub fn compile(&self) -> Result<Vec<u8>, Fault> {
        self.data.clone().map_or_else(|| program(self), Ok)
    }
}

/// The program of `filter`.
///
/// One libseccomp filter for all architectures is possible, too. But libseccomp searches the target of every jump from
/// the start: one filter with three architectures takes 24 ms, and three filters take 8 ms (podman's profile).
fn program(filter: &Filter) -> Result<Vec<u8>, Fault> {
    // Without this, libseccomp asks the kernel for its features, and the same profile would give other bytes on another
    // kernel. A kernel that lacks a feature reports it when the program is loaded. An older libseccomp refuses this
    // level and asks the kernel.
    let _ = set_api(API_LEVEL);
    let parts = filter.archs.iter().map(|&arch| part(filter, arch)).collect::<Result<Vec<_>, _>>()?;
    let too_far =
        || Fault { at: filter.at.clone(), problem: "makes a program with a jump that is too long".to_owned() };
    let mut program = beginning::bytes(filter, &parts).ok_or_else(too_far)?;
    parts.iter().for_each(|part| program.extend(part));
    let length = program.len() / INSTRUCTION;
    if length > MOST_INSTRUCTIONS {
        let problem = format!("makes {length} instructions: the kernel accepts at most {MOST_INSTRUCTIONS}");
        return Err(Fault { at: filter.at.clone(), problem });
    }
    Ok(program)
}

/// The complete program that libseccomp makes of `filter` for `arch`.
fn part(filter: &Filter, arch: Arch) -> Result<Vec<u8>, Fault> {
    let mut scmp = without_rules(filter, arch).map_err(|err| refused(&filter.at, &err))?;
    let mut rules = 0;
    for rule in &filter.rules {
        // libseccomp refuses a rule with the same action as the default.
        if rule.verdict.bits() != filter.default.bits() {
            rules += add(&mut scmp, filter, rule)?;
        }
    }
    // libseccomp up to 2.5.4 makes a wrong program with a tree and no rules.
    if rules > TREE_FROM {
        scmp.set_ctl_optimize(TREE).map_err(|err| refused(&filter.at, &err))?;
    }
    export(&scmp).map_err(|problem| Fault { at: filter.at.clone(), problem })
}

/// A libseccomp filter without rules.
fn without_rules(filter: &Filter, arch: Arch) -> Result<ScmpFilterContext, SeccompError> {
    let mut scmp = ScmpFilterContext::new(filter.default.scmp())?;
    if Some(&arch) != filter.archs.first() {
        scmp.add_arch(names::scmp(arch))?;
        scmp.remove_arch(ScmpArch::Native)?;
    }
    // A call of an architecture that the profile does not name kills the whole process. libseccomp's default kills one
    // thread, and the others wait for it.
    scmp.set_act_badarch(BAD_ARCH.scmp())?;
    // init sets no_new_privs itself.
    scmp.set_ctl_nnp(false)?;
    Ok(scmp)
}

/// Adds `rule` for each of its names that libseccomp knows. Returns the number of these names.
fn add(scmp: &mut ScmpFilterContext, filter: &Filter, rule: &SyscallRule) -> Result<usize, Fault> {
    let action = rule.verdict.scmp();
    let when: Vec<Vec<ScmpArgCompare>> = rule.when.iter().map(|all| all.iter().map(comparison).collect()).collect();
    let mut added = 0;
    for (j, name) in rule.names.iter().enumerate() {
        let Ok(syscall) = ScmpSyscall::from_name(name) else { continue };
        for all in &when {
            let result = scmp.add_rule_conditional(action, syscall, all).map(drop);
            result.map_err(|err| refused(&filter.at_name(rule, j), &err))?;
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
        // SPEC: config-linux.md#seccomp: here `value` is the mask, and `valueTwo` the expected value under it.
        LinuxSeccompOperator::ScmpCmpMaskedEq => (ScmpCompareOp::MaskedEqual(value), value_two),
    };
    ScmpArgCompare::new(index, op, datum)
}

/// The bytes of `scmp`. libseccomp before 2.6 can only write them to a file.
fn export(scmp: &ScmpFilterContext) -> Result<Vec<u8>, String> {
    let in_words = |err: Errno| format!("read back the program: {err}");
    let file = memfd_create(c"seccomp", MemfdFlags::CLOEXEC).map_err(|err| format!("memfd_create: {err}"))?;
    scmp.export_bpf(&file).map_err(|err| format!("libseccomp cannot compile it: {err}"))?;
    let size = fstat(&file).map_err(in_words)?.st_size;
    let size = usize::try_from(size).map_err(|_| in_words(Errno::IO))?;
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
