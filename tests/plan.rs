//! Golden plans: what every `tests/plan/NAME.json` becomes is what `NAME.plan` says, to the letter. These files are
//! what coracle does, so a change in one of them is read like code. UPDATE=1 rewrites them.
#![allow(clippy::unwrap_used)] // in a test, that is what fails it

mod cases;

#[test]
fn every_plan_is_as_it_was_read_and_found_good() {
    let mut different = Vec::new();
    for case in cases::all("plan") {
        let told = case.told().unwrap_or_else(|faults| panic!("{}: {faults}", case.path.display()));
        different.extend(cases::golden(&case.path.with_extension("plan"), &told));
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
        let first = case.told().unwrap();
        // maps of the config have another order in every read
        assert!((0..8).all(|_| case.told().unwrap() == first), "{}", case.path.display());
    }
}
