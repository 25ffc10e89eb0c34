//! Device access: version 1 takes the rules as they are, version 2 takes a program that says what they would have said.
//! SPEC: config-linux.md#allowed-device-list.

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use super::{OnFailure, Write};
use crate::config::{At, Faults};
use crate::host::cgroups::{Cgroups, Layout};

/// What keeps the container to its devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceAccess {
    /// Lines for devices.allow and devices.deny.
    Lines(Vec<Write>),
    /// Instructions of a BPF_PROG_TYPE_CGROUP_DEVICE program, eight bytes each.
    Program(Vec<u8>),
    /// Everything is allowed, or nothing is there to forbid it.
    Unrestricted,
}

/// What every container may use, after the user's rules: nodes of any kind may be made; the default devices, terminals
/// and tun may be used. Type, major, minor, access; None stands for all.
const DEFAULT: [(LinuxDeviceType, Option<u32>, Option<u32>, &str); 11] = [
    (LinuxDeviceType::C, None, None, "m"),
    (LinuxDeviceType::B, None, None, "m"),
    (LinuxDeviceType::C, Some(1), Some(3), "rwm"),
    (LinuxDeviceType::C, Some(1), Some(8), "rwm"),
    (LinuxDeviceType::C, Some(1), Some(7), "rwm"),
    (LinuxDeviceType::C, Some(5), Some(0), "rwm"),
    (LinuxDeviceType::C, Some(1), Some(5), "rwm"),
    (LinuxDeviceType::C, Some(1), Some(9), "rwm"),
    (LinuxDeviceType::C, Some(136), None, "rwm"),
    (LinuxDeviceType::C, Some(5), Some(2), "rwm"),
    (LinuxDeviceType::C, Some(10), Some(200), "rwm"),
];

/// One rule, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    allow: bool,
    kind: LinuxDeviceType,
    major: Option<u32>,
    minor: Option<u32>,
    access: Access,
}

/// r, w and m as the kernel counts them (linux/bpf.h: BPF_DEVCG_ACC_*).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Access(u32);

impl Access {
    const ALL: Access = Access(7);

    fn parse(text: &str) -> Option<Access> {
        text.chars()
            .try_fold(0, |bits, c| Some(bits | [('m', 1), ('r', 2), ('w', 4)].iter().find(|(l, _)| *l == c)?.1))
            .map(Access)
    }

    fn letters(self) -> String {
        [('r', 2), ('w', 4), ('m', 1)].iter().filter(|(_, bit)| self.0 & bit != 0).map(|(letter, _)| *letter).collect()
    }
}

impl DeviceAccess {
    /// What `explain` says.
    pub fn lines(&self) -> Vec<String> {
        match self {
            DeviceAccess::Lines(writes) => writes.iter().map(|w| format!("write {} = {}", w.file, w.value)).collect(),
            DeviceAccess::Program(bytes) => vec![format!("device program of {} instructions", bytes.len() / 8)],
            DeviceAccess::Unrestricted => Vec::new(),
        }
    }
}

/// The rules of `linux.resources.devices`, and the defaults behind them.
///
/// # Errors
/// Rules that mean nothing, and on version 2 those that no list can express.
pub fn devices(rules: &[LinuxDeviceCgroup], cgroups: &Cgroups) -> Result<DeviceAccess, Faults> {
    let at = At::new("linux.resources.devices");
    let mut faults = Faults::none();
    let mut list = Vec::with_capacity(rules.len() + DEFAULT.len());
    for (n, rule) in rules.iter().enumerate() {
        let at = at.index(n);
        list.extend(faults.keep(understand(rule, &at)).map(|rule| (rule, at)));
    }
    let default = DEFAULT.into_iter().map(|(kind, major, minor, access)| {
        let access = Access::parse(access).unwrap_or(Access::ALL);
        (Rule { allow: true, kind, major, minor, access }, at.clone())
    });
    list.extend(default);
    let access = match cgroups.layout() {
        Layout::Unified => faults.keep(List::of(&list)).map_or(DeviceAccess::Unrestricted, |list| list.program()),
        _ if cgroups.v1.iter().any(|hierarchy| hierarchy.has("devices")) => DeviceAccess::Lines(lines(&list)),
        _ => DeviceAccess::Unrestricted,
    };
    faults.into_result(access)
}

