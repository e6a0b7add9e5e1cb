//! What can go wrong for a client, by whose fault it is.

use core::time::Duration;

use crate::ClientId;
use crate::keys::KeyError;
use crate::v2::packets::HandshakeError;
use crate::wire::frame::FrameTooLong;

use super::State;

/// What a [`Client`](super::Client) tells its application. A packet is lent from the bytes that brought it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A new session began: the edge and the backend know this client by `id`.
    Connected {
        /// The id that the edge gave.
        id: ClientId,
    },
    /// A packet of the backend.
    Packet(&'a [u8]),
    /// A connection, or the attempt to make one, ended. The client tries again by itself.
    Dropped {
        /// Why.
        cause: DropCause,
        /// How long it waits before it connects again.
        retry_in: Duration,
    },
    /// The session goes on over a new connection, under the id it had.
    Resumed {
        /// The id.
        id: ClientId,
    },
    /// The session does not go on, and the client tries no more until [`start_over`](super::Client::start_over).
    Refused(Refusal),
}

/// Why a session does not go on. No network error is among them: those are tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// The edge does not know the session, any more or at all: its challenges were not sealed for this client,
    /// [`MAX_UNPROVABLE_CHALLENGES`](super::MAX_UNPROVABLE_CHALLENGES) in a row. The session is forgotten here too.
    #[error(
        "the edge does not know the session: it has expired, the backend has ended it, or the edge was restarted"
    )]
    UnknownOrExpired,
    /// The edge's public key is not the one of the first connection: another edge, one that lost its key, or somebody
    /// in between. Nothing was said to it. The session is kept, and [`saved_session`](super::Client::saved_session)
    /// still gives it.
    #[error(
        "the edge's public key is not the one that the session began with: it was restarted without a key file, or \
         another program answers in its place"
    )]
    EdgeKeyChanged,
}

/// Why a connection ended, or did not come about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DropCause {
    /// The transport could not be opened.
    #[error("could not connect")]
    ConnectFailed,
    /// The transport was not open after [`connect_timeout`](super::ClientConfig::connect_timeout).
    #[error("connecting took too long")]
    ConnectTimeout,
    /// The handshake was not done after [`handshake_timeout`](super::ClientConfig::handshake_timeout).
    #[error("the handshake took too long")]
    HandshakeTimeout,
    /// The edge closed the connection in order.
    #[error("the edge closed the connection")]
    ClosedByEdge,
    /// The transport broke.
    #[error("the connection broke")]
    Transport,
    /// The edge, or whoever answered, does not speak the protocol; or, with [`Violation::UnprovableChallenge`], it does
    /// not know the session.
    #[error("{}{_0}", if *_0 == Violation::UnprovableChallenge { "" } else { "protocol violation: " })]
    Violation(#[from] Violation),
    /// [`drop_connection`](super::Client::drop_connection) was called.
    #[error("dropped by this client")]
    Local,
}

/// What the other side sent that an edge does not send there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A frame above the bound: 128 bytes in the handshake, then
    /// [`max_receive_bytes`](super::ClientConfig::max_receive_bytes).
    #[error(transparent)]
    FrameTooLong(#[from] FrameTooLong),
    /// A handshake packet that is none.
    #[error(transparent)]
    Malformed(#[from] HandshakeError),
    /// A handshake packet out of turn.
    #[error("{packet} in state {state:?}")]
    Unexpected {
        /// Where the handshake was.
        state: State,
        /// The packet's name in SPEC.txt.
        packet: &'static str,
    },
    /// The edge's public key is none.
    #[error("edge key: {0}")]
    EdgeKey(#[from] KeyError),
    /// A challenge that does not open under the session's key, does not hold 32 bytes, or that this client sealed itself.
    /// An edge answers so to a claim of a session that it does not know, one from before its restart for example.
    #[error("the edge gives no challenge for this session, which it may not know any more")]
    UnprovableChallenge,
}

/// A packet that was not queued. The caller still has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Longer than a packet may be, whatever the queue holds.
    #[error("packet of {length} bytes, {max} allowed")]
    TooLong {
        /// Bytes of the packet.
        length: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// No room: try again once some of the queue was written.
    #[error("the send queue is full")]
    QueueFull,
    /// There is no session to send it in.
    #[error("no session: {0}")]
    Refused(#[from] Refusal),
}

/// How a transport ended, as far as the adapter can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Closed {
    /// In order: the stream's end was read (FIN).
    Eof,
    /// By a reset, a timeout or any other error.
    Error,
}
