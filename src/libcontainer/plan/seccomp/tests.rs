//! Runs programs as the kernel would: a small BPF interpreter over struct seccomp_data.

use std::time::Instant;

use libseccomp::{ScmpArch, ScmpSyscall};
use oci_spec::runtime::Arch;
use serde_json::{Value, json};

use super::{Filter, beginning, filter};
use crate::config::At;

const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;
const ARM64: u32 = 0xc000_00b7;
const X32_BIT: u32 = 0x4000_0000;

const TRAP: u32 = 0x0003_0000;
const ALLOW: u32 = 0x7fff_0000;
const KILL_PROCESS: u32 = 0x8000_0000;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;

fn read(profile: Value) -> Filter {
    filter(&serde_json::from_value(profile).unwrap(), &At::new("linux.seccomp")).unwrap().0
}

/// The program's answer for a call of x86_64.
fn answer_to(program: &[u8], name: &str, args: [u64; 6]) -> u32 {
    run(program, X86_64, nr(name, ScmpArch::X8664), args)
}

fn nr(name: &str, arch: ScmpArch) -> u32 {
    u32::try_from(ScmpSyscall::from_name_by_arch(name, arch).unwrap().as_raw_syscall()).unwrap()
}

/// Runs `program` for one system call. Panics if the kernel would refuse to load the program (seccomp_check_filter).
fn run(program: &[u8], arch: u32, nr: u32, args: [u64; 6]) -> u32 {
    let mut data = [nr.to_ne_bytes(), arch.to_ne_bytes(), [0; 4], [0; 4]].concat();
    data.extend(args.iter().flat_map(|arg| arg.to_ne_bytes()));
    let (mut a, mut pc) = (0_u32, 0_usize);
    loop {
        let insn = &program[8 * pc..8 * pc + 8];
        let code = u16::from_ne_bytes([insn[0], insn[1]]);
        let k = u32::from_ne_bytes(insn[4..8].try_into().unwrap());
        let holds = match code {
            0x20 => {
                let at = k as usize;
                assert!(at.is_multiple_of(4));
                a = u32::from_ne_bytes(data[at..at + 4].try_into().unwrap());
                None
            }
            0x54 => {
                a &= k;
                None
            }
            0x05 => {
                pc += k as usize;
                None
            }
            0x06 => return k,
            0x15 => Some(a == k),
            0x25 => Some(a > k),
            0x35 => Some(a >= k),
            0x45 => Some(a & k != 0),
            other => panic!("unexpected opcode {other:#x} at {pc}"),
        };
        pc += 1 + holds.map_or(0, |holds| usize::from(if holds { insn[2] } else { insn[3] }));
    }
}

/// A profile like those of podman and Docker: `named` calls allowed, some with conditions, EPERM for the rest.
pub(crate) fn stock_profile(named: usize) -> Value {
    let names: Vec<String> = (0..450)
        .filter_map(|nr| ScmpSyscall::from_raw_syscall(nr).get_name().ok())
        .filter(|name| !["personality", "clone", "socket", "clone3", "bpf", "setns"].contains(&name.as_str()))
        .chain((0..).map(|n| format!("not_a_call_{n}")))
        .take(named)
        .collect();
    let persona = |value: u64| json!([{"index": 0, "value": value, "op": "SCMP_CMP_EQ"}]);
    let mut syscalls = vec![
        json!({"names": names, "action": "SCMP_ACT_ALLOW"}),
        // For i386: libseccomp adds the rules for socket(2) to this call. Without this rule, they contradict each
        // other.
        json!({"names": ["socketcall"], "action": "SCMP_ACT_ALLOW"}),
        json!({"names": ["clone"], "action": "SCMP_ACT_ALLOW",
               "args": [{"index": 0, "value": 0x7E02_0000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]}),
        json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}),
        json!({"names": ["bpf", "setns"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}),
        json!({"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 22, "args": [
            {"index": 0, "value": 16, "op": "SCMP_CMP_EQ"}, {"index": 2, "value": 9, "op": "SCMP_CMP_EQ"}]}),
        json!({"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 2, "value": 9, "op": "SCMP_CMP_NE"}]}),
        json!({"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 16, "op": "SCMP_CMP_NE"}]}),
    ];
    for value in [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff] {
        syscalls.push(json!({"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": persona(value)}));
    }
    json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "flags": ["SECCOMP_FILTER_FLAG_LOG"],
           "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"], "syscalls": syscalls})
}

