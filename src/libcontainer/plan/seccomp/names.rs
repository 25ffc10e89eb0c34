//! The words of `linux.seccomp`, and their values for libseccomp and the kernel.

use libseccomp::ScmpArch;
use oci_spec::runtime::Arch;

// The flags of seccomp(2), from linux/seccomp.h. TSYNC is not here: see `profile::flag_bits`.
/// Log every action except ALLOW. KERNEL(4.14)
pub(super) const LOG: u32 = 1 << 1;
/// Do not enable the Speculative Store Bypass mitigation. KERNEL(4.17)
pub(super) const SPEC_ALLOW: u32 = 1 << 2;
/// Return a listener. KERNEL(5.0)
pub(super) const NEW_LISTENER: u32 = 1 << 3;
/// A process that waits for the agent can still be killed. KERNEL(5.19)
pub(super) const WAIT_KILLABLE_RECV: u32 = 1 << 5;

/// The names of all actions of the specification.
pub fn known_actions() -> &'static [&'static str] {
    &[
        "SCMP_ACT_ALLOW",
        "SCMP_ACT_ERRNO",
        "SCMP_ACT_KILL",
        "SCMP_ACT_KILL_PROCESS",
        "SCMP_ACT_KILL_THREAD",
        "SCMP_ACT_LOG",
        "SCMP_ACT_NOTIFY",
        "SCMP_ACT_TRACE",
        "SCMP_ACT_TRAP",
    ]
}

/// The names of all operators of the specification.
pub fn known_operators() -> &'static [&'static str] {
    &["SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE"]
}

/// The names of all flags of the specification. This kernel may lack some.
pub fn known_flags() -> &'static [&'static str] {
    &[
        "SECCOMP_FILTER_FLAG_LOG",
        "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
        "SECCOMP_FILTER_FLAG_TSYNC",
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
    ]
}

/// The names of all architectures of the specification.
pub fn known_archs() -> Vec<&'static str> {
    ARCHS.iter().map(|known| known.name).collect()
}

/// An architecture of the specification.
struct KnownArch {
    name: &'static str,
    arch: Arch,
    scmp: ScmpArch,
    /// The first system call number: bit 30 on x32, the ABI's thousands on mips.
    base: u32,
}

const fn known(name: &'static str, arch: Arch, scmp: ScmpArch, base: u32) -> KnownArch {
    KnownArch { name, arch, scmp, base }
}

/// Sorted by name. SCMP_ARCH_NATIVE is resolved before this table is used.
const ARCHS: [KnownArch; 23] = [
    known("SCMP_ARCH_AARCH64", Arch::ScmpArchAarch64, ScmpArch::Aarch64, 0),
    known("SCMP_ARCH_ARM", Arch::ScmpArchArm, ScmpArch::Arm, 0),
    known("SCMP_ARCH_LOONGARCH64", Arch::ScmpArchLoongarch64, ScmpArch::Loongarch64, 0),
    known("SCMP_ARCH_M68K", Arch::ScmpArchM68k, ScmpArch::M68k, 0),
    known("SCMP_ARCH_MIPS", Arch::ScmpArchMips, ScmpArch::Mips, 4000),
    known("SCMP_ARCH_MIPS64", Arch::ScmpArchMips64, ScmpArch::Mips64, 5000),
    known("SCMP_ARCH_MIPS64N32", Arch::ScmpArchMips64n32, ScmpArch::Mips64N32, 6000),
    known("SCMP_ARCH_MIPSEL", Arch::ScmpArchMipsel, ScmpArch::Mipsel, 4000),
    known("SCMP_ARCH_MIPSEL64", Arch::ScmpArchMipsel64, ScmpArch::Mipsel64, 5000),
    known("SCMP_ARCH_MIPSEL64N32", Arch::ScmpArchMipsel64n32, ScmpArch::Mipsel64N32, 6000),
    known("SCMP_ARCH_PARISC", Arch::ScmpArchParisc, ScmpArch::Parisc, 0),
    known("SCMP_ARCH_PARISC64", Arch::ScmpArchParisc64, ScmpArch::Parisc64, 0),
    known("SCMP_ARCH_PPC", Arch::ScmpArchPpc, ScmpArch::Ppc, 0),
    known("SCMP_ARCH_PPC64", Arch::ScmpArchPpc64, ScmpArch::Ppc64, 0),
    known("SCMP_ARCH_PPC64LE", Arch::ScmpArchPpc64le, ScmpArch::Ppc64Le, 0),
    known("SCMP_ARCH_RISCV64", Arch::ScmpArchRiscv64, ScmpArch::Riscv64, 0),
    known("SCMP_ARCH_S390", Arch::ScmpArchS390, ScmpArch::S390, 0),
    known("SCMP_ARCH_S390X", Arch::ScmpArchS390x, ScmpArch::S390X, 0),
    known("SCMP_ARCH_SH", Arch::ScmpArchSh, ScmpArch::Sh, 0),
    known("SCMP_ARCH_SHEB", Arch::ScmpArchSheb, ScmpArch::Sheb, 0),
    known("SCMP_ARCH_X32", Arch::ScmpArchX32, ScmpArch::X32, X32_BIT),
    known("SCMP_ARCH_X86", Arch::ScmpArchX86, ScmpArch::X86, 0),
    known("SCMP_ARCH_X86_64", Arch::ScmpArchX86_64, ScmpArch::X8664, 0),
];

