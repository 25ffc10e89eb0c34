//! No file of the library, of the command or of the shim uses itself through other files. So a reader can begin with the
//! files that use no other file. A file uses another one by an import, by a path, or when it calls a
//! method whose `impl` block is there.
#![allow(clippy::unwrap_used)] // a failed unwrap fails the test

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::{is_test, sources, sources_below};

/// For each module the modules that it uses, and a word that shows the use.
type Arrows = BTreeMap<Module, BTreeMap<Module, String>>;

/// The path of a module in its crate: `cgroup::stats::v1`. Empty for the crate's own file.
type Module = Vec<String>;

/// Methods of the standard library that have the name of one of ours: `DirBuilder::create`.
const FOREIGN: [&str; 1] = ["create"];

/// A type: the module that defines it, and its name.
type Type = (Module, String);

/// The modules of a crate. A name that a module re-exports (`pub use`) belongs to the module that defines it.
struct Crate {
    texts: BTreeMap<Module, String>,
    /// For each module its re-exports: the name, and the path to its definition.
    handed_on: BTreeMap<Module, Vec<(String, Vec<String>)>>,
    /// For each method the types that have it in an `impl` block, and the module of the block.
    methods: BTreeMap<String, Vec<(Type, Module)>>,
}

/// Expands `a::{b, c::{d, e as f}}`: each path, with its local name.
fn paths_of(tree: &str) -> Vec<Vec<String>> {
    let tree = tree.trim();
    let Some(brace) = tree.find('{') else {
        let path = tree.split(" as ").next().unwrap();
        return vec![path.split("::").map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()];
    };
    let before: Vec<String> =
        tree[..brace].split("::").map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect();
    let inner = &tree[brace + 1..tree.rfind('}').unwrap()];
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (at, letter) in inner.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&inner[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&inner[start..]);
    let parts = parts.into_iter().filter(|part| !part.trim().is_empty());
    parts.flat_map(paths_of).map(|path| before.iter().cloned().chain(path).collect()).collect()
}

/// The text without its `use` statements, and their paths with whether each is public.
fn uses(text: &str) -> (String, Vec<(bool, Vec<String>)>) {
    let (mut rest, mut found) = (String::new(), Vec::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let words = line.trim_start();
        let public =
            ["pub use ", "pub(crate) use ", "pub(super) use "].iter().find_map(|start| words.strip_prefix(start));
        let Some(tree) = public.or_else(|| words.strip_prefix("use ")) else {
            rest.push_str(line);
            rest.push('\n');
            continue;
        };
        let mut tree = tree.to_owned();
        while !tree.contains(';') {
            tree.push_str(lines.next().unwrap());
        }
        found.extend(paths_of(tree.split(';').next().unwrap()).into_iter().map(|path| (public.is_some(), path)));
    }
    (rest, found)
}

/// Every path with at least two parts in a text without `use` statements.
fn paths_in(text: &str) -> Vec<Vec<String>> {
    let word = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let candidates = text.split(|c| !word(c)).filter(|path| path.contains("::") && !path.starts_with("::"));
    candidates
        .map(|path| path.trim_end_matches(':').split("::").map(str::to_owned).filter(|part| !part.is_empty()).collect())
        .collect()
}

/// The words of a text.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty())
}

/// The type of an `impl` block without a trait that begins in this line.
fn implemented(line: &str) -> Option<&str> {
    let mut rest = line.strip_prefix("impl")?;
    if rest.starts_with('<') {
        rest = &rest[rest.find("> ")? + 1..];
    }
    let header = rest.split('{').next().unwrap();
    (!header.contains(" for ")).then(|| words(header).next()).flatten()
}

/// The methods in the `impl` blocks of a text that have no trait, each with its type.
fn methods(text: &str) -> Vec<(String, String)> {
    let (mut found, mut current) = (Vec::new(), None);
    for line in text.lines() {
        match line {
            "}" => current = None,
            _ if line.starts_with("impl") => current = implemented(line),
            _ => {}
        }
        let Some(item) = line.strip_prefix("    ").filter(|item| !item.starts_with(' ')) else { continue };
        let function = item.split_once("fn ").filter(|(before, _)| before.is_empty() || before.ends_with(' '));
        if let (Some(current), Some((_, function))) = (current, function) {
            found.push((words(function).next().unwrap().to_owned(), current.to_owned()));
        }
    }
    found
}

