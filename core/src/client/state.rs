//! Where a client is.

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
/// In `AwaitKey`, `AwaitId`, `AwaitChallenge` and `AwaitPing` exactly one packet is right, and every other one is a
/// [`Violation`](super::Violation) that closes the connection. The transport may go in any state, orderly or not: the
/// client is then `Waiting`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// No transport; the backoff runs.
    Waiting,
    /// The adapter is to open a transport.
    Connecting,
    /// The version was sent; the edge's public key is next.
    AwaitKey,
    /// A new session: our public key was sent; our id is next.
    AwaitId,
    /// A session to resume: its id was sent; the challenge is next.
    AwaitChallenge,
    /// The proof was sent; the edge's Ping is next.
    AwaitPing,
    /// Frames are application data, both ways.
    Established,
    /// The adapter is to close the transport, or to give up opening it.
    Closing,
    /// The session does not go on.
    Refused(Refusal),
}

impl State {
    /// The state of a client whose opening waits for this.
    pub(super) const fn of(awaits: Awaits) -> Self {
        match awaits {
            Awaits::Id => State::AwaitId,
            Awaits::Challenge => State::AwaitChallenge,
            Awaits::Ping => State::AwaitPing,
            Awaits::Data => State::Established,
        }
    }

    /// Whether frames are handshake packets.
    pub(super) const fn is_handshake(self) -> bool {
        matches!(
            self,
            State::AwaitKey | State::AwaitId | State::AwaitChallenge | State::AwaitPing
        )
    }

    /// Whether there is a transport, or may be.
    pub(super) const fn has_transport(self) -> bool {
        !matches!(self, State::Waiting | State::Refused(_))
    }
}
