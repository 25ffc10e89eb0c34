//! Cases on disk. `NAME.json` is a whole config.json if it has an `ociVersion`. Otherwise it is a change to
//! `tests/base.json` (a JSON merge patch, RFC 7396), so that a case contains only its subject. `NAME.host` is JSON, and
//! says what is unusual about the host and the command line. The tests read nothing from this machine.
#![allow(dead_code, clippy::unwrap_used)] // not every test uses all of it; a failed unwrap fails the test

use std::fs;
use std::path::{Path, PathBuf};

use libcontainer::config::{self, At, Config, Faults, unknown_properties};
use libcontainer::host::cgroups::{Hierarchy, Unified};
use libcontainer::host::views::View;
use libcontainer::host::{Cgroups, Host, Lsm, MayMount, Me, Resctrl, UserNamespace};
use libcontainer::plan::namespaces::KINDS;
use libcontainer::plan::restore::Dumped;
use libcontainer::plan::step::Namespaces;
use libcontainer::plan::{
    self, CgroupUse, Flags, Given, Joined, Joining, Keyring, Manager, Plan, RootChange, Start, Terminal,
};
use serde_json::Value;

/// One case.
pub struct Case {
    /// The file.
    pub path: PathBuf,
    /// The bytes of config.json.
    pub text: Vec<u8>,
    /// The unusual facts of the host and of the command line.
    pub host: Value,
}

/// The directory of the cases of a kind.
pub fn directory(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(kind)
}

/// Every case in `tests/KIND`, sorted by name.
pub fn all(kind: &str) -> Vec<Case> {
    let entries = fs::read_dir(directory(kind)).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    assert!(!paths.is_empty(), "no cases in tests/{kind}");
    paths.into_iter().map(read).collect()
}

fn read(path: PathBuf) -> Case {
    let mut text = fs::read(&path).unwrap();
    if let Ok(patch) = serde_json::from_slice::<Value>(&text)
        && patch.is_object()
        && patch.get("ociVersion").is_none_or(Value::is_null)
    {
        text = serde_json::to_vec(&on_base(&patch)).unwrap();
    }
    let host = match fs::read(path.with_extension("host")) {
        Ok(text) => serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display())),
        Err(_) => Value::Null,
    };
    Case { path, text, host }
}

/// The valid config with these changes.
pub fn on_base(patch: &Value) -> Value {
    let mut document: Value = serde_json::from_slice(&fs::read(directory("base.json")).unwrap()).unwrap();
    merge(&mut document, patch);
    document
}

/// A merge by RFC 7396.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = serde_json::json!({});
    }
    let Some(object) = target.as_object_mut() else { return };
    for (name, value) in patch {
        if value.is_null() {
            object.shift_remove(name);
        } else {
            merge(object.entry(name).or_insert(Value::Null), value);
        }
    }
}

impl Case {
    /// The name of the case.
    pub fn name(&self) -> String {
        self.path.file_stem().unwrap().to_string_lossy().into_owned()
    }

    /// Reads the config and makes the plan, as the command line does.
    pub fn plan(&self) -> Result<(Config, Plan), Faults> {
        let config = config::load(&self.text)?;
        let plan = plan_of(&config, &self.host)?;
        Ok((config, plan))
    }

    /// The plan and its warnings, as `explain` prints them.
    pub fn explained(&self) -> Result<String, Faults> {
        let (_, plan) = self.plan()?;
        let warnings = plan.warnings.iter().cloned().chain(unknown_properties(&self.text));
        let warnings: String = warnings.map(|warning| format!("warning: {warning}\n")).collect();
        Ok(format!("{plan}{warnings}"))
    }
}

/// The images that `.host` describes, for the plan of a restore: `processes`, `external` (places), `streams` (names), `foreign`.
pub fn dumped(said: &Value) -> Dumped {
    let words = |word: &str| -> Vec<String> {
        let list = said.get(word).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        list.map(str::to_owned).collect()
    };
    let pair = |word: String| {
        let (name, path) = word.split_once(" at ").map_or((word.as_str(), word.as_str()), |pair| pair);
        (name.to_owned(), path.to_owned())
    };
    Dumped {
        processes: said.get("processes").map_or(1, |_| number(said, "processes") as usize),
        external: words("external").into_iter().map(pair).collect(),
        streams: words("streams").into_iter().enumerate().collect(),
        foreign: words("foreign").into_iter().map(pair).collect(),
    }
}

