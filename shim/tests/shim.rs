//! The shim without containerd: a client that speaks ttrpc with it, and a server that takes its events. The program of the
//! containers is the shim itself, which is static: `-v` ends with 0, an unknown flag with 1, and `-info` when its stdin ends.
#![allow(dead_code)] // of the messages, of which the test needs a few

#[path = "../src/messages/mod.rs"]
mod messages;
#[path = "../src/wire.rs"]
mod wire;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use messages::bootstrap::{BootstrapParams, BootstrapResult, Extension};
use messages::google::{Any, Empty, Status};
use messages::task::*;
use messages::ttrpc::{ForwardRequest, Request};
use messages::{events, runc};
use prost::Message;
use wire::{Frame, Inbox};

const SHIM: &str = env!("CARGO_BIN_EXE_containerd-shim-coracle-v1");

struct World {
    directory: tempfile::TempDir,
    events: mpsc::Receiver<String>,
}

/// A bundle, and a containerd that only takes events.
fn world() -> World {
    let directory = tempfile::tempdir().expect("a directory");
    let name = directory.path().file_name().unwrap_or_default().to_string_lossy().replace('.', "");
    let bundle = directory.path().join("c1");
    fs::create_dir_all(bundle.join("rootfs/proc")).expect("rootfs");
    fs::copy(SHIM, bundle.join("rootfs/shim")).expect("copy");
    let namespaces = ["pid", "mount", "ipc", "uts"].map(|kind| serde_json::json!({"type": kind}));
    let config = serde_json::json!({
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs"},
        "process": {"cwd": "/", "args": ["/shim", "-info"], "env": ["PATH=/"], "user": {"uid": 0, "gid": 0}},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {"namespaces": namespaces, "cgroupsPath": format!("/coracle-shim-{name}")},
    });
    fs::write(bundle.join("config.json"), config.to_string()).expect("config.json");
    let (fifo, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
    rustix::fs::mknodat(rustix::fs::CWD, directory.path().join("stdin"), fifo, mode, 0).expect("mkfifo");
    let listener = UnixListener::bind(directory.path().join("ttrpc")).expect("bind");
    let (sender, events) = mpsc::channel();
    std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().expect("accept");
        let (mut inbox, mut buffer) = (Inbox::default(), [0; 4096]);
        while let Ok(count) = socket.read(&mut buffer)
            && count > 0
        {
            inbox.take(&buffer[..count]);
            while let Some(Frame::Request(stream, request)) = inbox.next() {
                let forward = ForwardRequest::decode(&*request.payload).expect("a ForwardRequest");
                socket.write_all(&wire::response(stream, Ok(Vec::new()))).expect("answer");
                let _ = sender.send(told(&forward.envelope.expect("an envelope")));
            }
        }
    });
    World { directory, events }
}

/// An event in short: its topic, and for an end whose, and how.
fn told(envelope: &messages::ttrpc::Envelope) -> String {
    let exit = envelope.event.as_ref().filter(|event| event.is("containerd.events.TaskExit"));
    let exit = exit.map(|event| events::TaskExit::decode(&*event.value).expect("a TaskExit"));
    exit.map_or_else(|| envelope.topic.clone(), |exit| format!("{} {} {}", envelope.topic, exit.id, exit.exit_status))
}

