//! Configs: a case of the tests or of the fuzzer's corpus, with some values changed or taken from other cases. The same
//! number always gives the same config.

use serde_json::{Map, Value, json};

/// A generator that always makes the same numbers for the same seed (xorshift).
pub struct Numbers(u64);

impl Numbers {
    /// The generator for case `number` of a run with this seed.
    pub fn new(seed: u64, number: u64) -> Numbers {
        let mixed = (seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        Numbers((mixed ^ (mixed >> 29)) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound.max(1)).unwrap_or(1)).unwrap_or(0)
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn one_of<'a, T>(&mut self, list: &'a [T]) -> Option<&'a T> {
        let n = self.below(list.len());
        list.get(n)
    }
}

/// The cases that configs are made of.
#[derive(serde::Deserialize, serde::Serialize)]
pub struct Bases {
    /// First those that are valid for `check` on this host, then the others.
    pub all: Vec<Value>,
    /// The number of valid ones.
    pub good: usize,
}

impl Bases {
    /// Mostly a valid one: a config with one mistake is refused, whatever else it has.
    fn pick(&self, numbers: &mut Numbers) -> &Value {
        let bound = if numbers.once_in(6) { self.all.len() } else { self.good };
        let n = numbers.below(bound);
        self.all.get(n).unwrap_or(&Value::Null)
    }
}

/// A config that mostly runs `program`, with up to four changes.
pub fn config(bases: &Bases, numbers: &mut Numbers, program: &str) -> Value {
    let mut config = bases.pick(numbers).clone();
    if !numbers.once_in(12) {
        make_runnable(&mut config, program);
    }
    let changes = numbers.below(5);
    for _ in 0..changes {
        change(&mut config, bases, numbers);
    }
    // Directories that are made there for mounts would be cgroups. The runtime keeps directories that it has made in a
    // root.
    if let Some(path) =
        config.pointer_mut("/root/path").filter(|path| path.as_str().is_some_and(|it| it.starts_with("/sys")))
    {
        *path = json!("rootfs");
    }
    config
}

/// Sets a root and a program that exist, and no terminal, because no process would receive it.
fn make_runnable(config: &mut Value, program: &str) {
    let Some(top) = config.as_object_mut() else { return };
    top.insert("root".to_owned(), json!({"path": "rootfs"}));
    let process = top.entry("process").or_insert_with(|| json!({"cwd": "/", "user": {"uid": 0, "gid": 0}}));
    let Some(process) = process.as_object_mut() else { return };
    process.insert("args".to_owned(), json!([program]));
    process.insert("terminal".to_owned(), json!(false));
}

fn change(config: &mut Value, bases: &Bases, numbers: &mut Numbers) {
    // Most changes take a value that is valid in another config: other values are refused at once.
    if !numbers.once_in(4) {
        take_over(config, bases.pick(numbers), numbers);
        return;
    }
    let depth = 1 + numbers.below(6);
    let target = somewhere(config, depth, numbers);
    match numbers.below(6) {
        0 => remove(target, numbers),
        1 => double(target, numbers),
        2 => *target = strange(numbers),
        _ => vary(target, numbers),
    }
}

/// Gives `config` a value of `from`: a property, one of `process`, `linux` or `linux.resources`, or a further element.
fn take_over(config: &mut Value, from: &Value, numbers: &mut Numbers) {
    let section = *numbers.one_of(&["", "/process", "/linux", "/linux", "/linux/resources"]).unwrap_or(&"");
    let Some(source) = from.pointer(section).and_then(Value::as_object).filter(|object| !object.is_empty()) else {
        return;
    };
    let n = numbers.below(source.len());
    let Some((name, value)) = source.iter().nth(n) else { return };
    if let Some(target) = config.pointer_mut(section).and_then(Value::as_object_mut) {
        match (target.get_mut(name), value) {
            // There can be only one namespace of each type.
            (Some(Value::Array(list)), Value::Array(more)) if name != "namespaces" && !numbers.once_in(3) => {
                list.extend(more.iter().cloned());
            }
            _ => drop(target.insert(name.clone(), value.clone())),
        }
    }
}

/// A value at most `depth` steps below.
fn somewhere<'a>(value: &'a mut Value, depth: usize, numbers: &mut Numbers) -> &'a mut Value {
    let size = match value {
        Value::Object(object) => object.len(),
        Value::Array(list) => list.len(),
        _ => 0,
    };
    if depth == 0 || size == 0 {
        return value;
    }
    let n = numbers.below(size);
    let next = match value {
        Value::Object(object) => object.values_mut().nth(n),
        Value::Array(list) => list.get_mut(n),
        _ => None,
    };
    // The object or list has `size` elements.
    somewhere(next.unwrap_or_else(|| unreachable!()), depth - 1, numbers)
}

