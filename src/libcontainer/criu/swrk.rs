//! `criu swrk`: CRIU as our child, and the messages to it over a packet socket.

use std::fs::File;
use std::io::{ErrorKind, IoSliceMut, Read, Seek, SeekFrom};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use prost::Message;
use rustix::event::PollFlags;
use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketFlags, SocketType,
};
use rustix::process::{Pid, Signal};

use super::guardian::{Guardian, Thaw};
use super::rpc::{CriuFeatures, CriuReq, CriuReqType, CriuResp};
use super::version::{CriuFeature, CriuVersion};
use super::work;
use crate::error::{Context, Error, Result, bail, error};
use crate::host::Environment;
use crate::sys::errno::in_words;
use crate::sys::handed::{Handed, hand};
use crate::wait::{self, limits};

/// The longest packet of CRIU.
const MOST_BYTES: usize = 1 << 16;

/// The number of looks at CRIU's work in the time after which an idle CRIU is given up.
const LOOKS: u32 = 4;

/// How CRIU is started.
#[derive(Debug)]
pub struct Setup<'a> {
    /// The program: a path, or a name that is searched in PATH.
    pub program: &'a Path,
    /// Its standard streams.
    pub streams: CriuStreams,
    /// CRIU's descriptors besides our socket.
    pub handed: Handed,
    /// CRIU's environment. CRIU itself is searched in its PATH.
    pub environment: &'a Environment,
    /// Thaws the container if we are killed.
    pub thaw: Option<Thaw>,
}

/// The standard streams of CRIU.
#[derive(Debug)]
pub enum CriuStreams {
    /// Those that it passes on to the container's processes. One that is not set is ours.
    PassedOn([Option<OwnedFd>; 3]),
    /// None; what it prints is kept for errors.
    None,
}

/// CRIU, which waits for the next request. Drop gives it some time to undo its work, and then kills it.
#[derive(Debug)]
pub struct Criu {
    child: Child,
    pid: Pid,
    pidfd: OwnedFd,
    /// None after the last message.
    socket: Option<OwnedFd>,
    printed: File,
    version: CriuVersion,
    quiet: Duration,
    /// The first process that it has made, which is not its child.
    made: Option<i32>,
    /// Whether it waits for a client that fetches the memory.
    serves: bool,
    /// It ends CRIU if we are killed. None after `finish`.
    guardian: Option<Guardian>,
}

/// What ends a wait for CRIU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    /// It has not answered in this time.
    Passed(Duration),
    /// It has done nothing for a while.
    Idle,
}

/// A message of CRIU.
#[derive(Debug)]
pub enum CriuMessage {
    /// CRIU has reached a point, and waits for `confirm`.
    Notice(Notice),
    /// CRIU has completed the request.
    Done,
    /// CRIU has failed. Contains its message, if there is one.
    Failed(String),
}

/// A point that CRIU has reached.
#[derive(Debug)]
pub struct Notice {
    /// Its name.
    pub script: String,
    /// The first process, if the point is about it.
    pub pid: Option<i32>,
    /// The descriptor that came with it.
    pub descriptor: Option<OwnedFd>,
}

