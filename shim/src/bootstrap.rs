//! The action `start`: finds or makes the serving process of a pod, and prints its address.

use libcontainer::in_words;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use prost::Message as _;

use crate::address::{self, Found};
use crate::cli::Flags;
use crate::messages::bootstrap::{BootstrapParams, BootstrapResult};
use crate::messages::google::Any;
use crate::messages::runc::Options;
use crate::options;

/// Annotations that group containers in one shim, in this order.
const GROUPS: [&str; 2] = ["io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id"];
/// glibc's settings for the serving process. One heap for all threads and no cached stacks: so an idle shim is small. Freed memory is
/// overwritten: a process that enters a container has a copy of our memory until it is the program, and that container must
/// not find the environment of another one there. (The cache of each thread would not overwrite it.)
const TUNABLES: &str = "glibc.malloc.arena_max=1:glibc.pthread.stack_cache_size=0:glibc.malloc.tcache_count=0:\
    glibc.malloc.perturb=165";
/// The maximum length of stdin.
const INPUT: u64 = 10 << 20;

/// containerd's input beside the flags, in both forms.
#[derive(Debug, Default, PartialEq)]
struct Input {
    /// From containerd 2.3 on.
    params: Option<BootstrapParams>,
    options: Options,
}

impl Input {
    fn read(bytes: &[u8], id: &str) -> Result<Input, String> {
        // ORDER: the first field of both forms is a string, but only in this form is it our id
        let params = BootstrapParams::decode(bytes).ok().filter(|params| !id.is_empty() && params.instance_id == id);
        if let Some(params) = params {
            let values = params.extensions.iter().filter_map(|extension| extension.value.as_ref());
            let ours = values.into_iter().find(|any| any.type_url.ends_with("Options"));
            let options = options::read(ours)?;
            return Ok(Input { params: Some(params), options });
        }
        let any = Any::decode(bytes).map_err(|error| format!("stdin: {error}"))?;
        Ok(Input { params: None, options: options::read(Some(&any))? })
    }
}

/// Reads stdin to its end.
///
/// # Errors
/// Those of read(2), or it is longer than the maximum.
pub fn stdin() -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = io::stdin().take(INPUT + 1).read_to_end(&mut bytes);
    let length = read.map_err(|error| format!("stdin: {error}", error = in_words(&error)))?;
    if length as u64 > INPUT { Err(format!("stdin: longer than {INPUT} bytes")) } else { Ok(bytes) }
}

/// Writes an answer to stdout.
///
/// # Errors
/// Those of write(2).
pub fn print(answer: &[u8]) -> Result<(), String> {
    let mut out = io::stdout();
    // it has no end of a line: without `flush`, an error would be lost
    let written = out.write_all(answer).and_then(|()| out.flush());
    written.map_err(|error| format!("stdout: {error}", error = in_words(&error)))
}

/// Performs `start`.
///
/// # Errors
/// The text for containerd.
pub fn start(flags: &Flags) -> Result<(), String> {
    let input = Input::read(&stdin()?, &flags.id)?;
    let directory = input.params.as_ref().map(|params| &*params.socket_dir).filter(|directory| !directory.is_empty());
    let directory = Path::new(directory.unwrap_or(address::DIRECTORY));
    let socket = address::socket_path(directory, &flags.address, &flags.namespace, &group(&flags.id)?);
    let failed = |error: io::Error| format!("socket {}: {error}", socket.display(), error = in_words(&error));
    let found = address::take(&socket).map_err(failed)?;
    let bound = address::bound(&socket);
    let address = format!("unix://{}", socket.display());
    // ORDER: everything that can fail is done before the process is made: it would stay after a failure
    let address_written = write_address(&address);
    let child = match found {
        Found::Serving => address_written.map(|()| None),
        Found::Ours(listener) => address_written
            .and_then(|()| serve(flags, &input, &socket, listener).map(Some))
            .inspect_err(|_| address::give_up(&socket, bound)),
    }?;
    let written = print(&answer(&input, address));
    written.inspect_err(|_| {
        // containerd never learns of this process
        if let Some(mut child) = child {
            let _ = child.kill();
            address::give_up(&socket, bound);
        }
    })
}

/// Writes the address into the bundle: containerd 1.6 finds the shim again by it, and `delete` finds the socket.
fn write_address(address: &str) -> Result<(), String> {
    fs::write(".address", address)
        .and_then(|()| fs::rename(".address", "address"))
        .map_err(|error| format!("address: {error}", error = in_words(&error)))
}

/// The group of the container with this bundle.
fn group(id: &str) -> Result<String, String> {
    #[derive(Default, serde::Deserialize)]
    #[serde(default)]
    struct Config {
        annotations: BTreeMap<String, String>,
    }
    let text = fs::read("config.json").map_err(|error| format!("config.json: {error}", error = in_words(&error)))?;
    let config: Config = serde_json::from_slice(&text).map_err(|error| format!("config.json: {error}"))?;
    let named = GROUPS.iter().find_map(|name| config.annotations.get(*name));
    Ok(named.map_or(id, String::as_str).to_owned())
}

