//! Errors of a client. Each is one that its caller can do something about.

use std::io;

use voltlane_core::client::End;

use super::DropCause;

/// Why a client did not come to an edge.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No session began within the time that the options allow.
    #[error("no edge answered in time: {last}")]
    Unreachable {
        /// Why the last attempt failed.
        #[source]
        last: DropCause,
    },
    /// The edge, or this client, does not want the session.
    #[error("the session ended before it began: {0}")]
    Ended(End),
    /// An option, or the address, is wrong.
    #[error("{0}")]
    Config(String),
    /// A file that an option names cannot be read, or the system has no resources.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Why a packet was not sent. The caller still has it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The packet is longer than the edge takes.
    #[error("packet of {length} bytes, {max} allowed (`clients.max_frame_bytes` of the edge)")]
    TooLong {
        /// The length of the packet in bytes.
        length: usize,
        /// The maximum length in bytes.
        max: usize,
    },
    /// As much is unacknowledged as may be. Only [`try_send`](super::ClientSender::try_send) says it; [`send`](super::ClientSender::send)
    /// waits.
    #[error("no room: too much is unacknowledged")]
    NoRoom,
    /// The session is over, or this client says goodbye.
    #[error("the session is over: {0}")]
    Ended(End),
}
