//! The errors of the library: one text, from the place to the kernel's word, and the kind of failure as a value.

use std::fmt;

use crate::config::Faults;
use crate::printable;
use crate::status::Status;
use crate::sys::errno::{chain_in_words, in_words, words};
use crate::wait::Interrupted;

/// The result of the library's functions.
///
/// ```
/// use libcontainer::{Result, Root, Status};
///
/// fn status(id: &str) -> Result<Status> {
///     Root::open("examples/no-containers")?.load(id)?.status()
/// }
/// assert!(status("box").is_err());
/// ```
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure. Its text is complete: the place, what was tried, and why it failed. Its `source` adds nothing.
///
/// ```
/// use libcontainer::{Kind, Root};
///
/// let root = Root::open("examples/no-containers")?;
/// match root.load("box") {
///     Ok(container) => println!("{}", container.status()?),
///     Err(error) if *error.kind() == Kind::NotFound => println!("{error}"),
///     Err(error) => return Err(error),
/// }
/// # Ok::<(), libcontainer::Error>(())
/// ```
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    text: String,
    kind: Kind,
}

/// The kind of a failure.
///
/// ```
/// use libcontainer::{Kind, Update};
///
/// let error = Update::read(br#"{"pids": {"limit": "many"}}"#).unwrap_err();
/// assert!(matches!(error.kind(), Kind::Config(_)), "{error}");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A container with this id exists already.
    Exists,
    /// There is no container with this id.
    NotFound,
    /// The container's state does not allow the operation.
    State(Status),
    /// An argument of the call is wrong: an id, a root, a signal, a capability, a descriptor, a controller or a setting.
    InvalidArgument,
    /// config.json, a process object or a resources object has mistakes. This lists all of them, each with its place.
    Config(Faults),
    /// A step of the new process failed before the program began.
    Step(FailedStep),
    /// A hook failed, or did not end in time.
    Hook,
    /// A process was killed for lack of memory: the container's limit is too low.
    OutOfMemory,
    /// systemd refused, or did not answer.
    Systemd,
    /// This signal asked the process to end during a wait. SIGKILL stands for a `Stop` of another thread.
    Interrupted(i32),
    /// A system call failed with this errno.
    Os(i32),
    /// Another failure.
    Other,
}

/// A step that failed in the new process.
///
/// ```no_run
/// # fn main() -> libcontainer::Result<()> {
/// use libcontainer::{Bundle, Kind, Root};
///
/// let (root, bundle) = (Root::open("/run/coracle")?, Bundle::read("/bundles/box")?);
/// if let Err(error) = root.create("box", &bundle).create() {
///     if let Kind::Step(step) = error.kind() {
///         println!("{}: {} failed: {}", step.property, step.action, std::io::Error::from_raw_os_error(step.errno));
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailedStep {
    /// The place in config.json that the step comes from, or another origin.
    pub property: String,
    /// The action, in the words of `explain`.
    pub action: String,
    /// The kernel's errno.
    pub errno: i32,
    /// Further words of the kernel. Mostly empty.
    pub said: String,
}

impl Error {
    /// A failure of this kind. Its text is one line without control characters, whatever its parts contain.
    pub(crate) fn new(kind: Kind, text: impl fmt::Display) -> Error {
        Error(Box::new(Inner { text: printable::line(&text.to_string()).into_owned(), kind }))
    }

    /// Any error, with the texts of its sources.
    fn whole(kind: Kind, error: &(dyn std::error::Error + 'static)) -> Error {
        Error::new(kind, chain_in_words(std::iter::successors(Some(error), |error| error.source())))
    }

    /// The kind of the failure.
    pub fn kind(&self) -> &Kind {
        &self.0.kind
    }

    /// The same failure with this kind, unless it has a kind already.
    pub(crate) fn or_kind(mut self, kind: Kind) -> Error {
        if matches!(self.0.kind, Kind::Other | Kind::Os(_)) {
            self.0.kind = kind;
        }
        self
    }

    /// The same failure with `place` before its text.
    #[must_use]
    pub fn context(mut self, place: impl fmt::Display) -> Error {
        self.0.text = format!("{}: {}", printable::line(&place.to_string()), self.0.text);
        self
    }

    /// The same failure with another text, which may have several lines.
    pub(crate) fn reworded(mut self, text: impl fmt::Display) -> Error {
        self.0.text = printable::lines(&text.to_string()).into_owned();
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?})", self.0.text, self.0.kind)
    }
}

impl std::error::Error for Error {}