/// __X32_SYSCALL_BIT of asm/unistd.h. It marks the numbers of x32, which shares the audit architecture of x86_64.
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// The architectures that a kernel for this machine runs, the native one first. Profiles also name those of other
/// machines. No process here can have these, and libseccomp cannot mix byte orders in one filter.
pub(super) const RUNNABLE: &[Arch] = if cfg!(target_arch = "x86_64") {
    &[Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32]
} else if cfg!(target_arch = "aarch64") {
    &[Arch::ScmpArchAarch64, Arch::ScmpArchArm]
} else if cfg!(target_arch = "riscv64") {
    &[Arch::ScmpArchRiscv64]
} else if cfg!(all(target_arch = "powerpc64", target_endian = "little")) {
    &[Arch::ScmpArchPpc64le]
} else if cfg!(target_arch = "powerpc64") {
    &[Arch::ScmpArchPpc64, Arch::ScmpArchPpc]
} else if cfg!(target_arch = "s390x") {
    &[Arch::ScmpArchS390x, Arch::ScmpArchS390]
} else if cfg!(target_arch = "loongarch64") {
    &[Arch::ScmpArchLoongarch64]
} else if cfg!(target_arch = "x86") {
    &[Arch::ScmpArchX86]
} else if cfg!(target_arch = "arm") {
    &[Arch::ScmpArchArm]
} else {
    panic!("the seccomp architectures of this machine are not known")
};

/// `arch` for libseccomp.
pub(super) fn scmp(arch: Arch) -> ScmpArch {
    ARCHS.iter().find(|known| known.arch == arch).map_or(ScmpArch::Native, |known| known.scmp)
}

/// The first system call number of `arch`.
pub(super) fn base(arch: Arch) -> u32 {
    ARCHS.iter().find(|known| known.arch == arch).map_or(0, |known| known.base)
}

/// AUDIT_ARCH_* of linux/audit.h, as the kernel writes it into struct seccomp_data. The numbers in oci-spec are the
/// same, except for x32.
pub(super) fn audit(arch: Arch) -> u32 {
    if arch == Arch::ScmpArchX32 { Arch::ScmpArchX86_64 as u32 } else { arch as u32 }
}

/// The number, without the architecture's base, of a system call that Linux has and libseccomp 2.5.4 does not know.
/// Since Linux 5.1, a new call has the same number on every architecture.
pub(super) fn late(name: &str) -> Option<u32> {
    LATE.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

/// The smallest number in `LATE`.
pub(super) const FIRST_LATE: u32 = 451;

/// From the kernel's scripts/syscall.tbl, Linux 6.5 to 6.19.
const LATE: [(&str, u32); 20] = [
    ("cachestat", 451),
    ("fchmodat2", 452),
    ("map_shadow_stack", 453),
    ("futex_wake", 454),
    ("futex_wait", 455),
    ("futex_requeue", 456),
    ("statmount", 457),
    ("listmount", 458),
    ("lsm_get_self_attr", 459),
    ("lsm_set_self_attr", 460),
    ("lsm_list_modules", 461),
    ("mseal", 462),
    ("setxattrat", 463),
    ("getxattrat", 464),
    ("listxattrat", 465),
    ("removexattrat", 466),
    ("open_tree_attr", 467),
    ("file_getattr", 468),
    ("file_setattr", 469),
    ("listns", 470),
];

#[cfg(test)]
mod tests {
    use super::*;
    use libseccomp::ScmpSyscall;
    use std::str::FromStr;

    #[test]
    fn the_table_of_architectures_agrees_with_the_spec_and_with_libseccomp() {
        for known in &ARCHS {
            assert_eq!(known.name.parse::<Arch>().unwrap(), known.arch);
            assert_eq!(ScmpArch::from_str(known.name).unwrap(), known.scmp);
        }
        assert!(ARCHS.is_sorted_by_key(|known| known.name));
        assert_eq!(scmp(RUNNABLE[0]), ScmpArch::native());
    }

    #[test]
    fn every_word_is_one_that_the_spec_reads() {
        use oci_spec::runtime::{LinuxSeccompAction, LinuxSeccompFilterFlag, LinuxSeccompOperator};
        fn read<T: serde::de::DeserializeOwned>(words: &[&str]) {
            for word in words {
                assert!(serde_json::from_value::<T>((*word).into()).is_ok(), "{word}");
            }
        }
        read::<LinuxSeccompAction>(known_actions());
        read::<LinuxSeccompOperator>(known_operators());
        read::<LinuxSeccompFilterFlag>(known_flags());
        read::<Arch>(&known_archs());
    }

    #[test]
    fn late_calls_do_not_stand_where_libseccomp_knows_another() {
        for (name, number) in LATE {
            assert!(number >= FIRST_LATE);
            // A newer libseccomp knows some of them, with the same number.
            if let Ok(known) = ScmpSyscall::from_name(name) {
                assert_eq!(u32::try_from(known.as_raw_syscall()).unwrap(), number, "{name}");
            }
            let number = i32::try_from(number).unwrap();
            if let Ok(known) = ScmpSyscall::from_raw_syscall(number).get_name() {
                assert_eq!(known, name);
            }
        }
    }
}
