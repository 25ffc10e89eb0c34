//! hack/order.ld names functions of the library and of the command. The linker ignores a name that matches nothing, so a build
//! does not show that the file is old. This test looks for each name in the sources.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::{code, sources};

/// The largest share of names that may match nothing, in percent. Then hack/order must make the file again.
const MOST_STALE: usize = 10;

fn is_hash(part: &str) -> bool {
    part.len() == 17 && part.starts_with('h') && part[1..].bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The parts of a mangled name (`_ZN12libcontainer4plan…`), as the compiler writes them for people: `libcontainer::plan::…`.
fn demangled(name: &str) -> Option<String> {
    let mut rest = name.strip_prefix("_ZN")?;
    let mut parts = Vec::new();
    while let Some(end) = rest.find(|c: char| !c.is_ascii_digit()).filter(|end| *end > 0) {
        let (length, from) = (rest[..end].parse::<usize>().ok()?, &rest[end..]);
        // the last part is the compiler's hash: often left out (`17h*`)
        let Some(part) = from.get(..length).filter(|part| !is_hash(part)) else { break };
        parts.push(part);
        rest = &from[length..];
    }
    let mut text = parts.join("::").replace("..", "::");
    for (code, meaning) in [("$LT$", "<"), ("$GT$", ">"), ("$u20$", " "), ("$u7b$", "{"), ("$u7d$", "}"), ("$RF$", "&")]
    {
        text = text.replace(code, meaning);
    }
    Some(text)
}

/// The paths in a name that begin at one of our crates. The first one of `a::<impl b::T>::f` is `a::f`.
fn own_paths<'n>(name: &'n str) -> Vec<Vec<&'n str>> {
    let is_path = |c: char| c.is_ascii_alphanumeric() || "_:".contains(c);
    let parts = |word: &'n str| word.split("::").filter(|part| !["", "_"].contains(part)).collect::<Vec<_>>();
    let mut paths: Vec<_> = name.split(|c| !is_path(c)).map(parts).collect();
    paths.retain(|parts| parts.first().is_some_and(|first| ["libcontainer", "coracle"].contains(first)));
    // a derived implementation of a trait (`impl Trait for T`) has functions that no source names
    if let Some((_, inside)) = name.split_once("<impl ").filter(|(_, inside)| !inside.contains(" for "))
        && let (Some(path), Some((_, function))) = (paths.first_mut(), inside.split_once(">::"))
    {
        path.extend(parts(function).first());
    }
    paths
}

/// Whether the sources define everything that a path names: its modules are files, and the last file has the rest.
fn is_defined(files: &BTreeMap<String, String>, path: &[&str]) -> bool {
    let (top, root) = if path[0] == "libcontainer" { ("libcontainer/", "lib") } else { ("", "main") };
    let (mut module, mut text, mut names) = (String::new(), files.get(&format!("{top}{root}.rs")), &path[1..]);
    while let Some(name) = names.first() {
        let inside = format!("{module}{name}");
        let file = [format!("{top}{inside}.rs"), format!("{top}{inside}/mod.rs")];
        let Some(found) = file.iter().find_map(|file| files.get(file)) else { break };
        (module, text, names) = (format!("{inside}/"), Some(found), &names[1..]);
    }
    let Some(text) = text else { return false };
    let has = |name: &&str| text.split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|word| word == *name);
    names.iter().all(has)
}

#[test]
fn the_order_of_functions_is_current() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("hack/order.ld")).unwrap();
    let files = sources().into_iter().map(|(path, text)| (path.to_str().unwrap().to_owned(), code(&text))).collect();
    let names = text.lines().filter_map(|line| demangled(line.split(".text.").nth(1)?.trim_end_matches(')')));
    let ours: Vec<String> = names.filter(|name| !own_paths(name).is_empty()).collect();
    let stale: Vec<&String> =
        ours.iter().filter(|name| !own_paths(name).iter().all(|path| is_defined(&files, path))).collect();
    assert!(ours.len() > 300, "the test finds only {} names", ours.len());
    let (found, stale_count) = (ours.len(), stale.len());
    assert!(
        stale_count * 100 <= found * MOST_STALE,
        "{stale_count} of {found} names in hack/order.ld match nothing: run hack/order\n{stale:#?}"
    );
}

#[test]
fn a_name_that_matches_nothing_is_found() {
    let sources = [("plan/mod.rs", "mod create;"), ("plan/create.rs", "pub fn create() { struct Given; }")];
    let files = sources.map(|(path, text)| (format!("libcontainer/{path}"), text.to_owned())).into();
    let is_found = |name: &str| own_paths(&demangled(name).unwrap()).iter().all(|path| is_defined(&files, path));
    let given = "_$LT$impl$u20$libcontainer..plan..create..Given$GT$";
    let method = |name| format!("_ZN12libcontainer4plan6create{}{given}{name}", given.len());
    for known in [
        "_ZN12libcontainer4plan6create6create17h*E",
        "_ZN12libcontainer4plan6create6create28_$u7b$$u7b$closure$u7d$$u7d$17h*E",
    ] {
        assert!(is_found(known), "{known}");
    }
    assert!(is_found(&method("6create17h*E")) && !is_found(&method("4made17h*E")));
    for old in ["_ZN12libcontainer4plan6create5older17h*E", "_ZN12libcontainer4plan4gone6create17h*E"] {
        assert!(!is_found(old), "{old}");
    }
}
