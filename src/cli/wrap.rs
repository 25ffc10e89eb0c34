//! Lines that fit into a terminal.

use std::fmt::Write as _;

/// As wide as a terminal.
const WIDTH: usize = 80;

/// A line that begins with `mark`, and continues below what follows the mark.
pub fn wrapped(text: &mut String, mark: &str, line: &str) {
    let mut column = mark.chars().count();
    let indent = " ".repeat(column);
    text.push_str(mark);
    for (n, word) in line.split(' ').enumerate() {
        let width = word.chars().count();
        if n > 0 && column + 1 + width > WIDTH {
            let _ = write!(text, "\n{indent}");
            column = indent.len();
        } else if n > 0 {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += width;
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_continues_below() {
        let mut text = String::new();
        wrapped(&mut text, "  ok  ", "word ".repeat(30).trim_end());
        assert!(text.lines().all(|line| line.len() <= WIDTH), "{text}");
        assert!(text.lines().skip(1).all(|line| line.starts_with("      word")), "{text}");
    }
}