fn remove(target: &mut Value, numbers: &mut Numbers) {
    match target {
        Value::Object(object) => {
            let n = numbers.below(object.len());
            if let Some(name) = object.keys().nth(n).cloned() {
                object.remove(&name);
            }
        }
        Value::Array(list) if !list.is_empty() => drop(list.remove(numbers.below(list.len()))),
        other => *other = Value::Null,
    }
}

fn double(target: &mut Value, numbers: &mut Numbers) {
    match target {
        Value::Array(list) if !list.is_empty() => {
            let again = list[numbers.below(list.len())].clone();
            let at = numbers.below(list.len() + 1);
            list.insert(at, again);
        }
        Value::String(text) => *text = format!("{text}{text}"),
        other => *other = json!([other.clone()]),
    }
}

/// Replaces a value by another of the same type.
fn vary(target: &mut Value, numbers: &mut Numbers) {
    match target {
        Value::Bool(value) => *value = !*value,
        Value::Number(number) => {
            let old = number.as_i64().unwrap_or(0);
            let new = [
                0,
                1,
                -1,
                2,
                old.wrapping_add(1),
                old.wrapping_sub(1),
                old.wrapping_mul(2),
                old.wrapping_neg(),
                4096,
                65_535,
                65_536,
                i64::from(i32::MAX),
                i64::from(u32::MAX),
                i64::MAX,
                i64::MIN,
                old & 0xff,
            ];
            *target = numbers.one_of(&new).map_or(Value::Null, |new| json!(new));
        }
        Value::String(text) => *text = other_text(text, numbers),
        Value::Array(list) if list.len() > 1 => {
            let (one, other) = (numbers.below(list.len()), numbers.below(list.len()));
            list.swap(one, other);
        }
        Value::Object(object) if !object.is_empty() => {
            // Gives a value another name.
            let names: Vec<String> = object.keys().cloned().collect();
            let value = numbers.one_of(&names).and_then(|name| object.remove(name)).unwrap_or_default();
            let name = numbers.one_of(&names).cloned().unwrap_or_default();
            object.insert(name, value);
        }
        other => *other = strange(numbers),
    }
}

/// Paths that exist, special paths, and invalid ones.
const PATHS: [&str; 28] = [
    "/",
    "/proc",
    "/proc/self",
    "/proc/self/fd/0",
    "/proc/1/root",
    "/proc/self/ns/net",
    "/proc/self/ns/mnt",
    "/proc/1/ns/pid",
    "/proc/sys",
    "/sys",
    "/sys/fs/cgroup",
    "/dev",
    "/dev/null",
    "/dev/pts",
    "/dev/shm",
    "/dev/mqueue",
    "/bin",
    "/bin/true",
    "/bin/none",
    "/link",
    "/tmp",
    "/tmp/a/b/c",
    "rootfs",
    "../..",
    ".",
    "",
    "//bin//../bin/",
    "/bundle",
];

/// Words that are valid for some property.
const WORDS: [&str; 32] = [
    "bind",
    "rbind",
    "ro",
    "rro",
    "rw",
    "nosuid",
    "idmap",
    "tmpcopyup",
    "rshared",
    "slave",
    "tmpfs",
    "proc",
    "sysfs",
    "cgroup",
    "mqueue",
    "devpts",
    "overlay",
    "pid",
    "network",
    "mount",
    "user",
    "cgroup2",
    "time",
    "size=4k",
    "mode=0",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_TRAP",
    "CAP_SYS_ADMIN",
    "RLIMIT_AS",
    "RLIMIT_NOFILE",
    "RLIMIT_STACK",
];

fn other_text(old: &str, numbers: &mut Numbers) -> String {
    match numbers.below(10) {
        0..=3 => numbers.one_of(&PATHS).copied().unwrap_or_default().to_owned(),
        4..=6 => numbers.one_of(&WORDS).copied().unwrap_or_default().to_owned(),
        7 => old.chars().rev().collect(),
        8 => format!("{old}\0x"),
        _ => "a/".repeat(numbers.below(3000)),
    }
}

fn strange(numbers: &mut Numbers) -> Value {
    match numbers.below(12) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(-1),
        3 => json!(u64::MAX),
        4 => json!(1.5),
        5 => json!([]),
        6 => Value::Object(Map::new()),
        7 => json!([[]]),
        8 => json!(numbers.next() >> numbers.below(64)),
        _ => Value::String(other_text("x", numbers)),
    }
}
