//! Whom to answer: a call on a connection.

use crate::poll::Token;

/// Whom to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) connection: Token,
    pub(crate) stream: u32,
}
