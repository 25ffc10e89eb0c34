//! sched_setattr(2), ioprio_set(2), set_mempolicy(2), personality(2), sched_setaffinity(2), sched_getaffinity(2), prlimit(2): how a
//! process runs.

use rustix::io::Errno;

use super::checked;

/// struct sched_attr of sched_setattr(2), version 1 (Linux 5.3).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SchedAttr {
    /// Size of this structure in bytes; filled in by `set_scheduler`.
    pub size: u32,
    /// SCHED_*.
    pub policy: u32,
    /// SCHED_FLAG_*.
    pub flags: u64,
    /// -20 to 19, for SCHED_OTHER and SCHED_BATCH.
    pub nice: i32,
    /// 1 to 99, for SCHED_FIFO and SCHED_RR.
    pub priority: u32,
    /// Nanoseconds, for SCHED_DEADLINE.
    pub runtime: u64,
    /// Nanoseconds, for SCHED_DEADLINE.
    pub deadline: u64,
    /// Nanoseconds, for SCHED_DEADLINE.
    pub period: u64,
    /// Utilization clamps, unused by the spec.
    pub util_min: u32,
    /// Utilization clamps, unused by the spec.
    pub util_max: u32,
}

/// Sets the scheduling policy of a process; 0 is the calling one.
///
/// # Errors
/// Those of sched_setattr(2).
pub fn set_scheduler(pid: i32, attr: &SchedAttr) -> Result<(), Errno> {
    #[allow(clippy::cast_possible_truncation)] // 56
    const SIZE: u32 = size_of::<SchedAttr>() as u32;
    let attr = SchedAttr { size: SIZE, ..*attr };
    // SAFETY: attr is a sched_attr of the size it says.
    checked(unsafe { libc::syscall(libc::SYS_sched_setattr, pid, &raw const attr, 0) }).map(drop)
}

/// Sets the I/O priority of the calling process: `value` is class << 13 | level (ioprio_set(2)).
///
/// # Errors
/// Those of ioprio_set(2).
pub fn set_io_priority(value: u32) -> Result<(), Errno> {
    const IOPRIO_WHO_PROCESS: u32 = 1;
    // SAFETY: plain integers.
    checked(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, value) }).map(drop)
}

/// Sets the execution domain (personality(2)).
///
/// # Errors
/// Those of personality(2).
pub fn set_personality(persona: u64) -> Result<(), Errno> {
    // SAFETY: plain integer.
    checked(unsafe { libc::syscall(libc::SYS_personality, persona) }).map(drop)
}

/// Sets the NUMA memory policy: `mode` is MPOL_* with its flags, `nodes` a bit mask of nodes, lowest first.
///
/// # Errors
/// Those of set_mempolicy(2).
pub fn set_memory_policy(mode: u32, nodes: &[u64]) -> Result<(), Errno> {
    let (pointer, bits) = if nodes.is_empty() { (std::ptr::null(), 0) } else { (nodes.as_ptr(), nodes.len() * 64 + 1) };
    // SAFETY: the kernel reads bits - 1 bits from the mask, which is exactly what it holds.
    checked(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, pointer, bits) }).map(drop)
}

/// Restricts process `pid` (0: the caller) to the CPUs in the bit mask `cpus`, lowest first.
///
/// # Errors
/// Those of sched_setaffinity(2).
pub fn set_affinity(pid: i32, cpus: &[u64]) -> Result<(), Errno> {
    // SAFETY: the kernel reads exactly the bytes of the slice.
    checked(unsafe { libc::syscall(libc::SYS_sched_setaffinity, pid, size_of_val(cpus), cpus.as_ptr()) }).map(drop)
}

/// The CPUs of the calling thread, as `set_affinity` takes them.
///
/// # Errors
/// Those of sched_getaffinity(2).
pub fn own_affinity() -> Result<Vec<u64>, Errno> {
    // CONFIG_NR_CPUS is 8192 at most; the kernel refuses a mask that is too short for this machine
    let mut cpus = vec![0u64; 8192 / 64];
    // SAFETY: the kernel writes at most the bytes of the vector.
    let bytes = checked(unsafe {
        libc::syscall(libc::SYS_sched_getaffinity, 0, size_of_val(cpus.as_slice()), cpus.as_mut_ptr())
    })?;
    cpus.truncate(usize::try_from(bytes).map_err(|_| Errno::INVAL)?.div_ceil(size_of::<u64>()));
    Ok(cpus)
}

/// Sets a resource limit of process `pid` (prlimit(2)).
///
/// # Errors
/// EPERM when a hard limit would be raised without CAP_SYS_RESOURCE.
pub fn set_limit(pid: i32, resource: u32, soft: u64, hard: u64) -> Result<(), Errno> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: limit is a valid rlimit64; no old limit is returned.
    checked(unsafe { libc::syscall(libc::SYS_prlimit64, pid, resource, &raw const limit, 0usize) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpus_of_a_thread_are_restored() {
        let of_a_thread = || {
            let before = own_affinity().unwrap();
            let first = before.iter().find_map(|word| (*word != 0).then(|| word & word.wrapping_neg())).unwrap();
            let place = before.iter().position(|word| *word != 0).unwrap();
            let one: Vec<u64> = (0..=place).map(|n| if n == place { first } else { 0 }).collect();
            set_affinity(0, &one).unwrap();
            assert_eq!(own_affinity().unwrap()[..=place], one);
            set_affinity(0, &before).unwrap();
            assert_eq!(own_affinity().unwrap(), before);
        };
        std::thread::spawn(of_a_thread).join().unwrap();
    }
}
