//! A connection to systemd: a socket, one call at a time, and one deadline. zbus encodes and decodes the messages. The
//! connection is our own code: it must have no thread, and it can use systemd's own socket, which needs no bus daemon and
//! no subscription.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::ser::SerializeStruct;
use zbus::wire::serialized::{Context as Encoding, Data};
use zbus::wire::{LE, to_bytes};
use zbus::{Type, Variant};

use crate::error::{Context, Error, Kind, Result, bail, error};
use crate::sys::errno::in_words;
use crate::wait;

/// The number of fixed bytes before the header's fields (D-Bus specification, "Message Format").
const FIXED: usize = 16;
/// The largest message.
const MOST: usize = 128 << 20;

/// The types of messages.
const CALL: u8 = 1;
const REPLY: u8 = 2;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;

/// Header fields.
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

/// A connection with a deadline.
#[derive(Debug)]
pub(super) struct Bus {
    stream: UnixStream,
    deadline: Instant,
    serial: u32,
    /// Says whether the other side is a bus daemon.
    daemon: Daemon,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Daemon {
    Between,
    None,
}

/// A socket of systemd. A name in the abstract name space begins with a NUL (unix(7)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Socket {
    /// systemd's own socket.
    Own(PathBuf),
    /// The socket of a bus daemon.
    Daemon(PathBuf),
}

/// The destination of a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Method<'a> {
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) name: &'a str,
}

/// A received message.
#[derive(Debug)]
pub(super) struct BusMessage {
    kind: u8,
    member: String,
    error: String,
    /// The serial of the call that it answers; 0 if it answers none.
    reply_serial: u32,
    body: Vec<u8>,
}

/// The answer to a call.
#[derive(Debug)]
pub(super) enum BusReply {
    Done(BusMessage),
    /// The name and the text of the error.
    Refused(String, String),
}

impl Bus {
    /// Connects to the first socket that answers our greeting. Each socket gets its share of the time.
    ///
    /// # Errors
    /// No socket answers, or a signal asks us to end.
    pub(super) fn connect(sockets: &[Socket], time: Duration) -> Result<Bus> {
        let deadline = Instant::now() + time;
        let share = time / u32::try_from(sockets.len()).unwrap_or(u32::MAX).max(1);
        let mut refused = Vec::new();
        for socket in sockets {
            let (path, daemon) = match socket {
                Socket::Own(path) => (path, Daemon::None),
                Socket::Daemon(path) => (path, Daemon::Between),
            };
            let name = path.to_string_lossy().replace('\0', "@");
            match wait::connect(path) {
                Ok(stream) => {
                    let mut bus = Bus { stream, deadline: Instant::now() + share, serial: 0, daemon };
                    match bus.greet() {
                        Ok(()) => return Ok(Bus { deadline, ..bus }),
                        Err(error) if matches!(error.kind(), Kind::Interrupted(_)) => return Err(error),
                        Err(error) => refused.push(format!("connect to {name}: {error}", error = in_words(&error))),
                    }
                }
                Err(error) => {
                    let word = in_words(&error);
                    let error = Error::from(error);
                    if matches!(error.kind(), Kind::Interrupted(_)) {
                        return Err(error);
                    }
                    refused.push(format!("connect to {name}: {word}"));
                }
            }
        }
        bail!(Kind::Systemd => "{}", refused.join("; "))
    }

