//! The kinds of namespaces. A child makes each of them: root directly, another user inside a new user namespace.

use std::path::Path;

use rustix::io::Errno;

use super::finding::{Area, Finding, Fitness};
use super::tried::in_child;
use crate::host::{Host, MayMount, Me};
use crate::sys::errno::words;
use crate::sys::kernel_file::read_lossy;
use crate::sys::namespace::unshare;

const USER: u64 = libc::CLONE_NEWUSER as u64;
/// The word of config.json, the flag, what happens without the kind, and the limit below /proc/sys/user.
const KINDS: [(&str, i32, Fitness, &str); 7] = [
    ("mount", libc::CLONE_NEWNS, Fitness::Missing, "mnt"),
    ("pid", libc::CLONE_NEWPID, Fitness::Missing, "pid"),
    ("network", libc::CLONE_NEWNET, Fitness::Without, "net"),
    ("ipc", libc::CLONE_NEWIPC, Fitness::Without, "ipc"),
    ("uts", libc::CLONE_NEWUTS, Fitness::Without, "uts"),
    ("cgroup", libc::CLONE_NEWCGROUP, Fitness::Without, "cgroup"),
    ("time", libc::CLONE_NEWTIME, Fitness::Without, "time"),
];

pub(super) fn findings(host: &Host) -> Vec<Finding> {
    let alone = maker(host.me) == Maker::Alone;
    // Tried together with a mount namespace: AppArmor allows every user to make a user namespace, and then refuses all
    // rights in it.
    let users = in_child(|_| unshare(USER | libc::CLONE_NEWNS as u64));
    let mut found = vec![of_users(users, maker(host.me))];
    let outer = if alone { 0 } else { USER };
    for (name, flag, without, limit) in KINDS {
        let made = in_child(|_| unshare(u64::from(flag.unsigned_abs()) | outer));
        found.push(match made {
            Ok(()) => Finding::new(Area::Namespaces, name, Fitness::Good, ""),
            Err(errno) if !alone && users.is_err() => {
                let said = format!("not tried: an ordinary user needs a user namespace first ({})", words(errno));
                Finding::new(Area::Namespaces, name, Fitness::Unknown, said)
            }
            Err(errno) => {
                let said = format!("unshare: {}: a container with this namespace fails", words(errno));
                Finding::new(Area::Namespaces, name, without, said).advice(advice(errno, limit))
            }
        });
    }
    found
}

/// How this user makes namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Maker {
    Alone,
    /// With a user namespace around them.
    InUserNamespace,
}

fn maker(me: Me) -> Maker {
    if me.is_root() || me.may_mount == MayMount::Here { Maker::Alone } else { Maker::InUserNamespace }
}

fn of_users(made: Result<(), Errno>, maker: Maker) -> Finding {
    let errno = match made {
        Ok(()) => return Finding::new(Area::Namespaces, "user", Fitness::Good, ""),
        Err(errno) => errno,
    };
    let (fitness, said) = match maker {
        Maker::Alone => (Fitness::Without, "containers with a user namespace, and those of ordinary users, fail"),
        Maker::InUserNamespace => (Fitness::Missing, "an ordinary user can make no container"),
    };
    let said = format!("unshare: {}: {said}", words(errno));
    Finding::new(Area::Namespaces, "user", fitness, said).advice(advice_for_users(errno))
}

fn sysctl(name: &str) -> Option<String> {
    read_lossy(&Path::new("/proc/sys").join(name)).ok().map(|text| text.trim().to_owned())
}

fn advice(errno: Errno, limit: &str) -> String {
    match errno {
        Errno::NOSPC => format!("sysctl -w user.max_{limit}_namespaces=10000"),
        Errno::INVAL | Errno::NOSYS => format!("a kernel with CONFIG_{}_NS", kernel_option(limit)),
        _ => "a seccomp filter or a security module around this process refuses it: call coracle outside of it"
            .to_owned(),
    }
}

/// The kernel's names for its options.
fn kernel_option(limit: &str) -> String {
    match limit {
        "mnt" => "NAMESPACES and CONFIG_MNT".to_owned(),
        "cgroup" => "CGROUPS and CONFIG_CGROUP".to_owned(),
        other => other.to_uppercase(),
    }
}

fn advice_for_users(errno: Errno) -> String {
    let is = |name: &str, value: &str| sysctl(name).is_some_and(|text| text == value);
    if is("user/max_user_namespaces", "0") {
        "sysctl -w user.max_user_namespaces=10000".to_owned()
    } else if is("kernel/unprivileged_userns_clone", "0") {
        "sysctl -w kernel.unprivileged_userns_clone=1".to_owned()
    } else if is("kernel/apparmor_restrict_unprivileged_userns", "1") {
        "an AppArmor profile with `userns,` for the coracle binary, or \
         sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
            .to_owned()
    } else {
        advice(errno, "user")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_what_to_do() {
        let finding = of_users(Err(Errno::NOSYS), Maker::InUserNamespace);
        assert_eq!(finding.fitness, Fitness::Missing);
        assert_eq!(of_users(Err(Errno::NOSYS), Maker::Alone).fitness, Fitness::Without);
        assert_eq!(advice(Errno::NOSPC, "net"), "sysctl -w user.max_net_namespaces=10000");
        assert_eq!(advice(Errno::INVAL, "user"), "a kernel with CONFIG_USER_NS");
    }
}
