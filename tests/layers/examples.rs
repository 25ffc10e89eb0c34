//! Each public type and function of the library has an example in its documentation.

use std::path::Path;

use super::texts_below;

/// The paths that `pub use` names in this file, without what the documentation does not show.
fn reexports(text: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for (before, statement) in
        text.match_indices("\npub use ").map(|(start, found)| (start, &text[start + found.len()..]))
    {
        if text[..before].ends_with("#[doc(hidden)]") {
            continue;
        }
        let statement = statement.split(';').next().unwrap();
        let (path, names) = statement.split_once('{').unwrap_or_else(|| statement.rsplit_once("::").unwrap());
        let names = names.trim_end_matches('}').split(',').map(str::trim).filter(|name| !name.is_empty());
        let path = path.trim_end_matches("::").trim_start_matches("crate::");
        paths.extend(names.map(|name| format!("{path}::{name}")));
    }
    paths
}

/// The public types and functions at the top of a file: their names, and whether their documentation has an example.
fn items(text: &str) -> Vec<(String, bool)> {
    let (mut found, mut has_example) = (Vec::new(), false);
    for line in text.lines() {
        let mut words = line.split([' ', '(', '<', ';', '{']);
        let is_item = words.next() == Some("pub")
            && words.next().is_some_and(|word| ["struct", "enum", "union", "trait", "type", "fn"].contains(&word));
        if is_item {
            found.push((words.next().unwrap().to_owned(), has_example));
        }
        // attributes stand between the documentation and the item
        if line.is_empty() || is_item {
            has_example = false;
        }
        has_example |= line.starts_with("/// ```");
    }
    found
}

#[test]
fn each_public_type_and_function_has_an_example() {
    let files = texts_below("src/libcontainer");
    let text = |name: &str| &files.iter().find(|(path, _)| path == Path::new(name)).unwrap().1;
    let (mut left, mut seen, mut without) = (reexports(text("lib.rs")), 0, Vec::new());
    while let Some(path) = left.pop() {
        let (place, name) = path.rsplit_once("::").unwrap();
        let module = place.split("::").next().unwrap();
        let found: Vec<_> = if name == "self" {
            // a public module: all of it
            let text = text(&format!("{}.rs", place.replace("::", "/")));
            left.extend(reexports(text));
            items(text)
        } else {
            // the type may be defined in another module than the one that exports it
            let of = |own: bool| {
                let places = files.iter().filter(move |(path, _)| path.starts_with(module) || !own);
                places.flat_map(|(_, text)| items(text)).filter(|(item, _)| item == name).collect::<Vec<_>>()
            };
            Some(of(true)).filter(|found| !found.is_empty()).unwrap_or_else(|| of(false))
        };
        let is_constant = name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
        assert!(!found.is_empty() || is_constant, "{path} is not found");
        seen += found.len();
        without.extend(
            found.into_iter().filter(|(_, has_example)| !has_example).map(|(item, _)| format!("{place}::{item}")),
        );
    }
    assert!(seen > 80, "the test finds only {seen} items");
    assert!(without.is_empty(), "no example in the documentation:\n{}", without.join("\n"));
}
