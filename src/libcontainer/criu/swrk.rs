//! `criu swrk`: CRIU as a child of ours, and the conversation with it over a socket of packets.

use std::fs::File;
use std::io::{ErrorKind, IoSliceMut, Read, Seek, SeekFrom};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use prost::Message;
use rustix::event::PollFlags;
use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketFlags, SocketType,
};
use rustix::process::{Pid, PidfdFlags, Signal};

use super::rpc::{Answer, Features, Request, What};
use super::version::{Need, Version};
use crate::error::{Result, bail, error};
use crate::sys::handed::{Handed, hand};
use crate::wait;

/// How long CRIU may take to tell its version, and what it can do: it looks at the kernel first, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long CRIU may take to end when nobody talks to it any more: it lets the processes go on, or kills those it has made.
const ENDING: Duration = Duration::from_secs(10);
/// No packet of CRIU's is longer.
const MOST_BYTES: usize = 1 << 16;

/// How CRIU is started.
#[derive(Debug)]
pub struct Setup<'a> {
    /// The program: a path, or a name that is looked up in PATH.
    pub program: &'a Path,
    /// Its standard streams.
    pub streams: Streams,
    /// What it finds beside. Its descriptor 3 is our socket; those in here are 4 and more.
    pub handed: Handed,
}

/// The standard streams of CRIU.
#[derive(Debug)]
pub enum Streams {
    /// Those that it passes on to the container's processes. One that is not set is ours.
    PassedOn([Option<OwnedFd>; 3]),
    /// None; what it prints is kept for errors.
    None,
}

/// CRIU, which waits for the next request. Dropped, it has a while to undo what it was doing, and is killed then.
#[derive(Debug)]
pub struct Criu {
    child: Child,
    pid: Pid,
    pidfd: OwnedFd,
    /// None when all has been said.
    socket: Option<OwnedFd>,
    printed: File,
    version: Version,
}

/// What CRIU has said.
#[derive(Debug)]
pub enum Said {
    /// It has come to a point, and waits for `go_on`.
    Notice(Notice),
    /// It has done what it was asked for.
    Done,
    /// It could not. What it said of it, if anything.
    Failed(String),
}

/// A point that CRIU has come to.
#[derive(Debug)]
pub struct Notice {
    /// Its name.
    pub script: String,
    /// The first process, where it is about one.
    pub pid: Option<i32>,
    /// What came along.
    pub descriptor: Option<OwnedFd>,
}

impl Criu {
    /// Starts it, and asks for its version.
    ///
    /// # Errors
    /// It is not there, or does not answer.
    pub fn begin(setup: Setup<'_>) -> Result<Criu> {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
            .map_err(|errno| error!("socketpair: {errno}"))?;
        let printed = rustix::fs::memfd_create(c"criu", MemfdFlags::CLOEXEC).map_err(std::io::Error::from)?;
        let printed = File::from(printed);
        let mut command = Command::new(setup.program);
        command.args(["swrk", "3"]);
        match setup.streams {
            Streams::PassedOn(streams) => {
                let [stdin, stdout, stderr] = streams.map(|stream| stream.map_or_else(Stdio::inherit, Stdio::from));
                command.stdin(stdin).stdout(stdout).stderr(stderr);
            }
            Streams::None => {
                command.stdin(Stdio::null()).stdout(printed.try_clone()?).stderr(printed.try_clone()?);
                // a signal of the terminal's is ours, and must not end CRIU half way
                std::os::unix::process::CommandExt::process_group(&mut command, 0);
            }
        }
        let mut handed = setup.handed;
        handed.descriptors.insert(0, theirs);
        hand(&mut command, handed).map_err(|errno| error!("start criu: {errno}"))?;
        let child = command.spawn().map_err(|error| not_started(setup.program, &error))?;
        drop(command);
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or_else(|| error!("criu has no pid"))?;
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())
            .map_err(|errno| error!("pidfd_open of criu: {errno}"))?;
        let mut criu = Criu { child, pid, pidfd, socket: Some(ours), printed, version: Version::new(0, 0, 0) };
        let answer =
            criu.question(&Request { r#type: What::Version.into(), keep_open: Some(true), ..Request::default() })?;
        let version = answer.version.ok_or_else(|| error!("criu does not tell its version: it is older than 3.0"))?;
        criu.version = Version::of(&version);
        criu.version.must_have(Need::Anything)?;
        Ok(criu)
    }

    /// Its pid.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Which it is.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Whether it and the kernel can tell which memory was written since the dump before.
    ///
    /// # Errors
    /// It does not answer.
    pub fn tracks_memory(&mut self) -> Result<bool> {
        let found = self.features(Features { mem_track: Some(true), lazy_pages: None })?;
        Ok(found.mem_track.unwrap_or(false))
    }

    /// Whether it and the kernel can fetch memory when it is used first (userfaultfd(2)).
    ///
    /// # Errors
    /// It does not answer.
    pub fn fetches_lazily(&mut self) -> Result<bool> {
        let found = self.features(Features { mem_track: None, lazy_pages: Some(true) })?;
        Ok(found.lazy_pages.unwrap_or(false))
    }

    fn features(&mut self, wanted: Features) -> Result<Features> {
        let (kind, keep_open) = (What::FeatureCheck.into(), Some(true));
        let request = Request { r#type: kind, keep_open, features: Some(wanted), ..Request::default() };
        self.question(&request)?.features.ok_or_else(|| error!("criu does not tell what it can do"))
    }

    /// A request that is answered at once.
    fn question(&mut self, request: &Request) -> Result<Answer> {
        self.say(request)?;
        let (answer, _) = self.hear(Some(Instant::now() + PATIENCE))?;
        if !answer.success || answer.r#type != request.r#type {
            bail!(
                "criu: {}",
                self.without_a_word(answer.cr_errmsg.as_deref().unwrap_or("it does not know the request"))
            );
        }
        Ok(answer)
    }

    /// The request that all is about.
    ///
    /// # Errors
    /// CRIU has ended.
    pub fn ask(&mut self, request: &Request) -> Result<()> {
        self.say(request)
    }

    /// What CRIU says next. There is no deadline: how long it takes depends on how much memory there is.
    ///
    /// # Errors
    /// A signal asks us to end, or CRIU has ended.
    pub fn next(&mut self) -> Result<Said> {
        let (answer, descriptor) = self.hear(None)?;
        if !answer.success {
            return Ok(Said::Failed(answer.cr_errmsg.unwrap_or_default()));
        }
        match answer.r#type() {
            What::Notify => {
                let notify = answer.notify.unwrap_or_default();
                Ok(Said::Notice(Notice { script: notify.script.unwrap_or_default(), pid: notify.pid, descriptor }))
            }
            What::Dump | What::PreDump | What::Restore => Ok(Said::Done),
            What::Empty | What::FeatureCheck | What::Version => bail!("criu said something out of turn"),
        }
    }

