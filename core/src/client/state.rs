//! The states of a client.

use crate::opening::Awaits;
/// Where a [`Client`](super::Client) is. (SPEC 4.2, 4.3, 4.6, 8.5, 26.3)
///
/// Version 2:
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
///      +-- (any state) <-- Closing                       Closing ---------------> Ended ----> start_over: Waiting
/// ```
///
/// In `AwaitKey`, `AwaitId`, `AwaitChallenge` and `AwaitPing` exactly one packet is right. Every other one is a
/// [`Violation`](super::Violation) that closes the connection. The transport may end in any state, in order or not; the client is then
/// `Waiting`.
///
/// Version 3:
/// ```text
///      Connecting --> AwaitWelcome ------------------ Welcome "Connected" --> Established
///            \                                                                  ^  |  ^
///             +-----> AwaitAnswer --> AwaitResumed -- RESUMED "Resumed" --------+  |  |
///                            \           \                                         v  |
///      Waiting <--------------+-----------+------------------------------------ Leaving, Closing
///         \                                                                        |
///          +-- window over -----------------------------------------------------> Ended --> start_over: Waiting
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// There is no transport, and the backoff is running.
    Waiting,
    /// The adapter must open a transport.
    Connecting,
    /// Version 2: the version was sent, and the edge's public key is expected.
    AwaitKey,
    /// New session of version 2: the client's public key was sent, and its id is expected.
    AwaitId,
    /// Resume in version 2: the id was sent, and the challenge is expected.
    AwaitChallenge,
    /// Version 2: the response was sent, and the edge's Ping is expected.
    AwaitPing,
    /// New session of version 3: Hello was sent, and Welcome is expected.
    AwaitWelcome,
    /// Resume in version 3: Claim and early packets were sent, and Answer is expected.
    AwaitAnswer,
    /// Version 3: the session was taken up, and RESUMED is expected.
    AwaitResumed,
    /// Frames are application data in both directions.
    Established,
    /// The client says why it closes. What comes is thrown away, and the edge ends the connection.
    Leaving,
    /// The adapter must close the transport, or give up opening it.
    Closing,
    /// The session is over: [`Client::end`](super::Client::end) says why.
    Ended,
}

impl State {
    /// Returns the state of a client whose opening waits for `awaits`.
    pub(super) const fn of(awaits: Awaits) -> Self {
        match awaits {
            Awaits::Key => State::AwaitKey,
            Awaits::Id => State::AwaitId,
            Awaits::Challenge => State::AwaitChallenge,
            Awaits::Ping => State::AwaitPing,
            Awaits::Welcome => State::AwaitWelcome,
            Awaits::Answer => State::AwaitAnswer,
            Awaits::Resumed => State::AwaitResumed,
            Awaits::Data => State::Established,
        }
    }

    /// Returns whether the opening is not over.
    pub(super) const fn is_handshake(self) -> bool {
        matches!(
            self,
            State::AwaitKey
                | State::AwaitId
                | State::AwaitChallenge
                | State::AwaitPing
                | State::AwaitWelcome
                | State::AwaitAnswer
                | State::AwaitResumed
        )
    }

    /// Returns whether there is or may be a transport.
    pub(super) const fn has_transport(self) -> bool {
        !matches!(self, State::Waiting) && !self.is_over()
    }

    /// Returns whether the client does nothing more by itself.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, State::Ended)
    }
}