impl Criu {
    /// Starts CRIU, and asks for its version.
    ///
    /// # Errors
    /// It does not exist, or does not answer.
    pub fn begin(setup: Setup<'_>) -> Result<Criu> {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).context("socketpair")?;
        let printed = rustix::fs::memfd_create(c"criu", MemfdFlags::CLOEXEC).map_err(std::io::Error::from)?;
        let printed = File::from(printed);
        let mut command = setup.environment.command(setup.program);
        command.args(["swrk", &theirs.as_raw_fd().to_string()]);
        match setup.streams {
            CriuStreams::PassedOn(streams) => {
                let [stdin, stdout, stderr] = streams.map(|stream| stream.map_or_else(Stdio::inherit, Stdio::from));
                command.stdin(stdin).stdout(stdout).stderr(stderr);
            }
            CriuStreams::None => {
                command.stdin(Stdio::null()).stdout(printed.try_clone()?).stderr(printed.try_clone()?);
                // A signal of the terminal is for us. It must not end CRIU in the middle of its work.
                std::os::unix::process::CommandExt::process_group(&mut command, 0);
            }
        }
        let mut handed = setup.handed;
        handed.descriptors.push(theirs);
        hand(&mut command, handed).context("start criu")?;
        let mut child = crate::sys::fds::spawn(&mut command).map_err(|error| not_started(setup.program, &error))?;
        drop(command);
        let pidfd = crate::sys::fds::pidfd_of(&mut child).context("pidfd_open of criu")?;
        let guardian = Guardian::begin(pidfd.as_fd(), setup.thaw.as_ref(), limits::CRIU_END).inspect_err(|_| {
            // it has no request yet
            let _ = child.kill().and_then(|()| child.wait());
        });
        let mut criu = Criu {
            guardian: Some(guardian?),
            pid: Pid::from_child(&child),
            child,
            pidfd,
            socket: Some(ours),
            printed,
            version: CriuVersion::new(0, 0, 0),
            quiet: limits::CRIU_QUIET,
            made: None,
            serves: false,
        };
        let answer = criu.question(&CriuReq {
            r#type: CriuReqType::Version.into(),
            keep_open: Some(true),
            ..CriuReq::default()
        })?;
        let version = answer.version.ok_or_else(|| error!("criu does not report its version: it is older than 3.0"))?;
        criu.version = CriuVersion::from(&version);
        criu.version.must_have(CriuFeature::Anything)?;
        Ok(criu)
    }

    /// Its pid.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Its version.
    pub fn version(&self) -> CriuVersion {
        self.version
    }

    /// Whether CRIU and the kernel can find the pages that were written since the last dump.
    ///
    /// # Errors
    /// It does not answer.
    pub fn tracks_memory(&mut self) -> Result<bool> {
        let found = self.features(CriuFeatures { mem_track: Some(true), lazy_pages: None })?;
        Ok(found.mem_track.unwrap_or(false))
    }

    /// Whether CRIU and the kernel can fetch pages at their first use (userfaultfd(2)).
    ///
    /// # Errors
    /// It does not answer.
    pub fn fetches_lazily(&mut self) -> Result<bool> {
        let found = self.features(CriuFeatures { mem_track: None, lazy_pages: Some(true) })?;
        Ok(found.lazy_pages.unwrap_or(false))
    }

    fn features(&mut self, wanted: CriuFeatures) -> Result<CriuFeatures> {
        let (kind, keep_open) = (CriuReqType::FeatureCheck.into(), Some(true));
        let request = CriuReq { r#type: kind, keep_open, features: Some(wanted), ..CriuReq::default() };
        self.question(&request)?.features.ok_or_else(|| error!("criu does not report its features"))
    }

    /// A request with an immediate answer.
    fn question(&mut self, request: &CriuReq) -> Result<CriuResp> {
        self.send(request)?;
        let (answer, _) = self.receive(Until::Passed(limits::CRIU))?;
        if !answer.success || answer.r#type != request.r#type {
            bail!(
                "criu: {}",
                self.with_status_and_output(answer.cr_errmsg.as_deref().unwrap_or("it does not know the request"))
            );
        }
        Ok(answer)
    }

    /// The main request.
    ///
    /// # Errors
    /// CRIU has ended.
    pub fn send_request(&mut self, request: &CriuReq) -> Result<()> {
        self.send(request)
    }

    /// CRIU has made the first process of the container: what this process does is CRIU's work, too.
    pub fn set_made(&mut self, pid: i32) {
        self.made = Some(pid);
    }

    /// From here on CRIU waits for a client that fetches the memory. An idle CRIU is not given up then.
    pub fn waits_for_client(&mut self) {
        self.serves = true;
    }

