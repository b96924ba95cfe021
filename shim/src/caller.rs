//! The address of an answer: the connection and the stream of the call.

use crate::poll::Token;

/// Identifies a call that has to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) connection: Token,
    pub(crate) stream: u32,
}
