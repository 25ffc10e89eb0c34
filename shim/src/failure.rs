//! What an answer says that is none: a code of gRPC, which containerd turns into its own kinds, and the words that users see.

use std::fmt::Display;

use libcontainer::Kind;

use crate::messages::google::Status;

/// Of everything that is asked for over ttrpc.
pub type Answer<T> = Result<T, Status>;

/// The codes that containerd knows (google.rpc.Code).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Code {
    Unknown = 2,
    InvalidArgument = 3,
    NotFound = 5,
    AlreadyExists = 6,
    FailedPrecondition = 9,
    Unimplemented = 12,
}

/// A failure of that code.
pub fn failure(code: Code, message: impl Display) -> Status {
    Status { code: code as i32, message: message.to_string() }
}

/// A failure of the library: `what` failed, and why.
pub fn of_runtime(what: &str, error: &libcontainer::Error) -> Status {
    let code = match error.kind() {
        Kind::Exists => Code::AlreadyExists,
        Kind::NotFound => Code::NotFound,
        _ => Code::Unknown,
    };
    failure(code, format_args!("{what}: {error}"))
}
