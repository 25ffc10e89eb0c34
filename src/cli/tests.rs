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
            Err(NoCommand::Answer(text)) => prop_assert!(text.ends_with('\n')),
            Err(NoCommand::Usage(usage)) => {
                prop_assert!(usage.status != 0);
                prop_assert_eq!(usage.said.lines().count(), 1, "{}", usage.said);
            }
        }
    }
}

/// Pages whose blocks of commands are run by a test: integration/readme.rs and integration/by_hand.rs fail for a block that
/// they do not know.
const RUN: [&str; 2] = ["README.md", "docs/by-hand.md"];

/// The command lines of coracle in a page: those in blocks, and those in the text, without what the shell reads.
fn documented(page: &str) -> (Vec<String>, Vec<String>) {
    let (mut blocks, mut inline, mut inside) = (Vec::new(), Vec::new(), false);
    let ours = |text: &str| {
        let text = text.trim_start_matches(['#', '$']).trim();
        let end = text.find(['|', '>', '<', ';', '&']).unwrap_or(text.len());
        text[..end].strip_prefix("coracle ").map(|rest| rest.trim().to_owned())
    };
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            inside = !inside;
        } else if inside {
            blocks.extend(ours(line).filter(|rest| !rest.starts_with('=')));
        } else {
            inline.extend(line.split('`').skip(1).step_by(2).filter_map(ours));
        }
    }
    (blocks, inline)
}

#[test]
fn every_command_in_the_documents_is_run_by_a_test_and_is_understood() {
    let top = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = std::fs::read_dir(top.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = docs.chain(["README.md", "CONTRIBUTING.md", "SECURITY.md"].map(|page| top.join(page)));
    let mut count = 0;
    for page in pages.filter(|page| page.extension().is_some_and(|end| end == "md")) {
        let (blocks, inline) = documented(&std::fs::read_to_string(&page).unwrap());
        let name = page.strip_prefix(top).unwrap().display().to_string();
        assert!(blocks.is_empty() || RUN.contains(&name.as_str()), "no test runs {blocks:?} of {name}");
        for line in blocks.iter().chain(&inline) {
            count += 1;
            // words in brackets may be left out
            let words = line.split_whitespace().map(|word| word.trim_matches(['[', ']', '"', '\'', ',', '.']));
            let words: Vec<OsString> =
                words.filter(|word| !word.is_empty() && *word != "…").map(OsString::from).collect();
            let refused = match parse(&words) {
                Ok(_) | Err(NoCommand::Answer(_)) => continue,
                Err(NoCommand::Usage(usage)) => usage.said,
            };
            // the text may name a command without its arguments
            let is_part = ["argument(s)", "needs an argument"].iter().any(|why| refused.contains(why));
            let is_part = is_part && inline.contains(line);
            assert!(is_part, "{name}: coracle {line}: {refused}");
        }
    }
    assert!(count > 40, "{count}");
}
