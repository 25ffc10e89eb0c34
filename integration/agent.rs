//! A seccomp agent for tests: a thread that receives the listener from the runtime, and answers its requests.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use serde_json::Value;

/// struct seccomp_notif of seccomp_unotify(2), 80 bytes.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Notification {
    id: u64,
    pid: u32,
    flags: u32,
    nr: i32,
    arch: u32,
    instruction_pointer: u64,
    args: [u64; 6],
}

/// struct seccomp_notif_resp.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Response {
    id: u64,
    val: i64,
    error: i32,
    flags: u32,
}

/// The answer of an agent to a call.
#[derive(Clone, Copy)]
pub enum Answer {
    /// The call fails with this errno.
    Errno(i32),
    /// The call continues as without an agent (SECCOMP_USER_NOTIF_FLAG_CONTINUE).
    Continue,
}

/// A running agent. `next` returns each message that it has received.
pub struct Agent {
    messages: Receiver<Value>,
}

impl Agent {
    /// Listens at `path` for any number of processes. `answer` gets the number of the call.
    pub fn at(path: &Path, answer: fn(i64) -> Answer) -> Agent {
        let directory = std::fs::File::open(path.parent().unwrap()).unwrap();
        let short = format!("/proc/self/fd/{}/{}", directory.as_raw_fd(), path.file_name().unwrap().to_str().unwrap());
        let listener = UnixListener::bind(short).unwrap();
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (state, fd) = receive(&stream);
                if sender.send(state).is_err() {
                    return;
                }
                std::thread::spawn(move || serve(&fd, answer));
            }
        });
        Agent { messages }
    }

    /// The next message.
    #[track_caller]
    pub fn next(&self) -> Value {
        self.messages.recv_timeout(Duration::from_secs(30)).expect("the agent gets the message of a process")
    }
}

/// Receives one message: JSON up to the end of the stream, and exactly one descriptor.
fn receive(stream: &UnixStream) -> (Value, OwnedFd) {
    let (mut text, mut fds) = (Vec::new(), Vec::new());
    loop {
        let mut buffer = [0u8; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        let got = rustix::net::recvmsg(stream, &mut [IoSliceMut::new(&mut buffer)], &mut control, flags).unwrap();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        if got.bytes == 0 {
            break;
        }
        text.extend_from_slice(&buffer[..got.bytes]);
        // crun keeps its end open, so a complete object is the end of the message.
        if serde_json::from_slice::<Value>(&text).is_ok() {
            break;
        }
    }
    assert_eq!(fds.len(), 1, "one descriptor comes with {:?}", String::from_utf8_lossy(&text));
    (serde_json::from_slice(&text).unwrap(), fds.remove(0))
}

#[allow(unsafe_code)] // ioctl(2) with the two structures above
fn serve(listener: &OwnedFd, answer: fn(i64) -> Answer) {
    const RECEIVE: libc::c_ulong = 0xc050_2100;
    const SEND: libc::c_ulong = 0xc018_2101;
    loop {
        let mut asked = Notification::default();
        // SAFETY: the kernel fills a seccomp_notif, which is zeroed as it demands.
        if unsafe { libc::ioctl(listener.as_raw_fd(), RECEIVE, &raw mut asked) } != 0 {
            match std::io::Error::last_os_error().raw_os_error() {
                // The calling process was killed, or its call was interrupted.
                Some(libc::ENOENT | libc::EINTR) if alive(listener) => continue,
                _ => return,
            }
        }
        let mut response = Response { id: asked.id, ..Response::default() };
        match answer(asked.nr.into()) {
            Answer::Errno(errno) => response.error = -errno,
            Answer::Continue => response.flags = 1,
        }
        // SAFETY: the kernel reads a seccomp_notif_resp. The process may have ended meanwhile, which is not an error.
        let _ = unsafe { libc::ioctl(listener.as_raw_fd(), SEND, &raw mut response) };
    }
}

/// True while a process has the filter.
fn alive(listener: &OwnedFd) -> bool {
    let mut poll = [rustix::event::PollFd::new(listener, rustix::event::PollFlags::IN)];
    let now = rustix::event::Timespec::default();
    rustix::event::poll(&mut poll, Some(&now)).is_ok() && !poll[0].revents().contains(rustix::event::PollFlags::HUP)
}
