//! A shim that answers and does nothing, for hack/bench --shim: with it, what is left is containerd's own share. It says that a
//! container runs and writes one line; one whose config names `sleep` or `pause` ends when it is killed, others at once.
#![allow(dead_code)] // of the messages, of which it needs a few

#[path = "../src/messages/mod.rs"]
mod messages;
#[path = "../src/wire.rs"]
mod wire;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};

use messages::google::Empty;
use messages::task::*;
use messages::ttrpc::Request;
use prost::Message;
use wire::{Frame, Inbox};

type Problem = Box<dyn std::error::Error>;

/// How often `end` looks whether the bytes are read, and the pause between two looks.
const PATIENCE: u32 = 10_000;
const LOOK: std::time::Duration = std::time::Duration::from_micros(200);

/// A container and an exec, or nothing for the init.
type Whose = (String, String);
/// stdout and stderr, and the place of the config.
type Files = (Vec<File>, String);

/// Whether each process has ended, by the names of its container and exec.
#[derive(Default)]
struct Pod {
    ended: Mutex<BTreeMap<Whose, bool>>,
    changed: Condvar,
    /// Open until the process has ended and its bytes are read: a fifo that nobody has open loses them, and the client may
    /// open it late.
    files: Mutex<BTreeMap<Whose, Files>>,
}

fn main() -> Result<(), Problem> {
    let args: Vec<String> = std::env::args().collect();
    let id = args.iter().position(|arg| arg == "-id").and_then(|at| args.get(at + 1)).ok_or("no -id")?;
    match args.last().map(String::as_str) {
        Some("start") => start(id),
        Some("delete") => {
            std::io::stdout()
                .write_all(&DeleteResponse { exit_status: 137, ..DeleteResponse::default() }.encode_to_vec())?;
            Ok(())
        }
        _ => serve(),
    }
}

fn start(id: &str) -> Result<(), Problem> {
    let config: serde_json::Value = serde_json::from_slice(&fs::read("config.json")?)?;
    let group = config["annotations"]["io.kubernetes.cri.sandbox-id"].as_str().unwrap_or(id);
    fs::create_dir_all("/run/containerd/s")?;
    let path = format!("/run/containerd/s/floor-{group}");
    if UnixStream::connect(&path).is_err() {
        let _ = fs::remove_file(&path);
        let listener = OwnedFd::from(UnixListener::bind(&path)?);
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["-namespace", "floor", "-id", id]).stdin(listener);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    }
    fs::write("address", format!("unix://{path}"))?;
    print!("unix://{path}");
    Ok(())
}

fn serve() -> Result<(), Problem> {
    let listener = UnixListener::from(std::os::fd::AsFd::as_fd(&std::io::stdin()).try_clone_to_owned()?);
    let pod = Arc::new(Pod::default());
    for socket in listener.incoming() {
        let (mut socket, pod) = (socket?, Arc::clone(&pod));
        std::thread::spawn(move || {
            let (mut inbox, mut buffer) = (Inbox::default(), [0; 8192]);
            while let Ok(count) = socket.read(&mut buffer)
                && count > 0
            {
                inbox.take(&buffer[..count]);
                while let Some(frame) = inbox.next() {
                    let Frame::Request(stream, request) = frame else { continue };
                    let (socket, pod) = (socket.try_clone(), Arc::clone(&pod));
                    let answer = move || {
                        let answer = pod.answer(&request).unwrap_or_default();
                        socket.and_then(|mut socket| socket.write_all(&wire::response(stream, Ok(answer))))
                    };
                    std::thread::spawn(answer);
                }
            }
        });
    }
    Ok(())
}

