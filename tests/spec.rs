//! Checks the pages that refer to the code: docs/spec.md and docs/security.md name the tests for each property, and
//! docs/kernel.md names the kernel versions in the sources.
#![allow(clippy::unwrap_used)] // a failed unwrap fails the test

use std::fs;
use std::path::Path;

#[test]
fn every_test_that_the_pages_name_is_there() {
    let mut missing = Vec::new();
    for page in ["docs/spec.md", "docs/security.md"] {
        let proofs = proofs(&fs::read_to_string(page).unwrap());
        assert!(proofs.len() > 10, "{page}: no table with a column \"proven by\"");
        missing.extend(proofs.iter().flat_map(|cell| not_there(cell)).map(|what| format!("{page}: {what}")));
    }
    assert!(missing.is_empty(), "what is not there is named: {missing:#?}");
}

/// The last cells of the tables whose last column is "proven by".
fn proofs(page: &str) -> Vec<String> {
    let mut proven = false;
    let mut cells = Vec::new();
    for line in page.lines() {
        let cell = line.trim_end_matches(" |").rsplit(" | ").next().unwrap_or_default();
        match (line.starts_with("| "), cell) {
            (false, _) => proven &= line.starts_with('|'),
            (true, "proven by") => proven = true,
            (true, cell) if proven => cells.push(cell.to_owned()),
            (true, _) => {}
        }
    }
    cells
}

/// The names in a cell that do not exist.
fn not_there(proofs: &str) -> Vec<String> {
    let programs = fs::read_to_string("hack/runtime-tools/programs").unwrap();
    let (mut file, mut kind, mut missing) = (String::new(), "", Vec::new());
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
    missing
}

/// `file` is a path in integration/, or that of a test of the shim.
fn has_test(file: &str, name: &str) -> bool {
    let directory = if file.starts_with("shim/") { "" } else { "integration/" };
    fs::read_to_string(format!("{directory}{file}")).is_ok_and(|text| text.contains(&format!("fn {name}(")))
}

/// All `KERNEL(version)` tags in the sources, with the file names of docs/kernel.md.
fn kernel_tags(directory: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            kernel_tags(&path, found);
            continue;
        }
        let file = path.strip_prefix("src/libcontainer").unwrap_or(&path).display().to_string();
        let text = fs::read_to_string(&path).unwrap();
        for tag in text.split("KERNEL(").skip(1) {
            found.push((tag.split(')').next().unwrap().to_owned(), file.clone()));
        }
    }
}

#[test]
fn every_kernel_tag_has_its_row_and_every_row_its_tag() {
    let page = fs::read_to_string("docs/kernel.md").unwrap();
    let mut rows = Vec::new();
    for line in page.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [_, version, _, _, files] = cells[..] else { panic!("five cells: {line}") };
        rows.extend(files.split('`').skip(1).step_by(2).map(|file| (version.to_owned(), file.to_owned())));
    }
    let mut tags = Vec::new();
    kernel_tags(Path::new("src"), &mut tags);
    assert!(tags.len() > 10, "no tags in src");
    for list in [&mut rows, &mut tags] {
        list.sort();
        list.dedup();
    }
    let missing: Vec<_> = tags.iter().filter(|tag| !rows.contains(tag)).collect();
    let stale: Vec<_> = rows.iter().filter(|row| !tags.contains(row)).collect();
    assert!(missing.is_empty() && stale.is_empty(), "docs/kernel.md lacks {missing:?} and has without a tag {stale:?}");
}

/// For each tag, a test hides the system call once, or the table says why not.
#[test]
fn every_kernel_tag_is_hidden_once() {
    let table = fs::read_to_string("integration/old_kernels.rs").unwrap();
    let mut tags = Vec::new();
    kernel_tags(Path::new("src"), &mut tags);
    let missing: Vec<_> =
        tags.iter().filter(|(version, file)| !table.contains(&format!("(\"{version}\", \"{file}\", "))).collect();
    assert!(missing.is_empty(), "integration/old_kernels.rs lacks {missing:?}");
}
