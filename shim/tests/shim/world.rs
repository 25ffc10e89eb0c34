//! A containerd for the tests: it has only what a shim uses.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use prost::Message;
use rustix::fs::{CWD, FileType, Mode};
use rustix::process::{Pid, Signal};

use crate::messages::bootstrap::{BootstrapParams, BootstrapResult, Extension};
use crate::messages::google::{Any, Empty, Status};
use crate::messages::task::*;
use crate::messages::ttrpc::{Envelope, ForwardRequest, Request};
use crate::messages::{events, runc};
use crate::wire::{self, Frame, Inbox};

pub const SHIM: &str = env!("CARGO_BIN_EXE_containerd-shim-coracle-v1");
/// In the environment of the shim.
pub const SECRET: &str = "correct-horse-battery-staple";
/// The service of containerd 2, and that of containerd 1.
pub const V3: &str = "containerd.task.v3.Task";
pub const V2: &str = "containerd.task.v2.Task";
const PATIENCE: Duration = Duration::from_secs(20);

pub struct World {
    directory: tempfile::TempDir,
    /// Where bundles and the state are; it may be another file system.
    pub bundles: PathBuf,
    /// The shim's file.
    pub program: PathBuf,
    /// Below all cgroups of the containers.
    pub cgroup: String,
    /// The options of the shim and of its containers, beside their root.
    pub options: runc::Options,
    /// More variables in the environment of the shim.
    pub variables: Vec<(&'static str, String)>,
    pub events: mpsc::Receiver<String>,
}

/// A root file system with our program, a bundle `c1`, and a containerd that takes events.
pub fn world() -> World {
    let mut world = world_without_containerd();
    let (sender, events) = mpsc::channel();
    let listener = world.listen();
    std::thread::spawn(move || while take_events(&listener, &sender, usize::MAX).is_ok() {});
    world.events = events;
    world
}

/// One whose containerd is not there yet.
pub fn world_without_containerd() -> World {
    let directory = tempfile::tempdir().expect("a directory");
    let name = directory.path().file_name().unwrap_or_default().to_string_lossy().replace('.', "");
    for name in ["proc", "dev"] {
        fs::create_dir_all(directory.path().join("rootfs").join(name)).expect("rootfs");
    }
    fs::copy(SHIM, directory.path().join("rootfs/shim")).expect("copy");
    let bundles = directory.path().join("b");
    fs::create_dir(&bundles).expect("b");
    let world = World {
        directory,
        bundles,
        program: SHIM.into(),
        cgroup: format!("coracle-shim-{name}"),
        options: runc::Options::default(),
        variables: Vec::new(),
        events: mpsc::channel().1,
    };
    world.bundle("c1");
    world
}

/// Takes that many events of one shim, and ends without an answer to the last.
pub fn take_events(listener: &UnixListener, sender: &mpsc::Sender<String>, count: usize) -> std::io::Result<()> {
    let (mut socket, _) = listener.accept()?;
    let (mut inbox, mut buffer, mut taken) = (Inbox::default(), [0; 4096], 0);
    while let Ok(read) = socket.read(&mut buffer)
        && read > 0
    {
        inbox.take(&buffer[..read]);
        while let Some(Frame::Request(stream, request)) = inbox.next() {
            let forward = ForwardRequest::decode(&*request.payload).expect("a ForwardRequest");
            taken += 1;
            if taken == count {
                return Ok(());
            }
            let _ = sender.send(summary(&forward.envelope.expect("an envelope")));
            socket.write_all(&wire::response(stream, Ok(Vec::new())))?;
        }
    }
    Ok(())
}

/// A short text for an event: its topic and its process, and the status of an end.
fn summary(envelope: &Envelope) -> String {
    let topic = envelope.topic.strip_prefix("/tasks/").expect("a task's event");
    let value = &*envelope.event.as_ref().expect("an event").value;
    let whose = match topic {
        "create" => events::TaskCreate::decode(value).map(|event| event.container_id),
        "start" => events::TaskStart::decode(value).map(|event| event.container_id),
        "exit" => events::TaskExit::decode(value).map(|event| format!("{} {}", event.id, event.exit_status)),
        "oom" => events::TaskOom::decode(value).map(|event| event.container_id),
        "delete" => events::TaskDelete::decode(value).map(|event| event.container_id),
        "exec-added" => events::TaskExecAdded::decode(value).map(|event| event.exec_id),
        "exec-started" => events::TaskExecStarted::decode(value).map(|event| event.exec_id),
        "paused" => events::TaskPaused::decode(value).map(|event| event.container_id),
        "resumed" => events::TaskResumed::decode(value).map(|event| event.container_id),
        other => panic!("unknown event {other}"),
    };
    format!("{topic} {}", whose.expect("the event's message"))
}

impl World {
    pub fn listen(&self) -> UnixListener {
        UnixListener::bind(self.path("ttrpc")).expect("bind")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Makes the bundle of a container of this pod. `-info` runs in it.
    pub fn bundle(&self, id: &str) {
        let bundle = self.bundles.join(id);
        fs::create_dir(&bundle).expect("a bundle");
        let namespaces = ["pid", "mount", "ipc", "uts"].map(|kind| serde_json::json!({"type": kind}));
        let config = serde_json::json!({
            "ociVersion": "1.0.2",
            "root": {"path": self.path("rootfs")},
            "process": {"cwd": "/", "args": ["/shim", "-info"], "env": ["PATH=/"], "user": {"uid": 0, "gid": 0}},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
                {"destination": "/dev/pts", "type": "devpts", "source": "devpts"},
            ],
            "linux": {"namespaces": namespaces, "cgroupsPath": format!("/{}/{id}", self.cgroup)},
            "annotations": {"io.kubernetes.cri.sandbox-id": "pod"},
        });
        fs::write(bundle.join("config.json"), config.to_string()).expect("config.json");
        self.fifo(&format!("stdin-{id}"));
    }

