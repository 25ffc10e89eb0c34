//! docs/spec.md names the tests that prove the specification: every one of them is there.
#![allow(clippy::unwrap_used)] // in a test, that is what fails it

use std::fs;
use std::path::Path;

#[test]
fn every_test_that_the_page_names_is_there() {
    let page = fs::read_to_string("docs/spec.md").unwrap();
    let programs = fs::read_to_string("hack/runtime-tools/programs").unwrap();
    let mut missing = Vec::new();
    for row in page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| where")) {
        let proofs = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        let (mut file, mut kind) = (String::new(), "");
        for (n, part) in proofs.split('`').enumerate() {
            if n % 2 == 0 {
                kind = ["fault", "plan", "validation"].into_iter().find(|word| part.contains(word)).unwrap_or(kind);
                continue;
            }
            let there = if let Some((named, test)) = part.split_once(": ") {
                (file, kind) = (named.to_owned(), "");
                has_test(&file, test)
            } else if part.contains(['*', '-', '/']) && kind.is_empty() {
                continue;
            } else {
                match kind {
                    "fault" => Path::new(&format!("tests/faults/{part}.json")).exists(),
                    "plan" => Path::new(&format!("tests/plan/{part}.json")).exists(),
                    "validation" => programs.lines().any(|line| line.split(' ').next() == Some(part)),
                    _ => has_test(&file, part),
                }
            };
            if !there {
                missing.push(format!("{kind} {file} {part}"));
            }
        }
    }
    assert!(missing.is_empty(), "docs/spec.md names what is not there: {missing:#?}");
}

fn has_test(file: &str, name: &str) -> bool {
    fs::read_to_string(format!("integration/{file}")).is_ok_and(|text| text.contains(&format!("fn {name}(")))
}