/// Converts an error of another crate.
macro_rules! from {
    ($($theirs:ty),* $(,)?) => { $(
        impl From<$theirs> for Error {
            fn from(error: $theirs) -> Error {
                Error::whole(Kind::Other, &error)
            }
        }
    )* };
}

from!(
    serde_json::Error,
    std::ffi::NulError,
    std::num::TryFromIntError,
    std::string::FromUtf8Error,
    jiff::Error,
    netlink_packet_core::DecodeError,
);

#[cfg(feature = "systemd")]
from!(zbus::wire::Error);

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Error {
        let stopped = error.get_ref().and_then(|inner| inner.downcast_ref::<Interrupted>());
        let kind = match (stopped, error.raw_os_error()) {
            (Some(Interrupted::Signal(signal)), _) => Kind::Interrupted(*signal),
            (Some(Interrupted::Stop), _) => Kind::Interrupted(libc::SIGKILL),
            (_, Some(errno)) => Kind::Os(errno),
            (_, None) => Kind::Other,
        };
        Error::whole(kind, &error)
    }
}

impl From<rustix::io::Errno> for Error {
    fn from(errno: rustix::io::Errno) -> Error {
        Error::new(Kind::Os(errno.raw_os_error()), words(errno))
    }
}

impl From<nix::errno::Errno> for Error {
    fn from(errno: nix::errno::Errno) -> Error {
        // nix loses the number of an errno that it does not know
        let kind = if errno == nix::errno::Errno::UnknownErrno { Kind::Other } else { Kind::Os(errno as i32) };
        Error::new(kind, in_words(&errno))
    }
}

impl From<Interrupted> for Error {
    fn from(stopped: Interrupted) -> Error {
        let kind = match &stopped {
            Interrupted::Signal(signal) => Kind::Interrupted(*signal),
            Interrupted::Stop => Kind::Interrupted(libc::SIGKILL),
            Interrupted::Errno(errno) => Kind::Os(errno.raw_os_error()),
        };
        Error::new(kind, stopped)
    }
}

impl From<Faults> for Error {
    fn from(faults: Faults) -> Error {
        let text = faults.to_string();
        // One mistake on each line.
        Error::new(Kind::Config(faults), "").reworded(text)
    }
}

/// Adds the place to a failure.
pub(crate) trait Context<T> {
    /// `place: error`.
    fn context(self, place: impl fmt::Display) -> Result<T>;

    /// The same for a place that is costly to compute.
    fn with_context<D: fmt::Display>(self, place: impl FnOnce() -> D) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for Result<T, E> {
    fn context(self, place: impl fmt::Display) -> Result<T> {
        self.map_err(|error| error.into().context(place))
    }

    fn with_context<D: fmt::Display>(self, place: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|error| error.into().context(place()))
    }
}

/// A failure: `error!("{place}: {word}")`, or with a kind: `error!(Kind::Hook => "{place}: {word}")`.
macro_rules! error {
    ($text:literal $($rest:tt)*) => {
        $crate::error::Error::new($crate::error::Kind::Other, format_args!($text $($rest)*))
    };
    ($kind:expr => $text:literal $($rest:tt)*) => {
        $crate::error::Error::new($kind, format_args!($text $($rest)*))
    };
    ($kind:expr => $said:expr) => { $crate::error::Error::new($kind, $said) };
    ($said:expr) => { $crate::error::Error::new($crate::error::Kind::Other, $said) };
}

/// Returns such a failure.
macro_rules! bail {
    ($($failure:tt)*) => { return Err($crate::error::error!($($failure)*)) };
}

pub(crate) use {bail, error};

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn a_text_is_whole_and_its_kind_stays() {
        let failed: Result<(), Errno> = Err(Errno::NOENT);
        let error = failed.context("open /nowhere").with_context(|| format!("mounts[{}]", 3)).unwrap_err();
        assert_eq!(error.to_string(), "mounts[3]: open /nowhere: no such file or directory (ENOENT)");
        assert_eq!(*error.kind(), Kind::Os(libc::ENOENT));
        let stopped = std::io::Error::other(Interrupted::Signal(libc::SIGTERM));
        assert_eq!(*Error::from(stopped).kind(), Kind::Interrupted(libc::SIGTERM));
        let hostile = error!("a\x1b[2J").context("b\nc").to_string();
        assert_eq!(hostile, "b\\nc: a\\u{1b}[2J");
        let error = error!(Kind::Hook => "{}", 1).or_kind(Kind::Systemd);
        assert_eq!((error.kind(), error.to_string()), (&Kind::Hook, "1".to_owned()));
    }
}
