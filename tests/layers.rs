//! Which module may import which other, and what it may use of it (the arrows of the architecture). The test reads the
//! sources.
#![allow(clippy::unwrap_used)] // a failed unwrap fails the test

#[path = "layers/circles.rs"]
mod circles;
#[path = "layers/examples.rs"]
mod examples;
#[path = "layers/order.rs"]
mod order;
#[path = "layers/waits.rs"]
mod waits;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// For each top module of the library: what it may import.
const MAY: [(&str, &[&str]); 20] = [
    // The faults of a config, the state of a container, and the signal that ended a wait are values for callers.
    ("error", &["error", "printable", "config::Faults", "status::Status", "wait::Interrupted", "sys::errno"]),
    ("sys", &["sys"]),
    ("status", &["status"]),
    ("printable", &["printable"]),
    // Packets: only data.
    ("wire", &["wire"]),
    ("wait", &["wait", "sys"]),
    ("config", &["config", "printable"]),
    ("host", &["host", "sys"]),
    // Of `sys`, only the plain data that system calls take: a plan contains what init passes on.
    (
        "plan",
        &[
            "plan",
            "config",
            "host",
            "wire",
            "printable",
            "sys::errno",
            "sys::exec::Strings",
            "sys::mount::Attributes",
            "sys::mount::Reach",
            "sys::sched::SchedAttr",
        ],
    ),
    ("init", &["init", "plan::step", "wire", "sys"]),
    // plan::failure has the kernel's words, so that they are the same everywhere.
    ("cgroup", &["cgroup", "error", "host", "plan::resources", "plan::failure", "wait", "sys"]),
    ("resctrl", &["resctrl", "error", "plan::resctrl", "cgroup::put", "cgroup::undone", "sys::errno", "wait"]),
    // Messages to criu(8), and its answers.
    ("criu", &["criu", "error", "host::Environment", "printable", "wait", "sys"]),
    // The cgroup knows whether the container is paused.
    (
        "container",
        &[
            "container",
            "error",
            "status",
            "printable::hex",
            "cgroup",
            "host::Environment",
            "host::Namespace",
            "wait",
            "sys",
        ],
    ),
    (
        "launch",
        &[
            "launch",
            "error",
            "status",
            "init",
            "plan",
            "config",
            "host",
            "container",
            "cgroup",
            "resctrl",
            "criu",
            "wait",
            "wire",
            "sys",
        ],
    ),
    // The API for embedders uses all others.
    (
        "api",
        &[
            "api",
            "launch",
            "error",
            "status",
            "exposure",
            "plan",
            "config",
            "host",
            "container",
            "cgroup",
            "resctrl",
            "wait",
            "sys",
        ],
    ),
    // Where limits would be is decided in the plan.
    ("survey", &["survey", "host", "plan::resources", "plan::failure", "cgroup::systemd", "wait", "sys"]),
    // A seccomp profile is read in the plan.
    ("exposure", &["exposure", "config", "plan::seccomp", "plan::mount_options", "plan::annotations", "plan::values"]),
    ("lib", &[]),
    // It calls the others with bytes, in tests and in fuzz/.
    ("fuzzed", &["container", "host", "cgroup", "launch"]),
];

/// The files of the command and of the library.
fn sources() -> Vec<(PathBuf, String)> {
    // These are not the library itself.
    let others = ["build.rs", "tests", "examples"].map(|name| Path::new("libcontainer").join(name));
    sources_below("src").into_iter().filter(|(path, _)| !others.iter().any(|other| path.starts_with(other))).collect()
}

/// The code of the files below a directory, by their paths in it.
fn sources_below(directory: &str) -> Vec<(PathBuf, String)> {
    texts_below(directory).into_iter().map(|(path, text)| (path, code(&text))).collect()
}

/// A file, or the files below a directory by their paths in it.
fn texts_below(place: &str) -> Vec<(PathBuf, String)> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join(place);
    let (mut found, mut left) = (Vec::new(), vec![top.clone()]);
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path.strip_prefix(&top).unwrap().to_path_buf(), text));
        }
    }
    found
}

/// The text without comments and without tests: tests may import everything.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    text.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

fn module(path: &Path) -> Option<String> {
    let inside = path.strip_prefix("libcontainer").ok()?;
    Some(inside.iter().next()?.to_str()?.trim_end_matches(".rs").to_owned())
}

fn is_test(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "tests.rs")
}

/// Every path after `crate::`. Groups in braces are expanded.
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

