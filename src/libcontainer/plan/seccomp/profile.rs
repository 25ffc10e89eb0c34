//! Reads `linux.seccomp`. Every mistake gets its place, and every default is filled in.

use libseccomp::ScmpSyscall;
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSeccompOperator, LinuxSyscall,
};

use super::checked::{Condition, Filter, Listener, SyscallRule, Verdict};
use super::names;
use crate::config::{At, Faults, Warning};

/// The number of further names in a warning.
const MOST_NAMES: usize = 7;
/// The number of arguments of a system call on Linux.
const ARGUMENTS: usize = 6;
/// As the kernel returns it from a filter: 16 bits.
const EPERM: u16 = 1;

/// Checks `linux.seccomp`. `at` is its place. SPEC: config-linux.md#seccomp
///
/// # Errors
/// Every mistake in it, each with its place.
pub fn filter(seccomp: &LinuxSeccomp, at: &At) -> Result<(Filter, Vec<Warning>), Faults> {
    let mut reading = Reading { at, faults: Faults::none(), warnings: Vec::new() };
    let default = reading.default(seccomp);
    let rules = reading.rules(seccomp.syscalls().as_deref().unwrap_or_default());
    reading.unknown_names(&rules, default);
    let notifying = rules.iter().find(|rule| rule.verdict.action == LinuxSeccompAction::ScmpActNotify);
    let listener = reading.listener(seccomp, notifying);
    let flags = reading.flags(seccomp, notifying);
    let archs = archs(seccomp.architectures().as_deref().unwrap_or_default());
    let Reading { faults, warnings, .. } = reading;
    faults.into_result((Filter { at: at.clone(), default, archs, rules, flags, listener, data: None }, warnings))
}

/// Checks that libseccomp or coracle knows every system call of the profile.
///
/// # Errors
/// Every name that they do not know, with its place.
pub fn all_known(seccomp: &LinuxSeccomp, at: &At) -> Result<(), Faults> {
    let mut faults = Faults::none();
    for (n, syscall) in seccomp.syscalls().iter().flatten().enumerate() {
        let unknown = |name: &&String| ScmpSyscall::from_name(name).is_err() && names::late(name).is_none();
        for (j, name) in syscall.names().iter().enumerate().filter(|(_, name)| unknown(name)) {
            faults.add(at.key("syscalls").index(n).key("names").index(j), format!("unknown system call {name:?}"));
        }
    }
    faults.into_result(())
}

/// The mistakes and warnings so far.
struct Reading<'a> {
    at: &'a At,
    faults: Faults,
    warnings: Vec<Warning>,
}