impl Crate {
    fn new(files: Vec<(PathBuf, String)>) -> Crate {
        let mut texts = BTreeMap::new();
        for (path, text) in files.into_iter().filter(|(path, _)| !is_test(path)) {
            let path = path.with_extension("");
            let parts = path.iter().map(|part| part.to_str().unwrap().to_owned());
            texts.insert(parts.filter(|part| !["mod", "lib", "main"].contains(&part.as_str())).collect(), text);
        }
        let mut whole = Crate { texts, handed_on: BTreeMap::new(), methods: BTreeMap::new() };
        for (module, text) in &whole.texts {
            let public = uses(text).1.into_iter().filter(|(public, _)| *public).map(|(_, path)| path);
            let named = public.filter_map(|path| Some((path.last()?.clone(), path)));
            whole.handed_on.insert(module.clone(), named.collect());
        }
        let mut found: BTreeMap<String, Vec<(Type, Module)>> = BTreeMap::new();
        for (module, text) in &whole.texts {
            let named = whole.named(module, text);
            for (method, of) in methods(text) {
                let defined = ["struct", "enum", "union"].iter().any(|word| text.contains(&format!("{word} {of}")));
                let elsewhere = named.iter().find(|(from, name)| *name == of && from != module);
                let from = elsewhere.filter(|_| !defined).map_or(module, |(from, _)| from).clone();
                found.entry(method).or_default().push(((from, of), module.clone()));
            }
        }
        whole.methods = found;
        whole
    }

    /// The types that a module names: those that it imports, and perhaps its own.
    fn named(&self, module: &Module, text: &str) -> BTreeSet<Type> {
        let (rest, statements) = uses(text);
        let imported = statements.into_iter().map(|(_, path)| path).chain(paths_in(&rest));
        let type_in = |path: Vec<String>| {
            let end = path.iter().position(|part| part.starts_with(|c: char| c.is_ascii_uppercase()))?;
            Some((self.resolve(module, &path[..=end])?, path[end].clone()))
        };
        let own = words(&rest).map(|word| (module.clone(), word.to_owned()));
        imported.filter_map(type_in).chain(own).collect()
    }

    /// The module that defines what `path` names in the module `from`. None if that is in another crate.
    fn resolve(&self, from: &Module, path: &[String]) -> Option<Module> {
        let (mut at, mut rest) = (from.clone(), path);
        match path.first()?.as_str() {
            "crate" => (at, rest) = (Module::new(), &path[1..]),
            "std" => return None,
            "super" => {
                while let Some("super") = rest.first().map(String::as_str) {
                    at.pop()?;
                    rest = &rest[1..];
                }
            }
            "self" => rest = &rest[1..],
            child if !self.texts.contains_key(&[from.as_slice(), &[child.to_owned()]].concat()) => return None,
            _ => {}
        }
        while let Some(next) = rest.first() {
            let child = [at.as_slice(), std::slice::from_ref(next)].concat();
            if self.texts.contains_key(&child) {
                (at, rest) = (child, &rest[1..]);
                continue;
            }
            let handed_on = self.handed_on.get(&at)?.iter().find(|(known, _)| known == next);
            let defined = handed_on.and_then(|(_, path)| self.resolve(&at, path));
            return Some(defined.unwrap_or(at));
        }
        Some(at)
    }

    /// The modules whose `impl` blocks have the methods that this text calls, of the types that it names.
    fn called(&self, module: &Module, text: &str) -> BTreeMap<Module, String> {
        let named = self.named(module, &self.texts[module]);
        let mut modules = BTreeMap::new();
        for call in text.split('.').skip(1) {
            let name = words(call).next().unwrap_or_default();
            if call.starts_with(name) && call[name.len()..].starts_with(['(', ':']) && !FOREIGN.contains(&name) {
                let all = self.methods.get(name).into_iter().flatten();
                let of: BTreeSet<_> = all.filter(|(of, _)| named.contains(of)).collect();
                // If several of its types have such a method, the text alone does not say which one is meant.
                if let [(_, module)] = of.into_iter().collect::<Vec<_>>()[..] {
                    modules.insert(module.clone(), format!(".{name}()"));
                }
            }
        }
        for path in paths_in(text) {
            if let [.., of, method] = path.as_slice() {
                let all = self.methods.get(method).map_or(&[][..], Vec::as_slice);
                let of_it = all.iter().filter(|(known, _)| known.1 == *of && named.contains(known));
                modules.extend(of_it.map(|(_, module)| (module.clone(), path.join("::"))));
            }
        }
        modules
    }

