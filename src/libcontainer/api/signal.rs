//! Signals by name.

use nix::sys::signal::Signal;

use crate::container::Container;
use crate::error::{Kind, Result, error};

/// The annotation of an image with the signal that stops its program.
pub const STOP_SIGNAL: &str = "org.opencontainers.image.stopSignal";

impl Container {
    /// The signal that stops its program: that of its image, or SIGTERM.
    pub fn stop_signal(&self) -> i32 {
        let annotations = self.record().annotations();
        let image = annotations.get(STOP_SIGNAL).and_then(|name| signal_by_name(name).ok());
        image.unwrap_or(libc::SIGTERM)
    }
}

/// The number of a signal: `TERM`, `SIGTERM`, `term`, `15`, `RTMIN+3`.
///
/// ```
/// assert_eq!(libcontainer::signal_by_name("SIGTERM")?, 15);
/// assert_eq!(libcontainer::signal_by_name("rtmin+3")?, 37);
/// assert!(libcontainer::signal_by_name("NOPE").is_err());
/// # Ok::<(), libcontainer::Error>(())
/// ```
///
/// # Errors
/// The name is unknown.
pub fn signal_by_name(text: &str) -> Result<i32> {
    let unknown = || error!(Kind::InvalidArgument => "unknown signal {text:?}");
    if let Ok(number) = text.parse::<i32>() {
        return if (0..=64).contains(&number) { Ok(number) } else { Err(unknown()) };
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let realtime = |base: i32, rest: &str, sign: i32| {
        let offset = if rest.is_empty() { 0 } else { rest[1..].parse::<i32>().ok()? };
        base.checked_add(offset.checked_mul(sign)?).filter(|number| (34..=64).contains(number))
    };
    if let Some(rest) = name.strip_prefix("RTMIN").filter(|rest| rest.is_empty() || rest.starts_with('+')) {
        return realtime(34, rest, 1).ok_or_else(unknown);
    }
    if let Some(rest) = name.strip_prefix("RTMAX").filter(|rest| rest.is_empty() || rest.starts_with('-')) {
        return realtime(64, rest, -1).ok_or_else(unknown);
    }
    let name = match name {
        "IOT" => "ABRT",
        "POLL" => "IO",
        "CLD" => "CHLD",
        other => other,
    };
    format!("SIG{name}").parse::<Signal>().map(|signal| signal as i32).map_err(|_| unknown())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_signal_has_many_names() {
        for (text, expected) in [
            ("15", 15),
            ("TERM", 15),
            ("SIGTERM", 15),
            ("sigkill", 9),
            ("0", 0),
            ("RTMIN+3", 37),
            ("SIGRTMIN", 34),
            ("SIGRTMAX-1", 63),
            ("64", 64),
        ] {
            assert_eq!(super::signal_by_name(text).unwrap(), expected, "{text}");
        }
        for bad in ["", "NOPE", "65", "-1", "RTMIN+99", "15x", "RTMIN+2147483647", "RTMAX--2147483648"] {
            assert!(super::signal_by_name(bad).is_err(), "{bad}");
        }
    }
}
