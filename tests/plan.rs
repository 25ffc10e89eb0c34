//! Golden plans: the plan of every `tests/plan/NAME.json` is exactly the text of `NAME.plan`. These files show
//! what coracle does, so review a change in them like code. UPDATE=1 rewrites them.
#![allow(clippy::unwrap_used)] // a failed unwrap fails the test

mod cases;

use libcontainer::plan::explain::table;

#[test]
fn every_plan_is_as_it_was_read_and_found_good() {
    let mut different = Vec::new();
    for case in cases::all("plan") {
        let printed = case.explained().unwrap_or_else(|faults| panic!("{}: {faults}", case.path.display()));
        different.extend(cases::golden(&case.path.with_extension("plan"), &printed));
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

/// The steps of `restore`, for each `tests/restore/NAME.json` with the images that `NAME.host` describes.
#[test]
fn every_restore_is_as_it_was_read_and_found_good() {
    let mut different = Vec::new();
    for case in cases::all("restore") {
        let (_, plan) = case.plan().unwrap_or_else(|faults| panic!("{}: {faults}", case.path.display()));
        let printed = table(&plan.restore_lines(&cases::dumped(&case.host)));
        different.extend(cases::golden(&case.path.with_extension("plan"), &printed));
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn the_example_is_case_0() {
    let example = include_str!("../config.json.example");
    assert_eq!(include_str!("plan/0-example.json"), example, "cp config.json.example tests/plan/0-example.json");
}

#[test]
fn the_same_config_is_the_same_plan_every_time() {
    for case in cases::all("plan") {
        let first = case.explained().unwrap();
        // The maps of a config have another order each time it is read.
        assert!((0..8).all(|_| case.explained().unwrap() == first), "{}", case.path.display());
    }
}
