//! The events and errors of a client, sorted by who is at fault.

use core::time::Duration;

use crate::ClientId;
pub use crate::end::End;
use crate::keys::KeyError;
use crate::protocol::{Breach, Code, Gap};
use crate::wire::frame::FrameTooLong;
use crate::wire::varint::HandshakeError;

use super::State;

/// An event of a [`Client`](super::Client) for its application. A packet is borrowed from the received bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "an adapter has to handle each one")]
pub enum Event<'a> {
    /// A new session began. The edge and the backend know this client by `id`.
    ///
    /// It comes again, with another id, if the edge had no room for the session before anything was delivered.
    Connected {
        /// The id that the edge assigned.
        id: ClientId,
    },
    /// The backend sent a packet.
    Packet {
        /// Its bytes.
        data: &'a [u8],
        /// Its number, which is 0 for a volatile packet. Version 2 has no numbers: they count what has come.
        number: u64,
    },
    /// Packets that will not come. (Version 3)
    Gap(Gap),
    /// Volatile packets that were not sent before the next one. (Version 3)
    Skipped {
        /// How many.
        count: u64,
    },
    /// A connection, or an attempt to make one, ended. The client retries by itself.
    Dropped {
        /// Why.
        cause: DropCause,
        /// The pause before the next attempt.
        retry_in: Duration,
    },
    /// The session was resumed on a new connection, with the same id.
    Resumed {
        /// The id.
        id: ClientId,
        /// The number of packets that come now because they were missed, as far as the version tells it.
        missed: u64,
        /// How long the session was away, as far as the version tells it.
        away: Duration,
    },
    /// All packets that were missed have come. (Version 3)
    CaughtUp,
    /// The session cannot be resumed. The client does not retry until [`start_over`](super::Client::start_over). (Version 2)
    Refused(Refusal),
    /// The session is over. Nothing follows, unless the application calls [`start_over`](super::Client::start_over).
    Ended(End),
}

/// Why a token is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// It is too long.
    #[error("token of {length} bytes, {max} allowed")]
    TooLong {
        /// Its length in bytes.
        length: usize,
        /// The maximum length in bytes.
        max: usize,
    },
    /// Whoever is in between could read it: the first edge that answers would be trusted. (SPEC 22(e))
    #[error("a token needs a pinned edge key, or a configuration that trusts the first edge")]
    NoPin,
}

/// Why a session cannot be resumed. Network errors are not among the reasons: they are retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The edge does not know the session, or no longer does: [`MAX_UNPROVABLE_CHALLENGES`](super::MAX_UNPROVABLE_CHALLENGES) challenges in
    /// a row were not sealed for this client. The client forgets the session, too.
    #[error(
        "the edge does not know the session: it has expired, the backend has kicked its client, or the edge was restarted"
    )]
    UnknownOrExpired,
    /// The edge's public key differs from that of the first connection. It is another edge, one that lost its key, or somebody in between.
    ///
    /// Nothing about the session was sent to it. The session is kept, and [`saved_session`](super::Client::saved_session) still returns it.
    #[error(
        "the edge's public key is not the one that the session began with: it was restarted without a key file, or \
         another program answers in its place"
    )]
    EdgeKeyChanged,
}

impl Refusal {
    /// Returns the code by which a session ends that is refused like this.
    #[must_use]
    pub const fn code(self) -> Code {
        match self {
            Refusal::UnknownOrExpired => Code::GONE,
            Refusal::EdgeKeyChanged => Code::OTHER_EDGE,
        }
    }
}

/// Why a connection ended or was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DropCause {
    /// The transport could not be opened.
    #[error("could not connect")]
    ConnectFailed,
    /// The transport was not open within [`connect_timeout`](super::ClientConfig::connect_timeout).
    #[error("connecting took too long")]
    ConnectTimeout,
    /// The handshake was not complete within [`handshake_timeout`](super::ClientConfig::handshake_timeout).
    #[error("the handshake took too long")]
    HandshakeTimeout,
    /// The edge closed the connection in order.
    #[error("the edge closed the connection")]
    ClosedByEdge,
    /// The transport failed.
    #[error("the connection broke")]
    Transport,
    /// The edge, or whatever answered, does not speak the protocol; or, with [`Violation::UnprovableChallenge`], it does not know the
    /// session.
    #[error("{}{_0}", if *_0 == Violation::UnprovableChallenge { "" } else { "protocol violation: " })]
    Violation(#[from] Violation),
    /// [`drop_connection`](super::Client::drop_connection) was called.
    #[error("dropped by this client")]
    Local,
    /// The edge said why, and that the session lives. (Version 3)
    #[error("the edge says: {_0}")]
    Told(Code),
    /// The edge asked this client to leave, and it comes back at once. (Version 3)
    #[error("left, as the edge asked: {_0}")]
    Moved(Code),
    /// Nothing came from the edge for two and a half keep-alive intervals. (Version 3)
    #[error("the edge is silent")]
    Silent,
}

/// Something that the peer sent and an edge may not send there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// A frame exceeded the limit: 128 bytes in the handshake, then [`max_receive_bytes`](super::ClientConfig::max_receive_bytes).
    #[error(transparent)]
    FrameTooLong(#[from] FrameTooLong),
    /// Something in version 3.
    #[error(transparent)]
    Breach(#[from] Breach),
    /// A handshake packet was malformed.
    #[error(transparent)]
    Malformed(#[from] HandshakeError),
    /// A handshake packet came out of turn.
    #[error("{packet} in state {state:?}")]
    Unexpected {
        /// The state of the handshake.
        state: State,
        /// The packet's name in SPEC.txt.
        packet: &'static str,
    },
    /// The edge's public key is invalid.
    #[error("edge key: {0}")]
    EdgeKey(#[from] KeyError),
    /// A challenge does not open under the session's key, does not hold 32 bytes, or was sealed by this client itself.
    ///
    /// An edge answers like this to a claim of a session that it does not know, for example one from before its restart.
    #[error("the edge gives no challenge for this session, which it may not know any more")]
    UnprovableChallenge,
}

/// Why a packet was not queued. The caller still has it.
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
    /// As much is unacknowledged as may be, or in version 2 unwritten. Try again once there is [room](super::Client::has_room).
    #[error("no room: too much is unacknowledged")]
    NoRoom,
    /// The session is over, or this client says goodbye.
    #[error("the session is over: {0}")]
    Ended(End),
}