/// The types that may have the name of another one.
const SAME_NAME: [&str; 2] = [
    // A module that replaces another one if a feature is off.
    "plan/seccomp/absent.rs",
    "cgroup/no_systemd.rs",
];

/// A type at the top of a file, private or public: one name has one meaning in the whole library.
#[test]
fn no_two_types_have_the_same_name() {
    let mut places = BTreeMap::<String, Vec<PathBuf>>::new();
    for (path, text) in sources().into_iter().filter(|(path, _)| !is_test(path)) {
        let Ok(inside) = path.strip_prefix("libcontainer") else { continue };
        if SAME_NAME.iter().any(|allowed| inside == Path::new(allowed)) || inside == Path::new("fuzzed.rs") {
            continue;
        }
        for line in text.lines() {
            let item = match line.strip_prefix("pub") {
                Some(rest) if rest.starts_with('(') => rest.split_once(") ").map_or("", |(_, item)| item),
                Some(rest) => rest.trim_start(),
                None => line,
            };
            let Some((keyword, rest)) = item.split_once(' ') else { continue };
            if ["struct", "enum", "union", "trait", "type"].contains(&keyword) {
                let name = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                places.entry(name).or_default().push(inside.to_owned());
            }
        }
    }
    assert!(places.len() > 300, "the test finds only {} types", places.len());
    places.retain(|_, places| places.len() > 1);
    assert!(places.is_empty(), "types with the same name: {places:?}");
}