    /// The answer to a notice: CRIU goes on.
    ///
    /// # Errors
    /// CRIU has ended.
    pub fn go_on(&mut self) -> Result<()> {
        self.say(&Request { r#type: What::Notify.into(), notify_success: Some(true), ..Request::default() })
    }

    /// The answer to a notice: CRIU undoes what it has done.
    ///
    /// # Errors
    /// CRIU has ended.
    pub fn give_up(&mut self) -> Result<()> {
        self.say(&Request { r#type: What::Notify.into(), notify_success: Some(false), ..Request::default() })
    }

    /// Waits for its end, when it has done what it was asked for.
    pub fn finish(mut self) {
        self.leave();
    }

    fn say(&mut self, request: &Request) -> Result<()> {
        let socket = self.socket.as_ref().ok_or_else(|| error!("criu has ended"))?;
        let packet = request.encode_to_vec();
        match rustix::net::send(socket, &packet, SendFlags::NOSIGNAL) {
            Ok(_) => Ok(()),
            Err(Errno::PIPE | Errno::CONNRESET) => bail!("{}", self.without_a_word("criu has ended")),
            Err(errno) => bail!("write to criu: {errno}"),
        }
    }

    fn hear(&mut self, deadline: Option<Instant>) -> Result<(Answer, Option<OwnedFd>)> {
        let mut buffer = vec![0u8; MOST_BYTES];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        loop {
            let socket = self.socket.as_ref().ok_or_else(|| error!("criu has ended"))?;
            let both = [(socket.as_fd(), PollFlags::IN), (self.pidfd.as_fd(), PollFlags::IN)];
            if !wait::ready(&both, deadline)? {
                bail!("criu has not answered for {} s", PATIENCE.as_secs());
            }
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
            match rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut buffer)], &mut control, flags) {
                Ok(got) if got.bytes > 0 => {
                    let descriptor = control.drain().find_map(|message| match message {
                        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
                        _ => None,
                    });
                    let answer = Answer::decode(&buffer[..got.bytes]).map_err(|why| error!("criu's answer: {why}"))?;
                    return Ok((answer, descriptor));
                }
                Err(Errno::INTR) => {}
                // it has ended, or nothing more will come
                Ok(_) | Err(Errno::AGAIN | Errno::CONNRESET) => bail!("{}", self.without_a_word("criu has ended")),
                Err(errno) => bail!("read from criu: {errno}"),
            }
        }
    }

    /// `said`, with how CRIU has ended, and what it printed where that is not the container's.
    fn without_a_word(&mut self, said: &str) -> String {
        let ended = match self.child.try_wait() {
            Ok(Some(status)) => format!(" ({status})"),
            _ => String::new(),
        };
        let mut text = Vec::new();
        let mut printed = &self.printed;
        let read = printed.seek(SeekFrom::Start(0)).and_then(|_| printed.take(1 << 12).read_to_end(&mut text));
        let text = String::from_utf8_lossy(&text).trim().replace('\n', "; ");
        match read {
            Ok(_) if !text.is_empty() => format!("{said}{ended}: {text}"),
            _ => format!("{said}{ended}"),
        }
    }

    /// Lets it end, or kills it. It is reaped.
    fn leave(&mut self) {
        drop(self.socket.take());
        let deadline = Instant::now() + ENDING;
        // a signal that asks us to end is no reason to leave the container half way
        while let Err(wait::Stopped::Signal(_)) = wait::readable(self.pidfd.as_fd(), Some(deadline)) {}
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
        let _ = self.child.wait();
    }
}

impl Drop for Criu {
    fn drop(&mut self) {
        if self.socket.is_some() {
            self.leave();
        }
    }
}

fn not_started(program: &Path, error: &std::io::Error) -> crate::error::Error {
    match error.kind() {
        ErrorKind::NotFound if program.components().count() == 1 => {
            error!("criu is not in PATH: checkpoint and restore need it (the package criu)")
        }
        _ => error!("start {}: {error}", program.display()),
    }
}