    /// The kernel tells the other side who we are, so we send no uid. This works in a user namespace, too, where we do
    /// not know our uid outside.
    fn greet(&mut self) -> Result<()> {
        // All in one message, as systemd's own clients do. systemd would not read a call that arrives together with BEGIN.
        self.send(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        let mut heard = Vec::new();
        loop {
            let mut byte = [0u8; 1];
            self.receive(&mut byte)?;
            heard.push(byte[0]);
            if heard.ends_with(b"\r\n") {
                let line = String::from_utf8_lossy(&heard).trim().to_owned();
                match line.split(' ').next() {
                    Some("DATA") => heard.clear(),
                    Some("OK") => break,
                    _ => bail!(Kind::Systemd => "systemd refuses the connection: {line}"),
                }
            } else if heard.len() > 4096 {
                bail!(Kind::Systemd => "systemd does not speak D-Bus");
            }
        }
        if self.daemon == Daemon::Between {
            let bus = Method { path: "/org/freedesktop/DBus", interface: "org.freedesktop.DBus", name: "Hello" };
            self.call_and_wait("org.freedesktop.DBus", bus, &())?;
            let rule = "type='signal',sender='org.freedesktop.systemd1',member='JobRemoved'";
            self.call_and_wait("org.freedesktop.DBus", Method { name: "AddMatch", ..bus }, &rule)?;
            let manager = Method {
                path: "/org/freedesktop/systemd1",
                interface: "org.freedesktop.systemd1.Manager",
                name: "Subscribe",
            };
            self.call_and_wait("org.freedesktop.systemd1", manager, &())?;
        }
        Ok(())
    }

    fn call_and_wait<B: Serialize + Type>(&mut self, who: &str, method: Method<'_>, body: &B) -> Result<()> {
        let serial = self.call(who, method, body)?;
        match self.reply(serial)? {
            BusReply::Done(_) => Ok(()),
            BusReply::Refused(name, text) => bail!(Kind::Systemd => "{}: {name}: {text}", method.name),
        }
    }

    /// Sends a call. Does not wait for the answer.
    ///
    /// # Errors
    /// An error of the socket, or the deadline.
    pub(super) fn call<B: Serialize + Type>(&mut self, who: &str, method: Method<'_>, body: &B) -> Result<u32> {
        self.serial += 1;
        let body_bytes = to_bytes(Encoding::new(LE, 0), body).context("encode a call")?;
        let path = zbus::ObjectPath::try_from(method.path).context("encode a call")?;
        let mut fields = vec![
            (PATH, Field::Value(Variant::from(path))),
            (INTERFACE, Field::Value(Variant::from(method.interface))),
            (MEMBER, Field::Value(Variant::from(method.name))),
            (DESTINATION, Field::Value(Variant::from(who))),
        ];
        let signature = B::SIGNATURE.to_string_no_parens();
        if !signature.is_empty() {
            fields.push((SIGNATURE, Field::Signature(signature)));
        }
        let length = u32::try_from(body_bytes.bytes().len()).context("encode a call")?;
        let header = (b'l', CALL, 0u8, 1u8, length, self.serial, fields);
        let mut message = to_bytes(Encoding::new(LE, 0), &header).context("encode a call")?.bytes().to_vec();
        message.resize(message.len().next_multiple_of(8), 0);
        message.extend_from_slice(body_bytes.bytes());
        self.send(&message)?;
        Ok(self.serial)
    }

    /// Waits for the answer to a call. D-Bus signals that arrive before it are dropped.
    ///
    /// # Errors
    /// An error of the socket, or the deadline.
    pub(super) fn reply(&mut self, serial: u32) -> Result<BusReply> {
        loop {
            if let Ok(reply) = self.next()?.reply_to(serial) {
                return Ok(reply);
            }
        }
    }

    /// The next message of any type.
    ///
    /// # Errors
    /// An error of the socket, or the deadline.
    pub(super) fn next(&mut self) -> Result<BusMessage> {
        let mut fixed = [0u8; FIXED];
        self.receive(&mut fixed)?;
        if fixed[0] != b'l' {
            bail!(Kind::Systemd => "a message of systemd has an unsupported byte order");
        }
        let number = |n: usize| u32::from_le_bytes([fixed[n], fixed[n + 1], fixed[n + 2], fixed[n + 3]]) as usize;
        let (body, fields) = (number(4), number(12).next_multiple_of(8));
        if body.saturating_add(fields) > MOST {
            bail!(Kind::Systemd => "a message of {} bytes", body.saturating_add(fields));
        }
        let mut rest = vec![0u8; fields + body];
        self.receive(&mut rest)?;
        let header: Vec<u8> = fixed.iter().chain(&rest[..fields]).copied().collect();
        let data = Data::new(header, Encoding::new(LE, 0));
        type Header<'h> = (u8, u8, u8, u8, u32, u32, Vec<(u8, Variant<'h>)>);
        let (header, _): (Header<'_>, usize) = data.deserialize().context("decode a message")?;
        let mut message = BusMessage {
            kind: header.1,
            member: String::new(),
            error: String::new(),
            reply_serial: 0,
            body: rest[fields..].to_vec(),
        };
        for (field, value) in header.6 {
            match (field, &value) {
                (MEMBER, Variant::Str(text)) => message.member = text.to_string(),
                (ERROR_NAME, Variant::Str(text)) => message.error = text.to_string(),
                (REPLY_SERIAL, Variant::U32(serial)) => message.reply_serial = *serial,
                _ => {}
            }
        }
        Ok(message)
    }