#[test]
fn no_room_imports_against_the_arrows() {
    let mut wrong = Vec::new();
    for (path, text) in sources().iter().filter(|(path, _)| !is_test(path)) {
        let Some(module) = module(path) else { continue };
        let (_, may) = MAY.iter().find(|(name, _)| *name == module).unwrap_or_else(|| panic!("{module}: a new module"));
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
    none_has(&sources(), words, except, why);
}

fn none_has(files: &[(PathBuf, String)], words: &[&str], except: impl Fn(&Path) -> bool, why: &str) {
    let mut wrong = Vec::new();
    for (path, text) in files.iter().filter(|(path, _)| !is_test(path) && !except(path)) {
        wrong.extend(
            words.iter().filter(|word| text.contains(**word)).map(|word| format!("{}: {word}", path.display())),
        );
    }
    assert!(wrong.is_empty(), "{why}:\n{}", wrong.join("\n"));
}

#[test]
fn a_plan_touches_nothing() {
    let pure = |path: &Path| {
        !module(path).is_some_and(|module| ["plan", "config", "wire", "exposure"].contains(&module.as_str()))
    };
    let words = ["std::fs", "std::env", "std::process", "std::net", "std::io::", "rustix::fs::open", "libc::open"];
    no_file_has(&words, pure, "a plan is made of what it is given");
}

#[test]
fn the_library_leaves_its_caller_alone() {
    let elsewhere = |path: &Path| module(path).is_none();
    let words = ["println!", "eprintln!", "print!(", "eprint!(", "dbg!", "set_current_dir", "set_var", "remove_var"];
    no_file_has(&words, elsewhere, "a library prints nothing and changes nothing of its caller's");
}

/// State of the process is changed only in a child or in a separate thread, and only in these places: elsewhere it
/// would be the state of the caller.
#[test]
fn the_state_of_the_process_is_changed_in_few_places() {
    let places: [(&[&str], &[&str]); 5] = [
        // a thread that ends with it
        (&["setns("], &["init/", "sys/", "survey/", "launch/inside.rs"]),
        (&["::umask("], &["init/", "sys/"]),
        // the limit is counted (RLIMIT_NOFILE)
        (&["setrlimit("], &["init/", "sys/", "launch/nofile.rs"]),
        // a program that is executed again keeps its own environment
        (&["env::var", "env::vars", "var_os("], &["launch/protection.rs", "sys/"]),
        // a child inherits our environment, unless it gets another one
        (&["Command::new("], &["host/environment.rs", "launch/hooks.rs"]),
    ];
    for (words, allowed) in places {
        let may = |path: &Path| {
            path.strip_prefix("libcontainer").map_or(true, |inside| {
                allowed.iter().any(|place| inside.to_str().is_some_and(|inside| inside.starts_with(place)))
            })
        };
        no_file_has(words, may, "it is the caller's");
    }
}

/// What a caller passes is in the values that it holds: two callers in one process do not disturb each other.
#[test]
fn the_library_keeps_state_in_few_statics() {
    let places = [
        // the signals that a thread of our own command waits for
        "wait/mod.rs",
        // what ends the waits of one thread
        "wait/stop.rs",
        // what is true for the whole process: its first arguments, a child that may not use the heap, RLIMIT_NOFILE
        "sys/",
        "launch/nofile.rs",
        // tables
        "survey/kernel.rs",
    ];
    let is_static = |line: &str| {
        let words = line.split_whitespace().take(4).collect::<Vec<_>>();
        words.contains(&"static") || line.contains("OnceLock") || line.contains("LazyLock")
    };
    let mut wrong = Vec::new();
    for (path, text) in sources().iter().filter(|(path, _)| !is_test(path)) {
        let Ok(inside) = path.strip_prefix("libcontainer") else { continue };
        if !places.iter().any(|place| inside.to_str().is_some_and(|inside| inside.starts_with(place))) {
            let lines = text.lines().filter(|line| is_static(line));
            wrong.extend(lines.map(|line| format!("{}: {}", path.display(), line.trim())));
        }
    }
    assert!(wrong.is_empty(), "state that all callers share:\n{}", wrong.join("\n"));
}

#[test]
fn unsafe_is_in_sys_alone() {
    let sys = |path: &Path| path.starts_with("libcontainer/sys") || path.ends_with("lib.rs");
    no_file_has(&["unsafe "], sys, "unsafe is in sys alone");
}

/// The shim uses only the public API: items without documentation belong to the library.
#[test]
fn the_shim_uses_the_public_api_and_no_unsafe() {
    let modules = MAY.iter().map(|(module, _)| format!("libcontainer::{module}::"));
    let words: Vec<String> = modules.chain(["libcontainer::internals", "unsafe "].map(str::to_owned)).collect();
    let (files, mut wrong) = (sources_below("shim/src"), Vec::new());
    for (path, text) in &files {
        wrong
            .extend(words.iter().filter(|word| text.contains(*word)).map(|word| format!("{}: {word}", path.display())));
    }
    let seen = files.len();
    assert!(seen > 20 && wrong.is_empty(), "{seen} files; not public:\n{}", wrong.join("\n"));
}

/// These functions of the standard library panic if the kernel refuses their call. The systemd of the tests is in bus.rs.
#[test]
fn no_refused_call_is_a_panic() {
    let words = ["thread::sleep(", "thread::spawn(", "scope.spawn(", "wait_with_output(", "command.output("];
    for files in [sources(), sources_below("shim/src")] {
        none_has(&files, &words, |path| path.ends_with("cgroup/bus.rs"), "use wait::pause and thread::Builder");
    }
}

/// rustix panics for a number that is not an errno, and nix gives 0 for an errno that it does not know.
#[test]
fn no_number_that_is_not_an_errno_is_a_panic() {
    let may = |path: &Path| path.ends_with("sys/errno.rs") || path.ends_with("wire.rs");
    for files in [sources(), sources_below("shim/src")] {
        none_has(&files, &["Errno::from_raw_os_error"], may, "use sys::errno::from_number or in_words");
    }
}

#[test]
fn errors_are_printed_in_one_place() {
    let may = |path: &Path| path.starts_with("libcontainer") || path.ends_with("main.rs") || path.ends_with("log.rs");
    no_file_has(&["eprintln!", "eprint!("], may, "main prints the error, log the rest");
}

/// The library names its own API in its texts. The command translates: src/flags.rs.
#[test]
fn flags_are_named_by_the_command_alone() {
    // What somebody types at a shell, of other programs: `usermod --add-subuids`, `coracle spec --from`.
    let typed = |path: &Path, literal: &str| {
        path.ends_with("config/other_file.rs")
            || path.starts_with("libcontainer/survey")
                && ["usermod ", "systemd-run "].iter().any(|program| literal.contains(program))
    };
    let table = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/flags.rs")).unwrap();
    let (mut flags, mut untranslated) = (Vec::new(), Vec::new());
    for (path, text) in sources().iter().filter(|(path, _)| path.starts_with("libcontainer") && !is_test(path)) {
        let said = text.lines().filter(|line| !line.trim_start().starts_with("#["));
        for literal in said.flat_map(|line| line.split('"').skip(1).step_by(2)) {
            let mut words = literal.split(|c: char| !(c.is_ascii_alphanumeric() || "-_:".contains(c)));
            if words.any(|word| word.starts_with("--") && word.len() > 2) && !typed(path, literal) {
                flags.push(format!("{}: {literal}", path.display()));
            }
            let words = literal.split(|c: char| !(c.is_ascii_alphanumeric() || "_:".contains(c)));
            let api = |word: &&str| word.contains("::") && word.starts_with(|c: char| c.is_ascii_uppercase());
            let names = words.filter(api).map(|word| word.trim_end_matches(':'));
            untranslated.extend(names.filter(|name| !table.contains(&format!("(\"{name}"))).map(str::to_owned));
        }
    }
    assert!(flags.is_empty(), "flags of the command in the library:\n{}", flags.join("\n"));
    assert!(untranslated.is_empty(), "no flag in src/flags.rs: {untranslated:?}");
}

#[test]
fn init_asks_for_no_memory() {
    let not_init = |path: &Path| !path.starts_with("libcontainer/init");
    let words = ["Vec<", "String::", "format!", ".to_owned()", ".to_string()", "Box::new", "vec!", ".collect"];
    no_file_has(&words, not_init, "init runs after the fork, without a heap");
}

/// The modules that each module uses, from the imports of its files.
fn modules() -> BTreeMap<String, BTreeSet<String>> {
    let mut modules: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, text) in sources().iter().filter(|(path, _)| !is_test(path)) {
        let Some(name) = module(path).filter(|name| !["lib", "fuzzed"].contains(&name.as_str())) else {
            continue;
        };
        let used = imports(text).into_iter().map(|import| import.split("::").next().unwrap().to_owned());
        let used = used.filter(|used| *used != name && MAY.iter().any(|(known, _)| known == used));
        modules.entry(name.clone()).or_default().extend(used);
    }
    modules
}