    pub fn fifo(&self, name: &str) {
        rustix::fs::mknodat(CWD, self.path(name), FileType::Fifo, Mode::RWXU, 0).expect("mkfifo");
    }

    /// Changes the bundle of a container.
    pub fn edit(&self, id: &str, change: impl FnOnce(&mut serde_json::Value)) {
        let path = self.bundles.join(id).join("config.json");
        let text = fs::read(&path).expect("config.json");
        let mut config = serde_json::from_slice(&text).expect("JSON");
        change(&mut config);
        fs::write(path, config.to_string()).expect("config.json");
    }

    /// Gives the containers a shell, if the host has a static one.
    pub fn put_shell(&self) -> bool {
        let there = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
        let copied = there.is_some_and(|path| fs::copy(path, self.path("rootfs/sh")).is_ok());
        // the root has no loader: only a static one runs in it
        let mut trial = Command::new("chroot");
        copied && trial.arg(self.path("rootfs")).args(["/sh", "-c", ":"]).output().is_ok_and(|ran| ran.status.success())
    }

    /// Runs an action of the shim, as containerd does.
    pub fn act(&self, action: &str, input: &[u8]) -> Output {
        self.act_on("c1", action, input)
    }

    /// The same for another container.
    pub fn act_on(&self, id: &str, action: &str, input: &[u8]) -> Output {
        let mut command = self.command_on(id, action);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the shim");
        child.stdin.take().expect("stdin").write_all(input).expect("write");
        child.wait_with_output().expect("its end")
    }

