//! What an opening asks of its side, in terms that hold for every version.

#[cfg(feature = "edge")]
use crate::id::ClientId;
use crate::keys::KeyError;
#[cfg(feature = "edge")]
use crate::keys::PublicKey;
use crate::wire::varint::HandshakeError;

/// What a client's packet asks of the edge.
#[cfg(feature = "edge")]
#[derive(Debug)]
pub(crate) enum Request<'a> {
    /// Nothing yet.
    More,
    /// To join as a new client with this key.
    Join(PublicKey),
    /// To resume the session with this id.
    Claim(ClientId),
    /// To check this proof of its claim.
    Proof(&'a [u8]),
    /// To go on with data.
    Open,
    /// To join as a new client, whose Hello is kept.
    Hello,
    /// To begin the session with this record.
    Begin(&'a [u8]),
    /// To resume the session with this id, by a claim that only who was given the id can make.
    OpenedClaim(ClientId),
    /// To judge an attempt whose first early record is kept.
    Attempt,
    /// To end the connection once the answer is written.
    Over,
}

/// What the peer sent that has no place in an opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Violation {
    /// A malformed packet.
    Malformed(HandshakeError),
    /// A packet out of turn, by its name in SPEC.txt.
    Unexpected(&'static str),
    /// An invalid public key.
    Key(KeyError),
}

impl From<HandshakeError> for Violation {
    fn from(error: HandshakeError) -> Self {
        Violation::Malformed(error)
    }
}

impl From<KeyError> for Violation {
    fn from(error: KeyError) -> Self {
        Violation::Key(error)
    }
}

/// Why an opening failed at the edge.
#[cfg(feature = "edge")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EdgeFault {
    /// A version that this crate does not speak, or this edge does not offer.
    Version,
    /// A claim of an id that its sender was not given.
    Foreign,
    Violation(Violation),
}

/// Why an opening failed at the client.
#[cfg(feature = "client")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientFault {
    /// The edge's key differs from that of the session's first connection.
    OtherEdge,
    /// A challenge that was not made for this client.
    Unprovable {
        /// Whether there were so many in a row that the edge does not know the session.
        is_last: bool,
    },
    Violation(Violation),
}

#[cfg(feature = "edge")]
impl<E: Into<Violation>> From<E> for EdgeFault {
    fn from(error: E) -> Self {
        EdgeFault::Violation(error.into())
    }
}

#[cfg(feature = "client")]
impl<E: Into<Violation>> From<E> for ClientFault {
    fn from(error: E) -> Self {
        ClientFault::Violation(error.into())
    }
}

/// What a client waits for after a packet of its opening.
#[cfg(feature = "client")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Awaits {
    /// The edge's public key.
    Key,
    /// The id of a new session.
    Id,
    /// The challenge to its claim.
    Challenge,
    /// The confirmation of its claim.
    Ping,
    /// A new session, with the proof of the edge's key.
    Welcome,
    /// The answer to a claim.
    Answer,
    /// The first record after the answer.
    Resumed,
    /// Nothing more: the opening is over, and data follows.
    Data,
}
