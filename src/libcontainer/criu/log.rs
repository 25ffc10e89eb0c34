//! The errors in a log of CRIU.

use std::path::Path;

/// The most errors that are reported.
const MOST: usize = 6;
/// The longest error that is reported.
const LONGEST: usize = 300;

/// CRIU writes this first in every run without the right to raise its limits. It is harmless.
const HARMLESS: &str = "rlimit: Can't setup RLIMIT_NOFILE for self";

/// CRIU's errors in the file as one line, the earliest first: each error has caused the next. None if the file does
/// not exist or has no errors.
pub fn errors(file: &Path) -> Option<String> {
    let text = std::fs::read(file).ok()?;
    errors_of(&String::from_utf8_lossy(&text))
}

/// `(00.257087) 123: Error (criu/files.c:96): what went wrong`, without the time and the process.
fn errors_of(text: &str) -> Option<String> {
    let error = |line: &str| {
        let (_, said) = line.split_once("Error (")?;
        let (_, said) = said.split_once("): ")?;
        let said: String = said.trim().chars().filter(|c| !c.is_control()).take(LONGEST).collect();
        (!said.starts_with(HARMLESS) && !said.is_empty()).then_some(said)
    };
    let mut all: Vec<_> = text.lines().filter_map(error).collect();
    all.dedup();
    if all.len() > MOST {
        // The first is the cause, and the last is the result.
        let left_out = all.len() - MOST;
        all.drain(MOST / 2..MOST / 2 + left_out);
        all.insert(MOST / 2, format!("({left_out} more)"));
    }
    (!all.is_empty()).then(|| all.join("; "))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_errors_alone_are_quoted_and_not_those_that_stop_nothing() {
        let log = "(00.000001) Version: 4.1\n\
            (00.040729) Error (criu/util.c:1533): rlimit: Can't setup RLIMIT_NOFILE for self: Operation not permitted\n\
            (00.1) Warn  (criu/mount.c:1263): mnt: Can't create a temporary directory\n\
            (00.2)      1: Error (criu/files-ext.c:96): Can't dump file 3 of that type [20666] (chr 1:3)\n\
            (00.3) Error (criu/cr-dump.c:2190): Dumping FAILED.\n";
        assert_eq!(super::errors_of(log).unwrap(), "Can't dump file 3 of that type [20666] (chr 1:3); Dumping FAILED.");
        assert_eq!(super::errors_of("(00.1) all is well\n"), None);
        let many: String = (0..20).map(|n| format!("Error (a.c:1): no {n}\n")).collect();
        assert_eq!(super::errors_of(&many).unwrap(), "no 0; no 1; no 2; (14 more); no 17; no 18; no 19");
    }
}
