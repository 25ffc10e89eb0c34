//! What every test needs: a runtime (coracle, or the one that RUNTIME names), bundles with a busybox root, and its own state
//! directory. After each test, it checks that nothing is left.

#![allow(dead_code)] // shared by all tests

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::ordinary;

/// The longest time of a command in a test, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);
/// The links to busybox in a root.
const APPLETS: [&str; 40] = [
    "sh", "true", "false", "cat", "echo", "sleep", "id", "ls", "mount", "umount", "stat", "ps", "env", "pwd", "touch",
    "mkdir", "rm", "kill", "readlink", "hostname", "test", "head", "grep", "wc", "tty", "stty", "dd", "mknod", "chown",
    "chmod", "ln", "sed", "awk", "od", "ip", "nproc", "trap", "date", "mv", "cp",
];

/// A process of the host. It ends with this value.
pub struct HostProcess(Child);

impl HostProcess {
    pub fn begin(command: &mut Command) -> HostProcess {
        HostProcess(command.spawn().unwrap())
    }

    pub fn sleeping() -> HostProcess {
        HostProcess::begin(Command::new("sleep").arg("1000"))
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    pub fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for HostProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The runtime under test.
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

/// Which runtime that is, by its file name.
pub fn who() -> Who {
    match runtime().file_name().and_then(|name| name.to_str()) {
        Some("runc") => Who::Runc,
        Some("crun") => Who::Crun,
        _ => Who::Us,
    }
}

/// True if SYSTEMD_CGROUP is set: then every container is a unit of systemd.
pub fn by_units() -> bool {
    std::env::var_os("SYSTEMD_CGROUP").is_some()
}

/// `cgroupsPath` of a container that needs no special path.
pub fn cgroups_path(id: &str) -> String {
    if by_units() { format!("system.slice:coracle:{id}") } else { format!("/{id}") }
}

/// The path of the container below its unit's cgroup. crun puts the container and its limits one level lower, and gives
/// systemd only a weight.
pub fn below_unit() -> &'static str {
    if who() == Who::Crun { "/container" } else { "" }
}

/// Records that a test is skipped, and why, in the file that SKIPS names. `hack/test` prints it.
pub fn skip(test: &str, why: &str) {
    let line = format!("{test}: {why}\n");
    eprint!("skipped {line}");
    if let Some(path) = std::env::var_os("SKIPS") {
        let file = fs::OpenOptions::new().create(true).append(true).open(path);
        file.and_then(|mut file| file.write_all(line.as_bytes())).expect("note a skipped test");
    }
}

/// The name of the running test: the name of its thread.
pub fn test_name() -> String {
    std::thread::current().name().unwrap_or("main").to_owned()
}

/// Skips the test on all other runtimes: `only!(Who::Us, "the reason")`. With EVERYBODY set, the test runs everywhere,
/// which shows whether the reason is still true.
#[macro_export]
macro_rules! only {
    ($($who:path),+; $why:expr) => {
        if ![$($who),+].contains(&$crate::world::who()) && std::env::var_os("EVERYBODY").is_none() {
            $crate::world::skip(&$crate::world::test_name(), &format!("{:?}: {}", $crate::world::who(), $why));
            return;
        }
    };
}

/// Skips the test, with the reason, unless `condition` holds.
#[macro_export]
macro_rules! needs {
    ($condition:expr, $why:expr) => {
        if !$condition {
            $crate::world::skip(&$crate::world::test_name(), $why);
            return;
        }
    };
}

/// The result of a command.
#[derive(Debug)]
pub struct Outcome {
    pub status: ExitStatus,
    pub out: String,
    pub err: String,
}

impl Outcome {
    /// The exit status, or 128 and the signal's number for a killed command.
    pub fn code(&self) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// Asserts success, and returns the output.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.status.success(), "status {}\nstdout: {}\nstderr: {}", self.code(), self.out, self.err);
        self.out
    }

    /// Asserts a failure, and returns the message.
    #[track_caller]
    pub fn fails(self) -> String {
        assert!(!self.status.success(), "went well\nstdout: {}\nstderr: {}", self.out, self.err);
        self.err
    }
}

/// Runs a command to its end, with an empty standard input.
#[track_caller]
pub fn finish(command: &mut Command) -> Outcome {
    finish_with(command, b"")
}

