//! Who may import whom, and who may do what (the arrows of the architecture), read from the sources themselves.
#![allow(clippy::unwrap_used)] // in a test, that is what fails it

use std::fs;
use std::path::{Path, PathBuf};

/// For each room of the library what it may know of the others.
const MAY: [(&str, &[&str]); 13] = [
    ("sys", &["sys"]),
    // packets: data and nothing else
    ("wire", &["wire"]),
    ("wait", &["wait", "sys"]),
    ("config", &["config"]),
    ("host", &["host", "sys"]),
    // of sys only what a call takes as plain data, so that a plan holds what init hands on
    (
        "plan",
        &[
            "plan",
            "config",
            "host",
            "wire",
            "sys::exec::Strings",
            "sys::mount::Attributes",
            "sys::mount::Reach",
            "sys::sched::SchedAttr",
        ],
    ),
    ("init", &["init", "plan::step", "wire", "sys"]),
    // plan::failure has the kernel's words, said in one way everywhere
    ("cgroup", &["cgroup", "host", "plan::resources", "plan::failure", "wait", "sys"]),
    ("resctrl", &["resctrl", "plan::resctrl", "cgroup::put", "cgroup::word", "wait"]),
    // whether it is paused its cgroup knows
    ("container", &["container", "cgroup", "wait", "sys"]),
    ("launch", &["launch", "init", "plan", "config", "host", "container", "cgroup", "resctrl", "wait", "wire", "sys"]),
    ("lib", &[]),
    // feeds the others with bytes, in tests and in fuzz/
    ("fuzzed", &["container", "host", "cgroup", "launch"]),
];

fn sources() -> Vec<(PathBuf, String)> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut left = vec![top.clone()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            // what is not the library itself: its build, tests and examples
            if ["build.rs", "tests", "examples"].iter().any(|name| path == top.join("libcontainer").join(name)) {
                continue;
            }
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(&top).unwrap().to_path_buf(), code(&text)));
            }
        }
    }
    found
}

/// Without comments and without tests, which may do as they like.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    text.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

fn room(path: &Path) -> Option<String> {
    let inside = path.strip_prefix("libcontainer").ok()?;
    Some(inside.iter().next()?.to_str()?.trim_end_matches(".rs").to_owned())
}

fn is_test(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "tests.rs")
}

/// Every path that follows `crate::`, groups in braces taken apart.
fn imports(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (start, _) in text.match_indices("crate::") {
        let rest = &text[start + "crate::".len()..];
        let path: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_' || *c == ':').collect();
        match rest[path.len()..].strip_prefix('{') {
            Some(group) => {
                let group = group.split('}').next().unwrap();
                found.extend(group.split(',').map(|name| format!("{path}{}", name.trim())));
            }
            None => found.push(path),
        }
    }
    found.retain(|path| !path.ends_with("::"));
    found
}

#[test]
fn no_room_imports_against_the_arrows() {
    let mut wrong = Vec::new();
    for (path, text) in sources().iter().filter(|(path, _)| !is_test(path)) {
        let Some(room) = room(path) else { continue };
        let (_, may) = MAY.iter().find(|(name, _)| *name == room).unwrap_or_else(|| panic!("{room}: a new room"));
        for import in imports(text) {
            let allowed = |prefix: &str| {
                import.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
            };
            if !may.iter().any(|prefix| allowed(prefix)) {
                wrong.push(format!("{}: crate::{import}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "against the arrows:\n{}", wrong.join("\n"));
}

fn no_file_has(words: &[&str], except: impl Fn(&Path) -> bool, why: &str) {
    let mut wrong = Vec::new();
    for (path, text) in sources().iter().filter(|(path, _)| !is_test(path) && !except(path)) {
        wrong.extend(
            words.iter().filter(|word| text.contains(**word)).map(|word| format!("{}: {word}", path.display())),
        );
    }
    assert!(wrong.is_empty(), "{why}:\n{}", wrong.join("\n"));
}

#[test]
fn a_plan_touches_nothing() {
    let pure = |path: &Path| !room(path).is_some_and(|room| ["plan", "config", "wire"].contains(&room.as_str()));
    let words = ["std::fs", "std::env", "std::process", "std::net", "std::io::", "rustix::fs::open", "libc::open"];
    no_file_has(&words, pure, "a plan is made of what it is given");
}

#[test]
fn the_library_leaves_its_caller_alone() {
    let elsewhere = |path: &Path| room(path).is_none();
    let words = ["println!", "eprintln!", "print!(", "eprint!(", "dbg!", "set_current_dir", "set_var", "remove_var"];
    no_file_has(&words, elsewhere, "a library prints nothing and changes nothing of its caller's");
}

#[test]
fn unsafe_is_in_sys_alone() {
    let sys = |path: &Path| path.starts_with("libcontainer/sys") || path.ends_with("lib.rs");
    no_file_has(&["unsafe "], sys, "unsafe is in sys alone");
}

#[test]
fn errors_are_printed_in_one_place() {
    let may = |path: &Path| path.starts_with("libcontainer") || path.ends_with("main.rs") || path.ends_with("log.rs");
    no_file_has(&["eprintln!", "eprint!("], may, "main prints the error, log the rest");
}

#[test]
fn init_asks_for_no_memory() {
    let not_init = |path: &Path| !path.starts_with("libcontainer/init");
    let words = ["Vec<", "String::", "format!", ".to_owned()", ".to_string()", "Box::new", "vec!", ".collect"];
    no_file_has(&words, not_init, "init runs after the fork, without a heap");
}
