//! The states of a client.

use crate::opening::Awaits;

use super::Refusal;

/// Where a [`Client`](super::Client) is. (SPEC 4.2, 4.3, 4.6)
///
/// ```text
///                     time            connected            PubKey (no session yet)
///      +--> Waiting --------> Connecting ------> AwaitKey -------------------------> AwaitId
///      |                                            |  \                                | ClientId
///      |                    PubKey (same as before) |   \ PubKey (another)              v  "Connected"
///      |                                            v    \                         Established
///      |                                  AwaitChallenge  \                             ^  "Resumed"
///      |                                            | \    \                            | Ping
///      |                     Challenge (it opens)   +--\-----\---------------------> AwaitPing
///      |                             Challenge (the     \     \
///      |  transport gone              third not to open) v     v  transport gone
///      +-- (any state) <-- Closing                       Closing ---------------> Refused --> start_over: Waiting
/// ```
///
/// In `AwaitKey`, `AwaitId`, `AwaitChallenge` and `AwaitPing` exactly one packet is right. Every other one is a
/// [`Violation`](super::Violation) that closes the connection. The transport may end in any state, in order or not; the client is then
/// `Waiting`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// There is no transport, and the backoff is running.
    Waiting,
    /// The adapter must open a transport.
    Connecting,
    /// The version was sent, and the edge's public key is expected.
    AwaitKey,
    /// New session: the client's public key was sent, and its id is expected.
    AwaitId,
    /// Resume: the id was sent, and the challenge is expected.
    AwaitChallenge,
    /// The response was sent, and the edge's Ping is expected.
    AwaitPing,
    /// Frames are application data in both directions.
    Established,
    /// The adapter must close the transport, or give up opening it.
    Closing,
    /// The session was refused.
    Refused(Refusal),
}

impl State {
    /// Returns the state of a client whose opening waits for `awaits`.
    pub(super) const fn of(awaits: Awaits) -> Self {
        match awaits {
            Awaits::Id => State::AwaitId,
            Awaits::Challenge => State::AwaitChallenge,
            Awaits::Ping => State::AwaitPing,
            Awaits::Data => State::Established,
        }
    }

    /// Returns whether frames are handshake packets.
    pub(super) const fn is_handshake(self) -> bool {
        matches!(
            self,
            State::AwaitKey | State::AwaitId | State::AwaitChallenge | State::AwaitPing
        )
    }

    /// Returns whether there is or may be a transport.
    pub(super) const fn has_transport(self) -> bool {
        !matches!(self, State::Waiting | State::Refused(_))
    }
}
