//! seccomp, the security modules, and CRIU.

use std::path::Path;

use super::finding::{Area, Finding, Fitness};
use crate::host::{Environment, Host, Lsm};
use crate::sys::kernel_file::read_lossy;
use crate::sys::landlock::abi;
use crate::sys::seccomp::takes_flag;

pub(super) fn findings(host: &Host, environment: &Environment) -> Vec<Finding> {
    vec![seccomp(), apparmor(host.lsm), selinux(host.lsm), landlock(), criu(environment)]
}

fn seccomp() -> Finding {
    if takes_flag("SECCOMP_FILTER_FLAG_TSYNC") {
        return Finding::new(Area::Security, "seccomp filters", Fitness::Good, "");
    }
    Finding::new(
        Area::Security,
        "seccomp filters",
        Fitness::Without,
        "linux.seccomp: refused; engines use it by default",
    )
    .advice("a kernel with CONFIG_SECCOMP_FILTER")
}

fn apparmor(lsm: Lsm) -> Finding {
    if lsm.apparmor {
        return Finding::new(Area::Security, "AppArmor", Fitness::Good, "");
    }
    Finding::new(Area::Security, "AppArmor", Fitness::Without, "not active: process.apparmorProfile cannot be applied")
        .advice("boot with apparmor=1 security=apparmor, where the distribution uses AppArmor")
}

fn selinux(lsm: Lsm) -> Finding {
    let finding = |fitness, said: &str| Finding::new(Area::Security, "SELinux", fitness, said);
    if !lsm.selinux {
        return finding(Fitness::Without, "not active: selinuxLabel and mountLabel cannot be applied")
            .advice("boot with selinux=1 security=selinux, where the distribution uses SELinux");
    }
    match read_lossy(Path::new("/sys/fs/selinux/enforce")).unwrap_or_default().trim() {
        "1" => finding(Fitness::Good, "enforcing"),
        _ => finding(Fitness::Without, "permissive: it denies nothing").advice("setenforce 1"),
    }
}

fn landlock() -> Finding {
    match abi() {
        0 => Finding::new(Area::Security, "Landlock", Fitness::Without, "the annotation org.coracle.landlock: refused")
            .advice("boot with landlock in lsm=, on Linux 5.13 or newer"),
        version => Finding::new(Area::Security, "Landlock", Fitness::Good, format!("ABI {version}")),
    }
}

fn criu(environment: &Environment) -> Finding {
    match environment.find_program("criu") {
        Some(file) => {
            Finding::new(Area::Programs, "criu", Fitness::Good, format!("{} (try: criu check)", file.display()))
        }
        None => Finding::new(Area::Programs, "criu", Fitness::Without, "not in PATH: checkpoint and restore fail")
            .advice("install the package criu"),
    }
}