fn understand(rule: &LinuxDeviceCgroup, at: &At) -> Result<Rule, Faults> {
    let mut faults = Faults::none();
    let mut number = |name: &str, value: Option<i64>| {
        // -1 stands for all, as runc's own configs have it
        let value = value.filter(|value| *value != -1)?;
        u32::try_from(value).map_err(|_| faults.add(at.key(name), format!("{value} is no device number"))).ok()
    };
    let (major, minor) = (number("major", rule.major()), number("minor", rule.minor()));
    let kind = rule.typ().unwrap_or(LinuxDeviceType::A);
    let kind = if kind == LinuxDeviceType::U { LinuxDeviceType::C } else { kind };
    if kind == LinuxDeviceType::P {
        faults.add(at.key("type"), "\"p\" is no type of a rule (expected one of a, b, c)");
    }
    let text = rule.access().as_deref().unwrap_or("rwm");
    let access = Access::parse(text).filter(|access| access.0 != 0);
    if access.is_none() {
        faults.add(at.key("access"), format!("{text:?} is not made of r, w and m"));
    }
    faults.into_result(Rule { allow: rule.allow(), kind, major, minor, access: access.unwrap_or(Access::ALL) })
}

/// Nothing at first, then rule after rule: nobody is in the group yet, so nobody loses anything for a moment.
fn lines(list: &[(Rule, At)]) -> Vec<Write> {
    let nothing = ("devices.deny", "a".to_owned(), At::new("linux.resources.devices"));
    let rules = list.iter().map(|(rule, at)| {
        let number = |n: Option<u32>| n.map_or("*".to_owned(), |n| n.to_string());
        let line = if rule.kind == LinuxDeviceType::A && rule.major.is_none() && rule.minor.is_none() {
            "a".to_owned()
        } else {
            let (kind, access) = (rule.kind.as_str(), rule.access.letters());
            format!("{kind} {}:{} {access}", number(rule.major), number(rule.minor))
        };
        (if rule.allow { "devices.allow" } else { "devices.deny" }, line, at.clone())
    });
    std::iter::once(nothing)
        .chain(rules)
        .map(|(file, value, at)| Write {
            controller: "devices".to_owned(),
            file: file.to_owned(),
            value,
            on_failure: OnFailure::Fail,
            at,
        })
        .collect()
}

/// Version 1's idea of a list: everything or nothing, with exceptions (kernel: security/device_cgroup.c).
#[derive(Debug, Default)]
struct List {
    open: bool,
    exceptions: Vec<Rule>,
}

impl List {
    fn of(rules: &[(Rule, At)]) -> Result<List, Faults> {
        let mut list = List::default();
        let mut faults = Faults::none();
        for (rule, at) in rules {
            if rule.kind == LinuxDeviceType::A {
                list = List { open: rule.allow, exceptions: Vec::new() };
            } else if rule.allow == list.open {
                if let Err(problem) = list.take_back(rule) {
                    faults.add(at.clone(), problem);
                }
            } else {
                list.except(rule);
            }
        }
        faults.into_result(list)
    }

    fn except(&mut self, rule: &Rule) {
        match self.exceptions.iter_mut().find(|there| there.same_devices(rule)) {
            Some(there) => there.access.0 |= rule.access.0,
            None => self.exceptions.push(rule.clone()),
        }
    }

    fn take_back(&mut self, rule: &Rule) -> Result<(), String> {
        for there in
            self.exceptions.iter().filter(|there| !there.same_devices(rule) && there.access.0 & rule.access.0 != 0)
        {
            if there.kind == rule.kind && there.meets(rule) {
                return Err("is a hole in a wildcard rule before it, which a device list cannot have".to_owned());
            }
        }
        self.exceptions.iter_mut().filter(|there| there.same_devices(rule)).for_each(|there| {
            there.access.0 &= !rule.access.0;
        });
        self.exceptions.retain(|there| there.access.0 != 0);
        Ok(())
    }

