//! Makes text from outside safe for a message. A container, an image or a program can choose any names and words, and a person
//! reads the message on a terminal.

use std::borrow::Cow;

/// A text as one line. Control characters, line ends, and characters that hide or reorder others, are written as in Rust:
/// `\u{1b}`, `\n`, `\u{202e}`.
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(text, changes_the_terminal)
}

/// The same for a text of several lines.
pub fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c != '\n' && changes_the_terminal(c))
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

/// The text, with an escape in the place of each character for which `is_unsafe` is true.
fn escaped(text: &str, is_unsafe: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut whole = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_unsafe(c) {
            whole.extend(c.escape_debug());
        } else {
            whole.push(c);
        }
    }
    Cow::Owned(whole)
}

/// C0 and C1, and the characters of Unicode without a shape: line separators, directions, joiners and tags.
fn changes_the_terminal(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_is_shown_and_all_else_stays() {
        let plain = "mounts[3]: bind /a b on \"/ü€\\ e\u{301}\": (EINVAL)";
        assert!(matches!(line(plain), Cow::Borrowed(text) if text == plain));
        assert_eq!(
            line("\x1b[31mA\x1b]0;b\x07\ncoracle: \r\t\0\u{9b}2J\u{7f}"),
            "\\u{1b}[31mA\\u{1b}]0;b\\u{7}\\ncoracle: \\r\\t\\0\\u{9b}2J\\u{7f}"
        );
        assert_eq!(line("a\u{202e}b\u{2066}c\u{200d}d\u{feff}"), "a\\u{202e}b\\u{2066}c\\u{200d}d\\u{feff}");
        assert_eq!(lines("a\n  b\x1b"), "a\n  b\\u{1b}");
        assert_eq!(line(&line("\x1b\n")), "\\u{1b}\\n");
    }
}
