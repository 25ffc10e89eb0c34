//! What every test stands on: a runtime (ours, or a peer named by RUNTIME), bundles with a busybox root, a state
//! directory of its own, and a look afterwards that nothing is left.

#![allow(dead_code)] // until every subject has its file

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::ordinary;

/// No command of a test takes longer, whatever the machine is doing.
const PATIENCE: Duration = Duration::from_secs(60);
/// The links beside busybox in a root.
const APPLETS: [&str; 40] = [
    "sh", "true", "false", "cat", "echo", "sleep", "id", "ls", "mount", "umount", "stat", "ps", "env", "pwd", "touch",
    "mkdir", "rm", "kill", "readlink", "hostname", "test", "head", "grep", "wc", "tty", "stty", "dd", "mknod", "chown",
    "chmod", "ln", "sed", "awk", "od", "ip", "nproc", "trap", "date", "mv", "cp",
];

/// Who is tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// coracle.
    Us,
    /// runc.
    Runc,
    /// crun.
    Crun,
}

/// The runtime under test: RUNTIME, or the binary that was just built.
pub fn runtime() -> PathBuf {
    std::env::var_os("RUNTIME").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_coracle")), PathBuf::from)
}

/// Who that is, by the name of its file.
pub fn who() -> Who {
    match runtime().file_name().and_then(|name| name.to_str()) {
        Some("runc") => Who::Runc,
        Some("crun") => Who::Crun,
        _ => Who::Us,
    }
}

/// True when SYSTEMD_CGROUP asks that every container be a unit of systemd.
pub fn by_units() -> bool {
    std::env::var_os("SYSTEMD_CGROUP").is_some()
}

/// `cgroupsPath` of a container that needs no other place than the rest.
pub fn cgroups_path(id: &str) -> String {
    if by_units() { format!("system.slice:coracle:{id}") } else { format!("/{id}") }
}

/// Where a container is below its unit's cgroup. crun puts it, and its limits, one level lower, and tells systemd no more
/// than a weight.
pub fn below_unit() -> &'static str {
    if who() == Who::Crun { "/container" } else { "" }
}

/// Notes that a test cannot be made here, and why: in the file named by SKIPS, which `hack/test` prints.
pub fn skip(test: &str, why: &str) {
    let line = format!("{test}: {why}\n");
    eprint!("skipped {line}");
    if let Some(path) = std::env::var_os("SKIPS") {
        let file = fs::OpenOptions::new().create(true).append(true).open(path);
        file.and_then(|mut file| file.write_all(line.as_bytes())).expect("note a skipped test");
    }
}

/// The name of the test that is running: the thread's.
pub fn test_name() -> String {
    std::thread::current().name().unwrap_or("main").to_owned()
}

/// Leaves the test unless it is about the named runtimes: `only!(Who::Us, "the reason")`. With EVERYBODY set it is made all the
/// same, which shows whether the reason still holds.
#[macro_export]
macro_rules! only {
    ($($who:path),+; $why:expr) => {
        if ![$($who),+].contains(&$crate::world::who()) && std::env::var_os("EVERYBODY").is_none() {
            $crate::world::skip(&$crate::world::test_name(), &format!("{:?}: {}", $crate::world::who(), $why));
            return;
        }
    };
}

/// Leaves the test, with the reason, unless `condition` holds.
#[macro_export]
macro_rules! needs {
    ($condition:expr, $why:expr) => {
        if !$condition {
            $crate::world::skip(&$crate::world::test_name(), $why);
            return;
        }
    };
}

/// What a command did.
#[derive(Debug)]
pub struct Outcome {
    pub status: ExitStatus,
    pub out: String,
    pub err: String,
}

impl Outcome {
    /// The exit status; 128 and the signal's number for one that was killed.
    pub fn code(&self) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// It went well; its output.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.status.success(), "status {}\nstdout: {}\nstderr: {}", self.code(), self.out, self.err);
        self.out
    }

    /// It went wrong; what it said.
    #[track_caller]
    pub fn fails(self) -> String {
        assert!(!self.status.success(), "went well\nstdout: {}\nstderr: {}", self.out, self.err);
        self.err
    }
}

/// Runs a command to its end, with nothing on its standard input.
#[track_caller]
pub fn finish(command: &mut Command) -> Outcome {
    finish_with(command, b"")
}

