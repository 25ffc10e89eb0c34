//! docs/waits.md lists every wait and every time limit.

use std::fs;
use std::path::Path;

use super::sources_below;

/// The calls that wait.
const CALLS: [&str; 16] = [
    "wait::ready(",
    "wait::readable(",
    "wait::sleep(",
    "wait::lock(",
    "wait::pause(",
    "wait::contents(",
    "wait::contents_of(",
    "wait::contents_below(",
    "wait::connect(",
    "wait::by_a_thread(",
    "event::poll(",
    "|| poll(",
    "= poll(",
    "WaitIdOptions::EXITED)",
    "child.wait()",
    "nanosleep(",
];

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn the_list_of_waits_names_the_files_that_wait() {
    let page = read("docs/waits.md");
    let mut missing = Vec::new();
    for top in ["src", "shim/src"] {
        for (path, text) in sources_below(top) {
            let is_test =
                ["tests", "examples"].iter().any(|name| path.starts_with(Path::new("libcontainer").join(name)));
            if is_test || path.ends_with("tests.rs") || !CALLS.iter().any(|call| text.contains(call)) {
                continue;
            }
            let path = Path::new(top).join(path).display().to_string();
            let name = path.strip_prefix("src/libcontainer/").unwrap_or(&path);
            if !page.contains(&format!("`{name}`")) {
                missing.push(name.to_owned());
            }
        }
    }
    assert!(missing.is_empty(), "these files wait, and docs/waits.md does not name them: {missing:#?}");
    // and no file that is gone
    let names = page.split('`').skip(1).step_by(2).filter(|name| name.ends_with(".rs"));
    let there = |name: &str| {
        ["", "src/libcontainer/"]
            .iter()
            .any(|top| Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("{top}{name}")).exists())
    };
    let gone: Vec<_> = names.filter(|name| !there(name)).collect();
    assert!(gone.is_empty(), "docs/waits.md names {gone:?}");
}

#[test]
fn the_list_of_waits_names_the_time_limits() {
    let (page, limits) = (read("docs/waits.md"), read("src/libcontainer/wait/limits.rs"));
    let names = limits.lines().filter_map(|line| line.strip_prefix("pub const ")?.split(':').next());
    let missing: Vec<_> = names.filter(|name| !page.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "docs/waits.md does not name {missing:?}");
}