/// The same with `input` as standard input.
#[track_caller]
pub fn finish_with(command: &mut Command, input: &[u8]) -> Outcome {
    // Files, not pipes: a detached container keeps its streams open, and the test must not wait for it.
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
            // A wait in the kernel can outlast SIGKILL: the deletion of the container ends it (`World::drop`).
            for _ in 0..100 {
                if child.try_wait().is_ok_and(|ended| ended.is_some()) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            panic!("{command:?} hangs\nstderr: {}", written(&err));
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    Outcome { status, out: written(&out), err: written(&err) }
}

/// Reads from the beginning without moving the file offset, because other processes still write there.
fn written(file: &fs::File) -> String {
    let mut bytes = vec![0; file.metadata().unwrap().len().try_into().unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Waits until `so` returns true.
#[track_caller]
pub fn wait_until(what: &str, mut so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !so() {
        assert!(started.elapsed() < PATIENCE, "still not so: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A state directory, a bundle in it, and the ids in use. Dropping it deletes everything, and checks that nothing is
/// left.
pub struct World {
    directory: tempfile::TempDir,
    /// The config that `write` puts into the bundle.
    pub config: Value,
    /// An id that no other test has.
    pub id: String,
}

static COUNT: AtomicU32 = AtomicU32::new(0);

impl World {
    /// A bundle with the stock config, and busybox as its root, that runs `args`.
    pub fn running(args: &[&str]) -> World {
        let directory = tempfile::Builder::new().prefix("coracle-it-").tempdir().unwrap();
        let id = format!("it-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let bin = directory.path().join("bundle/rootfs/bin");
        fs::create_dir_all(&bin).unwrap();
        fs::create_dir_all(directory.path().join("bundle/rootfs/etc")).unwrap();
        // cp is another process. In this process, a fork of another test would keep our descriptor open for writing,
        // and an exec in the container would fail with ETXTBSY.
        let copied = Command::new("cp").arg("/bin/busybox").arg(bin.join("busybox")).status();
        assert!(copied.is_ok_and(|status| status.success()), "apt-get install busybox-static");
        for name in APPLETS {
            symlink("busybox", bin.join(name)).unwrap();
        }
        // A mapped root must be able to read it.
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

    /// A path in the directory of this test.
    pub fn path(&self, below: &str) -> PathBuf {
        self.directory.path().join(below)
    }

    /// The path of the bundle.
    pub fn bundle(&self) -> PathBuf {
        self.path("bundle")
    }

    /// A path in the root.
    pub fn rootfs(&self, below: &str) -> PathBuf {
        self.path("bundle/rootfs").join(below)
    }

    /// The value at a JSON pointer of the config, such as `/linux/sysctl`. It is made if it is missing.
    pub fn at(&mut self, pointer: &str) -> &mut Value {
        pointer.split('/').skip(1).fold(&mut self.config, |value, name| match value {
            Value::Array(list) => &mut list[name.parse::<usize>().unwrap()],
            other => &mut other[name],
        })
    }

    /// Adds a mount at the end of the list.
    pub fn mount(&mut self, mount: Value) {
        self.config["mounts"].as_array_mut().unwrap().push(mount);
    }

    /// Adds a namespace of this type, and replaces an earlier one.
    pub fn namespace(&mut self, kind: &str, path: Option<&str>) {
        self.without_namespace(kind);
        let namespace = path.map_or(json!({"type": kind}), |path| json!({"type": kind, "path": path}));
        self.config["linux"]["namespaces"].as_array_mut().unwrap().push(namespace);
    }

    /// Puts the container into that user namespace, without maps of its own.
    pub fn in_users_of(&mut self, path: &str) {
        self.namespace("user", Some(path));
        let linux = self.config["linux"].as_object_mut().unwrap();
        linux.remove("uidMappings");
        linux.remove("gidMappings");
    }

    /// The place of the last namespace in the config.
    pub fn last_namespace(&self) -> String {
        let list = self.config["linux"]["namespaces"].as_array().unwrap();
        format!("linux.namespaces[{}]", list.len() - 1)
    }

    /// Makes the container share the host's namespace of that type.
    pub fn without_namespace(&mut self, kind: &str) {
        self.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != kind);
    }

    /// Maps only this user, as the container's root. The config is as that of `spec --rootless`, but without /sys.
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

    /// The cgroup that its first config names.
    pub fn group(&self) -> String {
        match ordinary::group().filter(|_| !ordinary::root()) {
            // A unit of the systemd of the user.
            Some(hers) if by_units() => format!("{hers}/user.slice/coracle-{}.scope{}", self.id, below_unit()),
            Some(hers) => format!("{hers}/{}", self.id),
            None if by_units() => format!("system.slice/coracle-{}.scope{}", self.id, below_unit()),
            None => self.id.clone(),
        }
    }

    /// Writes the config into the bundle.
    pub fn write(&self) {
        fs::write(self.bundle().join("config.json"), serde_json::to_vec_pretty(&self.config).unwrap()).unwrap();
    }

    /// A command of the runtime with the state directory of this test.
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

    /// The same in a mount namespace of its own. Everything there is shared, as with systemd, and no other test mounts
    /// anything. The file `mounts` in the bundle lists the mounts afterwards. An ordinary user stays in the tests'
    /// mount namespace.
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

    /// Writes the config, and calls `run` in the foreground.
    #[track_caller]
    pub fn run(&self) -> Outcome {
        self.write();
        self.call(&["run", &self.id])
    }

    /// Writes the config, and calls `create`.
    #[track_caller]
    pub fn create(&self) -> Outcome {
        self.write();
        self.call(&["create", &self.id])
    }

    /// Writes the config, and calls `create` and `start`.
    #[track_caller]
    pub fn begin(&self) {
        self.create().ok();
        self.call(&["start", &self.id]).ok();
    }

    /// Calls `exec` with a command.
    #[track_caller]
    pub fn exec(&self, args: &[&str]) -> Outcome {
        self.call(&[&["exec", &self.id], args].concat())
    }

    /// The object that `state` prints.
    #[track_caller]
    pub fn state(&self) -> Value {
        serde_json::from_str(&self.call(&["state", &self.id]).ok()).expect("state is JSON")
    }

    /// The status that `state` prints.
    #[track_caller]
    pub fn status(&self) -> String {
        self.state()["status"].as_str().unwrap().to_owned()
    }

    /// The pid of init.
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

    /// Asserts that nothing of this test is left on the machine, except in `tempdir`.
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
                // one that an ordinary user has made: only this user could delete it
                let ours = ordinary::root().then(|| fs::read_dir(entry.path()).into_iter().flatten().flatten());
                ours.into_iter().flatten().for_each(|file| drop(lchown(file.path(), Some(0), None)));
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
        // `it-1-12` is not a name of `it-1-1`.
        let file = entry.file_name().to_string_lossy().into_owned();
        let rest = file.split_once(name).map(|(_, rest)| rest);
        if rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit())) {
            found.push(path);
        } else if depth < 6 {
            find(&path, name, depth + 1, found);
        }
    }
}

/// The stock config: that of `spec`, for a program without a terminal, in a version that all runtimes know.
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