    fn time_left(&self) -> Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(error!(Kind::Systemd => "systemd does not answer in time")) } else { Ok(left) }
    }

    fn send(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            self.stream.set_write_timeout(Some(self.time_left()?))?;
            match self.stream.write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if is_pause(&error) => {}
                Err(error) => return Err(error).context("write to systemd"),
            }
        }
        Ok(())
    }

    fn receive(&mut self, mut buffer: &mut [u8]) -> Result<()> {
        while !buffer.is_empty() {
            if !wait::readable(self.stream.as_fd(), Some(self.deadline))? {
                bail!(Kind::Systemd => "systemd does not answer in time");
            }
            match self.stream.read(buffer) {
                Ok(0) => bail!(Kind::Systemd => "systemd has closed the connection"),
                Ok(read) => buffer = &mut buffer[read..],
                Err(error) if is_pause(&error) => {}
                Err(error) => return Err(error).context("read from systemd"),
            }
        }
        Ok(())
    }
}

/// A header field. The signature of a body is that of its parts, one after the other. If we serialized the body as one
/// value, the signature would be that of a structure.
enum Field<'f> {
    Value(Variant<'f>),
    Signature(String),
}

impl Type for Field<'_> {
    const SIGNATURE: &'static zbus::Signature = &zbus::Signature::Variant;
}

impl Serialize for Field<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Field::Value(value) => value.serialize(serializer),
            Field::Signature(text) => {
                let mut variant = serializer.serialize_struct("Variant", 2)?;
                variant.serialize_field("signature", &zbus::Signature::Signature)?;
                variant.serialize_field("value", text)?;
                variant.end()
            }
        }
    }
}

