//! Log lines as runc writes them: where --log says, in text or JSON. On failure exactly one error record, because podman
//! reads the whole file as one JSON object.

use std::fs::{File, OpenOptions};
use std::io::Write;

use crate::cli::Global;

/// Where and how it is logged.
#[derive(Debug)]
pub struct Log {
    file: Option<File>,
    json: bool,
    debug: bool,
}

impl Log {
    /// Opens what `--log` names. A file that cannot be opened is said on standard error, and that is where it is logged.
    pub fn open(global: &Global) -> Log {
        let path = global.log.as_ref().map(|path| match path.to_str().and_then(|text| text.strip_prefix("file:")) {
            Some(plain) => plain.into(),
            None => path.clone(),
        });
        let file = path.and_then(|path| {
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(&path)
                .inspect_err(|error| eprintln!("--log: open {}: {error}", path.display()))
                .ok()
        });
        let debug = global.debug || global.log_level.as_deref() == Some("debug");
        Log { file, json: global.log_format == "json", debug }
    }

    /// The failure: one record, and its bare text on standard error as well.
    pub fn error(&self, message: &str) {
        if let Some(file) = &self.file {
            self.record(file, "error", message);
            eprintln!("{message}");
        } else if self.json {
            eprint!("{}", line(self.json, "error", message));
        } else {
            eprintln!("coracle: {message}");
        }
    }

    /// Something to know. The file is for failures, unless debugging: podman reads one object from it.
    pub fn warning(&self, message: &str) {
        match &self.file {
            Some(file) if self.debug => self.record(file, "warning", message),
            _ if self.json => eprint!("{}", line(true, "warning", message)),
            _ => eprintln!("coracle: warning: {message}"),
        }
    }

    fn record(&self, mut file: &File, level: &str, message: &str) {
        let text = line(self.json, level, message);
        if let Err(error) = file.write_all(text.as_bytes()) {
            eprintln!("--log: {error}: {text}");
        }
    }
}

/// One record, in one line.
fn line(json: bool, level: &str, message: &str) -> String {
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
    if json {
        let message = serde_json::Value::from(message);
        format!("{{\"level\":\"{level}\",\"msg\":{message},\"time\":\"{now}\"}}\n")
    } else {
        format!("time=\"{now}\" level={level} msg={message:?}\n")
    }
}