impl World {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn shim(&self, action: &str, input: &[u8]) -> Vec<u8> {
        let mut child = Command::new(SHIM)
            .args(["-namespace", "test", "-address", &self.text("containerd"), "-id", "c1", action])
            .env("TTRPC_ADDRESS", self.path("ttrpc"))
            .current_dir(self.path("c1"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the shim");
        child.stdin.take().expect("stdin").write_all(input).expect("write");
        let out = child.wait_with_output().expect("its end");
        assert!(out.status.success(), "{action}: {}", out.status);
        out.stdout
    }

    fn start(&self) -> Client {
        let options = runc::Options { root: self.text("state"), ..runc::Options::default() };
        let params = BootstrapParams {
            instance_id: "c1".into(),
            socket_dir: self.text("s"),
            extensions: vec![Extension { value: Some(Any::of("containerd.runc.v1.Options", &options)) }],
            ..BootstrapParams::default()
        };
        let answer = BootstrapResult::decode(&*self.shim("start", &params.encode_to_vec())).expect("a BootstrapResult");
        assert_eq!(answer.version, 3);
        let path = answer.address.strip_prefix("unix://").expect("a socket").to_owned();
        let socket = UnixStream::connect(&path).expect("connect");
        socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a time limit");
        let answers = BTreeMap::new();
        let mut client =
            Client { socket, inbox: Inbox::default(), stream: 1, answers, path: path.into(), options, pid: None };
        let connected: ConnectResponse = client.call("Connect", &ConnectRequest::default()).expect("Connect");
        client.pid = rustix::process::Pid::from_raw(connected.shim_pid.cast_signed());
        client
    }

    /// The events until that one.
    fn events_to(&self, last: &str) -> Vec<String> {
        let mut all = Vec::new();
        while all.last().is_none_or(|event| event != last) {
            all.push(self.events.recv_timeout(Duration::from_secs(20)).unwrap_or_else(|_| panic!("only {all:?}")));
        }
        all
    }
}

struct Client {
    socket: UnixStream,
    inbox: Inbox,
    stream: u32,
    answers: BTreeMap<u32, Result<Vec<u8>, Status>>,
    path: PathBuf,
    options: runc::Options,
    pid: Option<rustix::process::Pid>,
}

/// A test that fails leaves no shim.
impl Drop for Client {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Client {
    fn kill(&self) {
        if let Some(pid) = self.pid.filter(|_| self.path.exists()) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }

    /// Asks, and says on which stream the answer comes.
    fn ask(&mut self, method: &str, message: &impl Message) -> u32 {
        self.stream += 2;
        let service = "containerd.task.v3.Task".to_owned();
        let request =
            Request { service, method: method.to_owned(), payload: message.encode_to_vec(), ..Request::default() };
        self.socket.write_all(&wire::request(self.stream, &request)).expect("ask");
        self.stream
    }

