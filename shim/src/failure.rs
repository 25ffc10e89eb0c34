//! A failed answer: a gRPC code, which containerd maps to its own errors, and the text for users.

use std::fmt::Display;

use libcontainer::Kind;

use crate::messages::google::Status;

/// The result of every ttrpc request.
pub type Answer<T> = Result<T, Status>;

/// The codes that containerd knows (google.rpc.Code).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Code {
    Unknown = 2,
    InvalidArgument = 3,
    NotFound = 5,
    AlreadyExists = 6,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Unimplemented = 12,
    Unavailable = 14,
}

/// A failure of that code.
pub fn failure(code: Code, message: impl Display) -> Status {
    Status { code: code as i32, message: message.to_string() }
}

/// A failure because requests come faster than they are performed.
pub fn too_many() -> Status {
    failure(Code::ResourceExhausted, "too many requests are waiting")
}

/// A failure of the library: `what` failed, and why.
pub fn of_runtime(what: &str, error: &libcontainer::Error) -> Status {
    let code = match error.kind() {
        Kind::Exists => Code::AlreadyExists,
        Kind::NotFound => Code::NotFound,
        Kind::InvalidArgument => Code::InvalidArgument,
        _ => Code::Unknown,
    };
    failure(code, format_args!("{what}: {error}"))
}
