//! Random and mutated command lines. Each is parsed, answered, or refused with one line. fuzz/fuzz_targets/arguments.rs
//! searches longer.

use std::os::unix::ffi::OsStringExt;

use proptest::prelude::*;

use super::*;

/// All flags of all commands, with their dashes.
fn flags() -> Vec<String> {
    let definitions = VERBS.iter().map(|verb| (verb.definition)()).chain([GlobalOnly::command()]);
    let mut flags: Vec<String> = definitions
        .flat_map(|definition| {
            let names = definition.get_arguments().flat_map(|arg| {
                let short = arg.get_short().map(|short| format!("-{short}"));
                arg.get_long().map(|long| format!("--{long}")).into_iter().chain(short)
            });
            names.collect::<Vec<_>>()
        })
        .collect();
    flags.extend(["--help", "-h", "-?", "--version", "--none"].map(str::to_owned));
    flags.sort();
    flags.dedup();
    flags
}

/// Values of all kinds: valid ones, those at the end of a range or beyond it, and bytes that are not text.
fn value() -> impl Strategy<Value = OsString> {
    let known = prop::sample::select(vec![
        "",
        "-",
        "--",
        "---",
        "=",
        "-=",
        "--=x",
        "0",
        "-1",
        "1.5",
        "4294967295",
        "4294967296",
        "18446744073709551615",
        "18446744073709551616",
        "99999999999999999999999999",
        "true",
        "false",
        "TRUE",
        "T",
        "json",
        "text",
        "table",
        "auto",
        "debug",
        "9",
        "SIGKILL",
        "RTMIN+3",
        "RTMAX-99",
        "5s",
        "-5s",
        "1h1h",
        "0.0.0",
        "A=b",
        "=b",
        "1:2",
        ":",
        "1:2:3",
        "/",
        "..",
        "a/b",
        "/dev/null",
        "box",
        "-e",
        "--env",
        "é",
        "\u{202e}",
        "\t",
        " ",
    ]);
    prop_oneof![
        6 => known.prop_map(OsString::from),
        // Bytes that are not UTF-8. An argument cannot contain a NUL, and a line feed would make a second line of a
        // message.
        2 => prop::collection::vec((1u8..=255).prop_filter("line feed", |byte| *byte != b'\n'), 0..12)
            .prop_map(OsString::from_vec),
        1 => (1usize..100_000).prop_map(|length| "9".repeat(length).into()),
    ]
}

fn word() -> impl Strategy<Value = OsString> {
    let flag = || prop::sample::select(flags());
    prop_oneof![
        3 => flag().prop_map(OsString::from),
        3 => (flag(), value()).prop_map(|(flag, value)| {
            let mut word = OsString::from(flag);
            word.push("=");
            word.push(value);
            word
        }),
        1 => flag().prop_map(|flag| flag.replacen("--", "-", 1).into()),
        1 => flag().prop_map(|flag| OsString::from(&flag[..flag.len() - 1])),
        4 => value(),
    ]
}

fn command_line() -> impl Strategy<Value = Vec<OsString>> {
    let verbs = VERBS.iter().map(|verb| verb.name).chain(["help", "h", "mounts", "", "Run"]);
    let verb = prop::sample::select(verbs.collect::<Vec<_>>()).prop_map(OsString::from);
    let words = || prop::collection::vec(word(), 0..6);
    (prop::option::of(word()), verb, words())
        .prop_map(|(global, verb, words)| global.into_iter().chain([verb]).chain(words).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_typed_is_understood_or_refused_in_one_line(words in command_line()) {
        match parse(&words) {
            Ok(_) => {}
            Err(Stop::Answer(text)) => prop_assert!(text.ends_with('\n')),
            Err(Stop::Usage(usage)) => {
                prop_assert!(usage.status != 0);
                prop_assert_eq!(usage.said.lines().count(), 1, "{}", usage.said);
            }
        }
    }
}