    /// The command of an action, with pipes at stdin and stderr.
    pub fn command_on(&self, id: &str, action: &str) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(["-namespace", "test", "-address", &self.text("containerd"), "-id", id, action])
            .env("TTRPC_ADDRESS", self.path("ttrpc"))
            .env("SECRET", SECRET)
            // a test may have a criu of its own
            .env("PATH", format!("{}:{}", self.directory.path().display(), std::env::var("PATH").unwrap_or_default()))
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .process_group(0)
            .current_dir(self.bundles.join(id))
            .stdin(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub fn options(&self) -> runc::Options {
        runc::Options { root: self.bundles.join("state").display().to_string(), ..self.options.clone() }
    }

    /// `start`, as containerd 2.3 calls it.
    pub fn start_shim(&self) -> Output {
        self.act("start", &self.params("c1"))
    }

    /// The input of `start`.
    pub fn params(&self, id: &str) -> Vec<u8> {
        let params = BootstrapParams {
            instance_id: id.into(),
            socket_dir: self.text("s"),
            extensions: vec![Extension { value: Some(Any::of("containerd.runc.v1.Options", &self.options())) }],
            ..BootstrapParams::default()
        };
        params.encode_to_vec()
    }

    pub fn start(&self) -> Client {
        Client::of(&self.start_shim())
    }

    /// A shim in which c1 runs.
    pub fn start_c1(&self) -> Client {
        let mut client = self.start();
        client.create(self, "c1").expect("Create");
        client.start("c1", "").expect("Start");
        client
    }

    /// `delete`, as containerd calls it for a shim that has died; nothing is left then.
    pub fn clear(&self) -> DeleteResponse {
        let out = self.act("delete", b"");
        assert!(out.status.success(), "delete: {}", String::from_utf8_lossy(&out.stderr));
        self.assert_empty();
        DeleteResponse::decode(&*out.stdout).expect("a DeleteResponse")
    }

    /// No container, no cgroup, no socket is left.
    pub fn assert_empty(&self) {
        gone("the state", || {
            fs::read_dir(self.bundles.join("state/test")).is_ok_and(|mut state| state.next().is_some())
        });
        gone("a cgroup", || {
            let hierarchies = fs::read_dir("/sys/fs/cgroup").expect("cgroups").flatten();
            hierarchies.map(|hierarchy| hierarchy.path()).chain([PathBuf::from("/sys/fs/cgroup")]).any(|hierarchy| {
                fs::read_dir(hierarchy.join(&self.cgroup))
                    .is_ok_and(|entries| entries.flatten().any(|entry| entry.path().is_dir()))
            })
        });
        gone("the socket", || fs::read_dir(self.path("s")).is_ok_and(|mut sockets| sockets.next().is_some()));
    }

    /// The cgroups of the containers, and those above them first.
    fn cgroups(&self) -> Vec<PathBuf> {
        let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
        let hierarchies = hierarchies.map(|hierarchy| hierarchy.path()).chain([PathBuf::from("/sys/fs/cgroup")]);
        let mut found: Vec<PathBuf> =
            hierarchies.map(|hierarchy| hierarchy.join(&self.cgroup)).filter(|group| group.exists()).collect();
        let mut looked = 0;
        while let Some(group) = found.get(looked) {
            let below = fs::read_dir(group).into_iter().flatten().flatten().map(|entry| entry.path());
            let below: Vec<_> = below.filter(|path| path.is_dir()).collect();
            found.extend(below);
            looked += 1;
        }
        found
    }

    /// The shims and loggers, which have our directory in their environment or in their arguments, and the processes of the containers.
    fn processes(&self) -> Vec<Pid> {
        let groups = self.cgroups();
        let in_groups = groups.iter().filter_map(|group| fs::read_to_string(group.join("cgroup.procs")).ok());
        let in_groups: Vec<i32> =
            in_groups.flat_map(|text| text.lines().flat_map(str::parse).collect::<Vec<_>>()).collect();
        let ours = self.directory.path().as_os_str().as_encoded_bytes();
        let knows = |pid: i32| {
            ["environ", "cmdline"].iter().any(|name| {
                let bytes = fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
                bytes.windows(ours.len()).any(|part| part == ours)
            })
        };
        let all = fs::read_dir("/proc").into_iter().flatten().flatten();
        let all = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let others = all.filter(|pid| !in_groups.contains(pid) && knows(*pid));
        others.collect::<Vec<_>>().into_iter().chain(in_groups.clone()).filter_map(Pid::from_raw).collect()
    }

    /// The events until that one.
    pub fn events_to(&self, last: &str) -> Vec<String> {
        let mut all = Vec::new();
        while all.last().is_none_or(|event| event != last) {
            all.push(self.events.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("only {all:?}")));
        }
        all
    }
}

/// Nothing is left, even by a test that fails: no process, no mount, no directory, and no cgroup.
impl Drop for World {
    fn drop(&mut self) {
        // (no assertion: a second panic would end the other tests, too)
        for _ in 0..500 {
            // a frozen process of version 1 does not end
            let freezers = self.cgroups().into_iter().map(|group| group.join("freezer.state"));
            freezers.filter(|file| file.exists()).for_each(|file| drop(fs::write(file, "THAWED")));
            let processes = self.processes();
            for pid in &processes {
                let _ = rustix::process::kill_process(*pid, Signal::KILL);
            }
            if processes.is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let mounts = fs::read_to_string("/proc/thread-self/mounts").unwrap_or_default();
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        for point in points.filter(|point| Path::new(point).starts_with(self.directory.path())) {
            let _ = nix::mount::umount2(point, nix::mount::MntFlags::MNT_DETACH);
        }
        let removed = fs::remove_dir_all(self.directory.path());
        assert!(removed.is_ok() || std::thread::panicking(), "{}: {removed:?}", self.directory.path().display());
        self.cgroups().iter().rev().for_each(|group| drop(fs::remove_dir(group)));
    }
}

pub struct Client {
    socket: UnixStream,
    inbox: Inbox,
    stream: u32,
    answers: BTreeMap<u32, Result<Vec<u8>, Status>>,
    /// The service that it asks.
    pub service: &'static str,
    pub path: PathBuf,
    pub pid: Option<Pid>,
}

/// A test that fails leaves no shim, and no socket of it.
impl Drop for Client {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Client {
    /// Of the shim that `start` has told of.
    pub fn of(start: &Output) -> Client {
        assert!(start.status.success(), "start: {}", String::from_utf8_lossy(&start.stderr));
        let answer = BootstrapResult::decode(&*start.stdout).expect("a BootstrapResult");
        assert_eq!(answer.version, 3);
        Client::to(&answer.address)
    }

