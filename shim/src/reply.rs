//! The destination of an answer.

use crate::poll::Token;

/// The caller, and the stream for the answer.
#[derive(Clone, Copy, Debug)]
pub struct Reply {
    pub connection: Token,
    pub stream: u32,
}