/// The plan of `config` on the host that `said` describes. With `"exec"` in it, the plan of a further process.
pub fn plan_of(config: &Config, said: &Value) -> Result<Plan, Faults> {
    let (host, flags) = (host(said), flags(said));
    let ask = Given { config, host: &host, flags: &flags };
    let Some(exec) = said.get("exec") else { return plan::create(&ask) };
    let words: Vec<_> = exec["namespaces"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    let bits = KINDS.iter().filter(|(_, word, _)| words.contains(word)).map(|(bit, ..)| bit);
    let container = Joined { pid: 4242, namespaces: Namespaces(bits.sum()) };
    let process = config.spec.process().clone().expect("an exec case has a process");
    plan::exec(&ask, &Joining { process: &process, at: &At::new("process"), container })
}

fn says(said: &Value, word: &str) -> bool {
    said.get(word).and_then(Value::as_bool).unwrap_or(false)
}

fn number(said: &Value, word: &str) -> u32 {
    u32::try_from(said.get(word).and_then(Value::as_u64).unwrap_or(0)).unwrap()
}

/// By default: root on a host with cgroups of version 2, no security modules, and every capability.
fn host(said: &Value) -> Host {
    let bounding = said.get("bounding").and_then(Value::as_u64).unwrap_or((1 << 41) - 1);
    let lsm = Lsm {
        apparmor: says(said, "apparmor"),
        own_apparmor_files: says(said, "own apparmor files"),
        selinux: says(said, "selinux"),
    };
    Host {
        cgroups: cgroups(said.get("cgroups").and_then(Value::as_str).unwrap_or("v2")),
        me: me(said, bounding),
        lsm,
        has_kcore: !says(said, "no kcore"),
        landlock: said.get("landlock").map_or(7, |_| number(said, "landlock")),
        views: views(said),
        resctrl: match said.get("resctrl").and_then(Value::as_str) {
            None => Resctrl::At("/sys/fs/resctrl".into()),
            Some("not mounted") => Resctrl::NotMounted,
            Some(_) => Resctrl::Unknown,
        },
    }
}

/// `views`: paths. Those below the root are inside it.
fn views(said: &Value) -> Vec<View> {
    let paths = said.get("views").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let view = |path: &str| {
        let (path, covered) =
            path.split_once(" below ").map_or((path, None), |(path, other)| (path, Some(other.into())));
        View { path: path.into(), covered_by: covered, inside: path.starts_with("/bundle/rootfs") }
    };
    paths.map(view).collect()
}

/// `uid`: the uid and gid of the caller. `nested`: the caller is in another user namespace. `mounts inside`: it has no
/// mount namespace there.
fn me(said: &Value, bounding: u64) -> Me {
    let uid = number(said, "uid");
    let user_namespace = if says(said, "nested") { UserNamespace::Nested } else { UserNamespace::Initial };
    let may_mount = if uid != 0 || says(said, "mounts inside") { MayMount::Inside } else { MayMount::Here };
    let no_new_privs = said.get("noNewPrivs").and_then(Value::as_bool).unwrap_or(false);
    Me { uid, gid: uid, user_namespace, may_mount, bounding, no_new_privs }
}

/// The three layouts of cgroups(7), as distributions mount them.
pub fn cgroups(layout: &str) -> Cgroups {
    let top = Path::new("/sys/fs/cgroup");
    let hierarchy = |name: &str| Hierarchy {
        controllers: name
            .split(',')
            .map(|name| if name == "systemd" { "name=systemd" } else { name }.to_owned())
            .collect(),
        mount: top.join(name),
        own: "/user.slice".into(),
    };
    let v1 = [
        "cpuset",
        "cpu,cpuacct",
        "blkio",
        "memory",
        "devices",
        "freezer",
        "net_cls,net_prio",
        "pids",
        "rdma",
        "systemd",
    ];
    let v1 = || v1.map(hierarchy).to_vec();
    match layout {
        "v1" => Cgroups { v1: v1(), v2: None },
        "hybrid" => {
            Cgroups { v1: v1(), v2: Some(Unified { mount: top.join("unified"), own: "/user.slice/us.scope".into() }) }
        }
        "v2" => Cgroups { v1: Vec::new(), v2: Some(Unified { mount: top.into(), own: "/user.slice/us.scope".into() }) },
        "none" => Cgroups::default(),
        other => panic!("no such layout: {other}"),
    }
}

fn flags(said: &Value) -> Flags {
    let choose = |word: &str| says(said, word);
    let listen_fds = number(said, "listen fds");
    Flags {
        id: "box".to_owned(),
        bundle: "/bundle".into(),
        terminal: if choose("no console socket") { Terminal::None } else { Terminal::Sent },
        start: if choose("exec") || said.get("exec").is_some() { Start::AtOnce } else { Start::OnFifo },
        root_change: if choose("no pivot") { RootChange::Move } else { RootChange::Pivot },
        keyring: if choose("no new keyring") { Keyring::Inherited } else { Keyring::Named(Keyring::plain_name("box")) },
        extra_fds: listen_fds + number(said, "preserve fds"),
        listen_fds,
        notify: choose("notify").then(|| "/run/coracle/box/notify".into()),
        cgroup: match () {
            () if choose("no cgroup") => CgroupUse::Disabled,
            () if choose("systemd") => CgroupUse::Unit(Manager::System),
            () => CgroupUse::Own,
        },
        rootless: plan::Rootless::Auto,
        death_signal: choose("death signal").then_some(libc::SIGKILL),
    }
}

/// Compares with the file at `path`, and returns the differences. With UPDATE=1, it writes the file.
pub fn golden(path: &Path, now: &str) -> Option<String> {
    let there = fs::read_to_string(path).unwrap_or_default();
    if there == now {
        return None;
    }
    if std::env::var_os("UPDATE").is_some_and(|update| update == "1") {
        fs::write(path, now).unwrap();
        return None;
    }
    let mut difference =
        format!("{}: not as it was (UPDATE=1 rewrites it; read the difference first)\n", path.display());
    let (old, new): (Vec<_>, Vec<_>) = (there.lines().collect(), now.lines().collect());
    difference.extend(old.iter().filter(|line| !new.contains(line)).map(|line| format!("- {line}\n")));
    difference.extend(new.iter().filter(|line| !old.contains(line)).map(|line| format!("+ {line}\n")));
    Some(difference)
}