impl Pod {
    fn answer(self: &Arc<Pod>, request: &Request) -> Result<Vec<u8>, Problem> {
        let pid = std::process::id();
        let asked = &*request.payload;
        Ok(match &*request.method {
            "Create" => {
                let asked = CreateTaskRequest::decode(asked)?;
                let config = format!("{}/config.json", asked.bundle);
                self.note((asked.id, String::new()), [asked.stdout, asked.stderr], config)?;
                CreateTaskResponse { pid }.encode_to_vec()
            }
            "Exec" => {
                let asked = ExecProcessRequest::decode(asked)?;
                self.note((asked.id, asked.exec_id), [asked.stdout, asked.stderr], String::new())?;
                Empty {}.encode_to_vec()
            }
            "Start" => {
                let asked = StartRequest::decode(asked)?;
                self.run(&(asked.id, asked.exec_id))?;
                StartResponse { pid }.encode_to_vec()
            }
            "Wait" => {
                let asked = WaitRequest::decode(asked)?;
                self.wait(&(asked.id, asked.exec_id));
                WaitResponse { exit_status: 0, exited_at: Some(std::time::SystemTime::now().into()) }.encode_to_vec()
            }
            "Kill" => {
                let asked = KillRequest::decode(asked)?;
                self.end((asked.id, asked.exec_id));
                Empty {}.encode_to_vec()
            }
            "State" => {
                let asked = StateRequest::decode(asked)?;
                let ended = self.has_ended(&(asked.id.clone(), asked.exec_id.clone()));
                let status = if ended { status::STOPPED } else { status::RUNNING };
                StateResponse { id: asked.id, exec_id: asked.exec_id, pid, status, ..StateResponse::default() }
                    .encode_to_vec()
            }
            "Delete" => {
                let exited_at = Some(std::time::SystemTime::now().into());
                DeleteResponse { pid, exit_status: 0, exited_at }.encode_to_vec()
            }
            "Connect" => ConnectResponse { shim_pid: pid, task_pid: pid, version: String::new() }.encode_to_vec(),
            "Shutdown" if self.lock().values().all(|ended| *ended) => {
                rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)?;
                Vec::new()
            }
            _ => Empty {}.encode_to_vec(),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Whose, bool>> {
        self.ended.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn files(&self) -> std::sync::MutexGuard<'_, BTreeMap<Whose, Files>> {
        self.files.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn note(&self, whose: Whose, names: [String; 2], config: String) -> Result<(), Problem> {
        let mut files = Vec::new();
        for name in names.iter().filter(|name| !name.is_empty()) {
            files.push(File::options().read(true).write(true).open(name)?);
        }
        self.lock().insert(whose.clone(), false);
        self.files().insert(whose, (files, config));
        Ok(())
    }

    fn run(self: &Arc<Pod>, whose: &Whose) -> Result<(), Problem> {
        let config = match self.files().get_mut(whose) {
            Some((files, config)) => {
                for file in files {
                    file.write_all(b"x\n")?;
                }
                fs::read_to_string(config).unwrap_or_default()
            }
            None => String::new(),
        };
        if !config.contains("sleep") && !config.contains("pause") {
            // a client may open its fifos when it has the answer to Start
            let (pod, whose) = (Arc::clone(self), whose.clone());
            std::thread::spawn(move || pod.end(whose));
        }
        Ok(())
    }

    fn end(&self, whose: Whose) {
        let files = self.files().remove(&whose);
        let unread = |file: &File| rustix::io::ioctl_fionread(file).is_ok_and(|count| count > 0);
        for _ in 0..PATIENCE {
            if !files.iter().flat_map(|(files, _)| files).any(unread) {
                break;
            }
            std::thread::sleep(LOOK);
        }
        drop(files);
        self.lock().insert(whose, true);
        self.changed.notify_all();
    }

    fn has_ended(&self, whose: &Whose) -> bool {
        self.lock().get(whose).copied().unwrap_or(true)
    }

    fn wait(&self, whose: &Whose) {
        let mut ended = self.lock();
        while !ended.get(whose).copied().unwrap_or(true) {
            ended = self.changed.wait(ended).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }
}
