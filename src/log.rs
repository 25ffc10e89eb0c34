//! Log lines in the form of runc: at the place that --log names, as text or JSON. A failure leaves exactly one record
//! in a file, because podman reads the whole file as one JSON object. So warnings wait until the command has succeeded.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use libcontainer::in_words;
use libcontainer::internals::lines;

use crate::cli::Global;
use crate::flags;

/// The importance of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// A failure.
    Error,
    /// A warning after which the command goes on.
    Warning,
    /// A level that clients may select. coracle has no records of it.
    Info,
    /// The actions of coracle, for debugging.
    Debug,
}

impl Level {
    /// The level with this name.
    pub fn named(name: &str) -> Option<Level> {
        match name.to_ascii_lowercase().as_str() {
            "error" | "fatal" => Some(Level::Error),
            "warning" | "warn" => Some(Level::Warning),
            "info" => Some(Level::Info),
            "debug" | "trace" => Some(Level::Debug),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warning => "warning",
            Level::Info => "info",
            Level::Debug => "debug",
        }
    }

    /// The number of the level for syslog(3).
    fn priority(self) -> u8 {
        match self {
            Level::Error => 3,
            Level::Warning => 4,
            Level::Info => 6,
            Level::Debug => 7,
        }
    }
}

/// The form of a record (--log-format).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Text,
    Json,
}

/// Where records go besides standard error.
#[derive(Debug)]
enum Sink {
    File(File),
    /// The journal's socket, and the name of the program in it.
    Journal(UnixDatagram, String),
    /// syslog's socket, and the name of the program in it.
    Syslog(UnixDatagram, String),
}

/// Where and how records are written.
#[derive(Debug)]
pub struct Log {
    sink: Option<Sink>,
    journal: Option<Sink>,
    format: Format,
    level: Level,
    /// Warnings for the file, while the command may still fail.
    held: Mutex<Option<Vec<String>>>,
}

/// Writes to standard error. It is not an error if the reader has closed it.
pub fn say(text: &str) {
    let _ = std::io::stderr().write_all(lines(text).as_bytes());
}

impl Log {
    /// Opens the place that `--log` names. If the journal does not exist, a message goes to standard error.
    ///
    /// # Errors
    /// `--log` names a file that cannot be opened. runc and crun fail then, too.
    pub fn open(global: &Global) -> Result<Log, String> {
        let file = match &global.log {
            Some(path) => Sink::open(path).map_err(|error| format!("--log: {error}"))?,
            None => None,
        };
        Ok(Log::to(file, global))
    }

    /// The log on standard error, for failures before the other log is open.
    pub fn on_standard_error(global: &Global) -> Log {
        Log::to(None, global)
    }

    fn to(sink: Option<Sink>, global: &Global) -> Log {
        let journal = global.systemd_log.then(|| if_there("systemd-log", Sink::journal("coracle"))).flatten();
        let named = global.log_level.as_deref().and_then(Level::named).unwrap_or(Level::Warning);
        let level = if global.debug { Level::Debug } else { named };
        // Debug records must be in order. With them, no program reads the file as one object.
        let holds = matches!(sink, Some(Sink::File(_))) && level < Level::Debug;
        let format = if global.log_format == "json" { Format::Json } else { Format::Text };
        let held = Mutex::new(holds.then(Vec::new));
        Log { sink, journal, format, level, held }
    }

    fn held(&self) -> MutexGuard<'_, Option<Vec<String>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the failure: one record, and its bare text on standard error, too.
    pub fn error(&self, message: &str) {
        let message = flags::in_flags(message);
        let message = &*lines(&message);
        for warning in self.held().take().unwrap_or_default() {
            say(&format!("coracle: warning: {warning}\n"));
        }
        self.write(self.journal.as_ref(), Level::Error, message);
        self.write(self.sink.as_ref(), Level::Error, message);
        match &self.sink {
            Some(_) => say(&format!("{message}\n")),
            None if self.format == Format::Json => say(&line(Format::Json, Level::Error, message)),
            // Test suites and callers of conmon look for the word "error".
            None => {
                let named = ["coracle: ", "coracle "].iter().find_map(|name| message.strip_prefix(name));
                say(&format!("coracle: error: {}\n", named.unwrap_or(message)));
            }
        }
    }

    /// Writes a warning. It goes to standard error only without `--log`: during `create`, standard error is the
    /// container's.
    pub fn warning(&self, message: &str) {
        if self.level < Level::Warning {
            return;
        }
        let message = flags::in_flags(message);
        let message = &*lines(&message);
        self.write(self.journal.as_ref(), Level::Warning, message);
        match (&mut *self.held(), &self.sink) {
            (Some(held), _) => held.push(message.to_owned()),
            (None, None) if self.level < Level::Debug && self.format == Format::Text => {
                say(&format!("coracle: warning: {message}\n"))
            }
            (None, sink) => self.record(sink.as_ref(), Level::Warning, message),
        }
    }

    /// The command can no longer fail. Warnings go into the file, from now on at once.
    pub fn worked(&self) {
        for warning in self.held().take().unwrap_or_default() {
            self.write(self.sink.as_ref(), Level::Warning, &warning);
        }
    }

    /// Writes what coracle does, if the level is debug.
    pub fn debug(&self, message: impl FnOnce() -> String) {
        if self.level == Level::Debug {
            let message = lines(&flags::in_flags(&message())).into_owned();
            self.write(self.journal.as_ref(), Level::Debug, &message);
            self.record(self.sink.as_ref(), Level::Debug, &message);
        }
    }

