//! One broken config for each rule: the messages for `tests/faults/NAME.json` are exactly those in `NAME.err`. UPDATE=1
//! rewrites these files.
#![allow(clippy::unwrap_used)] // a failed unwrap fails the test

mod cases;

#[test]
fn every_mistake_has_its_message() {
    let mut different = Vec::new();
    for case in cases::all("faults") {
        let printed = match case.plan() {
            Ok(_) => {
                different.push(format!("{}: no mistake was found", case.path.display()));
                continue;
            }
            Err(faults) => format!("{faults}\n"),
        };
        different.extend(cases::golden(&case.path.with_extension("err"), &printed));
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn all_mistakes_are_reported_at_once_and_in_order() {
    let case = cases::all("faults").into_iter().find(|case| case.name() == "ten-at-once").unwrap();
    let printed = case.plan().unwrap_err().to_string();
    assert!(printed.starts_with("config.json has 10 mistakes:\n"), "{printed}");
}