impl Reading<'_> {
    fn default(&mut self, seccomp: &LinuxSeccomp) -> Verdict {
        let action = seccomp.default_action();
        if action == LinuxSeccompAction::ScmpActNotify {
            // The agent would have to allow even the sendmsg(2) that sends it the listener.
            self.faults.add(self.at.key("defaultAction"), "\"SCMP_ACT_NOTIFY\" cannot be the default");
        }
        let at = self.at.key("defaultErrnoRet");
        self.verdict(action, seccomp.default_errno_ret(), || at)
    }

    /// SPEC: config-linux.md#seccomp, errnoRet: the runtime MUST fail if the action does not use an errno.
    fn verdict(&mut self, action: LinuxSeccompAction, errno_ret: Option<u32>, at: impl FnOnce() -> At) -> Verdict {
        let takes_number = matches!(action, LinuxSeccompAction::ScmpActErrno | LinuxSeccompAction::ScmpActTrace);
        let number = match errno_ret {
            None if takes_number => Some(EPERM),
            None => Some(0),
            Some(_) if !takes_number => {
                self.faults.add(at(), format!("{action} cannot have an errno"));
                None
            }
            Some(number) => {
                let number16 = u16::try_from(number).ok();
                if number16.is_none() {
                    // The kernel has 16 bits for it. Cut off, 65536 would mean "success".
                    self.faults.add(at(), format!("{number} is more than 65535"));
                }
                number16
            }
        };
        Verdict { action, number: number.unwrap_or(0) }
    }

    fn rules(&mut self, syscalls: &[LinuxSyscall]) -> Vec<SyscallRule> {
        syscalls.iter().enumerate().map(|(n, syscall)| self.rule(n, syscall)).collect()
    }

    fn rule(&mut self, n: usize, syscall: &LinuxSyscall) -> SyscallRule {
        let at = || At::key(self.at, "syscalls").index(n);
        if syscall.names().is_empty() {
            self.warnings.push(Warning { at: at().key("names"), said: "is empty: the entry has no effect".into() });
        }
        let notifies = syscall.action() == LinuxSeccompAction::ScmpActNotify;
        for (j, name) in syscall.names().iter().enumerate() {
            if name.is_empty() {
                self.faults.add(at().key("names").index(j), "is empty");
            } else if notifies && name == "write" {
                // init writes to the socket after it has the listener. The agent could not answer for that write yet.
                self.faults.add(at().key("names").index(j), "SCMP_ACT_NOTIFY cannot be used for the write syscall");
            }
        }
        let at = at();
        let errno_at = at.key("errnoRet");
        let verdict = self.verdict(syscall.action(), syscall.errno_ret(), || errno_at);
        let when = self.conditions(syscall.args().as_deref().unwrap_or_default(), &at);
        SyscallRule { n, names: syscall.names().clone(), verdict, when }
    }

    /// A name that neither libseccomp nor coracle knows is ignored, as in every runtime: profiles name calls of newer
    /// kernels. If the rule restricts more than the default action, a restriction is lost. Then there is one warning
    /// for the whole profile.
    fn unknown_names(&mut self, rules: &[SyscallRule], default: Verdict) {
        let restricting = rules.iter().filter(|rule| severity(rule.verdict.action) > severity(default.action));
        let names = restricting.flat_map(|rule| rule.names.iter().enumerate().map(move |(j, name)| (rule, j, name)));
        let mut unknown = names.filter(|(rule, _, name)| {
            // A rule with conditions needs a number that libseccomp knows (`late_answers`).
            let answered = names::late(name).is_some() && rule.when.iter().any(Vec::is_empty);
            ScmpSyscall::from_name(name).is_err() && !answered
        });
        let Some((SyscallRule { n, .. }, j, first)) = unknown.next() else { return };
        let mut more: Vec<_> = unknown.map(|(.., name)| name).filter(|name| *name != first).collect();
        more.sort_unstable();
        more.dedup();
        let said = match more.len() {
            0 => format!("not applied: unknown system call {first:?}"),
            1..=MOST_NAMES => {
                let more: Vec<_> = more.iter().map(|name| format!("{name:?}")).collect();
                format!("not applied: unknown system calls {first:?}, {}", more.join(", "))
            }
            more => format!("not applied: unknown system calls {first:?} and {more} others"),
        };
        self.warnings.push(Warning { at: self.at.key("syscalls").index(*n).key("names").index(j), said });
    }

    /// All conditions must hold together, unless two concern the same argument: then any of them is enough. The
    /// specification does not say this. runc does it, and profiles depend on it.
    fn conditions(&mut self, args: &[LinuxSeccompArg], at: &At) -> Vec<Vec<Condition>> {
        let mut seen = [0_usize; ARGUMENTS];
        let mut conditions = Vec::with_capacity(args.len());
        for (j, arg) in args.iter().enumerate() {
            let place = || at.key("args").index(j);
            let (Some(times), Ok(index)) = (seen.get_mut(arg.index()), u32::try_from(arg.index())) else {
                self.faults.add(place().key("index"), format!("{} is more than 5", arg.index()));
                continue;
            };
            *times += 1;
            let condition =
                Condition { index, op: arg.op(), value: arg.value(), value_two: arg.value_two().unwrap_or(0) };
            if never_holds(&condition) {
                let said = format!(
                    "is never true: {:#x} has bits that the mask {:#x} does not have",
                    condition.value_two, condition.value
                );
                self.warnings.push(Warning { at: place().key("valueTwo"), said });
            }
            conditions.push(condition);
        }
        let mut any: Vec<Vec<Condition>> = if seen.iter().any(|&times| times > 1) {
            conditions.into_iter().map(|condition| vec![condition]).collect()
        } else {
            vec![conditions]
        };
        // libseccomp must not get a condition that never holds: it may cut the value to the mask.
        any.retain(|all| !all.iter().any(never_holds));
        any
    }

    fn listener(&mut self, seccomp: &LinuxSeccomp, notifying: Option<&SyscallRule>) -> Option<Listener> {
        let path = seccomp.listener_path().as_ref().filter(|path| !path.as_os_str().is_empty());
        let metadata = seccomp.listener_metadata().as_deref().unwrap_or_default();
        let Some(path) = path else {
            if !metadata.is_empty() {
                self.faults.add(self.at.key("listenerMetadata"), "is set without listenerPath");
            }
            if let Some(rule) = notifying {
                let at = self.at.key("syscalls").index(rule.n).key("action");
                self.faults.add(at, format!("\"SCMP_ACT_NOTIFY\" needs {}", self.at.key("listenerPath")));
            }
            return None;
        };
        if notifying.is_none() {
            let said = "is not used: no rule has SCMP_ACT_NOTIFY".into();
            self.warnings.push(Warning { at: self.at.key("listenerPath"), said });
            return None;
        }
        let at = self.at.key("listenerPath");
        Some(Listener { at, path: path.clone(), metadata: metadata.to_owned() })
    }

    fn flags(&mut self, seccomp: &LinuxSeccomp, notifying: Option<&SyscallRule>) -> u32 {
        // A missing list is not an empty list. Without flags, a container must be as fast as without seccomp (as with
        // runc; since Linux 5.16 this is also the kernel's default).
        let Some(flags) = seccomp.flags() else { return names::SPEC_ALLOW };
        let mut bits = flags.iter().fold(0, |bits, &flag| bits | flag_bits(flag));
        if bits & names::WAIT_KILLABLE_RECV != 0 && notifying.is_none() {
            // Without NEW_LISTENER, the kernel fails with EINVAL.
            bits &= !names::WAIT_KILLABLE_RECV;
            let said = "WAIT_KILLABLE_RECV is left out: no rule has SCMP_ACT_NOTIFY".into();
            self.warnings.push(Warning { at: self.at.key("flags"), said });
        }
        bits
    }
}