    /// The program: exception after exception, then what holds for all others.
    fn program(&self) -> DeviceAccess {
        if self.open && self.exceptions.is_empty() {
            return DeviceAccess::Unrestricted;
        }
        let mut code = Vec::new();
        // r2 = type, r3 = access, r4 = major, r5 = minor (struct bpf_cgroup_dev_ctx)
        code.extend([
            instruction(0x61, 2, 1, 0, 0),
            instruction(0xbc, 3, 2, 0, 0),
            instruction(0x54, 2, 0, 0, 0xffff),
            instruction(0x74, 3, 0, 0, 16),
            instruction(0x61, 4, 1, 4, 0),
            instruction(0x61, 5, 1, 8, 0),
        ]);
        for rule in &self.exceptions {
            code.extend(self.exception(rule));
        }
        code.extend([instruction(0xb4, 0, 0, 0, self.open.into()), instruction(0x95, 0, 0, 0, 0)]);
        DeviceAccess::Program(code.concat())
    }

    fn exception(&self, rule: &Rule) -> Vec<[u8; 8]> {
        let mut tests: Vec<Vec<[u8; 8]>> = Vec::new();
        let not_equal = |register, value| vec![instruction(0x56, register, 0, 0, value)];
        tests.push(not_equal(2, if rule.kind == LinuxDeviceType::B { 1 } else { 2 }));
        if self.open {
            // denied when any of what is asked is in the rule
            tests.push(vec![
                instruction(0xbc, 1, 3, 0, 0),
                instruction(0x54, 1, 0, 0, rule.access.0),
                instruction(0x16, 1, 0, 0, 0),
            ]);
        } else if rule.access != Access::ALL {
            // allowed when nothing is asked that is not in the rule
            tests.push(vec![
                instruction(0xbc, 1, 3, 0, 0),
                instruction(0x54, 1, 0, 0, !rule.access.0 & 7),
                instruction(0x56, 1, 0, 0, 0),
            ]);
        }
        tests.extend(rule.major.map(|major| not_equal(4, major)));
        tests.extend(rule.minor.map(|minor| not_equal(5, minor)));
        let end = tests.iter().map(Vec::len).sum::<usize>() + 2;
        let mut code = Vec::with_capacity(end);
        for mut test in tests {
            let after = code.len() + test.len();
            if let (Some(jump), Ok(distance)) = (test.last_mut(), i16::try_from(end - after)) {
                jump[2..4].copy_from_slice(&distance.to_ne_bytes());
            }
            code.extend(test);
        }
        code.extend([instruction(0xb4, 0, 0, 0, (!self.open).into()), instruction(0x95, 0, 0, 0, 0)]);
        code
    }
}

impl Rule {
    fn same_devices(&self, other: &Rule) -> bool {
        (self.kind, self.major, self.minor) == (other.kind, other.major, other.minor)
    }

    fn meets(&self, other: &Rule) -> bool {
        let meet = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
        meet(self.major, other.major) && meet(self.minor, other.minor)
    }
}