fn is_pause(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

impl BusMessage {
    /// The answer to the call with this serial. Another message is returned as it is.
    pub(super) fn reply_to(self, serial: u32) -> Result<BusReply, BusMessage> {
        match self.kind {
            _ if self.reply_serial != serial => Err(self),
            REPLY => Ok(BusReply::Done(self)),
            ERROR => Ok(BusReply::Refused(self.error.clone(), self.body::<String>().unwrap_or_default())),
            _ => Err(self),
        }
    }

    /// True for a signal with this name.
    pub(super) fn is_signal(&self, member: &str) -> bool {
        self.kind == SIGNAL && self.member == member
    }

    /// Its body.
    pub(super) fn body<T: serde::de::DeserializeOwned + Type>(&self) -> Result<T> {
        let data = Data::new(self.body.clone(), Encoding::new(LE, 0));
        data.deserialize().map(|(body, _)| body).context("decode a message")
    }
}

/// A systemd that sends `bytes` and closes the connection: for fuzz/.
#[cfg(any(test, fuzzing))]
pub fn read_bytes(bytes: &[u8]) {
    let Ok((stream, mut other)) = UnixStream::pair() else { return };
    // Bytes that do not fit into the socket do not matter.
    let _ = other.set_nonblocking(true).and_then(|()| other.write(bytes).map(drop));
    drop(other);
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut bus = Bus { stream, deadline, serial: 1, daemon: Daemon::None };
    while let Ok(message) = bus.next() {
        let _ = (message.body::<String>(), message.body::<zbus::OwnedObjectPath>(), message.body::<(u32, String)>());
        let _ = message.reply_to(1).map(|answer| matches!(answer, BusReply::Refused(..)));
    }
}

/// A systemd that gives these answers to calls, one after the other: success, or the name and text of an error. At the end it
/// returns the calls, with their bodies.
#[cfg(test)]
pub(super) fn answering(
    answers: Vec<Option<(&'static str, &'static str)>>,
) -> (Bus, std::thread::JoinHandle<Vec<(String, String)>>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let bus =
        |stream| Bus { stream, deadline: Instant::now() + Duration::from_secs(10), serial: 0, daemon: Daemon::None };
    let mut theirs = bus(theirs);
    let systemd = std::thread::spawn(move || {
        let answer = |(serial, answer): (u32, Option<(&str, &str)>)| {
            let call = theirs.next().unwrap();
            let mut fields = vec![(REPLY_SERIAL, Field::Value(Variant::from(serial)))];
            let mut body = Vec::new();
            if let Some((name, text)) = answer {
                fields.push((ERROR_NAME, Field::Value(Variant::from(name))));
                fields.push((SIGNATURE, Field::Signature("s".to_owned())));
                body = to_bytes(Encoding::new(LE, 0), &text).unwrap().bytes().to_vec();
            }
            let kind = if answer.is_some() { ERROR } else { REPLY };
            let header = (b'l', kind, 0u8, 1u8, u32::try_from(body.len()).unwrap(), serial, fields);
            let mut message = to_bytes(Encoding::new(LE, 0), &header).unwrap().bytes().to_vec();
            message.resize(message.len().next_multiple_of(8), 0);
            message.extend(body);
            theirs.send(&message).unwrap();
            (call.member, String::from_utf8_lossy(&call.body).into_owned())
        };
        (1..).zip(answers).map(answer).collect()
    });
    (bus(ours), systemd)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    /// A systemd that sends these bytes and then nothing.
    fn mute(says: &'static [u8]) -> (tempfile::TempDir, Socket) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("private");
        let listener = UnixListener::bind(&path).unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(says).unwrap();
            let _ = stream.read_to_end(&mut Vec::new());
        });
        (directory, Socket::Own(path))
    }

    #[test]
    fn the_wait_for_an_answer_ends_at_the_deadline() {
        let time = Duration::from_millis(200);
        let in_time = |began: Instant| began.elapsed() >= time && began.elapsed() < Duration::from_secs(10);
        let (_directory, path) = mute(b"");
        let began = Instant::now();
        let error = Bus::connect(&[path], time).unwrap_err();
        assert_eq!(error.kind(), &Kind::Systemd);
        let said = error.to_string();
        assert!(in_time(began) && said.contains("does not answer in time"), "{said}");

        // It greets, and does not answer the call.
        let (_directory, path) = mute(b"DATA\r\nOK 0123456789abcdef0123456789abcdef\r\n");
        let began = Instant::now();
        let mut bus = Bus::connect(&[path], time).unwrap();
        let method = Method { path: "/", interface: "a.b", name: "C" };
        let serial = bus.call("a.b", method, &"text").unwrap();
        let said = bus.reply(serial).unwrap_err().to_string();
        assert!(in_time(began) && said.contains("does not answer in time"), "{said}");
    }

    #[test]
    fn a_closed_a_refused_and_a_missing_bus_are_different_errors() {
        let time = Duration::from_secs(10);
        let (_directory, path) = mute(b"REJECTED EXTERNAL\r\n");
        let said = Bus::connect(&[path], time).unwrap_err().to_string();
        assert!(said.contains("refuses the connection: REJECTED EXTERNAL"), "{said}");
        let gone = [Socket::Own("/nowhere/a".into()), Socket::Daemon("/nowhere/b".into())];
        let said = Bus::connect(&gone, time).unwrap_err().to_string();
        assert!(said.contains("connect to /nowhere/a: ") && said.contains("; connect to /nowhere/b: "), "{said}");
        // No process listens on the first socket, or it does not greet: the next one is tried.
        let (_directory, path) = mute(b"DATA\r\nOK 0123456789abcdef0123456789abcdef\r\n");
        assert!(Bus::connect(&[gone[0].clone(), path], time).is_ok());
        for (says, time) in [(&b"REJECTED EXTERNAL\r\n"[..], time), (&b""[..], Duration::from_secs(2))] {
            let (_directory, first) = mute(says);
            let (_directory, path) = mute(b"DATA\r\nOK 0123456789abcdef0123456789abcdef\r\n");
            assert!(Bus::connect(&[first, path], time).is_ok());
        }
    }
}