/// The same with something on its standard input.
#[track_caller]
pub fn finish_with(command: &mut Command, input: &[u8]) -> Outcome {
    // files and not pipes: a detached container keeps its streams open, and that is no reason to wait for it
    let [mut stdin, out, err] = [(); 3].map(|()| tempfile::tempfile().unwrap());
    stdin.write_all(input).unwrap();
    std::io::Seek::rewind(&mut stdin).unwrap();
    command.stdin(stdin).stdout(out.try_clone().unwrap()).stderr(err.try_clone().unwrap());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if started.elapsed() > PATIENCE {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{command:?} hangs\nstderr: {}", written(&err));
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    Outcome { status, out: written(&out), err: written(&err) }
}

/// From the beginning; whoever holds the file as well goes on writing where they are.
fn written(file: &fs::File) -> String {
    let mut bytes = vec![0; file.metadata().unwrap().len().try_into().unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Asks until it is so.
#[track_caller]
pub fn wait_until(what: &str, mut so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !so() {
        assert!(started.elapsed() < PATIENCE, "still not so: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A state directory, a bundle in it, and the ids that were used. Dropped, everything is deleted, and looked at.
pub struct World {
    directory: tempfile::TempDir,
    /// The configuration that `write` puts into the bundle.
    pub config: Value,
    /// An id that no other test has.
    pub id: String,
}

static COUNT: AtomicU32 = AtomicU32::new(0);

impl World {
    /// A bundle of the stock configuration with busybox as its root, running `args`.
    pub fn running(args: &[&str]) -> World {
        let directory = tempfile::Builder::new().prefix("coracle-it-").tempdir().unwrap();
        let id = format!("it-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let bin = directory.path().join("bundle/rootfs/bin");
        fs::create_dir_all(&bin).unwrap();
        fs::create_dir_all(directory.path().join("bundle/rootfs/etc")).unwrap();
        // by another process: a fork of another test's would hold our descriptor open for writing, and an exec in the
        // container say that the file is busy
        let copied = Command::new("cp").arg("/bin/busybox").arg(bin.join("busybox")).status();
        assert!(copied.is_ok_and(|status| status.success()), "apt-get install busybox-static");
        for name in APPLETS {
            symlink("busybox", bin.join(name)).unwrap();
        }
        // a mapped root must be able to look in
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let mut config = stock();
        config["process"]["args"] = json!(args);
        config["linux"]["cgroupsPath"] = json!(cgroups_path(&id));
        if !ordinary::root() {
            ordinary::adapt(&mut config, &id);
        }
        World { directory, config, id }
    }

    /// Where everything of this test is.
    pub fn path(&self, below: &str) -> PathBuf {
        self.directory.path().join(below)
    }

    /// The bundle.
    pub fn bundle(&self) -> PathBuf {
        self.path("bundle")
    }

    /// A place in the root.
    pub fn rootfs(&self, below: &str) -> PathBuf {
        self.path("bundle/rootfs").join(below)
    }

    /// The value at a JSON pointer of the config, made where it is missing: `/linux/sysctl`.
    pub fn at(&mut self, pointer: &str) -> &mut Value {
        pointer.split('/').skip(1).fold(&mut self.config, |value, name| match value {
            Value::Array(list) => &mut list[name.parse::<usize>().unwrap()],
            other => &mut other[name],
        })
    }

    /// Adds a mount at the end.
    pub fn mount(&mut self, mount: Value) {
        self.config["mounts"].as_array_mut().unwrap().push(mount);
    }

    /// Adds a namespace, or gives the one of that type a path.
    pub fn namespace(&mut self, kind: &str, path: Option<&str>) {
        self.without_namespace(kind);
        let namespace = path.map_or(json!({"type": kind}), |path| json!({"type": kind, "path": path}));
        self.config["linux"]["namespaces"].as_array_mut().unwrap().push(namespace);
    }

    /// The container is in that user namespace, with its maps.
    pub fn in_users_of(&mut self, path: &str) {
        self.namespace("user", Some(path));
        let linux = self.config["linux"].as_object_mut().unwrap();
        linux.remove("uidMappings");
        linux.remove("gidMappings");
    }

    /// The place of the namespace that was added last.
    pub fn last_namespace(&self) -> String {
        let list = self.config["linux"]["namespaces"].as_array().unwrap();
        format!("linux.namespaces[{}]", list.len() - 1)
    }

    /// The container shares the host's namespace of that type.
    pub fn without_namespace(&mut self, kind: &str) {
        self.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != kind);
    }

    /// The container's root is that user, and nobody else is in it: as `spec --rootless` has it, but without /sys.
    pub fn for_one_user(&mut self, id: u32) {
        self.namespace("user", None);
        self.without_namespace("network");
        let one = json!([{"containerID": 0, "hostID": id, "size": 1}]);
        *self.at("/linux/uidMappings") = one.clone();
        *self.at("/linux/gidMappings") = one;
        let mounts = self.config["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| mount["destination"] != "/sys");
        let pts = mounts.iter_mut().find(|mount| mount["destination"] == "/dev/pts").unwrap();
        pts["options"].as_array_mut().unwrap().retain(|option| option != "gid=5");
    }

    /// The cgroup that its first config asks for.
    pub fn group(&self) -> String {
        match ordinary::group().filter(|_| !ordinary::root()) {
            // a unit of the user's own systemd
            Some(hers) if by_units() => format!("{hers}/user.slice/coracle-{}.scope{}", self.id, below_unit()),
            Some(hers) => format!("{hers}/{}", self.id),
            None if by_units() => format!("system.slice/coracle-{}.scope{}", self.id, below_unit()),
            None => self.id.clone(),
        }
    }

    /// Puts the config into the bundle.
    pub fn write(&self) {
        fs::write(self.bundle().join("config.json"), serde_json::to_vec_pretty(&self.config).unwrap()).unwrap();
    }

    /// The runtime with the state directory of this test.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(runtime());
        let manager = |arg: &&str| arg.starts_with("--cgroup-manager") || *arg == "--systemd-cgroup";
        if by_units() && !args.iter().any(manager) {
            command.arg("--systemd-cgroup");
        }
        command.arg("--root").arg(self.path("state")).args(args).current_dir(self.bundle());
        command
    }

    /// Runs the runtime to its end.
    #[track_caller]
    pub fn call(&self, args: &[&str]) -> Outcome {
        finish(&mut self.command(args))
    }

    /// The same in a mount namespace of its own, where everything is shared as systemd has it and no other test mounts anything;
    /// what is mounted there afterwards is in the bundle's file `mounts`. An ordinary user stays where the tests are.
    #[track_caller]
    pub fn call_apart(&self, args: &[&str]) -> Outcome {
        let command = self.command(args);
        if !ordinary::root() {
            return self.call(args);
        }
        let script = r#"mount --make-rshared / && "$@"; code=$?; cat /proc/self/mountinfo >mounts; exit $code"#;
        let mut apart = Command::new("unshare");
        apart.args(["-m", "--propagation", "private", "sh", "-c", script, "sh"]).arg(command.get_program());
        finish(apart.args(command.get_args()).current_dir(self.bundle()))
    }

    /// `run` in the foreground with the config as it is now.
    #[track_caller]
    pub fn run(&self) -> Outcome {
        self.write();
        self.call(&["run", &self.id])
    }

    /// `create` with the config as it is now.
    #[track_caller]
    pub fn create(&self) -> Outcome {
        self.write();
        self.call(&["create", &self.id])
    }

    /// `create` and `start`.
    #[track_caller]
    pub fn begin(&self) {
        self.create().ok();
        self.call(&["start", &self.id]).ok();
    }

    /// `exec` of a command.
    #[track_caller]
    pub fn exec(&self, args: &[&str]) -> Outcome {
        self.call(&[&["exec", &self.id], args].concat())
    }

    /// What `state` says.
    #[track_caller]
    pub fn state(&self) -> Value {
        serde_json::from_str(&self.call(&["state", &self.id]).ok()).expect("state is JSON")
    }

    /// The status that `state` tells.
    #[track_caller]
    pub fn status(&self) -> String {
        self.state()["status"].as_str().unwrap().to_owned()
    }

    /// Init's pid.
    #[track_caller]
    pub fn pid(&self) -> i32 {
        self.state()["pid"].as_i64().unwrap().try_into().unwrap()
    }

    #[track_caller]
    pub fn wait_for_status(&self, status: &str) {
        wait_until(&format!("{} is {status}", self.id), || self.status() == status);
    }

    /// Every cgroup directory with the id in its name.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        find(Path::new("/sys/fs/cgroup"), &self.id, 0, &mut found);
        found
    }

    /// Nothing of this test is left on the machine but what `tempdir` holds.
    #[track_caller]
    pub fn assert_clean(&self) {
        let cgroups = self.cgroups();
        assert!(cgroups.is_empty(), "cgroups are left: {cgroups:?}");
        let here = self.directory.path().to_str().unwrap();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let left: Vec<_> = mounts.lines().filter(|line| line.contains(here)).collect();
        assert!(left.is_empty(), "mounts are left: {left:?}");
        let state: Vec<_> = fs::read_dir(self.path("state"))
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().file_name())
            .filter(|name| name.as_encoded_bytes().first() != Some(&b'.'))
            .collect();
        assert!(state.is_empty(), "state is left: {state:?}");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for entry in fs::read_dir(self.path("state")).into_iter().flatten().flatten() {
            let id = entry.file_name();
            if !id.as_encoded_bytes().starts_with(b".") {
                let _ =
                    self.command(&["delete", "--force"]).arg(id).stdout(Stdio::null()).stderr(Stdio::null()).status();
            }
        }
        if !std::thread::panicking() {
            self.assert_clean();
        }
        ordinary::clear_away(self.directory.path());
    }
}

fn find(directory: &Path, name: &str, depth: usize, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let path = entry.path();
        if entry.file_name().to_string_lossy().contains(name) {
            found.push(path);
        } else if depth < 6 {
            find(&path, name, depth + 1, found);
        }
    }
}

/// The stock configuration: what `spec` writes, for a program without a terminal, in the version that all peers know.
pub fn stock() -> Value {
    let capabilities = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": ["true"],
            "env": ["PATH=/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "coracle",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
                "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
        ],
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}],
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}
