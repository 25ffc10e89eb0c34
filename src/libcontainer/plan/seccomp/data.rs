//! A filter that is given as data: crun's annotation with the base64 of an array of struct sock_filter.

use oci_spec::runtime::LinuxSeccompAction;

use super::checked::{Filter, INSTRUCTION, Verdict};
use super::compile::MOST_INSTRUCTIONS;
use crate::config::{At, Faults};

/// Reads the data. The kernel checks the instructions when it loads them.
///
/// # Errors
/// The data is not base64, or cannot be a program by its length.
pub fn given_as_data(text: &str, at: &At) -> Result<Filter, Faults> {
    let fault = |problem: &str| Faults::one(at.clone(), problem);
    let data = decode(text).ok_or_else(|| fault("is not base64"))?;
    if data.is_empty() || data.len() % INSTRUCTION != 0 {
        return Err(fault("is not a list of instructions (8 bytes each)"));
    }
    if data.len() / INSTRUCTION > MOST_INSTRUCTIONS {
        return Err(fault(&format!("has more than {MOST_INSTRUCTIONS} instructions")));
    }
    let default = Verdict { action: LinuxSeccompAction::ScmpActAllow, number: 0 };
    let (archs, rules) = (Vec::new(), Vec::new());
    Ok(Filter { at: at.clone(), default, archs, rules, flags: 0, listener: None, data: Some(data) })
}

/// Base64 with its padding (RFC 4648). Spaces and line ends are skipped.
fn decode(text: &str) -> Option<Vec<u8>> {
    let text: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let groups = text.chunks_exact(4);
    if !groups.remainder().is_empty() {
        return None;
    }
    let last = groups.len().checked_sub(1);
    for (n, group) in groups.enumerate() {
        let padding = group.iter().rev().take_while(|byte| **byte == b'=').count();
        if padding > 2 || (padding > 0 && Some(n) != last) {
            return None;
        }
        let mut bits = 0u32;
        for byte in &group[..4 - padding] {
            bits = bits << 6 | u32::from(value(*byte)?);
        }
        bits <<= 6 * padding;
        bytes.extend(&bits.to_be_bytes()[1..4 - padding]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_with_its_padding() {
        assert_eq!(decode("").unwrap(), b"");
        assert_eq!(decode("Zg==").unwrap(), b"f");
        assert_eq!(decode("Zm8=").unwrap(), b"fo");
        assert_eq!(decode("Zm9v\nYmFy").unwrap(), b"foobar");
        assert_eq!(decode("BgAAAAAA/38=").unwrap(), [6, 0, 0, 0, 0, 0, 0xff, 0x7f]);
        for bad in ["Z", "Zg=", "Z===", "Zg==Zg==", "Zm9?", "====", "Zé=="] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_invalid_program_is_refused() {
        let read = |text: &str| given_as_data(text, &At::new("x"));
        let filter = read("BgAAAAAA/38=").unwrap();
        assert_eq!(filter.compile().unwrap(), [6, 0, 0, 0, 0, 0, 0xff, 0x7f]);
        assert_ne!(filter.key(), read("BgAAAAAA/38GAAAAAAD/fw==").unwrap().key());
        assert_eq!(filter.denies("mkdir"), None);
        for bad in ["", "?", "Zm9v"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