    /// Of the shim at that address.
    pub fn to(address: &str) -> Client {
        let mut client = Client::connect(Path::new(address.strip_prefix("unix://").expect("a socket")));
        let connected: ConnectResponse = client.call("Connect", &ConnectRequest::default()).expect("Connect");
        client.pid = Pid::from_raw(connected.shim_pid.cast_signed());
        client
    }

    pub fn connect(path: &Path) -> Client {
        let socket = UnixStream::connect(path).expect("connect");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        let (inbox, answers) = (Inbox::default(), BTreeMap::new());
        Client { socket, inbox, stream: 1, answers, service: V3, path: path.to_owned(), pid: None }
    }

    pub fn kill(&self) {
        if let Some(pid) = self.pid.filter(|_| self.path.exists()) {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }

    /// Asks, and says on which stream the answer comes.
    pub fn ask(&mut self, method: &str, message: &impl Message) -> u32 {
        self.try_ask(method, message).expect("ask")
    }

    /// The same of a shim that may end.
    pub fn try_ask(&mut self, method: &str, message: &impl Message) -> std::io::Result<u32> {
        self.stream += 2;
        let service = self.service.to_owned();
        let request =
            Request { service, method: method.to_owned(), payload: message.encode_to_vec(), ..Request::default() };
        self.socket.write_all(&wire::request(self.stream, &request))?;
        Ok(self.stream)
    }

    pub fn answer<M: Message + Default>(&mut self, stream: u32) -> Result<M, Status> {
        loop {
            if let Some(answer) = self.answers.remove(&stream) {
                return answer.map(|payload| M::decode(&*payload).expect("the answer's message"));
            }
            let mut buffer = [0; 4096];
            let count = self.socket.read(&mut buffer).expect("an answer");
            assert_ne!(count, 0, "the shim has gone");
            self.inbox.take(&buffer[..count]);
            while let Some(Frame::Response(stream, response)) = self.inbox.next() {
                let answer = response.status.filter(|status| status.code != 0).map_or(Ok(response.payload), Err);
                self.answers.insert(stream, answer);
            }
        }
    }

    /// Whether that answer has come already.
    pub fn has_answer(&self, stream: u32) -> bool {
        self.answers.contains_key(&stream)
    }

    pub fn call<M: Message + Default>(&mut self, method: &str, message: &impl Message) -> Result<M, Status> {
        let stream = self.ask(method, message);
        self.answer(stream)
    }

    /// What `create` asks for: stdin from a fifo, stdout to a file.
    pub fn order(world: &World, id: &str) -> CreateTaskRequest {
        CreateTaskRequest {
            id: id.into(),
            bundle: world.bundles.join(id).display().to_string(),
            stdin: world.text(&format!("stdin-{id}")),
            stdout: format!("file://{}", world.text("out")),
            options: Some(Any::of("containerd.runc.v1.Options", &world.options())),
            ..CreateTaskRequest::default()
        }
    }

    pub fn create(&mut self, world: &World, id: &str) -> Result<CreateTaskResponse, Status> {
        self.call("Create", &Client::order(world, id))
    }

    pub fn start(&mut self, id: &str, exec: &str) -> Result<StartResponse, Status> {
        self.call("Start", &StartRequest { id: id.into(), exec_id: exec.into() })
    }

    pub fn wait(id: &str, exec: &str) -> WaitRequest {
        WaitRequest { id: id.into(), exec_id: exec.into() }
    }

    pub fn delete(&mut self, id: &str, exec: &str) -> Result<DeleteResponse, Status> {
        self.call("Delete", &DeleteRequest { id: id.into(), exec_id: exec.into() })
    }

    pub fn close_stdin(&mut self, id: &str) {
        let asked = CloseIoRequest { id: id.into(), stdin: true, ..CloseIoRequest::default() };
        let _: Empty = self.call("CloseIO", &asked).expect("CloseIO");
    }

    pub fn kill_container(&mut self, id: &str) {
        let asked = KillRequest { id: id.into(), signal: 9, all: true, ..KillRequest::default() };
        let _: Empty = self.call("Kill", &asked).expect("Kill");
    }

    pub fn shut_down(&mut self) {
        let _: Empty = self.call("Shutdown", &ShutdownRequest::default()).expect("Shutdown");
        // it ends by itself
        self.pid = None;
    }

    /// Ends container c1, whose program reads its stdin, deletes it, and ends the shim.
    pub fn end_c1(&mut self) {
        self.close_stdin("c1");
        self.finish_c1();
    }

    /// Waits for the end of container c1, deletes it, and ends the shim.
    pub fn finish_c1(&mut self) -> u32 {
        let ended: WaitResponse = self.call("Wait", &Client::wait("c1", "")).expect("Wait");
        self.delete("c1", "").expect("Delete");
        self.shut_down();
        ended.exit_status
    }

    /// An exec of our program with that argument.
    pub fn exec_order(id: &str, exec: &str, arg: &str) -> ExecProcessRequest {
        let object = serde_json::json!({"cwd": "/", "args": ["/shim", arg], "env": [], "user": {"uid": 0, "gid": 0}});
        ExecProcessRequest {
            id: id.into(),
            exec_id: exec.into(),
            spec: Some(Any { type_url: "Process".into(), value: object.to_string().into_bytes() }),
            ..ExecProcessRequest::default()
        }
    }

    /// Runs an exec in c1 to its end.
    pub fn exec(&mut self, world: &World, exec: &str, arg: &str) -> u32 {
        self.exec_in("c1", world, exec, arg)
    }

    pub fn exec_in(&mut self, id: &str, world: &World, exec: &str, arg: &str) -> u32 {
        let order = Client::exec_order(id, exec, arg);
        let asked = ExecProcessRequest { stdout: format!("file://{}", world.text(exec)), ..order };
        let _: Empty = self.call("Exec", &asked).expect("Exec");
        self.start(id, exec).expect("Start");
        let ended: WaitResponse = self.call("Wait", &Client::wait(id, exec)).expect("Wait");
        assert_eq!(self.delete(id, exec).expect("Delete").exit_status, ended.exit_status);
        ended.exit_status
    }

    pub fn status(&mut self, id: &str) -> i32 {
        let state: Result<StateResponse, _> =
            self.call("State", &StateRequest { id: id.into(), ..StateRequest::default() });
        state.expect("State").status
    }

    /// A number of the shim's /proc/PID/`file`, without its unit.
    pub fn number(&self, file: &str, name: &str) -> usize {
        let pid = self.pid.expect("a shim").as_raw_pid();
        let text = fs::read_to_string(format!("/proc/{pid}/{file}")).expect("/proc");
        let found = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        found.map(|rest| rest.trim().trim_end_matches(" kB").parse::<usize>().expect("a number")).sum()
    }

    /// How many descriptors the shim has.
    pub fn descriptors(&self) -> usize {
        let pid = self.pid.expect("a shim").as_raw_pid();
        fs::read_dir(format!("/proc/{pid}/fd")).expect("descriptors").count()
    }
}

pub fn root_is_here() -> bool {
    let root = rustix::process::geteuid().is_root() && Path::new("/sys/fs/cgroup").exists();
    if !root {
        skip("a shim needs root and cgroups");
    }
    root
}

/// Records that a test is skipped, and why, in the file that SKIPS names. `hack/test` prints it.
pub fn skip(why: &str) {
    let line = format!("shim: {}: {why}\n", std::thread::current().name().unwrap_or("main"));
    print!("skipped {line}");
    if let Some(path) = std::env::var_os("SKIPS") {
        let file = fs::OpenOptions::new().create(true).append(true).open(path);
        file.and_then(|mut file| file.write_all(line.as_bytes())).expect("note a skipped test");
    }
}

pub fn gone(what: &str, mut there: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while there() {
        assert!(Instant::now() < end, "{what} is still there");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_test_that_fails_leaves_nothing() {
    if !root_is_here() {
        return;
    }
    let (sender, left) = mpsc::channel();
    let fails = move || {
        let world = world();
        let names = (world.directory.path().to_owned(), world.cgroup.clone());
        let rootfs = world.bundles.join("c1/rootfs");
        let mount = Mount {
            r#type: "bind".into(),
            source: world.text("rootfs"),
            options: vec!["rbind".into()],
            ..Mount::default()
        };
        let mut client = world.start();
        let logger = crate::loggers::never_ready(&world);
        let order = CreateTaskRequest { rootfs: vec![mount], ..Client::order(&world, "c1") };
        let pid = client.call::<CreateTaskResponse>("Create", &order).expect("Create").pid;
        assert!(rootfs.join("shim").exists());
        client.start("c1", "").expect("Start");
        let asked = ExecProcessRequest { stdout: logger, ..Client::exec_order("c1", "e", "-v") };
        let _: Empty = client.call("Exec", &asked).expect("Exec");
        client.ask("Start", &StartRequest { id: "c1".into(), exec_id: "e".into() });
        gone("the logger's begin", || !world.path("slow.began").exists());
        sender.send((names, client.path.clone(), client.pid, pid)).expect("a receiver");
        panic!("the test fails here, as it should");
    };
    std::thread::spawn(fails).join().expect_err("it fails");
    let ((directory, cgroup), socket, shim, init) = left.recv().expect("what it had");
    assert!(!socket.exists() && !directory.exists());
    let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
    assert!(!mounts.contains(&*directory.to_string_lossy()), "{mounts}");
    for pid in [shim.expect("a shim").as_raw_pid().cast_unsigned(), init] {
        // its memory and its cgroup are gone a moment before it is a zombie
        gone("a process", || {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            !status.is_empty() && !status.contains("State:\tZ")
        });
    }
    let found = Command::new("find").args(["/sys/fs/cgroup", "-name", &cgroup]).output().expect("find").stdout;
    assert_eq!(String::from_utf8_lossy(&found), "");
}