fn answer(input: &Input, address: String) -> Vec<u8> {
    if input.params.is_some() {
        return BootstrapResult { version: 3, address, protocol: "ttrpc".to_owned() }.encode_to_vec();
    }
    // containerd 1.6 does not send its version: it reads only the address, and speaks version 2
    match std::env::var("MAX_SHIM_VERSION").ok().and_then(|version| version.parse::<u32>().ok()) {
        None => address.into_bytes(),
        Some(version) => {
            let version = version.clamp(2, 3);
            format!(r#"{{"version":{version},"address":"{address}","protocol":"ttrpc"}}"#).into_bytes()
        }
    }
}

/// Starts the serving process, which has `listener` as its stdin.
fn serve(flags: &Flags, input: &Input, socket: &Path, listener: UnixListener) -> Result<Child, String> {
    if std::env::var_os("SCHED_CORE").is_some_and(|value| !value.is_empty()) {
        let scope = rustix::thread::CoreSchedulingScope::ProcessGroup;
        let made = rustix::thread::create_core_scheduling_cookie(rustix::process::getpid(), scope);
        made.map_err(|errno| format!("enable core scheduling: {errno}", errno = in_words(&errno)))?;
    }
    adjust_oom_score().map_err(|error| format!("oom_score_adj: {error}", error = in_words(&error)))?;
    let program =
        std::env::current_exe().map_err(|error| format!("/proc/self/exe: {error}", error = in_words(&error)))?;
    let mut command = Command::new(program);
    command.args(["-namespace", &flags.namespace, "-id", &flags.id, "-address", &flags.address]);
    if flags.debug {
        command.arg("-debug");
    }
    command.args(["-socket".as_ref(), socket.as_os_str()]);
    if let Some(params) = &input.params
        && !params.containerd_ttrpc_address.is_empty()
    {
        command.env("TTRPC_ADDRESS", &params.containerd_ttrpc_address);
    }
    command.env("GLIBC_TUNABLES", TUNABLES);
    command.stdin(Stdio::from(std::os::fd::OwnedFd::from(listener))).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child =
        command.spawn().map_err(|error| format!("start the serving process: {error}", error = in_words(&error)))?;
    if let Err(error) = join_cgroup(&input.options.shim_cgroup, child.id()) {
        let _ = child.kill();
        return Err(format!("failed to join cgroup {}: {error}", input.options.shim_cgroup, error = in_words(&error)));
    }
    Ok(child)
}

/// containerd's score plus one, so that containerd is not killed before its shims. The serving process inherits it.
fn adjust_oom_score() -> io::Result<()> {
    let parent = rustix::process::getppid().map_or(1, rustix::process::Pid::as_raw_pid);
    let score = fs::read_to_string(format!("/proc/{parent}/oom_score_adj"))?;
    let score = score.trim().parse::<i32>().unwrap_or(0);
    fs::write("/proc/self/oom_score_adj", (score + 1).min(1000).to_string())
}

/// Moves the serving process into an existing cgroup.
fn join_cgroup(path: &str, pid: u32) -> io::Result<()> {
    if path.is_empty() {
        return Ok(());
    }
    let top = Path::new("/sys/fs/cgroup");
    let below = path.trim_start_matches('/');
    if top.join("cgroup.controllers").exists() {
        return fs::write(top.join(below).join("cgroup.procs"), pid.to_string());
    }
    let mut joined = false;
    for hierarchy in fs::read_dir(top)? {
        let directory: PathBuf = hierarchy?.path().join(below);
        if directory.is_dir() {
            fs::write(directory.join("cgroup.procs"), pid.to_string())?;
            joined = true;
        }
    }
    if joined { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::bootstrap::Extension;

    #[test]
    fn both_forms_of_input_are_told_apart() {
        let options = Options { systemd_cgroup: true, ..Options::default() };
        let any = Any::of(options::NAME, &options);
        let old = Input::read(&any.encode_to_vec(), "c1");
        assert_eq!(old, Ok(Input { params: None, options: options.clone() }));
        let params = BootstrapParams {
            instance_id: "c1".into(),
            socket_dir: "/s".into(),
            extensions: vec![Extension { value: Some(any) }],
            ..BootstrapParams::default()
        };
        let new = Input::read(&params.encode_to_vec(), "c1").expect("the new form");
        assert_eq!(new, Input { params: Some(params), options });
        assert_eq!(Input::read(b"", "c1"), Ok(Input::default()));
        let answer = BootstrapResult::decode(&*answer(&new, "unix:///x".into())).expect("a BootstrapResult");
        assert_eq!((answer.version, &*answer.address, &*answer.protocol), (3, "unix:///x", "ttrpc"));
    }
}