/// True for a masked comparison with a value that has bits outside of the mask.
fn never_holds(condition: &Condition) -> bool {
    condition.op == LinuxSeccompOperator::ScmpCmpMaskedEq && condition.value_two & !condition.value != 0
}

/// SECCOMP_FILTER_FLAG_*. TSYNC is ignored: the process that loads the filter has one thread, and the kernel refuses
/// TSYNC together with a listener.
fn flag_bits(flag: LinuxSeccompFilterFlag) -> u32 {
    match flag {
        LinuxSeccompFilterFlag::SeccompFilterFlagTsync => 0,
        LinuxSeccompFilterFlag::SeccompFilterFlagLog => names::LOG,
        LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => names::SPEC_ALLOW,
        LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => names::WAIT_KILLABLE_RECV,
    }
}

/// The native architecture, and the requested ones that can run here.
fn archs(requested: &[Arch]) -> Vec<Arch> {
    names::RUNNABLE
        .iter()
        .enumerate()
        .filter(|(n, arch)| *n == 0 || requested.contains(arch))
        .map(|(_, &arch)| arch)
        .collect()
}

/// A number for an action: larger if it restricts more. The kernel chooses between filters in this order (seccomp(2)).
fn severity(action: LinuxSeccompAction) -> u8 {
    match action {
        LinuxSeccompAction::ScmpActAllow => 0,
        LinuxSeccompAction::ScmpActLog => 1,
        LinuxSeccompAction::ScmpActTrace => 2,
        LinuxSeccompAction::ScmpActNotify => 3,
        LinuxSeccompAction::ScmpActErrno => 4,
        LinuxSeccompAction::ScmpActTrap => 5,
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => 6,
        LinuxSeccompAction::ScmpActKillProcess => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(profile: Value) -> Result<(Filter, Vec<Warning>), Faults> {
        filter(&serde_json::from_value(profile).unwrap(), &At::new("linux.seccomp"))
    }

    fn faults(profile: Value) -> Vec<String> {
        read(profile).unwrap_err().iter().map(ToString::to_string).collect()
    }

    fn warnings(profile: Value) -> Vec<String> {
        read(profile).unwrap().1.iter().map(ToString::to_string).collect()
    }

    fn flags(flags: Value) -> u32 {
        let mut profile = json!({"defaultAction": "SCMP_ACT_ALLOW"});
        profile["flags"] = flags;
        read(profile).unwrap().0.flags()
    }

    #[test]
    fn every_mistake_is_reported_with_its_place() {
        let profile = json!({
            "defaultAction": "SCMP_ACT_NOTIFY",
            "defaultErrnoRet": 1,
            "listenerMetadata": "x",
            "syscalls": [
                {"names": ["read", ""], "action": "SCMP_ACT_ALLOW", "errnoRet": 1},
                {"names": ["close", "write"], "action": "SCMP_ACT_NOTIFY"},
                {"names": ["dup"], "action": "SCMP_ACT_ERRNO", "errnoRet": 65536,
                 "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}, {"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]}
            ]
        });
        assert_eq!(
            faults(profile),
            [
                "linux.seccomp.defaultAction: \"SCMP_ACT_NOTIFY\" cannot be the default",
                "linux.seccomp.defaultErrnoRet: SCMP_ACT_NOTIFY cannot have an errno",
                "linux.seccomp.listenerMetadata: is set without listenerPath",
                "linux.seccomp.syscalls[0].errnoRet: SCMP_ACT_ALLOW cannot have an errno",
                "linux.seccomp.syscalls[0].names[1]: is empty",
                "linux.seccomp.syscalls[1].action: \"SCMP_ACT_NOTIFY\" needs linux.seccomp.listenerPath",
                "linux.seccomp.syscalls[1].names[1]: SCMP_ACT_NOTIFY cannot be used for the write syscall",
                "linux.seccomp.syscalls[2].args[1].index: 6 is more than 5",
                "linux.seccomp.syscalls[2].errnoRet: 65536 is more than 65535",
            ]
        );
    }

    #[test]
    fn only_errno_and_trace_take_an_errno() {
        for action in super::names::known_actions() {
            let taken = read(json!({"defaultAction": action, "defaultErrnoRet": 38})).is_ok();
            assert_eq!(taken, ["SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"].contains(action), "{action}");
        }
        let (filter, _) = read(json!({"defaultAction": "SCMP_ACT_TRACE"})).unwrap();
        assert_eq!(filter.default.bits(), 0x7ff0_0001);
    }

    #[test]
    fn absent_flags_are_not_an_empty_list() {
        assert_eq!(flags(Value::Null), 4);
        assert_eq!(flags(json!([])), 0);
        assert_eq!(flags(json!(["SECCOMP_FILTER_FLAG_TSYNC"])), 0);
        assert_eq!(flags(json!(["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"])), 6);
        assert_eq!(flags(json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"])), 0);
    }

    #[test]
    fn a_listener_comes_with_the_first_rule_that_notifies() {
        let mut profile = json!({
            "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/agent", "listenerMetadata": "m",
            "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
            "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]
        });
        let (filter, found) = read(profile.clone()).unwrap();
        assert_eq!(
            filter.listener(),
            Some(&Listener {
                at: At::new("linux.seccomp.listenerPath"),
                path: "/run/agent".into(),
                metadata: "m".into()
            })
        );
        assert_eq!((filter.flags(), found), (32 | 8, Vec::new()));

        profile["syscalls"][0]["action"] = "SCMP_ACT_LOG".into();
        let (filter, _) = read(profile.clone()).unwrap();
        assert_eq!((filter.listener(), filter.flags()), (None, 0));
        assert_eq!(
            warnings(profile),
            [
                "linux.seccomp.listenerPath: is not used: no rule has SCMP_ACT_NOTIFY",
                "linux.seccomp.flags: WAIT_KILLABLE_RECV is left out: no rule has SCMP_ACT_NOTIFY"
            ]
        );
    }

    #[test]
    fn a_restriction_of_an_unknown_system_call_is_a_warning() {
        let profile = |default: &str| {
            json!({"defaultAction": default, "syscalls": [
                {"names": ["read", "no_such_call"], "action": "SCMP_ACT_ERRNO"},
                {"names": ["nor_this"], "action": "SCMP_ACT_ALLOW"}]})
        };
        let said = "linux.seccomp.syscalls[0].names[1]: not applied: unknown system call \"no_such_call\"";
        assert_eq!(warnings(profile("SCMP_ACT_ALLOW")), [said]);
        assert_eq!(warnings(profile("SCMP_ACT_ERRNO")), [""; 0]);
    }

    #[test]
    fn a_restriction_with_conditions_on_a_call_that_libseccomp_lacks_is_a_warning() {
        let name = "futex_requeue";
        let args = json!([{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]);
        let profile = |args: serde_json::Value| {
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                {"names": ["read", name], "action": "SCMP_ACT_ERRNO", "args": args}]})
        };
        // libseccomp 2.6 knows the call.
        let lost = ScmpSyscall::from_name(name).is_err();
        assert_eq!(warnings(profile(args)).len(), usize::from(lost));
        assert_eq!(warnings(profile(json!([]))), [""; 0]);
    }

    #[test]
    fn unknown_system_calls_are_one_warning() {
        let said = |count: usize| {
            let rules: Vec<_> =
                (0..count).map(|n| json!({"names": [format!("no_{n}")], "action": "SCMP_ACT_ERRNO"})).collect();
            warnings(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}))
        };
        let at = "linux.seccomp.syscalls[0].names[0]: not applied: unknown system calls";
        assert_eq!(said(3), [format!("{at} \"no_0\", \"no_1\", \"no_2\"")]);
        assert_eq!(said(400), [format!("{at} \"no_0\" and 399 others")]);
    }

    #[test]
    fn what_can_do_nothing_is_said() {
        let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": [], "action": "SCMP_ACT_LOG"},
            {"names": ["clone"], "action": "SCMP_ACT_LOG",
             "args": [{"index": 0, "value": 6, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ"}]}
        ]});
        assert_eq!(
            warnings(profile),
            [
                "linux.seccomp.syscalls[0].names: is empty: the entry has no effect",
                "linux.seccomp.syscalls[1].args[0].valueTwo: is never true: 0x1 has bits that the mask 0x6 does not have"
            ]
        );
    }

    #[test]
    fn the_native_architecture_is_always_in_and_foreign_ones_never() {
        let archs =
            |list: Value| read(json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": list})).unwrap().0.archs;
        let native = names::RUNNABLE[0];
        assert_eq!(archs(json!([])), [native]);
        assert_eq!(archs(json!(["SCMP_ARCH_NATIVE"])), [native]);
        assert_eq!(archs(json!(names::known_archs())), names::RUNNABLE);
    }
}