    fn answer(&mut self, stream: u32) -> Result<Vec<u8>, Status> {
        loop {
            if let Some(answer) = self.answers.remove(&stream) {
                return answer;
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

    fn call<M: Message + Default>(&mut self, method: &str, message: &impl Message) -> Result<M, Status> {
        let stream = self.ask(method, message);
        self.answer(stream).map(|payload| M::decode(&*payload).expect("the answer's message"))
    }

    fn create(&mut self, world: &World) -> Result<CreateTaskResponse, Status> {
        let asked = CreateTaskRequest {
            id: "c1".into(),
            bundle: world.text("c1"),
            stdin: world.text("stdin"),
            stdout: format!("file://{}", world.text("out")),
            options: Some(Any::of("containerd.runc.v1.Options", &self.options)),
            ..CreateTaskRequest::default()
        };
        self.call("Create", &asked)
    }

    fn start_of(&mut self, exec: &str) -> Result<StartResponse, Status> {
        self.call("Start", &StartRequest { id: "c1".into(), exec_id: exec.into() })
    }

    /// Runs an exec to its end.
    fn exec(&mut self, world: &World, id: &str, arg: &str) -> u32 {
        let object = serde_json::json!({"cwd": "/", "args": ["/shim", arg], "env": [], "user": {"uid": 0, "gid": 0}});
        let asked = ExecProcessRequest {
            id: "c1".into(),
            exec_id: id.into(),
            stdout: format!("file://{}", world.text(id)),
            spec: Some(Any { type_url: "Process".into(), value: object.to_string().into_bytes() }),
            ..ExecProcessRequest::default()
        };
        let _: Empty = self.call("Exec", &asked).expect("Exec");
        self.start_of(id).expect("Start");
        let ended: WaitResponse =
            self.call("Wait", &WaitRequest { id: "c1".into(), exec_id: id.into() }).expect("Wait");
        let asked = DeleteRequest { id: "c1".into(), exec_id: id.into() };
        let deleted: DeleteResponse = self.call("Delete", &asked).expect("Delete");
        assert_eq!(deleted.exit_status, ended.exit_status);
        ended.exit_status
    }

    fn status(&mut self) -> i32 {
        let state: StateResponse =
            self.call("State", &StateRequest { id: "c1".into(), ..StateRequest::default() }).expect("State");
        state.status
    }
}

fn root_is_here() -> bool {
    let root = rustix::process::geteuid().is_root() && Path::new("/sys/fs/cgroup").exists();
    if !root {
        println!("skipped: a shim needs root and cgroups");
    }
    root
}

fn gone(what: &str, there: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while there() {
        assert!(Instant::now() < end, "{what} is still there");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_container_lives_and_its_events_come_in_order() {
    if !root_is_here() {
        return;
    }
    let world = world();
    let mut client = world.start();
    let unknown: Result<StateResponse, _> = client.call("State", &StateRequest::default());
    assert_eq!(unknown.expect_err("no container").code, 5);
    let unknown: Result<Empty, _> = client.call("Fly", &Empty {});
    assert_eq!(unknown.expect_err("no method").code, 12);
    let created = client.create(&world).expect("Create");
    let again = client.create(&world);
    assert_eq!(again.expect_err("it is there").code, 6);
    assert_eq!(client.status(), status::CREATED);
    let waiting = client.ask("Wait", &WaitRequest { id: "c1".into(), ..WaitRequest::default() });
    assert_eq!(client.start_of("").expect("Start").pid, created.pid);
    assert_eq!(client.status(), status::RUNNING);
    assert_eq!(client.exec(&world, "e0", "-v"), 0);
    assert!(fs::read_to_string(world.path("e0")).expect("output").starts_with("containerd-shim-coracle-v1:"));
    assert_eq!(client.exec(&world, "e1", "-x"), 1);
    let _: Empty = client
        .call("CloseIO", &CloseIoRequest { id: "c1".into(), stdin: true, ..CloseIoRequest::default() })
        .expect("CloseIO");
    let ended = WaitResponse::decode(&*client.answer(waiting).expect("Wait")).expect("a WaitResponse");
    assert_eq!(ended.exit_status, 0);
    assert_eq!(client.status(), status::STOPPED);
    let deleted: DeleteResponse =
        client.call("Delete", &DeleteRequest { id: "c1".into(), ..DeleteRequest::default() }).expect("Delete");
    assert_eq!((deleted.pid, deleted.exit_status), (created.pid, 0));
    let _: Empty = client.call("Shutdown", &ShutdownRequest { id: "c1".into(), now: false }).expect("Shutdown");
    let exec = |code| {
        ["/tasks/exec-added".to_owned(), "/tasks/exec-started".to_owned(), format!("/tasks/exit e{code} {code}")]
    };
    let events = [
        vec!["/tasks/create".to_owned(), "/tasks/start".to_owned()],
        exec(0).to_vec(),
        exec(1).to_vec(),
        vec!["/tasks/exit c1 0".to_owned(), "/tasks/delete".to_owned()],
    ];
    assert_eq!(world.events_to("/tasks/delete"), events.concat());
    let path = client.path.clone();
    gone("the socket", || path.exists());
}

#[test]
fn what_a_killed_shim_leaves_is_cleared() {
    if !root_is_here() {
        return;
    }
    let world = world();
    let mut client = world.start();
    let created = client.create(&world).expect("Create");
    client.start_of("").expect("Start");
    let connected: ConnectResponse = client.call("Connect", &ConnectRequest { id: "c1".into() }).expect("Connect");
    assert_eq!(connected.task_pid, created.pid);
    client.kill();
    let answer = DeleteResponse::decode(&*world.shim("delete", b"")).expect("a DeleteResponse");
    assert_eq!((answer.pid, answer.exit_status), (created.pid, 137));
    gone("the container's process", || fs::read_link(format!("/proc/{}/exe", created.pid)).is_ok());
    assert_eq!(fs::read_dir(world.path("state/test")).expect("the state directory").count(), 0);
    assert!(!client.path.exists(), "the socket is still there");
}