/// Whether `to` can be reached from `from` without the arrow between them.
fn has_detour(modules: &BTreeMap<String, BTreeSet<String>>, from: &str, to: &str) -> bool {
    let mut left: Vec<&String> = modules[from].iter().filter(|next| *next != to).collect();
    let mut seen = BTreeSet::new();
    while let Some(module) = left.pop() {
        if module == to {
            return true;
        }
        if seen.insert(module) {
            left.extend(modules.get(module).into_iter().flatten());
        }
    }
    false
}

/// The modules as a mermaid flow chart, and as a table with every arrow.
fn picture() -> String {
    let modules = modules();
    let mut text = "```mermaid\nflowchart TD\n".to_owned();
    for (from, uses) in &modules {
        for to in uses.iter().filter(|to| !has_detour(&modules, from, to)) {
            text.push_str(&format!("  {from} --> {to}\n"));
        }
    }
    text.push_str("```\n\n| module | uses |\n|---|---|\n");
    for (from, uses) in &modules {
        let uses: Vec<&str> = uses.iter().map(String::as_str).collect();
        text.push_str(&format!("| {from} | {} |\n", uses.join(", ")));
    }
    text
}

/// docs/architecture.md shows the modules as they are. `UPDATE=1 cargo test --test layers` draws them again.
#[test]
fn the_picture_of_the_rooms_is_current() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/architecture.md");
    let (begin, end) = ("<!-- drawn by tests/layers.rs -->\n", "<!-- end of the drawing -->\n");
    let page = fs::read_to_string(&file).unwrap();
    let (before, rest) = page.split_once(begin).unwrap();
    let (drawn, after) = rest.split_once(end).unwrap();
    if std::env::var_os("UPDATE").is_some() {
        return fs::write(&file, format!("{before}{begin}{}{end}{after}", picture())).unwrap();
    }
    assert!(drawn == picture(), "not current: run UPDATE=1 cargo test --test layers");
}

/// The compiler finds the unused ones of [dependencies] (`unused_crate_dependencies` in each lib.rs and main.rs). No single
/// target uses all of [dev-dependencies].
#[test]
fn every_development_dependency_is_used() {
    let mut unused = Vec::new();
    for (package, places) in [
        ("", ["tests", "integration", "src/cli", "hack/injector", "hack/pages.rs"].as_slice()),
        ("src/libcontainer/", &["src/libcontainer"]),
        ("shim/", &["shim"]),
    ] {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join(package).join("Cargo.toml");
        let manifest = fs::read_to_string(manifest).unwrap();
        let section = manifest.split("\n[dev-dependencies]\n").nth(1).unwrap().split("\n[").next().unwrap();
        let texts: Vec<_> = places.iter().flat_map(|place| texts_below(place)).collect();
        for line in section.lines().filter(|line| !line.starts_with('#') && line.contains('=')) {
            let name = line.split(['.', ' ', '=']).next().unwrap().replace('-', "_");
            if !texts.iter().any(|(_, text)| text.contains(&format!("{name}::"))) {
                unused.push(format!("{package}Cargo.toml: {name}"));
            }
        }
    }
    assert!(unused.is_empty(), "development dependencies that no source uses: {}", unused.join(", "));
}
