//! What an opening asks of its side, in terms that hold for every version.

use crate::keys::KeyError;
use crate::wire::varint::HandshakeError;

/// Why an opening failed, on either side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A malformed packet.
    Malformed(HandshakeError),
    /// A packet out of turn, by its name in SPEC.txt.
    Unexpected(&'static str),
    /// An invalid public key.
    Key(KeyError),
    /// The edge's key differs from that of the session's first connection.
    #[cfg(feature = "client")]
    OtherEdge,
    /// A challenge that was not made for this client.
    #[cfg(feature = "client")]
    Unprovable,
}

impl From<HandshakeError> for Fault {
    fn from(error: HandshakeError) -> Self {
        Fault::Malformed(error)
    }
}

impl From<KeyError> for Fault {
    fn from(error: KeyError) -> Self {
        Fault::Key(error)
    }
}

/// What a client waits for after a packet of its opening.
#[cfg(feature = "client")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Awaits {
    /// The id of a new session.
    Id,
    /// The challenge to its claim.
    Challenge,
    /// The confirmation of its claim.
    Ping,
    /// Nothing more: the opening is over, and data follows.
    Data,
}