    /// True if the level is debug.
    pub fn is_debug(&self) -> bool {
        self.level == Level::Debug
    }

    /// Writes to the sink, or a line to standard error.
    fn record(&self, sink: Option<&Sink>, level: Level, message: &str) {
        match sink {
            Some(_) => self.write(sink, level, message),
            None => say(&line(self.format, level, message)),
        }
    }

    fn write(&self, sink: Option<&Sink>, level: Level, message: &str) {
        if let Err(error) = sink.map_or(Ok(()), |sink| sink.write(self.format, level, message)) {
            say(&format!("coracle: --log: {error}: {message}\n", error = in_words(&error)));
        }
    }
}

impl Sink {
    /// Opens the place that `--log` names: a path, or with a prefix something else, as in crun. As in crun, a
    /// missing journal or syslog is not an error.
    fn open(path: &Path) -> Result<Option<Sink>, String> {
        let text = path.to_str().unwrap_or_default();
        let name = |given: &str| if given.is_empty() { "coracle".to_owned() } else { given.to_owned() };
        if let Some(given) = text.strip_prefix("journald:") {
            return Ok(if_there(&format!("log {text}"), Sink::journal(&name(given))));
        }
        if let Some(given) = text.strip_prefix("syslog:") {
            let socket = connect("/dev/log").map(|socket| Sink::Syslog(socket, name(given)));
            return Ok(if_there(&format!("log {text}"), socket));
        }
        let path = text.strip_prefix("file:").map_or(path, Path::new);
        // A fifo without a reader is an error at once, and a full fifo loses a record: coracle does not wait for a log.
        match OpenOptions::new().create(true).append(true).custom_flags(libc::O_NONBLOCK).open(path) {
            Ok(file) => Ok(Some(Sink::File(file))),
            Err(error) => {
                let is_fifo = || path.metadata().is_ok_and(|metadata| metadata.file_type().is_fifo());
                let said = match error.raw_os_error() {
                    Some(libc::ENXIO) if is_fifo() => "no process reads this fifo".to_owned(),
                    _ => in_words(&error),
                };
                Err(format!("open {}: {said}", path.display()))
            }
        }
    }

    fn journal(name: &str) -> std::io::Result<Sink> {
        Ok(Sink::Journal(connect("/run/systemd/journal/socket")?, name.to_owned()))
    }

    fn write(&self, format: Format, level: Level, message: &str) -> std::io::Result<()> {
        match self {
            Sink::File(file) => {
                let mut file = file;
                file.write_all(line(format, level, message).as_bytes())
            }
            Sink::Journal(socket, name) => socket.send(&entry(name, level, message)).map(drop),
            Sink::Syslog(socket, name) => {
                // facility 1: user-level messages
                let text = format!("<{}>{name}: {}", 8 + level.priority(), message.replace('\n', "; "));
                socket.send(text.as_bytes()).map(drop)
            }
        }
    }
}

/// A socket of the host. If it is missing, a message goes to standard error.
fn if_there(option: &str, sink: std::io::Result<Sink>) -> Option<Sink> {
    sink.inspect_err(|error| say(&format!("coracle: --{option}: {error}\n", error = in_words(error)))).ok()
}

fn connect(path: &str) -> std::io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    // If the queue is full, a record is lost, and a message goes to standard error.
    socket.set_nonblocking(true)?;
    socket.connect(path).map_err(|error| {
        std::io::Error::new(error.kind(), format!("connect to {path}: {error}", error = in_words(&error)))
    })?;
    Ok(socket)
}

/// One entry of systemd's journal in its native protocol: the length comes before a value of several lines.
fn entry(name: &str, level: Level, message: &str) -> Vec<u8> {
    let mut entry = format!("PRIORITY={}\nSYSLOG_IDENTIFIER={name}\nMESSAGE\n", level.priority()).into_bytes();
    entry.extend((message.len() as u64).to_le_bytes());
    entry.extend(message.as_bytes());
    entry.push(b'\n');
    entry
}

/// One record, in one line.
fn line(format: Format, level: Level, message: &str) -> String {
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
    let level = level.name();
    if format == Format::Json {
        let message = serde_json::Value::from(message);
        format!("{{\"level\":\"{level}\",\"msg\":{message},\"time\":\"{now}\"}}\n")
    } else {
        format!("time=\"{now}\" level={level} msg={message:?}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_of_the_journal_keeps_its_lines() {
        let entry = entry("x", Level::Error, "a\nb");
        assert_eq!(entry, b"PRIORITY=3\nSYSLOG_IDENTIFIER=x\nMESSAGE\n\x03\0\0\0\0\0\0\0a\nb\n");
    }

    #[test]
    fn a_record_is_one_line_whatever_it_says() {
        for format in [Format::Json, Format::Text] {
            assert_eq!(line(format, Level::Warning, "a\n\"b\"").matches('\n').count(), 1);
        }
        let record: serde_json::Value = serde_json::from_str(&line(Format::Json, Level::Error, "a\n\"b\"")).unwrap();
        assert_eq!((&record["level"], &record["msg"]), (&"error".into(), &"a\n\"b\"".into()));
    }

    #[test]
    fn levels_are_in_order() {
        assert!(Level::Error < Level::Warning && Level::Warning < Level::Debug);
        assert_eq!(Level::named("WARN"), Some(Level::Warning));
        assert_eq!(Level::named("loud"), None);
    }
}