/// One rule, and EPERM as the default action, on x86_64.
fn one_rule(rule: Value) -> Vec<u8> {
    read(json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule]})).compile().unwrap()
}

#[test]
fn a_masked_comparison_takes_value_as_the_mask() {
    let program = one_rule(json!({"names": ["clone"], "action": "SCMP_ACT_ALLOW",
        "args": [{"index": 0, "value": 0x7E02_0000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]}));
    assert_eq!(answer_to(&program, "clone", [0x11, 0, 0, 0, 0, 0]), ALLOW);
    for namespace in [0x0002_0000, 0x0200_0000, 0x1000_0000, 0x4000_0000_u64] {
        assert_eq!(answer_to(&program, "clone", [namespace | 0x11, 0, 0, 0, 0, 0]), EPERM, "{namespace:#x}");
    }
    assert_eq!(answer_to(&program, "read", [0; 6]), EPERM);
}

#[test]
fn a_masked_comparison_that_cannot_hold_never_does() {
    let program = one_rule(json!({"names": ["clone"], "action": "SCMP_ACT_ALLOW",
        "args": [{"index": 0, "value": 6, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ"}]}));
    for flags in 0..8 {
        assert_eq!(answer_to(&program, "clone", [flags, 0, 0, 0, 0, 0]), EPERM);
    }
}

#[test]
fn every_operator_compares_all_64_bits() {
    const D: u64 = 0x1_0000_0005;
    type Holds = fn(u64) -> bool;
    let holds: [(&str, Holds); 6] = [
        ("SCMP_CMP_NE", |v| v != D),
        ("SCMP_CMP_LT", |v| v < D),
        ("SCMP_CMP_LE", |v| v <= D),
        ("SCMP_CMP_EQ", |v| v == D),
        ("SCMP_CMP_GE", |v| v >= D),
        ("SCMP_CMP_GT", |v| v > D),
    ];
    for (op, holds) in holds {
        let args = json!([{"index": 5, "value": D, "op": op}]);
        let program = one_rule(json!({"names": ["futex"], "action": "SCMP_ACT_ALLOW", "args": args}));
        for value in [0, 4, 5, 6, D - 1, D, D + 1, 0x2_0000_0000, 0x2_0000_0005, u64::MAX] {
            let answer = answer_to(&program, "futex", [0, 0, 0, 0, 0, value]);
            assert_eq!(answer, if holds(value) { ALLOW } else { EPERM }, "{op} {value:#x}");
        }
    }
}

#[test]
fn conditions_hold_together_unless_two_look_at_one_argument() {
    let eq = |index: u32, value: u32| json!({"index": index, "value": value, "op": "SCMP_CMP_EQ"});
    let all = one_rule(json!({"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [eq(0, 2), eq(1, 1)]}));
    assert_eq!(answer_to(&all, "socket", [2, 1, 0, 0, 0, 0]), ALLOW);
    assert_eq!(answer_to(&all, "socket", [2, 2, 0, 0, 0, 0]), EPERM);
    let any =
        one_rule(json!({"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [eq(0, 2), eq(0, 10), eq(1, 1)]}));
    for (args, answer) in [([2, 9], ALLOW), ([10, 9], ALLOW), ([9, 1], ALLOW), ([9, 9], EPERM)] {
        assert_eq!(answer_to(&any, "socket", [args[0], args[1], 0, 0, 0, 0]), answer, "{args:?}");
    }
}

#[test]
fn every_action_gives_its_answer() {
    for (action, answer) in [
        ("SCMP_ACT_ALLOW", ALLOW),
        ("SCMP_ACT_ERRNO", 0x0005_0007),
        ("SCMP_ACT_KILL", 0),
        ("SCMP_ACT_KILL_PROCESS", KILL_PROCESS),
        ("SCMP_ACT_KILL_THREAD", 0),
        ("SCMP_ACT_LOG", 0x7ffc_0000),
        ("SCMP_ACT_NOTIFY", 0x7fc0_0000),
        ("SCMP_ACT_TRACE", 0x7ff0_0007),
        ("SCMP_ACT_TRAP", TRAP),
    ] {
        let mut profile = json!({"defaultAction": "SCMP_ACT_ERRNO", "listenerPath": "/run/agent",
            "syscalls": [{"names": ["mkdir"], "action": action}]});
        if [0x0005_0007, 0x7ff0_0007].contains(&answer) {
            profile["syscalls"][0]["errnoRet"] = 7.into();
        }
        let program = read(profile).compile().unwrap();
        assert_eq!(answer_to(&program, "mkdir", [0; 6]), answer, "{action}");
    }
}

/// The expected answers of the stock profile, computed without the program.
fn expected(named: &[&str], name: Option<&str>, args: [u64; 6]) -> u32 {
    match name {
        None => EPERM,
        Some("clone") => {
            if args[0] & 0x7E02_0000 == 0 {
                ALLOW
            } else {
                EPERM
            }
        }
        Some("socketcall") => ALLOW,
        Some("clone3") => ENOSYS,
        Some("socket") => {
            if args[0] != 16 || args[2] != 9 {
                ALLOW
            } else {
                0x0005_0016
            }
        }
        Some("personality") => {
            if [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff].contains(&args[0]) {
                ALLOW
            } else {
                EPERM
            }
        }
        Some(name) => {
            if named.contains(&name) {
                ALLOW
            } else {
                EPERM
            }
        }
    }
}

#[test]
fn the_tree_answers_for_every_number_as_the_profile_says() {
    for count in [20, 200, 437] {
        let profile = stock_profile(count);
        let named: Vec<&str> =
            profile["syscalls"][0]["names"].as_array().unwrap().iter().map(|n| n.as_str().unwrap()).collect();
        let program = read(profile.clone()).compile().unwrap();
        for (audit, arch, bit) in
            [(X86_64, ScmpArch::X8664, 0), (I386, ScmpArch::X86, 0), (X86_64, ScmpArch::X32, X32_BIT)]
        {
            let name_of = |nr: u32| ScmpSyscall::from_raw_syscall(nr.cast_signed()).get_name_by_arch(arch).ok();
            let in_profile = |name: &str| named.contains(&name) || profile.to_string().contains(&format!("\"{name}\""));
            let newest =
                (0..500).map(|n| n | bit).filter(|&n| name_of(n).is_some_and(|name| in_profile(&name))).max().unwrap();
            for nr in (0..600).map(|n| n | bit) {
                let name = name_of(nr);
                for args in [[0; 6], [16, 0, 9, 0, 0, 0], [0x1000_0000, 0, 0, 0, 0, 0], [8, 9, 9, 9, 9, 9]] {
                    let new = nr > newest && (arch != ScmpArch::X32 || nr & 0xfff < 512 || nr & 0xfff > 547);
                    let answer = if new { ENOSYS } else { expected(&named, name.as_deref(), args) };
                    assert_eq!(run(&program, audit, nr, args), answer, "{count} {arch:?} {nr:#x} {name:?} {args:x?}");
                }
            }
        }
    }
}

#[test]
fn calls_newer_than_the_profile_say_enosys() {
    let program = read(stock_profile(437)).compile().unwrap();
    for nr in [500, 9999, 0x3fff_ffff, 0x8000_0000] {
        assert_eq!(run(&program, X86_64, nr, [0; 6]), ENOSYS, "{nr:#x}");
        assert_eq!(run(&program, I386, nr, [0; 6]), ENOSYS, "{nr:#x}");
        assert_eq!(run(&program, X86_64, nr | X32_BIT, [0; 6]), ENOSYS, "{nr:#x}");
    }
    // The newest call of the profile counts even if its action is the default action.
    let bpf = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
        {"names": ["read"], "action": "SCMP_ACT_ALLOW"}, {"names": ["bpf"], "action": "SCMP_ACT_ERRNO"}]});
    let program = read(bpf).compile().unwrap();
    assert_eq!(answer_to(&program, "bpf", [0; 6]), EPERM);
    assert_eq!(run(&program, X86_64, nr("bpf", ScmpArch::X8664) + 1, [0; 6]), ENOSYS);
}

#[test]
fn the_default_action_decides_whether_new_calls_say_enosys() {
    for (action, errno, answer) in [
        ("SCMP_ACT_ALLOW", None, ALLOW),
        ("SCMP_ACT_LOG", None, 0x7ffc_0000),
        ("SCMP_ACT_TRACE", None, 0x7ff0_0001),
        ("SCMP_ACT_ERRNO", None, ENOSYS),
        ("SCMP_ACT_ERRNO", Some(38), ENOSYS),
        ("SCMP_ACT_KILL", None, ENOSYS),
        ("SCMP_ACT_KILL_PROCESS", None, ENOSYS),
        ("SCMP_ACT_TRAP", None, ENOSYS),
    ] {
        let mut profile = json!({"defaultAction": action, "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5}]});
        if let Some(errno) = errno {
            profile["defaultErrnoRet"] = errno.into();
        }
        let program = read(profile).compile().unwrap();
        assert_eq!(run(&program, X86_64, 9999, [0; 6]), answer, "{action}");
        assert_eq!(answer_to(&program, "mkdir", [0; 6]), 0x0005_0005);
    }
}

#[test]
fn a_profile_without_names_knows_nothing_to_be_newer_than() {
    let program = read(json!({"defaultAction": "SCMP_ACT_ERRNO"})).compile().unwrap();
    assert_eq!(run(&program, X86_64, 9999, [0; 6]), EPERM);
    assert_eq!(run(&program, X86_64, 0, [0; 6]), EPERM);
}

#[test]
fn architectures_that_the_profile_does_not_name_kill_the_process() {
    let program = one_rule(json!({"names": ["read"], "action": "SCMP_ACT_ALLOW"}));
    assert_eq!(answer_to(&program, "read", [0; 6]), ALLOW);
    assert_eq!(run(&program, I386, 3, [0; 6]), KILL_PROCESS);
    assert_eq!(run(&program, ARM64, 63, [0; 6]), KILL_PROCESS);
    // x32's read, with the audit architecture of x86_64.
    assert_eq!(run(&program, X86_64, X32_BIT, [0; 6]), KILL_PROCESS);
}

#[test]
fn calls_without_a_number_in_libseccomp_are_answered() {
    let late = |default: &str| {
        read(json!({"defaultAction": default, "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"], "syscalls": [
            {"names": ["read", "mseal", "fchmodat2", "no_such_call"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["cachestat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 2},
            {"names": ["listns"], "action": "SCMP_ACT_LOG", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]}]}))
    };
    let program = late("SCMP_ACT_ERRNO").compile().unwrap();
    for (arch, bit) in [(X86_64, 0), (I386, 0), (X86_64, X32_BIT)] {
        for (nr, answer) in [(451, 0x0005_0002), (452, ALLOW), (453, EPERM), (462, ALLOW), (463, EPERM), (471, ENOSYS)]
        {
            assert_eq!(run(&program, arch, nr | bit, [0; 6]), answer, "{arch:#x} {nr}");
        }
    }
    let program = late("SCMP_ACT_ALLOW").compile().unwrap();
    assert_eq!(run(&program, X86_64, 451, [0; 6]), 0x0005_0002);
    assert_eq!(run(&program, X86_64, 9999, [0; 6]), ALLOW);
}

/// The beginning for an architecture (not necessarily this machine's), before a part that answers TRAP to every call.
fn beginning_on(arch: Arch, named: &[&str]) -> Vec<u8> {
    let mut filter = read(json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
        {"names": named, "action": "SCMP_ACT_ALLOW"}]}));
    filter.archs = vec![arch];
    let part = [6_u16.to_ne_bytes().to_vec(), vec![0, 0], TRAP.to_ne_bytes().to_vec()].concat();
    [beginning::bytes(&filter, std::slice::from_ref(&part)).unwrap(), part].concat()
}

#[test]
fn the_peculiar_numbers_of_other_architectures_are_heeded() {
    // s390 uses number 0 for every call that it does not know.
    let program = beginning_on(Arch::ScmpArchS390x, &["read", "openat2"]);
    for (nr, answer) in [(0, ENOSYS), (3, TRAP), (437, TRAP), (438, ENOSYS)] {
        assert_eq!(run(&program, 0x8000_0016, nr, [0; 6]), answer, "s390x {nr}");
    }
    // set_tls is far above all other numbers, and does not show how new a profile is.
    let program = beginning_on(Arch::ScmpArchArm, &["read", "openat2", "set_tls"]);
    for (nr, answer) in [(0, TRAP), (437, TRAP), (438, ENOSYS), (0x0f_0005, TRAP), (0x0f_0800, ENOSYS)] {
        assert_eq!(run(&program, 0x4000_0028, nr, [0; 6]), answer, "arm {nr:#x}");
    }
    let program = beginning_on(Arch::ScmpArchMips64, &["read", "mseal"]);
    for (nr, answer) in [(5000, TRAP), (5461, TRAP), (5462, ALLOW), (5463, ENOSYS)] {
        assert_eq!(run(&program, 0x8000_0008, nr, [0; 6]), answer, "mips64 {nr}");
    }
    assert_eq!(run(&program, X86_64, 0, [0; 6]), KILL_PROCESS);
}

#[test]
fn the_first_of_two_rules_for_one_call_counts() {
    let filter = read(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir", "mseal"], "action": "SCMP_ACT_LOG"}, {"names": ["mkdir", "mseal"], "action": "SCMP_ACT_TRAP"}]}));
    let program = filter.compile().unwrap();
    assert_eq!(answer_to(&program, "mkdir", [0; 6]), 0x7ffc_0000);
    assert_eq!(run(&program, X86_64, 462, [0; 6]), 0x7ffc_0000);
}

#[test]
fn contradicting_rules_are_reported_with_their_place() {
    let eq = |index: u32, value: u32| json!({"index": index, "value": value, "op": "SCMP_CMP_EQ"});
    let filter = read(json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
        {"names": ["socket"], "action": "SCMP_ACT_LOG", "args": [eq(0, 16), eq(2, 9)]},
        {"names": ["bind", "socket"], "action": "SCMP_ACT_ALLOW", "args": [eq(0, 16)]}]}));
    let fault = filter.compile().unwrap_err().to_string();
    let said = "contradicts an earlier rule for the same system call (EEXIST)";
    assert_eq!(fault, format!("linux.seccomp.syscalls[1].names[1]: {said}"));
}

#[test]
fn a_program_that_the_kernel_cannot_take_is_a_fault() {
    let any: Vec<Value> =
        (0..3000_u64).map(|n| json!({"index": 0, "value": n << 32 | n, "op": "SCMP_CMP_EQ"})).collect();
    let profile = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
        {"names": ["ioctl"], "action": "SCMP_ACT_ALLOW", "args": any}]});
    let fault = read(profile).compile().unwrap_err().to_string();
    assert!(
        fault.starts_with("linux.seccomp: makes ") && fault.ends_with("the kernel accepts at most 4096"),
        "{fault}"
    );
}

#[test]
fn the_key_follows_the_bytes_and_nothing_else() {
    let key = |change: &dyn Fn(&mut Value)| {
        let mut profile = stock_profile(50);
        change(&mut profile);
        read(profile).key()
    };
    let same = key(&|_| {});
    assert_eq!(same.len(), 64);
    assert_eq!(same, key(&|profile| profile["flags"] = json!([])));
    assert_eq!(same, key(&|profile| profile["defaultErrnoRet"] = Value::Null));
    let changes: [&dyn Fn(&mut Value); 6] = [
        &|profile| profile["defaultErrnoRet"] = 38.into(),
        &|profile| profile["architectures"] = json!([]),
        &|profile| profile["syscalls"][0]["names"][0] = "x".into(),
        &|profile| profile["syscalls"][2]["args"][0]["valueTwo"] = 0x0200_0000.into(),
        &|profile| profile["syscalls"][3]["errnoRet"] = 1.into(),
        &|profile| profile["syscalls"].as_array_mut().unwrap().truncate(5),
    ];
    let mut keys: Vec<String> = changes.iter().map(|change| key(*change)).collect();
    keys.push(same);
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), changes.len() + 1);
}

#[test]
fn another_coracle_has_other_keys() {
    let filter = read(stock_profile(5));
    let [version, commit] = super::checked::MADE_BY;
    assert_eq!(filter.key(), filter.key_of(&[version, commit]));
    assert_ne!(filter.key(), filter.key_of(&[version, "another commit"]));
    assert_ne!(filter.key(), filter.key_of(&["another version", commit]));
}

/// Prints the time (`cargo test seccomp::tests::speed -- --nocapture`). It does not check it.
#[test]
fn speed_of_a_stock_profile() {
    let filter = read(stock_profile(437));
    let begun = Instant::now();
    let program = filter.compile().unwrap();
    let compiled = begun.elapsed();
    let begun = Instant::now();
    let key = filter.key();
    println!("{} instructions in {compiled:?}; key {key} in {:?}", program.len() / 8, begun.elapsed());
}
