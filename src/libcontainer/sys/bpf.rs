//! bpf(2): the program that guards the devices of a cgroup (version 2).

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::{checked, owned};

const BPF_PROG_LOAD: i32 = 5;
const BPF_PROG_ATTACH: i32 = 8;
const BPF_PROG_DETACH: i32 = 9;
const BPF_PROG_GET_FD_BY_ID: i32 = 13;
const BPF_PROG_QUERY: i32 = 16;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;
const BPF_F_REPLACE: u32 = 4;
/// As many programs as one cgroup can have (linux/bpf-cgroup.h: BPF_CGROUP_MAX_PROGS).
const MOST_PROGRAMS: u32 = 64;

/// The part of union bpf_attr that BPF_PROG_LOAD reads.
#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

/// The part of union bpf_attr that BPF_PROG_QUERY reads and writes.
#[repr(C)]
#[derive(Default)]
struct Query {
    target: u32,
    kind: u32,
    flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
}

/// The part of union bpf_attr that BPF_PROG_ATTACH reads.
#[repr(C)]
#[derive(Default)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
    replaced: u32,
}

/// Loads a program of eight-byte instructions. The verifier writes its messages into `log`, if that is not empty.
///
/// # Errors
/// Those of bpf(2); EINVAL or EACCES when the verifier refuses it. EINVAL when the last instruction is not whole.
pub fn load_device_program(instructions: &[u8], log: &mut [u8]) -> Result<OwnedFd, Errno> {
    if !instructions.len().is_multiple_of(8) {
        return Err(Errno::INVAL);
    }
    let load = Load {
        kind: BPF_PROG_TYPE_CGROUP_DEVICE,
        instruction_count: u32::try_from(instructions.len() / 8).map_err(|_| Errno::TOOBIG)?,
        instructions: instructions.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: u32::from(!log.is_empty()),
        log_size: u32::try_from(log.len()).map_err(|_| Errno::TOOBIG)?,
        log: if log.is_empty() { 0 } else { log.as_mut_ptr() as u64 },
        ..Load::default()
    };
    // SAFETY: load is a bpf_attr of the size given; all pointers outlive the call, and log has the size given.
    let fd = checked(unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const load, size_of::<Load>()) })?;
    // SAFETY: the kernel has just made this descriptor (close-on-exec, as all of bpf(2)), and nothing else owns it.
    unsafe { owned(fd) }
}

/// Attaches the program to a cgroup directory, instead of `replaced` where that is given; the cgroup keeps it.
///
/// # Errors
/// Those of bpf(2).
pub fn attach_device_program(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    replaced: Option<BorrowedFd<'_>>,
) -> Result<(), Errno> {
    let attach = Attach {
        target: raw_number(cgroup),
        program: raw_number(program),
        kind: BPF_CGROUP_DEVICE,
        flags: BPF_F_ALLOW_MULTI | if replaced.is_some() { BPF_F_REPLACE } else { 0 },
        replaced: replaced.map_or(0, raw_number),
    };
    // SAFETY: attach is a bpf_attr of the size given.
    checked(unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_ATTACH, &raw const attach, size_of::<Attach>()) }).map(drop)
}

/// Takes the program from the cgroup.
///
/// # Errors
/// Those of bpf(2); ENOENT when it is not there.
pub fn detach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<(), Errno> {
    let attach = Attach {
        target: raw_number(cgroup),
        program: raw_number(program),
        kind: BPF_CGROUP_DEVICE,
        ..Attach::default()
    };
    // SAFETY: attach is a bpf_attr of the size given.
    checked(unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_DETACH, &raw const attach, size_of::<Attach>()) }).map(drop)
}

/// The ids of the programs that guard the devices of this very cgroup.
///
/// # Errors
/// Those of bpf(2).
pub fn device_programs(cgroup: BorrowedFd<'_>) -> Result<Vec<u32>, Errno> {
    let mut ids = [0u32; MOST_PROGRAMS as usize];
    let mut query = Query {
        target: raw_number(cgroup),
        kind: BPF_CGROUP_DEVICE,
        ids: ids.as_mut_ptr() as u64,
        count: MOST_PROGRAMS,
        ..Query::default()
    };
    // SAFETY: query is a bpf_attr of the size given, writable; ids has room for as many as it says.
    checked(unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_QUERY, &raw mut query, size_of::<Query>()) })?;
    Ok(ids.into_iter().take(query.count as usize).collect())
}

/// A program that the kernel has already.
///
/// # Errors
/// Those of bpf(2); ENOENT when it is gone.
pub fn program_by_id(id: u32) -> Result<OwnedFd, Errno> {
    // id, next_id, open_flags
    let which = [id, 0, 0];
    // SAFETY: which is a bpf_attr of the size given.
    let fd =
        checked(unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_GET_FD_BY_ID, which.as_ptr(), size_of_val(&which)) })?;
    // SAFETY: the kernel has just made this descriptor (close-on-exec, as all of bpf(2)), and nothing else owns it.
    unsafe { owned(fd) }
}

fn raw_number(fd: BorrowedFd<'_>) -> u32 {
    // a borrowed descriptor is never negative
    fd.as_raw_fd().cast_unsigned()
}
