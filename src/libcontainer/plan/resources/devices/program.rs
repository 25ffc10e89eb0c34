//! The BPF program that restricts a cgroup's devices on version 2 (BPF_PROG_TYPE_CGROUP_DEVICE).

use oci_spec::runtime::LinuxDeviceType;

use super::list::DeviceList;
use super::rule::{Access, DeviceRule};

// Opcodes of linux/bpf.h. Arithmetic and comparisons use 32 bits.
const LOAD: u8 = 0x61;
const COPY: u8 = 0xbc;
const SET: u8 = 0xb4;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const IF_EQUAL: u8 = 0x16;
const IF_NOT_EQUAL: u8 = 0x56;
const EXIT: u8 = 0x95;

/// The program: one exception after the other, then the answer for all other devices.
pub(super) fn from_list(list: &DeviceList) -> Vec<u8> {
    let mut code = Vec::new();
    // r2 = type, r3 = access, r4 = major, r5 = minor (struct bpf_cgroup_dev_ctx)
    code.extend([
        instruction(LOAD, 2, 1, 0, 0),
        instruction(COPY, 3, 2, 0, 0),
        instruction(AND, 2, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, 3, 0, 0, 16),
        instruction(LOAD, 4, 1, 4, 0),
        instruction(LOAD, 5, 1, 8, 0),
    ]);
    for rule in &list.exceptions {
        code.extend(exception(list, rule));
    }
    code.extend([instruction(SET, 0, 0, 0, list.default_allow.into()), instruction(EXIT, 0, 0, 0, 0)]);
    code.concat()
}

fn exception(list: &DeviceList, rule: &DeviceRule) -> Vec<[u8; 8]> {
    let mut tests: Vec<Vec<[u8; 8]>> = Vec::new();
    let not_equal = |register, value| vec![instruction(IF_NOT_EQUAL, register, 0, 0, value)];
    tests.push(not_equal(2, if rule.kind == LinuxDeviceType::B { 1 } else { 2 }));
    if list.default_allow {
        // Deny if the request has any access of the rule.
        tests.push(vec![
            instruction(COPY, 1, 3, 0, 0),
            instruction(AND, 1, 0, 0, rule.access.0),
            instruction(IF_EQUAL, 1, 0, 0, 0),
        ]);
    } else if rule.access != Access::ALL {
        // Allow if the request has no access beyond the rule.
        tests.push(vec![
            instruction(COPY, 1, 3, 0, 0),
            instruction(AND, 1, 0, 0, !rule.access.0 & 7),
            instruction(IF_NOT_EQUAL, 1, 0, 0, 0),
        ]);
    }
    tests.extend(rule.major.map(|major| not_equal(4, major)));
    tests.extend(rule.minor.map(|minor| not_equal(5, minor)));
    let mut code = vec![instruction(SET, 0, 0, 0, (!list.default_allow).into()), instruction(EXIT, 0, 0, 0, 0)];
    // A test that fails skips all instructions up to the next exception.
    let mut after: i16 = 2;
    for mut test in tests.into_iter().rev() {
        if let Some(jump) = test.last_mut() {
            jump[2..4].copy_from_slice(&after.to_ne_bytes());
        }
        after += test.iter().map(|_| 1).sum::<i16>();
        code.splice(0..0, test);
    }
    code
}

/// struct bpf_insn: opcode, registers, offset, immediate.
fn instruction(opcode: u8, destination: u8, source: u8, offset: i16, immediate: u32) -> [u8; 8] {
    let (offset, immediate) = (offset.to_ne_bytes(), immediate.to_ne_bytes());
    let registers = if cfg!(target_endian = "big") { destination << 4 | source } else { source << 4 | destination };
    [opcode, registers, offset[0], offset[1], immediate[0], immediate[1], immediate[2], immediate[3]]
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::LinuxDeviceCgroup;

    use super::super::{DeviceAccess, devices};
    use crate::host::cgroups::{Cgroups, Unified};

    fn rules(json: &str) -> Vec<LinuxDeviceCgroup> {
        serde_json::from_str(json).unwrap()
    }

    fn unified() -> Cgroups {
        Cgroups { v1: vec![], v2: Some(Unified::default()) }
    }

    /// Runs a program as the kernel would, with only the opcodes that we generate.
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
        assert!(!runs(&program, char, read | mknod, 10, 229), "no exception allows both");
        assert!(runs(&program, char, mknod, 10, 229));
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
}