    /// The dependencies between the modules.
    fn arrows(&self) -> Arrows {
        let mut arrows = BTreeMap::new();
        for (module, text) in &self.texts {
            let (rest, statements) = uses(text);
            // A file uses the items that it re-exports of its neighbours. In mod.rs, re-exports of its own files are a
            // list of contents, unless the file names them.
            let own = |path: &[String]| path[0] != "super" && path[0] != "crate";
            let named: BTreeSet<&str> = words(&rest).collect();
            let is_used =
                |public: bool, path: &[String]| !public || !own(path) || named.contains(&**path.last().unwrap());
            let used = statements.into_iter().filter(|(public, path)| is_used(*public, path)).map(|(_, path)| path);
            let shown = |path: Vec<String>| Some((self.resolve(module, &path)?, path.join("::")));
            let mut used: BTreeMap<_, _> = used.chain(paths_in(&rest)).filter_map(shown).collect();
            used.extend(self.called(module, &rest));
            used.remove(module);
            arrows.insert(module.clone(), used);
        }
        arrows
    }
}

/// A path along the arrows that returns to its start.
fn circle(arrows: &Arrows) -> Option<Vec<&Module>> {
    fn walk<'a>(
        arrows: &'a Arrows,
        at: &'a Module,
        way: &mut Vec<&'a Module>,
        done: &mut BTreeSet<&'a Module>,
    ) -> bool {
        if let Some(begin) = way.iter().position(|before| *before == at) {
            way.drain(..begin);
            way.push(at);
            return true;
        }
        if done.contains(at) {
            return false;
        }
        way.push(at);
        if arrows.get(at).into_iter().flat_map(BTreeMap::keys).any(|next| walk(arrows, next, way, done)) {
            return true;
        }
        way.pop();
        done.insert(at);
        false
    }
    let (mut way, mut done) = (Vec::new(), BTreeSet::new());
    arrows.keys().any(|module| walk(arrows, module, &mut way, &mut done)).then_some(way)
}

#[test]
fn no_file_uses_itself_through_others() {
    let inside = |(path, text): (PathBuf, String)| Some((path.strip_prefix("libcontainer").ok()?.to_owned(), text));
    let crates = [
        ("libcontainer", sources().into_iter().filter_map(inside).collect()),
        ("src", sources().into_iter().filter(|(path, _)| !path.starts_with("libcontainer")).collect()),
        ("shim/src", sources_below("shim/src")),
    ];
    let mut wrong = Vec::new();
    for (name, files) in crates {
        let whole = Crate::new(files);
        assert!(whole.texts.len() > 20 && whole.methods.len() > 20, "{name}: the test finds too little");
        let arrows = whole.arrows();
        let shown = |module: &Module| if module.is_empty() { "crate".to_owned() } else { module.join("::") };
        if let Some(way) = circle(&arrows) {
            let steps = way
                .windows(2)
                .map(|step| format!("  {} uses {}: {}", shown(step[0]), shown(step[1]), arrows[step[0]][step[1]]));
            wrong.push(format!("{name}:\n{}", steps.collect::<Vec<_>>().join("\n")));
        }
    }
    assert!(wrong.is_empty(), "files that use each other in a circle:\n{}", wrong.join("\n"));
}

/// A method in another file than its type counts as that file.
#[test]
fn a_circle_through_a_method_is_found() {
    let files = |caller: &str| {
        let files = [
            ("a.rs", format!("pub struct A;\nimpl A {{\n    fn walk(&self) {{\n        {caller};\n    }}\n}}\n")),
            ("b.rs", "use super::a::A;\nimpl A {\n    pub(super) fn come_back(&self) {}\n}\n".to_owned()),
        ];
        Crate::new(files.into_iter().map(|(path, text)| (PathBuf::from(path), text)).collect())
    };
    for caller in ["self.come_back()", "A::come_back(self)"] {
        assert!(circle(&files(caller).arrows()).is_some(), "{caller}");
    }
    assert!(circle(&files("self.len()").arrows()).is_none());
}
