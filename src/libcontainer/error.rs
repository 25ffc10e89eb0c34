//! What went wrong: one text, from the place to the kernel's word, and the kind of it as a value.

use std::fmt;

use crate::config::Faults;
use crate::container::Status;
use crate::wait::Stopped;

/// Of the library's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure. Its text is whole: the place, what was tried, and why it failed. There is nothing to add from a source.
///
/// ```no_run
/// use libcontainer::Kind;
///
/// # fn main() -> libcontainer::Result<()> {
/// # let root = libcontainer::Root::open("/run/coracle")?;
/// match root.load("box") {
///     Ok(container) => println!("{}", container.status()?),
///     Err(error) if *error.kind() == Kind::NotFound => println!("there is no such container"),
///     Err(error) => return Err(error),
/// }
/// # Ok(())
/// # }
/// ```
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    text: String,
    kind: Kind,
}

/// What kind of failure it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// There is a container of that id already.
    Exists,
    /// There is no container of that id.
    NotFound,
    /// The container's state does not allow it.
    State(Status),
    /// config.json, a process object or a resources object has mistakes: all of them, each with its place.
    Config(Faults),
    /// A step on the way to the program failed in the new process.
    Step(FailedStep),
    /// A hook failed, or did not end in its time.
    Hook,
    /// A process was killed for want of memory: the container's limit is too low.
    OutOfMemory,
    /// systemd refused, or did not answer.
    Systemd,
    /// This signal asked us to end while we waited.
    Interrupted(i32),
    /// A system call failed with this errno.
    Os(i32),
    /// None of these.
    Other,
}

/// A step that failed in the new process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailedStep {
    /// The place in config.json that asked for it, or what else did.
    pub property: String,
    /// What was done, in the words of `explain`.
    pub action: String,
    /// Why it failed.
    pub errno: i32,
    /// What the kernel said beside it; mostly nothing.
    pub said: String,
}

impl Error {
    /// A failure of that kind.
    pub(crate) fn of(kind: Kind, text: impl fmt::Display) -> Error {
        Error(Box::new(Inner { text: text.to_string(), kind }))
    }

    /// Anything that is an error, with its sources behind it.
    fn whole(kind: Kind, error: &dyn std::error::Error) -> Error {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            text = format!("{text}: {error}");
            source = error.source();
        }
        Error::of(kind, text)
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> &Kind {
        &self.0.kind
    }

    /// The same failure, of that kind unless it has one already.
    pub(crate) fn or_kind(mut self, kind: Kind) -> Error {
        if matches!(self.0.kind, Kind::Other | Kind::Os(_)) {
            self.0.kind = kind;
        }
        self
    }

    /// The same failure, with `place` before it.
    pub(crate) fn context(mut self, place: impl fmt::Display) -> Error {
        self.0.text = format!("{place}: {}", self.0.text);
        self
    }

    /// The same failure, in other words.
    pub(crate) fn reworded(mut self, text: impl fmt::Display) -> Error {
        self.0.text = text.to_string();
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

/// What an error of somebody else's is to us.
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
    zbus::wire::Error,
    jiff::Error,
    netlink_packet_core::DecodeError,
);

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Error {
        let stopped = error.get_ref().and_then(|inner| inner.downcast_ref::<Stopped>());
        let kind = match (stopped, error.raw_os_error()) {
            (Some(Stopped::Signal(signal)), _) => Kind::Interrupted(*signal),
            (_, Some(errno)) => Kind::Os(errno),
            (_, None) => Kind::Other,
        };
        Error::whole(kind, &error)
    }
}

impl From<rustix::io::Errno> for Error {
    fn from(errno: rustix::io::Errno) -> Error {
        Error::of(Kind::Os(errno.raw_os_error()), errno)
    }
}

impl From<nix::errno::Errno> for Error {
    fn from(errno: nix::errno::Errno) -> Error {
        Error::of(Kind::Os(errno as i32), errno)
    }
}

impl From<Stopped> for Error {
    fn from(stopped: Stopped) -> Error {
        let kind = match &stopped {
            Stopped::Signal(signal) => Kind::Interrupted(*signal),
            Stopped::Errno(errno) => Kind::Os(errno.raw_os_error()),
        };
        Error::of(kind, stopped)
    }
}

impl From<Faults> for Error {
    fn from(faults: Faults) -> Error {
        let text = faults.to_string();
        Error::of(Kind::Config(faults), text)
    }
}

/// The place of a failure, said before it.
pub(crate) trait Context<T> {
    /// `place: error`.
    fn context(self, place: impl fmt::Display) -> Result<T>;

    /// The same, where the place costs something to say.
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

/// A failure: `error!("{place}: {word}")`, or of a kind, `error!(Kind::Hook => "{place}: {word}")`.
macro_rules! error {
    ($text:literal $($rest:tt)*) => {
        $crate::error::Error::of($crate::error::Kind::Other, format_args!($text $($rest)*))
    };
    ($kind:expr => $text:literal $($rest:tt)*) => {
        $crate::error::Error::of($kind, format_args!($text $($rest)*))
    };
    ($kind:expr => $said:expr) => { $crate::error::Error::of($kind, $said) };
    ($said:expr) => { $crate::error::Error::of($crate::error::Kind::Other, $said) };
}

/// Returns it.
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
        assert_eq!(error.to_string(), "mounts[3]: open /nowhere: No such file or directory (os error 2)");
        assert_eq!(*error.kind(), Kind::Os(libc::ENOENT));
        let stopped = std::io::Error::other(Stopped::Signal(libc::SIGTERM));
        assert_eq!(*Error::from(stopped).kind(), Kind::Interrupted(libc::SIGTERM));
        let error = error!(Kind::Hook => "{}", 1).or_kind(Kind::Systemd);
        assert_eq!((error.kind(), error.to_string()), (&Kind::Hook, "1".to_owned()));
    }
}
