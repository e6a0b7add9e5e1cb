//! What an opening asks of the side that it belongs to, in words of every version.

use crate::keys::KeyError;
use crate::wire::varint::HandshakeError;

/// Why an opening goes no further, on either side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A packet that is none.
    Malformed(HandshakeError),
    /// A packet out of turn, by its name in SPEC.txt.
    Unexpected(&'static str),
    /// A public key that is none.
    Key(KeyError),
    /// The edge has another key than the one that the session began with.
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
    /// The word that its claim is accepted.
    Ping,
    /// Nothing more: the opening is over, and data follows.
    Data,
}