    /// The next message from CRIU. The wait has no deadline while CRIU works, because the time depends on the size of the memory.
    ///
    /// # Errors
    /// A signal asks us to end, CRIU has ended, or it has done nothing for a minute.
    pub fn next(&mut self) -> Result<CriuMessage> {
        let (answer, descriptor) = self.receive(Until::Idle)?;
        if !answer.success {
            return Ok(CriuMessage::Failed(answer.cr_errmsg.unwrap_or_default()));
        }
        match answer.r#type() {
            CriuReqType::Notify => {
                let notify = answer.notify.unwrap_or_default();
                Ok(CriuMessage::Notice(Notice {
                    script: notify.script.unwrap_or_default(),
                    pid: notify.pid,
                    descriptor,
                }))
            }
            CriuReqType::Dump | CriuReqType::PreDump | CriuReqType::Restore => Ok(CriuMessage::Done),
            CriuReqType::Empty | CriuReqType::FeatureCheck | CriuReqType::Version => {
                bail!("unexpected message from criu")
            }
        }
    }

    /// Answers a notice: CRIU continues.
    ///
    /// # Errors
    /// CRIU has ended.
    pub fn confirm(&mut self) -> Result<()> {
        self.send(&CriuReq { r#type: CriuReqType::Notify.into(), notify_success: Some(true), ..CriuReq::default() })
    }

    /// Answers a notice: CRIU undoes its work.
    ///
    /// # Errors
    /// CRIU has ended.
    pub fn refuse(&mut self) -> Result<()> {
        self.send(&CriuReq { r#type: CriuReqType::Notify.into(), notify_success: Some(false), ..CriuReq::default() })
    }

    /// Waits for its end, after it has completed the request. Until the guardian is dropped, it thaws the container if we are
    /// killed.
    #[must_use]
    pub fn finish(mut self) -> Option<Guardian> {
        self.end();
        self.guardian.take()
    }

    fn send(&mut self, request: &CriuReq) -> Result<()> {
        let socket = self.socket.as_ref().ok_or_else(|| error!("criu has ended"))?;
        let packet = request.encode_to_vec();
        match rustix::net::send(socket, &packet, SendFlags::NOSIGNAL) {
            Ok(_) => Ok(()),
            Err(Errno::PIPE | Errno::CONNRESET) => bail!("{}", self.with_status_and_output("criu has ended")),
            Err(errno) => Err(Error::from(errno).context("write to criu")),
        }
    }

    /// Waits until it has sent something, or has ended.
    fn wait_for_message(&self, socket: &OwnedFd, until: Until) -> Result<()> {
        let both = [(socket.as_fd(), PollFlags::IN), (self.pidfd.as_fd(), PollFlags::IN)];
        let time = match until {
            Until::Passed(time) => time,
            Until::Idle => self.quiet / LOOKS,
        };
        let (mut before, mut changed) = (None, Instant::now());
        while !wait::ready(&both, Some(Instant::now() + time))? {
            if until != Until::Idle {
                bail!("criu has not answered for {} s", time.as_secs());
            }
            // a restored process works for CRIU, and is not its child
            let roots: Vec<i32> = [self.pid()].into_iter().chain(self.made).collect();
            let now = Some(work::total(&roots));
            if now != before {
                (before, changed) = (now, Instant::now());
            } else if changed.elapsed() >= self.quiet && !self.serves {
                bail!("criu has done nothing for {} s", self.quiet.as_secs());
            }
        }
        Ok(())
    }

    /// Waits for a message, and the descriptor that came with it.
    fn receive(&mut self, until: Until) -> Result<(CriuResp, Option<OwnedFd>)> {
        let mut buffer = vec![0u8; MOST_BYTES];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        loop {
            let socket = self.socket.as_ref().ok_or_else(|| error!("criu has ended"))?;
            self.wait_for_message(socket, until)?;
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
            match rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut buffer)], &mut control, flags) {
                Ok(got) if got.bytes > 0 => {
                    let descriptor = control.drain().find_map(|message| match message {
                        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
                        _ => None,
                    });
                    let answer =
                        CriuResp::decode(&buffer[..got.bytes]).map_err(|why| error!("criu's answer: {why}"))?;
                    return Ok((answer, descriptor));
                }
                Err(Errno::INTR) => {}
                // It has ended, or no more messages can come.
                Ok(_) | Err(Errno::AGAIN | Errno::CONNRESET) => {
                    bail!("{}", self.with_status_and_output("criu has ended"))
                }
                Err(errno) => return Err(Error::from(errno).context("read from criu")),
            }
        }
    }

    /// `said`, with CRIU's exit status, and its own output.
    fn with_status_and_output(&mut self, said: &str) -> String {
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
    fn end(&mut self) {
        drop(self.socket.take());
        let deadline = Instant::now() + limits::CRIU_END;
        // A signal that asks us to end must not leave the container in an intermediate state.
        let ended = |deadline| loop {
            match wait::readable(self.pidfd.as_fd(), Some(deadline)) {
                Err(wait::Interrupted::Signal(_) | wait::Interrupted::Stop) => {}
                other => return other.unwrap_or(false),
            }
        };
        if !ended(deadline) {
            let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
            // a signal does not end a process that waits for a disk
            if !ended(Instant::now() + limits::CRIU_END) {
                return;
            }
        }
        let _ = self.child.wait();
    }
}

impl Drop for Criu {
    fn drop(&mut self) {
        if self.socket.is_some() {
            self.end();
        }
    }
}

fn not_started(program: &Path, error: &std::io::Error) -> crate::error::Error {
    match error.kind() {
        ErrorKind::NotFound if program.components().count() == 1 => {
            error!("criu is not in PATH: checkpoint and restore need it (the package criu)")
        }
        _ => error!("start {}: {error}", program.display(), error = in_words(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A CRIU that tells its version (VERSION, success, 4.1) and then does what the script says.
    fn pretended(script: &str) -> (tempfile::TempDir, Result<Criu>) {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("criu");
        let answer = r"printf '\010\012\020\001\122\004\010\004\020\001' >&3";
        let take = "dd bs=65536 count=1 <&3 >/dev/null 2>&1";
        // its socket has the number that comes behind `swrk`. dash cannot redirect a number from 10 on, and bash writes a packet in
        // two pieces
        std::fs::write(directory.path().join("criu.sh"), format!("{take}\n{answer}\n{take}\n{script}\n")).unwrap();
        std::fs::write(&program, "#!/bin/bash\nexec 3<&$2\nexec /bin/sh $0.sh\n").unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let criu = Criu::begin(Setup {
            program: &program,
            streams: CriuStreams::None,
            handed: crate::sys::handed::Handed::default(),
            environment: &Environment::default(),
            thaw: None,
        });
        (directory, criu)
    }

    #[test]
    fn a_criu_that_does_nothing_is_given_up_and_one_that_works_is_not() {
        let wait_for = |script: &str, quiet: Duration, prepare: &dyn Fn(&mut Criu)| {
            let (_directory, criu) = pretended(script);
            let mut criu = criu.unwrap();
            criu.quiet = quiet;
            prepare(&mut criu);
            criu.send_request(&CriuReq { r#type: CriuReqType::Dump.into(), ..CriuReq::default() }).unwrap();
            let said = criu.next();
            // at once, and not after 10 s
            let _ = rustix::process::pidfd_send_signal(&criu.pidfd, Signal::KILL);
            said
        };
        let (short, second) = (Duration::from_millis(300), Duration::from_secs(1));
        let idle = wait_for("exec sleep 1000", short, &|_| {}).unwrap_err().to_string();
        assert_eq!(idle, "criu has done nothing for 0 s");
        // it sleeps and wakes for more than a second, and has done it then: DUMP, success
        let done = r"printf '\010\001\020\001' >&3";
        let busy = format!("n=0; while [ $n -lt 120 ]; do n=$((n+1)); sleep 0.01; done; {done}; exec sleep 1000");
        assert!(matches!(wait_for(&busy, second, &|_| {}).unwrap(), CriuMessage::Done));
        // it waits for a client
        let serving = format!("sleep 1; {done}; exec sleep 1000");
        assert!(matches!(wait_for(&serving, short, &Criu::waits_for_client).unwrap(), CriuMessage::Done));
        assert!(wait_for("exit 3", short, &|_| {}).unwrap_err().to_string().contains("criu has ended"));
    }
}