/// struct bpf_insn: opcode, registers, offset, immediate.
fn instruction(opcode: u8, destination: u8, source: u8, offset: i16, immediate: u32) -> [u8; 8] {
    let (offset, immediate) = (offset.to_ne_bytes(), immediate.to_ne_bytes());
    let registers = if cfg!(target_endian = "big") { destination << 4 | source } else { source << 4 | destination };
    [opcode, registers, offset[0], offset[1], immediate[0], immediate[1], immediate[2], immediate[3]]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::cgroups::{Hierarchy, Unified};

    fn rules(json: &str) -> Vec<LinuxDeviceCgroup> {
        serde_json::from_str(json).unwrap()
    }

    fn unified() -> Cgroups {
        Cgroups { v1: vec![], v2: Some(Unified::default()) }
    }

    /// Runs a program as the kernel would: just the opcodes that we emit.
    fn runs(program: &[u8], kind: u32, access: u32, major: u32, minor: u32) -> bool {
        let context = [access << 16 | kind, major, minor];
        let mut registers = [0u32; 6];
        let mut n = 0usize;
        loop {
            let i = &program[n * 8..n * 8 + 8];
            let (to, from) = (usize::from(i[1] & 15), usize::from(i[1] >> 4));
            let offset = i16::from_ne_bytes([i[2], i[3]]);
            let value = u32::from_ne_bytes([i[4], i[5], i[6], i[7]]);
            let mut jump = false;
            match i[0] {
                0x61 => registers[to] = context[usize::try_from(offset / 4).unwrap()],
                0xbc => registers[to] = registers[from],
                0xb4 => registers[to] = value,
                0x54 => registers[to] &= value,
                0x74 => registers[to] >>= value,
                0x56 => jump = registers[to] != value,
                0x16 => jump = registers[to] == value,
                0x95 => return registers[0] != 0,
                other => panic!("opcode {other:#x}"),
            }
            n += 1 + if jump { usize::try_from(offset).unwrap() } else { 0 };
        }
    }

    #[test]
    fn the_program_says_what_the_list_would_have_said() {
        let list = rules(r#"[{"allow":false},{"allow":true,"type":"c","major":10,"minor":229,"access":"rw"}]"#);
        let DeviceAccess::Program(program) = devices(&list, &unified()).unwrap() else { panic!("no program") };
        let (block, char) = (1, 2);
        let (mknod, read, write) = (1, 2, 4);
        assert!(runs(&program, char, read | write, 10, 229));
        assert!(!runs(&program, char, read | mknod, 10, 229) || runs(&program, char, mknod, 10, 229));
        assert!(!runs(&program, char, read, 10, 230));
        assert!(runs(&program, char, read, 1, 3), "null is everybody's");
        assert!(runs(&program, char, write, 136, 7), "so are terminals");
        assert!(runs(&program, block, mknod, 8, 0), "nodes may be made");
        assert!(!runs(&program, block, read, 8, 0), "but not used");
    }

    #[test]
    fn everything_but_a_device() {
        let list = rules(r#"[{"allow":true},{"allow":false,"type":"b","major":8,"access":"rw"}]"#);
        let DeviceAccess::Program(program) = devices(&list, &unified()).unwrap() else { panic!("no program") };
        assert!(!runs(&program, 1, 2, 8, 1));
        assert!(runs(&program, 1, 1, 8, 1));
        assert!(runs(&program, 2, 2, 8, 1));
    }

    #[test]
    fn everything_needs_no_program() {
        assert_eq!(devices(&rules(r#"[{"allow":true}]"#), &unified()).unwrap(), DeviceAccess::Unrestricted);
    }

    #[test]
    fn a_hole_in_a_wildcard_is_refused_by_its_place() {
        let list = rules(
            r#"[{"allow":true,"type":"c","major":1,"access":"rwm"},{"allow":false,"type":"c","major":1,"minor":3}]"#,
        );
        let faults = devices(&list, &unified()).unwrap_err().to_string();
        assert!(faults.contains("linux.resources.devices[1]: is a hole in a wildcard"), "{faults}");
    }

    #[test]
    fn version_1_begins_with_nothing_and_ends_with_the_defaults() {
        let v1 = vec![Hierarchy { controllers: vec!["devices".into()], ..Hierarchy::default() }];
        let access =
            devices(&rules(r#"[{"allow":true,"type":"c","major":10,"access":"r"}]"#), &Cgroups { v1, v2: None });
        let DeviceAccess::Lines(lines) = access.unwrap() else { panic!("no lines") };
        assert_eq!((lines[0].file.as_str(), lines[0].value.as_str()), ("devices.deny", "a"));
        assert_eq!((lines[1].file.as_str(), lines[1].value.as_str()), ("devices.allow", "c 10:* r"));
        assert_eq!(lines.len(), 2 + DEFAULT.len());
    }

    #[test]
    fn a_rule_that_means_nothing_is_told() {
        let faults = devices(&rules(r#"[{"allow":true,"access":"x"}]"#), &unified()).unwrap_err().to_string();
        assert!(faults.contains("linux.resources.devices[0].access: \"x\""), "{faults}");
    }
}
